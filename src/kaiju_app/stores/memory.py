"""A store in the memory of one process: for tests, and as the reference of what the others have to do."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from threading import Lock

from kaiju_app._clock import wall_us

from ._record import Record, Row
from ._store import Instance, Seen, Store, active

_Key = tuple[int, bool, int]


class MemoryStore(Store):
    """One dict. Schedulers that are given the same object share it, also in several loops or threads.

    Args:
        clock: Its clock: microseconds since the Unix epoch.
        history: Rows kept for each task.
    """

    name = "memory"
    is_for_many = True

    def __init__(self, clock: Callable[[], int] = wall_us, *, history: int = 100) -> None:
        self._clock = clock
        self._history = history
        self._lock = Lock()
        self._records: dict[str, Record] = {}
        self._rows: dict[str, OrderedDict[_Key, Row]] = {}
        self._instances: dict[str, Instance] = {}
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    async def open(self) -> None:
        """Do nothing: it is always open."""

    async def close(self) -> None:
        """Do nothing: what it keeps stays for as long as the object."""

    async def scan(self, names: Collection[str] | None = None, *, active: bool = False) -> Seen:
        """Return the records of *names*; None: all."""
        with self._lock:
            now = self._clock()
            known = self._records.keys() if names is None else self._records.keys() & set(names)
            records = [self._records[name] for name in sorted(known)]
        return Seen(now, _active(records, now) if active else records)

    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
        """Replace *old* by *new* and keep *rows*, if the rev of *old* is still the stored one."""
        one = old or new
        if one is None:
            raise ValueError("one of old and new must be a record")
        with self._lock:
            stored = self._records.get(one.name)
            if (stored and stored.rev) != (old and old.rev):
                return False
            if new is None:
                del self._records[one.name]
            else:
                self._records[one.name] = new
            for row in rows:
                self._keep(row)
            waiting, self._waiting = self._waiting, {}
        for future, loop in waiting.items():
            with suppress(RuntimeError):  # That loop is closed.
                loop.call_soon_threadsafe(_wake, future)
        return True

    async def wait(self, timeout_s: float) -> None:
        """Return at the next swap, or after *timeout_s*."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting[future] = loop
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            with self._lock:
                self._waiting.pop(future, None)

    async def history(self, name: str, limit: int) -> list[Row]:
        """Return the last rows of a task, at most *limit*, newest last."""
        with self._lock:
            rows = list(self._rows.get(name, {}).values())
        return rows[-limit:] if limit > 0 else []

    async def leave(self, me: str) -> None:
        """Say that the instance *me* is gone."""
        with self._lock:
            self._instances.pop(me, None)

    async def tidy(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger; return how many went."""
        with self._lock:
            since, gone = self._clock() - age, 0
            for rows in self._rows.values():
                latest = len(rows) - 1
                for place, (key, row) in enumerate(list(rows.items())):
                    if place < latest and (place <= latest - keep or row.finished < since):
                        del rows[key]
                        gone += 1
            for me in [each.id for each in self._instances.values() if each.seen < since]:
                del self._instances[me]
        return gone

    async def beat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Say that the instance *me* lives; return those heard of within *ttl*, in the order of their ids."""
        with self._lock:
            now = self._clock()
            self._instances[me] = Instance(me, info, now)
            return [each for _, each in sorted(self._instances.items()) if now - each.seen <= ttl]

    def _keep(self, row: Row) -> None:
        rows = self._rows.setdefault(row.name, OrderedDict())
        rows.setdefault((row.first, row.manual, row.take), row)
        if len(rows) > self._history:
            rows.popitem(last=False)


_active = active  # By another name where a parameter has this one.


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
