"""The routes that show the ledger: what became of every tick."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Outcome, Reason

from ._api import READING, Api
from ._cursor import no_such_page
from ._items import run_item
from ._models import RunsPage
from ._problems import Refused, answers
from ._requests import MOST_ITEMS, Instant
from ._task_routes import Parameters, TaskId


class RunParameters(Parameters):
    """Which records of the ledger."""

    outcome: list[Outcome] = Field([], max_length=20)
    reason: list[Reason] = Field([], max_length=40)
    from_: Instant | None = Field(None, alias="from", description="The earliest tick.")
    to: Instant | None = Field(None, description="The latest tick.")
    limit: int = Field(50, ge=1, le=MOST_ITEMS)
    cursor: str | None = Field(
        None, max_length=6_000, description="The field next of the page before; with the same other parameters."
    )


def run_routes(api: Api) -> APIRouter:
    """Return the routes that show the ledger."""
    router = APIRouter(responses={**READING, **answers(404, 409, 503)})

    async def page(name: str | None, asked: RunParameters) -> RunsPage:
        since, until = asked.from_, asked.to
        if since is not None and until is not None and since > until:
            return RunsPage(items=[], next=None, partial=None, oldest=None, newest=None)
        try:
            found = await api.scheduler.runs(
                name,
                outcomes=asked.outcome or None,
                reasons=asked.reason or None,
                since=since,
                until=until,
                limit=asked.limit,
                cursor=asked.cursor,
            )
        except InvalidArgument as exc:
            if exc.argument == "cursor":
                raise no_such_page() from None
            raise
        items = [run_item(run, api.tasks.ids) for run in found.runs]
        return RunsPage(items=items, next=found.next, partial=None, oldest=found.oldest, newest=found.newest)

    @router.get("/api/runs")
    async def runs(asked: Annotated[RunParameters, Query()]) -> RunsPage:
        """List what became of the ticks of all tasks, the newest first: of local ones those of this instance."""
        return await page(None, asked)

    @router.get("/api/tasks/{id}/runs")
    async def runs_of_task(id: TaskId, asked: Annotated[RunParameters, Query()]) -> RunsPage:
        """List what became of the ticks of a task, the newest first."""
        task, _ = await api.tasks.find(id)
        if (where := task.home_name) is not None:
            raise Refused(409, "Not here", f"Only instance {where} has the history of this task: ask its endpoint")
        return await page(task.name, asked)

    return router
