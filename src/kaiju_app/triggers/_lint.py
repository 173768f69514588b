"""What an operator should know about a rule before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from kaiju_app.errors import SearchTooLong

from ._base import SOME_MOMENT, BaseTrigger, Exclusion
from ._calendar import Calendar
from ._combined import AnyOf, Except
from ._cron import Cron
from ._lint_days import either_day
from ._lint_dst import PartialRule, changes, describe_effect, effect_of
from ._lint_steps import uneven_steps
from ._lint_text import format_time

AHEAD = timedelta(days=731)  # Two years: a rule that happens to have no tick at one change has one at the next.


class Level(StrEnum):
    """How much a finding matters.

    Attributes:
        ERROR: The task never runs, or its trigger fails.
        WARNING: The task runs more or less often than its rule seems to say, or at other distances.
        NOTE: The task runs as its rule says, but the time may be a surprise.
    """

    ERROR = "ERROR"
    WARNING = "WARNING"
    NOTE = "NOTE"


@dataclass(frozen=True, slots=True)
class Finding:
    """What an operator should know about a task.

    Args:
        level: How much it matters.
        text: A sentence.
    """

    level: Level
    text: str


def findings(
    trigger: BaseTrigger, now: datetime, until: datetime | None = None, first: datetime | None = None
) -> list[Finding]:
    """Return what an operator should know about *trigger*.

    Args:
        trigger: Any rule; a foreign trigger is only asked for its ticks.
        now: Aware UTC datetime after which ticks count.
        until: The last instant at which ticks count. None if the rule does not end.
        first: An extra first tick; no other tick counts before it. None if there is none.
    """
    found = [
        Finding(Level.WARNING, text) for cron in _crons(trigger) for text in (*uneven_steps(cron), *either_day(cron))
    ]
    why = _why_never(trigger, now, until) if first is None else why_not(first, now, until)
    if why is not None:
        return [no_run(now, why), *found]
    end = now + AHEAD if until is None else min(until, now + AHEAD)
    for part in _parts(trigger):
        for change in changes(part.rule.zone, first or now, end):
            effect = effect_of(part, change)
            if effect is not None:
                level = Level.WARNING if effect.miscounts else Level.NOTE
                found.append(Finding(level, describe_effect(effect)))
    return list(dict.fromkeys(found))  # Parts may say the same.


# --- no run at all ---


def no_run(now: datetime, why: str) -> Finding:
    """Return the finding that a task has no run after *now*."""
    at = format_time(now.replace(microsecond=0))
    return Finding(Level.ERROR, f"never runs after {at} UTC: {why}; remove the task or give it a later time")


def why_not(tick: datetime | None, now: datetime, until: datetime | None) -> str | None:
    """Return why the next *tick* does not run; None if it runs."""
    if until is not None and until <= now:
        return _over(until)
    if until is not None and tick is not None and tick > until:
        return f"its next tick, {format_time(tick)} UTC, is later than its until, {format_time(until)} UTC"
    return None


def _why_never(trigger: BaseTrigger, now: datetime, until: datetime | None) -> str | None:
    """Return why *trigger* has no run; None if it has one."""
    try:
        tick = trigger.after(now)
    except SearchTooLong as exc:
        over = _over(until) if until is not None and until <= now else None
        reached = format_time(exc.reached.replace(microsecond=0))
        return over or f"all its ticks until {reached} UTC are excluded, and the search stopped there"
    why = why_not(tick, now, until)
    if why is not None or tick is not None:
        return why
    last = None if never(trigger) else trigger.at_or_before(now)
    return "its rule has no tick" if last is None else f"its last tick was {format_time(last)} UTC"


def never(trigger: BaseTrigger) -> bool:
    """Return whether *trigger* has no tick at all, as far as can be found out."""
    for ask in (trigger.after, trigger.at_or_before):
        with suppress(SearchTooLong):
            if ask(SOME_MOMENT) is not None:
                return False
    return True


def _over(until: datetime) -> str:
    return f"its until, {format_time(until)} UTC, has passed"


# --- the parts of a rule ---


def _crons(trigger: Exclusion) -> Iterator[Cron]:
    """Yield all Crons in *trigger*, excluded ones too."""
    match trigger:
        case Cron():
            yield trigger
        case AnyOf():
            for each in trigger.triggers:
                yield from _crons(each)
        case Except():
            for part in (trigger.rule, *trigger.excluded):
                yield from _crons(part)


def _parts(trigger: BaseTrigger, exceptions: tuple[Except, ...] = ()) -> Iterator[PartialRule]:
    """Yield the calendar rules whose ticks *trigger* has, unless they are excluded."""
    match trigger:
        case Cron() | Calendar():
            yield PartialRule(trigger, exceptions)
        case AnyOf():
            for part in trigger.triggers:
                yield from _parts(part, exceptions)
        case Except():
            yield from _parts(trigger.rule, (*exceptions, trigger))


def zone_of(trigger: BaseTrigger) -> tzinfo:
    """Return the time zone of *trigger*; UTC if it has none or several."""
    zones = {part.rule.tz: part.rule.zone for part in _parts(trigger)}
    return next(iter(zones.values())) if len(zones) == 1 else UTC
