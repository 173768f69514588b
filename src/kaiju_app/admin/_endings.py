"""What the store keeps of the runs of cluster tasks in a window of time, read again only if a task has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._window import Ended, stored_endings

from ._seen import AT_ONCE, Record

MOST_ROWS = 2_000  # That are read of a task.
MOST_KEPT = 500  # Tasks of which what was read is kept, and ...
MOST_KEPT_ROWS = 200  # ... so many rows of each.


class _Read(NamedTuple):
    """What was read of a task at its revision *rev*; *until* is None if there was nothing later."""

    rev: int
    since: int
    until: int | None
    found: list[Ended]

    def answers(self, rev: int, since: int, until: int) -> bool:
        return self.rev == rev and self.since <= since and (self.until is None or until <= self.until)


class Endings:
    """Reads the ledger in the store."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._kept: dict[str, _Read] = {}

    async def of(self, records: Sequence[Record], since: int, until: int, now: int) -> list[tuple[list[Ended], bool]]:
        """Return what became of the ticks of some tasks in the window, each with whether that is all.

        Raises:
            StoreUnavailable: The store did not answer.
            WrongState: The scheduler is not started.
        """
        found: list[tuple[list[Ended], bool]] = []
        for start in range(0, len(records), AT_ONCE):
            found += await asyncio.gather(
                *(self._of(each, since, until, now) for each in records[start : start + AT_ONCE])
            )
        return found

    async def _of(self, record: Record, since: int, until: int, now: int) -> tuple[list[Ended], bool]:
        name, rev = str(record["name"]), int(record["rev"])
        kept = self._kept.get(name)
        if kept is not None and kept.answers(rev, since, until):
            return [each for each in kept.found if each.meets(since, until)], True
        found, is_all = await stored_endings(self._scheduler, name, since, until, MOST_ROWS)
        self._kept.pop(name, None)
        if is_all and len(found) <= MOST_KEPT_ROWS:
            self._kept[name] = _Read(rev, since, None if until >= now else until, found)
            if len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return found, is_all
