"""Which tasks are overdue: they have not succeeded for longer than was expected of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from kaiju_app._core.clock import utc
from kaiju_app._core.logs import facts
from kaiju_app._core.model import Outcome, Overdue

from .entry import EXPECTED, REMOVED, TaskEntry
from .events import Notifier, log
from .ledger import RunRecord


class Expectation:
    """What is expected of one task. Times are steady-clock microseconds.

    Attributes:
        within: How long after a success the next one may be.
        since: The latest success; without one, when the scheduler started, or the task was added to it.
        succeeded: Whether ``since`` is a success.
        overdue: Whether it was said that the task is overdue.
        watched: Whether the queue of deadlines has it.
    """

    __slots__ = ("entry", "overdue", "since", "succeeded", "watched", "within")

    def __init__(self, entry: TaskEntry, within: int) -> None:
        self.entry = entry
        self.within = within
        self.since = 0
        self.succeeded = self.overdue = self.watched = False


class Expectations:
    """The expectations of one scheduler. A success only moves a number; the one timer is for the earliest deadline.

    Args:
        now: Reads the steady clock.
        offset: Returns the wall clock minus the steady clock.

    Attributes:
        by_entry: What is expected, by task.
        ask_others: Called with what seems to be overdue here and may not be elsewhere; returns whether that is asked.
            Assigned while several instances share tasks.
    """

    def __init__(self, now: Callable[[], int], offset: Callable[[], int], notifier: Notifier) -> None:
        self.by_entry: dict[TaskEntry, Expectation] = {}
        self.ask_others: Callable[[Expectation], bool] = _nobody_else
        self._now = now
        self._offset = offset
        self._notifier = notifier
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines: list[tuple[int, int, Expectation]] = []
        self._numbers = count()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Expect successes from now on: while the scheduler was not started, nobody could expect any."""
        self._loop = loop
        for each in self.by_entry.values():
            self._begin(each)

    def halt(self) -> None:
        """Expect nothing any more."""
        self._loop = None
        self.ask_others = _nobody_else
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for each in self.by_entry.values():
            each.watched = each.overdue = False

    def add(self, entry: TaskEntry, within: int) -> None:
        """Expect a success of *entry* within so many microseconds after each other one."""
        entry.flags |= EXPECTED
        self.by_entry[entry] = expectation = Expectation(entry, within)
        if self._loop is not None:
            self._begin(expectation)

    def forget(self, entry: TaskEntry) -> None:
        """Expect nothing of a removed task."""
        self.by_entry.pop(entry, None)

    def ended(self, entry: TaskEntry, record: RunRecord) -> None:
        """Take note of how a run ended."""
        expectation = self.by_entry.get(entry)
        if expectation is not None and record.outcome is Outcome.SUCCEEDED:
            self.succeeded(expectation, record.finished)

    def succeeded(self, expectation: Expectation, at: int) -> None:
        """Take note of a success, on whichever instance; say so if the task was overdue."""
        if expectation.succeeded and at <= expectation.since:
            return
        expectation.since, expectation.succeeded = at, True
        if expectation.overdue and not self._is_late(expectation):
            expectation.overdue = False
            self._watch(expectation)
            log.warning(
                "task %r: succeeded again; it is not overdue any more", expectation.entry.name,
                extra=facts(expectation.entry.name),
            )  # fmt: skip
            self._notifier.tell_overdue(self.event(expectation))

    def is_overdue(self, entry: TaskEntry) -> bool:
        """Return whether *entry* is overdue; safe in any thread."""
        expectation = self.by_entry.get(entry)
        return expectation is not None and expectation.overdue

    def overdue(self) -> list[Overdue]:
        """Return what is overdue; safe in any thread."""
        return [self.event(each) for each in list(self.by_entry.values()) if each.overdue]

    def event(self, expectation: Expectation) -> Overdue:
        """Return the state of a task as those see it who listen."""
        since = utc(expectation.since + self._offset())
        within_s = expectation.within / 1e6
        return Overdue(expectation.entry.name, expectation.overdue, since, expectation.succeeded, within_s)

    def declare(self, expectation: Expectation) -> None:
        """Say that a task is overdue, once, unless it has succeeded meanwhile."""
        if expectation.overdue or expectation.entry.flags & REMOVED or self._loop is None:
            return
        if not self._is_late(expectation):
            self._watch(expectation)
            return
        expectation.overdue = True
        event = self.event(expectation)
        log.error("%s. Its history says why: task.history()", event, extra=facts(expectation.entry.name))
        self._notifier.tell_overdue(event)

    # --- deadlines ---

    def _begin(self, expectation: Expectation) -> None:
        expectation.since, expectation.succeeded, expectation.overdue = self._now(), False, False
        if not self.ask_others(expectation):
            self._watch(expectation)

    def _is_late(self, expectation: Expectation) -> bool:
        return self._now() >= expectation.since + expectation.within

    def _watch(self, expectation: Expectation) -> None:
        """Look at *expectation* again when it may be overdue."""
        if expectation.watched:
            return
        expectation.watched = True
        heappush(self._deadlines, (expectation.since + expectation.within, next(self._numbers), expectation))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines and self._loop is not None:
            pause = max(0, self._deadlines[0][0] - self._now())
            self._timer = self._loop.call_later(pause / 1e6, self._look)

    def _look(self) -> None:
        """Look at those whose deadline has passed, by what was known when it was set."""
        self._timer = None
        now = self._now()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, expectation = heappop(self._deadlines)
            expectation.watched = False
            if self.by_entry.get(expectation.entry) is not expectation or expectation.entry.flags & REMOVED:
                continue
            if not self._is_late(expectation):
                self._watch(expectation)
            elif not self.ask_others(expectation):
                self.declare(expectation)
        self._arm()


def _nobody_else(expectation: Expectation) -> bool:
    return False
