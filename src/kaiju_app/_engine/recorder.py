"""Records endings: in the ledger, then to those who wait for the run, then to the log and the listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kaiju_app._core.exceptions import is_a, other_than
from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._core.text import describe_exception, shortened
from kaiju_app.triggers._timeline import EvenTimeline, SearchedTimeline, Timeline

from . import ledger
from .clock_monitor import ClockMonitor
from .entry import (
    COMPUTED_TICKS,
    EXPECTED,
    FAILING,
    HAS_WAITERS,
    HUNG,
    OPEN_SKIP_RECORD,
    QUEUED,
    REMOVE_WHEN_OVER,
    REMOVED,
    ActiveRun,
    Lease,
    TaskEntry,
)
from .events import Notifier, facts_of, log
from .expectations import Expectations
from .failures import Failures
from .ledger import CODES, PACKED, SUCCESS, UNSET, RunRecord
from .listeners import Subscription
from .spec import MANUAL, Settings, TaskSpec
from .threads import advice_for
from .watchdog import Watchdog

SHORT_ENDING = OPEN_SKIP_RECORD | QUEUED | COMPUTED_TICKS  # What succeeded() can do itself.
LOGGED = (Reason.MISSED, Reason.BACKLOG)  # Skips that are told each time, not only when a record of them is opened.
pack_into = PACKED.pack_into
SIZE = PACKED.size


class Recorder:
    """Records how the ticks of one scheduler end. It is the RunHost of its local tasks.

    Attributes:
        now: Reads the steady clock.
        failures: Counts unsuccessful runs, where somebody asked for that.
        expectations: Knows which tasks are overdue, where somebody asked for that.
        shown: The tasks whose arguments and results may be shown.
        notify_success: Whether plain successes are passed on to the notifier.
        on_idle: Called with an entry whose run has ended while another tick waits. The engine assigns it.
        on_forgotten: Called with a removed entry that was dropped. The engine assigns it.
    """

    on_idle: Callable[[TaskEntry], None]
    on_forgotten: Callable[[TaskEntry], None]

    claim: Lease | None = None

    def __init__(
        self,
        entries: dict[str, TaskEntry],
        now: Callable[[], int],
        monitor: ClockMonitor,
        notifier: Notifier,
        watchdog: Watchdog,
        settings: Settings,
    ) -> None:
        self.now = now
        self.history = settings.history
        self.notify_success = False
        self.failures = Failures()
        self.expectations = Expectations(now, lambda: monitor.offset, notifier)
        self.shown: set[TaskEntry] = set()
        self._ring_size = settings.history * SIZE
        self._entries = entries
        self._monitor = monitor
        self._notifier = notifier
        self._watchdog = watchdog

    @property
    def instance(self) -> str:
        """Identity of the scheduler."""
        return self._notifier.instance

    @property
    def offset(self) -> int:
        """Wall clock minus steady clock, in microseconds."""
        return self._monitor.offset

    def timeline(self, entry: TaskEntry, spec: TaskSpec) -> Timeline[TaskSpec]:
        """Return the ticks of *entry* on the steady clock, by the parameters *spec*."""
        offset, seed = self._monitor.offset, (self._notifier.instance, entry.name)
        if spec.rule is None:  # As timeline_of() does it, which would be one call more for most ticks with jitter.
            return EvenTimeline(spec, offset, seed, False)
        return SearchedTimeline(spec, spec.rule, offset, seed, False)

    def run_of(self, entry: TaskEntry, record: RunRecord) -> Run:
        """Return *record* as users see it."""
        return record.run(entry.name, self._notifier.instance)

    # --- listeners and waiters ---

    def subscribe(self, subscription: Subscription) -> None:
        """Tell the listener of *subscription* of Runs from now on, also of those in progress."""
        self._notifier.subscribe(subscription)
        self.check_audience()

    def check_audience(self) -> None:
        """Find out whether anybody wants to know of the plain successes of runs that start now."""
        self.notify_success = self._notifier.has_audience()

    def add_waiter(self, entry: TaskEntry, waiter: asyncio.Future[Run]) -> None:
        """Give *waiter* the Run in progress when it ends."""
        entry.flags |= HAS_WAITERS
        if entry.waiters is None:
            entry.waiters = []
        entry.waiters.append(waiter)
        if entry.run is not None and entry.run.task is not None:
            entry.run.task.add_done_callback(lambda _: self._watchdog.active_run(entry))

    # --- endings ---

    def succeeded(self, run: ActiveRun, result: Any) -> None:
        """Record a run whose function returned *result*."""
        entry = run.entry
        tick = run.tick
        now = self.now()
        entry.result = result
        if entry.flags or entry.alarm or entry.extras or self.notify_success:
            subscriptions = self._notifier.subscriptions
            if self.notify_success or entry.flags & ~SHORT_ENDING or entry.extras or subscriptions:
                self.end(run, record_of(run, Outcome.SUCCEEDED, None, None, now), None, now)
                return
            if entry.alarm:
                self._watchdog.drop_alarm(entry)
            if entry.flags & OPEN_SKIP_RECORD:
                ledger.close_skips(entry, now)
            if entry.flags & QUEUED:
                self.on_idle(entry)
        # What end() does after a success that nobody wants to know of: nearly every run ends here.
        entry.run = run.task = None
        if run.spec.threaded:
            run.context = None
        ring = entry.ring
        if ring is None or len(ring) != self._ring_size:
            ring = ledger.ring_of(entry, self.history)
        place = entry.kept % self.history * SIZE
        manual = run.kind is MANUAL
        pack_into(
            ring,
            place,
            tick,
            tick,
            1,
            run.due - tick,
            run.started,
            now,
            self._monitor.offset,
            run.attempt,
            SUCCESS,
            manual,
            False,
        )
        entry.kept += 1  # Now: another thread may look for the latest record.

    def ended(self, run: ActiveRun, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None:
        """Record a run that did not succeed."""
        now = self.now()
        self.end(run, record_of(run, outcome, reason, exc, now), exc, now)

    def skip(
        self,
        entry: TaskEntry,
        first: int,
        last: int,
        number: int,
        reason: Reason,
        now: int,
        *,
        more: bool = False,
        manual: bool = False,
        why: str | None = None,
    ) -> RunRecord | None:
        """Record that ticks do not run: *number* of them or *more*, from *first* to *last*.

        Returns:
            The record; None if the ticks were recorded in silence, because nobody wants to know of them.
        """
        host = entry.host
        code = CODES[Outcome.SKIPPED, reason]
        if not (more or manual or why or reason in LOGGED):
            offset = host.offset
            if ledger.grow(entry, first, last, number, code, offset):
                return None
            is_heard = self._notifier.subscriptions or self._notifier.has_audience()
            may_have_jitter = entry.flags & COMPUTED_TICKS
            if not (is_heard or may_have_jitter) and ledger.open_skips(
                entry, first, last, number, code, offset, self.history
            ):
                return None
        jitter = host.timeline(entry, entry.spec).due(first) - first if entry.spec.jitter and not manual else 0
        skipped = RunRecord(first, last, number, jitter, UNSET, UNSET, host.offset, 0, code, manual, more, why)
        record, closed, opened = ledger.append_skip(entry, skipped, now, self.history)
        if closed is not None:
            self._notifier.closed(entry, closed)
        self._notifier.skipped(entry, record, opened, now)
        return record

    def end(self, run: ActiveRun, record: RunRecord, exc: BaseException | None, now: int) -> None:
        """Append the *record* of *run* to the ledger, and tell everybody who wants to know."""
        entry = run.entry
        entry.run = None
        run.task = run.context = None  # Both hold the run: do not leave a cycle to the garbage collector.
        closed = ledger.append(entry, record, now, self.history)
        if entry.alarm:
            self._watchdog.drop_alarm(entry)
        if entry.flags:
            self._after_end(entry, record, exc)
        if closed is not None:
            self._notifier.closed(entry, closed)
        if self.notify_success or record.code != SUCCESS or entry.flags & FAILING:
            self._notifier.ended(entry, record, exc, now)
        self.failures.ended(entry, record)
        if entry.flags & EXPECTED:
            self.expectations.ended(entry, record)
        if entry.flags & REMOVE_WHEN_OVER and entry.is_over and not entry.flags & QUEUED:
            entry.flags |= REMOVED
        if entry.flags & REMOVED:
            self.forget(entry)

    def forget(self, entry: TaskEntry) -> None:
        """Drop a removed task."""
        self._entries.pop(entry.name, None)
        self._notifier.forget(entry)
        self.failures.forget(entry)
        self.expectations.forget(entry)
        self.shown.discard(entry)
        self.on_forgotten(entry)

    def _after_end(self, entry: TaskEntry, record: RunRecord, exc: BaseException | None) -> None:
        if entry.flags & HUNG:
            entry.flags &= ~HUNG
            log.warning("task %r: the hung run has ended; ticks run again", entry.name, extra=facts_of(entry, record))
        if entry.flags & QUEUED:
            self.on_idle(entry)
        if entry.flags & HAS_WAITERS:
            entry.flags &= ~HAS_WAITERS
            waiters, entry.waiters = entry.waiters or (), None
            run = self._notifier.report(entry, record, exc)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(run)


def record_of(
    run: ActiveRun, outcome: Outcome, reason: Reason | None, exc: BaseException | None, now: int
) -> RunRecord:
    """Return the record of *run*, which ends now."""
    tick, jitter = run.tick, run.due - run.tick
    error = None if outcome is Outcome.SUCCEEDED else run.cancel_reason
    # The CancelledError of a cancelled run adds nothing to its cause.
    if outcome is Outcome.FAILED and exc is not None:
        asked, final = run.cause, run.final
        why = _why_no_retry(run.spec, run.attempt, exc, asked, stopping=final)
        error = shortened(f"{describe_exception(exc)}{advice_for(exc) if run.spec.threaded else ''}{why}")
    elif exc is not None and error is None and not (run.cause is not None and is_a(exc, asyncio.CancelledError)):
        error = describe_exception(exc)
    code, manual, offset = CODES[outcome, reason], run.kind is MANUAL, run.entry.host.offset
    delivery, fence = (1, None) if run.claim is None else (run.claim.delivery, run.claim.fence)
    return RunRecord(
        tick, tick, 1, jitter, run.started, now, offset, run.attempt, code, manual, False, error, delivery, fence
    )


def _why_no_retry(
    spec: TaskSpec, attempt: int, exc: BaseException, asked: Reason | None = None, *, stopping: bool
) -> str:
    """Return in words why no attempt follows number *attempt*, which failed with *exc*; "" if none was wanted."""
    if not spec.retries or not attempt:
        return ""
    if attempt > spec.retries:
        return f" (gave up after {attempt} attempts)"
    if asked is not None:
        why = f"it was asked to end ({asked.value})"
    elif (other := other_than(spec.retry_on, exc)) is not None:
        why = f"{type(other).__name__} {'is not in retry_on' if is_a(other, Exception) else 'is no Exception'}"
    elif stopping:
        why = "the scheduler is stopping"
    else:
        why = "the deadline comes before the next attempt"
    return f" (attempt {attempt} of {spec.retries + 1}, not retried: {why})"
