"""What a person should know of the rules of tasks before they run: from rules and an instant to sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import islice
from typing import Any

from ._arguments import aware
from ._changes import Kept, changes, clock, effect
from ._combined import AnyOf, Except, Excluded
from ._cron import Cron
from ._scheduler import Scheduler
from ._steps import uneven_steps
from ._task import ScheduledTask
from ._triggers import Trigger, first_after, last_until, never, ticks
from .errors import SearchTooLong

SHOWN = 5  # Enough to see the working days of a week.
AHEAD = timedelta(days=731)  # Two years: one that happens to have no tick at the change does not hide it.


class Level(StrEnum):
    """How much a finding matters."""

    ERROR = "ERROR"
    """The task never runs."""

    WARNING = "WARNING"
    """It runs, and not always when its rule seems to say."""

    NOTE = "NOTE"
    """It runs when its rule says, which may be a surprise all the same."""


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
        runs: The next ticks, aware UTC, at most five; None for an interval, which begins with the scheduler.
        findings: What matters most first.
    """

    task: str
    rule: str
    zone: tzinfo
    runs: tuple[datetime, ...] | None
    findings: tuple[Finding, ...]


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
    trigger, until = task.trigger, task.until
    off = [] if task.enabled else [Finding(Level.NOTE, "it is disabled: nothing runs before enable()")]
    if trigger is None:
        over = [_no_run(now, _over(until))] if until is not None and until <= now else []
        rule = _rule(f"every {task.interval_s:.15g} s", until)
        return Report(task.name, rule, UTC, () if over else None, (*over, *off))
    runs = [each for each in _runs(trigger, now) if until is None or each <= until]
    found = (*findings(trigger, now, until), *off)
    return Report(task.name, _rule(str(trigger), until), zone_of(trigger), tuple(runs), found)


def _runs(trigger: Trigger, now: datetime) -> list[datetime]:
    runs: list[datetime] = []
    with suppress(SearchTooLong):
        runs.extend(islice(ticks(trigger, now), SHOWN))
    return runs


def _rule(text: str, until: datetime | None) -> str:
    return text if until is None else f"{text}, until {clock(until)} UTC"


def findings(trigger: Trigger, now: datetime, until: datetime | None = None) -> list[Finding]:
    """Return what a person should know of *trigger*, what matters most first.

    Args:
        trigger: Any rule; of one that is not known here only ticks are asked for.
        now: Aware UTC datetime behind which ticks count.
        until: The last instant at which ticks count; None: all of them do.
    """
    found = [Finding(Level.WARNING, text) for cron in _crons(trigger) for text in uneven_steps(cron)]
    why = _why_never(trigger, now, until)
    if why is not None:
        return [_no_run(now, why), *found]
    end = now + AHEAD if until is None else min(until, now + AHEAD)
    for kept in _kept(trigger):
        for change in changes(kept.rule.zone, now, end):
            text = effect(kept, change)
            if text is not None:
                found.append(Finding(Level.WARNING if kept.rule.fixed else Level.NOTE, text))
    return sorted(dict.fromkeys(found), key=lambda each: list(Level).index(each.level))  # Parts may be alike.


# --- no run at all ---


def _no_run(now: datetime, why: str) -> Finding:
    at = clock(now.replace(microsecond=0))
    return Finding(Level.ERROR, f"has no run after {at} UTC: {why}; remove it or give it a later time")


def _why_never(trigger: Trigger, now: datetime, until: datetime | None) -> str | None:
    """Return why there is no run; None if there is one."""
    if until is not None and until <= now:
        return _over(until)
    try:
        tick = first_after(trigger, now)
    except SearchTooLong as exc:
        return f"no tick is left before {clock(exc.reached.replace(microsecond=0))} UTC, where the search was given up"
    if until is not None and tick is not None and tick > until:
        return f"its next tick, {clock(tick)} UTC, is behind its until, {clock(until)} UTC"
    if tick is not None:
        return None
    last = None if never(trigger) else last_until(trigger, now)
    return "its rule never ticks" if last is None else f"its last tick was {clock(last)} UTC"


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
