"""Tells the log and the listeners how ticks end, after the record is in the ledger. Neither can harm a run."""

from __future__ import annotations

import logging
from datetime import datetime

from kaiju_app._core.clock import utc
from kaiju_app._core.logs import facts, for_log, logger
from kaiju_app._core.model import Outcome, Overdue, Reason, Run
from kaiju_app._core.run_id import run_id
from kaiju_app._core.text import describe_exception, shortened
from kaiju_app.errors import safe_repr

from .entry import CLUSTER, FAILING, ActiveRun, TaskEntry
from .ledger import ENDINGS, UNSET, RunRecord
from .listeners import Subscription
from .throttled import ThrottledMessage

log = logger("kaiju_app.scheduler")

OVERLOADED = "the loop is overloaded"
NOBODY_RAN_IT = f"no instance was running, or the store was unavailable, or {OVERLOADED}"


FAILURE_HOLDER = "pause_after_failures"


def row_of_failures(number: int, last: str) -> str:
    """Return why a task is paused after unsuccessful runs; *last* says how the last one ended."""
    return shortened(f"{number} unsuccessful run{'s in a row' if number > 1 else ''}, the last one {last}")


def never_runs(entry: TaskEntry, rule: str, now: datetime) -> None:
    """Warn that the *rule* of a new or rescheduled task has no tick after *now*."""
    log.warning(
        "task %r has no tick after %s and will never run: %s; remove it or give it a later time. A moment that passed "
        "less than grace_s ago would run",
        entry.name, now, rule, extra=facts(entry.name),
    )  # fmt: skip


