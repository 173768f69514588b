"""Counts the ticks that were overtaken because the loop has too much to do, and records them from time to time.

An overload must not make itself worse: a late tick costs no more than a punctual one. So nothing is recorded for each
overtaken tick. A task has one open record of them, which the history shows before the latest run. It is closed, and a
new one begins, a minute after it was opened; listeners hear its opening and its closing, as of any record of skips.
"""

from __future__ import annotations

from collections import deque

from . import ledger, policy
from .clock_monitor import ClockMonitor
from .entry import TaskEntry
from .events import Notifier
from .overtaken import Overtaken

MAX_OPEN = 60_000_000  # A record of overtaken ticks is closed after a minute: listeners learn of a lasting overload.
MOST_CLOSED = 4  # Records that are closed in one slice: thousands may have been opened at once.


class Overload:
    """The overtaken ticks of one scheduler's tasks.

    Args:
        history: Records kept for each task.
    """

    def __init__(self, monitor: ClockMonitor, notifier: Notifier, history: int) -> None:
        self._monitor = monitor
        self._notifier = notifier
        self._history = history
        self._open: deque[tuple[int, TaskEntry]] = deque()
        """The tasks that have such a record, and when it was opened."""
        self._untold: deque[tuple[TaskEntry, Overtaken]] = deque()

    def overtake(self, entry: TaskEntry, now: int) -> bool:
        """Let the latest due tick of *entry*, whose interval is plain, overtake the others.

        Returns:
            Whether that is what becomes of the due ticks; otherwise nothing was changed.
        """
        first, spec, monitor = entry.due, entry.spec, self._monitor
        number = policy.overtaken(spec, first, now, monitor.stalled_until)
        if number is None:
            return False
        if number:
            gap, overtaken = spec.gap, entry.overtaken
            entry.due = tick = first + number * gap
            if overtaken is None:
                self.count(entry, first, tick - gap, number, now)
            else:  # What count() does, written out: in an overload every run comes here.
                overtaken.last = tick - gap + monitor.offset - overtaken.offset
                overtaken.number += number
        return True

    def count(self, entry: TaskEntry, first: int, last: int, number: int, now: int, *, more: bool = False) -> None:
        """Count ticks of *entry* that were overtaken: *number* of them or *more*, from *first* to *last*."""
        opened = ledger.overtake(entry, first, last, number, self._monitor.offset, more=more)
        if opened is not None:
            self._open.append((now, entry))
            self._untold.append((entry, opened))

    def tell_opened(self, now: int) -> None:
        """Tell of the records that were opened, while no tick is half handled: a listener may remove any task."""
        while self._untold:
            entry, opened = self._untold.popleft()
            self._notifier.skipped(entry, ledger.record_of_overtaken(opened), True, now)

    def close_old(self, now: int) -> None:
        """Close some of the records that were opened more than a minute ago."""
        opened = self._open
        for _ in range(MOST_CLOSED):
            if not opened or now - opened[0][0] < MAX_OPEN:
                return
            self._close(opened.popleft()[1], now)

    def close_all(self, now: int) -> None:
        """Close all records: the scheduler stops."""
        self.tell_opened(now)
        while self._open:
            self._close(self._open.popleft()[1], now)

    def forget(self) -> None:
        """Forget the records without a word, in a forked process."""
        for _, entry in self._open:
            entry.overtaken = None
        self._open.clear()
        self._untold.clear()

    def _close(self, entry: TaskEntry, now: int) -> None:
        for record in ledger.close_overtaken(entry, now, self._history):
            self._notifier.closed(entry, record)
