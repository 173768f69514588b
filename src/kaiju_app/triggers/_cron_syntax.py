"""Which field of a cron expression is invalid, and why."""

from __future__ import annotations

import re
from datetime import datetime

from cronsim import CronSimError

from kaiju_app.errors import InvalidArgument

from ._cron_days import local_cron
from ._cron_dialects import advice, parts_in_debian

FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
ALLOWED = ("0-59", "0-59", "0-23", "1-31, L, L-3, LW, 15W", "1-12, JAN-DEC", "0-7, SUN-SAT, 5L, MON#2")

SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001  # Naive, as cronsim needs it; rules are tried out here.

_LETTERS = re.compile("[A-Za-z]+")
_LAST_IN_STEPS = re.compile("LW?/")


def parts_of(expression: object, spread: str | None = None) -> list[str]:
    """Return the fields of *expression*, with numbers for an H, which is a hash of *spread*.

    Raises:
        InvalidArgument: It has a wrong number of fields, or one of them is invalid, or an H has nothing to hash.
    """
    if not isinstance(expression, str):
        raise InvalidArgument("expression", expression, "must be a string such as '0 6 * * mon-fri'")
    parts = [_LETTERS.sub(_normalized, part) for part in parts_in_debian(expression, spread)]
    try:
        _check(" ".join(parts))
    except CronSimError:
        for place, part in enumerate(parts, start=6 - len(parts)):
            if not _is_valid(place, part):
                allowed = f"{ALLOWED[place]}; lists, ranges, steps{advice(place, part)}"
                rule = f"has an invalid {FIELDS[place]}, {part!r}: allowed are {allowed}"
                raise InvalidArgument("expression", expression, rule) from None
        rule = "must match at least one day, but its months have no such day"
        raise InvalidArgument("expression", expression, rule) from None
    return parts


def _is_valid(place: int, part: str) -> bool:
    """Return whether *part* is valid at its *place*, whatever the other fields are."""
    try:
        _check(" ".join(part if each == place else "*" for each in range(6)))
    except CronSimError:
        return False
    return True


def _check(expression: str) -> None:
    local_cron(expression, SOME_DAY)
    if _LAST_IN_STEPS.search(expression):  # cronsim ignores these steps.
        raise CronSimError


def _normalized(letters: re.Match[str]) -> str:
    """Return names of days and months in lower case, H, L and W in upper case, so that equal rules compare equal."""
    return letters[0].upper() if letters[0].upper() in ("H", "L", "LW", "W") else letters[0].lower()
