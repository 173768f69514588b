"""Steps of a calendar rule that do not divide their field: the last gap before the field starts again differs."""

from __future__ import annotations

from collections.abc import Iterator

from ._cron import Cron
from ._cron_days import local_cron
from ._cron_syntax import FIELDS, SOME_DAY
from ._lint_text import MAX_LISTED

SIZES = (60, 60, 24, 31, 12, 7)
PARSED = ("seconds", "minutes", "hours", "days", "months", "weekdays")
"""Attributes of CronSim: the numbers that each field matches."""

UNITS = ("seconds", "minutes", "hours", "days", "months", "days")
NAMES = {
    "month": ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
    "day-of-week": ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"),
}


def uneven_steps(rule: Cron) -> Iterator[str]:
    """Yield a sentence about each uneven step of *rule*.

    A range may pause for longer than its step before it starts again: that is what ranges are for.
    """
    parts = rule.expression.split()
    for place, part in enumerate(parts, start=len(FIELDS) - len(parts)):
        for term in part.split(","):
            values, _, step = term.partition("/")
            if step and (found := _uneven(place, term, values, int(step))) is not None:
                yield found


def _uneven(place: int, term: str, values: str, step: int) -> str | None:
    size, is_day = SIZES[place], FIELDS[place] == "day-of-month"
    start = min(_numbers(place, values.partition("-")[0]))
    by_distance = {(number - start) % size: number for number in _numbers(place, term)}  # Sunday is both 0 and 7.
    numbers = tuple(by_distance[distance] for distance in sorted(by_distance))
    last_gap = size - max(by_distance)
    if "-" in values and len(_numbers(place, values)) > 1:
        is_even = last_gap >= step
    else:
        is_even = last_gap == step and not is_day  # No step divides all months.
    if step == 1 or is_even:
        return None
    unit, names = UNITS[place], NAMES.get(FIELDS[place])
    shown = [str(each) if names is None else names[each] for each in numbers]
    few = ", ".join(shown) if len(shown) <= MAX_LISTED else f"{shown[0]}, {shown[1]}, ... {shown[-1]}"
    after = ", however long the month is" if is_day else f" after {last_gap} {unit[:-1] if last_gap == 1 else unit}"
    return (
        f"{term!r} in the {FIELDS[place]} field is not every {step} {unit}: "
        f"it matches {few}, then {shown[0]} again{after}"
    )


def _numbers(place: int, text: str) -> set[int]:
    """Return what *text* matches in the field at *place*."""
    rule = local_cron(" ".join(text if each == place else "*" for each in range(len(FIELDS))), SOME_DAY)
    numbers: set[int] = getattr(rule, PARSED[place])
    return numbers
