"""DO, what waits: ticks that start when the run in progress is over, ticks to be caught up, and what is dropped."""

from __future__ import annotations

import asyncio

from . import _decide
from ._clock import Clock
from ._entry import DISABLED, HELD, OFF_GRID, QUEUED, Entry, Hold
from ._model import ExecPolicy, Kind, Reason, Run, Settings
from ._runs import Runs


class Waiting(Runs):
    """The ticks that wait for their turn."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        super().__init__(clock, settings)
        self.holds: list[Hold] = []

    def limit_backlog(self, entry: Entry, now: int) -> None:
        """Skip the oldest of the ticks to be caught up if they are too many."""
        first, gap = entry.backlog, entry.spec.gap
        if first is None:
            return
        too_many = (entry.due - first) // gap - _decide.BACKLOG
        if too_many > 0:
            entry.backlog = first + too_many * gap
            self.skip(entry, first, entry.backlog - gap, too_many, Reason.BACKLOG, now)

    def ask(self, entry: Entry, asked: asyncio.Future[Run]) -> None:
        """Run one extra tick, now or when the run in progress is over; under CANCEL, cut that run."""
        now = self.now()
        self._loud = self.events.are_wanted()
        if self.alive(entry) is None and not entry.flags & QUEUED:
            self.start_run(entry, now, now, Kind.MANUAL, entry.due, asked)
            return
        if entry.waiting is not None:
            self.skip(entry, entry.waiting, entry.waiting, 1, Reason.OVERLAP, now)
        entry.waiting = now
        entry.asked = asked
        self.queue(entry)
        if entry.run is not None and entry.spec.policy is ExecPolicy.CANCEL:
            self.cut(entry.run, Reason.REPLACED)

    def queue(self, entry: Entry) -> None:
        entry.flags |= QUEUED
        if entry.run is None:
            self.pump_soon(entry)

    def pump_soon(self, entry: Entry) -> None:
        """Start what waits in a later turn of the loop: never inside the run that made way, or inside user code."""
        if self.loop is not None and self.planning:
            self.loop.call_soon(self._pump, entry, context=self._context)

    def _pump(self, entry: Entry) -> None:
        """Start the tick that waits, or the next one to be caught up, if the task may run."""
        if not self.planning or entry.run is not None or entry.flags & HELD or self.holds:
            return
        now = self.now()
        if entry.waiting is not None:
            tick, entry.waiting = entry.waiting, None
            asked, entry.asked = entry.asked, None
            self.unqueue(entry)
            kind = Kind.LIVE if asked is None else Kind.MANUAL
            self.start_run(entry, tick, now, kind, entry.due, asked)
        elif entry.backlog is not None:
            tick = entry.backlog
            following = tick + entry.spec.gap
            entry.backlog = following if following < entry.due else None
            self.unqueue(entry)
            self.start_run(entry, tick, now, Kind.CAUGHT_UP, tick)

    def unqueue(self, entry: Entry) -> None:
        if entry.waiting is None and entry.backlog is None:
            entry.flags &= ~QUEUED

    def settle(self, entry: Entry, reason: Reason, now: int) -> None:
        """Skip every tick that is due, or waits for its turn, but one that somebody asked for; ``due`` lies ahead then.

        What a hold or ``disable()`` kept back is told as such, whatever ends it.
        """
        if entry.asked is None and entry.waiting is not None:
            tick, entry.waiting = entry.waiting, None
            self.skip(entry, tick, tick, 1, reason, now)
        if entry.backlog is not None:
            self.skip_range(entry, entry.backlog, entry.due, reason, now)
            entry.backlog = None
        self.unqueue(entry)
        if entry.flags & DISABLED:
            reason = Reason.DISABLED
        elif entry.flags & HELD or self.holds:
            reason = Reason.SUSPENDED
        if entry.due <= now and entry.flags & OFF_GRID:
            tick = entry.due
            entry.flags &= ~OFF_GRID
            entry.due = _decide.tick_after(entry.spec, tick, self.offset)
            self.skip(entry, tick, tick, 1, reason, now)
        if entry.due <= now:
            first = entry.due
            entry.due = first + ((now - first) // entry.spec.gap + 1) * entry.spec.gap
            self.skip_range(entry, first, entry.due, reason, now)

    def skip_range(self, entry: Entry, first: int, end: int, reason: Reason, now: int) -> None:
        gap = entry.spec.gap
        self.skip(entry, first, end - gap, (end - first) // gap, reason, now)

    def skip_asked(self, entry: Entry, reason: Reason, now: int) -> None:
        """Skip the tick of a ``run_now()`` that still waits, and say so to whoever awaits it."""
        asked, entry.asked = entry.asked, None
        if asked is None or entry.waiting is None:
            return
        tick, entry.waiting = entry.waiting, None
        self.unqueue(entry)
        record = self.skip(entry, tick, tick, 1, reason, now, manual=True)
        if not asked.done():
            asked.set_result(record.run(entry.name, self.instance))
