"""The thread that looks where the loop is while it is blocked, on a real clock."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Outcome, Scheduler
from support.reading import nothing
from support.virtual import VirtualLoop

LOG = "kaiju_app.scheduler"
THREAD = "kaiju_app: loop watch"
HERE = re.escape(__file__)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == LOG and each.levelno == logging.WARNING]


def watchers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == THREAD]


def block() -> None:
    time.sleep(1.8)


BLOCKED_AT = rf"at {HERE}:{block.__code__.co_firstlineno + 1} in block\(\)"


async def blocks_at_once() -> None:
    block()


async def blocks_later() -> None:
    await asyncio.sleep(0.1)
    block()


async def blocks_in_a_child() -> None:
    await asyncio.create_task(blocks_later())


@pytest.mark.realtime
@pytest.mark.parametrize("work", [blocks_at_once, blocks_later])
@pytest.mark.parametrize("others", [0, 3])
async def test_the_warning_names_task_file_and_line_of_a_block(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, work: Any, others: int
) -> None:
    for number in range(others):
        scheduler.schedule_task(nothing, 0.1, name=f"quick{number}")
    scheduler.schedule_task(work, 100, name="blocks")
    async with scheduler:
        await asyncio.sleep(0.7)
        lag, shown = scheduler.loop_lag, scheduler.json_repr()

    (line,) = told(caplog)
    assert re.match(f"the loop was blocked for 0:00:0[12] by task 'blocks' {BLOCKED_AT}; ", line)
    (kept,) = shown["blocks"]  # type: ignore[misc]
    assert (kept["tasks"], kept["is_certain"], kept["file"]) == (["blocks"], True, __file__)
    assert lag is not None
    assert 1 <= lag.max_s <= 1.9
    assert lag.cause is not None
    assert re.fullmatch(f"task 'blocks', {BLOCKED_AT.removeprefix('at ')}", lag.cause)


@pytest.mark.realtime
@pytest.mark.skipif(sys.version_info < (3, 12), reason="an asyncio task does not tell its context")
async def test_so_does_that_of_a_block_in_a_child_task(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(blocks_in_a_child, 100, name="blocks")
    async with scheduler:
        await asyncio.sleep(0.7)

    (line,) = told(caplog)
    assert re.match(f"the loop was blocked for 0:00:0[12] by task 'blocks' {BLOCKED_AT}; ", line)


@pytest.mark.realtime
async def test_a_block_by_the_application_is_told_without_a_task(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(nothing, 0.1, name="quick")
    async with scheduler:
        await asyncio.sleep(0.15)
        asyncio.get_running_loop().call_soon(block)
        await asyncio.sleep(0.3)

    (line,) = told(caplog)
    assert re.match(f"the loop was blocked for 0:00:0[12] {BLOCKED_AT}; of the missed ticks, ", line)


@pytest.mark.realtime
async def test_a_block_by_an_extra_run_is_seen(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    task = scheduler.schedule_task(blocks_later, 100, name="blocks", first_run=None)
    async with scheduler:
        await asyncio.sleep(2.2)
        caplog.clear()
        await task.run_now()
        await asyncio.sleep(0.7)

    (line,) = told(caplog)
    assert re.match(f"the loop was blocked for 0:00:0[12] by task 'blocks' {BLOCKED_AT}; ", line)


@pytest.mark.realtime
async def test_each_of_several_blocks_is_told_with_its_own_place(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def other() -> None:
        time.sleep(1.5)

    async def two() -> None:
        block()
        await asyncio.sleep(0.1)
        other()

    scheduler.schedule_task(nothing, 0.02, name="quick")
    scheduler.schedule_task(two, 100, name="blocks")
    async with scheduler:
        await asyncio.sleep(2.2)  # It ends in the second block.
        await asyncio.sleep(0.3)

    assert re.findall(r" in (\w+)\(\);", "\n".join(told(caplog))) == ["block", "other"]


@pytest.mark.realtime
async def test_nobody_watches_before_the_start_after_the_stop_and_if_that_is_not_wanted() -> None:
    scheduler, other = Scheduler(), Scheduler(watch_loop=False)
    scheduler.schedule_task(nothing, 0.05)
    assert watchers() == []
    for _ in range(2):
        async with other, scheduler:
            await asyncio.sleep(0.1)
            assert watchers() == [THREAD]
        assert watchers() == []


@pytest.mark.realtime
async def test_without_the_thread_a_block_is_told_as_before(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(watch_loop=False)
    scheduler.schedule_task(nothing, 0.1, name="quick")
    scheduler.schedule_task(blocks_later, 100, name="blocks")
    async with scheduler:
        await asyncio.sleep(0.5)

    (line,) = told(caplog)
    assert re.match("the loop was blocked for 0:00:0[12] while task 'blocks' was running; ", line)


@pytest.mark.realtime
async def test_a_block_that_goes_on_is_seen_from_another_thread(scheduler: Scheduler) -> None:
    told: list[tuple[float, str | None]] = []

    def ask() -> None:
        time.sleep(1)
        lag = scheduler.loop_lag
        assert lag is not None
        told.append((lag.max_s, lag.cause))

    scheduler.schedule_task(nothing, 0.02, name="quick")
    scheduler.schedule_task(blocks_later, 100, name="blocks")
    async with scheduler:
        asker = asyncio.to_thread(ask)
        await asyncio.gather(asker, asyncio.sleep(0.5))

    ((late_s, cause),) = told
    assert 0.5 <= late_s <= 1.5
    assert cause is not None
    assert re.fullmatch(f"task 'blocks', {BLOCKED_AT.removeprefix('at ')}", cause)


@pytest.mark.realtime
async def test_the_explanation_of_a_missed_tick_names_the_line(scheduler: Scheduler) -> None:
    quick = scheduler.schedule_task(nothing, 0.5, name="quick")
    scheduler.schedule_task(blocks_later, 100, name="blocks")
    async with scheduler:
        await asyncio.sleep(0.7)
        missed = next(run for run in quick.history() if run.outcome is Outcome.SKIPPED)
        sentence = str(await scheduler.explain(quick, missed.scheduled_at))

    assert re.search(f"the loop was blocked .*by task 'blocks' {BLOCKED_AT}", sentence), sentence


async def test_nobody_watches_a_loop_in_virtual_time(scheduler: Scheduler, loop: VirtualLoop) -> None:
    scheduler.schedule_task(nothing, 1)
    async with scheduler:
        await asyncio.sleep(0.5)
        assert watchers() == []
        assert scheduler.loop_lag is not None
        assert scheduler.loop_lag.max_s == 0
        loop.virtual_clock.block(5)
        await asyncio.sleep(1)
        assert scheduler.loop_lag.max_s == 4.5
        await asyncio.sleep(120)
        assert scheduler.loop_lag.max_s == 0


def test_only_a_bool_says_whether_to_watch() -> None:
    with pytest.raises(InvalidArgument, match="watch_loop must be True or False, got 'no'"):
        Scheduler(watch_loop="no")  # type: ignore[arg-type]


ENDS = """
import asyncio, threading
from kaiju_app.scheduler import Scheduler

