"""Arguments at the door: what they must be, in errors that name the argument, the value and the way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from .errors import InvalidArgument

MIN_GAP_S = 0.001  # The loop's timers have a resolution of one millisecond.
MAX_GAP_S = 100 * 366 * 86_400  # A century: longer is a mistake in the unit, not a schedule.

MOST_BYTES = 1_000  # Two of them, and what stands beside them, have to fit into an entry of an index: 2,704 bytes.

MICROSECOND = timedelta(microseconds=1)


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
    if isinstance(value, timedelta):
        return value // MICROSECOND
    # A product of floats may miss by one, and what was divided by a million has to come back.
    return round(Fraction(seconds) * 1_000_000)


def duration_us(argument: str, value: float | timedelta) -> int:
    """Return a duration given in seconds, or as a ``timedelta``, in microseconds.

    Raises:
        InvalidArgument: Not a number, a bool, negative, or not finite.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgument(argument, value, "must be a number of seconds or a timedelta")
    if not 0 <= seconds <= MAX_GAP_S:  # Refuses NaN and infinity too.
        raise InvalidArgument(argument, value, "must be 0 or more seconds, and at most 100 years")
    return max(1, round(seconds * 1_000_000)) if seconds else 0


def whole(argument: str, value: int, *, at_least: int) -> int:
    """Return *value* if it is a whole number of at least *at_least*.

    Raises:
        InvalidArgument: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidArgument(argument, value, f"must be a whole number of at least {at_least}")
    return value


def key(argument: str, value: str) -> str:
    """Return *value* if it is a text by which any store can find something.

    Raises:
        InvalidArgument: It is not.
    """
    if not isinstance(value, str) or not value:
        raise InvalidArgument(argument, value, "must be a text that is not empty")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise InvalidArgument(argument, value, "must have no NUL and no half of a character: no database keeps them")
    if len(value.encode()) > MOST_BYTES:
        rule = f"must be at most {MOST_BYTES} bytes of UTF-8, not {len(value.encode())}: no database finds more by it"
        raise InvalidArgument(argument, value, rule)
    return str(value)


def aware(argument: str, value: object) -> datetime:
    """Return *value*, an aware datetime, in UTC, where no two instants look alike.

    Raises:
        InvalidArgument: Not a datetime, or a naive one, which could mean any of the world's zones.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArgument(argument, value, "must be an aware datetime such as datetime.now(UTC)")
    return value.astimezone(UTC)
