"""The operating system as a failure detector: a locked file for each instance, which falls free when its process ends.

The lock is a POSIX one (fcntl(2)): not inherited by fork, gone with the process however it ends, kept by a process that
is merely stopped. It belongs to the process, and closing any descriptor of the file gives it up: whoever holds one must
never open that file again.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":  # There, nobody is known to be dead: leases decide.
    import fcntl

_SUFFIX = ".lock"

# Process, device and inode of what is held by all stores of this process: one must not open what another one holds,
# by whatever path. With the process, as a fork copies the set.
_held: set[tuple[int, int, int]] = set()


class InstanceFiles:
    """The locked files beside the file of a store.

    Args:
        store: The file of the store.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._own: dict[str, int] = {}

    def take(self, me: str) -> None:
        """Show from now on, until this process ends, that the instance *me* lives."""
        if me in self._own or sys.platform == "win32":
            return
        path = self._path(me)
        unlocked = path.with_name(path.name + ".new")  # Nobody may find it before it is locked.
        descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o666)
        held = _identity(os.fstat(descriptor))
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.add(held)
            unlocked.rename(path)
        except BaseException:
            _held.discard(held)
            os.close(descriptor)
            raise
        self._own[me] = descriptor

    def release(self) -> None:
        """Take away the files of this process's instances."""
        for me, descriptor in self._own.items():
            with suppress(OSError):
                self._path(me).unlink()
            held = _identity(os.fstat(descriptor))
            os.close(descriptor)
            _held.discard(held)
        self._own.clear()

    def disown(self) -> None:
        """Leave all to the process that this one was forked from."""
        for descriptor in self._own.values():
            os.close(descriptor)  # The lock is the parent's, and stays.
        self._own.clear()

    def dead(self) -> frozenset[str]:
        """Return the instances whose process has ended without taking their file away."""
        if sys.platform == "win32":
            return frozenset()
        before = f"{self._store.name}-"
        names = [name for name in os.listdir(self._store.parent) if name.startswith(before) and name.endswith(_SUFFIX)]
        others = [name[len(before) : -len(_SUFFIX)] for name in names]
        return frozenset(me for me in others if self._is_free(self._path(me)))

    def forget(self, dead: str) -> None:
        """Take away the file of an instance that is dead."""
        self._path(dead).unlink(missing_ok=True)

    def _path(self, me: str) -> Path:
        return self._store.with_name(f"{self._store.name}-{me}{_SUFFIX}")

    @staticmethod
    def _is_free(path: Path) -> bool:
        if sys.platform == "win32":
            return False
        try:
            if _identity(os.stat(path)) in _held:
                return False
            descriptor = os.open(path, os.O_RDWR)
        except OSError:  # Taken away meanwhile, or another user's: nothing is known.
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def _identity(file: os.stat_result) -> tuple[int, int, int]:
    return os.getpid(), file.st_dev, file.st_ino
