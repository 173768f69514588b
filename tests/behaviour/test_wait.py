"""``wait()``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from behaviour.tasks import job
from kaiju_app.errors import KaijuError, SelfWait
from kaiju_app.scheduler import ExecPolicy, Outcome, Reason, Scheduler
from support.reading import at, endings
from support.virtual import VirtualLoop


async def test_wait_returns_the_run_in_progress_when_it_ends(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,))
    async with scheduler:
        await asyncio.sleep(2)
        run = await task.wait()

        assert loop.time() == 5 + 7
        assert run == task.last_run
        assert run is not None
        assert (run.outcome, at(run.scheduled_at)) == (Outcome.SUCCEEDED, 0)


async def test_wait_returns_none_at_once_if_nothing_runs(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(job, 10)
    assert await task.wait() is None
    async with scheduler:
        assert await task.wait() is None
        await asyncio.sleep(1)
        assert await task.wait() is None
        assert loop.time() == 5 + 1


async def test_wait_is_about_the_run_at_the_call_and_not_about_later_ones(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        run = await task.wait()

        assert run is not None
        assert (at(run.scheduled_at), at(run.finished_at)) == (0, 15)


@pytest.mark.parametrize("ending", ["fails", "cancelled", "stopped"])
async def test_wait_returns_the_run_however_it_ends(scheduler: Scheduler, ending: str) -> None:
    async def body() -> None:
        await asyncio.sleep(5)
        raise ValueError("no luck")

    task = scheduler.schedule_task(body, 10)
    await scheduler.start()
    await asyncio.sleep(1)
    waiting = asyncio.create_task(task.wait())
    await asyncio.sleep(1)
    if ending == "cancelled":
        task.cancel("enough")
    elif ending == "stopped":
        await scheduler.stop()
    run = await waiting
    await scheduler.stop()

    assert run is not None
    assert (run.outcome.value, run.reason, run.error) == {
        "fails": ("FAILED", None, "ValueError: no luck"),
        "cancelled": ("CANCELLED", Reason.REQUESTED, "enough"),
        "stopped": ("CANCELLED", Reason.SHUTDOWN, None),
    }[ending]


async def test_many_may_wait_and_one_that_gives_up_disturbs_nobody(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,))
    async with scheduler:
        await asyncio.sleep(1)
        waiters = [asyncio.create_task(task.wait()) for _ in range(3)]
        await asyncio.sleep(1)
        waiters[1].cancel()
        runs = await asyncio.gather(*waiters, return_exceptions=True)

        assert isinstance(runs[1], asyncio.CancelledError)
        assert runs[0] == runs[2] == task.last_run
        assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_waiting_for_its_own_run_is_refused(scheduler: Scheduler) -> None:
    async def body() -> None:
        await task.wait()

    task = scheduler.schedule_task(body, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(1)

        assert task.last_run is not None
        assert task.last_run.error == (
            "SelfWait: task 'mine': wait() in its own run would wait for itself; call it from another asyncio task"
        )
        assert issubclass(SelfWait, RuntimeError)
        assert issubclass(SelfWait, KaijuError)


async def test_waiting_for_its_own_run_in_a_child_task_is_refused(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.create_task(task.wait())

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(1)

        assert task.last_run is not None
        assert (task.last_run.error or "").startswith("SelfWait: ")


async def test_a_run_may_wait_for_another_task(scheduler: Scheduler) -> None:
    async def body() -> Any:
        return await other.wait()

    other = scheduler.schedule_task(asyncio.sleep, 100, (7,))
    task = scheduler.schedule_task(body, 100)
    async with scheduler:
        await asyncio.sleep(8)

        assert task.result == other.last_run
