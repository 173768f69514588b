"""The routes that show tasks, and what comes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from kaiju_app._core.clock import END, utc
from kaiju_app.scheduler import Outcome, Scope, lint

from ._api import READING, Api
from ._coming import coming
from ._items import task_item, upcoming_items
from ._known import Slices
from ._listing import Query as Wanted
from ._listing import Sort, page_of
from ._models import Page, Remark, TaskDetail, TaskItem, TaskUpcoming, Upcoming
from ._problems import answers
from ._requests import MOST_ITEMS, Instant
from ._states import State
from ._text import harmless
from ._written import written

TaskId = Annotated[str, Path(max_length=100, description="The id of a task, from its item in a list.")]

HOUR = timedelta(hours=1)
LINTS = 2  # At a time, each in a thread: looking two years ahead takes some milliseconds.


class Parameters(BaseModel):
    """The parameters in the address of a request: others are refused."""

    model_config = ConfigDict(extra="forbid")


class TaskParameters(Parameters):
    """Which tasks."""

    q: str = Field("", max_length=200, description="Text that the name contains.")
    state: list[State] = Field([], max_length=20)
    outcome: list[Outcome] = Field([], max_length=20, description="Of the last run.")
    scope: list[Scope] = Field([], max_length=20)
    overdue: bool | None = Field(None, description="Whether they have not succeeded in time; null for all.")
    sort: Sort = Sort.NAME
    limit: int = Field(50, ge=1, le=MOST_ITEMS)
    cursor: str | None = Field(None, max_length=6_000, description="The field next of the page before.")


class UpcomingParameters(Parameters):
    """Which ticks."""

    to: Instant | None = Field(None, description="Until when; by default for an hour.")
    limit: int = Field(100, ge=1, le=MOST_ITEMS)


class NextParameters(Parameters):
    """How many ticks."""

    n: int = Field(10, ge=1, le=MOST_ITEMS)


def task_routes(api: Api) -> APIRouter:
    """Return the routes that show tasks."""
    router = APIRouter(responses=READING)
    linting = asyncio.Semaphore(LINTS)

    @router.get("/api/tasks", response_model=Page[TaskItem], responses=answers(404))
    async def tasks(asked: Annotated[TaskParameters, Query()]) -> Response:
        """List the tasks: those of this instance, and with a store those of all instances."""
        seen = await api.store.seen()
        wanted = Wanted(
            asked.q, asked.state, asked.outcome, asked.scope, asked.overdue, asked.sort, asked.limit, asked.cursor
        )
        found, after = await page_of(api.tasks, seen, wanted)
        histories = await api.tasks.histories(found)
        me, slices, items = api.me, Slices(step=2), list[str]()
        api.tasks.glances.begin()
        for each in found:
            is_ours = each.face is not None and each.face.scope is Scope.LOCAL
            glance = api.tasks.glance((each.name, ""), seen) if is_ours else None
            item = task_item(each, histories.get(each.id), seen, me.instance, me.process, glance)
            items.append(item.model_dump_json())
            await slices.breathe()
            api.tasks.glances.begin()
        return written(Page[TaskItem](items=[], next=after, partial=seen.partial), items=items)

    @router.get("/api/tasks/{id}", responses=answers(404))
    async def task(id: TaskId) -> TaskDetail:
        """Return everything that is known of a task."""
        return await api.detail_now(id)

    @router.get("/api/tasks/{id}/upcoming", responses=answers(404))
    async def upcoming_of_task(id: TaskId, asked: Annotated[NextParameters, Query()]) -> TaskUpcoming:
        """Return the next ticks of a task, and the remarks of the linter about its rule."""
        known, _ = await api.tasks.find(id)
        face = known.face
        if face is None:
            return TaskUpcoming(items=upcoming_items(known, known.upcoming(asked.n, utc(END))), remarks=[])
        async with linting:
            [report] = await asyncio.to_thread(lint, [face], api.now)
        remarks = [Remark(level=each.level.value, text=harmless(each.text)) for each in report.findings]
        return TaskUpcoming(items=upcoming_items(known, face.upcoming(asked.n)), remarks=remarks)

    @router.get("/api/upcoming")
    async def upcoming(asked: Annotated[UpcomingParameters, Query()]) -> Upcoming:
        """Return the ticks that come soonest, of all tasks."""
        until = asked.to or api.now + HOUR
        items, truncated = await coming(api.tasks, await api.store.seen(), until, asked.limit)
        return Upcoming(items=items, truncated=truncated)

    return router
