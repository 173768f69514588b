"""WHEN, out of several rules: any of them, or one except for what others cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, time
from heapq import merge
from operator import itemgetter

from ._arguments import MICROSECOND, aware
from ._triggers import (
    BaseTrigger,
    Stretch,
    Trigger,
    alone,
    first_after,
    known_trigger,
    last_until,
    stretch,
    ticks,
)
from ._windows import Daily, Window
from .errors import InvalidArgument, SearchTooLong

MOST = 4_000  # Covered stretches in a row: ten years of days. A search has to end, and holds up the loop meanwhile.


@dataclass(frozen=True, slots=True, init=False)
class AnyOf(BaseTrigger):
    """A tick whenever one of several rules has one; what several have at the same instant is one tick.

    Args:
        triggers: At least one; equal ones are one. An AnyOf among them stands for those that it is made of.

    Raises:
        InvalidArgument: There is none, or one is no trigger.
    """

    triggers: tuple[Trigger, ...]

    def __init__(self, *triggers: Trigger) -> None:
        if not triggers:
            raise InvalidArgument("triggers", triggers, "must be at least one, such as Every(60)")
        parts: list[Trigger] = []
        for place, each in enumerate(triggers):
            known = known_trigger(f"triggers[{place}]", each)
            for part in known.triggers if isinstance(known, AnyOf) else [known]:
                if part not in parts:
                    parts.append(part)
        object.__setattr__(self, "triggers", tuple(parts))

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none."""
        return self._nearest(first_after, aware("moment", moment), min)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none."""
        return self._nearest(last_until, aware("moment", moment), max)

    def ticks(self, after: datetime, /) -> Iterator[datetime]:
        """Yield the ticks strictly later than the aware *after*, in order."""
        return self._walk(aware("after", after))

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return what any of the rules covers around the aware *moment*; None if none does."""
        return _covered(self.triggers, aware("moment", moment))

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values.

        Raises:
            InvalidArgument: It holds a trigger that is none of this package's.
        """
        return {"any_of": [_form(f"triggers[{place}]", each) for place, each in enumerate(self.triggers)]}

    def __str__(self) -> str:
        return f"any of ({'; '.join(map(str, self.triggers))})"

    def _nearest(
        self,
        ask: Callable[[Trigger, datetime], datetime | None],
        moment: datetime,
        nearest: Callable[[Iterable[datetime]], datetime],
    ) -> datetime | None:
        found: list[datetime] = []
        given_up: dict[datetime, SearchTooLong] = {}
        for each in self.triggers:
            try:
                tick = ask(each, moment)
            except SearchTooLong as exc:
                given_up[exc.reached] = exc
            else:
                found += [] if tick is None else [tick]
        if given_up:
            known = nearest(given_up)  # As far as that, none of those that gave up has a tick.
            if not found or nearest([*found, known]) not in found:
                raise given_up[known]
        return nearest(found) if found else None

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        for tick, _, given_up in merge(*(_steps(each, moment) for each in self.triggers), key=_place):
            if given_up is not None:
                raise given_up
            if tick > moment:
                yield tick
                moment = tick


Step = tuple[datetime, bool, SearchTooLong | None]
"""A tick; or the instant that a search has reached, behind the ticks there, and the error that says so."""

_place = itemgetter(0, 1)


def _steps(trigger: Trigger, moment: datetime) -> Iterator[Step]:
    try:
        for tick in ticks(trigger, moment):
            yield tick, False, None
    except SearchTooLong as exc:
        yield exc.reached, True, exc


Excluded = Trigger | Window | Daily
"""What an Except keeps, in one form."""


@dataclass(frozen=True, slots=True, init=False)
class Except(BaseTrigger):
    """The ticks of a rule that nothing excluded covers.

    A search ends after 4,000 covered stretches in a row. That raises SearchTooLong, which tells how far it has come; a
    scheduler asks again before that.

    Args:
        rule: Whose ticks they are. An Except stands for its rule, and what it excludes is excluded as well.
        excluded: At least one. A Cron covers every whole minute of its local time, with six fields every second:
            holidays are ``Cron("* * 25,26 12 *", tz="Europe/Berlin")``. An AnyOf covers what its parts cover, an Except
            what its rule covers and its exceptions do not, any other trigger its ticks alone. A pair of aware datetimes
            covers from the first to, not including, the second; a pair of times with one ``ZoneInfo`` does so every
            day, by the clocks on the wall, and over midnight if the second is not later:
            ``(time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN))``. A tick that a change of the clocks moves is judged by
            where it comes.

    Raises:
        InvalidArgument: *rule* is no trigger, nothing is excluded, or something that is neither trigger nor pair; a
            datetime is naive, a time without zone, a second datetime not later, a second time equal or elsewhere.
    """

    rule: Trigger
    excluded: tuple[Excluded, ...]

    def __init__(
        self, rule: Trigger, *excluded: Trigger | Window | Daily | tuple[datetime, datetime] | tuple[time, time]
    ) -> None:
        known = known_trigger("rule", rule)
        if not excluded:
            raise InvalidArgument("excluded", excluded, "must be at least one, such as a pair of aware datetimes")
        found = tuple(_excluded(f"excluded[{place}]", each) for place, each in enumerate(excluded))
        if isinstance(known, Except):  # One search, and no search within each step of another.
            found = known.excluded + found
            known = known.rule
        object.__setattr__(self, "rule", known)
        object.__setattr__(self, "excluded", found)

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none.

        Raises:
            SearchTooLong: There may be one, further on.
        """
        return next(self._walk(aware("moment", moment)), None)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none.

        Raises:
            SearchTooLong: There may be one, further back.
        """
        moment = cursor = aware("moment", moment)
        with suppress(OverflowError):  # The beginning of the calendar.
            for _ in range(MOST):
                tick = last_until(self.rule, cursor)
                covered = None if tick is None else _covered(self.excluded, tick)
                if covered is None:
                    return tick
                cursor = covered[0] - MICROSECOND
            raise SearchTooLong(moment, cursor + MICROSECOND)
        return None

    def ticks(self, after: datetime, /) -> Iterator[datetime]:
        """Yield the ticks strictly later than the aware *after*, in order.

        Raises:
            SearchTooLong: There may be more, further on.
        """
        return self._walk(aware("after", after))

    def stretch(self, moment: datetime, /) -> Stretch | None:
        """Return the aware *moment* alone if the rule covers it and what is excluded does not; None otherwise.

        There may be more on either side.
        """
        moment = aware("moment", moment)
        if stretch(self.rule, moment) is None or _covered(self.excluded, moment):
            return None
        return alone(moment)

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values.

        Raises:
            InvalidArgument: It holds a trigger that is none of this package's.
        """
        excluded = [_form(f"excluded[{place}]", each) for place, each in enumerate(self.excluded)]
        return {"except": excluded, "rule": _form("rule", self.rule)}

    def __str__(self) -> str:
        return f"{self.rule}, except ({'; '.join(map(str, self.excluded))})"

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        stretches = 0
        with suppress(OverflowError):  # The end of the calendar.
            walk = ticks(self.rule, moment)
            tick = next(walk, None)
            while tick is not None:
                covered = _covered(self.excluded, tick)
                if covered is None:
                    yield tick
                    moment, stretches = tick, 0
                    tick = next(walk, None)
                    continue
                last = covered[1] - MICROSECOND
                stretches += 1
                if stretches == MOST:
                    raise SearchTooLong(moment, last)
                tick = next(walk, None)
                if tick is not None and tick <= last:  # There may be a million more of them: begin anew behind them.
                    walk = ticks(self.rule, last)
                    tick = next(walk, None)


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Have the arguments that are refused inside called by other *names*: those that the caller knows."""
    try:
        yield
    except InvalidArgument as exc:
        raise InvalidArgument(names.get(exc.argument, exc.argument), exc.value, exc.rule) from None


def _covered(excluded: Iterable[Excluded], moment: datetime) -> Stretch | None:
    """Return the longest stretch around *moment* that is known to be covered; None if it is not covered."""
    found = [
        each
        for part in excluded
        if (each := part.stretch(moment) if isinstance(part, Window | Daily) else stretch(part, moment))
    ]
    # All of them are around the moment, so that nothing is left free between them.
    return (min(start for start, _ in found), max(end for _, end in found)) if found else None


def _excluded(argument: str, value: object) -> Excluded:
    if isinstance(value, Window | Daily):
        return value
    with renamed(start=f"{argument}[0]", end=f"{argument}[1]"):
        match value:
            case (datetime() as start, datetime() as end):
                return Window(start, end)
            case (time() as first, time() as last):
                return Daily(first, last)
            case tuple() | list():
                raise InvalidArgument(argument, value, "must be a pair of aware datetimes, or of times with a ZoneInfo")
    return known_trigger(argument, value)


def _form(argument: str, value: Excluded) -> dict[str, object]:
    if isinstance(value, BaseTrigger | Window | Daily):
        return value.json_repr()
    raise InvalidArgument(argument, value, "has no JSON form: it is none of this package's triggers")
