"""One connection to an SQLite file, used by one thread."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TypeVar

from kaiju_app._core.clock import utc, wall_us
from kaiju_app._core.logs import logger
from kaiju_app.errors import InvalidArgument
from kaiju_app.stores._sql import made_by, missing_steps, statements

from ._fork_guard import ForkGuard
from ._place import refuse_place

if sys.platform != "win32":
    import fcntl

log = logger("kaiju_app.scheduler")

T = TypeVar("T")

SCHEMA = statements("sqlite/schema.sql")
MADE = made_by(SCHEMA)

# The "WAL-reset bug": a checkpoint that starts while another connection resets the log may corrupt the file.
# https://sqlite.org/wal.html#the_wal_reset_bug
FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))

# As often as automatic checkpoints, which are off then: 256 changes are about 1,000 pages.
CHANGES_A_CHECKPOINT = 256
LOOKS_MS = 8  # SQLite looks for the lock after 1, 3 and 8 ms; then it begins anew.
CHECKPOINT_WAIT_MS = 50  # No process can write while it waits for readers; the next checkpoint will do.
POLL_MS = 5
HEADER, PAGE = b"SQLite format 3\0", 4096  # How every file starts, and how much of it is written at once.
MUCH_LOG = 256 * 2**20  # Bytes; reached if a read transaction never ends.


class Connection:
    """A connection that is made when it is needed, and made again when the file was replaced.

    Args:
        path: The file.
        busy_ms: Milliseconds that a change waits for other processes.

    Attributes:
        only_looks: It makes, renames and migrates no file: who is to run what is in it does that.
    """

    def __init__(self, path: Path, busy_ms: int) -> None:
        self._path = path
        self._busy_ms = busy_ms
        self.only_looks = False
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._changes = 0
        self._not_in_a_fork = ForkGuard(busy_ms / 1000, self._disown)

    def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *job* reads from one snapshot."""
        with self._not_in_a_fork:
            return self._transaction(_begin_reading, job)

    def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of *job*, whose changes are committed together or not at all."""
        with self._not_in_a_fork:
            result = self._transaction(self._begin_writing, job)
            self._changes += 1
            if self._changes % CHANGES_A_CHECKPOINT == 0 and is_affected(sqlite3.sqlite_version_info):
                self._checkpoint()
        return result

    def version(self) -> int:
        """Return a number that changes whenever another connection changes the file."""
        with self._not_in_a_fork:
            return int(self._ready().execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with self._not_in_a_fork, suppress(sqlite3.Error):  # The next process that opens the file cleans up.
                connection.close()

    def _disown(self) -> None:
        """Leak the connection of the parent process after a fork.

        It must not be closed, not even when the process ends: https://sqlite.org/howtocorrupt.html 2.6.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def _begin_writing(self, connection: sqlite3.Connection) -> None:
        """Take the write lock, looking for it every few milliseconds.

        SQLite looks ever less often, in the end every 100 ms: among busy processes it would hardly find the lock free.
        """
        left = self._busy_ms // LOOKS_MS  # Counted, not read from a clock: that of a test may stand still meanwhile.
        connection.execute(f"PRAGMA busy_timeout = {LOOKS_MS}")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as exc:
                    left -= 1
                    if not is_busy(exc) or left < 0:
                        raise
        finally:
            connection.execute(f"PRAGMA busy_timeout = {self._busy_ms}")

    def _transaction(self, begin: Callable[[sqlite3.Connection], object], job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._ready()
            begin(connection)
            if self._identity() != self._file:  # The file was renamed or removed before this transaction.
                self.close()
                connection = self._ready()
                begin(connection)
            result = job(connection)
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as exc:
            self._failed(exc)
            raise
        except BaseException:
            self._roll_back()
            raise
        return result

    def _failed(self, exc: sqlite3.DatabaseError) -> None:
        """Restore a state in which the next call can work."""
        self._roll_back()
        if is_busy(exc):
            return
        self.close()
        if is_corrupt(exc):
            with _alone(self._path.parent, self._busy_ms):
                self._set_aside(exc)

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            refuse_place(self._path)
            with _alone(self._path.parent, self._busy_ms):
                try:
                    self._connect()
                except BaseException as exc:
                    self.close()
                    if not is_corrupt(exc):
                        raise
                    refuse_strangers(self._path)
                    self._set_aside(exc)
                    self._connect()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        if self.only_looks and not self._path.exists():
            rule = "must be a file that exists: the first application that uses it creates it"
            raise InvalidArgument("path", str(self._path), rule)
        # One thread at a time has it, but not always the same one: see Workers.
        timeout_s = self._busy_ms / 1000
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=timeout_s, check_same_thread=False)
        self._connection = connection
        connection.row_factory = sqlite3.Row
        self._file = self._identity()
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            what = f"the file system has no shared memory (journal mode {mode!r} instead of WAL)"
            raise sqlite3.OperationalError(what)
        connection.execute("PRAGMA synchronous = NORMAL")  # A power cut ends all processes that could have claimed.
        if is_affected(sqlite3.sqlite_version_info):
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Apply the missing steps to the newest schema, and make again what somebody has dropped."""
        if self._schema(connection) == len(SCHEMA) and _found(connection) >= MADE:
            return
        if self.only_looks and self._schema(connection) <= len(SCHEMA):
            rule = f"must have schema {len(SCHEMA)}, that of this version, not {self._schema(connection)}"
            advice = "look at it with the version of kaiju_app that the application has, or start the application"
            raise InvalidArgument("path", str(self._path), f"{rule}: {advice}")
        connection.execute("BEGIN IMMEDIATE")
        taken = self._schema(connection)  # Another process may have been faster.
        if taken > len(SCHEMA):
            connection.execute("ROLLBACK")
            rule = f"must have schema {len(SCHEMA)}, that of this version, or an older one, not {taken}"
            raise InvalidArgument("path", str(self._path), f"{rule}: upgrade kaiju_app, or use another file")
        for step in missing_steps(SCHEMA, taken, _found(connection)):
            for statement in step.split(";"):
                _make(connection, statement)
        connection.execute("CREATE TABLE IF NOT EXISTS kaiju_schema (version INTEGER NOT NULL)")
        connection.execute("DELETE FROM kaiju_schema")
        connection.execute("INSERT INTO kaiju_schema VALUES (?)", (len(SCHEMA),))
        connection.execute("COMMIT")

    @staticmethod
    def _schema(connection: sqlite3.Connection) -> int:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kaiju_schema'").fetchone():
            return 0
        (version,) = connection.execute("SELECT max(version) FROM kaiju_schema").fetchone()
        return version or 0

    def _set_aside(self, exc: BaseException) -> None:
        """Rename a corrupt file, unless another process did. Only who was about to run what is lost."""
        if self.only_looks or self._identity() != self._file:
            return
        stamp = f"{utc(wall_us()):%Y%m%dT%H%M%S%f}"
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{self._path}.corrupt-{stamp}{suffix}")
        renamed = f"{self._path.name}.corrupt-{stamp}"
        log.error("%s is corrupt (%s): renamed to %s, and a new one was made", self._path, exc, renamed)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # Never open() it: closing it would drop SQLite's own locks.
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _checkpoint(self) -> None:
        """Write the log back, holding the write lock, so that no other process can reset the log in between."""
        connection = self._ready()
        connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as exc:  # The change before it is committed.
            busy = exc
        finally:
            connection.execute(f"PRAGMA busy_timeout = {self._busy_ms}")
        if busy and (size := Path(f"{self._path}-wal").stat().st_size) > MUCH_LOG:
            log.warning("the log of %s has %d MB and cannot be written back (%s): end the long read transaction on it",
                        self._path, size // 2**20, busy)  # fmt: skip


def _begin_reading(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")


def _make(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement of the schema. SQLite knows no IF NOT EXISTS for columns."""
    column = statement.replace("ADD COLUMN IF NOT EXISTS", "ADD COLUMN")
    try:
        connection.execute(column)
    except sqlite3.OperationalError as exc:
        if column == statement or "duplicate column" not in str(exc):
            raise


