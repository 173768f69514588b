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
    """Yield a sentence for each step of *rule* that is another one where its field begins anew.

    From the last number of a range to the first one again it may be further than a step: that is what ranges are for.
    """
    parts = rule.expression.upper().split()
    for field, part in zip(_FIELDS[-len(parts) :], parts, strict=True):
        for term in part.split(","):
            match = _STEP.fullmatch(term)
            if match is not None:
                yield from _unevenness(field, term, match[1], match[2], int(match[3]))


def _unevenness(field: _Field, term: str, begin: str, end: str | None, step: int) -> Iterator[str]:
    first = field.first if begin == "*" else field.number(begin)
    is_range = end is not None and field.number(end) != first
    last = field.number(end) if end is not None and is_range else field.last
    numbers = range(first, min(last + 1, first + field.cycle), step)
    distance = field.cycle + first - numbers[-1]
    # No step divides all months.
    uneven = distance < step if is_range else step > 1 if field is _DAYS else distance != step
    if step > 1 and uneven:
        yield f"the {field.what} of {term.lower()!r} do not come every {step} {field.unit}: {_sequence(field, numbers)}"


def _sequence(field: _Field, numbers: range) -> str:
    names = [field.names[each] if field.names else str(each) for each in numbers]
    shown = ", ".join(names) if len(names) <= MANY else f"{names[0]}, {names[1]}, ... {names[-1]}"
    distance = field.cycle + numbers[0] - numbers[-1]
    again = ", whatever the length of the month" if field is _DAYS else f" after {distance}"
    return f"{shown}, and then {names[0]} again{again}"
