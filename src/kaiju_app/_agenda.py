"""What comes next: one heap of (instant, number, entry) with lazy deletion."""

from __future__ import annotations

from heapq import heapify, heappush

from ._entry import Entry

FEW = 64  # Below this, dead items are not worth a sweep.


class Agenda:
    """Entries by the instant at which each wants to be looked at, in steady-clock microseconds.

    An item is alive as long as its entry remembers its number, as ``seq``, ``alarm`` or ``lift``: to drop one, forget
    the number and call ``dropped()``. The driver's loop works on ``heap`` itself, for speed.
    """

    __slots__ = ("dead", "heap", "number")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Entry]] = []
        self.number = 0
        self.dead = 0

    def push(self, instant: int, entry: Entry) -> int:
        """Have *entry* looked at at *instant*; return the number of the item, never 0."""
        self.number = number = self.number + 1
        heappush(self.heap, (instant, number, entry))
        return number

    def dropped(self) -> None:
        """Count one item as dead, and sweep when every second one is."""
        self.dead += 1
        if self.dead > FEW and 2 * self.dead > len(self.heap):
            # In place: the driver may be in the middle of its loop.
            self.heap[:] = [item for item in self.heap if item[1] in (item[2].seq, item[2].alarm, item[2].lift)]
            heapify(self.heap)
            self.dead = 0

    def clear(self) -> None:
        """Forget everything."""
        self.heap.clear()
        self.dead = 0
