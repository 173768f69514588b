"""Rows of a store's ledger, from the records of a scheduler, and to what the public sees."""

from __future__ import annotations

from ._clock import utc
from ._following import Passed
from ._grid import Grid
from ._model import Outcome, Reason, Run
from ._record import Record
from .stores._record import Row
from .stores._transitions import scheduler_of


def row_of(name: str, kept: Record, me: str) -> Row:
    """Return the row of a run of the task *name* on the instance *me*."""
    offset, reason = kept.offset, kept.reason
    return Row(
        name,
        kept.first + offset,
        kept.take,
        kept.first + offset,
        1,
        kept.outcome.value,
        reason and reason.value,
        kept.finished + offset,
        started=kept.started + offset,
        error=kept.error,
        manual=kept.manual,
        attempts=kept.attempts,
        fence=kept.fence,
        instance=me,
        jitter=kept.jitter,
    )


def skips_row(name: str, passed: Passed, now: int, me: str, grid: Grid, take: int = 1, why: str | None = None) -> Row:
    """Return the row of ticks of the *grid* that do not run; *take*: the claim of the first of them."""
    return Row(
        name,
        passed.first,
        take,
        passed.last,
        passed.number,
        Outcome.SKIPPED.value,
        passed.reason.value,
        now,
        more=passed.more,
        error=why,
        instance=me,
        jitter=grid.due(passed.first) - passed.first,
    )


def run_of(row: Row) -> Run:
    """Return a row as the public sees it."""
    return Run(
        task=row.name,
        scheduled_at=utc(row.first),
        last_scheduled_at=utc(row.last),
        count=row.count,
        more=row.more,
        due=utc(row.first + row.jitter),
        started_at=None if row.started is None else utc(row.started),
        finished_at=utc(row.finished),
        outcome=Outcome(row.outcome),
        reason=None if row.reason is None else Reason(row.reason),
        error=row.error,
        attempts=row.attempts,
        take=row.take,
        instance=scheduler_of(row.instance or ""),
        fence=row.fence,
        manual=row.manual,
    )
