"""Triggers made of others: any of several rules, and one rule except when others apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from heapq import merge
from operator import itemgetter

from kaiju_app._core.calls import explain_init
from kaiju_app._core.validate import MICROSECOND, aware, renamed
from kaiju_app.errors import InvalidArgument, SearchTooLong

from ._base import BaseTrigger, Exclusion, Stretch, Trigger, freeze, tick_stretch
from ._foreign import as_base_trigger
from ._windows import DailyWindow, Window

MAX_STRETCHES = 4_000  # Consecutive excluded stretches in one search: ten years of days. A search blocks the loop.


@explain_init()
@dataclass(frozen=True, slots=True, init=False, repr=False)
class AnyOf(BaseTrigger):
    """A tick whenever one of several rules has one; ticks at the same instant count as one.

    Args:
        triggers: At least one; duplicates count once. An AnyOf among them is replaced by its own triggers.

    Raises:
        InvalidArgument: No trigger is given, or an argument is not a trigger.
    """

    triggers: tuple[BaseTrigger, ...]

    def __init__(self, *triggers: Trigger) -> None:
        if not triggers:
            raise InvalidArgument("triggers", triggers, "must be at least one, such as Every(60)")
        parts: list[BaseTrigger] = []
        for place, each in enumerate(triggers):
            known = as_base_trigger(f"triggers[{place}]", each)
            for part in known.triggers if isinstance(known, AnyOf) else [known]:
                if part not in parts:
                    parts.append(part)
        freeze(self, triggers=tuple(parts))

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""
        moment = aware("moment", moment)
        return self._nearest(lambda each: each.after(moment), min)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""
        moment = aware("moment", moment)
        return self._nearest(lambda each: each.at_or_before(moment), max)

    def one_off_in(self, after: datetime, until: datetime, /) -> datetime | None:
        """Return the first moment of an ``At`` later than the aware *after*, up to *until*; None if there is none."""
        found = (each.one_off_in(after, until) for each in self.triggers)
        return min((tick for tick in found if tick is not None), default=None)

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return what any of the rules covers around the aware *moment*; None if none of them covers it."""
        return _covered(self.triggers, aware("moment", moment))

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values.

        Raises:
            InvalidArgument: It contains a trigger that is not part of this package.
        """
        return {"any_of": [_json_of(f"triggers[{place}]", each) for place, each in enumerate(self.triggers)]}

    def __repr__(self) -> str:
        return f"AnyOf({', '.join(map(repr, self.triggers))})"

    def __str__(self) -> str:
        return f"any of ({'; '.join(map(str, self.triggers))})"

    def _nearest(
        self, ask: Callable[[BaseTrigger], datetime | None], nearest: Callable[[Iterable[datetime]], datetime]
    ) -> datetime | None:
        found: list[datetime] = []
        stopped: dict[datetime, SearchTooLong] = {}
        for each in self.triggers:
            try:
                tick = ask(each)
            except SearchTooLong as exc:
                stopped[exc.reached] = exc
            else:
                found += [] if tick is None else [tick]
        if stopped:
            known = nearest(stopped)  # Up to here, none of the rules whose search was stopped has a tick.
            if not found or nearest([*found, known]) not in found:
                raise stopped[known]
        return nearest(found) if found else None

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        for tick, _, stopped in merge(*(_steps(each, moment) for each in self.triggers), key=_place):
            if stopped is not None:
                raise stopped
            if tick > moment:
                yield tick
                moment = tick


Step = tuple[datetime, bool, SearchTooLong | None]
"""A tick; or the instant that a stopped search has reached, which sorts after a tick there, and its error."""

_place = itemgetter(0, 1)


def _steps(trigger: BaseTrigger, moment: datetime) -> Iterator[Step]:
    try:
        for tick in trigger.ticks(moment):
            yield tick, False, None
    except SearchTooLong as exc:
        yield exc.reached, True, exc


@explain_init()
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Except(BaseTrigger):
    """The ticks of a rule that nothing excluded covers.

    A search stops after 4,000 consecutive excluded stretches and raises SearchTooLong, which says how far it came. A
    scheduler then searches again, before the time that the search has reached.

    Args:
        rule: The rule that has the ticks. If it is an Except, its rule and its exclusions are taken over.
        excluded: At least one. A Cron covers every whole minute of its local time, with six fields every second:
            holidays are ``Cron("* * 25,26 12 *", tz="Europe/Berlin")``. An AnyOf covers what its parts cover, an Except
            covers what its rule covers unless that is excluded, any other trigger covers only its ticks. A pair of
            aware datetimes covers the time from the first up to but not including the second. A pair of times with
            one ``ZoneInfo`` does the same every day in local time, overnight if the second is not later:
            ``(time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN))``. A tick that a daylight saving change moves counts at
            the time to which it is moved.

    Raises:
        InvalidArgument: *rule* is not a trigger; nothing is excluded, or something that is neither a trigger nor a
            pair; a datetime is naive, a time has no zone; the second datetime is not later than the first; the times
            are equal or in different zones.
    """

    rule: BaseTrigger
    excluded: tuple[Exclusion, ...]

    def __init__(
        self, rule: Trigger, *excluded: Trigger | Window | DailyWindow | tuple[datetime, datetime] | tuple[time, time]
    ) -> None:
        known = as_base_trigger("rule", rule)
        if not excluded:
            raise InvalidArgument("excluded", excluded, "must be at least one, such as a pair of aware datetimes")
        found = tuple(_exclusion(f"excluded[{place}]", each) for place, each in enumerate(excluded))
        if isinstance(known, Except):  # One search instead of a search within each step of another.
            found = known.excluded + found
            known = known.rule
        freeze(self, rule=known, excluded=found)

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none.

        Raises:
            SearchTooLong: The search was stopped; a later tick may exist.
        """
        return next(self._walk(aware("moment", moment)), None)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none.

        Raises:
            SearchTooLong: The search was stopped; an earlier tick may exist.
        """
        moment = cursor = aware("moment", moment)
        with suppress(OverflowError):  # The beginning of the calendar.
            for _ in range(MAX_STRETCHES):
                tick = self.rule.at_or_before(cursor)
                covered = None if tick is None else _covered(self.excluded, tick)
                if covered is None:
                    return tick
                cursor = covered[0] - MICROSECOND
            raise SearchTooLong(moment, cursor + MICROSECOND)
        return None

    def one_off_in(self, after: datetime, until: datetime, /) -> datetime | None:
        """Return the first moment of an ``At`` later than the aware *after*, up to *until*; None if there is none."""
        tick = self.rule.one_off_in(after, until)
        while tick is not None and _covered(self.excluded, tick) is not None:
            tick = self.rule.one_off_in(tick, until)
        return tick

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return the aware *moment* alone if the rule covers it and nothing excluded does; None otherwise.

        The time next to it may be covered as well.
        """
        moment = aware("moment", moment)
        if self.rule.stretch(moment) is None or _covered(self.excluded, moment):
            return None
        return tick_stretch(moment)

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values.

        Raises:
            InvalidArgument: It contains a trigger that is not part of this package.
        """
        excluded = [_json_of(f"excluded[{place}]", each) for place, each in enumerate(self.excluded)]
        return {"except": excluded, "rule": _json_of("rule", self.rule)}

    def __repr__(self) -> str:
        return f"Except({self.rule!r}, {', '.join(map(_typed, self.excluded))})"

    def __str__(self) -> str:
        return f"{self.rule}, except ({'; '.join(map(str, self.excluded))})"

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        stretches = 0
        with suppress(OverflowError):  # The end of the calendar.
            ticks = self.rule.ticks(moment)
            tick = next(ticks, None)
            while tick is not None:
                covered = _covered(self.excluded, tick)
                if covered is None:
                    yield tick
                    moment, stretches = tick, 0
                    tick = next(ticks, None)
                    continue
                last = covered[1] - MICROSECOND
                stretches += 1
                if stretches == MAX_STRETCHES:
                    raise SearchTooLong(moment, last)
                tick = next(ticks, None)
                if tick is not None and tick <= last:  # A million more may be covered: start again after the stretch.
                    ticks = self.rule.ticks(last)
                    tick = next(ticks, None)


def _covered(excluded: Iterable[Exclusion], moment: datetime) -> Stretch | None:
    """Return the longest stretch around *moment* that is known to be covered; None if *moment* is not covered."""
    found = [each for part in excluded if (each := part.stretch(moment)) is not None]
    # All of them contain the moment, so there is no gap between them.
    return (min(start for start, _ in found), max(end for _, end in found)) if found else None


def _exclusion(argument: str, value: object) -> Exclusion:
    if isinstance(value, Window | DailyWindow):
        return value
    with renamed(start=f"{argument}[0]", end=f"{argument}[1]"):
        match value:
            case (datetime() as start, datetime() as end):
                return Window(start, end)
            case (time() as first, time() as last):
                return DailyWindow(first, last)
            case tuple() | list():
                raise InvalidArgument(argument, value, "must be a pair of aware datetimes, or of times with a ZoneInfo")
    return as_base_trigger(argument, value)


def _typed(exclusion: Exclusion) -> str:
    """Return *exclusion* as somebody has typed it: a window as a pair."""
    text = repr(exclusion)
    return text.removeprefix(type(exclusion).__name__) if isinstance(exclusion, Window | DailyWindow) else text


def _json_of(argument: str, value: Exclusion) -> dict[str, object]:
    with renamed(trigger=argument):
        return value.json_repr()
