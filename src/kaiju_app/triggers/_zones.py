"""Time zones by key, and stretches of local time without a change of the clocks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from io import BytesIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from kaiju_app._core.validate import MICROSECOND
from kaiju_app.errors import InvalidArgument

from ._base import Stretch

UTC_FILE = (
    b"TZif" + bytes(16) + b"".join(count.to_bytes(4, "big") for count in (0, 0, 0, 0, 1, 4)) + bytes(6) + b"UTC\0"
)
"""A zone as in RFC 8536: no change of the clocks, one offset, which is 0, and four characters of names."""

LOCAL = ("local", "localtime")
"""The zone of this host. The second is a file among the zones of some hosts, which says something else on each."""

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def known_zone(argument: str, value: object) -> ZoneInfo:
    """Return the time zone *value*, or the one that has this key; for "local" the one of this host.

    Raises:
        InvalidArgument: There is no such zone, or the host does not say which one it is in.
    """
    if isinstance(value, ZoneInfo) and value.key:
        return value
    if value in LOCAL:
        return local_zone(argument, value)
    if isinstance(value, str) and (zone := _zone_or_none(value)) is not None:
        return zone
    if value == "UTC":  # The default must work without any time zone data.
        return ZoneInfo.from_file(BytesIO(UTC_FILE), key="UTC")
    known = available_timezones()
    advice = "" if known else ", and this machine has no time zone data: install the package tzdata"
    named = sorted(each for each in known if isinstance(value, str) and each.lower().endswith(f"/{value.lower()}"))
    if named:
        advice = f"; write {named[0]!r}"
    raise InvalidArgument(argument, value, f"must be the key of an IANA time zone, such as 'Europe/Berlin'{advice}")


def local_zone(argument: str, value: object, localtime: str = "/etc/localtime") -> ZoneInfo:
    """Return the time zone of this host, by its name: an offset alone knows no daylight saving.

    Args:
        argument: Name of the argument, for the error.
        value: What was given for it.
        localtime: The file that tells the C library the zone, by which TZ in the environment takes precedence.

    Raises:
        InvalidArgument: The host does not say the name of its zone.
    """
    given = os.environ.get("TZ")
    if given is not None:
        names = [given.removeprefix(":") or "UTC"]
    elif os.path.exists(localtime):
        names = [os.readlink(localtime)] if os.path.islink(localtime) else []
        names += [os.path.realpath(localtime), *_lines(os.path.join(os.path.dirname(localtime), "timezone"))]
    else:
        names = [] if os.name == "nt" else ["UTC"]  # What the C library takes without that file.
    for name in names:
        key = name.rpartition("zoneinfo/")[2].removeprefix("posix/").removeprefix("right/")
        if key not in LOCAL and (zone := _zone_or_none(key)) is not None:
            return zone
    host = f"TZ={given!r} is no such key" if given is not None else "this host does not say in which zone it is"
    raise InvalidArgument(
        argument, value, f"must be the key of an IANA time zone, such as 'Europe/Berlin', because {host}"
    )


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()[:1]
    except (OSError, ValueError):
        return []


def _zone_or_none(key: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # No such file; not a valid key; a directory.
        return None


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """Return the offset of *zone* from UTC at the aware *moment*."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def change_between(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """Return the first whole second after *low*, up to *high*, with another offset than at *low*; both aware UTC."""
    before = offset_at(low, zone)
    while high - low > SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (middle, high) if offset_at(middle, zone) == before else (low, middle)
    return high


def unit_around(local: datetime, unit: timedelta) -> tuple[datetime, datetime]:
    """Return start and end of the second, minute, hour or day (the *unit*) that contains naive *local* time."""
    start = local - (local - datetime.min) % unit  # noqa: DTZ901  # Naive as well, and a midnight.
    return start, start + min(unit, datetime.max - start)  # noqa: DTZ901


def first_without_change(
    moment: datetime, zone: ZoneInfo, stretches: Iterable[tuple[datetime, datetime]]
) -> Stretch | None:
    """Return, in UTC, the first of the *stretches* without a change of the clocks.

    Args:
        moment: Aware datetime.
        zone: The zone of the clocks.
        stretches: Start and end as naive local times, each around *moment* and at most a day long. Comparing the
            offsets of the ends is enough, because no zone has ever changed its clocks twice in three days, or within a
            second.
    """
    offset = offset_at(moment, zone)
    for first, last in stretches:
        with suppress(OverflowError):  # The ends of the calendar, which are nearer in some zones.
            start, end = ((local - offset).replace(tzinfo=UTC) for local in (first, last))
            if all(offset_at(each, zone) == offset for each in (start, end - MICROSECOND)):
                return start, end
    return None
