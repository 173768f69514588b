"""Notices that the loop ends without ``stop()``, as after ``asyncio.run()``, and says once what was forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kaiju_app._core.model import Reason
from kaiju_app._core.text import listed

from .entry import TaskEntry
from .events import log

SHOWN = 3  # Names of tasks in the log line.


class LoopEnd:
    """Tells the end of the loop from a cancellation of one run.

    Args:
        entries: The tasks of the scheduler, as they come and go.
    """

    def __init__(self, entries: Mapping[str, TaskEntry]) -> None:
        self._entries = entries
        self._ending: asyncio.AbstractEventLoop | None = None

    def reset(self) -> None:
        """Forget the last loop."""
        self._ending = None

    def why_cancelled(self) -> Reason:
        """Return why the current asyncio task, a run that nobody asked to end, gets a CancelledError."""
        loop = asyncio.get_running_loop()
        if self._ending is loop:  # There may be thousands of runs: they are not all compared with all others.
            return Reason.SHUTDOWN
        current = asyncio.current_task()
        if current is None or not current.cancelling() or not all(map(_is_cancelled, asyncio.all_tasks())):
            return Reason.WITHIN
        self._ending = loop
        self._say()
        return Reason.SHUTDOWN

    def _say(self) -> None:
        names = [repr(entry.name) for entry in self._entries.values() if entry.run is not None]
        log.warning(
            "the event loop is ending, but scheduler.stop() was not called: the runs in progress are cancelled (%s), "
            "and nothing runs from now on. Write `async with scheduler:` around the program, or await scheduler.stop() "
            "before it ends", listed(names, SHOWN),
        )  # fmt: skip


def _is_cancelled(task: asyncio.Task[object]) -> bool:
    """Return whether *task* was asked to end; main, and whoever cancels only some tasks, was not."""
    asked = getattr(task, "cancelling", None)  # A task factory may make other ones.
    return asked is not None and asked() > 0
