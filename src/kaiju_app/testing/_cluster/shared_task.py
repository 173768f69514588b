"""What became of the ticks of a cluster task on all instances, for the assertions of the test kit."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping

from kaiju_app._cluster.ledger_rows import run_of
from kaiju_app.errors import UnknownTask
from kaiju_app.scheduler import Outcome, Run

from .store import SharedStore, at_once


class SharedTask:
    """A cluster task as the store knows it: its runs on all instances, for ``ran()`` and ``ledger()``.

    Attributes:
        name: Its name.
    """

    def __init__(self, store: SharedStore, name: str) -> None:
        names = [record.name for record in at_once(store.scan()).records]
        if name not in names:
            known = ", ".join(map(repr, names)) or "none yet"
            raise UnknownTask(name, f"the cluster tasks in the store are: {known}. Local tasks are not in it")
        self.name = name
        self._store = store

    def __repr__(self) -> str:
        return f"<SharedTask {self.name!r}>"

    @property
    def running(self) -> bool:
        """Whether an instance has a claim on it, by the store."""
        return self.owner is not None

    @property
    def owner(self) -> int | None:
        """The number of the instance that has a claim on it, by the store; None if none has."""
        owner = at_once(self._store.scan([self.name])).records[0].owner
        return None if owner is None else ord(owner[0]) - ord("a")

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many ticks have had each outcome."""
        counts: Counter[Outcome] = Counter()
        for run in self.history():
            counts[run.outcome] += run.count
        return counts

    def history(self) -> list[Run]:
        """Return what became of each tick, oldest first."""
        return [run_of(row) for row in at_once(self._store.history(self.name, sys.maxsize))]
