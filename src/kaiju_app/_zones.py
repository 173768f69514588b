"""Time zones: by their names, and stretches of local time in which their clocks are not changed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from ._arguments import MICROSECOND
from ._triggers import Stretch
from .errors import InvalidArgument

UTC_FILE = (
    b"TZif" + bytes(16) + b"".join(count.to_bytes(4, "big") for count in (0, 0, 0, 0, 1, 4)) + bytes(6) + b"UTC\0"
)
"""RFC 8536: no change of the clocks, one offset, which is 0, and four characters of names."""

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def known_zone(argument: str, value: object) -> ZoneInfo:
    """Return the time zone *value*, or the one whose key it is.

    Raises:
        InvalidArgument: There is no such zone.
    """
    if isinstance(value, ZoneInfo) and value.key:
        return value
    try:
        if isinstance(value, str):
            return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # Not there; not the form of a key; a folder.
        pass
    if value == "UTC":  # The default has to do without any data.
        return ZoneInfo.from_file(BytesIO(UTC_FILE), key="UTC")
    missing = "" if available_timezones() else ", and there is no data of time zones here: install the package tzdata"
    raise InvalidArgument(argument, value, f"must be the key of an IANA time zone, such as 'Europe/Berlin'{missing}")


def around(local: datetime, unit: timedelta) -> tuple[datetime, datetime]:
    """Return begin and end of the second, minute, hour or day, whichever *unit* is, that naive *local* time is in."""
    start = local - (local - datetime.min) % unit  # noqa: DTZ901  # Naive as well, and a midnight.
    return start, start + min(unit, datetime.max - start)  # noqa: DTZ901


def unbroken(moment: datetime, zone: ZoneInfo, stretches: Iterable[tuple[datetime, datetime]]) -> Stretch | None:
    """Return, in UTC, the first of the *stretches* in which the clocks are not changed.

    Args:
        moment: Aware datetime.
        zone: Where the clocks are.
        stretches: Begin and end, naive local times, each around *moment* and at most a day long. No zone ever changed
            its clocks twice in three days, so that comparing the ends is enough; and none within a second.
    """
    offset = moment.astimezone(zone).utcoffset() or timedelta()
    for first, last in stretches:
        with suppress(OverflowError):  # The ends of the calendar, which come earlier for some zones.
            start, end = ((local - offset).replace(tzinfo=UTC) for local in (first, last))
            if all(each.astimezone(zone).utcoffset() == offset for each in (start, end - MICROSECOND)):
                return start, end
    return None
