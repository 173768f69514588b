"""Counts unsuccessful runs in a row, of the tasks that are paused after a number of them."""

from __future__ import annotations

from collections.abc import Callable

from . import policy
from .entry import TaskEntry
from .ledger import RunRecord


class Failures:
    """The unsuccessful runs in a row of one scheduler's tasks. A pause does not end the row, only a success does.

    Attributes:
        on_limit: Called with a task that has reached its limit, their number, and the last one. The engine assigns it.
    """

    on_limit: Callable[[TaskEntry, int, RunRecord], None]

    def __init__(self) -> None:
        self._limits: dict[TaskEntry, int] = {}
        self._counts: dict[TaskEntry, int] = {}

    def limit(self, entry: TaskEntry, limit: int) -> None:
        """Report when *limit* runs of *entry* in a row were unsuccessful, and at each further one."""
        self._limits[entry] = limit

    def ended(self, entry: TaskEntry, record: RunRecord) -> None:
        """Count a run that has ended. A success that follows no failure need not be reported."""
        limit = self._limits.get(entry)
        if limit is None:
            return
        verdict = policy.verdict(record.outcome, record.reason)
        if verdict is True:
            self._counts.pop(entry, None)
        elif verdict is False:
            count = self._counts[entry] = self._counts.get(entry, 0) + 1
            if count >= limit:
                self.on_limit(entry, count, record)

    def forget(self, entry: TaskEntry) -> None:
        """Forget a removed task."""
        self._limits.pop(entry, None)
        self._counts.pop(entry, None)
