"""Duty: find out whether a task that seems to be overdue has succeeded on another instance."""

from __future__ import annotations

from collections.abc import Callable

from kaiju_app._core.clock import NEVER
from kaiju_app._core.model import Outcome
from kaiju_app._engine.entry import CLUSTER
from kaiju_app._engine.expectations import Expectation, Expectations
from kaiju_app.errors import StoreUnavailable

from .store_client import StoreClient

SEARCHED_ROWS = 100  # As many as the store keeps of a task.
RECHECK = 10_000_000  # Between two looks at what is overdue: another instance may run it.


class Successes:
    """Asks the store for the latest success of the tasks of which one is expected.

    Args:
        wake: Lets the coordinator look at its duties.
    """

    def __init__(self, client: StoreClient, wake: Callable[[], None]) -> None:
        self._client = client
        self._wake = wake
        self._asked: dict[Expectation, None] = {}
        self._overdue: dict[Expectation, None] = {}
        self._recheck_at = 0
        self._expectations: Expectations | None = None

    def attach(self, expectations: Expectations) -> None:
        """Answer for those of the *expectations* that are of shared tasks: the last success may be long ago."""
        self._expectations = expectations
        expectations.ask_others = self._ask
        for each in expectations.by_entry.values():
            self._ask(each)

    def _ask(self, expectation: Expectation) -> bool:
        if not expectation.entry.flags & CLUSTER:
            return False
        self._asked[expectation] = None
        self._wake()
        return True

    @property
    def next_at(self) -> int:
        """Steady time at which there is something to do; NEVER if there is nothing."""
        return 0 if self._asked else self._recheck_at if self._overdue else NEVER

    async def run(self) -> None:
        """Ask about the tasks that seem to be overdue, and about those that are."""
        if self._expectations is None:
            return
        self._asked.update(self._overdue)
        for expectation in list(self._asked):
            try:
                rows = await self._client.history(expectation.entry.name, SEARCHED_ROWS)
            except StoreUnavailable:
                return  # It is asked again when the store is back.
            now = self._client.steady()
            shown = self._client.clock.at_least(now)
            if shown is None:
                return
            latest = max((row.finished_at for row in rows if row.outcome == Outcome.SUCCEEDED.value), default=None)
            self._asked.pop(expectation, None)
            if latest is not None:
                self._expectations.succeeded(expectation, now - (shown - latest))
            self._expectations.declare(expectation)
            self._overdue.pop(expectation, None)
            if expectation.overdue and self._expectations.by_entry.get(expectation.entry) is expectation:
                self._overdue[expectation] = None
        self._recheck_at = self._client.steady() + RECHECK
