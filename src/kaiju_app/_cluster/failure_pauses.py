"""Duty: pause tasks in the store after several unsuccessful runs in a row, on whichever instances they were.

It comes before the duty that reports endings. Until then the claim keeps other instances from the task, so no tick runs
between the last failure and the pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kaiju_app._core.clock import NEVER
from kaiju_app._core.logs import facts
from kaiju_app._core.model import Outcome, Reason
from kaiju_app._engine.events import FAILURE_HOLDER, log, row_of_failures
from kaiju_app._engine.policy import verdict
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores._record import LedgerRow

from .claim import Claim
from .holds import Holds
from .ports import Registry
from .store_client import StoreClient

SEARCHED_ROWS = 100  # As many as the store keeps of a task.


@dataclass(eq=False, repr=False)
class FailurePauses:
    """The pauses that unsuccessful runs of this instance may lead to."""

    _client: StoreClient
    _holds: Holds
    _registry: Registry
    _pending: dict[Claim, tuple[int, str]] = field(default_factory=dict)

    def put(self, claim: Claim, limit: int, what: str) -> None:
        """Pause the task of *claim*, whose run was unsuccessful, if *limit* runs in a row were.

        Args:
            what: How that run ended, as text for people.
        """
        self._pending[claim] = limit, what

    @property
    def next_at(self) -> int:
        """Steady time at which there is something to do; NEVER if there is nothing."""
        return 0 if self._pending else NEVER

    async def run(self) -> None:
        """Ask the store for the runs before, and pause the tasks that have reached their limits."""
        for claim, (limit, what) in list(self._pending.items()):
            try:
                rows = await self._client.history(claim.name, SEARCHED_ROWS)
                number = 1 + failures_in_a_row([row for row in rows if row.fence != claim.fence])
                if number >= limit:
                    reason = row_of_failures(number, what)
                    paused = await self._holds.pause(claim.name, FAILURE_HOLDER, reason, None, unless=True)
                    self._registry.on_record(paused)
                    log.error(
                        "task %r: paused on all instances, after %s. Mend it, then await task.resume(): one more "
                        "failure pauses it again",
                        claim.name, reason, extra=facts(claim.name, claim.record.tick, fence=claim.fence),
                    )  # fmt: skip
            except StoreUnavailable:
                return  # It is tried again, before the ending is reported.
            self._pending.pop(claim, None)


def failures_in_a_row(rows: Sequence[LedgerRow]) -> int:
    """Return how many of the latest *rows*, newest last, are of unsuccessful runs since the last success."""
    number = 0
    for row in reversed(rows):
        found = verdict(Outcome(row.outcome), None if row.reason is None else Reason(row.reason))
        if found is True:
            break
        number += found is False
    return number
