"""What is looked at next: a heap of (time, number, entry) with lazy deletion, and the one timer set to its head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from heapq import heapify, heappush

from kaiju_app._core.clock import NEVER

from .entry import TaskEntry

MIN_DEAD = 64  # With fewer dead items than this, a sweep is not worth its time.
MAX_SLEEP = 60_000_000  # Wake at least this often, so that a machine that slept is noticed.
SHORT_SLEEP = 500_000  # The same while a run may block the loop.


class TimerQueue:
    """Entries by the steady time at which each is looked at, in microseconds.

    An item is alive as long as its entry has its number in ``seq``, ``alarm`` or ``lift``. To drop an item, forget the
    number and call ``mark_dead()``. The tick loop works on ``heap`` and ``number`` directly, for speed.

    Args:
        now: Reads the steady clock.
        entries: The tasks; without any, no timer is set.

    Attributes:
        started: Whether ticks come due: from ``open()`` to ``halt()``.
        wake: Called when the head is due. The engine assigns it.
        most_sleep: Returns how long the timer may sleep. Those who watch the loop assign it, and the next two.
        watched_from: From when on they will see that a timer is late; 0 if nobody does.
        rouse: Tells them of a timer that is earlier than that; safe in any thread.
        waking: Whether ``wake`` is running; it sets the timer itself when it is done.
        timer: The timer, if one is set.
        expected: When the timer will fire.
    """

    __slots__ = (
        "_context",
        "_entries",
        "_now",
        "_timer_at",
        "dead",
        "expected",
        "heap",
        "loop",
        "most_sleep",
        "number",
        "rouse",
        "started",
        "timer",
        "wake",
        "waking",
        "watched_from",
    )

    wake: Callable[[], None]
    rouse: Callable[[], None]

    def __init__(self, now: Callable[[], int], entries: Mapping[str, TaskEntry]) -> None:
        self.heap: list[tuple[int, int, TaskEntry]] = []
        self.number = 0
        self.dead = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = False
        self.waking = False
        self.timer: asyncio.Handle | None = None
        self.expected = 0
        self.most_sleep = longest_sleep
        self.watched_from = 0
        self._now = now
        self._entries = entries
        self._context = Context()
        self._timer_at = 0

    # --- items ---

    def push(self, at: int, entry: TaskEntry) -> int:
        """Have *entry* looked at *at* a time; return the number of the item, which is never 0."""
        self.number = number = self.number + 1
        heappush(self.heap, (at, number, entry))
        return number

    def mark_dead(self) -> None:
        """Count one more dead item; remove them all once they are the majority."""
        self.dead += 1
        if self.dead > MIN_DEAD and 2 * self.dead > len(self.heap):
            # In place: the tick loop may be iterating.
            self.heap[:] = [item for item in self.heap if item[1] in (item[2].seq, item[2].alarm, item[2].lift)]
            heapify(self.heap)
            self.dead = 0

    def clear(self) -> None:
        """Remove all items."""
        self.heap.clear()
        self.dead = 0

    # --- the timer ---

    def open(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        """Let ticks come due in *loop*; its callbacks run in *context*."""
        self.loop = loop
        self._context = context
        self.started = True

    def arm(self) -> None:
        """Set the timer to the head of the queue."""
        heap = self.heap
        if self.waking or not self._entries or self.loop is None or not self.started:
            return
        due = heap[0][0] if heap else NEVER  # Wake all the same: the wall clock may be stepped.
        if self.timer is not None:
            if self._timer_at <= due:
                return
            self.timer.cancel()
        self._timer_at = due
        now = self._now()
        delay = max(due - now, 0)
        if delay > SHORT_SLEEP:
            delay = min(delay, self.most_sleep())
        self.expected = expected = now + delay
        self.timer = self.loop.call_later(delay / 1e6, self.wake, context=self._context)
        if expected < self.watched_from:
            self.rouse()

    def arm_again(self) -> None:
        """Set the timer anew: it may have to fire earlier than when it was set."""
        if self.timer is None or self.waking:
            return
        left = self.expected - self._now()
        if left > SHORT_SLEEP and left > self.most_sleep():
            self.timer.cancel()
            self.timer = None
            self.arm()

    def call_soon(self, callback: Callable[[TaskEntry], None], entry: TaskEntry) -> None:
        """Call *callback* with *entry* in a later turn of the loop, unless the engine is stopped."""
        if self.loop is not None and self.started:
            self.loop.call_soon(callback, entry, context=self._context)

    def halt(self) -> None:
        """Let nothing come due any more."""
        self.started = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def close(self) -> None:
        """Release the loop."""
        self.loop = None
        self.timer = None  # In a forked process it is the parent's, and never fires.
        self._context = Context()


def longest_sleep() -> int:
    """Return how long the timer may sleep if nobody watches the loop."""
    return MAX_SLEEP