async def nothing(): ...

async def main():
    await scheduler.start()
    await asyncio.sleep(0.1)

scheduler = Scheduler()
scheduler.schedule_task(nothing, 0.01)
asyncio.run(main())
threads = threading.enumerate()
"""
FORKS = """
import asyncio, os, threading, time
from kaiju_app.scheduler import Scheduler

async def nothing(): ...

def names():
    return [each.name for each in threading.enumerate()]

async def again():
    async with scheduler:
        await asyncio.sleep(0.05)
        assert "kaiju_app: loop watch" in names()
    assert names() == ["MainThread"], names()

async def main():
    async with scheduler:
        await asyncio.sleep(0.05)
        child = os.fork()
        if not child:
            return
        assert os.waitpid(child, 0)[1] == 0

scheduler = Scheduler()
scheduler.schedule_task(nothing, 0.01)
parent = os.getpid()
try:
    asyncio.run(main())
except BaseException as exc:
    if os.getpid() == parent:
        raise
if os.getpid() != parent:
    asyncio._set_running_loop(None)
    asyncio.run(again())
"""


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False)


@pytest.mark.realtime
def test_a_program_ends_at_once_without_stop(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(ENDS, tmp_path)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert time.monotonic() - began < 10


@pytest.mark.realtime
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork()")
def test_a_forked_process_has_a_thread_of_its_own(tmp_path: Path) -> None:
    done = run(FORKS, tmp_path)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
