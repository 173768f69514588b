"""Which tasks a list shows, in which order, and where its next page begins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kaiju_app.scheduler import Outcome, Scope

from ._cursor import Place, cursor_of, place_of
from ._known import Known, Slices, Tasks
from ._seen import Seen
from ._states import State


class Sort(StrEnum):
    """What a list of tasks is ordered by; with a dash, from the last to the first."""

    NAME = "name"
    NEXT = "next_run_at"
    LAST = "last_run_at"
    STATE = "state"
    NAME_DOWN = "-name"
    NEXT_DOWN = "-next_run_at"
    LAST_DOWN = "-last_run_at"
    STATE_DOWN = "-state"

    @property
    def down(self) -> bool:
        """Whether it is from the last to the first."""
        return self.startswith("-")

    def key(self, task: Known, ran_at: datetime | None) -> str:
        """Return what *task* is ordered by. What has no time comes last, in either direction."""
        what = self.removeprefix("-")
        if what == "name":
            return ""
        if what == "state":
            return task.state.value
        moment = task.next_run_at if what == "next_run_at" else ran_at
        return moment.isoformat(timespec="microseconds") if moment is not None else "" if self.down else "~"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for.

    Attributes:
        q: Text that names contain, in any case; empty for all.
        overdue: Whether only tasks are wanted that have not succeeded in time, or only others; None for both.
        name: The only name that is wanted; None for all.
        states: States of which one is wanted; empty for all. The same for outcomes, of the last run, and scopes.
        limit: Most tasks of a page.
    """

    q: str = ""
    states: Collection[State] = ()
    outcomes: Collection[Outcome] = ()
    scopes: Collection[Scope] = ()
    overdue: bool | None = None
    sort: Sort = Sort.NAME
    limit: int = 50
    cursor: str | None = None
    name: str | None = None


async def page_of(tasks: Tasks, seen: Seen, query: Query) -> tuple[list[Known], str | None]:
    """Return the tasks of a page, and the cursor of the next one; None if this is the last.

    Raises:
        Refused: The cursor is none of this list.
    """
    after = None if query.cursor is None else place_of(query.sort, query.cursor)
    is_by_name = query.sort in (Sort.NAME, Sort.NAME_DOWN) and not query.outcomes
    found = await (_by_name if is_by_name else _by_key)(tasks, seen, query, after)
    shown = found[: query.limit]
    is_last = len(found) <= query.limit
    return [task for _, task in shown], None if is_last else cursor_of(query.sort, shown[-1][0])


async def _by_name(tasks: Tasks, seen: Seen, query: Query, after: Place | None) -> list[tuple[Place, Known]]:
    """Return the tasks of a page and one more, looking at no more tasks than that needs."""
    slices, found = Slices(), []
    for name, home in sorted(tasks.keys(seen), reverse=query.sort.down):
        await slices.breathe()
        place = "", name, home
        if not _is_after(place, after, query) or not _has_name(name, query):
            continue
        task = tasks.known((name, home), seen)
        if _matches(task, query):
            found.append((place, task))
            if len(found) > query.limit:
                break
    return found


async def _by_key(tasks: Tasks, seen: Seen, query: Query, after: Place | None) -> list[tuple[Place, Known]]:
    """Return the tasks of a page and one more, after a look at all of them."""
    slices, matching = Slices(), []
    for name, home in tasks.keys(seen):
        await slices.breathe()
        if _has_name(name, query) and _matches(task := tasks.known((name, home), seen), query):
            matching.append((home, task))
    needs_runs = bool(query.outcomes) or query.sort in (Sort.LAST, Sort.LAST_DOWN)
    histories = await tasks.histories([task for _, task in matching]) if needs_runs else {}
    found = []
    for home, task in matching:
        await slices.breathe()
        outcome, ran_at = tasks.last_outcome(task, histories) if needs_runs else (None, None)
        place = query.sort.key(task, ran_at), task.name, home
        if _is_after(place, after, query) and (not query.outcomes or outcome in query.outcomes):
            found.append((place, task))
    found.sort(key=lambda each: each[0], reverse=query.sort.down)
    return found[: query.limit + 1]


def _has_name(name: str, query: Query) -> bool:
    return query.name in (None, name) and (not query.q or query.q.casefold() in name.casefold())


def _matches(task: Known, query: Query) -> bool:
    is_overdue = task.face is not None and task.face.overdue
    return (
        (not query.scopes or task.scope in query.scopes)
        and (not query.states or task.state in query.states)
        and query.overdue in (None, is_overdue)
    )


def _is_after(place: Place, after: Place | None, query: Query) -> bool:
    return after is None or (place < after if query.sort.down else place > after)
