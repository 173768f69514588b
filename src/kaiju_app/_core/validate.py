"""Checks of single arguments. Their errors name the argument, the value and what to give instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from kaiju_app.errors import InvalidArgument

from .text import shortened

F = TypeVar("F")

MIN_GAP_S = 0.001  # The loop's timers have a resolution of one millisecond.
MAX_GAP_S = 100 * 366 * 86_400  # A century: a longer gap is a mistake in the unit, not a schedule.

MAX_KEY_BYTES = 1_000  # An index entry has 2,704 bytes and must hold two keys and a few more fields.

MICROSECOND = timedelta(microseconds=1)


def gap_us(argument: str, value: object) -> int:
    """Return the distance between two ticks, given in seconds or as a ``timedelta``, in microseconds.

    Raises:
        InvalidArgument: It is not a number, a bool, below 1 ms or above 100 years.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgument(argument, value, "must be a number of seconds or a timedelta")
    if not MIN_GAP_S <= seconds <= MAX_GAP_S:  # Refuses NaN and infinity too.
        raise InvalidArgument(argument, value, "must be at least 0.001 seconds and at most 100 years")
    if isinstance(value, timedelta):
        return value // MICROSECOND
    # A product of floats may be off by one, and a number that was divided by a million must come back unchanged.
    return product(1_000_000, seconds)


def product(whole: int, number: float) -> int:
    """Return the exact product, rounded to the nearest integer, halves to the even one."""
    numerator, denominator = number.as_integer_ratio()
    quotient, rest = divmod(whole * numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))


def duration_us(argument: str, value: float | timedelta) -> int:
    """Return a duration, given in seconds or as a ``timedelta``, in microseconds.

    Raises:
        InvalidArgument: It is not a number, a bool, negative or not finite.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgument(argument, value, "must be a number of seconds or a timedelta")
    if not 0 <= seconds <= MAX_GAP_S:  # Refuses NaN and infinity too.
        raise InvalidArgument(argument, value, "must be at least 0 seconds and at most 100 years")
    return max(1, round(seconds * 1_000_000)) if seconds else 0


def integer(argument: str, value: int, *, at_least: int) -> int:
    """Return *value* if it is an integer of at least *at_least*.

    Raises:
        InvalidArgument: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidArgument(argument, value, f"must be an integer of at least {at_least}")
    return value


def flag(argument: str, value: bool) -> bool:
    """Return *value* if it is True or False: 1, "no" and None may be mistakes.

    Raises:
        InvalidArgument: It is not.
    """
    if value is not True and value is not False:
        raise InvalidArgument(argument, value, "must be True or False")
    return value


def function(argument: str, value: F, example: str) -> F:
    """Return *value* if it can be called.

    Args:
        argument: Its name.
        value: What was given.
        example: What to give, for the error.

    Raises:
        InvalidArgument: It cannot.
    """
    if not callable(value):
        raise InvalidArgument(argument, value, f"must be callable, such as {example}: without calling it")
    return value


def text(argument: str, value: str, advice: str = "") -> str:
    """Return *value* if it is a string.

    Args:
        argument: Its name.
        value: What was given.
        advice: What to do if something else was meant, for the error.

    Raises:
        InvalidArgument: It is not.
    """
    if not isinstance(value, str):
        raise InvalidArgument(argument, value, f"must be text{advice}")
    return value


def reason(value: str | None, advice: str = "") -> str | None:
    """Return the reason *value*, ``shortened()``, if it is a string or None; see ``text()``.

    Raises:
        InvalidArgument: It is neither.
    """
    return None if value is None else shortened(text("reason", value, f" that says why{advice}"))


def key(argument: str, value: str) -> str:
    """Return *value* if every store can use it as a key.

    Raises:
        InvalidArgument: It is not a string, is empty or too long, or has characters that a database cannot store.
    """
    if not isinstance(value, str) or not value:
        raise InvalidArgument(argument, value, "must be a non-empty string")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise InvalidArgument(argument, value, "must not contain NUL or a lone surrogate, which no database can store")
    size = len(value.encode())
    if size > MAX_KEY_BYTES:
        rule = f"must be at most {MAX_KEY_BYTES} bytes of UTF-8 to fit into a database index, but is {size} bytes long"
        raise InvalidArgument(argument, value, rule)
    return str(value)


def aware(argument: str, value: object) -> datetime:
    """Return *value*, an aware datetime, in UTC, where no two instants look alike.

    Raises:
        InvalidArgument: It is not a datetime, or it is naive and could mean any time zone.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArgument(argument, value, "must be an aware datetime such as datetime.now(UTC)")
    return value.astimezone(UTC)


def naive(argument: str, value: object) -> datetime:
    """Return *value* if it is a naive local datetime.

    Raises:
        InvalidArgument: It is not.
    """
    if not isinstance(value, datetime) or value.tzinfo is not None:
        raise InvalidArgument(argument, value, "must be a naive local datetime")
    return value


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Give the arguments that are refused inside the *names* by which the caller knows them."""
    try:
        yield
    except InvalidArgument as exc:
        raise InvalidArgument(names.get(exc.argument, exc.argument), exc.value, exc.rule) from None
