"""What a trigger is: a pure rule that yields due times. It reads no clock and keeps no cursor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol, runtime_checkable

from kaiju_app._core.validate import MICROSECOND, aware, integer

SOME_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)  # Triggers are tried out here: the verdict is the same on any day.

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)

Stretch = tuple[datetime, datetime]
"""Aware UTC datetimes, from the first up to but not including the second."""


@runtime_checkable
class Trigger(Protocol):
    """A rule that yields due times. Any object with these two methods is a trigger."""

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""


class Exclusion(Protocol):
    """Something that covers stretches of time, whose ticks an ``Except`` leaves out: a window or a trigger."""

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return what is covered around the aware *moment*; None if *moment* itself is not covered."""

    def json_repr(self) -> dict[str, object]:
        """Return the exclusion as JSON values."""

    def __str__(self) -> str: ...


class BaseTrigger(ABC):
    """Base of the triggers of this package. Their answers are UTC and need no check."""

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
            InvalidArgument: It contains a trigger that is not part of this package.
        """

    def ticks(self, after: datetime, /) -> Iterator[datetime]:
        """Yield the ticks strictly later than the aware *after*, in order.

        Raises:
            SearchTooLong: The search for one of them was stopped; later ticks may exist.
        """
        return self._walk(aware("after", after))

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        """Yield the ticks strictly later than *moment*. One walk may be cheaper than asking for one after the other."""
        while (tick := self.after(moment)) is not None:
            yield tick
            moment = tick

    def upcoming(self, after: datetime, n: int) -> list[datetime]:
        """Return the next *n* ticks strictly later than the aware *after*; fewer if there are fewer.

        Raises:
            InvalidArgument: *n* is not an integer or is below 0, or *after* is naive.
            SearchTooLong: The search for one of them was stopped.
        """
        return list(islice(self.ticks(after), integer("n", n, at_least=0)))

    def one_off_in(self, after: datetime, until: datetime, /) -> datetime | None:
        """Return the first tick later than the aware *after*, up to *until*, that its moment alone made; None if none.

        Only ``At`` has such ticks, and what is made of it. Whoever missed one can wait for no other.
        """
        return None

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return what this rule covers around the aware *moment* when it is excluded: by default, only its ticks."""
        moment = aware("moment", moment)
        return tick_stretch(moment) if self.at_or_before(moment) == moment else None


def freeze(instance: object, **values: object) -> None:
    """Set fields of a frozen *instance* that is being made."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def tick_stretch(moment: datetime) -> Stretch:
    """Return the stretch that covers nothing but *moment*; at the end of the calendar it is empty."""
    return moment, moment + min(MICROSECOND, LAST - moment)
