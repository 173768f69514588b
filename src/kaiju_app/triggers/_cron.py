"""``Cron``: ticks by a crontab expression. cronsim knows the calendar; this module handles daylight saving.

cronsim only sees naive local time, in which every day has 24 hours. The time zone says at which instants a naive tick
occurs: usually at one; at none in a gap, when the clocks go forward; at two in a fold, when they go back. The searches
in both directions use the same conversion, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from kaiju_app._core.calls import explain_init, renamed_to
from kaiju_app._core.validate import MICROSECOND, aware, naive
from kaiju_app.errors import InvalidArgument

from ._base import BaseTrigger, Stretch, freeze, tick_stretch
from ._cron_days import local_cron
from ._cron_syntax import SOME_DAY, parts_of
from ._local_time import change_at, instant_of, instants_of, offset_of
from ._zones import DAY, HOUR, MINUTE, SECOND, first_without_change, known_zone, unit_around

LocalSpan = tuple[datetime, datetime]
"""Naive local times, from the first up to but not including the second."""

NOTHING = timedelta()


@explain_init(
    {
        **{each: renamed_to("tz") for each in ("timezone", "zone")},
        **dict.fromkeys(
            ("minute", "hour", "day", "month", "day_of_week", "second"),
            "write Cron('0 6 * * mon-fri'): minute, hour, day, month, day of week",
        ),
    }
)
@dataclass(frozen=True, repr=False)
class Cron(BaseTrigger):
    """A tick whenever the local time of a zone matches an expression, as in Debian's cron.

    When the clocks go forward or back, this follows Debian's cron. A fixed-time rule, whose minute and hour fields do
    not begin with ``*``, ticks once: a tick in the gap is moved to the first full minute after it (several such ticks
    become one), and a time that occurs twice ticks the first time. Any other rule, and any rule with seconds, follows
    the clock: it has no tick in the gap, and ticks both times in the fold. Debian's cron does so for changes of less
    than three hours and treats longer ones as a clock that was set; here it holds for all changes, such as the day that
    Apia skipped in 2011.

    Args:
        expression: Minute, hour, day of month, month, day of week; or six fields, with the second first. Each takes
            names, ``*``, lists, ranges and steps; ``L`` (last day), ``L-3`` (three days before it), ``LW`` (last
            weekday), ``15W`` (weekday nearest to the 15th, in the same month), ``5L`` (last Friday), ``MON#2`` (second
            Monday). Day of month and day of week must both match if one of these fields begins with ``*`` or is ``?``,
            which means ``*``; otherwise it is enough that one of them matches. Or a nickname of crontab(5), such as
            ``@daily``, which is midnight. ``H``, ``H(0-29)`` and ``H/15`` stand for numbers, as in Jenkins: rules that
            are spread by different names tick at different times.
        tz: Key of an IANA time zone, or ``"local"`` for the zone of this host. Name a zone where hosts may differ.
        spread: What an H is a hash of, such as the name of the task: the same number everywhere and always.

    Raises:
        InvalidArgument: The expression has an invalid field, has an H without *spread* or never matches; or the zone is
            unknown.
    """

    expression: str
    tz: str = "UTC"
    zone: ZoneInfo = field(init=False, compare=False)
    fixed: bool = field(init=False, compare=False)
    """Whether it is a fixed-time rule: a change of the clocks neither drops nor doubles its ticks."""
    spread: InitVar[str | None] = None

    def __post_init__(self, spread: str | None) -> None:
        parts = parts_of(self.expression, spread)
        zone = known_zone("tz", self.tz)
        fixed = len(parts) == 5 and not any(part.startswith("*") for part in parts[:2])
        freeze(self, expression=" ".join(parts), tz=zone.key, zone=zone, fixed=fixed)
        if next(local_cron(self.expression, SOME_DAY), None) is None:
            raise InvalidArgument("expression", self.expression, "must match at least one day, but never does")

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none for 50 years."""
        return next(self._walk(aware("moment", moment)), None)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none for 50 years."""
        moment = aware("moment", moment)
        with suppress(OverflowError):  # The beginning of the calendar.
            local, twice, is_second = self._local(moment)
            start = local.replace(microsecond=1)  # Makes cronsim begin with this very second.
            if twice is not None and is_second:
                tick = None if self.fixed else next(local_cron(self.expression, start, reverse=True), None)
                if tick is not None and tick >= twice[0]:
                    return instant_of(tick, self.zone, 1)
                start = twice[1]
            for tick in local_cron(self.expression, start, reverse=True):
                if twice is not None and tick >= twice[0]:
                    return instant_of(tick, self.zone, 0)
                for instant in reversed(instants_of(tick, self.zone, self.fixed)):
                    if instant <= moment:  # A tick in a gap may come up to a minute later.
                        return instant
        return None

    def local_ticks(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the ticks of the calendar alone, ignoring changes of the clocks.

        Args:
            start: Naive local time of the first possible tick.
            end: Naive local time before which the ticks end.

        Raises:
            InvalidArgument: *start* or *end* is aware.
        """
        start, end = naive("start", start), naive("end", end)
        return takewhile(lambda tick: tick < end, local_cron(self.expression, start - MICROSECOND))

    def matches(self, local: datetime) -> bool:
        """Return whether the minute of naive *local* time matches, with six fields its second."""
        rule = self._rule
        return bool(
            (len(self._parts) == 5 or local.second in rule.seconds)
            and local.minute in rule.minutes
            and local.hour in rule.hours
            and local.month in rule.months
            and rule.match_day(local.date())
        )

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return a stretch around the aware *moment* in which every local minute matches; None if its own does not.

        With six fields, every local second matches. The time next to the stretch may match as well: a stretch is one
        minute, hour or day, without a change of the clocks. A tick that was moved out of a gap, to a time that does not
        match, is covered alone.
        """
        moment = aware("moment", moment)
        local = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        if not self.matches(local):
            return tick_stretch(moment) if self._is_moved(moment, local) else None
        return first_without_change(moment, self.zone, (unit_around(local, unit) for unit in self._units))

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values."""
        return {"cron": self.expression, "tz": self.tz}

    def __repr__(self) -> str:
        return f"Cron({self.expression!r})" if self.tz == "UTC" else f"Cron({self.expression!r}, tz={self.tz!r})"

    def __str__(self) -> str:
        from ._cron_words import words

        return f"{words(self._parts)}, {self.tz} ({self.expression})"

    # --- parsed once ---

    @cached_property
    def _rule(self) -> CronSim:
        return local_cron(self.expression, SOME_DAY)

    @cached_property
    def _parts(self) -> list[str]:
        return self.expression.split()

    @cached_property
    def _units(self) -> list[timedelta]:
        """Units of which all matches if one second does, longest first."""
        rule = self._rule
        minute = len(self._parts) == 5 or len(rule.seconds) == 60
        hour = minute and len(rule.minutes) == 60
        day = hour and len(rule.hours) == 24
        return [unit for unit, whole in ((DAY, day), (HOUR, hour), (MINUTE, minute), (SECOND, True)) if whole]

    # --- local time and instants ---

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        for instant in self._in_order(moment):
            if instant > moment:  # Several ticks in a gap become one, and a tick after the gap may be the same.
                yield instant
                moment = instant

    def _in_order(self, moment: datetime) -> Iterator[datetime]:
        """Yield the instants of the ticks from *moment* on, in order; also a few earlier ones and duplicates."""
        again: LocalSpan | None = None  # The fold that has to be walked a second time when its first pass ends.
        with suppress(OverflowError):  # The end of the calendar.
            local, twice, is_second = self._local(moment)
            start = local - self._moved_by(local)
            if twice is not None and self.fixed and is_second:
                start = twice[1] - MICROSECOND
            elif not (self.fixed or is_second):
                again = twice
            for tick in local_cron(self.expression, start):
                if again is not None and tick >= again[1]:
                    yield from self._second_pass(again)
                    again = None
                if is_second and twice is not None and tick < twice[1]:
                    yield instant_of(tick, self.zone, 1)
                    continue
                instants = instants_of(tick, self.zone, self.fixed)
                yield from instants[:1]
                if len(instants) > 1 and again is None:
                    again = self._twice(tick)
        if again is not None:
            yield from self._second_pass(again)

    def _second_pass(self, twice: LocalSpan) -> Iterator[datetime]:
        with suppress(OverflowError):
            for tick in self.local_ticks(*twice):
                yield instant_of(tick, self.zone, 1)

    def _local(self, moment: datetime) -> tuple[datetime, LocalSpan | None, bool]:
        """Return *moment* in naive local time; the fold that contains it or None; whether it is the second pass."""
        local = moment.astimezone(self.zone)
        naive = local.replace(tzinfo=None, fold=0)
        return naive, self._twice(naive), bool(local.fold)

    def _twice(self, local: datetime) -> LocalSpan | None:
        """Return the fold that contains *local* time: the times that occur twice; None if it occurs once."""
        before, after = offset_of(local, self.zone, 0), offset_of(local, self.zone, 1)
        if before <= after:
            return None
        change = change_at(local, self.zone).replace(tzinfo=None)
        return change + after, change + before

    def _moved_by(self, local: datetime) -> timedelta:
        """Return how far ticks may have been moved to be at *local* time: usually 0.

        Less than a minute after a gap, which may have ended within the minute, it is the length of the gap.
        """
        if not self.fixed or local - datetime.min <= MINUTE:  # noqa: DTZ901  # Naive as well.
            return NOTHING
        gap = offset_of(local - MINUTE, self.zone, 1) - offset_of(local - MINUTE, self.zone, 0)
        return gap + MINUTE if gap > NOTHING else NOTHING

    def _is_moved(self, moment: datetime, local: datetime) -> bool:
        """Return whether *moment*, at *local* time, is a tick that was moved out of a gap."""
        return self._moved_by(local) > NOTHING and self.at_or_before(moment) == moment
