"""Cancels runs: on request, and at their deadline. Reports those that do not end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kaiju_app._core.clock import utc
from kaiju_app._core.model import Outcome, Reason
from kaiju_app._core.text import stack_of

from . import policy
from .entry import HUNG, ActiveRun, TaskEntry, outcome_of
from .events import facts_of_run, log
from .policy import EARLY
from .spec import Kind
from .timer_queue import TimerQueue

NEVER_BEGUN = Outcome.CANCELLED, Reason.WITHIN


class Watchdog:
    """Watches the runs of one scheduler.

    Args:
        now: Reads the steady clock.
        cancel_grace: Microseconds after which a cancelled run that has not ended counts as hung.
    """

    def __init__(self, queue: TimerQueue, now: Callable[[], int], cancel_grace: int) -> None:
        self._queue = queue
        self._now = now
        self._cancel_grace = cancel_grace

    def active_run(self, entry: TaskEntry) -> ActiveRun | None:
        """Return the run in progress of *entry*; None if it is idle.

        A run whose asyncio task was cancelled before its first step could not report its end. It is noticed here.
        """
        run = entry.run
        if run is not None and run.task is not None and _has_ended(run, run.task):
            exc = None if not run.task.done() or run.task.cancelled() else run.task.exception()
            if exc is None:
                entry.host.ended(run, *(outcome_of(run.cause, None) if run.cause else NEVER_BEGUN), None)
            else:
                entry.host.ended(run, Outcome.FAILED, run.cause, exc)
        return entry.run

    def is_active(self, entry: TaskEntry) -> bool:
        """Return whether *entry* has a run in progress. Unlike ``active_run()``, it changes nothing."""
        run = entry.run
        return run is not None and not (run.task is not None and _has_ended(run, run.task))

    def cancel(self, run: ActiveRun, cause: Reason, cancel_reason: str | None = None) -> None:
        """Ask *run* to end, and look after ``cancel_grace`` whether it has. Only the first cause counts."""
        if run.cause is not None:
            return
        run.cancel(cause, cancel_reason)
        entry = run.entry
        if entry.run is run and self._queue.started:
            if entry.alarm:
                self.drop_alarm(entry)
            entry.alarm = self._queue.push(self._now() + self._cancel_grace, entry)
            self._queue.arm()

    def watch_deadline(self, entry: TaskEntry) -> None:
        """Have the run in progress looked at when its deadline passes.

        Usually its next tick does that. An alarm is set only if the deadline comes first, or no tick is planned.
        """
        run = entry.run
        if run is None or run.cause is not None or entry.alarm or not self._queue.started:
            return
        limit = run.spec.limit
        if (
            entry.seq
            and policy.same_rule(run.spec, entry.spec)
            and run.kind is Kind.LIVE
            and (limit == 0 or max(run.started, run.due) + limit >= entry.due)  # It may have begun a bit early.
        ):
            return  # The next tick looks at it.
        end = run.deadline()
        if end is not None and (not entry.seq or end[0] < entry.due):
            entry.alarm = self._queue.push(end[0], entry)
            self._queue.arm()

    def resume(self, entry: TaskEntry, now: int) -> None:
        """Watch a run that has outlived the last ``stop()``."""
        run = self.active_run(entry)
        if run is not None and run.cause is not None:
            entry.alarm = self._queue.push(now + self._cancel_grace, entry)
        self.watch_deadline(entry)

    def drop_alarm(self, entry: TaskEntry) -> None:
        """Do not look at the run in progress any more."""
        if entry.alarm:
            entry.alarm = 0
            self._queue.mark_dead()

    def on_alarm(self, entry: TaskEntry, now: int) -> None:
        """Look at a run whose deadline has passed, or that was cancelled a while ago."""
        entry.alarm = 0
        run = self.active_run(entry)
        if run is None:
            return
        if run.cause is not None:
            self._on_hung(entry, run, now)
            return
        end = run.deadline()
        if end is not None and end[0] <= now + EARLY:
            self.cancel(run, end[1])
        else:
            self.watch_deadline(entry)  # It began later than it was meant to.

    def cancel_overdue(self, entry: TaskEntry, now: int) -> None:
        """Cancel the run in progress if its deadline has passed: the tick that would have done so was skipped."""
        end = None if entry.run is None else entry.run.deadline()
        if entry.run is not None and end is not None and end[0] <= now:
            self.cancel(entry.run, end[1])

    def _on_hung(self, entry: TaskEntry, run: ActiveRun, now: int) -> None:
        entry.flags |= HUNG
        log.warning(
            "task %r, tick %s: hung: cancelled (%s) %.3g s ago and still running, %.3g s after its start. Later ticks "
            "are skipped until it ends; no second copy is started. It is at:%s",
            entry.name, utc(run.tick + entry.host.offset).isoformat(), run.cause and run.cause.value,
            self._cancel_grace / 1e6, (now - run.started) / 1e6, where(run), extra=facts_of_run(run),
        )  # fmt: skip


def where(run: ActiveRun) -> str:
    """Return where the code of *run* is, for the person who has to find out why it does not end."""
    return " a thread, which cannot be stopped" if run.job is not None else stack_of(run.task)


def _has_ended(run: ActiveRun, task: asyncio.Task[None]) -> bool:
    """Return whether nothing of *run* is executing, even if it could not report its end."""
    # If its loop was closed, the asyncio task will never continue; a thread of it may still be running.
    return task.done() or (task.get_loop().is_closed() and (run.job is None or run.job.done()))
