"""What an operator should know about the rules of tasks before they run: the next runs, and likely mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import Any

from kaiju_app._core.calls import explained
from kaiju_app._core.clock import NEVER, epoch_us, utc
from kaiju_app._core.model import FirstRun
from kaiju_app._core.text import describe_exception
from kaiju_app._core.validate import aware
from kaiju_app._engine.policy import first_tick
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._foreign import as_base_trigger
from kaiju_app.triggers._lint import Finding, Level, findings, no_run, why_not, zone_of
from kaiju_app.triggers._lint_text import format_time
from kaiju_app.triggers._timeline import timeline_of

from ._lint_options import findings_about_options, herd_of
from ._scheduler import Scheduler
from ._task import ScheduledTask

SHOWN = 5  # Enough to see the working days of a week.


@dataclass(frozen=True, slots=True)
class Report:
    """What lint knows about the rule of a task.

    Args:
        task: Name of the task.
        rule: The rule as text.
        zone: Time zone of the rule; UTC if it has none or several.
        runs: The next ticks, aware UTC and without jitter, at most five.
        findings: Most important first.
        begins: Whether the runs depend on when the task starts, and are those of a task that starts now.
    """

    task: str
    rule: str
    zone: tzinfo
    runs: tuple[datetime, ...]
    findings: tuple[Finding, ...]
    begins: bool = False


@explained({})
def lint(tasks: Scheduler | Iterable[ScheduledTask[Any]], now: datetime) -> list[Report]:
    """Return the next runs of *tasks*, and what an operator should know about the two years from *now*.

    Args:
        tasks: Tasks, or the scheduler that has them; it need not be started.
        now: Aware datetime after which runs count.

    Raises:
        InvalidArgument: *tasks* are no tasks, or *now* is naive.
    """
    now = aware("now", now)
    if isinstance(tasks, Scheduler):
        tasks._lifecycle.reminder.drop()  # It may have been made to be looked at, and not to be started.
    given = tasks.tasks.values() if isinstance(tasks, Scheduler) else tasks
    found = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(each, ScheduledTask) for each in found):
        raise InvalidArgument("tasks", tasks, "must be a Scheduler or a list of its tasks")
    reports = [_report(each, now) for each in found]
    herds = herd_of([(task._entry.spec, rep.begins, rep.runs) for task, rep in zip(found, reports, strict=True)], now)
    return [
        replace(each, findings=(*each.findings, herds[place])) if place in herds else each
        for place, each in enumerate(reports)
    ]


def _report(task: ScheduledTask[Any], now: datetime) -> Report:
    spec = task._entry.spec
    trigger = spec.trigger
    off = [] if task.enabled else [Finding(Level.NOTE, "the task is disabled: it does not run before enable()")]
    rule = type(trigger).__name__
    try:
        rule = f"every {task.interval_s:.15g} s" if trigger is None else str(trigger)
        runs = () if task.until is not None and task.until <= now else tuple(islice(_ticks(spec, now), SHOWN))
        found = [*_found(spec, now, task.until), *findings_about_options(spec, runs)]
        zone = UTC if trigger is None else zone_of(as_base_trigger("trigger", trigger))
    except Exception as exc:  # A foreign trigger may raise anything.
        failure = Finding(
            Level.ERROR, f"its trigger fails: {describe_exception(exc)}; fix it, nothing else could be checked"
        )
        return Report(task.name, _rule(rule, task.until), UTC, (), (failure, *off))
    begins = spec.first_run is FirstRun.NOW or (trigger is None and spec.first_run is FirstRun.NEXT)
    found.sort(key=lambda each: list(Level).index(each.level))
    return Report(task.name, _rule(rule, task.until), zone, runs, (*found, *off), begins and bool(runs))


def _ticks(spec: TaskSpec, now: datetime) -> Iterator[datetime]:
    """Yield the ticks of a task that starts *now*, without jitter."""
    timeline = timeline_of(spec)
    found, is_extra = first_tick(timeline, epoch_us(now), epoch_us(now))
    while found.tick < NEVER:
        yield utc(found.tick)
        found = timeline.next_after(found.tick) if is_extra else timeline.next_after_tick(found.tick)
        is_extra = False
    if found.error is not None:
        raise found.error


def _found(spec: TaskSpec, now: datetime, until: datetime | None) -> list[Finding]:
    """Return the findings about a task that starts *now*."""
    first = spec.first_run
    if spec.trigger is None:
        why = why_not(next(_ticks(replace(spec, until=None), now), None), now, until)
        return [] if why is None else [no_run(now, why)]
    trigger = as_base_trigger("trigger", spec.trigger)
    if isinstance(first, datetime):
        return findings(trigger, now, until, first if first >= now else None)
    return findings(trigger, now, until, now if first is FirstRun.NOW else None)


def _rule(text: str, until: datetime | None) -> str:
    return text if until is None else f"{text}, until {format_time(until)} UTC"


def format_report(report: Report) -> Iterator[str]:
    """Yield the lines of *report*."""
    yield f"{report.task}: {report.rule}"
    runs = format_runs(report.runs, report.zone)
    if report.begins:
        runs.insert(0, "if it starts now:")
    for label, text in zip(["next"] + [""] * len(runs), runs, strict=False):
        yield f"  {label:8} {text}"
    for finding in report.findings:
        yield f"  {finding.level:8} {finding.text}"


def format_runs(runs: Sequence[datetime], zone: tzinfo) -> list[str]:
    """Return *runs* in local time of *zone*, and in UTC where that differs; with as many digits as they need."""
    precision = "minutes"
    if any(run.microsecond for run in runs):
        precision = "microseconds"
    elif any(run.second for run in runs):
        precision = "seconds"
    return [_format_run(run, zone, precision) for run in runs]


def _format_run(run: datetime, zone: tzinfo, precision: str) -> str:
    local = run.astimezone(zone)
    in_utc = f"{run.replace(tzinfo=None).isoformat(' ', precision)} UTC"
    if local.tzname() == "UTC":
        return in_utc
    in_zone = local.isoformat(" ", precision)
    return f"{in_zone}  {in_utc}" if local.utcoffset() else in_zone
