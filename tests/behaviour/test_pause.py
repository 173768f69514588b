"""``pause()`` and ``resume()``: an operator's hold."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from behaviour.tasks import job, starts
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Scheduler
from support.reading import endings
from support.virtual import VirtualLoop


async def test_a_paused_task_does_not_run_until_it_is_resumed(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        await task.pause("maintenance")
        assert task.suspended
        await asyncio.sleep(28)
        assert starts(task) == [0]
        await task.resume()
        assert not task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0, 33]


async def test_pausing_lets_the_run_in_progress_go_on(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,))
    async with scheduler:
        await asyncio.sleep(2)
        await task.pause()
        assert loop.time() == 5 + 2
        await asyncio.sleep(10)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_pause_for_a_time_ends_by_itself(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        await task.pause(for_s=17)
        await asyncio.sleep(16.9)
        assert task.suspended
        assert starts(task) == [0]
        await asyncio.sleep(0.2)
        assert not task.suspended

        assert starts(task) == [0, 22]


async def test_a_pause_may_be_given_as_a_timedelta(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await task.pause(for_s=timedelta(minutes=1))
        await asyncio.sleep(59)
        assert task.suspended
        await asyncio.sleep(2)
        assert not task.suspended


async def test_resuming_ends_a_pause_before_its_time(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        await task.pause(for_s=3600)
        await task.resume()
        await asyncio.sleep(6)

        assert starts(task) == [0, 10]


async def test_pausing_again_replaces_reason_and_end(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        await task.pause("short", for_s=10)
        await task.pause("long", for_s=100)
        assert [hold["reason"] for hold in task.json_repr()["holds"]] == ["long"]  # type: ignore[attr-defined]
        await asyncio.sleep(50)
        assert task.suspended
        await asyncio.sleep(51)
        assert not task.suspended
        await task.pause("short", for_s=10)
        await task.pause("for good")
        await asyncio.sleep(1000)
        assert task.suspended
        await task.resume()
        assert not task.suspended


async def test_resuming_what_is_not_paused_is_harmless(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await task.resume()
        async with task.suspend():
            await task.resume()
            assert task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0]


async def test_a_pause_outlives_stop_and_start(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    await task.pause()
    async with scheduler:
        await asyncio.sleep(15)
    async with scheduler:
        await asyncio.sleep(13)
        assert task.suspended
        assert starts(task) == []
        await task.resume()
        await asyncio.sleep(1)

        assert starts(task) == [28]


async def test_a_pause_for_a_time_outlives_stop_and_start_and_ends_at_its_time(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        await task.pause(for_s=30)
    await asyncio.sleep(10)
    async with scheduler:  # at 15
        await asyncio.sleep(19.9)
        assert task.suspended
        assert starts(task) == [0]
        await asyncio.sleep(0.2)
        assert not task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0, 35]


async def test_a_pause_whose_time_is_over_before_the_next_start_holds_nothing(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        await task.pause(for_s=30)
    await asyncio.sleep(100)
    async with scheduler:  # at 105
        await asyncio.sleep(1)

        assert not task.suspended
        assert starts(task) == [0, 105]


async def test_a_pause_whose_time_is_over_is_not_told_while_stopped_either(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    await task.pause(for_s=30)
    await asyncio.sleep(100)

    assert not task.suspended
    assert task.json_repr()["holds"] == []


@pytest.mark.parametrize("for_s", [0, -1, True, "60", float("nan"), float("inf"), timedelta()])
async def test_a_pause_for_no_time_is_refused(scheduler: Scheduler, for_s: Any) -> None:
    task = scheduler.schedule_task(job, 10)

    with pytest.raises(InvalidArgument, match="for_s must be ") as caught:
        await task.pause(for_s=for_s)

    assert caught.value.argument == "for_s"
    assert not task.suspended
