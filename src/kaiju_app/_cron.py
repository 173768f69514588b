"""WHEN, as crontabs say it. cronsim knows the calendar; what a change of the clocks does to it is decided here.

cronsim is asked about naive local time only, in which every day has 24 hours. Which instants of a naive tick there are
is a question to the time zone: usually one; none in a gap, when the clocks are put forward; two in a fold, when they
are put back. Both directions ask the same question, so that they cannot disagree.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from ._clock import EPOCH
from ._triggers import aware
from .errors import InvalidArgument

FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
ALLOWED = ("0-59", "0-59", "0-23", "1-31, L, LW", "1-12, JAN-DEC", "0-7, SUN-SAT, 5L, MON#2")

SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001  # Naive, as cronsim is asked; from here a rule is tried out.

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Cron:
    """A tick whenever the local time of a zone matches an expression, as in Debian's cron.

    Where the clocks are put forward or back, the rule of Debian's cron holds. A rule for certain times of day, whose
    minute and hour both do not begin with ``*``, ticks once: what falls into the gap ticks in the first full minute
    behind it (several such ticks are one), and what comes twice ticks the first time. Any other rule, and any with
    seconds, follows the clock: nothing in the gap, and both times in the fold.

    Args:
        expression: Minute, hour, day of month, month, day of week; or six fields, with the second first. Names, ``*``,
            lists, ranges, steps; ``L`` (last day), ``LW`` (last weekday), ``5L`` (last Friday), ``MON#2`` (second
            Monday). Days of month and of week both have to match if one of the fields begins with ``*``, otherwise
            either.
        tz: Key of an IANA time zone.

    Raises:
        InvalidArgument: The expression has a wrong part or can never match, or the zone is not known.
    """

    expression: str
    tz: str = "UTC"
    zone: ZoneInfo = field(init=False, repr=False, compare=False)
    fixed: bool = field(init=False, repr=False, compare=False)
    """Whether it is a rule for certain times of day, which a change of the clocks neither drops nor doubles."""

    def __post_init__(self) -> None:
        parts = _parts(self.expression)
        object.__setattr__(self, "expression", " ".join(parts))
        object.__setattr__(self, "zone", _zone(self.tz))
        object.__setattr__(self, "tz", self.zone.key)
        minute, hour = parts[-5], parts[-4]
        object.__setattr__(self, "fixed", len(parts) == 5 and not minute.startswith("*") and not hour.startswith("*"))
        if next(CronSim(self.expression, SOME_DAY), None) is None:
            raise InvalidArgument("expression", self.expression, "must match some day, and it never does")

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none for 50 years."""
        moment = aware("moment", moment)
        best: datetime | None = None
        with suppress(OverflowError):  # The end of the calendar.
            local, fold = self._local(moment)
            # From the length of the fold before: what is past in its first pass may come again in its second.
            for tick in CronSim(self.expression, local - fold):
                for instant in self._instants(tick):
                    if instant > moment and (best is None or instant < best):
                        best = instant
                if best is not None and self._utc(tick, 0) >= best:
                    break
        return best

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none for 50 years."""
        moment = aware("moment", moment)
        best: datetime | None = None
        with suppress(OverflowError):  # The beginning of the calendar.
            local, fold = self._local(moment)
            # To the length of the fold behind: in its second pass, all of the first one is past.
            start = (local + fold).replace(microsecond=0) + SECOND
            for tick in CronSim(self.expression, start, reverse=True):
                for instant in self._instants(tick):
                    if instant <= moment and (best is None or instant > best):
                        best = instant
                if best is not None and self._utc(tick, 1) <= best:
                    break
        return best

    def __str__(self) -> str:
        return f"{self._rule.explain()}, {self.tz} ({self.expression})"

    @cached_property
    def _rule(self) -> CronSim:
        return CronSim(self.expression, SOME_DAY)

    # --- local time and instants ---

    def _local(self, moment: datetime) -> tuple[datetime, timedelta]:
        """Return *moment* in naive local time, and the length of the fold that this is in: usually 0."""
        local = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        return local, max(timedelta(), self._offset(local, 0) - self._offset(local, 1))

    def _instants(self, local: datetime) -> list[datetime]:
        """Return when it is a tick of *local* time, in order."""
        before, behind = self._offset(local, 0), self._offset(local, 1)
        if before == behind:
            return [self._utc(local, 0)]
        if before > behind:
            return [self._utc(local, 0)] if self.fixed else [self._utc(local, 0), self._utc(local, 1)]
        return [self._end_of_gap(local)] if self.fixed else []

    def _offset(self, local: datetime, fold: int) -> timedelta:
        """Return what the zone adds to UTC; in a gap or fold, what it adds before (0) or behind (1) the change."""
        return local.replace(tzinfo=self.zone, fold=fold).utcoffset() or timedelta()

    def _utc(self, local: datetime, fold: int) -> datetime:
        return (local - self._offset(local, fold)).replace(tzinfo=UTC)

    def _end_of_gap(self, local: datetime) -> datetime:
        """Return the first full local minute behind the gap that *local* is in."""
        behind = self._offset(local, 1)
        low = self._utc(local, 1)  # Not behind the change, whatever it is;
        high = self._utc(local, 0)  # and this is.
        while high - low > SECOND:
            middle = (low + (high - low) / 2).replace(microsecond=0)
            if middle.astimezone(self.zone).utcoffset() == behind:
                high = middle
            else:
                low = middle
        return high + (EPOCH - (high + behind)) % MINUTE


def _parts(expression: object) -> list[str]:
    """Return the fields of *expression*.

    Raises:
        InvalidArgument: It has a wrong number of them, or one is wrong.
    """
    if not isinstance(expression, str):
        raise InvalidArgument("expression", expression, "must be a text such as '0 6 * * mon-fri'")
    parts = expression.split()
    if len(parts) not in (5, 6):
        raise InvalidArgument(
            "expression", expression, f"must have 5 fields, or 6 with the second first, and has {len(parts)}"
        )
    try:
        CronSim(" ".join(parts), SOME_DAY)
    except CronSimError:
        for place, part in enumerate(parts, start=6 - len(parts)):
            if not _is_right(place, part):
                raise InvalidArgument(
                    "expression",
                    expression,
                    f"has a wrong {FIELDS[place]}, {part!r}: there are {ALLOWED[place]}; lists, ranges, steps",
                ) from None
        raise InvalidArgument(
            "expression", expression, "must match some day, and its months have no such day"
        ) from None
    return parts


def _is_right(place: int, part: str) -> bool:
    """Return whether *part* is right at its *place*, whatever the others are."""
    try:
        CronSim(" ".join(part if each == place else "*" for each in range(6)), SOME_DAY)
    except CronSimError:
        return False
    return True


def _zone(tz: object) -> ZoneInfo:
    if isinstance(tz, ZoneInfo) and tz.key:
        return tz
    try:
        if isinstance(tz, str):
            return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # Not there; not the form of a key; a folder.
        pass
    raise InvalidArgument("tz", tz, "must be the key of an IANA time zone, such as 'Europe/Berlin'")
