"""The reminder that a scheduler was given tasks and never started. It is logged when that is certain: at its end."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from weakref import WeakSet

from kaiju_app._core.text import calling_place, listed
from kaiju_app._engine.entry import TaskEntry
from kaiju_app._engine.events import log

SHOWN = 3  # Names of tasks in the reminder.


class Reminder:
    """Says, when it is collected or when the interpreter exits, that a scheduler was never started.

    Args:
        entries: The tasks of the scheduler, as they come and go.
    """

    __slots__ = ("__weakref__", "_entries", "_is_over", "_made_at")

    def __init__(self, entries: Mapping[str, TaskEntry]) -> None:
        self._entries = entries
        self._is_over = False
        self._made_at = calling_place()
        _reminders.add(self)

    def drop(self) -> None:
        """Say nothing: the scheduler was started, or is not meant to be."""
        self._is_over = True

    def __del__(self) -> None:
        self.say()

    def say(self) -> None:
        """Log it, once, if there are tasks."""
        if self._is_over or not self._entries:
            return
        self._is_over = True
        log.warning(
            "the scheduler made at %s was never started, so its tasks never ran: %s. Write `async with scheduler:` "
            "around the program, or in the lifespan of a web framework; an Application starts its scheduler in "
            "run_app(app) and in `async with app:`",
            self._made_at, listed([repr(name) for name in self._entries], SHOWN),
        )  # fmt: skip


_reminders: WeakSet[Reminder] = WeakSet()


def drop_all() -> None:
    """Say nothing of the schedulers that there are: their program was only loaded, or a forked process starts them."""
    for reminder in list(_reminders):
        reminder.drop()


def _at_exit() -> None:
    if hasattr(sys, "last_type"):  # The program failed before it came to the start, and has said so.
        drop_all()
    for reminder in list(_reminders):
        reminder.say()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=drop_all)
