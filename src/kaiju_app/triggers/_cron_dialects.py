"""What crontabs say in several dialects: nicknames, ``?`` and ``H``; and what to write instead of the rest."""

from __future__ import annotations

import re

from kaiju_app._core.text import hash_of
from kaiju_app._core.validate import text
from kaiju_app.errors import InvalidArgument

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""As in crontab(5). Jenkins alone puts an H into them."""

AT_START = (
    "is no time of a calendar: first_run=FirstRun.NOW makes a task run at each start as well, "
    "trigger=At(datetime.now(UTC)) only then"
)
INTERVAL = "is an interval: write Every(90) for every 90 seconds, or interval_s=90"
ZONE = "must not begin with a time zone: pass it as tz='Europe/Berlin'"
YEAR = "; a year has no field: end a task with until=, or list its moments in At(...)"

H_RANGES = ((0, 59), (0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
"""What an H stands for in each field, as in Jenkins: the 29th would leave out months."""

_H = re.compile(r"H(?:\((\d+)-(\d+)\))?(?:/(\d+))?", re.IGNORECASE)


def parts_in_debian(expression: str, spread: str | None) -> list[str]:
    """Return the fields of *expression* in the syntax of Debian's cron, not checked yet.

    Args:
        expression: A nickname or fields.
        spread: What an H is a hash of.

    Raises:
        InvalidArgument: Something else than a Cron does what is asked for, or an H has nothing to be a hash of.
    """
    parts = NICKNAMES.get(expression.strip().lower(), expression).split()
    _refuse_others(expression, parts[0].lower() if parts else "")
    if len(parts) not in (5, 6):
        more = YEAR if len(parts) == 7 else f"; or be one of {', '.join(NICKNAMES)}"
        rule = f"must have 5 fields, or 6 with the second first, but has {len(parts)}{more}"
        raise InvalidArgument("expression", expression, rule)
    if spread is not None:
        text("spread", spread)
    first = 6 - len(parts)
    return [_field(expression, place, part, spread) for place, part in enumerate(parts, start=first)]


def _refuse_others(expression: str, start: str) -> None:
    if start == "@reboot":
        raise InvalidArgument("expression", expression, AT_START)
    if start == "@every":
        raise InvalidArgument("expression", expression, INTERVAL)
    if start.startswith(("tz=", "cron_tz=")):
        raise InvalidArgument("expression", expression, ZONE)


def _field(expression: str, place: int, part: str, spread: str | None) -> str:
    if part == "?" and place in (3, 5):  # Quartz, Spring and AWS want it where the other field says the day.
        return "*"
    return ",".join(_term(expression, place, term, spread) for term in part.split(","))


def _term(expression: str, place: int, term: str, spread: str | None) -> str:
    """Return *term* with numbers for an H."""
    found = _H.fullmatch(term)
    if found is None:
        return term
    if not spread:
        rule = "has an H, a hash of a name: write Cron(..., spread='report'), or give a task with such text a name="
        raise InvalidArgument("expression", expression, rule)
    low, high = H_RANGES[place] if found[1] is None else (int(found[1]), int(found[2]))
    step = None if found[3] is None else int(found[3])
    size = high - low + 1
    if size < 1 or step == 0 or (step or 0) > size:
        return term  # Refused as an invalid field.
    first = low + hash_of(f"{spread}\0{place}") % (step or size)
    return str(first) if step is None or first + step > high else f"{first}-{high}/{step}"


def advice(place: int, part: str) -> str:
    """Return what to write instead of an invalid *part* at its *place*; empty if nothing is known."""
    if "~" in part:
        return "; for a time that differs from task to task write H or H(0-29), with spread="
    if re.fullmatch(r"\d{4}", part):
        return YEAR
    if place == 3 and re.fullmatch(r"\d+L", part):
        return "; the last Friday is 5L in the day-of-week field"
    if place == 3 and part.endswith("W"):
        return "; W takes a single day: 15W, or LW for the last weekday"
    if place == 5 and part == "L":
        return "; dialects differ about L alone: write 6 for Saturday, 6L for the last one of the month"
    return RANGES if "-" in part and not part.startswith("L") else ""


RANGES = "; a range must not wrap around: write 5-7 for fri-sun, 22-23,0-6 for 22-6, nov-dec,jan-feb for nov-feb"
