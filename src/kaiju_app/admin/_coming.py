"""The ticks of all tasks that come soonest."""

from __future__ import annotations

from datetime import datetime
from heapq import heapify, heappop, heappush, nsmallest

from kaiju_app._core.clock import epoch_us, utc

from ._items import upcoming_items
from ._known import Known, Slices, Tasks
from ._models import UpcomingItem
from ._seen import Seen

FIRST = 4  # Ticks that are computed at once; twice as many each time that a task needs more.


class _Ticks:
    """The next ticks of one task, computed as they are needed."""

    def __init__(self, task: Known, first: datetime, until: datetime) -> None:
        self.task = task
        self._until = until
        self._ticks = [first]
        self._place = 0
        self._is_complete = False

    def __lt__(self, other: _Ticks) -> bool:
        return (self.tick, self.task.name) < (other.tick, other.task.name)

    @property
    def tick(self) -> datetime:
        return self._ticks[self._place]

    def advance(self) -> bool:
        """Go on to the next tick; return whether there is one."""
        self._place += 1
        if self._place >= len(self._ticks) and not self._is_complete:
            wanted = max(FIRST, 2 * len(self._ticks))
            later = [each for each in self.task.upcoming(wanted, self._until) if each > self._ticks[-1]]
            self._is_complete = not later
            self._ticks += later
        return self._place < len(self._ticks)


async def coming(tasks: Tasks, seen: Seen, until: datetime, limit: int) -> tuple[list[UpcomingItem], bool]:
    """Return the ticks up to *until* that come soonest, and whether there are more than *limit*."""
    slices, first, last = Slices(), list[tuple[int, tuple[str, str]]](), epoch_us(until)
    tasks.glances.begin()
    for key in tasks.keys(seen):
        await slices.breathe()
        moment = tasks.glance(key, seen).next_at
        if moment is not None and moment <= last:
            first.append((moment, key))
    # Later tasks have no part in the first ticks.
    heap = [_Ticks(tasks.known(key, seen), utc(moment), until) for moment, key in nsmallest(limit + 1, first)]
    heapify(heap)
    items: list[UpcomingItem] = []
    while heap:
        await slices.breathe()
        soonest = heappop(heap)
        if soonest.tick > until:
            continue
        if len(items) == limit:
            return items, True
        items += upcoming_items(soonest.task, [soonest.tick])
        if soonest.advance():
            heappush(heap, soonest)
    return items, False
