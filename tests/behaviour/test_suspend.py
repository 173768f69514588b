"""``suspend()``: suspended means quiet."""

from __future__ import annotations

import asyncio

import pytest

from behaviour.tasks import job, starts
from kaiju_app.scheduler import ExecPolicy, Missed, Outcome, Scheduler
from support.reading import ZERO, at, endings
from support.virtual import VirtualLoop


async def test_a_suspended_task_does_not_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        async with task.suspend("maintenance"):
            assert task.suspended
            await asyncio.sleep(3600)
            assert starts(task) == [0]
        assert not task.suspended


async def test_suspend_waits_for_the_run_in_progress(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,))
    async with scheduler:
        await asyncio.sleep(2)
        async with task.suspend():
            assert loop.time() == 5 + 7
            assert not task.running
            assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_suspend_holds_from_its_entry_on(scheduler: Scheduler) -> None:
    """A tick that comes due while it waits for the run in progress does not start afterwards."""
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        async with task.suspend():
            await asyncio.sleep(2)
            assert task.suspended
            assert starts(task) == [0]
        await asyncio.sleep(0.5)

        assert task.running
        assert starts(task) == [0]


async def test_a_suspension_waiting_for_a_run_is_a_hold_already(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (7,))
    async with scheduler:
        await asyncio.sleep(2)
        suspension = task.suspend()
        entering = asyncio.create_task(suspension.__aenter__())
        await asyncio.sleep(0)
        assert (task.suspended, task.running) == (True, True)
        await entering
        await suspension.__aexit__(None, None, None)
        assert not task.suspended


@pytest.mark.parametrize(
    ("missed", "until", "expected"),
    [
        (Missed.ONCE, 33, [0, 33, 40]),
        (Missed.ONCE, 37, [0, 40]),
        (Missed.SKIP, 30.5, [0, 30.5, 40]),
        (Missed.SKIP, 33, [0, 40]),
        (Missed.ALL, 33, [0, 33, 33, 33, 40]),
    ],
)
async def test_ticks_while_suspended_follow_the_rule_for_missed_ones(
    scheduler: Scheduler, missed: Missed, until: float, expected: list[float]
) -> None:
    task = scheduler.schedule_task(job, 10, missed=missed)
    async with scheduler:
        await asyncio.sleep(5)
        async with task.suspend():
            await asyncio.sleep(until - 5)
        await asyncio.sleep(41 - until)

        assert starts(task) == expected
        assert sum(run.count for run in task.history()) == 5


async def test_ticks_that_a_suspension_cost_are_recorded_as_such(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        async with task.suspend():
            await asyncio.sleep(28)
        await asyncio.sleep(1)

        assert endings(task.history()) == [
            ("SUCCEEDED", None, 1),
            ("SKIPPED", "suspended", 2),
            ("SUCCEEDED", None, 1),
        ]
        assert [at(run.scheduled_at) for run in task.history()] == [0, 10, 30]


async def test_a_suspension_without_a_tick_changes_nothing(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1)
        for _ in range(3):
            async with task.suspend():
                await asyncio.sleep(2)
        await asyncio.sleep(10)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 2
        assert starts(task) == [0, 10]


async def test_suspensions_nest(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        async with task.suspend("outer"):
            async with task.suspend("inner"):
                await asyncio.sleep(10)
            assert task.suspended
            await asyncio.sleep(8)
            assert starts(task) == [0]
        assert not task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0, 23]


async def test_suspensions_overlap_in_any_order(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        first, second = task.suspend("first"), task.suspend("second")
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        await asyncio.sleep(6)
        assert task.suspended
        assert starts(task) == [0]
        await second.__aexit__(None, None, None)
        assert not task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0, 11]


async def test_one_suspension_may_be_entered_by_many_at_a_time(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    suspension = task.suspend()

    async def user(seconds: float) -> None:
        async with suspension:
            await asyncio.sleep(seconds)

    async with scheduler:
        await asyncio.sleep(5)
        users = [asyncio.create_task(user(seconds)) for seconds in (6, 1, 3)]
        await asyncio.sleep(5.5)
        assert [user.done() for user in users] == [False, True, True]
        assert task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0, 11]


async def test_whoever_leaves_a_suspension_that_many_are_inside_of_ends_their_own_hold(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 3600)
    suspension = task.suspend()

    async def inside(seconds: float) -> None:
        async with suspension:
            await asyncio.sleep(seconds)

    async with scheduler, asyncio.TaskGroup() as group:
        await asyncio.sleep(1)
        group.create_task(inside(1), name="first")
        group.create_task(inside(3), name="second")
        await asyncio.sleep(2)

        assert [hold["holder"] for hold in task.json_repr()["holds"]] == ["suspend() in second"]  # type: ignore[attr-defined]


async def test_a_disabled_task_stays_disabled_after_suspend(scheduler: Scheduler) -> None:
    """Leaving ``suspend()`` restores the previous state instead of always enabling the task."""
    task = scheduler.schedule_task(job, 10)
    task.disable()
    async with scheduler:
        async with task.suspend():
            await asyncio.sleep(1)
        await asyncio.sleep(3600)

        assert not task.enabled
        assert task.last_run is None


async def test_a_paused_task_stays_paused_after_suspend(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    await task.pause()
    async with scheduler:
        async with task.suspend():
            await asyncio.sleep(1)
        await asyncio.sleep(3600)

        assert task.suspended
        assert task.last_run is None


async def test_a_task_enabled_while_suspended_runs_when_that_is_over(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.disable()
    async with scheduler:
        async with task.suspend():
            await asyncio.sleep(5)
            task.enable()
            await asyncio.sleep(8)
            assert starts(task) == []
        await asyncio.sleep(1)

        assert endings(task.history()) == [("SKIPPED", "disabled", 1), ("SUCCEEDED", None, 1)]
        assert starts(task) == [13]


async def test_an_error_inside_a_suspension_ends_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        with pytest.raises(ZeroDivisionError):
            async with task.suspend():
                raise ZeroDivisionError
        assert not task.suspended
        await asyncio.sleep(1)

        assert starts(task) == [0]


async def test_cancelling_a_suspension_that_still_waits_releases_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (50,))
    entered = False

    async def user() -> None:
        nonlocal entered
        async with task.suspend():
            entered = True

    async with scheduler:
        await asyncio.sleep(1)
        waiting = asyncio.create_task(user())
        await asyncio.sleep(1)
        assert task.suspended
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (task.suspended, task.running, entered) == (False, True, False)
        await asyncio.sleep(100)

        assert starts(task) == [0]
        assert task.running


async def test_a_time_limit_around_a_suspension_that_waits_releases_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (50,))
    async with scheduler:
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10), task.suspend():
                pytest.fail("it was entered although the run went on")

        assert (task.suspended, task.running) == (False, True)


