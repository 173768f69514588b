"""The store that all simulated instances share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from kaiju_app.stores import MemoryStore
from kaiju_app.stores._record import LedgerRow, TaskRecord

T = TypeVar("T")


def at_once(job: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that must not wait for anything, and return its result."""
    try:
        job.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    job.close()
    raise AssertionError("the store awaited something, so its call was not atomic")


class SharedStore(MemoryStore):
    """The store itself. Calls *changed* for every change, at the instant of the change."""

    def __init__(
        self, clock: Callable[[], int], changed: Callable[[TaskRecord | None, TaskRecord | None], None]
    ) -> None:
        super().__init__(clock)
        self._changed = changed

    def lose(self) -> None:
        """Lose all records, and what is known of instances."""
        self._records.clear()
        self._instances.clear()

    async def prune(self, *, keep: int, age: int) -> int:
        """Delete nothing: the checks need all rows, however old they are by a clock that jumps."""
        return 0

    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        done = await super().swap(old, new, rows)
        if done:
            self._changed(old, new)
        return done
