"""Make forks wait for critical sections: a child has one thread, and locks of other threads stay locked for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from weakref import WeakSet


class ForkGuard:
    """A critical section: a fork waits for its end, up to a limit.

    Args:
        patience_s: Seconds that a fork waits at most.
        disown: Called in the child: leaves to the parent process what belongs to it.
    """

    def __init__(self, patience_s: float, disown: Callable[[], None]) -> None:
        self.disown = disown
        self._lock = RLock()
        self._patience_s = patience_s
        self._closed = False
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def close(self) -> None:
        """Keep all threads out until ``reopen()``."""
        self._closed = self._lock.acquire(timeout=self._patience_s)

    def reopen(self) -> None:
        """Let threads enter again."""
        if self._closed:
            self._closed = False
            self._lock.release()


_all: WeakSet[ForkGuard] = WeakSet()


def _before_fork() -> None:
    for each in list(_all):
        each.close()


def _after_fork() -> None:
    for each in list(_all):
        each.reopen()


def _in_child() -> None:
    _after_fork()
    for each in list(_all):
        each.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
