"""How late the loop gets round to a timer: quantiles of the last minute, from counts in bins."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .blocks import Place

WINDOW = 10_000_000
WINDOWS = 6  # A minute of them.
BINS = 8 * 64  # Eight for each power of two: a quantile is off by a sixteenth of itself at most.


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How late the event loop got round to the timers of the scheduler in the last minute.

    Attributes:
        p50_s: Half of the wake-ups were later than this, in seconds.
        p99_s: One in a hundred was.
        max_s: The latest one, or the longest run of code that blocked it.
        cause: What had kept the loop then: the task, and file and line of its code; None if nobody saw that.
    """

    p50_s: float
    p99_s: float
    max_s: float
    cause: str | None

    def json_repr(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"p50_s": self.p50_s, "p99_s": self.p99_s, "max_s": self.max_s, "cause": self.cause}


class LagMeter:
    """Counts how late the timer of one scheduler fires. Times are steady-clock microseconds."""

    __slots__ = ("_cause", "_counts", "_max", "_past", "_until")

    def __init__(self) -> None:
        self._past: deque[tuple[int, list[int], int, Place | None]] = deque(maxlen=WINDOWS)
        self._until = 0
        self._counts = [0] * BINS
        self._max = 0
        self._cause: Place | None = None

    def note(self, late: int, now: int) -> None:
        """Count a timer that fired *late* microseconds late; uvloop fires some early."""
        if now >= self._until:
            self._turn(now)
        if late > self._max:
            self._max = late
            self._cause = None
        if late < 16:
            self._counts[late if late > 0 else 0] += 1
        else:
            shift = late.bit_length() - 4
            self._counts[(shift << 3) + (late >> shift)] += 1

    def blame(self, late: int, place: Place | None) -> None:
        """Say where the loop was in the *late* microseconds that were just noted."""
        if late >= self._max:
            self._cause = place

    def report(self, now: int, owed: int = 0, where: Place | None = None) -> LoopLag | None:
        """Return the quantiles of the last minute; None if no timer has fired in it.

        Args:
            owed: For how long a timer is overdue that has not fired yet.
            where: Where the loop is meanwhile, if that is known.
        """
        latest = self._until, self._counts, self._max, self._cause
        windows = [each for each in [*self._past, latest] if each[0] > now - WINDOW * WINDOWS]
        counts = [sum(column) for column in zip(*(each[1] for each in windows), strict=True)]
        total = sum(counts)
        if not total:
            return None
        _, _, most, place = max(windows, key=lambda each: each[2])
        if owed > most:
            most, place = owed, where
        task = "" if place is None or place.task is None else f"task {place.task!r}, "
        p50, p99 = (min(most, _quantile(counts, total, part)) / 1e6 for part in (0.5, 0.99))
        return LoopLag(p50, p99, most / 1e6, None if place is None else f"{task}{place}")

    def _turn(self, now: int) -> None:
        """Begin a new window."""
        if self._until:
            self._past.append((self._until, self._counts, self._max, self._cause))
        self._until = now + WINDOW
        self._counts = [0] * BINS
        self._max = 0
        self._cause = None


def _quantile(counts: list[int], total: int, part: float) -> int:
    """Return the middle of the bin in which the quantile is."""
    left = total * part
    for number, count in enumerate(counts):
        left -= count
        if left <= 0:
            return _middle(number)
    raise ValueError(f"nothing is counted, or less than {total}")


def _middle(number: int) -> int:
    if number < 16:
        return number
    shift = (number >> 3) - 1
    return ((number - (shift << 3)) << shift) + (1 << shift >> 1)
