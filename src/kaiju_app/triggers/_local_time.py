"""From local time to instants: usually one; none in a gap, when clocks go forward; two in a fold, when they go back.

All local times here are naive.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from kaiju_app._core.clock import EPOCH

from ._zones import MINUTE, change_between


def offset_of(local: datetime, zone: ZoneInfo, fold: int) -> timedelta:
    """Return the offset from UTC; in a gap or fold, the one before (*fold* 0) or after (1) the change."""
    return local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()


def instant_of(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    """Return the instant, in UTC, at the offset before or after a change as in ``offset_of()``."""
    return (local - offset_of(local, zone, fold)).replace(tzinfo=UTC)


def instants_of(local: datetime, zone: ZoneInfo, fixed: bool) -> list[datetime]:
    """Return the instants of a tick in order.

    Args:
        local: The time of the tick.
        zone: The zone of the clocks.
        fixed: Whether the tick has exactly one instant, by the rule of Debian's cron: the first full minute after the
            gap, and the first time of two.
    """
    before, after = offset_of(local, zone, 0), offset_of(local, zone, 1)
    if before == after:
        return [(local - before).replace(tzinfo=UTC)]
    if before > after:  # These instants are not adjacent: all ticks of the first pass come before the second pass.
        first = instant_of(local, zone, 0)
        return [first] if fixed else [first, instant_of(local, zone, 1)]
    return [_end_of_gap(local, zone)] if fixed else []


def change_at(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the second at which the clocks change, given a *local* time in the gap or fold."""
    local = local.replace(microsecond=0)
    before, not_before = sorted((instant_of(local, zone, 0), instant_of(local, zone, 1)))
    return change_between(before, not_before, zone)


def _end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first full local minute after the gap that contains *local*."""
    change = change_at(local, zone)
    return change + (EPOCH - (change + offset_of(local, zone, 1))) % MINUTE