class Notifier:
    """Tells the log and the listeners of one scheduler how ticks ended.

    Args:
        instance: Identity of the scheduler, for the records.

    Attributes:
        subscriptions: Those who listen, in the order in which they subscribed.
        suppressed: Whether missed ticks are not logged now, because their cause is about to be.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.subscriptions: list[Subscription] = []
        self._success_is_heard = False
        self._repeated: dict[object, ThrottledMessage] = {}
        self.suppressed = False

    def subscribe(self, subscription: Subscription) -> None:
        """Tell the listener of *subscription* of every Run that it wants to hear of, from now on."""
        self._set([*self.subscriptions, subscription])

    def unsubscribe(self, subscription: Subscription) -> None:
        """End *subscription*."""
        self._set([other for other in self.subscriptions if other is not subscription])

    def _set(self, subscriptions: list[Subscription]) -> None:
        self.subscriptions = subscriptions  # A new list: one of them may be ended while they are told.
        outcomes = [each.outcomes for each in subscriptions if not each.overdue]
        self._success_is_heard = any(each is None or Outcome.SUCCEEDED in each for each in outcomes)

    def has_audience(self) -> bool:
        """Return whether anybody wants to know of a plain success; the level of the log may change at any time."""
        return self._success_is_heard or log.isEnabledFor(logging.DEBUG)

    def forget(self, entry: TaskEntry) -> None:
        """Drop the repeated messages of a removed task."""
        self._repeated.pop(entry, None)
        self._repeated.pop((entry, "rule"), None)
        self._repeated.pop((entry, "result"), None)

    def ended(self, entry: TaskEntry, record: RunRecord, exc: BaseException | None, now: int) -> None:
        """Tell how a run ended."""
        outcome, reason = ENDINGS[record.code]
        if outcome is Outcome.SUCCEEDED:
            self._succeeded(entry, record, now)
        elif reason in (Reason.SHUTDOWN, Reason.REQUESTED) and outcome is not Outcome.FAILED:
            log.info("%s: %s", _subject(entry, record), what(record), extra=facts_of(entry, record))
        else:
            self._failed(entry, record, exc, now)
        self._tell(entry, record, exc)

    def skipped(self, entry: TaskEntry, record: RunRecord, opened: bool, now: int) -> None:
        """Tell that ticks were skipped. Listeners are called when a record is *opened*, and when it is ``closed()``."""
        reason = record.reason
        if reason is Reason.MISSED or reason is Reason.BACKLOG:
            # Counted for all tasks together: a blocked loop delays all of them.
            repeated = self._repeat(reason, now)
            if not self.suppressed and repeated.due(now):
                log.warning(
                    "%s: skipped (%s): %d tick(s) could not run in time. For all tasks together: %d time(s) in %.3g s. "
                    "Likely cause: %s",
                    _subject(entry, record), reason.value, record.number, repeated.count, (now - repeated.since) / 1e6,
                    NOBODY_RAN_IT if entry.flags & CLUSTER else OVERLOADED, extra=facts_of(entry, record),
                )  # fmt: skip
        elif opened and log.isEnabledFor(logging.DEBUG):
            why = "" if record.error is None else f": {record.error}"
            log.debug("%s: skipped (%s)%s", _subject(entry, record), reason, why, extra=facts_of(entry, record))
        if opened:
            self._tell(entry, record)

    def closed(self, entry: TaskEntry, record: RunRecord) -> None:
        """Tell the listeners that a record of skips is complete."""
        self._tell(entry, record)

    def tell_overdue(self, event: Overdue) -> None:
        """Tell the listeners that a task is overdue, or that it has succeeded again."""
        for each in self.subscriptions:
            if each.wants_overdue(event.task):
                each.tell(event)

    def result_refused(self, entry: TaskEntry, record: RunRecord, now: int) -> None:
        """Log that the store does not keep what a run returned; the error of its *record* says why."""
        if self._repeat((entry, "result"), now).due(now):
            log.warning("%s: %s", _subject(entry, record), record.error, extra=facts_of(entry, record))

    def trigger_failed(self, entry: TaskEntry, failure: BaseException, now: int) -> None:
        """Log that the trigger of *entry* raised, or returned something impossible."""
        if self._repeat((entry, "rule"), now).due(now):
            log.error(
                "task %r: its trigger %s failed: %s. It will be asked again every minute",
                entry.name, safe_repr(entry.spec.trigger), describe_exception(failure), exc_info=for_log(failure),
                extra=facts(entry.name),
            )  # fmt: skip

    def _succeeded(self, entry: TaskEntry, record: RunRecord, now: int) -> None:
        if entry.flags & FAILING:
            entry.flags &= ~FAILING
            failures = self._repeated.pop(entry, None)
            if failures is not None:
                log.info(
                    "%s: succeeded again after %d unsuccessful run(s) in %.3g s",
                    _subject(entry, record), failures.count, (now - failures.since) / 1e6,
                    extra=facts_of(entry, record),
                )  # fmt: skip
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", _subject(entry, record), what(record), extra=facts_of(entry, record))

    def _failed(self, entry: TaskEntry, record: RunRecord, exc: BaseException | None, now: int) -> None:
        entry.flags |= FAILING
        failures = self._repeat(entry, now)
        if not failures.due(now):
            return
        if failures.count == 1:
            log.error(
                "%s: %s; the schedule continues%s", _subject(entry, record), what(record), _why_cut(entry, record),
                exc_info=for_log(exc), extra=facts_of(entry, record),
            )  # fmt: skip
            return
        log.error(
            "%s: %s; %d unsuccessful runs in a row, in %.3g s%s",
            _subject(entry, record), what(record), failures.count, (now - failures.since) / 1e6,
            _why_cut(entry, record), extra=facts_of(entry, record),
        )  # fmt: skip

    def report(self, entry: TaskEntry, record: RunRecord, exc: BaseException | None = None) -> Run:
        """Return the *record* of a tick that has just ended, with what the function returned or raised."""
        returned = entry.result if record.outcome is Outcome.SUCCEEDED else None
        return record.run(entry.name, self.instance, returned, exc)

    def _tell(self, entry: TaskEntry, record: RunRecord, exc: BaseException | None = None) -> None:
        run: Run | None = None
        for each in self.subscriptions:
            if each.wants(entry.name, record.outcome):
                run = run or self.report(entry, record, exc)
                each.tell(run)

    def _repeat(self, key: object, now: int) -> ThrottledMessage:
        repeated = self._repeated.get(key)
        if repeated is None:
            repeated = self._repeated[key] = ThrottledMessage(now)
        return repeated


def facts_of(entry: TaskEntry, record: RunRecord) -> dict[str, object]:
    """Return the ``extra`` of a log record about an ending."""
    delivery = record.delivery if entry.flags & CLUSTER else None
    tick, ran = record.first + record.offset, record.started != UNSET
    identity = run_id(entry.name, entry.host.instance, record.started, record.fence) if ran else None
    return facts(entry.name, tick, record.attempts, record.outcome, record.reason, delivery, record.fence, identity)


def facts_of_run(run: ActiveRun) -> dict[str, object]:
    """Return the ``extra`` of a log record about a run in progress."""
    tick, claim = run.tick + run.entry.host.offset, run.claim
    if claim is None:
        return facts(run.entry.name, tick, run.attempt, reason=run.cause, run_id=run.run_id)
    return facts(run.entry.name, tick, run.attempt, None, run.cause, claim.delivery, claim.fence, run.run_id)


def _why_cut(entry: TaskEntry, record: RunRecord) -> str:
    """Return which option cut a run, and what else there is, for the person who did not expect it."""
    spec = entry.spec
    if record.reason is Reason.REPLACED:
        return (
            ". The policy is CANCEL, the default of an async function: the next tick, or a run_now(), ends a run that "
            "is in progress. Otherwise use policy=ExecPolicy.SKIP (the tick is skipped), WAIT (it runs afterwards) or "
            "SHIELD (nothing ends a run), or a longer interval, or let max_timeout_s end the run earlier"
        )
    if record.reason is Reason.DEADLINE and spec.max_timeout:
        return f". That is its limit, max_timeout_s={spec.max_timeout / 1e6:g}"
    if record.reason is Reason.DEADLINE:
        return f". That is the default limit of policy={spec.policy.name}: max_timeout_s sets another one"
    return ""


def _subject(entry: TaskEntry, record: RunRecord) -> str:
    return f"task {entry.name!r}, tick {utc(record.first + record.offset).isoformat()}"


def what(record: RunRecord) -> str:
    """Return how a run ended, as text for people."""
    text = record.outcome.value if record.reason is None else f"{record.outcome.value} ({record.reason.value})"
    if record.started != UNSET:
        text += f" after {(record.finished - record.started) / 1e6:.3g} s"
    if record.attempts > 1 and record.outcome is not Outcome.FAILED:  # Its error says it.
        text += f" and {record.attempts} attempts"
    return text if record.error is None else f"{text}: {record.error}"
