"""A fork copies one thread and all locks: in the child, nobody ever opens those that the other threads had closed."""

from __future__ import annotations

import os
from threading import RLock
from weakref import WeakSet


class NotInAFork:
    """A context that no fork cuts in two: whoever forks waits for its end, but not for ever.

    Args:
        patience_s: Seconds that a fork waits.
    """

    def __init__(self, patience_s: float) -> None:
        self._lock = RLock()
        self._patience_s = patience_s
        self._hushed = False
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def hush(self) -> None:
        """Let nobody enter before ``go_on()``."""
        self._hushed = self._lock.acquire(timeout=self._patience_s)

    def go_on(self) -> None:
        """Let them enter again."""
        if self._hushed:
            self._hushed = False
            self._lock.release()


_all: WeakSet[NotInAFork] = WeakSet()


def _hush() -> None:
    for each in list(_all):
        each.hush()


def _go_on() -> None:
    for each in list(_all):
        each.go_on()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hush, after_in_parent=_go_on, after_in_child=_go_on)
