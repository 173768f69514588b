"""DO, with others: holds, which keep a task from being claimed by any instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._asking import Asking, simply
from ._claims import OwnHold
from ._timing import LeaseTiming
from .errors import StoreUnavailable
from .stores._record import Record, Row, StoredHold
from .stores._store import Store
from .stores._transitions import hold, unhold


class Holding(Asking):
    """The holds of one instance."""

    def __init__(self, store: Store, me: str, timing: LeaseTiming, steady: Callable[[], int]) -> None:
        super().__init__(store, me, timing, steady)
        self.holds: dict[str, OwnHold] = {}
        self._numbers = 0

    async def hold(self, name: str, holder: str, reason: str | None) -> tuple[OwnHold, Record]:
        """Keep a task from being claimed by any instance; return the record, which tells of a run in progress.

        Raises:
            StoreUnavailable: It is not known whether the hold stands; it is taken back.
            KeyError: The store has no such task.
        """
        await self._let_go(name)
        self._numbers += 1
        key = f"{self.me}#{self._numbers}"
        sent = self._steady()

        def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
            stored = StoredHold(holder, reason, now + self.ttl)
            return None if old is None else (hold(old, now, key, stored), ())

        answered = await self._ask(self._store.change(name, transition))
        if answered is None:
            self.unhold(OwnHold(name, key, sent))
            raise StoreUnavailable(self._store.name, f"it did not answer when task {name!r} was to be held")
        record = answered[0].new
        if record is None:
            raise KeyError(name)
        held = self.holds[key] = OwnHold(name, key, sent + self.ttl)
        self._watch_deadlines()
        self._wake.set()
        return held, record

    def unhold(self, held: OwnHold) -> None:
        """Let a task be claimed again; the store is told so until it has heard it."""
        self.holds.pop(held.key, None)
        self._numbers += 1
        self._say((held.name, -self._numbers), simply(lambda old, now: unhold(old, now, held.key)))

    async def is_running(self, name: str, fence: int) -> bool:
        """Return whether the store still knows the claim of *fence*.

        Raises:
            StoreUnavailable: It did not answer.
        """
        answered = await self._ask(self._store.scan([name]))
        if answered is None:
            raise StoreUnavailable(self._store.name, f"it did not answer what became of a run of task {name!r}")
        records = answered[0].records
        return bool(records) and records[0].holder is not None and records[0].fence == fence

    def _lose_hold(self, held: OwnHold) -> None:
        if not held.lost:
            held.lost = True
            self.holds.pop(held.key, None)
            self._on_lost_hold(held)

    async def _let_go(self, name: str) -> None:
        """Give back a claim of the task whose run has not begun, before a hold has to wait for it."""
        raise NotImplementedError

    def _watch_deadlines(self) -> None:
        """Have the next deadline looked at in time."""
        raise NotImplementedError

    def _on_lost_hold(self, held: OwnHold) -> None:
        """Tell whoever is inside."""
        raise NotImplementedError
