"""The facts that log records carry beside their text."""

from __future__ import annotations

import ast
import asyncio
import io
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kaiju_app
from kaiju_app._core.logs import FIELDS, facts, logger
from kaiju_app.scheduler import At, ExecPolicy, Scheduler
from support.reading import ZERO, stubborn

SOURCE = Path(kaiju_app.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
OF_A_TASK = {"entry", "run", "claim", "ending", "held"}  # Variables that a log call uses only if a task is concerned.


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and ast.unparse(node.func.value).endswith(("log", "logger"))
            ):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


def concerns_a_task(call: ast.Call) -> bool:
    parts = [node for argument in call.args for node in ast.walk(argument)]
    names = {node.id for node in parts if isinstance(node, ast.Name)}
    texts = [node.value for node in parts if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return bool(names & OF_A_TASK) or any("task %" in text for text in texts)


def test_every_log_call_about_a_task_carries_its_facts() -> None:
    calls = list(log_calls())
    about_tasks = [(place, call) for place, call in calls if concerns_a_task(call)]

    assert len(calls) > 50
    assert len(about_tasks) > 20
    assert [] == [place for place, call in about_tasks if all(each.arg != "extra" for each in call.keywords)]


def test_every_logger_of_the_package_completes_its_records() -> None:
    made = [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in sorted(SOURCE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if 'getLogger("kaiju_app' in line
    ]

    # Services have loggers of their own; this is the one that stands in for them.
    assert [place.partition(":")[0] for place in made] == ["application/_service.py"]


def test_a_record_without_a_task_has_the_fields_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(" ".join(f"{each}=%({each})s" for each in FIELDS)))
    log = logger("kaiju_app.test")
    log.propagate = False
    log.addHandler(handler)
    log.warning("plain")
    log.warning("about a task", extra=facts("x", 0))

    plain, about = stream.getvalue().splitlines()
    assert plain == "task=None tick=None run_id=None attempt=None outcome=None reason=None delivery=None fence=None"
    assert about.startswith("task=x tick=1970-01-01T00:00:00+00:00 run_id=None attempt=None")


async def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("func", "given", "expected"),
    [
        (fail, {}, ("FAILED", None, 1)),
        (fail, {"retries": 2, "retry_interval_s": 1}, ("FAILED", None, 3)),
        (partial(asyncio.sleep, 50), {"max_timeout_s": 5}, ("TIMED_OUT", "deadline", 1)),
        (partial(asyncio.sleep, 50), {}, ("CANCELLED", "replaced", 1)),
        (partial(stubborn, 17), {}, (None, "replaced", 1)),
        (partial(asyncio.sleep, 0), {}, ("SUCCEEDED", None, 1)),
    ],
)
async def test_the_facts_of_an_ending(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, func: Any, given: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    caplog.set_level(logging.DEBUG, "kaiju_app.scheduler")
    scheduler.schedule_task(func, 10, name="x", **given)
    async with scheduler:
        await asyncio.sleep(16)
        told: Any = next(each for each in caplog.records if each.name == "kaiju_app.scheduler")

    assert (told.task, told.tick) == ("x", ZERO.isoformat())
    assert (told.outcome, told.reason, told.attempt) == expected


async def test_the_facts_of_a_task_without_a_tick(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(fail, trigger=At(ZERO.replace(year=2000)), name="x")
    async with scheduler:
        told: Any = caplog.records[0]

    assert (told.task, told.tick, told.outcome) == ("x", None, None)


# --- what cut a run ---


async def first_line(scheduler: Scheduler, caplog: pytest.LogCaptureFixture, **given: Any) -> str:
    scheduler.schedule_task(partial(asyncio.sleep, 500), 10, name="x", **given)
    async with scheduler:
        await asyncio.sleep(45)
        return caplog.records[0].getMessage()


async def test_a_run_that_the_policy_cancels_says_so_and_what_else_there_is(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    line = await first_line(scheduler, caplog)

    assert line == (
        f"task 'x', tick {ZERO.isoformat()}: CANCELLED (replaced) after 10 s; the schedule continues. The policy is "
        "CANCEL, the default of an async function: the next tick, or a run_now(), ends a run that is in progress. "
        "Otherwise use policy=ExecPolicy.SKIP (the tick is skipped), WAIT (it runs afterwards) or SHIELD (nothing "
        "ends a run), or a longer interval, or let max_timeout_s end the run earlier"
    )


async def test_a_deadline_says_which_option_it_comes_from(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    line = await first_line(scheduler, caplog, max_timeout_s=2.5)

    assert line.endswith(
        "TIMED_OUT (deadline) after 2.5 s; the schedule continues. That is its limit, max_timeout_s=2.5"
    )


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_a_default_deadline_says_how_to_set_another(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, policy: ExecPolicy
) -> None:
    line = await first_line(scheduler, caplog, policy=policy)

    assert "after 30 s; the schedule continues. " in line
    assert line.endswith(f"That is the default limit of policy={policy.name}: max_timeout_s sets another one")
