"""Which tasks a list shows, in which order, and where its next page begins."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kaiju_app._core.clock import NEVER, epoch_us
from kaiju_app.scheduler import Outcome, Scope
from kaiju_app.scheduler._glance import Glance

from ._cursor import cursor_of, no_such_page, place_of
from ._known import Known, Slices, Tasks
from ._seen import Seen
from ._states import State
from ._text import name_of

CHUNK = 128  # Tasks that are looked at in one piece.
ROOM = 512  # Places that are kept before they are sorted.

Key = tuple[str, str]
"""The name of a task, and its home."""
Place = tuple[str | int, str, str]
"""What a task is ordered by, and its key."""


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

    def key(self, task: Glance) -> str | int:
        """Return what *task* is ordered by. What has no time comes last, in either direction."""
        what = self.removeprefix("-")
        if what == "name":
            return ""
        if what == "state":
            return task.state
        moment = task.next_at if what == "next_run_at" else task.ran_at
        return moment if moment is not None else -NEVER if self.down else NEVER

    def place_of(self, cursor: str) -> Place:
        """Return the place that *cursor* stands for, as places of this order are.

        Raises:
            Refused: It is none of a list in this order.
        """
        key, name, home = place_of(self, cursor)
        if self.removeprefix("-") in ("name", "state"):
            return key, name, home
        try:
            return int(key), name, home
        except ValueError:
            raise no_such_page() from None


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

    @property
    def needs_glance(self) -> bool:
        """Whether more than names tells which tasks are wanted."""
        return bool(self.scopes or self.states) or self.overdue is not None


async def page_of(tasks: Tasks, seen: Seen, query: Query) -> tuple[list[Known], str | None]:
    """Return the tasks of a page, and the cursor of the next one; None if this is the last.

    Raises:
        Refused: The cursor is none of this list.
    """
    after = None if query.cursor is None else query.sort.place_of(query.cursor)
    is_by_name = query.sort in (Sort.NAME, Sort.NAME_DOWN) and not query.outcomes
    found = await (_by_name if is_by_name else _by_key)(tasks, seen, query, after)
    shown = found[: query.limit]
    if len(found) <= query.limit:
        return [tasks.known(place[1:], seen) for place in shown], None
    key, name, home = shown[-1]
    return [tasks.known(place[1:], seen) for place in shown], cursor_of(query.sort, (str(key), name, home))


async def _by_name(tasks: Tasks, seen: Seen, query: Query, after: Place | None) -> list[Place]:
    """Return the places of the tasks of a page and of one more, looking at no more tasks than that needs."""
    slices, found, keys = Slices(step=1), list[Place](), tasks.keys(seen)
    down, wanted, filtered = query.sort.down, query.limit + 1, query.needs_glance
    tasks.glances.begin()
    start = None if after is None else (bisect_left if down else bisect_right)(keys, after[1:])
    chosen = range(len(keys) if start is None else start)[::-1] if down else range(start or 0, len(keys))
    for first in range(0, len(chosen), CHUNK):
        await slices.breathe()
        some = (keys[index] for index in chosen[first : first + CHUNK])
        found += (
            ("", *key)
            for key in some
            if _has_name(key[0], query) and (not filtered or _matches(tasks, key, tasks.glance(key, seen), query))
        )
        if len(found) >= wanted:
            break
    return found[:wanted]


async def _by_key(tasks: Tasks, seen: Seen, query: Query, after: Place | None) -> list[Place]:
    """Return the places of the tasks of a page and of one more, after a look at all of them."""
    slices, keys, found = Slices(step=1), tasks.keys(seen), (list[Key](), list[Glance]())
    tasks.glances.begin()
    is_filtered, has_names = query.needs_glance, bool(query.q) or query.name is not None
    for first in range(0, len(keys), CHUNK):
        await slices.breathe()
        for key in keys[first : first + CHUNK]:
            if has_names and not _has_name(key[0], query):
                continue
            glance = tasks.glance(key, seen)
            if not is_filtered or _matches(tasks, key, glance, query):
                found[0].append(key)
                found[1].append(glance)
    if query.outcomes or query.sort in (Sort.LAST, Sort.LAST_DOWN):
        await _add_runs(tasks, seen, *found)
    return await _first_places(query, after, *found)


async def _add_runs(tasks: Tasks, seen: Seen, keys: Sequence[Key], glances: list[Glance]) -> None:
    """Put into *glances* what the store knows of the last runs of cluster tasks, on any instance."""
    places = [place for place, glance in enumerate(glances) if glance.is_shared and not keys[place][1]]
    found, slices = await tasks.lasts((keys[place][0] for place in places), seen), Slices()
    for place in places:
        await slices.breathe()
        runs = found.get(keys[place][0])
        if runs:  # Otherwise this process may know of one.
            glances[place] = glances[place]._replace(outcome=runs[-1].outcome, ran_at=epoch_us(runs[-1].scheduled_at))


async def _first_places(
    query: Query, after: Place | None, keys: Sequence[Key], glances: Sequence[Glance]
) -> list[Place]:
    slices, firsts = Slices(step=1), Firsts(query.limit + 1, down=query.sort.down)
    for first in range(0, len(keys), CHUNK):
        await slices.breathe()
        some = slice(first, first + CHUNK)
        firsts.add(
            place
            for key, glance in zip(keys[some], glances[some], strict=True)
            if (not query.outcomes or glance.outcome in query.outcomes)
            and _is_after(place := (query.sort.key(glance), *key), after, query)
        )
    return firsts.found()


class Firsts:
    """Keeps the first of many places. Most that come are behind those that are kept: each costs one comparison.

    Args:
        number: How many are wanted.
        down: Whether the largest ones are the first.
    """

    def __init__(self, number: int, *, down: bool) -> None:
        self._number = number
        self._down = down
        self._room = max(ROOM, 3 * number)
        self._kept: list[Place] = []
        self._last: Place | None = None

    def add(self, places: Iterable[Place]) -> None:
        """Look at more places."""
        last = self._last
        if last is None:
            self._kept += places
        elif self._down:
            self._kept += (each for each in places if each > last)
        else:
            self._kept += (each for each in places if each < last)
        if len(self._kept) >= self._room:
            self._last = self.found()[-1]

    def found(self) -> list[Place]:
        """Return the first ones, in order."""
        self._kept.sort(reverse=self._down)
        del self._kept[self._number :]
        return self._kept


def _has_name(name: str, query: Query) -> bool:
    if query.name is not None and query.name != name:
        return False
    if not query.q:
        return True
    q = query.q.casefold()  # A person may have copied it from a list, where control characters are written out.
    return q in name.casefold() or ("\\" in q and q in name_of(name).casefold())


def _matches(tasks: Tasks, key: Key, task: Glance, query: Query) -> bool:
    name, home = key
    return (
        (not query.scopes or (Scope.CLUSTER if task.is_shared else Scope.LOCAL) in query.scopes)
        and (not query.states or task.state in query.states)
        and (query.overdue is None or (not home and tasks.glances.is_overdue(name)) == query.overdue)
    )


def _is_after(place: Place, after: Place | None, query: Query) -> bool:
    return after is None or (place < after if query.sort.down else place > after)
