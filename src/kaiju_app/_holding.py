"""DO, with others: holds, which keep tasks from being claimed by any instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._asking import Asking, simply
from ._claims import OwnHold
from ._timing import LeaseTiming
from .errors import StoreUnavailable
from .stores._record import Record, Row, StoredHold
from .stores._store import Store, Transition
from .stores._transitions import hold, unhold

PAUSE = "#pause"  # No instance's: it outlives them.


class Holding(Asking):
    """The holds of one instance, and the pauses, which are nobody's."""

    def __init__(self, store: Store, me: str, timing: LeaseTiming, steady: Callable[[], int]) -> None:
        super().__init__(store, me, timing, steady)
        self.holds: dict[str, OwnHold] = {}
        self._making: set[str] = set()
        self._numbers = 0

    async def hold(self, names: Sequence[str], holder: str, reason: str | None) -> list[tuple[OwnHold, Record]]:
        """Keep tasks from being claimed by any instance; return their records, which tell of runs in progress.

        Raises:
            StoreUnavailable: It is not known whether the holds stand; they are taken back.
        """
        await self._let_go(names)
        keys: dict[str, str] = {}
        for name in names:
            self._numbers += 1
            keys[name] = f"{self.me}#{self._numbers}"
        self._making |= set(keys.values())
        sent = self._steady()
        try:
            answered = await self._ask(
                self._store.change_each({name: self._placing(key, holder, reason) for name, key in keys.items()})
            )
            records = {} if answered is None else {name: changed.new for name, changed in answered[0].items()}
            made = [(OwnHold(name, key, sent + self.ttl), records.get(name)) for name, key in keys.items()]
            missing = [held.name for held, record in made if record is None]
            if missing:
                for held, _ in made:
                    self.unhold(held)
                what = "did not answer when" if answered is None else "has no record, or one that is locked, when"
                raise StoreUnavailable(self._store.name, f"it {what} task {missing[0]!r} was to be held")
            self.holds |= {held.key: held for held, _ in made}
        finally:
            self._making -= set(keys.values())
        self._watch_deadlines()
        self._wake.set()
        return [(held, record) for held, record in made if record is not None]

    def _placing(self, key: str, holder: str, reason: str | None) -> Transition:
        ttl = self.ttl

        def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
            return None if old is None else (hold(old, now, key, StoredHold(holder, reason, now + ttl)), ())

        return transition

    def unhold(self, held: OwnHold) -> None:
        """Let a task be claimed again; the store is told so until it has heard it."""
        self.holds.pop(held.key, None)
        self._numbers += 1
        self._say((held.name, -self._numbers), simply(lambda old, now: unhold(old, now, held.key)))

    async def pause(self, name: str, holder: str, reason: str | None, length: int | None) -> Record:
        """Hold a task for *length* microseconds, or until ``resume()``; return its record.

        Raises:
            StoreUnavailable: It is not known whether it is paused.
        """

        def paused(old: Record, now: int) -> Record:
            return hold(old, now, PAUSE, StoredHold(holder, reason, None if length is None else now + length, False))

        await self._let_go([name])
        return await self._changed(name, simply(paused), "to be paused")

    async def resume(self, name: str) -> Record:
        """End the pause of a task; return its record.

        Raises:
            StoreUnavailable: It is not known whether it is paused.
        """
        return await self._changed(name, simply(lambda old, now: unhold(old, now, PAUSE)), "to be resumed")

    async def _changed(self, name: str, transition: Transition, what: str) -> Record:
        changed = await self._change(name, transition)
        record = None if changed is None else changed.new or changed.old
        if record is None:
            raise StoreUnavailable(self._store.name, f"it did not answer when task {name!r} was {what}")
        return record

    def _end_unknown(self, known: set[tuple[str, str]]) -> None:
        """End holds that the store has as this instance's, and nobody here made or still wants."""
        for name, key in known:
            if key not in self.holds and key not in self._making:
                self.unhold(OwnHold(name, key, 0))

    def _lose_hold(self, held: OwnHold) -> None:
        if not held.lost:
            held.lost = True  # It is renewed all the same, until whoever is inside has come out.
            self._on_lost_hold(held)

    async def _let_go(self, names: Sequence[str]) -> None:
        """Give back claims of tasks whose runs have not begun, before a hold has to wait for them."""
        raise NotImplementedError

    def _watch_deadlines(self) -> None:
        """Have the next deadline looked at in time."""
        raise NotImplementedError

    def _on_lost_hold(self, held: OwnHold) -> None:
        """Tell whoever is inside."""
        raise NotImplementedError
