"""The route that shows what happened to tasks in a window of time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from ._api import READING, Api
from ._endings import Endings
from ._listing import Query as Wanted
from ._problems import answers
from ._requests import MOST_ITEMS, Instant
from ._task_routes import Parameters
from ._timeline import timeline
from ._timeline_models import Timeline

BEFORE, AHEAD = timedelta(hours=1), timedelta(minutes=15)


class TimelineParameters(Parameters):
    """Which window, and which tasks."""

    from_: Instant | None = Field(None, alias="from", description="By default an hour before now, or before `to`.")
    to: Instant | None = Field(None, description="By default 15 minutes after now, or 75 after `from`.")
    q: str = Field("", max_length=200, description="Text that the name contains.")
    task: str | None = Field(None, max_length=100, description="The id of the only task that is wanted.")
    limit: int = Field(50, ge=1, le=MOST_ITEMS, description="Tasks; there may be fewer, so that the answer is small.")
    cursor: str | None = Field(None, max_length=6_000, description="The field next of the page before.")


def timeline_routes(api: Api) -> APIRouter:
    """Return the route that shows a window of time."""
    router, endings = APIRouter(responses=READING), Endings(api.scheduler)

    @router.get("/api/timeline", response_model=Timeline, responses=answers(404))
    async def timeline_of_tasks(asked: Annotated[TimelineParameters, Query()]) -> Response:
        """Return what happened to each task in a window: runs, ticks that did not run, holds, and what is to come.

        An answer has at most 300 KB. What is near in time is united for that, and nothing is left out.
        """
        since, until = window_of(asked.from_, asked.to, api.now)
        name = None if asked.task is None else (await api.tasks.find(asked.task))[0].name
        wanted = Wanted(q=asked.q, name=name, limit=asked.limit, cursor=asked.cursor)
        return await timeline(api, endings, since, until, wanted)

    return router


def window_of(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the window that is asked for; what is not given has a default."""
    try:
        if since is None:
            since = (now if until is None or until > now else until) - BEFORE
        if until is None:
            until = max(now + AHEAD, since + BEFORE + AHEAD)
    except OverflowError:  # An end of the calendar.
        return since or now, until or since or now
    return since, until
