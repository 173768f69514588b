"""WHEN, as crontabs say it. cronsim knows the calendar; what a change of the clocks does to it is decided here.

cronsim is asked about naive local time only, in which every day has 24 hours. Which instants of a naive tick there are
is a question to the time zone: usually one; none in a gap, when the clocks are put forward; two in a fold, when they
are put back. Both directions ask the same question, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from ._arguments import MICROSECOND, aware
from ._clock import EPOCH
from ._cron_text import SOME_DAY, parts_of
from ._triggers import BaseTrigger, Stretch, alone
from ._zones import DAY, HOUR, MINUTE, SECOND, around, known_zone, unbroken
from .errors import InvalidArgument

Between = tuple[datetime, datetime]
"""Naive local times, from the first to, not including, the second."""

NOTHING = timedelta()


@dataclass(frozen=True)
class Cron(BaseTrigger):
    """A tick whenever the local time of a zone matches an expression, as in Debian's cron.

    Where the clocks are put forward or back, the rule of Debian's cron holds. A rule for certain times of day, whose
    minute and hour both do not begin with ``*``, ticks once: what falls into the gap ticks in the first full minute
    behind it (several such ticks are one), and what comes twice ticks the first time. Any other rule, and any with
    seconds, follows the clock: nothing in the gap, and both times in the fold. Debian's cron does so for changes of
    less than three hours, and takes longer ones for a clock that was set; here it holds for any, such as the day that
    Apia left out in 2011.

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
        parts = parts_of(self.expression)
        object.__setattr__(self, "expression", " ".join(parts))
        object.__setattr__(self, "zone", known_zone("tz", self.tz))
        object.__setattr__(self, "tz", self.zone.key)
        minute, hour = parts[-5], parts[-4]
        object.__setattr__(self, "fixed", len(parts) == 5 and not minute.startswith("*") and not hour.startswith("*"))
        if next(CronSim(self.expression, SOME_DAY), None) is None:
            raise InvalidArgument("expression", self.expression, "must match some day, and it never does")

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none for 50 years."""
        return next(self._walk(aware("moment", moment)), None)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none for 50 years."""
        moment = aware("moment", moment)
        with suppress(OverflowError):  # The beginning of the calendar.
            local, twice, is_second = self._local(moment)
            start = local.replace(microsecond=1)  # So that cronsim begins with the second that it is in.
            if twice is not None and is_second:
                tick = None if self.fixed else next(CronSim(self.expression, start, reverse=True), None)
                if tick is not None and tick >= twice[0]:
                    return self._utc(tick, 1)
                start = twice[1]
            for tick in CronSim(self.expression, start, reverse=True):
                if twice is not None and tick >= twice[0]:
                    return self._utc(tick, 0)
                for instant in reversed(self._instants(tick)):
                    if instant <= moment:  # A tick in a gap may come up to a minute later.
                        return instant
        return None

    def ticks(self, after: datetime, /) -> Iterator[datetime]:
        """Yield the ticks strictly later than the aware *after*, in order, until there is none for 50 years.

        One walk through the calendar: cheaper than to ask for one tick after the other.
        """
        return self._walk(aware("after", after))

    def local_ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the ticks as the calendar alone has them, whatever happens to the clocks.

        Args:
            start: Naive local time from which on they are told, itself included.
            end: Naive local time before which they are told.

        Raises:
            InvalidArgument: *start* or *end* is aware.
        """
        start, end = _naive("start", start), _naive("end", end)
        return takewhile(lambda tick: tick < end, CronSim(self.expression, start - MICROSECOND))

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return from when until when around the aware *moment* every local minute matches; None if its own does not.

        With six fields, every local second. There may be more on either side: a stretch is one minute, hour or day, and
        none in which the clocks are changed. A tick that a gap has moved to where nothing matches is covered alone.
        """
        moment = aware("moment", moment)
        local = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        rule = self._rule
        if not (
            (len(self._parts) == 5 or local.second in rule.seconds)
            and local.minute in rule.minutes
            and local.hour in rule.hours
            and local.month in rule.months
            and rule.match_day(local.date())
        ):
            return alone(moment) if self._is_moved(moment, local) else None
        return unbroken(moment, self.zone, (around(local, unit) for unit in self._units))

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values."""
        return {"cron": self.expression, "tz": self.tz}

    def __str__(self) -> str:
        return f"{self._rule.explain()}, {self.tz} ({self.expression})"

    # --- what is parsed once ---

    @cached_property
    def _rule(self) -> CronSim:
        return CronSim(self.expression, SOME_DAY)

    @cached_property
    def _parts(self) -> list[str]:
        return self.expression.split()

    @cached_property
    def _units(self) -> list[timedelta]:
        """All of each of these matches if one second of it does; longest first."""
        rule = self._rule
        minute = len(self._parts) == 5 or len(rule.seconds) == 60
        hour = minute and len(rule.minutes) == 60
        day = hour and len(rule.hours) == 24
        return [unit for unit, whole in ((DAY, day), (HOUR, hour), (MINUTE, minute), (SECOND, True)) if whole]

    # --- local time and instants ---

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        for instant in self._in_order(moment):
            if instant > moment:  # Several ticks in a gap are one, and one behind it may be the same.
                yield instant
                moment = instant

    def _in_order(self, moment: datetime) -> Iterator[datetime]:
        """Yield the instants of all ticks from *moment* on in order, a few earlier ones too; of equal ones, all."""
        again: Between | None = None  # What comes a second time as soon as it is over.
        with suppress(OverflowError):  # The end of the calendar.
            local, twice, is_second = self._local(moment)
            start = local - self._behind_gap(local)
            if twice is not None and self.fixed and is_second:
                start = twice[1] - MICROSECOND
            elif not (self.fixed or is_second):
                again = twice
            for tick in CronSim(self.expression, start):
                if again is not None and tick >= again[1]:
                    yield from self._second_pass(again)
                    again = None
                if is_second and twice is not None and tick < twice[1]:
                    yield self._utc(tick, 1)
                    continue
                instants = self._instants(tick)
                yield from instants[:1]
                if len(instants) > 1 and again is None:
                    again = self._twice(tick)
        if again is not None:
            yield from self._second_pass(again)

    def _second_pass(self, twice: Between) -> Iterator[datetime]:
        with suppress(OverflowError):
            for tick in self.local_ticks(*twice):
                yield self._utc(tick, 1)

    def _local(self, moment: datetime) -> tuple[datetime, Between | None, bool]:
        """Return *moment* in naive local time; in a fold, from when until when that is, and whether a second time."""
        local = moment.astimezone(self.zone)
        naive = local.replace(tzinfo=None, fold=0)
        return naive, self._twice(naive), bool(local.fold)

    def _twice(self, local: datetime) -> Between | None:
        """Return from when until when *local* time comes twice, of all that does so with it; None if it does not."""
        before, behind = self._offset(local, 0), self._offset(local, 1)
        if before <= behind:
            return None
        change = self._change(local).replace(tzinfo=None)
        return change + behind, change + before

    def _behind_gap(self, local: datetime) -> timedelta:
        """Return from how long before *local* time ticks may come now: mostly 0.

        Less than a minute behind a gap, which may have ended within the minute, it is the length of the gap.
        """
        if not self.fixed or local - datetime.min <= MINUTE:  # noqa: DTZ901  # Naive as well.
            return NOTHING
        gap = self._offset(local - MINUTE, 1) - self._offset(local - MINUTE, 0)
        return gap + MINUTE if gap > NOTHING else NOTHING

    def _is_moved(self, moment: datetime, local: datetime) -> bool:
        """Return whether *moment* is a tick whose *local* time was in a gap."""
        return self._behind_gap(local) > NOTHING and self.at_or_before(moment) == moment

    def _instants(self, local: datetime) -> list[datetime]:
        """Return when it is a tick of *local* time, in order."""
        before, behind = self._offset(local, 0), self._offset(local, 1)
        if before == behind:
            return [(local - before).replace(tzinfo=UTC)]
        if before > behind:  # Its instants are not those of the ticks beside it: first come all of one pass.
            return [self._utc(local, 0)] if self.fixed else [self._utc(local, 0), self._utc(local, 1)]
        return [self._end_of_gap(local)] if self.fixed else []

    def _offset(self, local: datetime, fold: int) -> timedelta:
        """Return what the zone adds to UTC; in a gap or fold, what it adds before (0) or behind (1) the change."""
        return local.replace(tzinfo=self.zone, fold=fold).utcoffset() or timedelta()

    def _utc(self, local: datetime, fold: int) -> datetime:
        return (local - self._offset(local, fold)).replace(tzinfo=UTC)

    def _end_of_gap(self, local: datetime) -> datetime:
        """Return the first full local minute behind the gap that *local* is in."""
        change = self._change(local)
        return change + (EPOCH - (change + self._offset(local, 1))) % MINUTE

    def _change(self, local: datetime) -> datetime:
        """Return when the clocks are changed, to the second: *local* is in the gap or fold that comes from it."""
        local = local.replace(microsecond=0)
        behind = self._offset(local, 1)
        low, high = sorted((self._utc(local, 0), self._utc(local, 1)))  # Before the change, and not before it.
        while high - low > SECOND:
            middle = (low + (high - low) / 2).replace(microsecond=0)
            if middle.astimezone(self.zone).utcoffset() == behind:
                high = middle
            else:
                low = middle
        return high


def _naive(argument: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is not None:
        raise InvalidArgument(argument, value, "must be a naive local datetime")
    return value
