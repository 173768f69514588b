"""Ticks that wait: for the run in progress to end, or, if they were missed, for their turn to be caught up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from kaiju_app._core.model import ExecPolicy, Reason, Run

from . import policy
from .entry import DISABLED, EXTRA_FIRST_TICK, HELD, QUEUED, Hold, TaskEntry
from .recorder import Recorder
from .runner import Runner
from .spec import Kind
from .timer_queue import TimerQueue
from .watchdog import Watchdog


class Backlog:
    """The waiting ticks of one scheduler.

    Args:
        holds: The holds of all tasks.
        now: Reads the steady clock.
    """

    def __init__(
        self,
        holds: list[Hold],
        now: Callable[[], int],
        queue: TimerQueue,
        watchdog: Watchdog,
        recorder: Recorder,
        runner: Runner,
    ) -> None:
        self._holds = holds
        self._now = now
        self._queue = queue
        self._watchdog = watchdog
        self._recorder = recorder
        self._runner = runner

    # --- what comes in ---

    def wait(self, entry: TaskEntry, tick: int, now: int) -> None:
        """Let *tick* start when the task is idle, in place of the one that waits already."""
        if entry.waiting is not None:
            self._recorder.skip(entry, entry.waiting, entry.waiting, 1, Reason.OVERLAP, now)
        entry.waiting = tick
        self._enqueue(entry)

    def catch_up(self, entry: TaskEntry, ticks: Iterable[int], now: int) -> None:
        """Let missed *ticks* run one after another, behind those that do so already; skip the oldest of too many."""
        if entry.backlog is None:
            entry.backlog = deque()
        backlog = entry.backlog
        backlog.extend(ticks)
        too_many = len(backlog) - policy.MAX_BACKLOG
        if too_many > 0:
            dropped = [backlog.popleft() for _ in range(too_many)]
            self._recorder.skip(entry, dropped[0], dropped[-1], too_many, Reason.BACKLOG, now)
        self._enqueue(entry)

    def request_run(self, entry: TaskEntry, requested: asyncio.Future[Run]) -> int:
        """Run an extra tick, now or when the run in progress has ended; under CANCEL, cancel that run. Return the tick.

        Args:
            requested: Receives the Run.
        """
        now = self._now()
        self._recorder.check_audience()
        if self._watchdog.active_run(entry) is None and not entry.flags & QUEUED:
            self._runner.start(entry, now, now, Kind.MANUAL, entry.due, requested)
            return now
        self.wait(entry, now, now)
        entry.requested = requested
        if entry.run is not None and entry.spec.policy is ExecPolicy.CANCEL:
            self._watchdog.cancel(entry.run, Reason.REPLACED)
        return now

    # --- what starts ---

    def start_soon(self, entry: TaskEntry) -> None:
        """Start what waits in a later turn of the loop: never inside the run that ended, nor inside user code."""
        self._queue.call_soon(self._start_next, entry)

    def _start_next(self, entry: TaskEntry) -> None:
        """Start the tick that waits, or the next one to be caught up, if the task may run."""
        if not self._queue.started or entry.run is not None or entry.flags & HELD or self._holds:
            return
        now = self._now()
        if entry.waiting is not None:
            tick, entry.waiting = entry.waiting, None
            requested, entry.requested = entry.requested, None
            self.dequeue(entry)
            kind = Kind.LIVE if requested is None else Kind.MANUAL
            self._runner.start(entry, tick, now, kind, entry.due, requested)
        elif entry.backlog is not None:
            tick = entry.backlog.popleft()
            if not entry.backlog:
                entry.backlog = None
            self.dequeue(entry)
            self._runner.start(entry, tick, now, Kind.CAUGHT_UP, tick)

    # --- what is dropped ---

    def drop_missed(self, entry: TaskEntry, reason: Reason, now: int) -> None:
        """Skip the missed ticks that are still to be run."""
        backlog, entry.backlog = entry.backlog, None
        if backlog:
            self._recorder.skip(entry, backlog[0], backlog[-1], len(backlog), reason, now)

    def skip_due(self, entry: TaskEntry, reason: Reason, now: int) -> None:
        """Skip every tick that is due or waits, except a requested one; afterwards ``due`` is in the future.

        Ticks that a hold or ``disable()`` kept back get that as their reason, instead of *reason*.
        """
        if entry.requested is None and entry.waiting is not None:
            tick, entry.waiting = entry.waiting, None
            self._recorder.skip(entry, tick, tick, 1, reason, now)
        self.drop_missed(entry, reason, now)
        self.dequeue(entry)
        if entry.flags & DISABLED:
            reason = Reason.DISABLED
        elif entry.flags & HELD or self._holds:
            reason = Reason.SUSPENDED
        timeline = entry.host.timeline(entry, entry.spec)
        first = entry.due
        if timeline.due(first) <= now and entry.flags & EXTRA_FIRST_TICK:
            entry.flags &= ~EXTRA_FIRST_TICK
            entry.due = timeline.next_after(first).tick
            self._recorder.skip(entry, first, first, 1, reason, now)
            first = entry.due
        if timeline.due(first) <= now:
            due = timeline.due_ticks(first, now)
            entry.due = due.next.tick
            self._recorder.skip(entry, first, due.last, due.number, reason, now, more=due.more)

    def skip_requested(self, entry: TaskEntry, reason: Reason, now: int) -> None:
        """Skip the waiting tick of a ``run_now()``, and give the record to its caller."""
        requested, entry.requested = entry.requested, None
        if requested is None or entry.waiting is None:
            return
        tick, entry.waiting = entry.waiting, None
        self.dequeue(entry)
        record = self._recorder.skip(entry, tick, tick, 1, reason, now, manual=True)
        if record is not None and not requested.done():
            requested.set_result(self._recorder.run_of(entry, record))

    # --- the flag ---

    def _enqueue(self, entry: TaskEntry) -> None:
        entry.flags |= QUEUED
        if entry.run is None:
            self.start_soon(entry)

    def dequeue(self, entry: TaskEntry) -> None:
        """Clear QUEUED if nothing waits any more."""
        if entry.waiting is None and entry.backlog is None:
            entry.flags &= ~QUEUED
