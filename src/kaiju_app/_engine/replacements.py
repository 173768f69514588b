"""Tasks that have taken the name of another one, whose run is still in progress: they wait for its end."""

from __future__ import annotations

from collections.abc import Callable

from .controls import Controls
from .entry import Hold, TaskEntry


class Replacements:
    """The tasks of one scheduler that wait for the run of the task that they replace.

    Args:
        entries: The tasks by name; a replaced one gets another name here.
        now: Reads the steady clock.
    """

    def __init__(self, entries: dict[str, TaskEntry], now: Callable[[], int], controls: Controls) -> None:
        self._entries = entries
        self._now = now
        self._controls = controls
        self._waiting: dict[TaskEntry, tuple[TaskEntry, Hold]] = {}
        """By the task that was replaced: the one that waits, and what holds it."""

    def replace(self, old: TaskEntry, new: TaskEntry) -> None:
        """Keep *new* from running until the run of *old*, which was removed, or of one before it has ended."""
        running = old if self._entries.get(old.name) is old else self.predecessor(old)
        if running is None:
            return
        if running is old:
            del self._entries[old.name]
            old.name = self._free_name(old.name)
            self._entries[old.name] = old
        hold = Hold(f"the run of task {running.name!r}", "two runs of a task never overlap", self._now())
        self._waiting[running] = new, hold
        self._controls.hold(new, hold)

    def predecessor(self, entry: TaskEntry) -> TaskEntry | None:
        """Return the task that *entry* has replaced, as long as its run is in progress."""
        return next((old for old, (new, _) in self._waiting.items() if new is entry), None)

    def on_forgotten(self, entry: TaskEntry) -> None:
        """Let the task run that waits for *entry*, which is over."""
        if entry in self._waiting:
            self._controls.unhold(*self._waiting.pop(entry))

    def _free_name(self, name: str) -> str:
        replaced = f"{name} (replaced)"
        number = 1
        while replaced in self._entries:
            number += 1
            replaced = f"{name} (replaced)#{number}"
        return replaced
