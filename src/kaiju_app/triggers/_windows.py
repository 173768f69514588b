"""Windows to exclude: the time between two moments, or between two times of every day."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time
from zoneinfo import ZoneInfo

from kaiju_app._core.calls import explain_init
from kaiju_app._core.text import code_of
from kaiju_app._core.validate import aware
from kaiju_app.errors import InvalidArgument

from ._base import Stretch, freeze
from ._zones import DAY, HOUR, MINUTE, SECOND, first_without_change, unit_around


@explain_init()
@dataclass(frozen=True, slots=True, repr=False)
class Window:
    """The time between two moments, such as a maintenance window.

    Args:
        start: Aware datetime at which the window opens.
        end: Aware datetime at which it has closed: not included.

    Raises:
        InvalidArgument: One is naive, or *end* is not later than *start*.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        freeze(self, start=aware("start", self.start), end=aware("end", self.end))
        if self.start >= self.end:
            raise InvalidArgument("end", self.end, f"must be later than the start, {self.start.isoformat()}")

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return the whole window if the aware *moment* is in it; None if it is not."""
        return (self.start, self.end) if self.start <= aware("moment", moment) < self.end else None

    def json_repr(self) -> dict[str, object]:
        """Return the window as JSON values; moments as UTC ISO text."""
        return {"from": self.start.isoformat(), "to": self.end.isoformat()}

    def __repr__(self) -> str:
        return f"Window({code_of(self.start)}, {code_of(self.end)})"

    def __str__(self) -> str:
        return f"from {self.start.isoformat()} to {self.end.isoformat()}"


@explain_init()
@dataclass(frozen=True, slots=True, repr=False)
class DailyWindow:
    """The time between two local times of every day; overnight if the end is not later than the start.

    Args:
        start: Time with a ``ZoneInfo`` at which the window opens.
        end: Time in the same zone at which it has closed, not included: on the next day if it is not later than
            *start*.

    Raises:
        InvalidArgument: One of them is not a time with a ``ZoneInfo``, the zones differ, or the times are equal.
    """

    start: time
    end: time
    tz: str = field(init=False)  # For comparisons: times in different zones with varying offsets compare equal.
    zone: ZoneInfo = field(init=False, compare=False)

    def __post_init__(self) -> None:
        zone = _zone_of("start", self.start)
        if _zone_of("end", self.end).key != zone.key:
            raise InvalidArgument("end", self.end, f"must be in the zone of the start, {zone.key}")
        start, end = (each.replace(tzinfo=zone, fold=0) for each in (self.start, self.end))
        freeze(self, start=start, end=end, tz=zone.key, zone=zone)
        if start == end:
            raise InvalidArgument("end", self.end, "must differ from the start; whole days are a Cron('* * * * *')")

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return the stretch around the aware *moment* in which the window is open; None if it is not open.

        If the clocks change while it is open, the time next to the stretch may be covered as well.
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
        parts = [unit_around(local, unit) for unit in (HOUR, MINUTE, SECOND)]
        inside = [(max(first, begin), min(last, finish)) for begin, finish in parts]
        return first_without_change(moment, self.zone, [(first, last), *inside])

    def json_repr(self) -> dict[str, object]:
        """Return the window as JSON values."""
        return {"daily": [each.isoformat() for each in self._times], "tz": self.tz}

    def __repr__(self) -> str:
        zone = f"tzinfo=ZoneInfo({self.tz!r})"
        start, end = (code_of(each)[:-1] for each in (self.start, self.end))
        return f"DailyWindow({start}, {zone}), {end}, {zone}))"

    def __str__(self) -> str:
        start, end = self._times
        return f"daily from {start.isoformat()} to {end.isoformat()}, {self.tz}"

    @property
    def _times(self) -> tuple[time, time]:
        """Start and end without the zone, whose offset depends on the day."""
        return self.start.replace(tzinfo=None), self.end.replace(tzinfo=None)


def _zone_of(argument: str, value: object) -> ZoneInfo:
    zone = value.tzinfo if isinstance(value, time) else None
    if not isinstance(zone, ZoneInfo) or not zone.key:
        rule = "must be a time of day with a ZoneInfo, such as time(22, tzinfo=ZoneInfo('Europe/Berlin'))"
        raise InvalidArgument(argument, value, rule)
    return zone
