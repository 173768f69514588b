"""WHEN not: what lies between two moments, or between two times of every day."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time
from zoneinfo import ZoneInfo

from ._arguments import aware
from ._triggers import Stretch
from ._zones import DAY, HOUR, MINUTE, SECOND, around, unbroken
from .errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Window:
    """What lies between two moments, as a maintenance window does.

    Args:
        start: Aware datetime from which on it covers.
        end: Aware datetime at which it covers no more.

    Raises:
        InvalidArgument: One is naive, or *end* is not later than *start*.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", aware("start", self.start))
        object.__setattr__(self, "end", aware("end", self.end))
        if self.start >= self.end:
            raise InvalidArgument("end", self.end, f"must be later than the start, {self.start.isoformat()}")

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return all of it if the aware *moment* is in it, else None."""
        return (self.start, self.end) if self.start <= aware("moment", moment) < self.end else None

    def json_repr(self) -> dict[str, object]:
        """Return the window as JSON values; moments as UTC ISO text."""
        return {"from": self.start.isoformat(), "to": self.end.isoformat()}

    def __str__(self) -> str:
        return f"from {self.start.isoformat()} to {self.end.isoformat()}"


@dataclass(frozen=True, slots=True)
class Daily:
    """What lies between two times of every day, as the clocks of a zone show them; over midnight if need be.

    Args:
        start: Time from which on it covers, with a ``ZoneInfo``.
        end: Time at which it covers no more, with the same one: of the next day if it is not later than *start*.

    Raises:
        InvalidArgument: One is no time with a ``ZoneInfo``, the zones differ, or the times are equal.
    """

    start: time
    end: time
    tz: str = field(init=False)  # To be compared: to times, zones whose offset varies look alike.
    zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        zone = _zone_of("start", self.start)
        if _zone_of("end", self.end).key != zone.key:
            raise InvalidArgument("end", self.end, f"must be in the zone of the start, {zone.key}")
        object.__setattr__(self, "start", self.start.replace(tzinfo=zone, fold=0))
        object.__setattr__(self, "end", self.end.replace(tzinfo=zone, fold=0))
        object.__setattr__(self, "tz", zone.key)
        object.__setattr__(self, "zone", zone)
        start, end = self._times
        if start == end:
            raise InvalidArgument("end", self.end, "must differ from the start; whole days are a Cron('* * * * *')")

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return from when until when around the aware *moment* the local time is in the window; None if it is not.

        There may be more on either side if the clocks are changed while the window is open.
        """
        moment = aware("moment", moment)
        local = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        start, end = self._times
        first = datetime.combine(local.date(), start)
        if first > local:
            first -= DAY
        last = datetime.combine(first.date(), end)
        if last <= first:
            last += DAY
        if local >= last:
            return None
        parts = [around(local, unit) for unit in (HOUR, MINUTE, SECOND)]
        inside = [(max(first, begin), min(last, finish)) for begin, finish in parts]
        return unbroken(moment, self.zone, [(first, last), *inside])

    def json_repr(self) -> dict[str, object]:
        """Return the window as JSON values."""
        return {"daily": [each.isoformat() for each in self._times], "tz": self.tz}

    def __str__(self) -> str:
        start, end = self._times
        return f"daily from {start.isoformat()} to {end.isoformat()}, {self.tz}"

    @property
    def _times(self) -> tuple[time, time]:
        """Start and end without the zone, whose offset is not that of a time but of a day."""
        return self.start.replace(tzinfo=None), self.end.replace(tzinfo=None)


def _zone_of(argument: str, value: object) -> ZoneInfo:
    zone = value.tzinfo if isinstance(value, time) else None
    if not isinstance(zone, ZoneInfo) or not zone.key:
        raise InvalidArgument(
            argument, value, "must be a time of day with a ZoneInfo, such as time(22, tzinfo=ZoneInfo('Europe/Berlin'))"
        )
    return zone
