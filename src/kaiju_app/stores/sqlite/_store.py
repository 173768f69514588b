"""A store in an SQLite file, for several processes on one host."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from kaiju_app._core.calls import explain_init
from kaiju_app._core.clock import wall_us
from kaiju_app._core.ledger_query import LedgerQuery
from kaiju_app._core.validate import duration_us, function, key
from kaiju_app.errors import InvalidArgument
from kaiju_app.stores._answers import (
    ChangeResult,
    Claimed,
    FinishRequest,
    Instance,
    LedgerPage,
    Life,
    Renewed,
    Snapshot,
)
from kaiju_app.stores._base import AT_ONCE, ROWS_AGE_S, ROWS_KEPT, Store
from kaiju_app.stores._cas import Transition, active
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import Refusal

from ._connection import Connection
from ._instance_locks import InstanceLocks
from ._place import refuse_unusable
from ._records import SqliteRecords, claim_terms
from ._worker import Worker

T = TypeVar("T")

TIMEOUT_S = 2.0  # A renewal must not take longer than this, when the next one is due.
BREATH_S = 0.02  # A process that waits for the lock polls it only now and then.
LOOK_S = 0.15  # Checking whether the file has changed takes microseconds and no lock.


@explain_init()
class SqliteStore(Store):
    """A file that several processes on one host share.

    1. One connection in one thread executes one call after another. A call that timed out either never starts, or ends
       before the next call of this store starts.
    2. A change is one transaction that takes the write lock first and reads the clock after that. A call that finds
       nothing to change takes no lock.
    3. Each instance holds a lock on a file of its own. If that lock is free, the process is dead for certain.
    4. Leases are counted by the wall clock of the host. Setting it is noticed and costs no lease. A process whose own
       clock is hours ahead takes a paused owner for dead after the grace period.
    5. A corrupt file is renamed, and a new one is made, as for a file that was removed: instances register their tasks
       again, and put back what they run. A rev is never below the clock, so fencing tokens keep growing. A file that
       SQLite has not written is refused.
    6. Make backups in another process or with sqlite3: opening and closing the file in this process would drop SQLite's
       own locks on it (https://sqlite.org/howtocorrupt.html 2.2).

    Args:
        path: The file. Its directory must exist, on a disk of this host.
        app: The set of instances that share the records.
        clock: Returns microseconds since the Unix epoch.
        timeout_s: Seconds after which a call fails.
        history: How many ledger rows are kept for each task.
        history_age_s: Seconds after which a ledger row is deleted all the same, but for the newest one of its task.

    Raises:
        InvalidArgument: *path* is no path or contains a NUL character, or another argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        app: str = "default",
        clock: Callable[[], int] = wall_us,
        timeout_s: float = TIMEOUT_S,
        history: int = ROWS_KEPT,
        history_age_s: float | timedelta = ROWS_AGE_S,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InvalidArgument("path", path, "must be the path of a file, such as 'scheduler.db'")
        if "\0" in os.fspath(path):
            raise InvalidArgument("path", path, "must not contain a NUL character")
        self._path = Path(path).absolute()  # The working directory may change.
        self.name = f"sqlite:///{path}"
        self.app = key("app", app)
        self._clock = function("clock", clock, "time.time_ns")
        self.keep_rows(history, history_age_s)
        timeout_s = duration_us("timeout_s", timeout_s) / 1e6
        # Half of it, so that a call that waits for the lock fails with SQLITE_BUSY before it times out.
        self._database = Connection(self._path, round(timeout_s * 500))
        self._files = InstanceLocks(self._path)
        self._worker = Worker(self.name, timeout_s)
        self._changes = 0
        self._looked = 0

    sees_deaths = True

    def look_only(self) -> None:
        """Have ``open()`` make and change no file and no tables."""
        self._database.only_looks = True

    async def open(self) -> None:
        """Open the store; does nothing if it is open.

        Raises:
            InvalidArgument: The file is on another host, was made by a newer version, or is not an SQLite file; its
                directory does not exist; or this process may not write there.
        """

        def look() -> int:
            refuse_unusable(self._path)
            return self._database.version()

        self._worker.start()
        try:
            self._looked = await self._worker.call(look)
        except InvalidArgument:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the file; does nothing if the store is closed."""

        def release() -> None:
            self._database.close()
            self._files.release()

        await self._worker.stop(release)

    async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
        """Return the records with these *names*, or all."""

        def look(records: SqliteRecords) -> Snapshot:
            if names is not None:
                found = records.find("some", names=json.dumps(sorted(names)))
                return Snapshot(records.now, active(found) if only_active else found)
            return Snapshot(records.now, records.find("active" if only_active else "all"))

        return await self._worker.call(lambda: self._read(look))

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        """Replace *old* by *new* and add *rows*, if the rev of *old* is still stored."""
        return await self._worker.call(
            lambda: self._write(lambda records: records.swap(old, new, rows, self.rows_kept))
        )

    async def _change_some(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply some transitions, in the order of their names."""

        def look(records: SqliteRecords) -> dict[str, ChangeResult]:
            found = records.named(transitions.keys())
            return {
                name: ChangeResult(records.now, found.get(name), None, done=False)
                for name, transition in transitions.items()
                if transition(found.get(name), records.now) is None
            }

        def change(records: SqliteRecords, names: list[str]) -> dict[str, ChangeResult]:
            each = [(name, transitions[name]) for name in names]
            return dict(zip(names, records.apply_each(each, records.named(names), self.rows_kept), strict=True))

        def both() -> dict[str, ChangeResult]:
            refused = self._read(look)
            rest = [name for name in transitions if name not in refused]
            if not rest:
                return refused
            return refused | self._write(lambda records: change(records, rest))

        return await self._worker.call(both)

    async def claim(self, query: ClaimQuery) -> Claimed:
        """Claim what is due, oldest first."""
        terms = claim_terms(query)

        def look(records: SqliteRecords) -> Claimed | None:
            self._looked = self._database.version()
            return None if records.due(terms, min(query.limit, 1)) else records.answer(terms, [])

        def take(records: SqliteRecords) -> Claimed:
            return records.answer(terms, records.claim(query, terms))

        def both() -> Claimed:
            self._files.take(query.me)
            claimed = self._read(look) or self._write(take)
            return replace(claimed, now=max(claimed.now, self._clock()))

        return await self._worker.call(both)

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Extend the leases of an instance."""

        def both() -> Renewed:
            self._files.take(me)
            do = self._write if runs or holds else self._read
            return do(lambda records: records.renew(me, runs, holds, ttl))

        return await self._worker.call(both)

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        """End the ticks of claims; return for each why it was refused, or None."""
        if not endings:
            return []
        return await self._worker.call(lambda: self._write(lambda records: records.finish(me, endings, self.rows_kept)))

    async def forgettable(self, unseen_for: int, limit: int) -> list[str]:
        """Return tasks that no instance has known for longer than *unseen_for*, and that none runs or holds."""
        return await self._worker.call(lambda: self._read(lambda records: records.forgettable(unseen_for, limit)))

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when the file has changed since the last claim, or after *timeout_s*."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        looked, changes = self._looked, self._changes
        while (left := end - loop.time()) > 0:
            self._looked = await self._worker.call(self._database.version)
            if self._looked != looked or self._changes != changes:
                return
            await asyncio.sleep(min(left, LOOK_S))

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task, at most *limit*, newest last."""
        return await self._worker.call(lambda: self._read(lambda records: records.history(name, limit)))

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for."""
        return await self._worker.call(lambda: self._read(lambda records: records.runs(query)))

    async def delete_history(self, name: str) -> int:
        """Delete all rows of a task; return how many there were."""
        return await self._worker.call(lambda: self._write(lambda records: records.delete_history(name)))

    async def lives(self) -> list[Life]:
        """Return from when to when instances were heard of."""
        return await self._worker.call(lambda: self._read(lambda records: records.lives()))

    async def lives_near(self, since: int, until: int) -> list[Life]:
        """Return from when to when instances were heard of: those around a span of time."""
        return await self._worker.call(lambda: self._read(lambda records: records.lives_near(since, until)))

    async def note(self, me: str, text: str) -> bool:
        """Keep with the life of *me* what has happened to it; return True."""
        await self._worker.call(lambda: self._write(lambda records: records.note(me, text)))
        return True

    async def deregister(self, me: str) -> None:
        """Record that the instance *me* has left."""
        await self._worker.call(lambda: self._write(lambda records: records.deregister(me)))

    async def prune(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger, some at a time; return how many were deleted."""

        def some() -> tuple[int, int]:
            found = self._read(lambda records: records.outdated(max(keep, 1), age, AT_ONCE))
            return len(found), self._write(lambda records: records.discard(found, age))

        found, total = await self._worker.call(some)
        while found == AT_ONCE:
            await asyncio.sleep(BREATH_S)
            found, gone = await self._worker.call(some)
            total += gone
        return total

    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Record that the instance *me* lives; return those with a heartbeat within *ttl*, ordered by id."""

        def both() -> list[Instance]:
            self._files.take(me)
            return self._write(lambda records: records.heartbeat(me, info, ttl))

        return await self._worker.call(both)

    async def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*, ordered by id."""
        return await self._worker.call(lambda: self._read(lambda records: records.instances(ttl)))

    async def dead(self) -> frozenset[str]:
        """Return the instances whose process ended without closing the store."""

        def look() -> frozenset[str]:
            dead = self._files.dead()
            if dead:
                for each in self._read(lambda records: [me for me in dead if not records.has_traces(me)]):
                    self._files.forget(each)
            return dead

        return await self._worker.call(look)

    # --- calls in the thread ---

    def _read(self, job: Callable[[SqliteRecords], T]) -> T:
        return self._database.read(lambda connection: job(self._records(connection)))

    def _write(self, job: Callable[[SqliteRecords], T]) -> T:
        result = self._database.write(lambda connection: job(self._records(connection)))
        self._changes += 1
        return result

    def _records(self, connection: sqlite3.Connection) -> SqliteRecords:
        return SqliteRecords(connection, self.app, self._clock)
