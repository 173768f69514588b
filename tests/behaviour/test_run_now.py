"""``run_now()``."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from behaviour.tasks import counted, job, starts
from kaiju_app.errors import TaskBusy, TaskSuspended, WrongState
from kaiju_app.scheduler import ExecPolicy, FirstRun, Outcome, Reason, Run, Scheduler
from support.reading import at, endings


@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_run_now_runs_one_extra_tick_and_leaves_the_grid_alone(
    scheduler: Scheduler, policy: ExecPolicy, reported: list[Run]
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,), policy=policy)
    async with scheduler:
        await asyncio.sleep(3)
        run = await task.run_now()

        assert run.manual
        assert (run.outcome, run.attempts) == (Outcome.SUCCEEDED, 1)
        assert (at(run.scheduled_at), at(run.started_at), at(run.finished_at)) == (3, 3, 4)
        assert run == task.last_run == reported[-1]
        await asyncio.sleep(18)
        assert starts(task) == [0, 3, 10, 20]
        assert [run.manual for run in task.history()] == [False, True, False, False]


async def test_run_now_returns_the_run_of_a_function_that_never_waits(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, (1,), first_run=FirstRun.NEXT)
    async with scheduler:
        run = await task.run_now()

        assert (run.outcome, task.result) == (Outcome.SUCCEEDED, 1)


async def test_run_now_returns_a_failure_instead_of_raising_it(scheduler: Scheduler) -> None:
    async def body() -> None:
        raise ValueError("no luck")

    task = scheduler.schedule_task(body, 10, first_run=FirstRun.NEXT)
    async with scheduler:
        run = await task.run_now()

        assert (run.outcome, run.error) == (Outcome.FAILED, "ValueError: no luck")


async def test_run_now_under_cancel_replaces_the_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (5,))
    async with scheduler:
        await asyncio.sleep(3)
        run = await task.run_now()

        assert endings(task.history()) == [("CANCELLED", "replaced", 1), ("SUCCEEDED", None, 1)]
        assert (at(run.started_at), at(run.finished_at)) == (3, 8)


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SHIELD])
async def test_run_now_under_wait_comes_after_the_run(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (5,), policy=policy)
    async with scheduler:
        await asyncio.sleep(3)
        run = await task.run_now()

        assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 2
        assert (at(run.scheduled_at), at(run.started_at), at(run.finished_at)) == (3, 5, 10)
        assert run.lateness_s == 2


async def test_run_now_under_skip_raises_during_a_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (5,), policy=ExecPolicy.SKIP, name="mine")
    async with scheduler:
        await asyncio.sleep(3)
        with pytest.raises(TaskBusy) as caught:
            await task.run_now()

        assert str(caught.value) == (
            "task 'mine' is busy: a run is in progress and the policy is SKIP; await task.wait() first"
        )
        assert isinstance(caught.value, RuntimeError)
        await task.wait()
        assert (await task.run_now()).outcome is Outcome.SUCCEEDED


async def test_run_now_takes_the_place_of_a_tick_that_waits(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(0)
        assert endings(task.history()) == [("SKIPPED", "overlap", 1)]
        run = await asking

        assert (run.manual, at(run.started_at)) == (True, 15)


async def test_a_tick_does_not_take_the_place_of_a_run_now_that_waits(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(8)
        run = await task.run_now()

        assert (at(run.scheduled_at), at(run.started_at)) == (8, 15)
        assert endings(task.history())[0] == ("SKIPPED", "overlap", 1)
        assert at(task.history()[0].scheduled_at) == 10


async def test_asking_twice_while_one_waits_raises(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), policy=ExecPolicy.WAIT, name="mine")
    async with scheduler:
        await asyncio.sleep(1)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
        with pytest.raises(TaskBusy, match="task 'mine' is busy: a run that was requested before"):
            await task.run_now()
        assert (await asking).outcome is Outcome.SUCCEEDED

        assert starts(task) == [0, 5]


async def test_a_run_now_that_nobody_awaits_any_more_still_comes(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(1)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.sleep(10)

        assert starts(task) == [0, 5]


async def test_giving_up_a_run_now_in_progress_does_not_cancel_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), first_run=FirstRun.NEXT)
    async with scheduler:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await task.run_now()
        await asyncio.sleep(10)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_disabled_task_runs_if_asked(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.disable()
    async with scheduler:
        await asyncio.sleep(13)
        run = await task.run_now()
        await asyncio.sleep(100)

        assert (run.manual, run.outcome) == (True, Outcome.SUCCEEDED)
        assert starts(task) == [13]
        assert not task.enabled


async def test_a_run_now_that_waits_is_not_dropped_by_disabling(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(1)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
        task.disable()

        assert at((await asking).started_at) == 5


async def test_a_run_now_that_waits_is_kept_back_by_a_suspension(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(1)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
        async with task.suspend():
            await asyncio.sleep(20)
            assert starts(task) == [0]

        assert at((await asking).started_at) == 25


@pytest.mark.parametrize("hold", ["suspend", "pause", "suspend all"])
async def test_a_held_task_does_not_run_now_and_says_who_holds_it(scheduler: Scheduler, hold: str) -> None:
    task = scheduler.schedule_task(job, 10, name="mine")
    async with scheduler, contextlib.AsyncExitStack() as stack:
        if hold == "pause":
            await task.pause("migration")
        else:
            holds = task if hold == "suspend" else scheduler
            await stack.enter_async_context(holds.suspend("migration"))
        with pytest.raises(TaskSuspended) as caught:
            await task.run_now()

        holder = "pause()" if hold == "pause" else f"suspend() in {asyncio.current_task().get_name()}"  # type: ignore[union-attr]
        assert str(caught.value) == (
            f"task 'mine' is suspended by {holder} (migration); leave the suspension or await task.resume() first"
        )
        assert isinstance(caught.value, RuntimeError)
        assert task.last_run is None


async def test_a_task_held_by_many_names_them_all(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="mine")
    async with scheduler:
        await task.pause("lunch")
        async with scheduler.suspend("deploy"), task.suspend():
            with pytest.raises(
                TaskSuspended, match=r"pause\(\) \(lunch\), suspend\(\) in .*, suspend\(\) in .* \(deploy\)"
            ):
                await task.run_now()


@pytest.mark.parametrize("when", ["before start", "after stop", "removed"])
async def test_a_task_does_not_run_now_while_stopped_or_removed(scheduler: Scheduler, when: str) -> None:
    task = scheduler.schedule_task(job, 10, name="mine")
    if when != "before start":
        await scheduler.start()
    if when == "removed":
        task.remove()
    if when == "after stop":
        await scheduler.stop()

    why = "it was removed; schedule it again" if when == "removed" else "the scheduler is not started; await"
    with pytest.raises(WrongState, match=f"task 'mine' cannot run now: {why}") as caught:
        await task.run_now()

    assert isinstance(caught.value, RuntimeError)
    await scheduler.stop()


@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_run_now_from_its_own_run_is_refused(scheduler: Scheduler, policy: ExecPolicy) -> None:
    async def body() -> None:
        await task.run_now()

    task = scheduler.schedule_task(body, 10, policy=policy, name="mine")
    async with scheduler:
        await asyncio.sleep(1)

        assert [run.error for run in task.history()] == [
            "SelfWait: task 'mine': run_now() in its own run would wait for itself; call it from another asyncio task"
        ]


async def test_a_run_may_run_another_task_now(scheduler: Scheduler) -> None:
    async def body() -> Run:
        return await other.run_now()

    other = scheduler.schedule_task(asyncio.sleep, 100, (2,), first_run=FirstRun.NEXT)
    task = scheduler.schedule_task(body, 100)
    async with scheduler:
        await asyncio.sleep(3)

        assert task.result == other.last_run
        assert task.last_run is not None
        assert task.last_run.duration_s == 2


async def test_a_run_now_that_waits_when_the_scheduler_is_stopped_is_a_skip(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(1)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
    run = await asking

    assert (run.manual, run.outcome, run.reason) == (True, Outcome.SKIPPED, Reason.SHUTDOWN)
    assert (at(run.scheduled_at), run.started_at) == (1, None)
    assert endings(task.history()) == [("SKIPPED", "shutdown", 1), ("SUCCEEDED", None, 1)]


async def test_a_run_now_in_progress_when_the_scheduler_is_stopped_is_cancelled(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), first_run=FirstRun.NEXT)
    async with scheduler:
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
    run = await asking

    assert (run.manual, run.outcome, run.reason) == (True, Outcome.CANCELLED, Reason.SHUTDOWN)


async def test_a_run_now_that_waits_when_its_task_is_removed_is_a_skip(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (5,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(1)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(1)
        task.remove()
        run = await asking

        assert (run.manual, run.outcome, run.reason) == (True, Outcome.SKIPPED, Reason.REMOVED)


@pytest.mark.parametrize(
    ("asked", "ending"),
    [(3, ("CANCELLED", "replaced", 7.0)), (7, ("CANCELLED", "replaced", 13.0))],
)
async def test_a_manual_run_under_cancel_is_spared_by_a_tick_less_than_half_a_gap_away(
    scheduler: Scheduler, asked: float, ending: tuple[str, str, float]
) -> None:
    calls: list[int] = []

    async def body() -> None:
        if await counted(calls) == 2:
            await asyncio.sleep(1000)

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(asked)
        run = await task.run_now()

        assert (run.outcome.value, run.reason, run.duration_s) == ending
        assert [skip.count for skip in task.history() if skip.reason is Reason.OVERLAP] == [1] * (asked == 7)
