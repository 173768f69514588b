"""Public values: the options of a task, and what happened to its ticks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from .text import clock_time, headline


class ExecPolicy(StrEnum):
    """What happens when a tick comes while a run of the same task is still in progress.

    Attributes:
        CANCEL: Cancel the run, and start the new one when the old one has really ended. Default of an ``async def``.
        WAIT: The tick waits until the run ends; a later tick replaces the one that waits.
        SKIP: The tick is skipped. Default of a plain function, whose thread cannot be cancelled.
        SHIELD: Like WAIT, but the scheduler never cancels the run, and ``stop()`` waits for it.
    """

    CANCEL = "CANCEL"
    WAIT = "WAIT"
    SKIP = "SKIP"
    SHIELD = "SHIELD"


class FirstRun(StrEnum):
    """When a task runs for the first time.

    Attributes:
        NOW: When the scheduler starts, or at registration if it has already started.
        NEXT: At the next tick of the rule; of an interval, one interval from now.
    """

    NOW = "NOW"
    NEXT = "NEXT"


class Missed(StrEnum):
    """What happens to ticks that were missed: the loop was blocked, the machine slept or the task was suspended.

    Attributes:
        ONCE: The latest one runs, unless the next tick is less than half a gap away.
        SKIP: None of them runs.
        ALL: All of them run, oldest first, one after another.
    """

    ONCE = "ONCE"
    SKIP = "SKIP"
    ALL = "ALL"


class Scope(StrEnum):
    """Which instances of the application run a task.

    Attributes:
        LOCAL: Each instance runs it by itself.
        CLUSTER: One instance runs each tick; the instances that share the scheduler's store agree on which one. A
            process that was frozen for longer than its lease and the grace period may still act once more. Use
            ``current_run().fence`` to refuse what it writes.
    """

    LOCAL = "LOCAL"
    CLUSTER = "CLUSTER"


class OnLost(StrEnum):
    """What happens to a tick whose run was lost: its process died or was stopped, or its lease expired.

    Attributes:
        RETRY: It runs again, with the next ``delivery`` and a higher fencing token.
        SKIP: It does not run again: at most once. Such a tick is claimed when it is due and not before, so it can be
            skipped without having started only if its process dies between the claim and the start.
    """

    RETRY = "RETRY"
    SKIP = "SKIP"


class Outcome(StrEnum):
    """How a tick ended.

    Attributes:
        SUCCEEDED: The function returned.
        FAILED: The function raised an exception, in its last attempt if it has several.
        TIMED_OUT: The run was cancelled at its deadline.
        CANCELLED: The run was cancelled, or the function raised CancelledError.
        SKIPPED: The tick did not run.
        LOST: The run ended with its process or its lease; ``on_lost`` says whether the tick runs again.
    """

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    LOST = "LOST"


class Reason(StrEnum):
    """Why a run was cut, or why a tick was skipped.

    A run that was asked to end, and returned or failed all the same, has SUCCEEDED or FAILED; its reason then tells why
    it was asked.

    Attributes:
        REPLACED: The next tick came, and the policy is CANCEL.
        DEADLINE: ``max_timeout_s``, or the default deadline of WAIT and SKIP, had passed.
        SHUTDOWN: The scheduler was stopped.
        REQUESTED: ``task.cancel()`` was called.
        WITHIN: The function raised CancelledError itself, or somebody cancelled the run's asyncio task.
        OVERLAP: The previous run was still in progress.
        HUNG: The previous run was cancelled and has not ended.
        MISSED: A later tick was due as well, the next one was too near, or the tick was older than its grace period.
        BACKLOG: Missed.ALL: there were more ticks than can be caught up, or they were older than ``catchup_s``.
        CLOCK: The wall clock was set back so far that the task was scheduled anew.
        SUSPENDED: The task was still suspended when the scheduler stopped or the task changed.
        LEASE: This instance could not renew its lease in time, so another instance may run the tick.
        DISABLED: The task was disabled.
        RESCHEDULED: The task got another rule.
        REMOVED: The task was removed.
    """

    REPLACED = "replaced"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    REQUESTED = "requested"
    WITHIN = "from within"
    OVERLAP = "overlap"
    HUNG = "hung"
    MISSED = "missed"
    BACKLOG = "backlog full"
    CLOCK = "clock set back"
    SUSPENDED = "suspended"
    LEASE = "lease lost"
    DISABLED = "disabled"
    RESCHEDULED = "rescheduled"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run:
    """What happened to a tick: a run with its outcome, or a skip with its reason.

    Consecutive skips for one reason share a record: it has the first and the last tick and their number. It stays open,
    with ``finished_at`` None, until something else happens to the task. Ticks of a calendar rule are counted up to
    10,000 at a time; beyond that, ``more`` says that there were more.
    """

    task: str
    scheduled_at: datetime
    """Nominal time of the tick; in a record of several skips, of the first one."""
    last_scheduled_at: datetime
    """Nominal time of the last tick that this record covers."""
    count: int
    """Number of ticks that this record covers; 1 except for skips."""
    more: bool
    """Whether it covers more ticks than ``count``."""
    due: datetime
    """``scheduled_at`` plus the jitter."""
    started_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome
    reason: Reason | None
    error: str | None
    """Type and message of the last exception, or the reason that was passed to ``cancel()``. If the task has retries,
    a failure says here why no other attempt was made. Of a long text its head and tail are kept: 2,000
    characters in all."""
    attempts: int
    delivery: int
    instance: str
    fence: int | None
    manual: bool
    run_id: str | None = field(default=None, compare=False)
    """Identity of the run, as in the log records about it; None for a skip."""
    result: Any = field(default=None, compare=False, repr=False)
    """What the function returned. Only the Runs that ``run_now()``, ``wait()`` and listeners get have it: no history
    keeps it. Of a shared task, those of ``run_now()``, ``wait()`` and the store's history have it with ``keep_result``
    only, as JSON values; ``error`` says why if it could not be kept."""
    exception: BaseException | None = field(default=None, compare=False, repr=False)
    """What the function raised in its last attempt, with its traceback, which keeps its variables alive. Only
    the Runs that listeners get, and ``run_now()`` and ``wait()`` of a local task, have it: no history keeps it."""

    @property
    def lateness_s(self) -> float | None:
        """Seconds from ``due`` to the start, never below 0; None for a skip."""
        return None if self.started_at is None else max(0.0, (self.started_at - self.due).total_seconds())

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to finish; None for a skip."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    def __repr__(self) -> str:
        parts = [f"<Run {self.task!r} {clock_time(self.scheduled_at)} {self.outcome}"]
        if self.reason is not None:
            parts.append(f" ({self.reason})")
        if self.duration_s is not None:
            parts.append(f" in {self.duration_s:.3g} s")
        if self.attempts > 1:
            parts.append(f", {self.attempts} attempts")
        if self.count > 1:
            parts.append(f", {self.count} ticks{' or more' * self.more}")
        if self.error:
            parts.append(f": {headline(self.error)}")
        return "".join(parts) + ">"

    def json_repr(self) -> dict[str, object]:
        """Return the record as JSON values; instants as UTC ISO text."""
        return {
            "task": self.task,
            "scheduled_at": self.scheduled_at.isoformat(),
            "last_scheduled_at": self.last_scheduled_at.isoformat(),
            "count": self.count,
            "more": self.more,
            "due": self.due.isoformat(),
            "started_at": self.started_at and self.started_at.isoformat(),
            "finished_at": self.finished_at and self.finished_at.isoformat(),
            "outcome": self.outcome.value,
            "reason": self.reason and self.reason.value,
            "error": self.error,
            "attempts": self.attempts,
            "delivery": self.delivery,
            "instance": self.instance,
            "fence": self.fence,
            "manual": self.manual,
            "run_id": self.run_id,
            "lateness_s": self.lateness_s,
            "duration_s": self.duration_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A page of the ledger: Runs and skips, the newest first."""

    runs: tuple[Run, ...]
    next: str | None
    """What to pass as ``cursor`` for the page after this one; None if this is the last."""
    oldest: datetime | None
    """Nominal time of the oldest record that is kept of the task, or of all tasks, whatever else was asked for; None if
    there is none. What was before is not known any more."""
    newest: datetime | None
    """Nominal time of the newest one."""

    def json_repr(self) -> dict[str, object]:
        """Return the page as JSON values; instants as UTC ISO text."""
        return {
            "runs": [run.json_repr() for run in self.runs],
            "next": self.next,
            "oldest": self.oldest and self.oldest.isoformat(),
            "newest": self.newest and self.newest.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Overdue:
    """A task has not succeeded within ``expect_success_within_s``, or has succeeded again after that.

    Attributes:
        task: Name of the task.
        overdue: True: it is overdue. False: it was, and has succeeded.
        since: The latest success, aware UTC; if there was none, when the scheduler started or got the task.
        succeeded: Whether ``since`` is a success.
        within_s: Within how many seconds after that a success was expected.
    """

    task: str
    overdue: bool
    since: datetime
    succeeded: bool
    within_s: float

    def __str__(self) -> str:
        if not self.overdue:
            return f"task {self.task!r} is not overdue any more: it succeeded at {clock_time(self.since)}"
        start = "its last success" if self.succeeded else "the start, without any success"
        return (
            f"task {self.task!r} is overdue: a success was expected within {self.within_s:g} s after {start}, at "
            f"{clock_time(self.since)}"
        )

    def json_repr(self) -> dict[str, object]:
        """Return it as JSON values; the instant as UTC ISO text."""
        return {
            "task": self.task,
            "overdue": self.overdue,
            "since": self.since.isoformat(),
            "succeeded": self.succeeded,
            "within_s": self.within_s,
        }
