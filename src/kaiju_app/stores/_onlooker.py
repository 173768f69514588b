"""A store seen by somebody who runs no task: it is read, and changed where an operator asks for that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kaiju_app._core.ledger_query import LedgerQuery

from ._answers import ChangeResult, Claimed, Instance, LedgerPage, Life, Snapshot
from ._base import Store
from ._cas import Transition
from ._record import LedgerRow, TaskRecord
from ._selection import ClaimQuery


class Onlooker(Store):
    """Another store, without what an instance does to it by itself.

    1. A heartbeat is not recorded, and neither is its end: other instances leave no tasks to an onlooker, and nobody
       waits for its answers.
    2. Nothing is claimed, taken over from instances that died, or deleted because it is old.
    3. Neither a file nor a table is made, migrated or renamed.
    4. What operators ask for is a change like any other: a pause, its end, an extra run.

    Args:
        store: The store, which nobody else uses.
    """

    is_onlooker = True

    def __init__(self, store: Store) -> None:
        store.look_only()
        self._store = store
        self.name, self.app = store.name, store.app
        self.rows_kept, self.rows_age = store.rows_kept, store.rows_age

    async def open(self) -> None:
        """Open the store.

        Raises:
            InvalidArgument: No instance has prepared it, or another version has.
        """
        await self._store.open()

    async def close(self) -> None:
        """Release all resources."""
        await self._store.close()

    async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
        """Return the records with these *names*, or all."""
        return await self._store.scan(names, only_active=only_active)

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        """Replace *old* by *new* and add *rows*."""
        return await self._store.swap(old, new, rows)

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply transitions to the records of their names."""
        return await self._store.change_each(transitions)

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when something may have changed, or after *timeout_s*."""
        await self._store.wait_for_change(timeout_s)

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task."""
        return await self._store.history(name, limit)

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for."""
        return await self._store.runs(query)

    async def lives(self) -> list[Life]:
        """Return from when to when instances were heard of."""
        return await self._store.lives()

    async def lives_near(self, since: int, until: int) -> list[Life]:
        """Return from when to when instances were heard of: those around a span of time."""
        return await self._store.lives_near(since, until)

    async def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*."""
        return await self._store.instances(ttl)

    async def delete_history(self, name: str) -> int:
        """Delete all rows of a task."""
        return await self._store.delete_history(name)

    # --- what an instance does by itself ---

    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*; record nothing."""
        return await self._store.instances(ttl)

    async def note(self, me: str, text: str) -> bool:
        """Keep nothing: nobody has heard of this instance."""
        return True

    async def deregister(self, me: str) -> None:
        """Do nothing: nobody has heard of this instance."""

    async def claim(self, query: ClaimQuery) -> Claimed:
        """Claim nothing."""
        return Claimed((await self._store.scan(())).now, [], None, [])

    async def forgettable(self, unseen_for: int, limit: int) -> list[str]:
        """Return nothing to delete."""
        return []

    async def prune(self, *, keep: int, age: int) -> int:
        """Delete nothing."""
        return 0
