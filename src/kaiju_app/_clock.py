"""The only place that reads a clock. Time is integer microseconds; datetimes are made here, at the edge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _monotonic(_: int) -> int:
    return time.monotonic_ns()


# CLOCK_BOOTTIME counts machine sleep, CLOCK_MONOTONIC does not; elsewhere than on Linux the latter has to do.
_STEADY: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", -1))


_read: Callable[[int], int] = getattr(time, "clock_gettime_ns", _monotonic)


def steady_us() -> int:
    """Return microseconds on a clock that never steps; on Linux it goes on while the machine sleeps."""
    return _read(_STEADY) // 1000


def wall_us() -> int:
    """Return microseconds since the Unix epoch; it may step either way."""
    return time.time_ns() // 1000


def awake_us() -> int:
    """Return microseconds on the clock of event loops, which on most systems stands still while the machine sleeps."""
    return time.monotonic_ns() // 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of a scheduler, to be replaced in tests.

    Args:
        steady: Microseconds that never step: what intervals and deadlines are counted on.
        wall: Microseconds since the Unix epoch: what calendars live on, and what people are shown.
        awake: As *steady*, but without the time that the machine sleeps; None: the two are not told apart.
    """

    steady: Callable[[], int] = steady_us
    wall: Callable[[], int] = wall_us
    awake: Callable[[], int] | None = None


REAL = Clock(awake=awake_us)


def utc(us: int) -> datetime:
    """Return the aware UTC datetime *us* microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=us)


def epoch_us(moment: datetime) -> int:
    """Return the microseconds from the Unix epoch to the aware *moment*, exactly."""
    return (moment - EPOCH) // _MICROSECOND
