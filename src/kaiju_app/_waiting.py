"""DO, what waits: ticks that start when the run in progress is over, ticks to be caught up, and what is dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

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

    def catch_up(self, entry: Entry, ticks: Iterable[int], now: int) -> None:
        """Let *ticks* run one after another, behind those that do so already; skip the oldest if they are too many."""
        if entry.backlog is None:
            entry.backlog = deque()
        backlog = entry.backlog
        backlog.extend(ticks)
        too_many = len(backlog) - _decide.BACKLOG
        if too_many > 0:
            dropped = [backlog.popleft() for _ in range(too_many)]
            self.skip(entry, dropped[0], dropped[-1], too_many, Reason.BACKLOG, now)
        self.queue(entry)

    def drop_backlog(self, entry: Entry, reason: Reason, now: int) -> None:
        """Skip the ticks that are to be caught up."""
        backlog, entry.backlog = entry.backlog, None
        if backlog:
            self.skip(entry, backlog[0], backlog[-1], len(backlog), reason, now)

    def ask(self, entry: Entry, asked: asyncio.Future[Run]) -> None:
        """Run one extra tick, now or when the run in progress is over; under CANCEL, cut that run."""
        now = self.now()
        self.listen()
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
            tick = entry.backlog.popleft()
            if not entry.backlog:
                entry.backlog = None
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
        self.drop_backlog(entry, reason, now)
        self.unqueue(entry)
        if entry.flags & DISABLED:
            reason = Reason.DISABLED
        elif entry.flags & HELD or self.holds:
            reason = Reason.SUSPENDED
        grid = self.grid(entry)
        first = entry.due
        if grid.due(first) <= now and entry.flags & OFF_GRID:
            entry.flags &= ~OFF_GRID
            entry.due = grid.after(first)
            self.skip(entry, first, first, 1, reason, now)
            first = entry.due
        if grid.due(first) <= now:
            passed = grid.passed(first, now)
            entry.due = passed.following
            self.skip(entry, first, passed.last, passed.number, reason, now, more=passed.more)

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
