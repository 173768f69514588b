"""The values that every layer shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._grid import Rule
    from ._triggers import Trigger


class ExecPolicy(StrEnum):
    """What a tick does to a run of the same task that is still going on."""

    CANCEL = "CANCEL"
    """Cancel the run; start the new one when the old one is really over."""
    WAIT = "WAIT"
    """One tick waits for the end of the run; a later one replaces it."""
    SKIP = "SKIP"
    """The tick is skipped."""
    SHIELD = "SHIELD"
    """As WAIT, but the scheduler never cancels the run, and ``stop()`` awaits it."""


class FirstRun(StrEnum):
    """When a task runs first."""

    NOW = "NOW"
    """At the start of the scheduler, or at registration if it is started already."""
    NEXT = "NEXT"
    """At the next tick of the rule: for an interval, one interval from now."""


class Missed(StrEnum):
    """What becomes of ticks that could not run in time: the loop was blocked, the machine slept, a suspension held."""

    ONCE = "ONCE"
    """The latest of them runs, unless the next tick is less than half a gap away."""
    SKIP = "SKIP"
    """None of them runs."""
    ALL = "ALL"
    """Each of them runs, oldest first, one after another."""


class Scope(StrEnum):
    """Which instances of the application run a task."""

    LOCAL = "LOCAL"
    """Each of them, by itself."""
    CLUSTER = "CLUSTER"
    """One of them for each tick: those agree on it that share the scheduler's store.

    A process that was frozen for longer than its lease and the grace may act once more all the same; for that there is
    ``current_run().fence``.
    """


class OnLost(StrEnum):
    """What becomes of a tick whose run was lost: its process died, or its lease was over, or it was stopped."""

    RETRY = "RETRY"
    """It runs again, with the next ``take`` and a higher fence."""
    SKIP = "SKIP"
    """It does not run again: at most once. It is claimed at its tick, not before: what is skipped though nobody has
    begun it can only have been lost in the instant between."""


class Outcome(StrEnum):
    """How a tick ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    LOST = "LOST"


class Reason(StrEnum):
    """Why a run was cut, or why a tick was skipped."""

    REPLACED = "replaced"
    """The next tick came: CANCEL."""
    DEADLINE = "deadline"
    """``max_timeout_s``, or the default deadline of WAIT and SKIP, was over."""
    SHUTDOWN = "shutdown"
    """The scheduler was stopped."""
    REQUESTED = "requested"
    """``task.cancel()`` was called."""
    WITHIN = "from within"
    """The function raised CancelledError itself, or somebody cancelled the run's asyncio task."""
    OVERLAP = "overlap"
    """The run before was still going on."""
    HUNG = "hung"
    """The run before was asked to end and has not ended."""
    MISSED = "missed"
    """A later tick was due as well, or the next one too near, or the tick older than its grace."""
    BACKLOG = "backlog full"
    """Missed.ALL: more ticks than are caught up, or older than ``catchup_s``."""
    CLOCK = "clock set back"
    """The wall clock was set back so far that the task was planned anew."""
    SUSPENDED = "suspended"
    """The task was still suspended when the scheduler was stopped or the task changed."""
    LEASE = "lease lost"
    """The right to run was over, or might be another instance's: this one could not renew it in time."""
    DISABLED = "disabled"
    RESCHEDULED = "rescheduled"
    REMOVED = "removed"


class Kind(Enum):
    """Where the tick of a run comes from."""

    LIVE = auto()
    """A tick of the rule, in time or late."""
    CAUGHT_UP = auto()
    """One of several missed ticks: it has one gap of time, and later ticks queue behind it."""
    MANUAL = auto()
    """``run_now()``."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The parameters of a task, validated; one object is shared by all tasks with equal ones.

    Durations are microseconds. The second half follows from the first and from the gap: of a rule whose gaps vary,
    there is one for each.
    """

    trigger: Trigger | None
    rule: Rule | None
    """The trigger, if it has not one gap for ever."""
    policy: ExecPolicy
    max_timeout: int
    safe_mod: float
    retries: int
    retry_interval: int
    retry_on: tuple[type[Exception], ...]
    first_run: FirstRun | datetime
    missed: Missed
    given_grace: int | None
    catchup: int
    jitter: int
    until: int | None
    """Wall-clock microseconds after which there is no tick."""
    threaded: bool

    gap: int = 0
    uneven: bool = False
    """Its gaps vary, or it has jitter or an end: each of its ticks has to be worked out."""
    limit: int = 0
    """The run's own deadline counted from its start; 0: none."""
    retry_pause: int = 0
    grace: int | None = None
    punctual: int = 0
    """Lateness below which a tick is surely not missed: no later one is due as well, and its grace is not over."""
    early: int = 0
    """How long before a tick it counts as due."""
    hasty: bool = False
    """``limit`` comes before the next tick, which would otherwise look after it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of a scheduler, validated.

    Attributes:
        cancel_grace: Microseconds after which a run that was asked to end counts as hung.
        history: Records kept for each task, at least 1.
        threads: Most plain functions that run at a time.
        safe_mod: Gaps after which a WAIT or SKIP run is cut.
        instance: Identity of the scheduler, for the records.
    """

    cancel_grace: int
    history: int
    threads: int
    safe_mod: float
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of a tick: a run with its outcome, or a skip with its reason.

    Consecutive skips for one reason are one record: it tells the first and the last tick and their number, and is
    open, with ``finished_at`` None, until something else happens to the task. Ticks of a calendar are counted up to
    10,000 at a time; beyond that ``more`` says that there were more.
    """

    task: str
    scheduled_at: datetime
    """Nominal time of the tick; of a record of several skips: of the first."""
    last_scheduled_at: datetime
    """Nominal time of the last tick that this record covers."""
    count: int
    """Ticks that this record covers; 1 but for skips."""
    more: bool
    """Whether it covers more than ``count``."""
    due: datetime
    """``scheduled_at`` and the jitter."""
    started_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome
    reason: Reason | None
    error: str | None
    """Type and message of the last exception, or what ``cancel()`` was told."""
    attempts: int
    take: int
    instance: str
    fence: int | None
    manual: bool

    @property
    def lateness_s(self) -> float | None:
        """Seconds from due to the start, never below 0; None for a skip."""
        return None if self.started_at is None else max(0.0, (self.started_at - self.due).total_seconds())

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to finish; None for a skip."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

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
            "take": self.take,
            "instance": self.instance,
            "fence": self.fence,
            "manual": self.manual,
            "lateness_s": self.lateness_s,
            "duration_s": self.duration_s,
        }
