"""A run of a cluster task that is over, and the ending that the store is told."""

from __future__ import annotations

from typing import NamedTuple

from kaiju_app._engine.spec import Kind, TaskSpec
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._record import LedgerRow, TaskRecord

from .claim import Claim
from .ledger_rows import skips_row
from .policy import SkippedTicks, next_tick, on_finish
from .task import ClusterEntry


class FinishedRun(NamedTuple):
    """A run that is over, with everything that decides what follows it; times are the store's.

    Attributes:
        spec: Its parameters, with the rule of its claim.
        cancelled: It was asked to end.
        hung: It did not end within the cancel grace.
        rows: The rows of the ledger for it, and for the ticks before it that do not run.
    """

    task: ClusterEntry
    claim: Claim
    spec: TaskSpec
    kind: Kind
    tick: int
    started: int
    now: int
    cancelled: bool
    hung: bool
    rows: tuple[LedgerRow, ...]

    def ending(self, me: str) -> tuple[FinishRequest, SkippedTicks | None]:
        """Return the ending by the rule of the claim, and the ticks after it that do not run."""
        return self._ending(me, self.spec, self.claim.record.schedule)

    def ending_by(self, me: str, record: TaskRecord) -> FinishRequest:
        """Return the ending by the rule that *record* has."""
        # A rule that this version cannot read: whoever gave it goes on from one more tick of the old rule.
        return self._ending(me, self.task.spec_of(record) or self.spec, record.schedule)[0]

    def _ending(self, me: str, spec: TaskSpec, text: str) -> tuple[FinishRequest, SkippedTicks | None]:
        record = self.claim.record
        if self.kind is Kind.MANUAL:
            return FinishRequest(record.name, record.fence, record.tick, text, None, self.rows), None
        found = on_finish(
            self.task.ticks(spec, self.tick), self.kind, self.tick, self.started, self.now,
            cancelled=self.cancelled, hung=self.hung,
        )  # fmt: skip
        ticks = self.task.ticks(spec)
        after = () if found.skipped is None else (skips_row(record.name, found.skipped, self.now, me, ticks),)
        following = next_tick(ticks, found.following, self.tick, self.now)
        rows = (*self.rows, *after)
        return FinishRequest(record.name, record.fence, record.tick, text, following, rows), found.skipped
