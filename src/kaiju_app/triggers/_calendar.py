"""``Calendar``: a time of day, every so many days, weeks, months or years."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from kaiju_app._core.calls import explain_init, renamed_to
from kaiju_app._core.validate import aware, naive
from kaiju_app.errors import InvalidArgument

from ._base import BaseTrigger, freeze
from ._calendar_days import MONTHS, WEEKDAYS, CalendarDays, NthDay, days_of_month, days_of_week, period_of
from ._local_time import instants_of
from ._zones import known_zone


@explain_init(
    {
        **{each: renamed_to("tz") for each in ("timezone", "zone")},
        **{each: renamed_to("start") for each in ("start_date", "anchor", "dtstart")},
        **{each: renamed_to("at") for each in ("time", "hour")},
        **{each: renamed_to("on") for each in ("day", "day_of_week", "byweekday")},
        **{each: f"write Calendar('2 {each}', ...)" for each in ("days", "weeks", "months", "years")},
    }
)
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Calendar(BaseTrigger):
    """A tick at one time of day, every so many days, weeks, months or years.

    It keeps its local time when the clocks change, with the rules of ``Cron``: a tick that does not exist is moved to
    the first full minute after the gap, and a time that occurs twice ticks the first time.

    Args:
        every: Such as ``"2 weeks"``, ``"month"``, ``"3 months"`` or ``"year"``.
        on: Days, separated by commas. Of weeks, ``"wed"`` or ``"mon-fri"``. Of months, and of the first month of each
            period if that is longer, ``"15th"``, ``"last day"``, ``"2nd fri"``, ``"last fri"``, ``"3rd workday"``,
            ``"2nd last workday"``; a month without such a day is left out. Workdays are Monday to Friday, whatever
            holidays there are. By default the day of *start*.
        at: The local time of day: text such as ``"14:00"``, or a time without a zone.
        tz: Key of an IANA time zone, or ``"local"`` for the zone of this host.
        start: A date in the first period, as text such as ``"2026-01-07"`` or as a ``date``; no tick is earlier. Weeks
            begin on Monday. It says which weeks or months are meant, and may be left out if all are and *on* is given.

    Raises:
        InvalidArgument: One of them is wrong, *start* is missing, or there never is such a day.
    """

    every: str
    on: str | None
    at: time
    tz: str
    start: date | None
    zone: ZoneInfo = field(compare=False)
    days: CalendarDays = field(compare=False)

    fixed = True
    """A change of the clocks neither drops nor doubles a tick."""

    def __init__(
        self,
        every: str,
        *,
        on: str | None = None,
        at: str | time = "00:00",
        tz: str = "UTC",
        start: str | date | None = None,
    ) -> None:
        number, unit = period_of(every)
        day = None if start is None else _date(start)
        if day is None and (number > 1 or unit == "year" or (on is None and unit != "day")):
            rule = "must be a date in the first period, such as '2026-01-07', so that all instances agree"
            raise InvalidArgument("start", start, rule)
        named = _days(unit, on, day)
        days = CalendarDays(number, unit, named, 1 if day is None else day.toordinal())
        if next(days.since(1), None) is None:
            raise InvalidArgument("on", on, "must match at least one day, but none of the months has such a day")
        zone = known_zone("tz", tz)
        freeze(
            self,
            every=unit if number == 1 else f"{number} {unit}s",
            on=", ".join(str(each) if unit in MONTHS else each.kind for each in named) or None,
            at=_time(at),
            tz=zone.key,
            start=day,
            zone=zone,
            days=days,
        )

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""
        return next(self._walk(aware("moment", moment)), None)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""
        moment = aware("moment", moment)
        for day in self.days.until(moment.toordinal() + 1):  # No zone is a day ahead of UTC.
            tick = self._instant(day)
            if tick is not None and tick <= moment:
                return tick
        return None

    def local_ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the ticks from naive local *start* until before *end*, ignoring changes of the clocks."""
        return self._between(naive("start", start), naive("end", end))

    def _between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        for day in self.days.since(start.toordinal()):
            tick = datetime.combine(date.fromordinal(day), self.at)
            if tick >= end:
                break
            if tick >= start:
                yield tick

    def matches(self, local: datetime) -> bool:
        """Return whether there is a tick at naive *local* time."""
        return next(self.local_ticks(local, datetime.max), None) == local  # noqa: DTZ901  # Naive as well.

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values."""
        return {"calendar": {name: value for name, value in self._values().items() if value is not None}}

    def __repr__(self) -> str:
        values = self._values()
        shown = [repr(values.pop("every"))]
        shown += [f"{name}={value!r}" for name, value in values.items() if value is not None]
        return f"Calendar({', '.join(shown)})"

    def __str__(self) -> str:
        on = "" if self.on is None else f" on {'the ' if self.days.unit in MONTHS else ''}{self.on}"
        start = "" if self.start is None else f" from {self.start.isoformat()}"
        return f"every {self.every}{on} at {_text(self.at)}{start}, {self.tz}"

    def _values(self) -> dict[str, str | None]:
        start = None if self.start is None else self.start.isoformat()
        return {"every": self.every, "on": self.on, "at": _text(self.at), "tz": self.tz, "start": start}

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        for day in self.days.since(moment.toordinal() - 2):  # A gap, at most a day long, moves a tick on.
            tick = self._instant(day)
            if tick is not None and tick > moment:
                yield tick
                moment = tick

    def _instant(self, day: int) -> datetime | None:
        """Return the tick of a *day*, an ordinal; None at the ends of the calendar, which are nearer in some zones."""
        with suppress(OverflowError):
            return instants_of(datetime.combine(date.fromordinal(day), self.at), self.zone, fixed=True)[0]
        return None


def _days(unit: str, on: str | None, start: date | None) -> tuple[NthDay, ...]:
    if unit == "day":
        if on is not None:
            raise InvalidArgument("on", on, "must be left out with days: name days of a week, as in every='week'")
        return ()
    if unit == "week":
        return days_of_week(WEEKDAYS[start.weekday()] if on is None and start is not None else on)
    return days_of_month(str(start.day) if on is None and start is not None else on)


def _date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    with suppress(ValueError, TypeError):
        return date.fromisoformat(value)  # type: ignore[arg-type]
    raise InvalidArgument("start", value, "must be a date, such as '2026-01-07'")


def _time(value: object) -> time:
    found = value
    with suppress(ValueError, TypeError):
        found = value if isinstance(value, time) else time.fromisoformat(value)  # type: ignore[arg-type]
    if not isinstance(found, time) or found.tzinfo is not None:
        raise InvalidArgument("at", value, "must be a local time of day, such as '14:00'; its zone is tz")
    return found.replace(fold=0)


def _text(at: time) -> str:
    return at.isoformat("auto" if at.second or at.microsecond else "minutes")
