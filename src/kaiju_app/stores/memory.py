"""A store in the memory of one process: for tests, and the reference for the other stores."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from threading import Lock

from kaiju_app._core.calls import explain_init
from kaiju_app._core.clock import wall_us
from kaiju_app._core.ledger_query import LedgerQuery
from kaiju_app._core.validate import function

from ._answers import Instance, LedgerPage, Life, Snapshot
from ._base import LIVES_KEPT, ROWS_AGE_S, ROWS_KEPT, Store
from ._cas import active, name_of
from ._codec import storable_hold, storable_row
from ._record import LedgerRow, StoredHold, TaskRecord

_Key = tuple[int, bool, int]


@explain_init()
class MemoryStore(Store):
    """A store in a dict. Schedulers share it if they use the same object, in several loops or threads, too.

    Args:
        clock: Returns microseconds since the Unix epoch.
        history: How many ledger rows are kept for each task.
        history_age_s: Seconds after which a ledger row is deleted all the same, but for the newest one of its task.

    Raises:
        InvalidArgument: *clock* cannot be called, or another argument is not positive.
    """

    name = "memory"
    is_for_many = True

    def __init__(
        self,
        clock: Callable[[], int] = wall_us,
        *,
        history: int = ROWS_KEPT,
        history_age_s: float | timedelta = ROWS_AGE_S,
    ) -> None:
        self._clock = function("clock", clock, "time.time_ns")
        self.keep_rows(history, history_age_s)
        self._lock = Lock()
        self._records: dict[str, TaskRecord] = {}
        self._rows: dict[str, OrderedDict[_Key, LedgerRow]] = {}
        self._instances: dict[str, Instance] = {}
        self._lives: dict[str, Life] = {}
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    async def open(self) -> None:
        """Do nothing: a memory store is always open."""

    async def close(self) -> None:
        """Do nothing: the records live as long as the object."""

    async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
        """Return the records with these *names*, or all."""
        with self._lock:
            now = self._clock()
            known = self._records.keys() if names is None else self._records.keys() & set(names)
            records = [self._records[name] for name in sorted(known)]
        return Snapshot(now, active(records) if only_active else records)

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        """Replace *old* by *new* and add *rows*, if the rev of *old* is still stored."""
        name = name_of(old, new)
        with self._lock:
            stored = self._records.get(name)
            if (stored and stored.rev) != (old and old.rev):
                return False
            if new is None:
                del self._records[name]
            else:
                self._records[name] = new if not new.holds else new._replace(holds=_storable(new.holds))
            for row in rows:
                self._keep(row)
            waiting, self._waiting = self._waiting, {}
        for future, loop in waiting.items():
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(_wake, future)
        return True

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return at the next change, or after *timeout_s*."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting[future] = loop
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            with self._lock:
                self._waiting.pop(future, None)

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task, at most *limit*, newest last."""
        with self._lock:
            rows = list(self._rows.get(name, {}).values())
        return rows[-limit:] if limit > 0 else []

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for."""
        with self._lock:
            tasks = self._rows.values() if query.name is None else [self._rows.get(query.name, OrderedDict())]
            rows = sorted((row for each in tasks for row in each.values()), key=lambda row: row.place, reverse=True)
        if not rows:
            return LedgerPage([], None, None)
        wanted = (row for row in rows if query.wants(row.place, row.ending))
        return LedgerPage(list(islice(wanted, query.limit)), rows[-1].first_tick, rows[0].first_tick)

    async def delete_history(self, name: str) -> int:
        """Delete all rows of a task; return how many there were."""
        with self._lock:
            return len(self._rows.pop(name, ()))

    async def lives(self) -> list[Life]:
        """Return from when to when instances were heard of."""
        with self._lock:
            return sorted(self._lives.values(), key=lambda life: (life.seen_at, life.id))[-LIVES_KEPT:]

    async def note(self, me: str, text: str) -> bool:
        """Keep with the life of *me* what has happened to it; return True."""
        with self._lock:
            if me in self._lives:
                self._lives[me] = replace(self._lives[me], note=text)
        return True

    async def deregister(self, me: str) -> None:
        """Record that the instance *me* has left."""
        with self._lock:
            self._instances.pop(me, None)

    async def prune(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger; return how many were deleted."""
        with self._lock:
            since, gone = self._clock() - age, 0
            for rows in self._rows.values():
                latest = len(rows) - 1
                for place, (key, row) in enumerate(list(rows.items())):
                    if place < latest and (place <= latest - keep or row.finished_at < since):
                        del rows[key]
                        gone += 1
            for me in [each.id for each in self._instances.values() if each.seen_at < since]:
                del self._instances[me]
            for life in [each for each in self._lives.values() if each.seen_at < since]:
                del self._lives[life.id]
        return gone

    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Record that the instance *me* lives; return those with a heartbeat within *ttl*, ordered by id."""
        with self._lock:
            now = self._clock()
            self._instances[me] = Instance(me, info, now)
            life = self._lives.get(me) or Life(me, now, now)
            self._lives[me] = replace(life, seen_at=now)
            return self._heard_within(ttl)

    async def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*, ordered by id."""
        with self._lock:
            return self._heard_within(ttl)

    def _heard_within(self, ttl: int) -> list[Instance]:
        now = self._clock()
        return [each for _, each in sorted(self._instances.items()) if now - each.seen_at <= ttl]

    def _keep(self, row: LedgerRow) -> None:
        rows = self._rows.setdefault(row.name, OrderedDict())
        rows.setdefault((row.first_tick, row.manual, row.delivery), storable_row(row))
        if len(rows) > self.rows_kept:
            rows.popitem(last=False)


def _storable(holds: Mapping[str, StoredHold]) -> dict[str, StoredHold]:
    return {key: storable_hold(hold) for key, hold in holds.items()}


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
