"""Why a rule has no tick where somebody expected one: a daylight saving change, or an exclusion. In words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

from kaiju_app._core.clock import utc

from ._base import Trigger
from ._calendar import Calendar
from ._combined import AnyOf, Except
from ._cron import Cron
from ._lint_dst import changes
from ._zones import known_zone

NEAR_CHANGE = timedelta(hours=3)  # A change of the clocks moves ticks by less.


def remark_on(trigger: Trigger, at: int) -> str | None:
    """Return why *trigger* has no tick at *at*, in wall-clock microseconds, if something has moved one or left it out.

    Only daylight saving changes within three hours count: they may have moved a tick.
    """
    excluded = _left_out(trigger, at)
    if excluded is not None:
        return f"its rule has a tick then, which is left out: {excluded}"
    moment = utc(at)
    for zone in dict.fromkeys(zones_of(trigger)):
        for change in changes(zone, moment - NEAR_CHANGE, moment + NEAR_CHANGE):
            before, after = ((change.at + offset).strftime("%H:%M") for offset in (change.before, change.after))
            what = "do not exist" if change.is_gap else "occur twice"
            return (
                f"the clocks in {zone.key} were set from {before} to {after} at {change.at:%H:%M:%S}Z, so local times "
                f"between {'them' if change.is_gap else 'the two'} {what} on that day"
            )
    return None


def _left_out(trigger: Trigger, at: int) -> str | None:
    match trigger:
        case Except() if trigger.rule.at_or_before(utc(at)) == utc(at):
            return next((str(part) for part in trigger.excluded if part.stretch(utc(at)) is not None), None)
        case AnyOf():
            return next((text for each in trigger.triggers if (text := _left_out(each, at)) is not None), None)
        case _:
            return None


def zones_of(trigger: object) -> Iterator[ZoneInfo]:
    """Yield the time zones of *trigger*, in which its ticks are local times."""
    match trigger:
        case Cron() | Calendar():
            yield known_zone("tz", trigger.tz)
        case Except():
            yield from zones_of(trigger.rule)
        case AnyOf():
            for each in trigger.triggers:
                yield from zones_of(each)
