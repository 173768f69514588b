"""Runs of cluster tasks: between the coordinator, which claims ticks, and the engine, which runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kaiju_app._core.clock import utc
from kaiju_app._core.model import ExecPolicy, OnLost, Outcome, Reason
from kaiju_app._core.text import shortened
from kaiju_app._core.upset import UpsetKind
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import DISABLED, HELD, HUNG, REMOVED, ActiveRun
from kaiju_app._engine.events import facts_of_run, log, what
from kaiju_app._engine.ledger import RunRecord
from kaiju_app._engine.policy import verdict
from kaiju_app._engine.recorder import record_of
from kaiju_app._engine.spec import Kind, TaskSpec
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._base import Store
from kaiju_app.stores._record import LedgerRow, TaskRecord

from .claim import Claim, OwnedHold
from .coordinator import Coordinator
from .finished_run import FinishedRun
from .known_tasks import KnownTasks
from .ledger_rows import row_of, skips_row
from .neighbours import Neighbours
from .notes import Notes
from .policy import ClaimDecision, SkippedTicks, decide_claim, next_tick, runs_again
from .result_codec import Refused, result_to_text
from .rule_log import log_unreadable_rule
from .task import ClusterEntry
from .timing import LeaseTiming

SchedulerHolds = dict[object, Callable[[str, "ClusterRuns"], None]]
"""Suspensions of all tasks; each is called with the name of a task that was registered since it was entered."""


class ClusterRuns:
    """The host of a coordinator: it says what may be claimed, runs the claims, and reports how they ended.

    Args:
        tasks: The cluster tasks by name, as they come and go.
        version: Version of the rules of these tasks; the highest one of all instances counts.
        me: Identity of the instance.
        neighbours: What it reports about itself, and what it makes of the others.
        wanted: The suspensions of all tasks, which hold tasks that are registered later, too.

    Attributes:
        hold_listeners: By hold, what is called when it is lost.
        known: What the store has of these tasks.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        tasks: Mapping[str, ClusterEntry],
        timing: LeaseTiming,
        version: tuple[int, ...],
        me: str,
        neighbours: Neighbours,
        wanted: SchedulerHolds,
    ) -> None:
        self.engine = engine
        self.hold_listeners: dict[OwnedHold, Callable[[], None]] = {}
        self.wanted = wanted
        self.on_late = engine.monitor.on_late_elsewhere
        self.known = KnownTasks(engine, tasks, version, self.hold_registered)
        self.coordinator = Coordinator(
            store, me, self, self.known, timing, engine.now, neighbours, Notes(engine.upsets, tasks, engine.wall)
        )  # fmt: skip
        self.coordinator.client.on_outage = partial(_note_outage, engine)
        self.coordinator.successes.attach(engine.recorder.expectations)
        self._me = me
        self._tasks = tasks
        self._running: dict[Claim, ActiveRun] = {}
        self._finished: dict[Claim, FinishedRun] = {}
        self._unreadable: dict[str, str] = {}
        """By name, the rule that could not be read when it was last logged."""

    # --- what may be claimed ---

    def claimable(self) -> set[str]:
        """Return the names of the tasks that this instance knows and that are not disabled here."""
        return {name for name, task in self._tasks.items() if not task.entry.flags & DISABLED}

    def can_run(self, record: TaskRecord) -> bool:
        """Return whether this instance can run the task at all, by the rule in its record."""
        task = self._tasks.get(record.name)
        if task is None or self._is_disabled(task, record):
            return False
        if task.spec_of(record) is not None:
            return True
        if self._unreadable.get(task.name) != record.schedule:
            self._unreadable[task.name] = record.schedule
            log_unreadable_rule(task, record)
        return False

    def is_stale(self, record: TaskRecord) -> bool:
        """Return whether a claim shows that the store went back: its fence or its tick was given before."""
        task = self._tasks.get(record.name)
        if task is None:
            return False
        return record.fence <= task.greatest_rev or (not record.manual and record.next_tick <= task.last_done)

    def may_start(self, record: TaskRecord) -> bool:
        """Return whether nothing keeps the task from running here at this moment."""
        task = self._tasks.get(record.name)
        if task is None or not self.engine.started or self.engine.holds or self._is_disabled(task, record):
            return False
        return not task.entry.flags & (HELD | REMOVED) and self.engine.watchdog.active_run(task.entry) is None

    def claims_on_time_only(self, name: str) -> bool:
        """Return whether a crash between claim and tick would skip a tick that nobody has begun."""
        task = self._tasks.get(name)
        return task is not None and task.on_lost is OnLost.SKIP

    def _is_disabled(self, task: ClusterEntry, record: TaskRecord) -> bool:
        is_wanted_here = record.manual and task.name in self.coordinator.claims.wanted_here
        return bool(task.entry.flags & DISABLED) and not is_wanted_here

    # --- holds ---

    def hold_registered(self, name: str) -> None:
        """Hold a task that was registered inside a suspension of all tasks."""
        for hold in list(self.wanted.values()):
            hold(name, self)

    def unhold(self, held: OwnedHold) -> None:
        """Let a task run again."""
        self.hold_listeners.pop(held, None)
        self.coordinator.holds.unhold(held)
        task = self._tasks.get(held.name)
        if task is not None and task.last_record is not None:
            holds = {key: each for key, each in task.last_record.holds.items() if key != held.key}
            task.last_record = task.last_record._replace(holds=holds)

    def on_hold_lost(self, held: OwnedHold) -> None:
        """Learn that a hold has expired: the task may run from now on."""
        on_lost = self.hold_listeners.pop(held, None)
        if on_lost is not None:
            on_lost()

    # --- from a claim to a run ---

    def start(self, claim: Claim) -> None:
        """Start the run of a claim whose tick is due, or skip its tick."""
        record = claim.record
        task = self._tasks[claim.name]
        now = self.engine.now()
        shown = self.coordinator.client.clock.at_least(now)
        store_now = record.next_due if shown is None else shown
        task.begin(claim, store_now, self.on_run_finished)
        spec = task.spec_of(record) or task.code
        found = decide_claim(task.ticks(spec, record.next_tick), record, store_now, task.on_lost)
        if found.tick is None:
            self._skip_tick(task, claim, spec, found, now)
        else:
            self._launch(task, claim, spec, found, found.tick, now)

    def _launch(
        self, task: ClusterEntry, claim: Claim, spec: TaskSpec, found: ClaimDecision, tick: int, now: int
    ) -> None:
        engine, entry, offset = self.engine, task.entry, task.offset
        base_tick = claim.record.next_tick if found.kind is Kind.MANUAL else tick
        task.skipped = found.skipped
        entry.spec = task.ticks(spec, base_tick).spec
        engine.recorder.check_audience()
        due = None if entry.spec.jitter else tick - offset
        engine.runner.start(entry, tick - offset, now, found.kind, base_tick - offset, None, entry.spec.gap, due)
        if entry.run is not None and entry.run.claim is claim:
            self._running[claim] = entry.run
            engine.queue.arm_again()
            if entry.run.task is not None:  # A run that is cancelled before it begins cannot say that it is over.
                entry.run.task.add_done_callback(task.on_task_done)

    def _skip_tick(self, task: ClusterEntry, claim: Claim, spec: TaskSpec, found: ClaimDecision, now: int) -> None:
        """End a claim without a run."""
        record, store_now = claim.record, now + task.offset
        task.claim = None
        rows = skipped_rows(task, claim, spec, found.skipped, store_now, self._me)
        following = next_tick(task.ticks(spec), found.following, record.next_tick, store_now)
        _skip(self.engine, task, found.skipped, now)
        ending = FinishRequest(task.name, claim.fence, record.tick, record.schedule, following, rows)
        self.coordinator.endings.ended(claim, ending)

    def on_lease_lost(self, claim: Claim) -> None:
        """Cancel the run, whose lease has expired; warn about one that cannot be cancelled."""
        run = self._running.get(claim)
        if run is None:
            return
        if run.lost is not None:
            run.lost.set()
        if run.spec.policy is not ExecPolicy.SHIELD and not run.spec.threaded:
            self.engine.watchdog.cancel(run, Reason.LEASE)
            return
        log.error(
            "task %r, tick %s: its lease has expired and could not be renewed, and this run cannot be cancelled (%s): "
            "another instance may run the task at the same time from now on. current_run().check() raises; the fence "
            "of this run is %d",
            run.entry.name, utc(run.tick + run.entry.host.offset).isoformat(),
            "a thread" if run.spec.threaded else "SHIELD", claim.fence, extra=facts_of_run(run),
        )  # fmt: skip

    def on_unwanted(self, claim: Claim, why: str) -> bool:
        """Cancel the run, as somebody asks; return False if its policy is SHIELD."""
        run = self._running.get(claim)
        if run is None:
            return True
        if run.spec.policy is ExecPolicy.SHIELD:
            log.warning("task %r: not %s, as its policy is SHIELD", claim.name, why, extra=facts_of_run(run))
            return False
        self.engine.watchdog.cancel(run, Reason.REQUESTED, shortened(why))
        return True

    def on_lease_regained(self, claim: Claim) -> None:
        """Learn that the lease was renewed after all, and that nobody else has run the task."""
        run = self._running.get(claim)
        if run is None or run.cause is Reason.LEASE:
            return
        if run.lost is not None:
            run.lost.clear()
        log.warning(
            "task %r: its lease was renewed after all; the run has an exclusive lease again", run.entry.name,
            extra=facts_of_run(run),
        )  # fmt: skip

    # --- from the end of a run to its acknowledgment ---

    def on_run_finished(
        self, task: ClusterEntry, run: ActiveRun, outcome: Outcome, reason: Reason | None, exc: BaseException | None
    ) -> None:
        """Take note of a run that is over, and have the store told."""
        claim, skipped = task.claim, task.skipped
        if claim is None:
            raise TypeError(f"task {task.name!r} ended a run without a claim")
        now, endings = self.engine.now(), self.coordinator.endings
        is_again = runs_again(outcome, reason, task.on_lost, manual=run.kind is Kind.MANUAL)
        kept = record_of(run, Outcome.LOST if is_again else outcome, reason, exc, now)
        kept, result = self._result(task, kept)
        row = row_of(claim.record, kept, self._me, result)
        task.claim = task.skipped = None
        self._running.pop(claim, None)
        if run.task is not None:  # Its end is known: the callback would take a turn of the loop.
            run.task.remove_done_callback(task.on_task_done)
        if is_again:
            self.engine.recorder.end(run, kept, exc, now)
            endings.released(claim, [row])
            return
        offset, hung = task.offset, bool(task.entry.flags & HUNG)
        rows = (*skipped_rows(task, claim, run.spec, skipped, now + offset, self._me), row)
        finished = FinishedRun(
            task, claim, run.spec, run.kind, run.tick + offset, run.started + offset, now + offset,
            run.cause is not None, hung, rows,
        )  # fmt: skip
        ending, after = finished.ending(self._me)
        _skip(self.engine, task, skipped, now)
        self.engine.recorder.end(run, kept, exc, now)
        _skip(self.engine, task, after, now)
        self._finished[claim] = finished
        if task.pause_after is not None and verdict(outcome, reason) is False:
            self.coordinator.failures.put(claim, task.pause_after, what(kept))
        endings.ended(claim, ending)

    def _result(self, task: ClusterEntry, kept: RunRecord) -> tuple[RunRecord, str | None]:
        """Return what the function returned, as JSON text for the store; the record says why it cannot be kept."""
        if not task.keep_result or kept.outcome is not Outcome.SUCCEEDED:
            return kept, None
        try:
            return kept, result_to_text(task.entry.result)
        except Refused as refusal:
            kept = kept._replace(error=str(refusal))
            self.engine.notifier.result_refused(task.entry, kept, self.engine.now())
            return kept, None

    def recompute_ending(self, claim: Claim, record: TaskRecord) -> FinishRequest | None:
        """Return the ending of a finished run again, by the rule that *record* has; None if the run never began."""
        finished = self._finished.get(claim)
        return None if finished is None else finished.ending_by(self._me, record)

    def on_acknowledged(self, claim: Claim, ending: FinishRequest | None) -> None:
        """Learn that the store has accepted the *ending* of a run; None: it has refused it."""
        finished = self._finished.pop(claim, None)
        if finished is not None and ending is not None:
            finished.task.acknowledged(self._me, ending)


def _skip(engine: Engine, task: ClusterEntry, skipped: SkippedTicks | None, now: int) -> None:
    """Record here, too, that ticks do not run."""
    if skipped is not None:
        first, last = skipped.first - task.offset, skipped.last - task.offset
        engine.recorder.skip(
            task.entry, first, last, skipped.number, skipped.reason, now, more=skipped.more, why=skipped.why
        )


def _note_outage(engine: Engine, away: int) -> None:
    """Note that the store did not answer for so long, until now."""
    now = engine.wall()
    engine.upsets.note(UpsetKind.STORE, now - away, now)


def skipped_rows(
    task: ClusterEntry, claim: Claim, spec: TaskSpec, skipped: SkippedTicks | None, store_now: int, me: str
) -> tuple[LedgerRow, ...]:
    """Return the rows of the ledger for ticks that do not run, up to the one of the claim."""
    if skipped is None:
        return ()
    return (skips_row(task.name, skipped, store_now, me, task.ticks(spec), claim.record.claims),)
