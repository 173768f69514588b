"""Steps of a calendar rule that do not come out even: the field ends before the last of them, and begins anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._cron import Cron

MANY = 3  # More numbers than these are not listed one by one.


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a calendar rule: what it counts, from where to where, and how many there are before it begins anew."""

    what: str
    unit: str
    first: int
    last: int
    cycle: int
    names: Sequence[str] = ()  # From 0 on.

    def number(self, text: str) -> int:
        return self.names.index(text) if text in self.names else int(text)


_MONTHS = ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_DAYS = _Field("days", "days", 1, 31, 31)
_FIELDS = (
    _Field("seconds", "seconds", 0, 59, 60),
    _Field("minutes", "minutes", 0, 59, 60),
    _Field("hours", "hours", 0, 23, 24),
    _DAYS,
    _Field("months", "months", 1, 12, 12, _MONTHS),
    _Field("weekdays", "days", 0, 7, 7, _WEEKDAYS),
)
_STEP = re.compile(r"(\*|[A-Z]{3}|\d+)(?:-([A-Z]{3}|\d+))?/(\d+)")


def uneven_steps(rule: Cron) -> Iterator[str]:
    """Yield a sentence for each step of *rule* over a whole field that does not divide it."""
    parts = rule.expression.upper().split()
    for field, part in zip(_FIELDS[-len(parts) :], parts, strict=True):
        match = _STEP.fullmatch(part)
        if match is None:
            continue
        begin, end, step = match[1], match[2], int(match[3])
        first = field.first if begin == "*" else field.number(begin)
        last = field.last if end is None else field.number(end)
        is_whole = last - first + 1 >= field.cycle
        divides = step == 1 or (field is not _DAYS and field.cycle % step == 0)  # No step divides all months.
        if is_whole and not divides:
            yield (
                f"the {field.what} of {part.lower()!r} do not come every {step} {field.unit}: "
                + _sequence(field, range(first, last + 1, step))
            )


def _sequence(field: _Field, numbers: range) -> str:
    names = [field.names[each] if field.names else str(each) for each in numbers]
    shown = ", ".join(names) if len(names) <= MANY else f"{names[0]}, {names[1]}, ... {names[-1]}"
    distance = field.cycle + numbers[0] - numbers[-1]
    again = ", whatever the length of the month" if field is _DAYS else f" after {distance}"
    return f"{shown}, and then {names[0]} again{again}"
