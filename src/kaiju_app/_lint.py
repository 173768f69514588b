"""What a person should know of the rules of tasks before they run: from rules and an instant to sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import islice
from typing import Any

from ._arguments import aware
from ._changes import Kept, changes, clock, effect
from ._clock import epoch_us, utc
from ._combined import AnyOf, Except, Excluded
from ._cron import Cron
from ._decide import first_tick
from ._grid import END, Grid, Rule
from ._model import FirstRun, Spec
from ._scheduler import Scheduler
from ._steps import uneven_steps
from ._task import ScheduledTask
from ._triggers import Trigger, first_after, last_until, never
from ._words import described
from .errors import SearchTooLong

SHOWN = 5  # Enough to see the working days of a week.
AHEAD = timedelta(days=731)  # Two years: one that happens to have no tick at the change does not hide it.


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "ERROR"
    """The task never runs, or its trigger fails."""

    WARNING = "WARNING"
    """It runs more or less often than at the times that its rule names, or not at the distances that it names."""

    NOTE = "NOTE"
    """It runs as its rule says, which may be a surprise all the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person should know of a task.

    Args:
        level: How much it matters.
        text: A sentence.
    """

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to know of the rule of a task.

    Args:
        task: Name of the task.
        rule: Its rule, in words.
        zone: Where the rule looks at the clock; UTC if it does not, or in several zones.
        runs: The next ticks, aware UTC and without jitter, at most five.
        findings: What matters most first.
        begins: Whether these depend on when the task begins, and are those of one that begins now.
    """

    task: str
    rule: str
    zone: tzinfo
    runs: tuple[datetime, ...]
    findings: tuple[Finding, ...]
    begins: bool = False


def lint(tasks: Scheduler | Iterable[ScheduledTask[Any]], now: datetime) -> list[Report]:
    """Look at the rules of *tasks*: their next runs, and what may be a surprise in the two years from *now*.

    Args:
        tasks: Tasks, or the scheduler that has them; it need not be started.
        now: Aware datetime behind which runs count.

    Raises:
        InvalidArgument: *now* is naive.
    """
    now = aware("now", now)
    return [_report(each, now) for each in (tasks.tasks.values() if isinstance(tasks, Scheduler) else tasks)]


def _report(task: ScheduledTask[Any], now: datetime) -> Report:
    spec = task._entry.spec
    trigger = spec.trigger
    off = [] if task.enabled else [Finding(Level.NOTE, "it is disabled: nothing runs before enable()")]
    rule = type(trigger).__name__
    try:
        rule = f"every {task.interval_s:.15g} s" if trigger is None else str(trigger)
        runs = () if task.until is not None and task.until <= now else tuple(islice(_ticks(spec, now), SHOWN))
        found = _found(spec, now, task.until)
        zone = UTC if trigger is None else zone_of(trigger)
    except Exception as exc:  # The trigger may be anybody's.
        failure = Finding(Level.ERROR, f"its trigger fails: {described(exc)}; mend it, nothing else is known of it")
        return Report(task.name, _rule(rule, task.until), UTC, (), (failure, *off))
    begins = spec.first_run is FirstRun.NOW or (trigger is None and spec.first_run is FirstRun.NEXT)
    return Report(task.name, _rule(rule, task.until), zone, runs, (*found, *off), begins and bool(runs))


def _ticks(spec: Spec, now: datetime) -> Iterator[datetime]:
    """Yield the ticks of a task that begins *now*, without jitter."""
    rule = None if spec.rule is None else Rule(spec.rule.trigger)  # Its failures are none of the task's.
    grid = Grid(replace(spec, rule=rule))
    tick, beside = first_tick(grid, epoch_us(now))
    while tick <= END:
        yield utc(tick)
        tick, beside = grid.after(tick) if beside else grid.following(tick), False
    if rule is not None and rule.failure is not None:
        raise rule.failure


