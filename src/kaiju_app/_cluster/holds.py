"""Holds in the store, which keep every instance from claiming a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores._answers import ChangeResult
from kaiju_app.stores._cas import Transition, simply
from kaiju_app.stores._record import StoredHold, TaskRecord
from kaiju_app.stores._recovery import hold_again
from kaiju_app.stores._requests import ask_for_end
from kaiju_app.stores._transitions import hold, unhold

from .claim import OwnedHold
from .part import Part
from .store_client import RecordLost

PAUSE = "#pause"  # The key of a pause. It belongs to no instance, so it outlives them all.


@dataclass(eq=False, repr=False)
class Holds(Part):
    """The holds of this instance, and pauses, which belong to no instance."""

    _placing: set[str] = field(default_factory=set)
    _numbers: int = 0

    async def place(self, names: Sequence[str], holder: str, reason: str | None) -> list[tuple[OwnedHold, TaskRecord]]:
        """Keep tasks from being claimed by any instance; return their records, which tell of runs in progress.

        Raises:
            StoreUnavailable: Nobody knows whether the holds stand; they are taken back.
        """
        keys: dict[str, str] = {}
        for name in names:
            self._numbers += 1
            keys[name] = f"{self._client.me}#{self._numbers}"
        self._placing |= set(keys.values())
        sent = self._client.steady()
        try:
            changes = {name: _placing(key, holder, reason, self._client.lease.ttl) for name, key in keys.items()}
            answered = await self._client.call("change_each", self._client.store.change_each(changes))
            records = {name: changed.new for name, changed in (answered or {}).items()}
            deadline = sent + self._client.lease.ttl
            made = [
                (OwnedHold(name, key, deadline, holder, reason, record.fence if record else 0), record)
                for name, key in keys.items()
                for record in [records.get(name)]
            ]
            missing = [held.name for held, record in made if record is None]
            if missing:
                for held, _ in made:
                    self.unhold(held)
                self._refuse(missing, records)
            self._own.holds |= {held.key: held for held, _ in made}
        finally:
            self._placing -= set(keys.values())
        return [(held, record) for held, record in made if record is not None]

    def _refuse(self, missing: Sequence[str], records: Mapping[str, TaskRecord | None]) -> NoReturn:
        """Raise because there are no records to hold the tasks *missing*: *records* has None for those without one."""
        store = self._client.store.name
        lost = [name for name in missing if name in records]
        if lost:
            raise RecordLost(store, f"it has no record of task {lost[0]!r}")
        raise StoreUnavailable(store, f"no answer to the hold of task {missing[0]!r}, or its record is locked")

    async def place_again(self, gone: Iterable[OwnedHold]) -> Mapping[str, ChangeResult]:
        """Put holds back that the store has lost, unless a claim was made since; return what became of each task.

        A task is missing in the answer if nobody knows the effect.
        """
        by_name: dict[str, list[OwnedHold]] = {}
        for held in gone:
            by_name.setdefault(held.name, []).append(held)
        changes = {name: _placing_again(each, self._client.lease.ttl) for name, each in by_name.items()}
        return await self._client.call("change_each", self._client.store.change_each(changes)) or {}

    def unhold(self, held: OwnedHold) -> None:
        """Let a task be claimed again; the store is told until it has answered."""
        self._own.holds.pop(held.key, None)
        self._numbers += 1
        self._outbox.put((held.name, -self._numbers), simply(lambda old, now: unhold(old, now, held.key)))

    async def pause(
        self, name: str, holder: str, reason: str | None, length: int | None, *, unless: bool = False
    ) -> TaskRecord:
        """Hold a task for *length* microseconds, or until ``resume()`` if that is None; return its record.

        Args:
            unless: Leave a pause that there is already as it is.

        Raises:
            StoreUnavailable: Nobody knows whether it is paused.
        """

        def paused(old: TaskRecord, now: int) -> TaskRecord | None:
            if unless and PAUSE in old.holds:
                return None
            until = None if length is None else now + length
            return hold(old, now, PAUSE, StoredHold(holder, reason, until, leased=False, since=now))

        return await self._change(name, simply(paused), "the pause")

    async def resume(self, name: str) -> TaskRecord:
        """End the pause of a task; return its record.

        Raises:
            StoreUnavailable: Nobody knows whether it is paused.
        """
        return await self._change(name, simply(lambda old, now: unhold(old, now, PAUSE)), "the end of the pause")

    async def ask_for_end(self, name: str, holder: str, reason: str | None) -> TaskRecord | None:
        """Ask the owner of the run in progress to end it; return its record, or None if no run is in progress.

        Raises:
            StoreUnavailable: Nobody knows whether it was asked.
        """
        ttl = self._client.lease.ttl
        asked = simply(lambda old, now: ask_for_end(old, now, holder, reason, ttl))
        changed = await self._client.change_or_raise(name, asked, f"the request to end the run of task {name!r}")
        return changed.new

    async def _change(self, name: str, transition: Transition, what: str) -> TaskRecord:
        changed = await self._client.change_or_raise(name, transition, f"{what} of task {name!r}")
        record = changed.new or changed.old
        assert record is not None, "a record is never deleted by a hold"
        return record

    def end_unknown(self, stored: Iterable[tuple[str, str]]) -> None:
        """End holds that the store has as this instance's, but that nobody here has placed or still wants.

        Args:
            stored: The name of the task and the key of each.
        """
        for name, key in stored:
            if key not in self._own.holds and key not in self._placing:
                self.unhold(OwnedHold(name, key, 0))

    def lose(self, held: OwnedHold) -> None:
        """Tell whoever is inside the suspension that the hold has expired."""
        if not held.lost:
            held.lost = True  # It is still renewed until whoever is inside has come out.
            self._host.on_hold_lost(held)


def _placing_again(gone: Iterable[OwnedHold], ttl: int) -> Transition:
    def placed(old: TaskRecord, now: int) -> TaskRecord | None:
        new = old
        for held in gone:
            stored = StoredHold(held.holder, held.reason, now + ttl, since=now)
            new = hold_again(new, now, held.key, stored, held.fence) or new
        return None if new is old else new

    return simply(placed)


def _placing(key: str, holder: str, reason: str | None, ttl: int) -> Transition:
    return simply(lambda old, now: hold(old, now, key, StoredHold(holder, reason, now + ttl, since=now)))
