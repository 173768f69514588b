"""Looks, from a thread of its own, where the loop is while it is blocked: afterwards nobody can tell.

The thread sleeps until a timer of the scheduler is overdue, and then takes one look at the stack of the loop's thread.
It touches nothing that the loop uses, and writes nothing to the log.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import islice

from kaiju_app._core.clock import substituted

from .blocks import Place, place_in
from .clock_monitor import MIN_NOTICED as PATIENCE
from .entry import TaskEntry
from .events import log
from .runner import current
from .timer_queue import MAX_SLEEP, SHORT_SLEEP, TimerQueue, longest_sleep

MOST_SEARCHED = 10_000  # Tasks that are looked at for one in progress: the search must not block the loop.
JOIN_S = 1.0


class LoopWatch:
    """Watches the loop of one scheduler. Times are steady-clock microseconds.

    Args:
        entries: The tasks by name.
        now: Reads the steady clock.
        enabled: Whether to watch at all.
    """

    def __init__(
        self, queue: TimerQueue, entries: Mapping[str, TaskEntry], now: Callable[[], int], *, enabled: bool
    ) -> None:
        self._queue = queue
        self._entries = entries
        self._now = now
        self._enabled = enabled
        self._thread: threading.Thread | None = None
        self._stopping = self._roused = threading.Event()
        self._alive = 0
        self._seen: tuple[int, Place | None] | None = None

    # --- in the loop ---

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch *loop*, in whose thread this is called."""
        if not self._enabled or substituted() is not None:  # No thread can sleep by a clock that jumps.
            return
        self._stopping, self._roused = threading.Event(), threading.Event()
        self._alive, self._seen = self._now(), None
        arguments = loop, threading.get_ident(), self._stopping, self._roused
        thread = threading.Thread(target=self._watch, args=arguments, name="kaiju_app: loop watch", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # There can be no more threads, or none of this kind.
            log.warning("nobody watches the loop: a block will be told without file and line (%s)", exc)
            return
        self._thread = thread
        self._queue.rouse, self._queue.most_sleep = self._roused.set, self._most_sleep

    def halt(self) -> None:
        """Let the thread end."""
        self._queue.watched_from = 0
        self._queue.most_sleep = longest_sleep
        self._stopping.set()
        self._roused.set()

    def close(self) -> None:
        """Wait for the end of the thread, which is near."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(JOIN_S)

    def forget(self) -> None:
        """Drop the thread in a forked process, which does not have it."""
        self._stopping, self._roused = threading.Event(), threading.Event()
        self._thread = None
        self._queue.watched_from = 0
        self._queue.most_sleep = longest_sleep

    def take(self) -> Place | None:
        """Return where the loop was in the block that has just ended, if the thread saw it; it may look again now."""
        since = self._since()
        self._alive, seen, self._seen = self._now(), self._seen, None
        return None if seen is None or seen[0] != since else seen[1]

    def owed(self) -> tuple[int, Place | None]:
        """Return for how long the loop has not got on, and where it is if the thread has looked; safe in any thread."""
        since, seen, now = self._since(), self._seen, self._now()
        late = 0 if self._is_idle() else max(0, now - since)
        return late, seen[1] if seen is not None and seen[0] == since else None

    def _most_sleep(self) -> int:
        """Return how long the timer may sleep: not long while a run is in progress, which may block the loop."""
        entries = islice(self._entries.values(), MOST_SEARCHED)
        busy = any(entry.run is not None and not entry.spec.threaded for entry in entries)
        return SHORT_SLEEP if busy else MAX_SLEEP

    # --- in either thread ---

    def _since(self) -> int:
        """Return since when the loop has owed a sign of life, or will."""
        return max(self._queue.expected, self._alive)

    def _is_idle(self) -> bool:
        """Return whether no timer is set, so that the loop owes nothing."""
        return self._queue.timer is None and not self._queue.waking

    # --- in the thread ---

    def _watch(
        self, loop: asyncio.AbstractEventLoop, ident: int, stopping: threading.Event, roused: threading.Event
    ) -> None:
        looked_for = 0
        while not (stopping.is_set() or loop.is_closed()):
            now, since, idle = self._now(), self._since(), self._is_idle()
            if idle:
                look_at = now + MAX_SLEEP
            elif now < since + PATIENCE:
                look_at = since + PATIENCE
            else:
                if looked_for != since:
                    looked_for = since
                    self._look(loop, ident, since)
                look_at = now + PATIENCE
            self._queue.watched_from = look_at - PATIENCE
            if since == self._since() and idle == self._is_idle():  # Otherwise an earlier timer was set meanwhile.
                roused.wait((look_at - now) / 1e6)
            roused.clear()

    def _look(self, loop: asyncio.AbstractEventLoop, ident: int, since: int) -> None:
        frame = sys._current_frames().get(ident)
        try:
            place = place_in(frame, self._task_in(loop))
        finally:
            del frame
        if since == self._since():  # It has not got on meanwhile.
            self._seen = since, place

    def _task_in(self, loop: asyncio.AbstractEventLoop) -> str | None:
        """Return the name of the task of whose run the loop executes a step; None if it is another step."""
        task = asyncio.current_task(loop)
        if task is None:
            return None
        if hasattr(task, "get_context"):  # Since Python 3.12. It tells of tasks that a run has made, too.
            run = task.get_context().get(current)
            return run.entry.name if run is not None and run.entry.run is run else None
        entry = self._entries.get(getattr(task, "get_name", str)())  # A task factory may make other ones.
        return None if entry is None or entry.run is None or entry.run.task not in (task, None) else entry.name
