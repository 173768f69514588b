"""The floors: periodic tasks in bare asyncio, as fast as one can honestly write them by hand.

A floor keeps no history, no policy, no outcome and no name, and ignores runs that fail or last too long. It does keep
the grid (due += interval, never now + interval), and it can add, remove, start and stop.

| floor | what fires a run |
|---|---|
| F2 | a `call_at` per task; the function is called, without any asyncio task |
| F3 | a `call_at` per task that re-arms itself; a task per run |
| F4 | one heap, one `call_at`; a task per due run |
| F4y | F4, giving the loop back every millisecond |
| F4e | F4 with eager tasks (Python >= 3.12) |
| F5 | a queue per distinct interval, one `call_at`; a task per due run |
| F5e | F5 with eager tasks (Python >= 3.12) |

All times are seconds of `time.monotonic`, the clock of the loop.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from operator import itemgetter
from time import monotonic
from typing import Any

NOW = -inf  # As a first due time: at once.
NEXT = inf  # As a first due time: one interval from now.

SLICE_S = 0.001  # F4y: how long one turn may dispatch; the loop's own timers resolve no finer.
SMALL = 64  # Fewer entries than this are not worth compacting.

EAGER = sys.version_info >= (3, 12)

Body = Callable[[], Any]  # A coroutine function; for F2 a plain one.
Launch = Callable[[Coroutine[Any, Any, None]], object]

# An entry is a list, changed in place: re-arming a task allocates nothing but its next due time.
Entry = list[Any]
DUE, SEQ, INTERVAL, FUNC = range(4)  # SEQ breaks ties; FUNC None = removed.


def first_due(interval_s: float, first_due_s: float) -> float:
    """Turn a first due time, NOW or NEXT into seconds of the monotonic clock; the past becomes now."""
    now = monotonic()
    return now + interval_s if first_due_s == NEXT else max(first_due_s, now)


def plain_launch(loop: asyncio.AbstractEventLoop) -> Launch:
    """Make runs ordinary tasks, which start in a later turn of the loop."""
    return loop.create_task


def eager_launch(loop: asyncio.AbstractEventLoop) -> Launch:
    """Make runs eager tasks, which start inside the call. Skips `create_task`, which only passes on."""
    task: Any = asyncio.Task
    return partial(task, loop=loop, eager_start=True)


async def end_runs() -> None:
    """Cancel every task but the caller's, and wait until they are over.

    Asking the loop at the end spares the floor a reference per run. A benchmark process has no other tasks.
    """
    runs = asyncio.all_tasks() - {asyncio.current_task()}
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)


class _OneTimer:
    """What F4 and F5 share: a single `call_at`, armed for the earliest due time."""

    synchronous = False
    runs_every_tick = True
    gives_way = False
    launcher = staticmethod(plain_launch)

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._launch: Any = None
        self._timer: asyncio.Handle | None = None
        self._armed_s = inf
        self._removed = 0

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._launch = self.launcher(self._loop)
        self._arm(self._earliest())

    async def stop(self) -> None:
        self._loop = None
        if self._timer:
            self._timer.cancel()
        await end_runs()

    def _arm(self, due_s: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._armed_s = due_s
        self._timer = self._loop.call_at(due_s, self._dispatch) if self._loop and due_s < inf else None

    def _begin(self) -> float:
        """Open a dispatch: return what counts as now.

        The timer is believed: where a loop wakes early (uvloop, by up to 0.5 ms), its tick is due all the same, since
        re-arming for the rest would spin. The clock is read once: fresh reads can keep a dispatch from ever returning.
        """
        now = max(monotonic(), self._armed_s)
        self._timer = None
        self._armed_s = -inf  # A body that adds a task must not arm: the end of the dispatch does.
        return now

    def _earliest(self) -> float:
        raise NotImplementedError

    def _dispatch(self) -> None:
        raise NotImplementedError


class F4(_OneTimer):
    """One heap of `[due, seq, interval, func]`, one `call_at`, one task per due run."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[Entry] = []
        self._seq = 0

    def add(self, func: Body, interval_s: float, first_due_s: float) -> Entry:
        self._seq += 1
        entry: Entry = [first_due(interval_s, first_due_s), self._seq, interval_s, func]
        heappush(self._heap, entry)
        if entry[DUE] < self._armed_s:
            self._arm(entry[DUE])
        return entry

    def remove(self, entry: Entry) -> None:
        entry[FUNC] = None
        self._removed += 1
        if self._removed * 2 > len(self._heap) > SMALL:
            self._compact()

    def _compact(self) -> None:
        self._heap[:] = [entry for entry in self._heap if entry[FUNC] is not None]
        heapify(self._heap)
        self._removed = 0

    def _earliest(self) -> float:
        return self._heap[0][DUE] if self._heap else inf

    def _dispatch(self) -> None:
        heap, launch, now = self._heap, self._launch, self._begin()
        while heap and (entry := heap[0])[DUE] <= now:
            func = entry[FUNC]
            if func is None:
                heappop(heap)
                self._removed -= 1
                continue
            entry[DUE] += entry[INTERVAL]
            heapreplace(heap, entry)
            launch(func())
        self._arm(self._earliest())


