"""The days of a ``Calendar``, as ordinals of dates: every so many days, weeks or months, and which days of these."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from kaiju_app.errors import InvalidArgument

MOST = 1_000  # Days, weeks, months or years from one period to the next: more is a mistake.
LAST = date.max.toordinal()
MONTHS = {"month": 1, "year": 12}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FULL = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WORDS = ("first", "second", "third", "fourth", "fifth")
LIMITS = {"day": 31, "workday": 23}
LIMIT_OF_WEEKDAYS = 5

_EVERY = re.compile(r"(?:([0-9]{1,9}) )?(day|week|month|year)s?")
_ORDINAL = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)?")


class NthDay(NamedTuple):
    """Such as the second Friday of a month, or its last workday."""

    nth: int
    """From 1; below 0 it is counted from the end."""
    kind: str
    """A weekday, ``day``, or ``workday``: any day from Monday to Friday."""

    def __str__(self) -> str:
        back = f"{_ordinal(-self.nth)} last" if self.nth < -1 else "last"
        return f"{_ordinal(self.nth) if self.nth > 0 else back} {self.kind}"

    def day_in(self, year: int, month: int) -> int | None:
        """Return this day of a month; None if the month has no such day."""
        first, last = monthrange(year, month)
        days = [day for day in range(1, last + 1) if self._counts((first + day - 1) % 7)]
        place = self.nth - 1 if self.nth > 0 else len(days) + self.nth
        return days[place] if 0 <= place < len(days) else None

    def _counts(self, weekday: int) -> bool:
        return self.kind == "day" or (weekday < 5 if self.kind == "workday" else WEEKDAYS[weekday] == self.kind)


@dataclass(frozen=True, slots=True)
class CalendarDays:
    """All days of a rule, in order.

    Args:
        number: How many units are a period.
        unit: ``day``, ``week``, ``month`` or ``year``.
        on: The days of a week or month; of days none.
        start: The ordinal of a day in the first period, before which there is no day; 1, the first day of the calendar
            and a Monday, if there is no first period.
    """

    number: int
    unit: str
    on: tuple[NthDay, ...]
    start: int

    def since(self, ordinal: int) -> Iterator[int]:
        """Yield the days from *ordinal* on."""
        first = max(ordinal, self.start)
        for period in range(self._period_of(first), self._period_of(LAST) + 1):
            yield from (day for day in self._days_of(period) if first <= day <= LAST)

    def until(self, ordinal: int) -> Iterator[int]:
        """Yield the days up to *ordinal*, backward."""
        last = min(ordinal, LAST)
        if last >= self.start:
            for period in range(self._period_of(last), self._period_of(self.start) - 1, -1):
                yield from (day for day in reversed(self._days_of(period)) if self.start <= day <= last)

    def _period_of(self, ordinal: int) -> int:
        """Return the number of the period that contains a day."""
        if self.unit in MONTHS:
            return (_month_of(ordinal) - _month_of(self.start)) // (self.number * MONTHS[self.unit])
        return (ordinal - self._first_day()) // (self.number * (7 if self.unit == "week" else 1))

    def _days_of(self, period: int) -> list[int]:
        if self.unit == "day":
            return [self.start + period * self.number]
        if self.unit == "week":
            monday = self._first_day() + period * self.number * 7
            return [monday + WEEKDAYS.index(each.kind) for each in self.on]
        year, month = divmod(_month_of(self.start) + period * self.number * MONTHS[self.unit], 12)
        days = {each.day_in(year, month + 1) for each in self.on} - {None}
        return sorted(date(year, month + 1, day).toordinal() for day in days if day is not None)

    def _first_day(self) -> int:
        """Return the first day of the first period of days or weeks."""
        return self.start - (self.start - 1) % 7 if self.unit == "week" else self.start


def _month_of(ordinal: int) -> int:
    day = date.fromordinal(ordinal)
    return day.year * 12 + day.month - 1


# --- from text ---


def period_of(text: object) -> tuple[int, str]:
    """Return number and unit of *text*, such as "2 weeks".

    Raises:
        InvalidArgument: It is no such text, or the number is 0 or too large.
    """
    found = _EVERY.fullmatch(" ".join(text.lower().split())) if isinstance(text, str) else None
    if found is None:
        rule = "must be days, weeks, months or years, such as '2 weeks'; for shorter periods write Every(seconds)"
        raise InvalidArgument("every", text, rule)
    number = int(found[1] or 1)
    if not 1 <= number <= MOST:
        raise InvalidArgument("every", text, f"must be at least 1 and at most {MOST} {found[2]}s")
    return number, found[2]


def days_of_week(text: object) -> tuple[NthDay, ...]:
    """Return the days in *text*, such as "mon, wed-fri".

    Raises:
        InvalidArgument: It is something else.
    """
    found: set[int] = set()
    for term in _terms(text):
        begin, to, end = (each.strip() for each in term.partition("-"))
        first, last = _weekday(begin), _weekday(end if to else begin)
        if first is None or last is None or first > last:
            raise InvalidArgument("on", text, "must be days of a week, such as 'wed', 'mon, thu' or 'mon-fri'")
        found.update(range(first, last + 1))
    return tuple(NthDay(1, WEEKDAYS[each]) for each in sorted(found))


def days_of_month(text: object) -> tuple[NthDay, ...]:
    """Return the days in *text*, such as "15th, last fri".

    Raises:
        InvalidArgument: It is something else.
    """
    found = {_nth_day(text, term) for term in _terms(text)}
    return tuple(sorted(found, key=lambda each: (each.nth < 0, abs(each.nth), each.kind)))


def _terms(text: object) -> list[str]:
    if not isinstance(text, str):
        raise InvalidArgument("on", text, "must be text, such as 'wed' or '2nd fri'")
    return [term.strip() for term in text.lower().split(",")]


def _weekday(name: str) -> int | None:
    return next((each for each in range(7) if name in (WEEKDAYS[each], FULL[each])), None)


def _nth_day(text: object, term: str) -> NthDay:
    words = term.split()
    kind = "day"
    if len(words) > 1 and words[-1] != "last":
        weekday = _weekday(words[-1])
        kind = words.pop() if weekday is None else WEEKDAYS[weekday]
        words = words if weekday is None else words[:-1]
    sign = 1
    if words and words[-1] == "last":
        sign = -1
        words = words[:-1] or ["first"]
    nth = _number(words[0]) if len(words) == 1 else 0
    if kind not in (*LIMITS, *WEEKDAYS) or not 1 <= nth <= LIMITS.get(kind, LIMIT_OF_WEEKDAYS):
        rule = "must be days of a month, such as '15th', 'last day', '2nd fri', 'last fri' or '3rd workday'"
        raise InvalidArgument("on", text, rule)
    return NthDay(sign * nth, kind)


def _number(word: str) -> int:
    if word in WORDS:
        return WORDS.index(word) + 1
    found = _ORDINAL.fullmatch(word)
    return int(found[1]) if found else 0


def _ordinal(number: int) -> str:
    suffix = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
