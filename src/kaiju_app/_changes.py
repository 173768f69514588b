"""Changes of the clocks: when a zone has them, and in words, what they do to the ticks of a calendar rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from ._arguments import MICROSECOND
from ._combined import AnyOf, Except, Excluded
from ._cron import Cron
from ._triggers import Stretch, stretch
from ._windows import Daily, Window
from ._zones import DAY, SECOND

MANY = 3  # More times than these are not listed one by one.


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the clocks of a zone.

    Args:
        at: The first instant behind it, aware UTC.
        before: What the zone added to UTC until then.
        behind: What it adds from then on.
    """

    at: datetime
    before: timedelta
    behind: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether the clocks are put forward."""
        return self.before < self.behind

    @property
    def start(self) -> datetime:
        """The first naive local time that there is not, or twice."""
        return _local(self.at, min(self.before, self.behind))

    @property
    def length(self) -> timedelta:
        """How much local time there is not, or twice."""
        return abs(self.behind - self.before)


def changes(zone: tzinfo, start: datetime, end: datetime) -> Iterator[Change]:
    """Yield the changes of the clocks of *zone* behind *start* and not behind *end*, both aware UTC.

    A zone does not tell when they are, but can be asked for its offset at any instant; a day apart is enough, for no
    zone has changed its clocks twice in three days.
    """
    moment = start.replace(microsecond=0)
    before = _offset(zone, moment)
    while moment < end:
        low, high = moment, moment + DAY
        if _offset(zone, high) == before:
            moment = high
            continue
        while high - low > SECOND:
            middle = (low + (high - low) / 2).replace(microsecond=0)
            low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
        moment, behind = high, _offset(zone, high)
        if moment <= end:
            yield Change(moment, before, behind)
        before = behind


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


@dataclass(frozen=True, slots=True)
class Kept:
    """A calendar rule inside a combined one, which may not have all of its ticks.

    Args:
        rule: The calendar rule.
        exceptions: The combined rules that take ticks away from it.
    """

    rule: Cron
    exceptions: tuple[Except, ...] = ()

    def has(self, tick: datetime) -> bool:
        """Return whether the *tick* of the rule is left."""
        return not any(_stretch(part, tick) for part in self._excluded())

    def has_local(self, tick: datetime, change: Change) -> bool:
        """Return whether the local *tick* of the rule, in the gap of *change*, is left."""
        return not any(_covers(part, tick, self.rule.tz, change) for part in self._excluded())

    def _excluded(self) -> Iterator[Excluded]:
        return (part for each in self.exceptions for part in each.excluded)


def _stretch(excluded: Excluded, moment: datetime) -> Stretch | None:
    return excluded.stretch(moment) if isinstance(excluded, Window | Daily) else stretch(excluded, moment)


def _covers(excluded: Excluded, local: datetime, tz: str, change: Change) -> bool:
    """Return whether *excluded* covers a *local* time of the zone *tz* that is in the gap of *change*."""
    match excluded:
        case Cron() if excluded.tz == tz:
            return _matches(excluded, local if len(excluded.expression.split()) == 6 else local.replace(second=0))
        case Daily() if excluded.tz == tz:
            start, end, at = (each.replace(tzinfo=None) for each in (excluded.start, excluded.end, local.time()))
            return start <= at < end if start < end else at >= start or at < end
        case AnyOf():
            return any(_covers(each, local, tz, change) for each in excluded.triggers)
        case Cron() | Daily() | Window():
            return excluded.stretch(change.at) is not None  # All of the gap is at this instant.
        case _:  # Ticks alone: there is none in the gap.
            return False


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of the clocks does to ticks.

    Args:
        text: A sentence.
        miscounts: Whether times that the rule names are dropped, doubled or made one: not only put off.
    """

    text: str
    miscounts: bool


def effect(kept: Kept, change: Change) -> Effect | None:
    """Return what *change* does to ticks, or None if it does not matter."""
    rule = kept.rule
    ticks = list(rule.local_ticks(change.start, change.start + change.length))
    if not ticks or (not rule.fixed and _is_even(rule, change)):
        return None
    if rule.fixed and change.is_gap:
        lands = rule.after(change.at - MICROSECOND)
        return _moved(rule, change, ticks, lands) if lands is not None and kept.has(lands) else None
    if change.is_gap:
        ticks = [tick for tick in ticks if kept.has_local(tick, change)]
        text = _dropped
    else:
        offsets = [change.before] if rule.fixed else [change.before, change.behind]
        ticks = [tick for tick in ticks if all(kept.has(_utc(tick, offset)) for offset in offsets)]
        text = _twice
    # A rule for every hour, or every other one, names none of them.
    miscounts = not rule.fixed and not rule.expression.split()[-4].startswith("*")
    return Effect(text(rule, change, ticks), miscounts) if ticks else None


