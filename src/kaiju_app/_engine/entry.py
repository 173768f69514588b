"""The state of one task and of its run in progress. An idle task costs one TaskEntry and nothing else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol

from kaiju_app._core.clock import NEVER
from kaiju_app._core.exceptions import chain, is_a, other_than
from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._core.run_id import run_id
from kaiju_app.errors import RunCancelled
from kaiju_app.triggers._timeline import Timeline

from . import policy
from .overtaken import Overtaken
from .spec import LIVE, Kind, TaskSpec

# Bits of TaskEntry.flags. A tick whose entry has any of them cannot take the short way in TickLoop.wake().
#
#                           set while                                    never together with
DISABLED = 1  #             disable() is in force                        -
HELD = 2  #                 ``holds`` is not empty                       -
QUEUED = 4  #               ``waiting`` or ``backlog`` is not None       CLUSTER
HAS_WAITERS = 8  #          ``waiters`` is not empty                     -
FAILING = 16  #             the last run failed: a success is news       -
REMOVED = 32  #             remove() waits for the run in progress       -
EXTRA_FIRST_TICK = 64  #    ``due`` is a first tick beside the rule      CLUSTER
HUNG = 128  #               ``run`` did not end within cancel_grace_s    (implies a run)
RELEASED = 256  #           ``due`` was kept back by a hold that ended   CLUSTER
OPEN_SKIP_RECORD = 512  #   the latest record is of skips and may grow   -
COMPUTED_TICKS = 1024  #    ``spec.computed_ticks``                      (implied by CLUSTER)
CLUSTER = 2048  #           the coordinator plans the ticks              QUEUED, EXTRA_FIRST_TICK, RELEASED
EXPECTED = 8192  #          a success is expected within a time          -
REMOVE_WHEN_OVER = 4096  #  it is removed after its last tick            CLUSTER

# These change what is recorded and reported, not what becomes of the tick of a plain interval while a run is going on.
ORDINARY = QUEUED | HAS_WAITERS | FAILING | OPEN_SKIP_RECORD | EXPECTED


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """One reason not to run. Compared by identity, so that leaving one suspension never ends another."""

    holder: str
    reason: str | None
    since: int
    until: int | None = None

    def __str__(self) -> str:
        return self.holder if self.reason is None else f"{self.holder} ({self.reason})"


class Lease(Protocol):
    """The time-limited right to run one tick of a cluster task.

    Attributes:
        lost: Whether the lease has expired or was taken away, as far as this process knows.
        deadline: Steady time in microseconds until which the run may act.
        fence: Fencing token; it grows with every claim of the task.
        delivery: How many times the tick has been claimed, this time included.
    """

    @property
    def lost(self) -> bool: ...
    @property
    def deadline(self) -> int: ...
    @property
    def fence(self) -> int: ...
    @property
    def delivery(self) -> int: ...

    async def guard(self, connection: object) -> bool:
        """Return whether the lease is valid; if so, keep it valid until the transaction of *connection* ends."""
        ...


class RunHost(Protocol):
    """What a run needs from the part that started it.

    Attributes:
        instance: Identity of the scheduler.
        offset: Wall clock minus steady clock, in microseconds.
        claim: The claim of the run in progress; None for local tasks.
    """

    @property
    def instance(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def claim(self) -> Lease | None: ...

    def now(self) -> int: ...
    def timeline(self, entry: TaskEntry, spec: TaskSpec) -> Timeline[TaskSpec]: ...
    def succeeded(self, run: ActiveRun, result: Any) -> None: ...
    def ended(self, run: ActiveRun, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None: ...


class ActiveRun:
    """A run in progress. All times are steady-clock microseconds.

    Attributes:
        spec: The parameters when the run started; ``reschedule()`` does not change them.
        started: When the run began; until then, when it was meant to begin.
        tick: The tick that it runs; for a manual run, the time of the request.
        due: When ``tick`` was due: ``tick`` plus its jitter.
        base_tick: A tick of the rule from which CANCEL counts the next ones; None if ``tick`` is one.
        immune_until: Ticks due up to this time do not replace the run; None means up to ``due``.
        cause: Why the run was cancelled. It is set before the cancellation. None if the run was not cancelled.
        cancel_reason: The text given to ``task.cancel()``.
        final: Whether the attempt in progress is the last one.
        failed_by_itself: Whether its function raised after it was asked to end, and for another reason.
        wake: Ends the retry pause; None if there is none.
        job: The call in a thread; None if there is none.
        context: The context of the calls in threads.
        claim: The lease under which it runs; None for local tasks.
        asked_in: The context of the ``run_now()`` that has asked for it; None if there is none.
        lost: Set while the lease is lost; None until somebody asks for it.
    """

    # Few runs need these, so they are class attributes until they are set: a run is made for every tick.
    base_tick: int | None = None
    immune_until: int | None = None
    cancel_reason: str | None = None
    final = False
    failed_by_itself = False
    wake: Callable[[], None] | None = None
    job: Future[Any] | None = None
    context: Context | None = None
    claim: Lease | None = None
    asked_in: Context | None = None
    lost: asyncio.Event | None = None

    def __init__(self, entry: TaskEntry, due: int, started: int) -> None:
        self.entry = entry
        self.spec = entry.spec
        self.tick = self.due = due
        self.started = started
        self.kind: Kind = LIVE
        self.attempt = 0
        self.cause: Reason | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def run_id(self) -> str:
        """Identity of the run, as its record will have it."""
        fence = None if self.claim is None else self.claim.fence
        return run_id(self.entry.name, self.entry.host.instance, self.started, fence)

    def deadline(self) -> tuple[int, Reason] | None:
        """Return when and why this run will be cancelled; None if it will not be."""
        tick = self.tick if self.base_tick is None else self.base_tick
        timeline = self.entry.host.timeline(self.entry, self.spec)
        immune_until = self.due if self.immune_until is None else self.immune_until
        return policy.deadline(timeline, self.kind, tick, immune_until, self.started)

    def is_lost(self) -> bool:
        """Return whether another instance may already run the tick; safe in any thread."""
        claim = self.claim
        return claim is not None and (claim.lost or self.entry.host.now() >= claim.deadline)

    def cancel(self, cause: Reason, cancel_reason: str | None = None) -> None:
        """Ask the run to end. Only the first cause counts."""
        if self.cause is not None:
            return
        self.cause = cause
        self.cancel_reason = cancel_reason
        if self.wake is not None:
            self.wake()
        elif self.job is not None:
            self.job.cancel()  # Takes effect only before a thread has begun it: a thread cannot be stopped.
        elif self.attempt and self.task is not None:
            self.task.cancel()
        # Otherwise the run has not begun: the runner looks at the cause before it calls the function.

    def allow_no_retry(self, cause: Reason) -> None:
        """Let the attempt in progress finish, but start no other one; end a retry pause at once."""
        self.final = True
        if self.wake is not None:
            self.cancel(cause)


def is_cut(exc: BaseException) -> bool:
    """Return whether *exc* was raised because the run was asked to end: by ``check()``, or by a cancellation."""
    return any(other_than((RunCancelled, asyncio.CancelledError), each) is None for each in chain(exc))


def outcome_of(cause: Reason | None, failure: BaseException | None) -> tuple[Outcome, Reason | None]:
    """Return how a run ended that did not return. The cause decides; only without one the type of the exception."""
    if cause is Reason.DEADLINE:
        return Outcome.TIMED_OUT, cause
    if cause is Reason.LEASE:
        return Outcome.LOST, cause
    if cause is not None:
        return Outcome.CANCELLED, cause
    if failure is not None and is_a(failure, asyncio.CancelledError):
        return Outcome.CANCELLED, Reason.WITHIN
    return Outcome.FAILED, None


class RunRequest(asyncio.Future[Run]):
    """Receives the Run of a ``run_now()``, and knows the context of who has asked."""

    asked_in: Context


class _HotFields:
    """The fields that every tick uses, side by side: with many tasks, cache misses are most of what a tick costs."""

    __slots__ = (
        "alarm",
        "args",
        "due",
        "extras",
        "flags",
        "func",
        "host",
        "kept",
        "kws",
        "name",
        "overtaken",
        "result",
        "ring",
        "run",
        "seq",
        "spec",
    )


class TaskEntry(_HotFields):
    """One task: what to call, when it is next due, and what is in progress. Times are steady-clock microseconds.

    Attributes:
        host: What its runs are started by.
        due: The first tick that is not decided yet; NEVER if there is none.
        seq: Number of the queue item for ``due``; 0 if there is none, as while the tick is parked.
        alarm: Number of the queue item that looks at the run in progress; 0 if there is none.
        lift: Number of the queue item that ends the pause; 0 if there is none.
        waiting: A tick that starts as soon as the task is idle; None if there is none.
        backlog: Missed ticks that are still to be run, oldest first; None if there are none.
        requested: Receives the Run of the ``run_now()`` whose tick is in ``waiting``.
        last_started: Start of the last run before the latest skips; 0 if there is none.
        overtaken: The ticks that were overtaken lately, which have no record yet; None if there are none.
        ring: The latest records, packed. ``extras``: their rarely used fields, by slot.
        kept: Records appended so far, those that the ring has overwritten included.
        unsuccessful: How many of those do not record a success.
        ending_counts: The ticks that the unsuccessful ones cover, by the code of the ending; without ``overtaken``.
    """

    __slots__ = (
        "backlog",
        "ending_counts",
        "holds",
        "last_started",
        "lift",
        "pause",
        "requested",
        "unsuccessful",
        "waiters",
        "waiting",
    )

    def __init__(
        self,
        host: RunHost,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kws: Mapping[str, Any],
        spec: TaskSpec,
    ) -> None:
        self.host = host
        self.name = name
        self.func = func
        self.args = args
        self.kws = kws
        self.spec = spec
        self.flags = 0
        self.due = 0
        self.seq = 0
        self.alarm = 0
        self.lift = 0
        self.run: ActiveRun | None = None
        self.waiting: int | None = None
        self.backlog: deque[int] | None = None
        self.requested: asyncio.Future[Run] | None = None
        self.holds: list[Hold] | None = None
        self.pause: Hold | None = None
        self.waiters: list[asyncio.Future[Run]] | None = None
        self.last_started = 0
        self.overtaken: Overtaken | None = None
        self.ring: bytearray | None = None
        self.kept = 0
        self.extras: dict[int, tuple[Any, ...]] | None = None
        self.result: Any = None
        self.unsuccessful = 0
        self.ending_counts: dict[int, int] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the rule of a local task has no further tick."""
        return self.due >= NEVER and not self.seq  # A trigger that failed is asked again by an item of the queue.
