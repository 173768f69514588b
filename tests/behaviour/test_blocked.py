"""A body that blocks the loop: the log names it, in every Python."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest

from kaiju_app.scheduler import ExecPolicy, Scheduler
from support.virtual import VirtualLoop

LOG = "kaiju_app.scheduler"


def warnings(caplog: pytest.LogCaptureFixture, logger: str = LOG) -> list[str]:
    told = (record for record in caplog.records if record.name == logger)
    return [record.getMessage() for record in told if record.levelno >= logging.WARNING]


async def nothing() -> None: ...


async def a_while() -> None:
    await asyncio.sleep(3)


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("policy", ExecPolicy)
async def test_a_body_that_blocks_before_its_first_await_is_told_as_a_block_with_its_task(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture, awaits: bool, policy: ExecPolicy
) -> None:
    async def work() -> None:
        loop.virtual_clock.block(5)
        if awaits:
            await asyncio.sleep(0.1)

    for number in range(3):
        scheduler.schedule_task(nothing, 1, name=f"quick{number}")
    scheduler.schedule_task(work, 100, name="blocks", policy=policy)
    async with scheduler:
        await asyncio.sleep(60)

    (line,) = warnings(caplog)
    # Without eager tasks it is noticed by a timer that was due a second later.
    assert re.match("the loop was blocked for 0:00:0[45] (by task 'blocks'|while task 'blocks' was running); of", line)
    assert line.endswith("; of the missed ticks, 3 run now and 12 are skipped")


async def test_so_is_one_that_starts_after_the_run_before_it(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        loop.virtual_clock.block(5)

    scheduler.schedule_task(nothing, 1, name="quick")
    task = scheduler.schedule_task(work, 10_000, name="blocks", first_run=None)
    await scheduler.start()
    await asyncio.sleep(20)
    caplog.clear()
    await task.run_now()
    await asyncio.sleep(20)
    await scheduler.stop()

    (line,) = warnings(caplog)
    assert re.match("the loop was blocked for 0:00:0[45] while task 'blocks' was running; ", line)


async def test_a_block_after_the_first_await_names_what_was_running(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        await asyncio.sleep(0.25)
        loop.virtual_clock.block(5)

    scheduler.schedule_task(nothing, 1, name="quick")
    scheduler.schedule_task(work, 100, name="blocks")
    async with scheduler:
        await asyncio.sleep(60)

    (line,) = warnings(caplog)
    assert line.startswith("the loop was blocked for 0:00:0")
    assert "while task 'blocks' was running; " in line


async def test_of_many_tasks_that_were_running_some_are_named(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        scheduler.schedule_task(a_while, 10, name=f"t{number}")
    scheduler.schedule_task(nothing, 1, name="quick")
    async with scheduler:
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(5)
        await asyncio.sleep(1)

    (line,) = warnings(caplog)
    assert " while tasks 't0', 't1', 't2' and 6 more were running; " in line


async def test_code_of_the_application_that_blocks_is_told_without_a_task(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(nothing, 1, name="quick")
    scheduler.schedule_task((5).bit_length, 1, name="plain")
    async with scheduler:
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(5)
        await asyncio.sleep(1)

    (line,) = warnings(caplog)
    assert line.startswith("the loop was blocked for 0:00:0")
    assert "task" not in line


@pytest.mark.smoke
def test_in_real_time_and_in_the_debug_mode_of_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        time.sleep(1.2)  # noqa: ASYNC251 - what this test is about

    async def main() -> None:
        scheduler = Scheduler()
        scheduler.schedule_task(nothing, 0.1, name="quick")
        scheduler.schedule_task(work, 100, name="blocks")
        async with scheduler:
            await asyncio.sleep(0.3)

    for debug in (False, True):
        caplog.clear()
        asyncio.run(main(), debug=debug)

        (line,) = warnings(caplog)
        assert line.startswith("the loop was blocked for 0:00:01 ")
        assert "task 'blocks'" in line
    slow = [text for text in warnings(caplog, "asyncio") if "Executing" in text]
    assert any("name='blocks'" in text for text in slow), slow
