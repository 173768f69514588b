"""The command ``lint``: prints when tasks will run, and what is likely to be a mistake in their schedules."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from kaiju_app._core.clock import utc, wall_us
from kaiju_app._core.logs import logger
from kaiju_app.application import Application
from kaiju_app.application._application import initialized
from kaiju_app.errors import KaijuError
from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._lint import Report, format_report, lint
from kaiju_app.scheduler._never_started import drop_all
from kaiju_app.triggers._lint import Level

from ._target import import_target, set_up_logging

log = logger("kaiju_app.app")


def lint_command(target: str, parser: argparse.ArgumentParser, *, init: bool) -> None:
    """Print a report about each task of *target*. Exit with status 1 if there is an error, or no task.

    Args:
        target: Where the Application or Scheduler is, as MODULE:NAME.
        parser: Reports wrong usage.
        init: Initialize the services first, to include the tasks that they schedule.
    """
    found = import_target(target, parser)
    if not isinstance(found, Application | Scheduler):
        parser.error(f"{target!r} is of type {type(found).__name__}, neither an Application nor a Scheduler")
    if init and isinstance(found, Scheduler):
        parser.error(f"{target!r} is a Scheduler, which has no services to initialize: leave out --init")
    set_up_logging(logging.WARNING)
    failed = False
    if isinstance(found, Scheduler):
        reports = lint(found, _now())
    elif not init:
        reports = lint(found.scheduler, _now())
    else:
        reports, failed = asyncio.run(lint_initialized(found))
    drop_all()  # The program was imported to be looked at: nobody means to start its schedulers.
    services_skipped = isinstance(found, Application) and bool(found.services) and not init
    if not reports and not failed:
        advice = (
            "--init includes those that services schedule in init()"
            if services_skipped
            else "add one with schedule_task()"
        )
        raise SystemExit(f"{target!r} has no tasks to look at; {advice}")
    for report in reports:
        print(*format_report(report), "", sep="\n")
    if services_skipped:
        print("Tasks that services schedule in init() are not included; --init includes them.\n")
    if reports:
        print(format_summary(reports))
    if failed or any(finding.level is Level.ERROR for report in reports for finding in report.findings):
        raise SystemExit(1)


def _now() -> datetime:
    return utc(wall_us()).replace(microsecond=0)  # Else every run of a task that starts now would show microseconds.


async def lint_initialized(app: Application) -> tuple[list[Report], bool]:
    """Return reports about the tasks of *app* after ``init()`` of its services, and whether a service failed."""
    reports: list[Report] = []
    try:
        async with initialized(app) as lifecycle:
            reports = lint(app.scheduler, _now())
        return reports, bool(lifecycle.problems)
    except KaijuError as exc:
        log.critical("%s", exc, exc_info=exc.__cause__)
        return reports, True


def format_summary(reports: Sequence[Report]) -> str:
    """Return how many tasks and findings there are, in words."""
    levels = Counter(finding.level for report in reports for finding in report.findings)
    counts = [_count(levels[level], level.lower()) for level in Level if levels[level]]
    return f"{_count(len(reports), 'task')}: {', '.join(counts) or 'nothing found'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
