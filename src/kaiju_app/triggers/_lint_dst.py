"""Daylight saving and other changes of the clocks: when a zone has them, and what they do to a calendar rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum

from kaiju_app._core.validate import MICROSECOND

from ._base import Exclusion
from ._calendar import Calendar
from ._combined import AnyOf, Except
from ._cron import Cron
from ._lint_text import MAX_LISTED, format_time, listed
from ._windows import DailyWindow, Window
from ._zones import DAY, change_between, offset_at


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the clocks of a zone.

    Args:
        at: The first instant after the change, aware UTC.
        before: The offset from UTC until then.
        after: The offset from then on.
    """

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether the clocks go forward."""
        return self.before < self.after

    @property
    def start(self) -> datetime:
        """The first naive local time that does not exist, or occurs twice."""
        return in_local(self.at, min(self.before, self.after))

    @property
    def length(self) -> timedelta:
        """How much local time does not exist, or occurs twice."""
        return abs(self.after - self.before)


def changes(zone: tzinfo, start: datetime, end: datetime) -> Iterator[Change]:
    """Yield the changes of the clocks of *zone* later than *start* and not later than *end*, both aware UTC.

    A zone has no list of its changes, but has an offset at any instant. Comparing the offsets of two days is enough,
    because no zone has ever changed its clocks twice in three days.
    """
    moment = start.replace(microsecond=0)
    before = offset_at(moment, zone)
    while moment < end:
        low, high = moment, moment + DAY
        if offset_at(high, zone) == before:
            moment = high
            continue
        moment = change_between(low, high, zone)
        after = offset_at(moment, zone)
        if moment <= end:
            yield Change(moment, before, after)
        before = after


@dataclass(frozen=True, slots=True)
class PartialRule:
    """A calendar rule inside a combined one, which may exclude some of its ticks.

    Args:
        rule: The calendar rule.
        exceptions: The combined rules that exclude ticks.
    """

    rule: Cron | Calendar
    exceptions: tuple[Except, ...] = ()

    def has(self, tick: datetime) -> bool:
        """Return whether the *tick* of the rule is not excluded."""
        return not any(part.stretch(tick) for part in self._excluded())

    def has_local(self, tick: datetime, change: Change) -> bool:
        """Return whether the local *tick* of the rule, which is in the gap of *change*, is not excluded."""
        return not any(_covers(part, tick, self.rule.tz, change) for part in self._excluded())

    def _excluded(self) -> Iterator[Exclusion]:
        return (part for each in self.exceptions for part in each.excluded)


def _covers(excluded: Exclusion, local: datetime, tz: str, change: Change) -> bool:
    """Return whether *excluded* covers a *local* time of the zone *tz* that is in the gap of *change*."""
    match excluded:
        case Cron() if excluded.tz == tz:
            return excluded.matches(local)
        case DailyWindow() if excluded.tz == tz:
            start, end, at = (each.replace(tzinfo=None) for each in (excluded.start, excluded.end, local.time()))
            return start <= at < end if start < end else at >= start or at < end
        case AnyOf():
            return any(_covers(each, local, tz, change) for each in excluded.triggers)
        case Cron() | DailyWindow() | Window():
            return excluded.stretch(change.at) is not None  # In other zones the whole gap is this instant.
        case _:  # It covers only its ticks, and none of them is in the gap.
            return False


class Kind(Enum):
    """What happens to the ticks of a rule at a change of the clocks, in words."""

    FIRST_ONLY = "{they} {run} only the first time, at {first} UTC"
    """They occur twice."""
    BOTH = "{number} {run} twice"
    """They occur twice."""
    DROPPED = "{number} {are} dropped"
    """They do not exist."""
    POSTPONED = "it runs {runs_at}"
    """The only tick does not exist, and runs after the gap."""
    UNITED = "{they} become a single run {runs_at}"
    """They do not exist, and a single run after the gap stands for them."""
    MERGED = "{they} {are} merged into the tick {runs_at}"
    """They do not exist, and the rule has a tick right after the gap."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of the clocks does to the ticks of a rule.

    Args:
        kind: What happens.
        rule: The rule.
        change: The change of the clocks.
        ticks: The ticks concerned, naive local times.
        runs_at: When they run instead, aware UTC; None if they do not, or run at their own times.
    """

    kind: Kind
    rule: Cron | Calendar
    change: Change
    ticks: tuple[datetime, ...]
    runs_at: datetime | None = None

    @property
    def miscounts(self) -> bool:
        """Whether the rule runs more or less often than it says: not only later."""
        if self.kind in (Kind.BOTH, Kind.DROPPED):
            rule = self.rule  # A rule whose hour field has a star does not name any hour.
            return not (isinstance(rule, Cron) and rule.expression.split()[-4].startswith("*"))
        return self.kind in (Kind.UNITED, Kind.MERGED)


def effect_of(part: PartialRule, change: Change) -> Effect | None:
    """Return what *change* does to the ticks of *part*; None if it makes no difference."""
    rule = part.rule
    ticks = tuple(rule.local_ticks(change.start, change.start + change.length))
    if not ticks or (not rule.fixed and _is_steady(rule, change)):
        return None
    if change.is_gap and rule.fixed:
        runs_at = rule.after(change.at - MICROSECOND)
        if runs_at is None or not part.has(runs_at):
            return None
        if rule.matches(runs_at.astimezone(rule.zone).replace(tzinfo=None, fold=0)):
            return Effect(Kind.MERGED, rule, change, ticks, runs_at)
        return Effect(Kind.POSTPONED if len(ticks) == 1 else Kind.UNITED, rule, change, ticks, runs_at)
    if change.is_gap:
        kind = Kind.DROPPED
        ticks = tuple(tick for tick in ticks if part.has_local(tick, change))
    else:
        kind, offsets = (
            (Kind.FIRST_ONLY, (change.before,)) if rule.fixed else (Kind.BOTH, (change.before, change.after))
        )
        ticks = tuple(tick for tick in ticks if all(part.has(in_utc(tick, offset)) for offset in offsets))
    return Effect(kind, rule, change, ticks) if ticks else None


def _is_steady(rule: Cron | Calendar, change: Change) -> bool:
    """Return whether *rule* ticks in real time as if there were no *change*.

    It does if the ticks of the changed time look like those before and after it, as with ``*/5 * * * *``.
    """
    starts = (change.start - change.length, change.start, change.start + change.length)
    before, changed, after = (
        [tick - start for tick in rule.local_ticks(start, start + change.length)] for start in starts
    )
    return before == changed == after


def in_utc(local: datetime, offset: timedelta) -> datetime:
    """Return naive *local* time, at this *offset*, in UTC."""
    return (local - offset).replace(tzinfo=UTC)


def in_local(moment: datetime, offset: timedelta) -> datetime:
    """Return the naive local time of *moment* at this *offset*."""
    return (moment + offset).replace(tzinfo=None)


def describe_effect(found: Effect) -> str:
    """Return a sentence about what a change of the clocks does to ticks."""
    ticks, change, tz = found.ticks, found.change, found.rule.tz
    is_one = len(ticks) == 1
    number = f"{len(ticks)} {'tick' if is_one else 'ticks'}"
    they = "it" if is_one else "they" if len(ticks) <= MAX_LISTED else f"the {number}"
    if change.is_gap:
        old, new = in_local(change.at, change.before), in_local(change.at, change.after)
        clocks = f"clocks go from {format_time(old, new)} to {format_time(new, old)}"
        what = f"{'does' if is_one else 'do'} not exist in {tz} ({clocks})"
    else:
        what = f"{'occurs' if is_one else 'occur'} twice in {tz}"
    runs_at = ""
    if found.runs_at is not None:
        local = found.runs_at.astimezone(found.rule.zone)
        runs_at = f"at {format_time(local, ticks[-1])} {local:%Z} ({format_time(found.runs_at, local)} UTC)"
    run, are = ("runs", "is") if is_one else ("run", "are")
    first = listed([in_utc(tick, change.before) for tick in ticks], ticks[-1])
    outcome = found.kind.value.format(they=they, number=number, run=run, are=are, first=first, runs_at=runs_at)
    return f"{listed(ticks)} {what}: {outcome}"
