"""A store in a file, for several processes of one host."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kaiju_app._clock import wall_us
from kaiju_app.errors import InvalidArgument, StoreUnavailable

from ._database import Database
from ._instance_files import InstanceFiles
from ._record import Record, Row
from ._sqlite_records import SqliteRecords
from ._store import Changed, Claimed, Ending, Instance, Renewed, Seen, Share, Store, Transition, active
from ._transitions import Refusal

T = TypeVar("T")

TIMEOUT_S = 2.0  # As long as a renewal may take before the next one is due.
AT_ONCE = 500  # Changes in one transaction: others wait for its end.
BREATH_S = 0.02  # Who waits for the lock looks only now and then whether it is free.
LOOK_S = 0.15  # To look whether somebody changed the file takes microseconds, and no lock.


class SqliteStore(Store):
    """A file that several processes of one host share.

    1. One connection in one thread, which does one thing after another: what was given up waiting for either has not
       begun, and never will, or has ended before anything else of this store begins.
    2. A change is one transaction that takes the lock of all writers first, and reads the clock after it. What only
       looks, and finds nothing to do, takes no lock.
    3. Each instance holds a lock on a file of its own: when it falls free, the process is dead for certain.
    4. All processes of a host have one time of day, by which the leases are counted. Setting it, for all of them, is
       noticed and costs no lease; one that is given a clock of its own, hours ahead, takes a holder that is paused for
       dead after the grace.
    5. A file that is corrupt is renamed, and begun anew: it keeps only who runs what next, and a rev is never below the
       clock, so that fences go on growing. One that never was SQLite's is refused.
    6. A backup is another process's, or sqlite3's: to open and close the file in this process would drop SQLite's own
       locks on it (https://sqlite.org/howtocorrupt.html 2.2).

    Args:
        path: The file; its directory exists, on a disk of this host.
        app: The set of instances that share the records.
        clock: Microseconds since the Unix epoch.
        timeout_s: Seconds after which a call is given up.
        history: Rows kept for each task.

    Raises:
        InvalidArgument: *path* can be no path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        app: str = "default",
        clock: Callable[[], int] = wall_us,
        timeout_s: float = TIMEOUT_S,
        history: int = 100,
    ) -> None:
        if "\0" in os.fspath(path):
            raise InvalidArgument("path", path, "must have no NUL: no name of a file has one")
        self._path = Path(path).absolute()  # Whatever the working directory is later.
        self.name = f"sqlite:///{path}"
        self.app = app
        self._clock = clock
        self._timeout_s = timeout_s
        self._history = history
        # Half of it: whoever waits for the lock of others learns so before the call is given up.
        self._database = Database(self._path, round(timeout_s * 500))
        self._files = InstanceFiles(self._path)
        self._thread: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._changes = 0
        self._looked = 0

    sees_deaths = True

    async def open(self) -> None:
        """Get ready; without effect on a store that is open.

        Raises:
            InvalidArgument: The file is on another host, was made by a newer version, or is none of SQLite's.
        """
        if self._thread is None:
            self._thread = _new_thread()
        self._looked = await self._call(self._database.version)

    async def close(self) -> None:
        """Let go of the file; without effect on a store that is closed."""
        if self._thread is not None:
            begun = self._submit(self._let_go)
            self._thread.shutdown(wait=False)
            self._thread = None
            await self._answer(begun)

    async def scan(self, names: Collection[str] | None = None, *, active: bool = False) -> Seen:
        """Return the records of *names*; None: all."""

        def look(records: SqliteRecords) -> Seen:
            if names is not None:
                found = records.find("some", names=json.dumps(sorted(names)))
                return Seen(records.now, _active(found, records.now) if active else found)
            return Seen(records.now, records.find("active" if active else "all"))

        return await self._call(lambda: self._read(look))

    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
        """Replace *old* by *new* and keep *rows*, if the rev of *old* is still the stored one."""
        return await self._call(lambda: self._write(lambda records: records.swap(old, new, rows, self._history)))

    async def change(self, name: str, transition: Transition) -> Changed:
        """Apply *transition* to one record."""

        def look(records: SqliteRecords) -> Changed | None:
            old = records.one(name)
            refused = transition(old, records.now) is None
            return Changed(records.now, old, None, done=False) if refused else None

        def both() -> Changed:
            refused = self._read(look)
            return refused or self._write(lambda records: records.apply(name, transition, self._history))

        return await self._call(both)

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        """Apply transitions to the records of their names, each by itself."""
        names = sorted(transitions)
        found: dict[str, Changed] = {}
        for start in range(0, len(names), AT_ONCE):
            found |= await self._change_some({name: transitions[name] for name in names[start : start + AT_ONCE]})
        return found

    async def _change_some(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        def look(records: SqliteRecords) -> dict[str, Changed]:
            found = {each.name: each for each in records.find("some", names=json.dumps(sorted(transitions)))}
            return {
                name: Changed(records.now, found.get(name), None, done=False)
                for name, transition in transitions.items()
                if transition(found.get(name), records.now) is None
            }

        def both() -> dict[str, Changed]:
            refused = self._read(look)
            rest = [name for name in transitions if name not in refused]
            if not rest:
                return refused
            return refused | self._write(
                lambda records: {name: records.apply(name, transitions[name], self._history) for name in rest}
            )

        return await self._call(both)

    async def claim(
        self,
        me: str,
        *,
        ttl: int,
        limit: int,
        ahead: int = 0,
        skip: Collection[str] = frozenset(),
        share: Share | None = None,
        punctual: Collection[str] = frozenset(),
    ) -> Claimed:
        """Claim what is due, oldest first."""

        def look(records: SqliteRecords) -> Claimed | None:
            self._looked = self._database.version()
            is_idle = not records.due(min(limit, 1), ahead, skip, share, punctual)
            return records.answer([], ahead, skip, share, punctual) if is_idle else None

        def take(records: SqliteRecords) -> Claimed:
            claimed = records.claim(me, ttl, limit, ahead, skip, share, punctual)
            return records.answer(claimed, ahead, skip, share, punctual)

        def both() -> Claimed:
            self._files.take(me)
            claimed = self._read(look) or self._write(take)
            return replace(claimed, now=max(claimed.now, self._clock()))

        return await self._call(both)

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Prolong the leases of an instance."""

        def both() -> Renewed:
            self._files.take(me)
            do = self._write if runs or holds else self._read
            return do(lambda records: records.renew(me, runs, holds, ttl))

        return await self._call(both)

    async def finish(self, me: str, endings: Sequence[Ending]) -> list[Refusal | None]:
        """End the ticks of claims; return for each ending why it was refused, or None."""
        if not endings:
            return []
        return await self._call(lambda: self._write(lambda records: records.finish(me, endings, self._history)))

    async def wait(self, timeout_s: float) -> None:
        """Return when the file has changed since the last claim, or after *timeout_s*."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        looked, changes = self._looked, self._changes
        while (left := end - loop.time()) > 0:
            self._looked = await self._call(self._database.version)
            if self._looked != looked or self._changes != changes:
                return
            await asyncio.sleep(min(left, LOOK_S))

    async def history(self, name: str, limit: int) -> list[Row]:
        """Return the last rows of a task, at most *limit*, newest last."""
        return await self._call(lambda: self._read(lambda records: records.history(name, limit)))

    async def leave(self, me: str) -> None:
        """Say that the instance *me* is gone."""
        await self._call(lambda: self._write(lambda records: records.leave(me)))

    async def tidy(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger, some at a time; return how many went."""

        def some() -> tuple[int, int]:
            found = self._read(lambda records: records.outdated(max(keep, 1), age, AT_ONCE))
            return len(found), self._write(lambda records: records.discard(found, age))

        found, total = await self._call(some)
        while found == AT_ONCE:
            await asyncio.sleep(BREATH_S)
            found, gone = await self._call(some)
            total += gone
        return total

    async def beat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Say that the instance *me* lives; return those heard of within *ttl*, in the order of their ids."""

        def both() -> list[Instance]:
            self._files.take(me)
            return self._write(lambda records: records.beat(me, info, ttl))

        return await self._call(both)

    async def dead(self) -> frozenset[str]:
        """Return the instances whose process ended without letting go of what it had."""

        def look() -> frozenset[str]:
            dead = self._files.dead()
            if dead:
                for each in self._read(lambda records: [me for me in dead if not records.has_traces(me)]):
                    self._files.forget(each)
            return dead

        return await self._call(look)

    # --- in the thread, and to it ---

    def _read(self, job: Callable[[SqliteRecords], T]) -> T:
        return self._database.read(lambda connection: job(self._records(connection)))

    def _write(self, job: Callable[[SqliteRecords], T]) -> T:
        result = self._database.write(lambda connection: job(self._records(connection)))
        self._changes += 1
        return result

    def _records(self, connection: sqlite3.Connection) -> SqliteRecords:
        return SqliteRecords(connection, self.app, self._clock)

    def _let_go(self) -> None:
        self._database.close()
        self._files.release()

    async def _call(self, job: Callable[[], T]) -> T:
        """Return what *job* returns, in the thread of the connection."""
        begun = self._submit(job)
        try:
            return await self._answer(begun)
        finally:
            begun.cancel()  # If it has not begun: nobody waits for it any more.

    def _submit(self, job: Callable[[], T]) -> Future[T]:
        if self._thread is None:
            raise StoreUnavailable(self.name, "it is not open")
        if self._process != os.getpid():
            self._thread = self._begin_anew()
        return self._thread.submit(job)

    async def _answer(self, begun: Future[T]) -> T:
        future = asyncio.wrap_future(begun)
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # It counts as looked at.
        await asyncio.wait([future], timeout=self._timeout_s)
        if not future.done():
            raise StoreUnavailable(self.name, f"no answer within {self._timeout_s:g} s")
        try:
            return future.result()
        except StoreUnavailable:
            raise
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailable(self.name, str(exc)) from exc

    def _begin_anew(self) -> ThreadPoolExecutor:
        """Leave thread, connection and locks to the process that this one was forked from."""
        self._process = os.getpid()
        self._database.disown()
        return _new_thread()


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="kaiju-sqlite")


_active = active  # By another name where a parameter has this one.
