"""Instants and durations as people type and read them. Whoever calls says what time it is, and in which zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from kaiju_app.triggers._local_time import instants_of

ZERO, DAY = timedelta(), timedelta(days=1)
UNITS = {"d": 86_400.0, "h": 3_600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 0.001}
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|min|[dhms])")
TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
FORMS = "03:00, -2h, now, or 2027-03-01T03:00 (with Z or an offset, or in local time)"
MOST_S = 36_500 * 86_400


def seconds_of(text: str) -> float:
    """Return the seconds of a duration such as ``2h``, ``1h30m``, ``90s`` or ``2d``; a bare number means seconds.

    Raises:
        ValueError: It is none.
    """
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = PART.findall(text.replace(" ", ""))
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(f"{text!r} must be a duration such as 90s, 30m, 2h or 1d")
    found = sum(float(number) * UNITS[unit] for number, unit in parts)
    if found > MOST_S:
        raise ValueError(f"{text!r} must be at most a hundred years")
    return found


def instant_of(text: str, now: datetime, zone: ZoneInfo, *, ahead: bool = False) -> datetime:
    """Return the instant that *text* means, in UTC.

    ``now``; ``-2h`` and ``+30m``; ``03:00``, the latest such local time that has passed; an ISO 8601 instant, in local
    time if it has no offset. Of a local time that a change of the clocks repeats, the later one that has passed is
    meant; for one that it leaves out, the first minute after the change, when Debian's cron runs what was due in it.

    Args:
        text: What was typed.
        now: The time, aware.
        zone: The zone of local times.
        ahead: ``03:00`` is the next such local time instead.

    Raises:
        ValueError: It has none of these forms.
    """
    text = text.strip()
    if text.lower() == "now":
        return now.astimezone(UTC)
    if text[:1] in ("-", "+"):
        length = timedelta(seconds=seconds_of(text[1:]))
        return (now - length if text[0] == "-" else now + length).astimezone(UTC)
    if found := TIME_OF_DAY.fullmatch(text):
        hour, minute, second = (int(each or 0) for each in found.groups())
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError(f"{text!r} must be a time of day from 00:00 to 23:59")
        return _nearest(time(hour, minute, second), now, zone, ahead)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} must be an instant: {FORMS}") from None
    return moment.astimezone(UTC) if moment.tzinfo is not None else _instants(moment, zone)[0]


def _nearest(clock: time, now: datetime, zone: ZoneInfo, ahead: bool) -> datetime:
    today = now.astimezone(zone).date()
    days = [today + offset * DAY for offset in (-2, -1, 0, 1, 2)]
    found = [each for day in days for each in _instants(datetime.combine(day, clock), zone)]
    return min(each for each in found if each > now) if ahead else max(each for each in found if each <= now)


def _instants(local: datetime, zone: ZoneInfo) -> list[datetime]:
    return instants_of(local, zone, False) or instants_of(local, zone, True)


def relative(moment: datetime, now: datetime) -> str:
    """Return how far *moment* is from *now*: ``in 3 min``, ``2 h ago``, ``now``."""
    length = about(abs((moment - now).total_seconds()))
    if length == "0 s":
        return "now"
    return f"in {length}" if moment > now else f"{length} ago"


def about(length_s: float) -> str:
    """Return a length in its largest unit: ``40 s``, ``3 min``, ``2 h``, ``5 d``."""
    if length_s < 59.5:
        return f"{length_s:.0f} s"
    if length_s < 59.5 * 60:
        return f"{length_s / 60:.0f} min"
    if length_s < 47.5 * 3_600:
        return f"{length_s / 3_600:.0f} h"
    return f"{length_s / 86_400:.0f} d"


def length(length_s: float | None) -> str:
    """Return a duration with the digits that matter: ``<1 ms``, ``12 ms``, ``1.25 s``, ``2 min 5 s``."""
    if length_s is None:
        return "-"
    if length_s < 0.0005:
        return "<1 ms"
    if length_s < 0.9995:
        return f"{length_s * 1_000:.0f} ms"
    if length_s < 59.995:
        return f"{length_s:.3g} s"
    whole = round(length_s)
    if whole < 3_600:
        return _two(whole, 60, "min", "s")
    if whole < 2 * 86_400:
        return _two(whole // 60, 60, "h", "min")
    return _two(whole // 3_600, 24, "d", "h")


def _two(whole: int, base: int, large: str, small: str) -> str:
    first, rest = divmod(whole, base)
    return f"{first} {large} {rest} {small}" if rest else f"{first} {large}"


def local_time(moment: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return *moment* in local time: ``03:00:00`` if it is today, the date otherwise."""
    local, today = moment.astimezone(zone), now.astimezone(zone).date()
    clock = f"{local:%H:%M:%S}"
    return clock if local.date() == today else f"{local.date().isoformat()} {clock}"
