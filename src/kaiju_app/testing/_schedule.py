"""The findings of ``python -m kaiju_app lint``, as a test."""

from __future__ import annotations

from datetime import datetime

from kaiju_app._core.clock import utc, wall_us
from kaiju_app.application import Application
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Level, Scheduler, lint
from kaiju_app.scheduler._lint import format_report


def assert_schedule(app: Application | Scheduler, *, level: Level = Level.WARNING, now: datetime | None = None) -> None:
    """Assert that lint finds nothing in the schedules of *app*, and that it has tasks.

    Tasks that services schedule in ``init()`` are there inside ``async with app:``.

    Args:
        app: An application or a scheduler, started or not.
        level: The lowest level that counts as a failure: ERROR, WARNING or NOTE, from high to low.
        now: Aware datetime from which lint looks ahead; None for the present.

    Raises:
        AssertionError: There are such findings, which it shows with the next runs of their tasks; or there is no task.
        InvalidArgument: *app* is neither, *level* is no Level, or *now* is naive.
    """
    __tracebackhide__ = True
    if not isinstance(app, Application | Scheduler):
        raise InvalidArgument("app", app, "must be an Application or a Scheduler")
    if not isinstance(level, Level):
        raise InvalidArgument("level", level, "must be a Level, such as Level.ERROR")
    scheduler = app.scheduler if isinstance(app, Application) else app
    reports = lint(scheduler, utc(wall_us()).replace(microsecond=0) if now is None else now)
    if not reports:
        raise AssertionError("there is no task: services schedule theirs in init(), so call this in `async with app:`")
    levels = list(Level)
    bad = levels[: levels.index(level) + 1]
    found = [report for report in reports if any(finding.level in bad for finding in report.findings)]
    if found:
        text = "\n\n".join("\n".join(format_report(report)) for report in found)
        raise AssertionError(f"lint has findings about {len(found)} of {len(reports)} task(s):\n{text}")
