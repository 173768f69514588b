"""``cancel()``."""

from __future__ import annotations

import asyncio

import pytest

from behaviour.tasks import counted, job
from kaiju_app.errors import WrongState
from kaiju_app.scheduler import ExecPolicy, FirstRun, Outcome, Reason, Scheduler
from support.reading import at, endings


@pytest.mark.parametrize("policy", [ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_cancel_asks_the_run_to_end_and_keeps_the_reason(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,), policy=policy)
    async with scheduler:
        await asyncio.sleep(2)
        assert task.cancel("wrong day") is True
        await asyncio.sleep(1)
        (run,) = task.history()
        assert (run.outcome, run.reason, run.error) == (Outcome.CANCELLED, Reason.REQUESTED, "wrong day")
        assert run.duration_s == 2
        await asyncio.sleep(10)

        assert task.running


async def test_cancel_without_a_run_says_so(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    assert task.cancel("too early") is False
    async with scheduler:
        assert task.cancel("too early") is False
        await asyncio.sleep(1)
        assert task.cancel("too late") is False

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_of_two_reasons_to_cancel_the_first_stands(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,))
    async with scheduler:
        await asyncio.sleep(2)
        assert [task.cancel("first"), task.cancel("second")] == [True, False]
        run = await task.wait()

        assert run is not None
        assert run.error == "first"


async def test_a_shielded_run_refuses_to_be_cancelled(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,), policy=ExecPolicy.SHIELD, name="mine")
    async with scheduler:
        await asyncio.sleep(2)
        with pytest.raises(WrongState) as caught:
            task.cancel("wrong day")

        assert str(caught.value) == ("task 'mine': a SHIELD run cannot be cancelled; let it end, or use another policy")
        assert isinstance(caught.value, RuntimeError)
        await asyncio.sleep(6)
        assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_cancelled_run_is_not_tried_again(scheduler: Scheduler) -> None:
    calls: list[int] = []

    async def body() -> None:
        await counted(calls)
        try:
            await asyncio.sleep(5)
        finally:
            raise OSError("while cleaning up")

    task = scheduler.schedule_task(body, 100, retries=5, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(2)
        task.cancel("enough")
        await asyncio.sleep(50)

        assert calls == [0]
        (run,) = task.history()
        assert (run.outcome, run.reason, run.error) == (Outcome.CANCELLED, Reason.REQUESTED, "enough")


async def test_cancel_ends_the_pause_before_a_retry(scheduler: Scheduler) -> None:
    async def body() -> None:
        raise OSError("away")

    task = scheduler.schedule_task(body, 100, retries=5, retry_interval_s=10)
    async with scheduler:
        await asyncio.sleep(13)
        assert task.cancel("enough") is True
        await asyncio.sleep(1)

        (run,) = task.history()
        assert (run.outcome, run.reason, run.attempts, run.duration_s) == (
            Outcome.CANCELLED,
            Reason.REQUESTED,
            2,
            13,
        )


async def test_a_run_may_cancel_itself(scheduler: Scheduler) -> None:
    after = False

    async def body() -> None:
        nonlocal after
        assert task.cancel("nothing to do") is True
        await asyncio.sleep(1)
        after = True

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(5)

        (run,) = task.history()
        assert (run.outcome, run.reason, run.error) == (Outcome.CANCELLED, Reason.REQUESTED, "nothing to do")
        assert not after


async def test_a_run_cancelled_before_its_first_step_calls_nothing(scheduler: Scheduler) -> None:
    calls: list[int] = []
    task = scheduler.schedule_task(counted, 10, (calls,), first_run=FirstRun.NEXT)
    async with scheduler:
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(0)
        cancelled = task.cancel("changed my mind")
        run = await asking

        assert (run.outcome is Outcome.CANCELLED, calls == []) == (cancelled, cancelled)


async def test_a_tick_comes_after_a_cancelled_run_as_ever(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        task.cancel("too long")
        await asyncio.sleep(1)

        assert task.running
        assert [at(run.finished_at) for run in task.history()] == [12]
