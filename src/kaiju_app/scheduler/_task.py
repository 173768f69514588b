"""ScheduledTask: the public face of a task."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from kaiju_app._core.calls import explain_calls
from kaiju_app._core.clock import END
from kaiju_app._core.model import Outcome, Run
from kaiju_app._core.text import shortened
from kaiju_app._core.validate import integer
from kaiju_app._engine.entry import DISABLED
from kaiju_app._engine.ledger import counts
from kaiju_app.triggers._base import Trigger

from ._habits import TASK_CALLS, TASK_METHODS
from ._requested import RequestedRun
from ._shown import task_line
from ._suspension import LocalStay, Suspension
from ._task_parameters import TaskParameters
from ._task_runs import cancel_run, pause, request_run, reschedule, wait_for_run
from ._task_state import called_at, holds_json, iso, last_run_of, next_ticks, runs_of, seconds_json, state_of

T = TypeVar("T")


# Over 20 methods: the public face of a task has one property for each of its facts.
@explain_calls(TASK_CALLS, TASK_METHODS)
class ScheduledTask(TaskParameters, Generic[T]):
    """A function and when it runs; made by ``Scheduler.schedule_task()``, which keeps it: dropping it changes nothing.

    Four calls keep it from starting runs:

    * ``suspend()``, while a context is open; entering it waits for the run in progress.
    * ``pause()``, until ``resume()``.
    * ``disable()``, until ``enable()``; ticks in between never run, not even late.
    * ``remove()``, for good.

    Methods raise WrongThread outside the loop of the started scheduler; properties may be read anywhere.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduledTask) and other._entry is self._entry

    def __hash__(self) -> int:
        return hash(self._entry)

    def __repr__(self) -> str:
        return task_line(self._engine, self._entry, type(self).__name__, self.state, self.next_run_at)

    @property
    def enabled(self) -> bool:
        """False between ``disable()`` and ``enable()``."""
        return not self._entry.flags & DISABLED

    @property
    def running(self) -> bool:
        """Whether a run is in progress."""
        return self._engine.is_running(self._entry)

    @property
    def overdue(self) -> bool:
        """Whether it has not succeeded within ``expect_success_within_s``."""
        return self._engine.recorder.expectations.is_overdue(self._entry)

    @property
    def suspended(self) -> bool:
        """Whether a suspension of the task or of the scheduler, or a pause, holds it."""
        return self._engine.controls.is_held(self._entry)

    @property
    def state(self) -> str:
        """First that applies of: hung, running, disabled, paused, suspended, stopped, over (no more ticks), waiting."""
        entry, suspended = self._entry, self.suspended  # This ends a pause whose time is over.
        paused, over = self._is_paused, entry.is_over
        return state_of(self._engine, entry, running=self.running, paused=paused, suspended=suspended, over=over)

    @property
    def _is_paused(self) -> bool:
        return self._entry.pause is not None

    @property
    def next_run_at(self) -> datetime | None:
        """When the next tick is due, aware UTC; None if none is planned: disabled, held, stopped, removed, or over."""
        return next(iter(self._upcoming(1)), None)

    def upcoming(self, n: int) -> list[datetime]:
        """Return when the next *n* ticks are due, aware UTC; fewer if the rule has fewer, none if none is planned.

        Raises:
            InvalidArgument: *n* is negative or not an integer.
        """
        self._engine.check_loop("task.upcoming")
        return self._upcoming(integer("n", n, at_least=0))

    def _upcoming(self, n: int, until: int = END) -> list[datetime]:
        return next_ticks(self._engine, self._entry, n, until)

    @property
    def result(self) -> T | None:
        """What the function returned in its last successful run; None before the first."""
        result: T | None = self._entry.result
        return result

    @property
    def last_run(self) -> Run | None:
        """The latest record, of a run or of skips; None before the first."""
        return last_run_of(self._engine, self._entry)

    def history(self) -> list[Run]:
        """Return the kept records, oldest first: at most as many as the scheduler's ``history``."""
        self._engine.check_loop("task.history")
        return runs_of(self._engine, self._entry)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """Number of ticks for each outcome, since the task was registered."""
        return counts(self._entry)

    def enable(self) -> None:
        """End ``disable()``: ticks come as if it had never been called, and none is made up for."""
        self._engine.check_loop("task.enable")
        self._engine.controls.enable(self._entry)

    def disable(self) -> None:
        """Start no more runs in this process until ``enable()``.

        The run in progress continues, with its retries. Ticks in between never run; one that already waits is recorded
        as skipped. ``run_now()`` still works.
        """
        self._engine.check_loop("task.disable")
        self._engine.controls.disable(self._entry)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context manager inside which no run starts and none is in progress.

        Entering it starts no more runs from then on, and waits for the run in progress, unless it is entered inside
        that run. Ticks in between are missed: ``missed`` decides which of them run afterwards. ``run_now()`` raises
        TaskSuspended. Suspensions may nest and overlap, and a task that is disabled or paused remains so.

        Args:
            reason: Shown to people who ask why the task does not run.
        """
        return Suspension(self._engine, "task.suspend", [partial(LocalStay, self._engine, self._entry)], reason)

    async def pause(
        self, reason: str | None = None, for_s: float | timedelta | None = None, *, holder: str | None = None
    ) -> None:
        """Start no more runs until ``resume()``, or for *for_s* seconds.

        The run in progress continues, with its retries. Ticks in between are missed: ``missed`` decides which of them
        run afterwards. ``run_now()`` raises TaskSuspended. A second call replaces *reason* and *for_s*. The pause
        survives ``stop()`` and ``start()`` of the scheduler, but not the process.

        Args:
            reason: Shown to people who ask why the task does not run.
            for_s: Seconds until the pause ends by itself; None if only ``resume()`` ends it.
            holder: Who pauses it, shown beside the reason; by default this call.

        Raises:
            InvalidArgument: *reason* or *holder* is not text, or *for_s* is not a positive number of seconds.
        """
        pause(self._engine, self._entry, reason, for_s, holder)

    async def resume(self) -> None:
        """End the pause, if there is one; suspensions remain."""
        self._engine.check_loop("task.resume", "task.resume()")
        self._engine.controls.pause(self._entry, None)

    def cancel(self, reason: str) -> bool:
        """Cancel the run in progress; return whether there was one that had not been cancelled before.

        Args:
            reason: Kept as the error text of the run.

        Raises:
            WrongState: The policy is SHIELD: the scheduler never cancels such a run.
        """
        return cancel_run(self._engine, self._entry, reason)

    def reschedule(self, interval_s: float | timedelta | None = None, *, trigger: Trigger | str | None = None) -> None:
        """Replace the rule; the first tick is one new gap from now. Jitter and end remain.

        The run in progress keeps its old deadline; a tick that waits is recorded as skipped.

        Raises:
            InvalidArgument: Not exactly one of the two is given, it is wrong, or its gap is too short for the jitter.
            WrongState: The task was removed.
        """
        reschedule(self._engine, self._entry, interval_s, trigger)

    def remove(self) -> None:
        """Start no more runs, for good, and free the name once no run is in progress.

        The run in progress continues, with its retries, and ``stop()`` awaits it. There are no more ticks; one that
        already waits is recorded as skipped. ``run_now()`` raises WrongState.
        """
        self._engine.check_loop("task.remove")
        self._engine.controls.remove(self._entry)

    async def wait(self) -> Run | None:
        """Wait for the end of the run in progress; return its Run, or None at once if there is none.

        Raises:
            SelfWait: Called inside that run.
        """
        return await wait_for_run(self._engine, self._entry)

    async def run_now(self) -> Run:
        """Run one extra tick now, and return its Run when it ends; the ticks of the rule stay where they are.

        The policy applies: under WAIT and SHIELD it starts after the run in progress, under CANCEL it replaces it.
        A disabled task runs too. The Run is a skip if the scheduler is stopped before the tick could start.

        Raises:
            TaskSuspended: The task is suspended or paused.
            TaskBusy: A run is in progress and the policy is SKIP, or another extra tick waits already.
            SelfWait: Called inside a run of the task.
            WrongState: The scheduler is not started, or the task was removed.
        """
        return await request_run(self._engine, self._entry, "run_now").wait()

    async def request_run(self) -> RequestedRun:
        """Request one extra tick now, and do not wait for its end; otherwise like ``run_now()``."""
        return request_run(self._engine, self._entry, "request_run")

    def json_repr(self) -> dict[str, object]:
        """Return what is known of the task, as JSON values.

        ``called_at`` is in seconds of the loop's clock, null before the first run; instants are UTC ISO text.
        """
        self._engine.check_loop("task.json_repr")
        return {
            "name": self.name,
            "policy": self.policy.value,
            "enabled": self.enabled,
            "started": self.running,
            "interval_s": self.interval_s,
            "max_timeout_s": self.max_timeout_s,
            "retries": self.retries,
            "retry_interval_s": seconds_json(self.retry_interval_s),
            **called_at(self._engine, self._entry),
            "state": self.state,
            "trigger": None if self.trigger is None else shortened(str(self.trigger)),
            "jitter_s": self.jitter_s,
            "until": iso(self.until),
            "expect_success_within_s": self.expect_success_within_s,
            "overdue": self.overdue,
            "missed": self._entry.spec.missed.value,
            "next_run_at": iso(self.next_run_at),
            "holds": holds_json(self._engine, self._entry),
            "counts": {outcome.value: number for outcome, number in self.counts.items()},
            "runs": [run.json_repr() for run in self.history()],
        }
