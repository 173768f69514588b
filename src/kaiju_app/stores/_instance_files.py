"""The operating system as a failure detector: a locked file for each instance, which falls free when its process ends.

The lock is one of flock(2), and belongs to the file as it was opened: gone with the process however it ends, kept by a
process that is merely stopped, and by one that opens and closes the file once more, as a backup of the directory does.
A forked child has it too, and closes it at once. One that runs nothing of Python after the fork does not: then its
parent's death is told by the leases.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from ._forks import NotInAFork

if sys.platform != "win32":  # There, nobody is known to be dead: leases decide.
    import fcntl

_SUFFIX = ".lock"
_PATIENCE_S = 1.0  # Far longer than it takes to look.


class InstanceFiles:
    """The locked files beside the file of a store.

    Args:
        store: The file of the store.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._own: dict[str, int] = {}
        self._not_in_a_fork = NotInAFork(_PATIENCE_S)  # The child would not know what it has to close.
        _all.add(self)

    def take(self, me: str) -> None:
        """Show from now on, until this process ends, that the instance *me* lives."""
        if me in self._own or sys.platform == "win32":
            return
        path = self._path(me)
        unlocked = path.with_name(path.name + ".new")  # Nobody may find it before it is locked.
        with self._not_in_a_fork:
            descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unlocked.rename(path)
            except BaseException:
                os.close(descriptor)
                raise
            self._own[me] = descriptor

    def release(self) -> None:
        """Take away the files of this process's instances."""
        for me, descriptor in self._own.items():
            with suppress(OSError):
                self._path(me).unlink()
            os.close(descriptor)
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
        with self._not_in_a_fork:
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
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # Taken away meanwhile, or another user's: nothing is known.
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


_all: WeakSet[InstanceFiles] = WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
