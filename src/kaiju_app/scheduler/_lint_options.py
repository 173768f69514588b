"""What an operator should know about the options of tasks: limits that do not fit the gap, and herds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from kaiju_app._core.model import ExecPolicy
from kaiju_app._core.validate import MICROSECOND
from kaiju_app._engine.policy import deadline, with_gap
from kaiju_app._engine.spec import Kind, TaskSpec
from kaiju_app.triggers._lint import Finding, Level
from kaiju_app.triggers._timeline import timeline_of

LONG_GAP = timedelta(days=30)  # Nobody runs a process for a month between two ticks without a reason.
HERD = 24  # Two dozen tasks at once: fewer are no burden on what they call.

Moment = tuple[bool, timedelta]
"""A second of the hour: of every hour, or of the hours since the task has started."""


def findings_about_options(spec: TaskSpec, runs: Sequence[datetime]) -> list[Finding]:
    """Return what an operator should know about the options of a task.

    Args:
        runs: The next ticks, without jitter.
    """
    gap = _shortest_gap(spec, runs)
    if gap is None:
        return []
    found = [_about_retries(spec, gap), _about_timeout(spec, gap), _about_gap(spec, gap)]
    return [each for each in found if each is not None]


def _shortest_gap(spec: TaskSpec, runs: Sequence[datetime]) -> timedelta | None:
    """Return the gap of a task, the shortest one if they vary; None if there is only one tick."""
    if spec.rule is None:
        return timedelta(microseconds=spec.gap)
    return min((later - earlier for earlier, later in pairwise(runs)), default=None)


def _about_retries(spec: TaskSpec, gap: timedelta) -> Finding | None:
    pause = timedelta(microseconds=spec.retry_interval if spec.backoff is None else spec.backoff.pause_us(1, 0))
    if not spec.retries or pause <= gap:
        return None
    name = "retry_interval_s" if spec.backoff is None else "initial_s of the Backoff"
    what = f"{name}, {_seconds(pause)}, exceeds the gap, {_seconds(gap)}"
    limit = _limit(spec, gap)
    if limit is not None and limit <= pause:
        return Finding(Level.WARNING, f"{what}: the deadline of a run comes before that, so no retry is ever made")
    return Finding(Level.WARNING, f"{what}: while a run waits for its next attempt, ticks wait or are skipped")


def _limit(spec: TaskSpec, gap: timedelta) -> timedelta | None:
    """Return the deadline of a punctual run, from its start, if all gaps are equal; None if it has none."""
    even = with_gap(replace(spec, trigger=None, rule=None, jitter=0, until=None), gap // MICROSECOND)
    found = deadline(timeline_of(even), Kind.LIVE, 0, 0, 0)
    return None if found is None else found[0] * MICROSECOND


def _about_timeout(spec: TaskSpec, gap: timedelta) -> Finding | None:
    limit = timedelta(microseconds=spec.max_timeout)
    if not limit or limit <= gap:
        return None
    what = f"max_timeout_s, {_seconds(limit)}, exceeds the gap, {_seconds(gap)}"
    match spec.policy:
        case ExecPolicy.CANCEL:
            return Finding(Level.WARNING, f"{what}: it has no effect, because the next tick ends the run before that")
        case ExecPolicy.SHIELD:
            return Finding(Level.WARNING, f"{what}, and has no effect: nothing ends a run under SHIELD")
        case ExecPolicy.WAIT:
            return Finding(Level.NOTE, f"{what}: of the ticks during a long run, one waits")
    return Finding(Level.NOTE, f"{what}: the ticks during a long run are skipped")


def _about_gap(spec: TaskSpec, gap: timedelta) -> Finding | None:
    if spec.trigger is not None or gap <= LONG_GAP:
        return None
    return Finding(
        Level.NOTE,
        f"interval_s, {_seconds(gap)}, is {gap / timedelta(days=1):.4g} days: it is counted in seconds, and from the "
        "start of the process. For days and months of the calendar use a trigger, such as Cron('0 6 1 * *')",
    )


def herd_of(tasks: Sequence[tuple[TaskSpec, bool, Sequence[datetime]]], now: datetime) -> dict[int, Finding]:
    """Return what an operator should know about tasks that are due in the same second of the hour, by place.

    The first of such tasks has the finding. A task with jitter is not in the way of others.

    Args:
        tasks: Of each task its parameters, whether its ticks depend on when it starts, and its next ticks if it starts
            *now*.
    """
    places: dict[Moment, list[int]] = {}
    for place, (spec, begins, runs) in enumerate(tasks):
        for moment in {_moment(each, begins, now) for each in runs} if not spec.jitter else ():
            places.setdefault(moment, []).append(place)
    found: dict[int, Finding] = {}
    for (begins, second), members in sorted(places.items(), key=lambda each: len(each[1]), reverse=True):
        if len(members) >= HERD and members[0] not in found:
            minutes = f"{str(second)[-5:]} {'after the start' if begins else 'past the hour'}"
            found[members[0]] = Finding(
                Level.NOTE,
                f"{len(members)} tasks, this one and {len(members) - 1} more, are due in the same second, {minutes}: "
                "jitter_s, such as jitter_s=30, spreads them, and spares what they call",
            )
    return found


def _moment(tick: datetime, begins: bool, now: datetime) -> Moment:
    since = tick - now if begins else timedelta(minutes=tick.minute, seconds=tick.second)
    return begins, timedelta(seconds=since // timedelta(seconds=1) % 3600)


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.15g} s"
