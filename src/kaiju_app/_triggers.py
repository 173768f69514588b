"""WHEN: pure rules that yield due times. No clock, no cursor: a trigger is asked about an instant and forgets it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from ._clock import EPOCH, epoch_us, utc
from .errors import InvalidArgument

MIN_GAP_S = 0.001  # The loop's timers have a resolution of one millisecond.
MAX_GAP_S = 100 * 366 * 86_400  # A century: longer is a mistake in the unit, not a schedule.


@runtime_checkable
class Trigger(Protocol):
    """A rule that yields due times. Anything with these two methods is one."""

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""


@dataclass(frozen=True, slots=True, init=False)
class Every:
    """A tick every so often, on a fixed grid.

    Args:
        seconds: Distance of two ticks: seconds or a ``timedelta``, from 1 ms to 100 years, rounded to microseconds.
        anchor: Aware datetime of one tick of the grid; None: the Unix epoch, so that equal rules tick together.

    Raises:
        InvalidArgument: *seconds* is out of range or no number, or *anchor* is naive.
    """

    gap_us: int
    anchor: datetime

    def __init__(self, seconds: float | timedelta, anchor: datetime | None = None) -> None:
        object.__setattr__(self, "gap_us", gap_us("seconds", seconds))
        object.__setattr__(self, "anchor", EPOCH if anchor is None else aware("anchor", anchor))

    def after(self, moment: datetime, /) -> datetime:
        """Return the first tick strictly later than the aware *moment*."""
        us = epoch_us(aware("moment", moment))
        return utc(us + self.gap_us - (us - epoch_us(self.anchor)) % self.gap_us)

    def at_or_before(self, moment: datetime, /) -> datetime:
        """Return the last tick not later than the aware *moment*."""
        us = epoch_us(aware("moment", moment))
        return utc(us - (us - epoch_us(self.anchor)) % self.gap_us)

    def __str__(self) -> str:
        since = "" if self.anchor == EPOCH else f" counted from {self.anchor.isoformat()}"
        return f"every {self.gap_us / 1e6:.15g} s{since}"


def gap_us(argument: str, value: object) -> int:
    """Return a distance of ticks, given in seconds or as a ``timedelta``, in microseconds.

    Raises:
        InvalidArgument: Not a number, a bool, below 1 ms or above 100 years.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgument(argument, value, "must be a number of seconds or a timedelta")
    if not MIN_GAP_S <= seconds <= MAX_GAP_S:  # Refuses NaN and infinity too.
        raise InvalidArgument(argument, value, "must be at least 0.001 seconds and at most 100 years")
    return round(seconds * 1_000_000)


def aware(argument: str, value: object) -> datetime:
    """Return *value*, an aware datetime, in UTC, where no two instants look alike.

    Raises:
        InvalidArgument: Not a datetime, or a naive one, which could mean any of the world's zones.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArgument(argument, value, "must be an aware datetime such as datetime.now(UTC)")
    return value.astimezone(UTC)
