"""WHEN: pure rules that yield due times. No clock, no cursor: a trigger is asked about an instant and forgets it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol, runtime_checkable

from ._arguments import MICROSECOND, aware, gap_us, whole
from ._clock import EPOCH, epoch_us, utc
from .errors import InvalidArgument, SearchTooLong

SHOWN = 3  # Moments of an At in words; more do not fit a line.

SOME_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)

LAST = datetime.max.replace(tzinfo=UTC)

Stretch = tuple[datetime, datetime]
"""Aware UTC datetimes, from the first to, not including, the second."""


@runtime_checkable
class Trigger(Protocol):
    """A rule that yields due times. Anything with these two methods is one."""

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""


class BaseTrigger(ABC):
    """What the triggers of this package can do beyond the two questions."""

    __slots__ = ()

    @abstractmethod
    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""

    @abstractmethod
    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""

    @abstractmethod
    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values.

        Raises:
            InvalidArgument: It holds a trigger that is none of this package's.
        """

    def ticks(self, after: datetime, /) -> Iterator[datetime]:
        """Yield the ticks strictly later than the aware *after*, in order."""
        return _asked_again(self, aware("after", after))

    def upcoming(self, after: datetime, n: int) -> list[datetime]:
        """Return the next *n* ticks strictly later than the aware *after*; fewer if there are fewer.

        Raises:
            InvalidArgument: *n* is no whole number or below 0, or *after* is naive.
            SearchTooLong: It was not found out whether there are as many.
        """
        return upcoming(self, after, n)

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return what is covered around the aware *moment* where this rule is excluded: by itself, a tick alone."""
        return _tick_alone(self, aware("moment", moment))


@dataclass(frozen=True, slots=True, init=False)
class Every(BaseTrigger):
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

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None at the end of the calendar."""
        us = epoch_us(aware("moment", moment))
        with suppress(OverflowError):
            return utc(us + self.gap_us - (us - epoch_us(self.anchor)) % self.gap_us)
        return None

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None at the beginning of the calendar."""
        us = epoch_us(aware("moment", moment))
        with suppress(OverflowError):
            return utc(us - (us - epoch_us(self.anchor)) % self.gap_us)
        return None

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values; the anchor as UTC ISO text."""
        form: dict[str, object] = {"every": self._seconds}
        return form if self.anchor == EPOCH else form | {"anchor": self.anchor.isoformat()}

    def __str__(self) -> str:
        since = "" if self.anchor == EPOCH else f" counted from {self.anchor.isoformat()}"
        return f"every {self._seconds} s{since}"

    @property
    def _seconds(self) -> int | float:
        whole, rest = divmod(self.gap_us, 1_000_000)
        return self.gap_us / 1e6 if rest else whole


