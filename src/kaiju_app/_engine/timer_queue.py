"""What is looked at next, and the one timer set to it.

There is a heap of items with lazy deletion. The ticks of a plain interval need no heap: after one is handled, the next
of its task is due later than those of all other tasks of this interval. So they stand in a queue, their lane, and only
the first of each lane is in the heap. With 40,000 tasks, that is a sixth of what a run costs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, TypeAlias

from kaiju_app._core.clock import NEVER

from .entry import TaskEntry
from .policy import EARLY

Lane: TypeAlias = "deque[Item]"
Item: TypeAlias = "tuple[int, int, TaskEntry, Lane | None]"  # (when, number, whose, lane); its first two fields differ.

MAX_LANES = 64  # Intervals that have a lane. The ticks of more kinds of intervals are in the heap.
MIN_DEAD = 64  # With fewer dead items than this, a sweep is not worth its time.
MAX_SLEEP = 60_000_000  # Wake at least this often, so that a machine that slept is noticed.
SHORT_SLEEP = 500_000  # The same while a run may block the loop.


class TimerQueue:
    """Entries by the steady time at which each is looked at, in microseconds.

    An item is alive as long as its entry has its number in ``seq``, ``alarm`` or ``lift``. To drop an item, forget the
    number and call ``mark_dead()``. The tick loop looks at the head, ``heap[0]``, by itself, for speed.

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
        set_at: When it was set.
    """

    __slots__ = (
        "_context",
        "_entries",
        "_lanes",
        "_now",
        "_timer_at",
        "_without_lane",
        "dead",
        "expected",
        "heap",
        "loop",
        "most_sleep",
        "number",
        "rouse",
        "set_at",
        "size",
        "started",
        "timer",
        "wake",
        "waking",
        "watched_from",
    )

    wake: Callable[[], None]
    rouse: Callable[[], None]

    def __init__(self, now: Callable[[], int], entries: Mapping[str, TaskEntry]) -> None:
        self.heap: list[Item] = []
        self.number = 0
        self.size = 0
        self.dead = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started = False
        self.waking = False
        self.timer: asyncio.Handle | None = None
        self.expected = self.set_at = 0
        self.most_sleep = longest_sleep
        self.watched_from = 0
        self._now = now
        self._entries = entries
        self._lanes: dict[int, Lane] = {}
        self._without_lane = 0
        self._context = Context()
        self._timer_at = 0

    # --- items ---

    def push(self, at: int, entry: TaskEntry) -> int:
        """Have *entry* looked at *at* a time; return the number of the item, which is never 0."""
        self.number = number = self.number + 1
        self.size += 1
        heappush(self.heap, (at, number, entry, None))
        return number

    def push_tick(self, due: int, entry: TaskEntry) -> int:
        """Do as ``push()`` with a tick of a plain interval."""
        self.number = number = self.number + 1
        self._put(due, number, entry)
        return number

    def advance(self, entry: TaskEntry, due: int) -> None:
        """Replace the head, which is a tick of *entry*, whose interval is plain, by its tick that is *due* later."""
        heap = self.heap
        self.number = entry.seq = number = self.number + 1
        lane = heap[0][3]
        if lane is not None and lane[-1][0] <= due:  # Nearly always; only in an overload a tick may overtake others.
            lane.append((due, number, entry, lane))
            lane.popleft()
            heapreplace(heap, lane[0])
        elif lane is None and self._lane(entry.spec.gap, due) is None:
            heapreplace(heap, (due, number, entry, None))
        else:
            self.pop()
            self._put(due, number, entry)

    def pop(self) -> None:
        """Remove the head."""
        heap = self.heap
        self.size -= 1
        lane = heap[0][3]
        if lane is not None:
            lane.popleft()
        if lane:
            heapreplace(heap, lane[0])
        else:
            heappop(heap)

    def mark_dead(self) -> None:
        """Count one more dead item; remove them all once they are the majority."""
        self.dead += 1
        if self.dead > MIN_DEAD and 2 * self.dead > self.size:
            self._sweep()

    def items(self) -> Iterator[Item]:
        """Yield all items, dead ones too, in no order."""
        for item in self.heap:
            yield from (item,) if item[3] is None else item[3]

    def clear(self) -> None:
        """Remove all items."""
        self.heap.clear()
        for lane in self._lanes.values():
            lane.clear()  # Its items refer to it: leave no cycle to the garbage collector.
        self._lanes.clear()
        self.size = self.dead = 0

    def _put(self, due: int, number: int, entry: TaskEntry) -> None:
        """Put a tick of a plain interval into its lane, or into the heap."""
        self.size += 1
        lane = self._lane(entry.spec.gap, due)
        if lane is None:
            heappush(self.heap, (due, number, entry, None))
            return
        item = due, number, entry, lane
        lane.append(item)
        if len(lane) == 1:
            heappush(self.heap, item)

    def _lane(self, gap: int, due: int) -> Lane | None:
        """Return the lane of an interval for a tick that is *due*; None if its place is not at the end of a lane.

        A first tick that is far ahead would be the last one in its lane until then, and no other could follow it.
        """
        if due > self._now() + gap + EARLY:  # What comes after a tick that was handled early is no further ahead.
            return None
        lane = self._lanes.get(gap)
        if lane is None:
            self._without_lane += 1
            if len(self._lanes) >= MAX_LANES and self._without_lane % MAX_LANES == 0:
                self._lanes = {other: each for other, each in self._lanes.items() if each}
            if len(self._lanes) >= MAX_LANES:
                return None
            lane = self._lanes[gap] = deque()
        return None if lane and due < lane[-1][0] else lane

    def _sweep(self) -> None:
        """Remove all dead items, and the lanes in which none is left."""
        lanes = self._lanes
        for gap, lane in list(lanes.items()):
            alive = [item for item in lane if is_alive(item)]
            lane.clear()
            lane.extend(alive)
            if not lane:
                del lanes[gap]
        # In place: the tick loop may be iterating.
        self.heap[:] = [item for item in self.heap if item[3] is None and is_alive(item)]
        self.heap.extend(lane[0] for lane in lanes.values())
        heapify(self.heap)
        self.size -= self.dead
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
        self.set_at = now = self._now()
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
            self.set_anew()

    def set_anew(self) -> None:
        """Set the timer anew: what was known of the clocks when it was set is not true any more."""
        if self.timer is not None and not self.waking:
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


def is_alive(item: tuple[int, int, TaskEntry, Any]) -> bool:
    """Return whether the entry of *item* still waits for it."""
    _, number, entry, _ = item
    return number in (entry.seq, entry.alarm, entry.lift)


def longest_sleep() -> int:
    """Return how long the timer may sleep if nobody watches the loop."""
    return MAX_SLEEP
