"""What is wrong with an expression of cron, field by field."""

from __future__ import annotations

import re
from datetime import datetime

from cronsim import CronSim, CronSimError

from .errors import InvalidArgument

FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
ALLOWED = ("0-59", "0-59", "0-23", "1-31, L, LW", "1-12, JAN-DEC", "0-7, SUN-SAT, 5L, MON#2")

RANGES = "; a range ends where its field does: write 5-7 for fri-sun, 22-23,0-6 for 22-6, nov-dec,jan-feb for nov-feb"

SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001  # Naive, as cronsim is asked; from here a rule is tried out.

_LETTERS = re.compile("[A-Za-z]+")
_LAST_IN_STEPS = re.compile("LW?/")


def parts_of(expression: object) -> list[str]:
    """Return the fields of *expression*.

    Raises:
        InvalidArgument: It has a wrong number of them, or one is wrong.
    """
    if not isinstance(expression, str):
        raise InvalidArgument("expression", expression, "must be a text such as '0 6 * * mon-fri'")
    parts = _LETTERS.sub(_as_kept, expression).split()
    if len(parts) not in (5, 6):
        raise InvalidArgument(
            "expression", expression, f"must have 5 fields, or 6 with the second first, and has {len(parts)}"
        )
    try:
        _check(" ".join(parts))
    except CronSimError:
        for place, part in enumerate(parts, start=6 - len(parts)):
            if not _is_right(place, part):
                raise InvalidArgument(
                    "expression",
                    expression,
                    f"has a wrong {FIELDS[place]}, {part!r}: there are {ALLOWED[place]}; lists, ranges, steps"
                    + (RANGES if "-" in part else ""),
                ) from None
        raise InvalidArgument(
            "expression", expression, "must match some day, and its months have no such day"
        ) from None
    return parts


def _is_right(place: int, part: str) -> bool:
    """Return whether *part* is right at its *place*, whatever the others are."""
    try:
        _check(" ".join(part if each == place else "*" for each in range(6)))
    except CronSimError:
        return False
    return True


def _check(expression: str) -> None:
    CronSim(expression, SOME_DAY)
    if _LAST_IN_STEPS.search(expression):  # cronsim leaves the steps out.
        raise CronSimError


def _as_kept(letters: re.Match[str]) -> str:
    """Return names of days and months in small letters, L and LW in capitals: equal rules are equal, and look so."""
    return letters[0].upper() if letters[0].upper() in ("L", "LW") else letters[0].lower()
