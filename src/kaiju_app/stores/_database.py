"""One connection to an SQLite file, as one thread has it."""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TypeVar

from kaiju_app._clock import utc, wall_us
from kaiju_app.errors import InvalidArgument

from ._forks import NotInAFork
from ._sql import statements

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("kaiju_app.scheduler")

T = TypeVar("T")

SCHEMA = statements("sqlite_schema.sql")

# Locks and shared memory of SQLite do not work between hosts: https://sqlite.org/wal.html, https://sqlite.org/faq.html#q5
NETWORKS = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
}
NETWORKS |= {"smb3", "smbfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.cephfs"}

# The "WAL-reset bug": a checkpoint that begins as another connection starts the log anew may corrupt the file.
# https://sqlite.org/wal.html#the_wal_reset_bug
FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))

# Without automatic checkpoints the log is written back about as often as with them: 256 changes are about 1,000 pages.
CHANGES_A_CHECKPOINT = 256
CHECKPOINT_WAIT_MS = 50  # While it waits for readers nobody can write; the next one will do.
POLL_MS = 5
HEADER, PAGE = b"SQLite format 3\0", 4096  # What a file begins with, and how much of it is written at once.
MUCH_LOG = 256 * 2**20  # Bytes; somebody reads in one transaction without end.


class Database:
    """A connection that is made when it is needed, and made anew when the file is another one.

    Args:
        path: The file.
        busy_ms: Milliseconds for which a change waits for those of others.
    """

    def __init__(self, path: Path, busy_ms: int) -> None:
        self._path = path
        self._busy_ms = busy_ms
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._changes = 0
        self._not_in_a_fork = NotInAFork(busy_ms / 1000)

    def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *job* finds in one snapshot."""
        with self._not_in_a_fork:
            return self._transaction("BEGIN", job)

    def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *job* returns; what it changed is there for all, or not at all."""
        with self._not_in_a_fork:
            result = self._transaction("BEGIN IMMEDIATE", job)
            self._changes += 1
            if self._changes % CHANGES_A_CHECKPOINT == 0 and is_affected(sqlite3.sqlite_version_info):
                self._checkpoint()
        return result

    def version(self) -> int:
        """Return a number that changes whenever another connection has changed the file."""
        with self._not_in_a_fork:
            return int(self._ready().execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with (
                self._not_in_a_fork,
                suppress(sqlite3.Error),
            ):  # What it could not tidy up, the next one to open the file does.
                connection.close()

    def disown(self) -> None:
        """Forget the connection of the process that this one was forked from.

        Not even to be closed, also not at the end of the process: https://sqlite.org/howtocorrupt.html 2.6.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def _transaction(self, begin: str, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._ready()
            connection.execute(begin)
            if self._identity() != self._file:  # It was set aside, or removed, before this transaction.
                self.close()
                connection = self._ready()
                connection.execute(begin)
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
        """Leave nothing behind that the next call could stumble over."""
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
                except sqlite3.DatabaseError as exc:
                    self.close()
                    if not is_corrupt(exc):
                        raise
                    refuse_strangers(self._path)
                    self._set_aside(exc)
                    self._connect()
                except BaseException:
                    self.close()
                    raise
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=self._busy_ms / 1000)
        self._connection = connection
        connection.row_factory = sqlite3.Row
        self._file = self._identity()
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(
                f"the file system has no shared memory (journal mode {mode!r} instead of WAL)"
            )
        connection.execute("PRAGMA synchronous = NORMAL")  # After a power cut nobody runs that could have claimed.
        if is_affected(sqlite3.sqlite_version_info):
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Take the steps to the newest schema that were not taken yet."""
        if self._schema(connection) == len(SCHEMA):
            return
        connection.execute("BEGIN IMMEDIATE")
        taken = self._schema(connection)  # Somebody may have been faster.
        if taken > len(SCHEMA):
            connection.execute("ROLLBACK")
            rule = f"must be a store of this version, whose schema is {len(SCHEMA)}, not {taken}"
            raise InvalidArgument("path", str(self._path), f"{rule}: upgrade kaiju_app, or name another file")
        for step in list(SCHEMA.values())[taken:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute("CREATE TABLE IF NOT EXISTS kaiju_schema (version INTEGER NOT NULL)")
        connection.execute("DELETE FROM kaiju_schema")
        connection.execute("INSERT INTO kaiju_schema VALUES (?)", (len(SCHEMA),))
        connection.execute("COMMIT")

    @staticmethod
    def _schema(connection: sqlite3.Connection) -> int:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kaiju_schema'").fetchone():
            return 0
        return int(connection.execute("SELECT version FROM kaiju_schema").fetchone()[0])

    def _set_aside(self, exc: sqlite3.DatabaseError) -> None:
        """Rename a corrupt file, unless somebody else already did: what is lost is only who was about to run what."""
        if self._identity() != self._file:
            return
        stamp = f"{utc(wall_us()):%Y%m%dT%H%M%S%f}"
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{self._path}.corrupt-{stamp}{suffix}")
        log.error("%s is corrupt (%s): renamed to %s.corrupt-%s, begun anew", self._path, exc, self._path.name, stamp)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # Never open() it: closing it would drop SQLite's own locks.
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _checkpoint(self) -> None:
        """Write the log back, with the lock of all writers held: so nobody can start it anew meanwhile."""
        connection = self._ready()
        connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as exc:  # The change that it follows is made.
            busy = exc
        finally:
            connection.execute(f"PRAGMA busy_timeout = {self._busy_ms}")
        if busy and (size := Path(f"{self._path}-wal").stat().st_size) > MUCH_LOG:
            log.warning("the log of %s has %d MB and cannot be written back (%s): end the long read transaction on it",
                        self._path, size // 2**20, busy)  # fmt: skip


def is_affected(version: tuple[int, ...]) -> bool:
    """Return whether SQLite of this version has the WAL-reset bug."""
    fixes = [fix for fix in FIXED if fix[:2] == version[:2]]
    return (3, 7, 0) <= version < (fixes[0] if fixes else FIXED[-1])


def is_busy(exc: sqlite3.Error) -> bool:
    """Return whether others were changing the file for too long."""
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_corrupt(exc: sqlite3.Error) -> bool:
    """Return whether the file is broken, or none of SQLite's."""
    return _code(exc) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(exc: sqlite3.Error) -> int:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF  # Without what an extended code adds.


def refuse_strangers(path: Path) -> None:
    """Raise if a file that SQLite cannot read is none that it has written.

    Raises:
        InvalidArgument: It begins like something else; a damaged one begins as SQLite's files do, or with zeros.
    """
    with path.open("rb") as file:  # SQLite has found it broken: nobody's locks on it are good for anything.
        page = file.read(PAGE)
    if not page.startswith(HEADER) and page.strip(b"\0"):
        rule = "must name a file of SQLite's, or none yet: nothing was changed in it; name another file, or remove it"
        raise InvalidArgument("path", str(path), rule)


def refuse_place(path: Path) -> None:
    """Raise if there can be no file of SQLite's.

    Raises:
        InvalidArgument: It is a directory, or on a network file system.
    """
    if path.is_dir():
        rule = "must name a file, and this is a directory: add the name that the file is to have"
        raise InvalidArgument("path", str(path), rule)
    kind = file_system(path.resolve().parent)
    if kind in NETWORKS:
        rule = f"must be on a disk of this host, not on {kind}, where SQLite's locks fail"
        raise InvalidArgument("path", str(path), f"{rule}: name a local file, or a store that is a server")


def file_system(directory: Path) -> str | None:
    """Return the type of the file system of *directory*; None if it cannot be found out."""
    with suppress(OSError):
        device = os.stat(directory).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split()[2] == wanted:
                return source.split()[0]
    return None


@contextmanager
def _alone(directory: Path, patience_ms: int) -> Iterator[None]:
    """Let one process at a time make, or set aside, the stores of *directory*."""
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
