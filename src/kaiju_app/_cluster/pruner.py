"""Duty: delete from the store what nobody needs any more, for all instances."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from zlib import crc32

from kaiju_app._core.text import listed
from kaiju_app._engine.events import log
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._transitions import is_forgettable

from .store_client import MAX_PER_CALL, StoreClient

HOUR = 3_600_000_000
INTERVAL = HOUR
FIRST_DELAY = 300_000_000  # Five minutes: not while everything else starts.
UNKNOWN_FOR = 7 * 24 * HOUR  # A record goes when no instance has known its task for a week.
BREATH = 100_000  # Between two calls, if there is much to delete.
NAMED = 5  # Deleted tasks named in one line of the log.


class Pruner:
    """Deletes records of tasks that no instance knows any more, and old rows of the ledger.

    Attributes:
        next_at: Steady time of the next run.
    """

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self.next_at = client.steady() + FIRST_DELAY + crc32(client.me.encode()) % FIRST_DELAY
        self._pruning: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Delete what nobody needs any more."""
        client = self._client
        self.next_at = client.steady() + INTERVAL
        names = await client.call("forgettable", client.store.forgettable(UNKNOWN_FOR, MAX_PER_CALL))
        if names:
            await self._delete(names)
        if names is not None and len(names) == MAX_PER_CALL:
            self.next_at = client.steady() + BREATH  # Leases are renewed meanwhile.
        else:
            self._pruning = asyncio.ensure_future(self._prune_ledger())

    async def _delete(self, names: list[str]) -> None:
        client = self._client
        answered = await client.call("change_each", client.store.change_each(dict.fromkeys(names, _forgetting)))
        deleted = [name for name, changed in (answered or {}).items() if changed.done]
        if deleted:
            shown = listed([repr(name) for name in deleted], NAMED)
            log.info(
                "store %s: %d record(s) deleted of tasks that no instance has known for %d days: %s; their history is "
                "kept", client.store.name, len(deleted), UNKNOWN_FOR // (24 * HOUR), shown,
            )  # fmt: skip

    async def _prune_ledger(self) -> None:
        store = self._client.store
        try:
            await store.prune(keep=store.rows_kept, age=store.rows_age)
        except StoreUnavailable as exc:
            log.info("old rows of the ledger will be deleted an hour later: %s", exc)


def _forgetting(old: TaskRecord | None, now: int) -> tuple[None, Sequence[LedgerRow]] | None:
    return (None, ()) if old is not None and is_forgettable(old, now, UNKNOWN_FOR) else None
