"""The command line: ``python -m kaiju_app run module:app``, and ``lint``, which looks at the rules of its tasks."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo

from ._clock import utc, wall_us
from ._keeper import log
from ._lint import Level, Report, lint
from ._serve import run_app
from .app import Application
from .errors import KaijuError
from .scheduler import Scheduler

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kaiju_app", description="Periodic work inside an application.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    run = commands.add_parser(
        "run",
        help="run an application until a signal ends it",
        description="Run an application until SIGINT (Ctrl-C) or SIGTERM ends it in order; a second signal cuts short "
        "what it waits for then. Exit status: 0, it ended in order; 1, it could not start, or something did not end as "
        "it should, of which the log tells; 128 + n, it was cut short by signal n.",
    )
    run.add_argument("place", metavar="MODULE:NAME", help="where the Application is, e.g. shop.main:app")
    look = commands.add_parser(
        "lint",
        help="show when tasks will run, and what may be a surprise",
        description="Show the rules of the tasks of an application or scheduler, their next runs, and what may be a "
        "surprise: tasks that never run, changes of the clocks, steps that do not come out even. No task is run. Exit "
        "status: 0; 1, there is an error, or nothing to look at.",
    )
    look.add_argument("place", metavar="MODULE:NAME", help="where the Application or Scheduler is, e.g. shop.main:app")
    look.add_argument(
        "--init",
        action="store_true",
        help="initialise the services of the application, look at the tasks that they schedule too, and close them",
    )
    options = parser.parse_args()
    if options.command == "run":
        run_it(options.place, run)
    else:
        look_at(options.place, look, init=options.init)


def run_it(place: str, parser: argparse.ArgumentParser) -> None:
    """Run the application at *place*."""
    app = found(place, parser)
    if not isinstance(app, Application):
        hint = ": give it to one, Application(name, scheduler=...)" if isinstance(app, Scheduler) else ""
        parser.error(f"{place!r} is of type {type(app).__name__}, not an Application{hint}")
    # Where the program has set up its own logging, this changes nothing.
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    run_app(app)


def found(place: str, parser: argparse.ArgumentParser) -> object:
    """Return what is at *place*, ``module:name``; or end with what is wrong and status 2."""
    module, _, name = place.partition(":")
    if not module or not name or module.startswith(".") or "/" in module:
        parser.error(f"{place!r} must be MODULE:NAME, e.g. shop.main:app")
    missing = "there is no module {!r} here or among what is installed"
    if not all(part.isidentifier() for part in module.split(".")):
        parser.error(f"{place!r}: {missing.format(module)}")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise  # It is there, and imports another one that is not.
        parser.error(f"{place!r}: {missing.format(exc.name)}")
    try:
        there: object = operator.attrgetter(name)(imported)
    except AttributeError as exc:
        parser.error(f"{place!r}: {exc}")
    return there


def look_at(place: str, parser: argparse.ArgumentParser, *, init: bool) -> None:
    """Print what there is to know of the tasks at *place*; with *init*, of those of its services too."""
    target = found(place, parser)
    if not isinstance(target, Application | Scheduler):
        parser.error(f"{place!r} is of type {type(target).__name__}, neither an Application nor a Scheduler")
    if init and isinstance(target, Scheduler):
        parser.error(f"{place!r} is a Scheduler, which has no services to initialise: leave --init out")
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    unseen = isinstance(target, Application) and bool(target.services) and not init
    failed = False
    if isinstance(target, Scheduler):
        reports = lint(target, _now())
    elif not init:
        reports = lint(target.scheduler, _now())
    else:
        reports, failed = asyncio.run(initialised(target))
    if not reports and not failed:
        way_out = "--init shows those that services schedule in init()" if unseen else "schedule_task() makes one"
        raise SystemExit(f"{place!r}: nothing to look at, for there are no tasks; {way_out}")
    for report in reports:
        print(*told(report), "", sep="\n")
    if unseen:
        print("Tasks that services schedule in init() are not seen here: --init shows them.\n")
    if reports:
        print(summary(reports))
    if failed or any(finding.level is Level.ERROR for report in reports for finding in report.findings):
        raise SystemExit(1)


def _now() -> datetime:
    return utc(wall_us()).replace(microsecond=0)  # Else all runs of a task that begins now had them.


async def initialised(app: Application) -> tuple[list[Report], bool]:
    """Return what there is to know of the tasks of *app* with its services initialised, and whether that failed."""
    reports: list[Report] = []
    try:
        async with app._initialised() as course:
            reports = lint(app.scheduler, _now())
        return reports, bool(course.problems)
    except KaijuError as exc:
        log.critical("%s", exc, exc_info=exc.__cause__)
        return reports, True


def told(report: Report) -> Iterator[str]:
    """Yield the lines of *report*."""
    yield f"{report.task}: {report.rule}"
    runs = rows(report.runs, report.zone)
    if report.begins:
        runs.insert(0, "if it begins now:")
    for label, text in zip(["next"] + [""] * len(runs), runs, strict=False):
        yield f"  {label:8} {text}"
    for finding in report.findings:
        yield f"  {finding.level:8} {finding.text}"


def rows(runs: Sequence[datetime], zone: tzinfo) -> list[str]:
    """Return *runs* as the clocks of *zone* show them, and in UTC where that differs; as exact as they need."""
    exact, seconds = any(each.microsecond for each in runs), any(each.second for each in runs)
    return [row(each, zone, "microseconds" if exact else "seconds" if seconds else "minutes") for each in runs]


def row(run: datetime, zone: tzinfo, precision: str) -> str:
    """Return one of ``rows()``; see ``datetime.isoformat()`` for its *precision*."""
    local = run.astimezone(zone)
    in_utc = f"{run.replace(tzinfo=None).isoformat(' ', precision)} UTC"
    if local.tzname() == "UTC":
        return in_utc
    there = local.isoformat(" ", precision)
    return f"{there}  {in_utc}" if local.utcoffset() else there


def summary(reports: Sequence[Report]) -> str:
    """Return the number of tasks and findings in words."""
    levels = Counter(finding.level for report in reports for finding in report.findings)
    found = [number(levels[level], level.lower()) for level in Level if levels[level]]
    return f"{number(len(reports), 'task')}: {', '.join(found) or 'nothing found'}"


def number(count: int, what: str) -> str:
    """Return *count* things in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


if __name__ == "__main__":
    main()