@dataclass(frozen=True, slots=True, init=False)
class At(BaseTrigger):
    """A tick at each of some moments, and no other.

    Args:
        moments: Aware datetimes, at least one, in any order; equal ones are one.

    Raises:
        InvalidArgument: There is none, or one is naive.
    """

    moments: tuple[datetime, ...]

    def __init__(self, *moments: datetime) -> None:
        if not moments:
            raise InvalidArgument("moments", moments, "must be at least one aware datetime")
        object.__setattr__(self, "moments", tuple(sorted({aware("moments", each) for each in moments})))

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first of the moments strictly later than the aware *moment*; None if there is none."""
        place = bisect_right(self.moments, aware("moment", moment))
        return self.moments[place] if place < len(self.moments) else None

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last of the moments not later than the aware *moment*; None if there is none."""
        place = bisect_right(self.moments, aware("moment", moment))
        return self.moments[place - 1] if place else None

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values; moments as UTC ISO text."""
        return {"at": [each.isoformat() for each in self.moments]}

    def __str__(self) -> str:
        told = ", ".join(each.isoformat() for each in self.moments[:SHOWN])
        more = len(self.moments) - SHOWN
        return f"at {told} and {more} more" if more > 0 else f"at {told}"


# --- what any trigger can be asked ---


def ticks(trigger: Trigger, after: datetime) -> Iterator[datetime]:
    """Yield the ticks of *trigger* strictly later than the aware *after*, in order.

    A trigger with a method ``ticks(after)`` is left to do it; any other is asked for one after the other.

    Raises:
        ValueError: One that is not this package's stands still, or goes back.
    """
    after = aware("after", after)
    if isinstance(trigger, BaseTrigger):
        return trigger.ticks(after)
    own: Callable[[datetime], Iterator[datetime]] | None = getattr(trigger, "ticks", None)
    return _checked(own(after), after) if callable(own) else _asked_again(trigger, after)


def upcoming(trigger: Trigger, after: datetime, n: int) -> list[datetime]:
    """Return the next *n* ticks of *trigger* strictly later than the aware *after*; fewer if there are fewer.

    Raises:
        InvalidArgument: *n* is no whole number or below 0, or *after* is naive.
    """
    return list(islice(ticks(trigger, after), whole("n", n, at_least=0)))


def stretch(trigger: Trigger, moment: datetime) -> Stretch | None:
    """Return what *trigger* covers around *moment* where it is excluded; None if *moment* is not covered."""
    moment = aware("moment", moment)
    return trigger.stretch(moment) if isinstance(trigger, BaseTrigger) else _tick_alone(trigger, moment)


def never(trigger: Trigger) -> bool:
    """Return whether *trigger* has no tick at all, as far as it can tell."""
    for ask in (first_after, last_until):
        with suppress(SearchTooLong):
            if ask(trigger, SOME_MOMENT) is not None:
                return False
    return True


def first_after(trigger: Trigger, moment: datetime) -> datetime | None:
    """Return what ``trigger.after(moment)`` does, in UTC; None also behind the end of the calendar.

    Raises:
        ValueError: It is not later than *moment*.
    """
    try:
        tick = trigger.after(moment)
    except OverflowError:  # The year 10000.
        return None
    return None if tick is None else later(tick, moment)


def last_until(trigger: Trigger, moment: datetime) -> datetime | None:
    """Return what ``trigger.at_or_before(moment)`` does, in UTC; None also before the beginning of the calendar.

    Raises:
        ValueError: It is later than *moment*.
    """
    try:
        tick = trigger.at_or_before(moment)
    except OverflowError:  # The year 0.
        return None
    return None if tick is None else not_later(tick, moment)


def later(tick: datetime, moment: datetime, asked: str = "after") -> datetime:
    """Return *tick*, the answer of somebody's trigger, in UTC.

    Raises:
        ValueError: It is not later than *moment*: time that does not go on would make a loop spin for ever.
    """
    found = aware("tick", tick)
    if found <= moment:
        raise ValueError(f"{asked}({moment.isoformat()}) returned {found.isoformat()}, which is not later")
    return found


def not_later(tick: datetime, moment: datetime) -> datetime:
    """Return *tick*, the answer of somebody's trigger, in UTC.

    Raises:
        ValueError: It is later than *moment*.
    """
    found = aware("tick", tick)
    if found > moment:
        raise ValueError(f"at_or_before({moment.isoformat()}) returned {found.isoformat()}, which is later")
    return found


def _asked_again(trigger: Trigger, moment: datetime) -> Iterator[datetime]:
    while (tick := first_after(trigger, moment)) is not None:
        yield tick
        moment = tick


def _checked(walk: Iterator[datetime], moment: datetime) -> Iterator[datetime]:
    for tick in walk:
        moment = later(tick, moment, "ticks")
        yield moment


def _tick_alone(trigger: Trigger, moment: datetime) -> Stretch | None:
    return alone(moment) if last_until(trigger, moment) == moment else None


def alone(moment: datetime) -> Stretch:
    """Return the stretch of nothing but *moment*; it is empty at the end of the calendar."""
    return moment, moment + min(MICROSECOND, LAST - moment)


# --- arguments ---


def known_trigger(argument: str, value: object) -> Trigger:
    """Return *value*, which is a trigger.

    Raises:
        InvalidArgument: It lacks one of the two methods, or is a class and not an object of it.
    """
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in ("after", "at_or_before")):
        raise InvalidArgument(
            argument, value, "must be a trigger such as Every(60), or have the methods after and at_or_before"
        )
    return value  # type: ignore[return-value]
