"""``enable()`` and ``disable()``."""

from __future__ import annotations

import asyncio

import pytest

from behaviour.tasks import counted, job, starts
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Missed, Scheduler
from support.reading import at, endings


async def test_a_disabled_task_does_not_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.disable()
    async with scheduler:
        await asyncio.sleep(3600)

        assert not task.enabled
        assert task.last_run is None


async def test_enabling_continues_the_grid_without_catching_up(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(12)
        task.disable()
        await asyncio.sleep(31)
        task.enable()
        await asyncio.sleep(10)

        assert endings(task.history()) == [
            ("SUCCEEDED", None, 1),
            ("SUCCEEDED", None, 1),
            ("SKIPPED", "disabled", 3),
            ("SUCCEEDED", None, 1),
        ]
        assert starts(task) == [0, 10, 50]


@pytest.mark.parametrize("missed", list(Missed))
async def test_ticks_of_a_disabled_task_never_run_whatever_the_rule(scheduler: Scheduler, missed: Missed) -> None:
    task = scheduler.schedule_task(job, 10, missed=missed)
    async with scheduler:
        await asyncio.sleep(5)
        task.disable()
        await asyncio.sleep(36)
        task.enable()
        await asyncio.sleep(5)

        assert endings(task.history()) == [("SUCCEEDED", None, 1), ("SKIPPED", "disabled", 4)]


async def test_enabling_brings_no_new_first_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.disable()
    async with scheduler:
        await asyncio.sleep(4)
        task.enable()
        await asyncio.sleep(10)

        assert endings(task.history()) == [("SKIPPED", "disabled", 1), ("SUCCEEDED", None, 1)]
        assert starts(task) == [10]


async def test_enabling_an_extra_first_run_of_a_trigger_does_not_bring_it_back(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, trigger=Every(60), first_run=FirstRun.NOW)
    task.disable()
    async with scheduler:
        await asyncio.sleep(4)
        task.enable()
        await asyncio.sleep(60)

        assert starts(task) == [55]


async def test_a_task_disabled_and_enabled_before_its_first_run_has_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.disable()
    task.enable()
    async with scheduler:
        await asyncio.sleep(1)

        assert starts(task) == [0]


async def test_a_first_tick_that_is_due_when_the_task_is_disabled_is_dropped(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        task.disable()
        task.enable()
        await asyncio.sleep(11)

        assert endings(task.history()) == [("SKIPPED", "disabled", 1), ("SUCCEEDED", None, 1)]
        assert starts(task) == [10]


async def test_disabling_and_enabling_twice_is_as_once(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        task.enable()
        await asyncio.sleep(5)
        task.disable()
        task.disable()
        await asyncio.sleep(10)
        task.enable()
        task.enable()
        await asyncio.sleep(10)

        assert starts(task) == [0, 20]


async def test_a_task_stays_disabled_over_stop_and_start(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        task.disable()
    async with scheduler:
        await asyncio.sleep(100)

    assert not task.enabled
    assert starts(task) == [0]


async def test_disabling_lets_the_run_go_on_with_its_retries(scheduler: Scheduler) -> None:
    calls: list[int] = []

    async def body() -> None:
        await asyncio.sleep(1)
        if await counted(calls) < 3:
            raise OSError

    task = scheduler.schedule_task(body, 100, retries=2, retry_interval_s=5)
    async with scheduler:
        await asyncio.sleep(0.5)
        task.disable()
        await asyncio.sleep(50)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        assert [run.attempts for run in task.history()] == [3]


async def test_disabling_drops_the_tick_that_waits_with_a_record(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        task.disable()
        assert endings(task.history()) == [("SKIPPED", "disabled", 1)]
        assert [at(run.scheduled_at) for run in task.history()] == [10]
        await asyncio.sleep(10)

        assert endings(task.history()) == [("SKIPPED", "disabled", 1), ("SUCCEEDED", None, 1)]


async def test_a_tick_dropped_by_disabling_does_not_come_back_by_enabling(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        task.disable()
        task.enable()
        await asyncio.sleep(15)

        assert starts(task) == [0]
        assert task.running
        assert at(task.next_run_at) == 30
