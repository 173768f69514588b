"""Lint: options of tasks that do not fit their rule, and programs that run when they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from kaiju_app.scheduler import At, Backoff, Cron, Every, ExecPolicy, Scheduler, lint

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAILY = Cron("0 6 * * *")


async def work() -> None:
    """Do nothing."""


def told_of(**options: Any) -> list[str]:
    """Return what lint tells of a task with *options*."""
    scheduler = Scheduler()
    scheduler.schedule_task(work, **options)
    return [f"{each.level} {each.text}" for each in lint(scheduler, NOW)[0].findings]


# --- limits that exceed the gap ---

NO_RETRY = ": the deadline of a run comes before that, so no retry is ever made"
WAITS = ": while a run waits for its next attempt, ticks wait or are skipped"
NO_EFFECT = ": it has no effect, because the next tick ends the run before that"


@pytest.mark.pure
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retry_interval_s": 90}, f"WARNING retry_interval_s, 90 s, exceeds the gap, 60 s{NO_RETRY}"),
        ({"retry_interval_s": Backoff(90, max_s=100)},
         f"WARNING initial_s of the Backoff, 90 s, exceeds the gap, 60 s{NO_RETRY}"),
        ({"retry_interval_s": 90, "policy": ExecPolicy.SKIP},
         f"WARNING retry_interval_s, 90 s, exceeds the gap, 60 s{WAITS}"),
        ({"retry_interval_s": 190, "policy": ExecPolicy.WAIT},
         f"WARNING retry_interval_s, 190 s, exceeds the gap, 60 s{NO_RETRY}"),
        ({"retry_interval_s": 190, "policy": ExecPolicy.SHIELD},
         f"WARNING retry_interval_s, 190 s, exceeds the gap, 60 s{WAITS}"),
        ({"max_timeout_s": 120}, f"WARNING max_timeout_s, 120 s, exceeds the gap, 60 s{NO_EFFECT}"),
        ({"max_timeout_s": 120, "policy": ExecPolicy.SHIELD},
         "WARNING max_timeout_s, 120 s, exceeds the gap, 60 s, and has no effect: nothing ends a run under SHIELD"),
        ({"max_timeout_s": 120, "policy": ExecPolicy.SKIP},
         "NOTE max_timeout_s, 120 s, exceeds the gap, 60 s: the ticks during a long run are skipped"),
        ({"max_timeout_s": 120, "policy": ExecPolicy.WAIT},
         "NOTE max_timeout_s, 120 s, exceeds the gap, 60 s: of the ticks during a long run, one waits"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rule", [{"interval_s": 60}, {"trigger": Every(60)}, {"trigger": Cron("* * * * *")}])
def test_a_limit_that_exceeds_the_gap_is_told_with_what_comes_of_it(
    rule: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    assert told_of(**rule, retries=3, **options) == [told]


@pytest.mark.pure
@pytest.mark.parametrize(
    "options",
    [
        {"interval_s": 60, "retries": 3, "retry_interval_s": 60, "max_timeout_s": 60},
        {"interval_s": 60, "retries": 3, "retry_interval_s": Backoff(initial_s=1, max_s=600)},
        {"interval_s": 60, "retry_interval_s": 90},
        {"trigger": DAILY, "max_timeout_s": 7200, "retries": 3, "retry_interval_s": 600},
        {"trigger": At(NOW.replace(hour=13)), "max_timeout_s": 1e6, "retries": 3, "retry_interval_s": 1e6},
        {"trigger": Every(90 * 86_400)},
        {"interval_s": 30 * 86_400},
    ],
)
def test_of_limits_that_fit_nothing_is_told(options: dict[str, Any]) -> None:
    assert told_of(**options) == []


@pytest.mark.pure
def test_an_interval_over_thirty_days_is_told_in_days() -> None:
    [told] = told_of(interval_s=60 * 86_400)

    assert told == (
        "NOTE interval_s, 5184000 s, is 60 days: it is counted in seconds, and from the start of the process. For days "
        "and months of the calendar use a trigger, such as Cron('0 6 1 * *')"
    )


# --- many at once ---


def told_of_many(number: int, **options: Any) -> list[list[str]]:
    """Return what lint tells of each of *number* equal tasks."""
    scheduler = Scheduler()
    for place in range(number):
        scheduler.schedule_task(work, name=f"{place}", **options)
    return [[f"{each.level} {each.text}" for each in report.findings] for report in lint(scheduler, NOW)]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("options", "second"),
    [
        ({"trigger": DAILY}, "00:00 past the hour"),
        ({"trigger": Cron("15 * * * *")}, "15:00 past the hour"),
        ({"interval_s": 3600}, "00:00 after the start"),
    ],
)
def test_dozens_of_tasks_in_the_same_second_are_told_once(options: dict[str, Any], second: str) -> None:
    first, *others = told_of_many(30, **options)

    [told] = first
    assert told == (
        f"NOTE 30 tasks, this one and 29 more, are due in the same second, {second}: jitter_s, such as jitter_s=30, "
        "spreads them, and spares what they call"
    )
    assert others == [[]] * 29


@pytest.mark.pure
def test_of_few_tasks_or_of_tasks_with_jitter_nothing_is_told() -> None:
    assert told_of_many(23, trigger=DAILY) == [[]] * 23
    assert told_of_many(30, trigger=DAILY, jitter_s=30) == [[]] * 30


# --- programs that run when they are imported ---

BEGIN = """
import asyncio
from kaiju_app import Application, Scheduler, Service, run_app

