"""What this instance knows of one cluster task: its rule here and in the store, and the claim that is running."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kaiju_app._core.clock import NEVER
from kaiju_app._core.model import ExecPolicy, OnLost, Outcome, Reason
from kaiju_app._core.validate import key
from kaiju_app._engine import policy
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import CLUSTER, COMPUTED_TICKS, ActiveRun, TaskEntry
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.errors import InvalidArgument
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._record import NextTick, TaskRecord
from kaiju_app.stores._recovery import Known, put_back
from kaiju_app.stores._transitions import Definition, finish, is_active, is_mine
from kaiju_app.triggers._adapter import Found
from kaiju_app.triggers._timeline import Timeline, timeline_of

from .claim import Claim
from .policy import SkippedTicks, next_tick
from .ports import DefinitionMaker, Restorer
from .schedule_codec import check_text, same_ticks, spec_of, text_of

OnFinished = Callable[["ClusterEntry", ActiveRun, Outcome, Reason | None, BaseException | None], None]
"""Learns how a run of a cluster task ended."""


class ClusterEntry:
    """One cluster task; it is the host of the runs of its entry, whose ticks are on the store's clock.

    Attributes:
        entry: What the engine knows of the task; ``entry.spec`` has the rule that the last claim had.
        code: The parameters as they were given here.
        text: The rule of ``code`` as text.
        on_lost: What becomes of a tick whose run was lost.
        keep_result: Whether the store keeps what a run returns.
        pause_after: It is paused after so many unsuccessful runs in a row; None for never.
        claim: The claim of the run in progress; None if there is none.
        offset: The store's clock minus the steady clock, when the run in progress began.
        skipped: The ticks before the one of the run in progress that do not run.
        greatest_rev: The greatest rev that was read of any record of the task: no fence may be below it.
        last_done: The last tick that is known to have ended.
    """

    __slots__ = (
        "_ended",
        "_engine",
        "_last_record",
        "_on_finished",
        "_read",
        "_steady",
        "_timeline",
        "claim",
        "code",
        "entry",
        "greatest_rev",
        "keep_result",
        "last_done",
        "offset",
        "on_lost",
        "pause_after",
        "skipped",
        "text",
    )

    def __init__(
        self,
        engine: Engine,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kws: Mapping[str, Any],
        spec: TaskSpec,
        on_lost: OnLost,
    ) -> None:
        self.entry = TaskEntry(self, name, func, args, kws, spec)
        self.entry.flags = CLUSTER | COMPUTED_TICKS
        self.entry.due = NEVER
        self.code = spec
        self.text = text_of(spec)
        self.on_lost = on_lost
        self.keep_result = False
        self.pause_after: int | None = None
        self.claim: Claim | None = None
        self.offset = 0
        self.skipped: SkippedTicks | None = None
        self.greatest_rev = self.last_done = 0
        self._last_record: TaskRecord | None = None
        self._ended: tuple[str, FinishRequest] | None = None
        """The instance and the ending that the store has accepted since it had ``_last_record``."""
        self._engine = engine
        self._on_finished: OnFinished | None = None
        self._read: tuple[str, TaskSpec | None] = self.text, spec
        self._steady = self._timeline = timeline_of(spec, seed=("", name), shared=True)

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.entry.name

    @property
    def instance(self) -> str:
        """Identity of the scheduler."""
        return self._engine.instance

    @property
    def last_record(self) -> TaskRecord | None:
        """The record as it was last read, with the ending since then; None if it was never read."""
        if self._ended is not None and self._last_record is not None:
            me, ending = self._ended
            old = self._last_record._replace(schedule=ending.schedule)
            new = finish(old, old.rev, me, ending.fence, ending.tick, ending.schedule, ending.following)
            self.last_record = new if isinstance(new, TaskRecord) else old
        return self._last_record

    @last_record.setter
    def last_record(self, record: TaskRecord | None) -> None:
        self._last_record, self._ended = record, None
        if record is not None:
            if record.rev > self.greatest_rev:
                self.greatest_rev = record.rev
            if record.last_done > self.last_done:
                self.last_done = record.last_done

    @property
    def maybe_active(self) -> bool:
        """Whether somebody ran or held the task when its record was last read or its ending accepted."""
        record = self._last_record
        return record is not None and (bool(record.holds) if self._ended is not None else is_active(record))

    def acknowledged(self, me: str, ending: FinishRequest) -> None:
        """Take note that the store has accepted *ending*. The record without the claim is made when it is asked for."""
        record = self.last_record
        if record is None or not is_mine(record, me, ending.fence):
            return
        self._ended = me, ending
        self.greatest_rev = max(self.greatest_rev, record.rev + 1)
        if not record.manual:
            self.last_done = max(self.last_done, record.next_tick)

    # --- the rule ---

    def spec_of(self, record: TaskRecord) -> TaskSpec | None:
        """Return the parameters with the rule that *record* has; None if this version cannot read it."""
        if self._read[0] != record.schedule:
            self._read = record.schedule, spec_of(record.schedule, self.code)
        return self._read[1]

    def ticks(self, spec: TaskSpec, tick: int | None = None) -> Timeline[TaskSpec]:
        """Return the ticks on the store's clock, with the gap after *tick* if that is given."""
        if self._timeline.spec is not spec:
            self._timeline = timeline_of(spec, seed=("", self.name), shared=True)
        if tick is not None and (gap := self._timeline.gap(tick)) != spec.gap:
            return timeline_of(policy.with_gap(spec, gap), seed=("", self.name), shared=True)
        return self._timeline

    def definition_maker(self, version: tuple[int, ...]) -> DefinitionMaker:
        """Return what makes the definition that this instance registers; it may be called in any thread."""
        name, text, timeline = self.name, self.text, self.ticks(self.code)

        def definition(old: TaskRecord | None, now: int) -> Definition:
            first = next_tick(timeline, policy.first_tick(timeline, now)[0], now, now)
            return Definition(name, text, version, first, _next_by_rule(timeline, text, old, now))

        return definition

    def restorer(self, seen_at: int, grace: int) -> Restorer | None:
        """Return what puts a lost record back; None if the task was never registered.

        Args:
            seen_at: When the store was last seen to have the record.
            grace: How long nobody claims the task then.
        """
        record, rev, done = self._last_record, self.greatest_rev, self.last_done
        if record is None:
            return None
        timeline, at_most_once = self.ticks(self.spec_of(record) or self.code), self.on_lost is OnLost.SKIP

        def restored(old: TaskRecord | None, now: int) -> TaskRecord | None:
            # A tick since then may have run or not.
            after = now if at_most_once else min(seen_at, now)
            coming = _coming(timeline, record, max(done, after), now)
            return put_back(old, now, Known(record, rev, done, coming), grace)

        return restored

    # --- the run in progress ---

    def begin(self, claim: Claim, store_now: int, on_finished: OnFinished) -> None:
        """Take note of a claim whose tick is due; *on_finished* learns how its run ends."""
        self.claim = claim
        if self._last_record is not claim.record:
            self.last_record = claim.record
        self.offset = store_now - self.now()
        self.skipped = None
        self._on_finished = on_finished

    def reset_after_fork(self) -> None:
        """Forget the claim, which belongs to the process that this one was forked from."""
        self.claim = self._on_finished = None

    def on_task_done(self, _: object) -> None:
        """Take note of the end of a run that could not report it, as it was cancelled before it began."""
        self._engine.watchdog.active_run(self.entry)

    def now(self) -> int:
        """Return the steady time."""
        return self._engine.now()

    def timeline(self, entry: TaskEntry, spec: TaskSpec) -> Timeline[TaskSpec]:
        """Return the ticks on the steady clock, as the store's clock stood when the run began."""
        if self._steady.spec is not spec or self._steady.offset != self.offset:
            self._steady = timeline_of(spec, self.offset, ("", self.name), shared=True)
        return self._steady

    def succeeded(self, run: ActiveRun, result: Any) -> None:
        """Take note of a run whose function returned *result*."""
        self.entry.result = result
        self.ended(run, Outcome.SUCCEEDED, None, None)

    def ended(self, run: ActiveRun, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None:
        """Take note of how a run ended."""
        # A run whose loop was closed has ended already when the garbage collector closes its coroutine.
        if self._on_finished is not None and self.entry.run is run:
            self._on_finished(self, run, outcome, reason, exc)


def _coming(timeline: Timeline[TaskSpec], record: TaskRecord, after: int, now: int) -> NextTick:
    """Return the first tick after *after* on the grid of *record*."""
    if record.next_unknown or record.next_tick > after:
        return NextTick(record.next_tick, record.next_due, record.next_unknown)
    return next_tick(timeline, timeline.due_ticks(record.next_tick, after).next, record.next_tick, now)


def _next_by_rule(timeline: Timeline[TaskSpec], text: str, old: TaskRecord | None, now: int) -> NextTick:
    """Return the next tick of a rule that replaces the one of *old*.

    A rule with the same ticks goes on with them: jitter and end may change without moving a tick.
    """
    if old is None or old.schedule == text or not same_ticks(old.schedule, text):
        return next_tick(timeline, timeline.next_after(now), now, now)
    if old.next_unknown:
        return NextTick(old.next_tick, old.next_due, unknown=True)
    if old.next_tick < NEVER:
        return next_tick(timeline, Found(timeline.clipped(old.next_tick)), now, now)
    if timeline.spec.rule is None and old.last_done <= now:  # An interval that had ended goes on from its last tick.
        return next_tick(timeline, timeline.due_ticks(old.last_done, now).next, now, now)
    return next_tick(timeline, timeline.next_after(now), now, now)


def check_cluster_task(spec: TaskSpec, name: str | None, overlap_on_loss: bool) -> None:
    """Refuse a task that cannot be shared.

    Raises:
        InvalidArgument: It has no name, a rule that cannot be stored, or runs that cannot be cancelled.
    """
    if name is None:
        raise InvalidArgument("name", name, "must be given with Scope.CLUSTER: other instances know the task by it")
    key("name", name)
    check_text(spec.trigger)
    if overlap_on_loss or not (spec.threaded or spec.policy is ExecPolicy.SHIELD):
        return
    what = "a plain function runs in a thread, which" if spec.threaded else "a run under ExecPolicy.SHIELD, which"
    raise InvalidArgument(
        "overlap_on_loss",
        overlap_on_loss,
        f"must be True for this task of Scope.CLUSTER: {what} cannot be cancelled when its lease is lost, and may "
        "overlap the run that another instance starts. Accept that, and check what it writes by current_run().fence; "
        "or make the function async def, under another policy",
    )