def _found(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'kaiju_%'")}


def is_affected(version: tuple[int, ...]) -> bool:
    """Return whether this version of SQLite has the WAL-reset bug."""
    fixes = [fix for fix in FIXED if fix[:2] == version[:2]]
    return (3, 7, 0) <= version < (fixes[0] if fixes else FIXED[-1])


def is_busy(exc: BaseException) -> bool:
    """Return whether other processes held the write lock for too long."""
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_corrupt(exc: BaseException) -> bool:
    """Return whether the file is broken, or not an SQLite file."""
    return _code(exc) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(exc: BaseException) -> int:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF  # The primary code of an extended one.


def refuse_strangers(path: Path) -> None:
    """Raise if a file that SQLite cannot read was not written by SQLite.

    Raises:
        InvalidArgument: It starts with something else. A damaged SQLite file starts with its header or with zeros.
    """
    with path.open("rb") as file:  # It is broken, so losing the locks on it does not matter.
        page = file.read(PAGE)
    if not page.startswith(HEADER) and page.strip(b"\0"):
        rule = "must be an SQLite file, or not exist yet: it was not changed; use another file, or remove it"
        raise InvalidArgument("path", str(path), rule)


@contextmanager
def _alone(directory: Path, patience_ms: int) -> Iterator[None]:
    """Let one process at a time create or rename the stores in *directory*."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        for _ in range(patience_ms // POLL_MS):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            Event().wait(POLL_MS / 1000)
        else:
            raise BlockingIOError(f"another process has been opening a store in {directory} for too long")
        yield
    finally:
        os.close(descriptor)
