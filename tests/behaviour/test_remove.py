"""``remove()``."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from behaviour.tasks import job, starts, suspend
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import ExecPolicy, Reason, ScheduledTask, Scheduler
from support.reading import endings


async def test_a_removed_task_does_not_run_any_more(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(15)
        task.remove()
        assert dict(scheduler.tasks) == {}
        await asyncio.sleep(100)

        assert starts(task) == [0, 10]


async def test_a_task_removed_before_start_never_runs(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.remove()
    async with scheduler:
        await asyncio.sleep(100)

    assert task.last_run is None


async def test_the_run_of_a_removed_task_goes_on_and_then_the_name_is_free(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,), name="mine")
    async with scheduler:
        await asyncio.sleep(5)
        task.remove()
        assert task.running
        with pytest.raises(InvalidArgument, match="name must be unique"):
            scheduler.schedule_task(job, 10, name="mine")
        await asyncio.sleep(3)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        other = scheduler.schedule_task(job, 10, name="mine")
        await asyncio.sleep(1)
        assert (starts(task), starts(other)) == ([0], [8])


@pytest.mark.parametrize(
    ("policy", "ending"),
    [(ExecPolicy.SHIELD, ("SUCCEEDED", None, 20.0)), (ExecPolicy.WAIT, ("CANCELLED", Reason.SHUTDOWN, 7.0))],
)
async def test_the_run_of_a_removed_task_is_still_awaited_by_stop(
    scheduler: Scheduler, policy: ExecPolicy, ending: tuple[str, Reason | None, float]
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (20,), policy=policy)
    async with scheduler:
        await asyncio.sleep(5)
        task.remove()
        await asyncio.sleep(2)

    (run,) = task.history()
    assert (run.outcome.value, run.reason, run.duration_s) == ending
    assert dict(scheduler.tasks) == {}


@pytest.mark.parametrize(
    ("policy", "ending"),
    [(ExecPolicy.CANCEL, ("CANCELLED", "replaced", 10.0)), (ExecPolicy.WAIT, ("TIMED_OUT", "deadline", 30.0))],
)
async def test_the_run_of_a_removed_task_keeps_its_deadline(
    scheduler: Scheduler, policy: ExecPolicy, ending: tuple[str, str, float]
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=policy)
    async with scheduler:
        await asyncio.sleep(5)
        task.remove()
        await asyncio.sleep(100)

        (run,) = task.history()
        assert (run.outcome.value, run.reason, run.duration_s) == ending


async def test_removing_drops_the_tick_that_waits_with_a_record(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        task.remove()
        await asyncio.sleep(100)

        assert endings(task.history()) == [("SKIPPED", "removed", 1), ("SUCCEEDED", None, 1)]


async def test_a_run_may_remove_its_own_task(scheduler: Scheduler) -> None:
    async def body() -> None:
        task.remove()
        await asyncio.sleep(1)

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(100)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        assert dict(scheduler.tasks) == {}


def test_removing_twice_does_not_remove_the_task_that_took_the_name(door: Scheduler) -> None:
    task = door.schedule_task(job, 10, name="mine")
    task.remove()
    other = door.schedule_task(job, 10, name="mine")
    task.remove()

    assert dict(door.tasks) == {"mine": other}


async def change_nothing(task: ScheduledTask[Any]) -> None:
    pass


async def disable_and_enable(task: ScheduledTask[Any]) -> None:
    task.disable()
    await asyncio.sleep(1)
    task.enable()


async def pause_for_a_while(task: ScheduledTask[Any]) -> None:
    await task.pause(for_s=15)


@pytest.mark.parametrize("change", [change_nothing, disable_and_enable, suspend, pause_for_a_while])
async def test_nothing_brings_a_removed_task_back(scheduler: Scheduler, change: Callable[..., Any]) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        task.remove()
        await change(task)
        await asyncio.sleep(100)

        assert starts(task) == [0]
        assert task.next_run_at is None


async def test_enabling_a_task_that_was_disabled_when_it_was_removed_does_not_bring_it_back(
    scheduler: Scheduler,
) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        task.disable()
        task.remove()
        task.enable()
        await asyncio.sleep(100)

        assert starts(task) == [0]


@pytest.mark.parametrize("hold", ["suspend", "pause"])
async def test_a_task_removed_while_held_does_not_come_back_with_the_end_of_the_hold(
    scheduler: Scheduler, hold: str
) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        if hold == "suspend":
            async with task.suspend():
                await asyncio.sleep(10)
                task.remove()
        else:
            await task.pause(for_s=15)
            await asyncio.sleep(10)
            task.remove()
        await asyncio.sleep(100)

        assert endings(task.history()) == [("SUCCEEDED", None, 1), ("SKIPPED", "suspended", 1)]


@pytest.mark.parametrize("last_run", ["SUCCEEDED", "FAILED"])
async def test_nothing_is_left_of_a_removed_task(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, last_run: str
) -> None:
    """Tasks that come and go must not leak memory, not even if their last run fails."""
    monkeypatch.setattr("kaiju_app._engine.events.log.disabled", True)  # pytest keeps log records with their frames.

    def register() -> tuple[ScheduledTask[Any], Callable[..., Any]]:
        async def body() -> None:
            await asyncio.sleep(7)
            if last_run == "FAILED":
                raise ValueError

        return scheduler.schedule_task(body, 10), body

    task, body = register()
    gone = weakref.ref(body)
    async with scheduler:
        await asyncio.sleep(5)
        task.remove()
        await asyncio.sleep(100)
        assert endings(task.history()) == [(last_run, None, 1)]
        del task, body
        gc.collect()

        assert gone() is None
