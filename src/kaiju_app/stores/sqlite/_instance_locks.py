"""The operating system as a failure detector: a locked file for each instance, unlocked when its process ends.

A lock of flock(2) belongs to the open file. It ends with the process, however that ends. A stopped process keeps it,
and so does one that opens and closes the file again, as a backup of the directory does. A forked child inherits the
lock and closes it at once. A child that runs no Python after the fork does not; then only the leases tell that its
parent died.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from ._fork_guard import ForkGuard

if sys.platform != "win32":  # On Windows no instance is known to be dead: leases decide.
    import fcntl

_SUFFIX = ".lock"
_PATIENCE_S = 1.0  # Far longer than a check takes.


class InstanceLocks:
    """The locked files next to the file of a store.

    Args:
        store: The file of the store.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._own: dict[str, int] = {}
        self._not_in_a_fork = ForkGuard(_PATIENCE_S, self._disown)  # Otherwise it would not know what to close.

    def take(self, me: str) -> None:
        """Hold the lock of the instance *me* until this process ends."""
        if sys.platform == "win32" or self._has(me):
            return
        path = self._path(me)
        unlocked = path.with_name(path.name + ".new")  # No process may find it before it is locked.
        with self._not_in_a_fork:
            descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unlocked.rename(path)
            except BaseException:
                os.close(descriptor)
                raise
            if me in self._own:
                os.close(self._own[me])
            self._own[me] = descriptor

    def _has(self, me: str) -> bool:
        """Return whether the lock of the instance *me* is held, and its file was not removed since."""
        with suppress(FileNotFoundError):
            return me in self._own and os.path.samestat(os.fstat(self._own[me]), os.stat(self._path(me)))
        return False

    def release(self) -> None:
        """Remove the files of the instances of this process."""
        for me, descriptor in self._own.items():
            with suppress(OSError):
                self._path(me).unlink()
            os.close(descriptor)
        self._own.clear()

    def _disown(self) -> None:
        """Leave all locks to the parent process after a fork."""
        for descriptor in self._own.values():
            os.close(descriptor)  # The lock is the parent's, and stays.
        self._own.clear()

    def dead(self) -> frozenset[str]:
        """Return the instances whose process ended without removing their file."""
        if sys.platform == "win32":
            return frozenset()
        before = f"{self._store.name}-"
        names = [name for name in os.listdir(self._store.parent) if name.startswith(before) and name.endswith(_SUFFIX)]
        others = [name[len(before) : -len(_SUFFIX)] for name in names]
        with self._not_in_a_fork:
            return frozenset(me for me in others if self._is_free(self._path(me)))

    def forget(self, dead: str) -> None:
        """Remove the file of a dead instance."""
        self._path(dead).unlink(missing_ok=True)

    def _path(self, me: str) -> Path:
        return self._store.with_name(f"{self._store.name}-{me}{_SUFFIX}")

    @staticmethod
    def _is_free(path: Path) -> bool:
        if sys.platform == "win32":
            return False
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # It was removed, or belongs to another user: unknown.
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True
