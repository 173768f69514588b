"""A scheduler that has tasks and is never started says so, once, when that is certain."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaiju_app import Application, Service, service
from kaiju_app.errors import DependencyError
from kaiju_app.scheduler import Scheduler, lint
from support.reading import nothing


class Missing(Service):
    pass


@dataclass
class Unstartable(Service):
    needed: Missing = service()


WAY_OUT = "Write `async with scheduler:` around the program"


def reminders(caplog: pytest.LogCaptureFixture) -> list[str]:
    gc.collect()
    return [line for record in caplog.records if "never started" in (line := record.getMessage())]


def test_it_is_told_when_it_is_collected(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler()
    for name in "abcde":
        scheduler.schedule_task(nothing, 60, name=name)
    assert [] == reminders(caplog)
    del scheduler

    (line,) = reminders(caplog)
    assert f"made at {__file__}:" in line
    assert "was never started, so its tasks never ran: 'a', 'b', 'c' and 2 more. " + WAY_OUT in line
    assert "run_app(app)" in line
    assert "async with app:" in line


def test_not_without_tasks(caplog: pytest.LogCaptureFixture) -> None:
    Scheduler()
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 60).remove()
    del scheduler

    assert [] == reminders(caplog)


@pytest.mark.parametrize("start", ["once", "twice", "only stopped"])
def test_nor_if_it_was_started_once(caplog: pytest.LogCaptureFixture, start: str) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 60)

    async def live(scheduler: Scheduler) -> None:
        if start != "only stopped":
            await scheduler.start()
        await scheduler.stop()

    for _ in range(2 if start == "twice" else 1):
        asyncio.run(live(scheduler))
    del scheduler

    assert [] == reminders(caplog)


def test_nor_if_it_was_looked_at_by_lint(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 60)
    lint(scheduler, datetime.now(UTC))
    del scheduler

    assert [] == reminders(caplog)


# --- at the end of a program ---

PROGRAM = """
from kaiju_app.scheduler import Scheduler

scheduler = Scheduler()
scheduler.schedule_task(print, 60, name="mine")
"""


def stderr_of(directory: Path, code: str, *command: str) -> str:
    (directory / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, *(command or ("program.py",))],
        cwd=directory, capture_output=True, text=True, timeout=50, check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    return done.stderr


def test_a_program_says_it_at_its_end(tmp_path: Path) -> None:
    (line,) = stderr_of(tmp_path, PROGRAM).splitlines()

    assert line.startswith(
        f"the scheduler made at {tmp_path / 'program.py'}:4 was never started, so its tasks never ran"
    )
    assert "'mine'. " + WAY_OUT in line


@pytest.mark.parametrize(
    "rest",
    [
        "import asyncio\nasync def main():\n    async with scheduler: pass\nasyncio.run(main())",
        "import os\nif pid := os.fork(): os.waitpid(pid, 0)",
        "scheduler.tasks['mine'].remove()",
    ],
    ids=["started", "forked", "removed"],
)
def test_a_program_has_nothing_to_say(tmp_path: Path, rest: str) -> None:
    assert stderr_of(tmp_path, PROGRAM + rest) == ""


def test_one_that_failed_before_has_said_so(tmp_path: Path) -> None:
    told = stderr_of(tmp_path, PROGRAM + "1 / 0")

    assert "ZeroDivisionError" in told
    assert "never started" not in told


@pytest.mark.parametrize("command", ["run", "lint"])
@pytest.mark.parametrize("place", ["program:nothing", "program.deeper:scheduler", "program:print"])
def test_the_last_word_about_a_wrong_place_is_the_error(tmp_path: Path, command: str, place: str) -> None:
    told = stderr_of(tmp_path, PROGRAM, "-m", "kaiju_app", command, place)

    assert f"error: '{place}'" in told.splitlines()[-1]


async def test_an_application_that_cannot_start_has_said_so(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 60)
    app = Application("shop", services=[Unstartable()], scheduler=scheduler)
    with pytest.raises(DependencyError):
        await app.start()
    del app, scheduler

    assert [] == reminders(caplog)


def test_lint_says_nothing(tmp_path: Path) -> None:
    code = PROGRAM + "other = Scheduler()\nother.schedule_task(print, 60)"

    assert stderr_of(tmp_path, code, "-m", "kaiju_app", "lint", "program:scheduler") == ""
