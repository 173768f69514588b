"""The log lines of the user's own code inside a run have the fields of the run."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kaiju_app.observability.logs import RunFields
from kaiju_app.scheduler import FirstRun, Run, ScheduledTask, Scheduler

FIELDS = ("task", "tick", "run_id", "attempt")
RARELY_S = 1e6  # Virtual time jumps while a thread runs: no tick must come meanwhile.
NO_RUN = (None, None, None, None)
log = logging.getLogger("shop")


class Lines(logging.Handler):
    """Keeps the fields of the records that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), *(record.__dict__[name] for name in FIELDS)))


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    handler.addFilter(RunFields())
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


async def fields_of(task: ScheduledTask[Any], attempt: int) -> tuple[Any, ...]:
    run = task.last_run
    assert run is not None
    return (task.name, run.scheduled_at.isoformat(), run.run_id, attempt)


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_line_of_the_standard_logging_tells_its_run(scheduler: Scheduler, lines: Lines, threaded: bool) -> None:
    async def work() -> None:
        log.warning("in")
        await asyncio.gather(child(), child())
        raise OSError

    async def child() -> None:
        await asyncio.sleep(0)
        log.warning("in a child")

    def plain() -> None:
        log.warning("in")
        raise OSError

    task = scheduler.schedule_task(
        plain if threaded else work, RARELY_S, first_run=FirstRun.NEXT, retries=1, retry_interval_s=1
    )
    log.warning("before")
    async with scheduler:
        await task.run_now()
        log.warning("outside")

        expected = []
        for attempt in (1, 2):
            fields = await fields_of(task, attempt)
            expected += [("in", *fields)] + [("in a child", *fields)] * (0 if threaded else 2)
    assert lines.seen == [("before", *NO_RUN), *expected, ("outside", *NO_RUN)]


async def test_a_line_keeps_the_fields_that_it_has(scheduler: Scheduler, lines: Lines) -> None:
    async def work() -> None:
        log.warning("of another", extra={"task": "theirs", "attempt": 7})

    task = scheduler.schedule_task(work, 100)
    async with scheduler:
        await asyncio.sleep(1)
        _, tick, run_id, _ = await fields_of(task, 1)

    assert lines.seen == [("of another", "theirs", tick, run_id, 7)]


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_line_of_structlog_tells_its_run_with_its_own_processor_alone(
    scheduler: Scheduler, threaded: bool
) -> None:
    written = io.StringIO()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(written),
    )
    line = structlog.get_logger()

    async def work() -> None:
        line.info("in", order=7)
        raise OSError

    def plain() -> None:
        line.info("in", order=7)
        raise OSError

    task = scheduler.schedule_task(
        plain if threaded else work, RARELY_S, first_run=FirstRun.NEXT, retries=1, retry_interval_s=1
    )
    other = scheduler.schedule_task(work, RARELY_S, name="other", first_run=FirstRun.NEXT)
    try:
        async with scheduler:
            await task.run_now()
            line.info("outside")
            run: Run = await other.run_now()
    finally:
        structlog.reset_defaults()

    told = [json.loads(text) for text in written.getvalue().splitlines()]
    expected = []
    for attempt in (1, 2):
        fields = await fields_of(task, attempt)
        expected.append({"event": "in", "order": 7, **dict(zip(FIELDS, fields, strict=True))})
    assert [each for each in told if each.get("task") == task.name] == expected
    assert {"event": "outside"} in told
    assert run.run_id in [each.get("run_id") for each in told if each.get("task") == "other"]