def _is_even(rule: Cron, change: Change) -> bool:
    """Return whether *rule* goes on in real time as if there were no *change*.

    It does if what is dropped or doubled looks like what is before and behind it, as with ``*/5 * * * *``.
    """
    starts = (change.start - change.length, change.start, change.start + change.length)
    before, changed, behind = (
        [tick - start for tick in rule.local_ticks(start, start + change.length)] for start in starts
    )
    return before == changed == behind


def _matches(rule: Cron, local: datetime) -> bool:
    return next(iter(rule.local_ticks(local, local + SECOND)), None) is not None


def _utc(local: datetime, offset: timedelta) -> datetime:
    return (local - offset).replace(tzinfo=UTC)


def _local(moment: datetime, offset: timedelta) -> datetime:
    return (moment + offset).replace(tzinfo=None)


# --- in words ---


def _twice(rule: Cron, change: Change, ticks: Sequence[datetime]) -> str:
    text = f"{_listed(ticks)} {_verb(ticks, 'comes', 'come')} twice in {rule.tz}"
    if not rule.fixed:
        return f"{text}: {_number(ticks)} {_verb(ticks, 'runs', 'run')} both times"
    runs = _listed([_utc(tick, change.before) for tick in ticks], ticks[-1])
    return f"{text}: {_it(ticks)} {_verb(ticks, 'runs', 'run')} the first time only, {runs} UTC"


def _moved(rule: Cron, change: Change, ticks: Sequence[datetime], lands: datetime) -> Effect:
    local = lands.astimezone(rule.zone)
    at = f"{clock(local, ticks[-1])} {local:%Z} ({clock(lands, local)} UTC)"
    is_shared = _matches(rule, local.replace(tzinfo=None, fold=0))
    if is_shared:
        what = f"{_it(ticks)} {_verb(ticks, 'becomes', 'become')} one with the tick of {at}"
    elif len(ticks) > 1:
        what = f"{_it(ticks)} become one, at {at}"
    else:
        what = f"it runs at {at}"
    return Effect(f"{_missing(rule, change, ticks)}: {what}", is_shared or len(ticks) > 1)


def _dropped(rule: Cron, change: Change, ticks: Sequence[datetime]) -> str:
    return f"{_missing(rule, change, ticks)}: {_number(ticks)} {_verb(ticks, 'is', 'are')} dropped"


def _missing(rule: Cron, change: Change, ticks: Sequence[datetime]) -> str:
    old, new = _local(change.at, change.before), _local(change.at, change.behind)
    clocks = f"from {clock(old, new)} to {clock(new, old)}"
    return f"{_listed(ticks)} {_verb(ticks, 'does', 'do')} not exist in {rule.tz} (clocks go {clocks})"


def _verb(ticks: Sequence[datetime], one: str, many: str) -> str:
    return one if len(ticks) == 1 else many


def _number(ticks: Sequence[datetime]) -> str:
    return f"{len(ticks)} {_verb(ticks, 'tick', 'ticks')}"


def _it(ticks: Sequence[datetime]) -> str:
    return "it" if len(ticks) == 1 else "they" if len(ticks) <= MANY else _number(ticks)


def _listed(moments: Sequence[datetime], beside: datetime | None = None) -> str:
    """Return *moments* in words; a date is not said twice."""
    if len(moments) > MANY:
        return f"{clock(moments[0], beside)} to {clock(moments[-1], moments[0])}"
    return ", ".join(clock(each, before) for before, each in zip((beside, *moments), moments, strict=False))


def clock(moment: datetime, beside: datetime | None = None) -> str:
    """Return *moment* as a clock shows it; without its date if that is the date of *beside* too."""
    text = moment.replace(tzinfo=None).isoformat(" ", "auto" if moment.second or moment.microsecond else "minutes")
    return text[11:] if beside is not None and beside.date() == moment.date() else text
