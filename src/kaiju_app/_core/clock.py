"""The only module that reads a clock. Time is integer microseconds; datetimes are made here, for the public API.

Programs make their schedulers without a clock, often when they are imported. So that they can be tested as they are,
``substitute()`` lets this module read the clock of a test instead of the machine's; ``kaiju_app.testing`` calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from kaiju_app.errors import InvalidArgument

if TYPE_CHECKING:
    import asyncio

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = 1 << 62  # The time of a tick that does not exist, and the gap to it: 146,000 years.
_MICROSECOND = timedelta(microseconds=1)


def _monotonic(_: int) -> int:
    return time.monotonic_ns()


# CLOCK_BOOTTIME counts the time that the machine sleeps, CLOCK_MONOTONIC does not. Only Linux has the former.
_STEADY: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", -1))


_read: Callable[[int], int] = getattr(time, "clock_gettime_ns", _monotonic)
_substitute: Clock | None = None


def steady_us() -> int:
    """Return microseconds on a clock that never steps; on Linux it also runs while the machine sleeps."""
    return _read(_STEADY) // 1000 if _substitute is None else _substitute.steady()


def wall_us() -> int:
    """Return microseconds since the Unix epoch; this clock may step in either direction."""
    return time.time_ns() // 1000 if _substitute is None else _substitute.wall()


def awake_us() -> int:
    """Return microseconds on the clock of event loops, which on most systems stops while the machine sleeps."""
    return time.monotonic_ns() // 1000 if _substitute is None else (_substitute.awake or _substitute.steady)()


def substitute(clock: Clock | None) -> None:
    """Read *clock* instead of the clocks of the machine, in the whole process; None: read these again."""
    global _substitute
    _substitute = clock


def substituted() -> Clock | None:
    """Return the clock that is read instead of those of the machine; None if there is none."""
    return _substitute


class Timer(Protocol):
    """What a clock may do to the timer of a scheduler."""

    most_sleep: Callable[[], int]

    def set_anew(self) -> None:
        """Set the timer anew."""


@dataclass(frozen=True)
class Clock:
    """The clocks of a scheduler; tests replace them.

    Args:
        steady: Microseconds that never step: intervals and deadlines are measured on it.
        wall: Microseconds since the Unix epoch: calendar rules live on it, and people see it.
        awake: Like *steady*, but without the time that the machine sleeps. None if there is no such clock.

    Raises:
        InvalidArgument: One of them cannot be called.
    """

    steady: Callable[[], int] = steady_us
    wall: Callable[[], int] = wall_us
    awake: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        for name in ("steady", "wall", "awake"):
            clock = getattr(self, name)
            if not callable(clock) and (clock is not None or name != "awake"):
                raise InvalidArgument(name, clock, "must be callable, and return microseconds")

    def _join(self, loop: asyncio.AbstractEventLoop, identity: str, timer: Timer) -> str:
        """Let a scheduler with this clock start in *loop*; return its identity, which a test may replace.

        Args:
            timer: The timer of the scheduler, which a test may let sleep longer.

        Raises:
            VirtualTimeError: Time does not pass by this clock in *loop*.
        """
        return identity if self is not REAL or _substitute is None else _substitute._join(loop, identity, timer)


REAL = Clock(awake=awake_us)


def utc(us: int) -> datetime:
    """Return the aware UTC datetime *us* microseconds after the Unix epoch."""
    return EPOCH + timedelta(microseconds=us)


def epoch_us(moment: datetime) -> int:
    """Return the microseconds from the Unix epoch to the aware *moment*, exactly."""
    return (moment - EPOCH) // _MICROSECOND


BEGINNING = epoch_us(datetime.min.replace(tzinfo=UTC))  # Of the calendar: no tick is earlier.
END = epoch_us(datetime.max.replace(tzinfo=UTC))  # Of the calendar: no tick is later.
