"""The measuring instruments, the same for every candidate. Seconds are those of `time.monotonic` unless said."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, inf, nan
from time import monotonic, process_time
from types import TracebackType


class Probe:
    """The body of one task: notes how late it starts.

    The nominal time comes from the grid the task was registered with, not from the candidate: to ask a candidate would
    be billed to the candidate only, and floors have no answer. A candidate that runs every tick runs them in order, so
    its k-th call answers the k-th tick. One that leaves missed ticks out answers, with one call, all ticks due so far;
    its lateness is that of the oldest of them. So an omitted tick counts against it as a late one, and the next
    call is measured against the next tick.
    """

    __slots__ = ("_due_s", "_interval_s", "_note", "_omits_at_s")

    def __init__(
        self, note: Callable[[float], None], interval_s: float, due_s: float, *, runs_every_tick: bool
    ) -> None:
        self._note = note
        self._interval_s = interval_s
        self._due_s = due_s
        self._omits_at_s = inf if runs_every_tick else interval_s

    def call(self) -> None:
        """Note the lateness of this call, in seconds."""
        late_s = monotonic() - self._due_s
        self._note(late_s)
        self._due_s += self._interval_s
        if late_s >= self._omits_at_s:
            self._due_s += late_s // self._interval_s * self._interval_s

    async def run(self) -> None:
        """Note the lateness of this run, in seconds."""
        self.call()


class SlowProbe:
    """The body of one task of W6: lasts longer than its interval, and counts how many of it run at once."""

    __slots__ = ("_active", "_body_s", "most_at_once", "starts")

    def __init__(self, body_s: float) -> None:
        self._body_s = body_s
        self._active = 0
        self.most_at_once = 0
        self.starts = 0

    async def run(self) -> None:
        self.starts += 1
        self._active += 1
        if self._active > self.most_at_once:
            self.most_at_once = self._active
        try:
            await asyncio.sleep(self._body_s)
        finally:
            self._active -= 1


class Window:
    """Seconds and CPU seconds (all threads of this process) between entry and exit."""

    def __enter__(self) -> Window:
        self._opened_s, self._cpu_s = monotonic(), process_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.cpu_s = process_time() - self._cpu_s
        self.lasted_s = monotonic() - self._opened_s


class Heartbeat:
    """Measures the longest time in which the loop served no other callback.

    The beat is a socket that is always readable: its callback comes once a turn, behind everything that was ready
    before, which is where an application's own request would stand. A chain of `call_soon` keeps a place in the queue
    that no request has, and would not see the runs it overtakes; a ticker of 1 ms cannot see less than the 1-2 ms
    it sleeps itself. The price, one callback a turn and a loop that never sleeps, is the same for every candidate.
    """

    def __init__(self) -> None:
        self._beat_s = monotonic()
        self.longest_s = 0.0

    def beat(self) -> None:
        """Note the time since the last beat."""
        now = monotonic()
        self.longest_s = max(self.longest_s, now - self._beat_s)
        self._beat_s = now


@contextmanager
def heartbeat() -> Iterator[Heartbeat]:
    """Watch the running loop for blocks until the context is left."""
    readable, writer = socket.socketpair()
    writer.send(b"\0")  # Never read: the other end stays readable.
    loop, beat = asyncio.get_running_loop(), Heartbeat()
    loop.add_reader(readable, beat.beat)
    try:
        yield beat
    finally:
        loop.remove_reader(readable)
        readable.close()
        writer.close()


@contextmanager
def collections() -> Iterator[list[float]]:
    """Watch the garbage collector until the context is left; the only item is the longest collection, in seconds."""
    longest, began_s = [0.0], 0.0

    def watch(phase: str, _: dict[str, int]) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = monotonic()
        else:
            longest[0] = max(longest[0], monotonic() - began_s)

    gc.callbacks.append(watch)
    try:
        yield longest
    finally:
        gc.callbacks.remove(watch)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that *share* of the values do not exceed (nearest rank)."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def resident_bytes() -> float:
    """Return the resident memory of this process; NaN without ``/proc/self/statm`` (proc(5)).

    The peak that getrusage offers elsewhere would hide what was freed meanwhile.
    """
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return nan


async def sleep_until(when_s: float) -> None:
    """Sleep until *when_s* by the monotonic clock."""
    await asyncio.sleep(when_s - monotonic())
