"""Rows of a store's ledger: made from the records of a scheduler, and turned into public ``Run`` objects."""

from __future__ import annotations

from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._engine.ledger import CODES, UNSET, RunRecord
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.stores._record import LedgerRow, TaskRecord, scheduler_of
from kaiju_app.triggers._timeline import Timeline

from .policy import SkippedTicks
from .result_codec import result_from_text


def row_of(claimed: TaskRecord, kept: RunRecord, me: str, result: str | None) -> LedgerRow:
    """Return the row for a run of what was *claimed* by the instance *me*, with its *result* as JSON text."""
    offset, reason = kept.offset, kept.reason
    return LedgerRow(
        claimed.name,
        kept.first + offset,
        kept.delivery,
        kept.first + offset,
        1,
        kept.outcome.value,
        reason and reason.value,
        kept.finished + offset,
        started_at=kept.started + offset,
        error=kept.error,
        manual=kept.manual,
        attempts=kept.attempts,
        fence=kept.fence,
        instance=me,
        jitter=kept.jitter,
        result=result,
        held_by=claimed.delayed_by,
    )


def skips_row(
    name: str, skipped: SkippedTicks, now: int, me: str, timeline: Timeline[TaskSpec], delivery: int = 1
) -> LedgerRow:
    """Return the row for ticks that do not run; *delivery* is the number of the claim of the first one."""
    return LedgerRow(
        name,
        skipped.first,
        delivery,
        skipped.last,
        skipped.number,
        Outcome.SKIPPED.value,
        skipped.reason.value,
        now,
        more=skipped.more,
        error=skipped.why,
        instance=me,
        jitter=timeline.due(skipped.first) - skipped.first,
    )


def run_of(row: LedgerRow) -> Run:
    """Return *row* as a public ``Run``."""
    outcome = Outcome(row.outcome), None if row.reason is None else Reason(row.reason)
    started = UNSET if row.started_at is None else row.started_at
    record = RunRecord(
        row.first_tick, row.last_tick, row.count, row.jitter, started, row.finished_at, 0, row.attempts, CODES[outcome],
        row.manual, row.more, row.error, row.delivery, row.fence,
    )  # fmt: skip
    return record.run(row.name, scheduler_of(row.instance or ""), result_from_text(row.result))