def _found(spec: Spec, now: datetime, until: datetime | None) -> list[Finding]:
    """Return what a person should know of a task that begins *now*."""
    first = spec.first_run
    if spec.trigger is None:
        why = _why_not(next(_ticks(replace(spec, until=None), now), None), now, until)
        return [] if why is None else [_no_run(now, why)]
    if isinstance(first, datetime):
        return findings(spec.trigger, now, until, first if first >= now else None)
    return findings(spec.trigger, now, until, now if first is FirstRun.NOW else None)


def _rule(text: str, until: datetime | None) -> str:
    return text if until is None else f"{text}, until {clock(until)} UTC"


def findings(
    trigger: Trigger, now: datetime, until: datetime | None = None, first: datetime | None = None
) -> list[Finding]:
    """Return what a person should know of *trigger*, what matters most first.

    Args:
        trigger: Any rule; of one that is not known here only ticks are asked for.
        now: Aware UTC datetime behind which ticks count.
        until: The last instant at which ticks count; None: all of them do.
        first: An extra tick, before which no other counts; None: there is none.
    """
    found = [Finding(Level.WARNING, text) for cron in _crons(trigger) for text in uneven_steps(cron)]
    why = _why_never(trigger, now, until) if first is None else _why_not(first, now, until)
    if why is not None:
        return [_no_run(now, why), *found]
    end = now + AHEAD if until is None else min(until, now + AHEAD)
    for kept in _kept(trigger):
        for change in changes(kept.rule.zone, first or now, end):
            what = effect(kept, change)
            if what is not None:
                found.append(Finding(Level.WARNING if what.miscounts else Level.NOTE, what.text))
    return sorted(dict.fromkeys(found), key=lambda each: list(Level).index(each.level))  # Parts may be alike.


# --- no run at all ---


def _no_run(now: datetime, why: str) -> Finding:
    at = clock(now.replace(microsecond=0))
    return Finding(Level.ERROR, f"has no run after {at} UTC: {why}; remove it or give it a later time")


def _why_never(trigger: Trigger, now: datetime, until: datetime | None) -> str | None:
    """Return why *trigger* has no run; None if there is one."""
    try:
        tick = first_after(trigger, now)
    except SearchTooLong as exc:
        over = _over(until) if until is not None and until <= now else None
        return over or (
            f"no tick is left before {clock(exc.reached.replace(microsecond=0))} UTC, where the search was given up"
        )
    why = _why_not(tick, now, until)
    if why is not None or tick is not None:
        return why
    last = None if never(trigger) else last_until(trigger, now)
    return "its rule never ticks" if last is None else f"its last tick was {clock(last)} UTC"


def _why_not(tick: datetime | None, now: datetime, until: datetime | None) -> str | None:
    """Return why the next *tick* does not run; None if nothing speaks against it."""
    if until is not None and until <= now:
        return _over(until)
    if until is not None and tick is not None and tick > until:
        return f"its next tick, {clock(tick)} UTC, is behind its until, {clock(until)} UTC"
    return None


def _over(until: datetime) -> str:
    return f"its until, {clock(until)} UTC, is over"


# --- the parts of a rule ---


def _crons(trigger: Excluded) -> Iterator[Cron]:
    """Yield all calendar rules in *trigger*, also those whose ticks are taken away."""
    match trigger:
        case Cron():
            yield trigger
        case AnyOf():
            for each in trigger.triggers:
                yield from _crons(each)
        case Except():
            for part in (trigger.rule, *trigger.excluded):
                yield from _crons(part)


def _kept(trigger: Trigger, exceptions: tuple[Except, ...] = ()) -> Iterator[Kept]:
    """Yield the calendar rules whose ticks *trigger* may have."""
    match trigger:
        case Cron():
            yield Kept(trigger, exceptions)
        case AnyOf():
            for part in trigger.triggers:
                yield from _kept(part, exceptions)
        case Except():
            yield from _kept(trigger.rule, (*exceptions, trigger))


def zone_of(trigger: Trigger) -> tzinfo:
    """Return the zone in which *trigger* looks at the clock; UTC if it does not, or in several."""
    zones = {kept.rule.tz: kept.rule.zone for kept in _kept(trigger)}
    return next(iter(zones.values())) if len(zones) == 1 else UTC