async def work():
    print("work", flush=True)

class Web(Service):
    async def init(self):
        print("init", flush=True)

scheduler = Scheduler()
scheduler.schedule_task(work, 60)
app = Application("shop", [Web()])

async def main():
    async with scheduler:
        await asyncio.sleep(0.1)
"""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run the command in a directory with a module ``shop``."""

    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "shop.py").write_text(BEGIN + dedent(code))
        return subprocess.run(
            [sys.executable, "-m", "kaiju_app", *arguments],
            cwd=tmp_path, env={**os.environ, "COLUMNS": "120"}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=30, check=False,
        )  # fmt: skip

    return run


LINE = len(BEGIN.splitlines()) + 2  # Of the code that a test adds.


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("asyncio.run(main())", "scheduler.start()"),
        ("run_app(app)", "run_app()"),
        ("asyncio.run(app.start())", "app.start()"),
        ("def all_of_it(): asyncio.run(main())\nall_of_it()", "scheduler.start()"),
    ],
)
@pytest.mark.parametrize("arguments", [("lint", "shop:scheduler"), ("run", "shop:app")], ids=" ".join)
def test_a_program_without_a_guard_is_not_run_by_importing_it(
    command: Command, arguments: tuple[str, str], code: str, call: str
) -> None:
    ended = command("\n" + code, *arguments)

    line = LINE + code.count("\n")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith(
        f"python -m kaiju_app {arguments[0]}: error: importing 'shop' would run its program: line {line} of shop.py "
        f"leads to {call}; put that line under if __name__ == '__main__':\n"
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.realtime
def test_it_is_said_also_if_the_program_catches_the_refusal(command: Command) -> None:
    ended = command("try: asyncio.run(main())\nexcept Exception: pass", "lint", "shop:scheduler")

    assert ended.returncode == 0
    assert ended.stderr == (
        "python -m kaiju_app lint: importing 'shop' has called scheduler.start(), which was refused: put the call that "
        "runs the program under if __name__ == '__main__':\n"
    )


@pytest.mark.realtime
def test_a_program_with_a_guard_is_looked_at_and_a_mistake_of_another_kind_is_shown(command: Command) -> None:
    assert command("if __name__ == '__main__': asyncio.run(main())", "lint", "shop:scheduler").stderr == ""
    assert "ZeroDivisionError" in command("1 / 0", "lint", "shop:scheduler").stderr