async def test_of_two_suspensions_that_wait_one_is_cancelled_and_the_other_holds(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (50,))
    async with scheduler:
        await asyncio.sleep(1)
        first = asyncio.create_task(task.suspend().__aenter__())
        second = asyncio.create_task(task.suspend().__aenter__())
        await asyncio.sleep(1)
        first.cancel()
        await second
        assert task.suspended
        await asyncio.sleep(500)

        assert starts(task) == [0]


async def test_a_run_may_suspend_its_own_task_and_does_not_wait_for_itself(scheduler: Scheduler) -> None:
    async def body() -> None:
        async with task.suspend():
            await asyncio.sleep(25)

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(26)

        assert starts(task)[:1] == [0]
        assert [at(run.finished_at) for run in task.history() if run.outcome is Outcome.SUCCEEDED] == [25]


async def test_the_ticks_after_a_run_that_suspended_its_task_are_held(scheduler: Scheduler) -> None:
    suspension = None

    async def body() -> None:
        nonlocal suspension
        if suspension is None:
            suspension = task.suspend()
            await suspension.__aenter__()

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(34)
        assert starts(task) == [0]
        assert suspension is not None
        await suspension.__aexit__(None, None, None)
        await asyncio.sleep(1)

        assert starts(task) == [0, 34]


async def test_a_child_task_of_a_run_is_inside_that_run(scheduler: Scheduler, loop: VirtualLoop) -> None:
    entered: list[float] = []

    async def child() -> None:
        async with task.suspend():
            entered.append(loop.time() - 5)

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        await asyncio.sleep(3)

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(1)

        assert entered == [0]


async def test_a_child_task_that_outlives_its_run_waits_for_the_next_one_like_anybody(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    entered: list[float] = []
    children = []

    async def child() -> None:
        await asyncio.sleep(12)
        async with task.suspend():
            entered.append(loop.time() - 5)

    async def body() -> None:
        if not children:
            children.append(asyncio.create_task(child()))
        await asyncio.sleep(4)

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(19)

        assert entered == [14]


async def test_a_run_of_another_task_waits_when_it_suspends(scheduler: Scheduler, loop: VirtualLoop) -> None:
    entered: list[float] = []

    async def body() -> None:
        async with task.suspend():
            entered.append(loop.time() - 5)

    task = scheduler.schedule_task(asyncio.sleep, 100, (7,))
    scheduler.schedule_task(body, 100)
    async with scheduler:
        await asyncio.sleep(8)

        assert entered == [7]


async def test_a_suspension_that_waits_for_long_says_who_waits_for_whom(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 1000, (70,), name="report")
    async with scheduler:
        await asyncio.sleep(1)
        entering = asyncio.create_task(task.suspend("migration").__aenter__(), name="deploy")
        await asyncio.sleep(29.5)
        assert caplog.messages == []
        await asyncio.sleep(1)
        (message,) = caplog.messages
        assert message.startswith(
            "suspend() in deploy (migration) has waited 30 s for the run of task 'report', tick "
            f"{ZERO.isoformat()}, which began 31 s ago and is at:\n"
        )
        assert "in sleep" in message
        await asyncio.sleep(30)
        assert [" has waited 60 s " in line for line in caplog.messages] == [False, True]
        await entering
        await asyncio.sleep(100)

        assert len(caplog.messages) == 2


async def test_the_log_says_so_if_it_is_a_run_that_waits_for_another(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with task.suspend():
            pass

    task = scheduler.schedule_task(asyncio.sleep, 1000, (50,), name="report")
    scheduler.schedule_task(body, 1000, name="cleaner")
    async with scheduler:
        await asyncio.sleep(31)

        assert [line.partition(",")[0] for line in caplog.messages] == [
            "suspend() in the run of task 'cleaner' has waited 30 s for the run of task 'report'"
        ]