class F4y(F4):
    """F4, giving the loop back after every millisecond of dispatching."""

    gives_way = True

    def _dispatch(self) -> None:
        heap, launch, now = self._heap, self._launch, self._begin()
        end = monotonic() + SLICE_S
        while heap and (entry := heap[0])[DUE] <= now:
            func = entry[FUNC]
            if func is None:
                heappop(heap)
                self._removed -= 1
                continue
            entry[DUE] += entry[INTERVAL]
            heapreplace(heap, entry)
            launch(func())
            if monotonic() >= end:
                self._yield()
                return
        self._arm(self._earliest())

    def _yield(self) -> None:
        """Go on in the next turn, behind the runs that are ready by now."""
        if self._loop:
            self._timer = self._loop.call_soon(self._dispatch)


class F4e(F4):
    """F4 with eager tasks."""

    launcher = staticmethod(eager_launch)


class F5(_OneTimer):
    """A queue of `[due, seq, interval, func]` per distinct interval: the next due time always goes to the back."""

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[float, deque[Entry]] = {}

    def add(self, func: Body, interval_s: float, first_due_s: float) -> Entry:
        entry: Entry = [first_due(interval_s, first_due_s), 0, interval_s, func]
        self._insert(self._queue(interval_s), entry)
        if entry[DUE] < self._armed_s:
            self._arm(entry[DUE])
        return entry

    def remove(self, entry: Entry) -> None:
        entry[FUNC] = None
        self._removed += 1
        if self._removed * 2 > sum(map(len, self._queues.values())) > SMALL:
            self._compact()

    def _queue(self, interval_s: float) -> deque[Entry]:
        queue = self._queues.get(interval_s)
        if queue is None:
            queue = self._queues[interval_s] = deque()
        return queue

    def _insert(self, queue: deque[Entry], entry: Entry) -> None:
        """Keep *queue* in order of due time; only a chosen first due time belongs elsewhere than at the back."""
        if not queue or queue[-1][DUE] <= entry[DUE]:
            queue.append(entry)
        else:
            insort(queue, entry, key=itemgetter(DUE))

    def _compact(self) -> None:
        for queue in self._queues.values():
            live = [entry for entry in queue if entry[FUNC] is not None]
            queue.clear()
            queue.extend(live)
        self._removed = 0

    def _earliest(self) -> float:
        return min((queue[0][DUE] for queue in self._queues.values() if queue), default=inf)

    def _dispatch(self) -> None:
        launch, now = self._launch, self._begin()
        for queue in tuple(self._queues.values()):
            while queue and (entry := queue[0])[DUE] <= now:
                func = entry[FUNC]
                if func is None:
                    queue.popleft()
                    self._removed -= 1
                    continue
                entry[DUE] += entry[INTERVAL]
                queue.rotate(-1)
                launch(func())
        self._arm(self._earliest())


class F5e(F5):
    """F5 with eager tasks."""

    launcher = staticmethod(eager_launch)
