"""What one can do with a task: on and off, suspend, pause, wait, run now, cancel, reschedule, remove, look at it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from telling import ZERO, at, endings
from virtual import VirtualLoop

from kaiju_app.errors import InvalidArgument, KaijuError, OwnRun, TaskBusy, TaskHeld, WrongState, WrongThread
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Missed, Outcome, Reason, Run, ScheduledTask, Scheduler


def starts(task: ScheduledTask[Any]) -> list[float | None]:
    """Return when the runs of *task* began, in seconds from the beginning of the test."""
    return [at(run.started_at) for run in task.history() if run.started_at is not None]


async def job(*args: Any) -> int:
    return len(args)


async def counted(calls: list[int]) -> int:
    """Return the number of this call."""
    calls.append(0)
    return len(calls)


@pytest.fixture
def door() -> Scheduler:
    """A scheduler without a loop."""
    return Scheduler()


# --- what it is ---


def test_a_task_tells_how_it_was_scheduled(door: Scheduler) -> None:
    task = door.schedule_task(
        job, 90, (1, 2), {}, policy=ExecPolicy.WAIT, max_timeout_s=60, retries=3, retry_interval_s=2.5, name="mine"
    )

    assert (task.name, task.method, task.args, dict(task.kws)) == ("mine", job, (1, 2), {})
    assert (task.interval_s, task.trigger, task.policy) == (90.0, None, ExecPolicy.WAIT)
    assert (task.max_timeout_s, task.retries, task.retry_interval_s) == (60.0, 3, 2.5)


def test_a_task_tells_its_defaults(door: Scheduler) -> None:
    task = door.schedule_task(job, trigger=Every(90))

    assert (task.args, dict(task.kws)) == ((), {})
    assert (task.interval_s, task.trigger, task.policy) == (90.0, Every(90), ExecPolicy.CANCEL)
    assert (task.max_timeout_s, task.retries, task.retry_interval_s) == (0.0, 0, 0.0)


@pytest.mark.parametrize(
    "attribute",
    ["name", "method", "args", "kws", "interval_s", "trigger", "policy", "enabled", "running", "result", "anything"],
)
def test_what_a_task_tells_cannot_be_set(door: Scheduler, attribute: str) -> None:
    task = door.schedule_task(job, 10)

    with pytest.raises(AttributeError):
        setattr(task, attribute, None)


def test_the_arguments_by_name_are_read_only(door: Scheduler) -> None:
    task = door.schedule_task(asyncio.sleep, 10, (), {"delay": 1})

    with pytest.raises(TypeError):
        task.kws["delay"] = 2  # type: ignore[index]


def test_a_task_that_was_not_run_yet_has_nothing_to_tell(door: Scheduler) -> None:
    task = door.schedule_task(job, 10)

    assert (task.enabled, task.running, task.suspended) == (True, False, False)
    assert (task.next_run_at, task.result, task.last_run, task.history()) == (None, None, None, [])


async def test_running_is_true_from_the_start_of_a_run_to_its_end(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (4,))
    async with scheduler:
        await asyncio.sleep(3)
        assert task.running
        await asyncio.sleep(2)
        assert not task.running


async def test_the_result_is_that_of_the_last_success(scheduler: Scheduler) -> None:
    results = iter([1, 2, None, ValueError("no third")])

    async def body() -> int | None:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    task = scheduler.schedule_task(body, 10)
    seen = []
    async with scheduler:
        for _ in range(4):
            await asyncio.sleep(5)
            seen.append(task.result)
            await asyncio.sleep(5)

    assert seen == [1, 2, None, None]


async def test_a_failure_leaves_the_result_of_the_success_before(scheduler: Scheduler) -> None:
    calls: list[int] = []

    async def body() -> str:
        if await counted(calls) == 2:
            raise ValueError
        return "good"

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(15)

        assert endings(task.history()) == [("SUCCEEDED", None, 1), ("FAILED", None, 1)]
        assert task.result == "good"


async def test_next_run_at_is_the_next_tick(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (4,))
    async with scheduler:
        assert at(task.next_run_at) == 0
        await asyncio.sleep(3)
        assert at(task.next_run_at) == 10
        await asyncio.sleep(10)
        assert at(task.next_run_at) == 20

    assert task.next_run_at is None


async def test_next_run_at_of_a_trigger_is_on_its_grid(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, trigger=Every(60))
    async with scheduler:
        assert at(task.next_run_at) == 55


async def test_nothing_is_next_while_it_may_not_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1)
        task.disable()
        assert task.next_run_at is None
        task.enable()
        assert at(task.next_run_at) == 10
        async with task.suspend():
            assert task.next_run_at is None
        await task.pause()
        assert task.next_run_at is None
        await task.resume()
        assert at(task.next_run_at) == 10
        task.remove()
        assert task.next_run_at is None


async def test_last_run_and_history_agree(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,))
    async with scheduler:
        await asyncio.sleep(25)

        assert [at(run.finished_at) for run in task.history()] == [1, 11, 21]
        assert task.last_run == task.history()[-1]


async def test_a_task_runs_iff_started_enabled_and_free_of_holds(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    await asyncio.sleep(15)
    async with scheduler:  # at 15
        await asyncio.sleep(15)
        task.disable()  # at 30
        await asyncio.sleep(10)
        await task.pause()  # at 40
        task.enable()
        await asyncio.sleep(12)
        task.disable()  # at 52
        await task.resume()
        await asyncio.sleep(10)
        task.enable()  # at 62
        await asyncio.sleep(10)
    await asyncio.sleep(100)

    assert starts(task) == [15, 25, 65]


def test_a_task_says_in_its_repr_what_it_is_doing(door: Scheduler) -> None:
    task = door.schedule_task(job, 10, name="mine")

    assert repr(task) == "<ScheduledTask 'mine' CANCEL every 10 s: stopped>"


async def test_the_state_is_told_in_one_word(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,))
    seen = [task.state]
    async with scheduler:
        await asyncio.sleep(0.5)
        seen.append(task.state)
        await asyncio.sleep(1)
        seen.append(task.state)
        async with task.suspend():
            seen.append(task.state)
        await task.pause()
        seen.append(task.state)
        task.disable()
        seen.append(task.state)

    assert seen == ["stopped", "running", "waiting", "suspended", "paused", "disabled"]


# --- enable, disable ---


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


# --- suspend ---


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
    """The tick that comes while it waits for the run in progress does not start after that."""
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


async def test_a_disabled_task_stays_disabled_after_suspend(scheduler: Scheduler) -> None:
    """Leaving ``suspend()`` restores what was, instead of always enabling."""
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


# --- pause, resume ---


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


# --- wait ---


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
            "OwnRun: task 'mine': wait() inside its own run would wait for itself; call it from another task"
        )
        assert issubclass(OwnRun, RuntimeError)
        assert issubclass(OwnRun, KaijuError)


async def test_waiting_for_its_own_run_in_a_child_task_is_refused(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.create_task(task.wait())

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(1)

        assert task.last_run is not None
        assert (task.last_run.error or "").startswith("OwnRun: ")


async def test_a_run_may_wait_for_another_task(scheduler: Scheduler) -> None:
    async def body() -> Any:
        return await other.wait()

    other = scheduler.schedule_task(asyncio.sleep, 100, (7,))
    task = scheduler.schedule_task(body, 100)
    async with scheduler:
        await asyncio.sleep(8)

        assert task.result == other.last_run


# --- run_now ---


@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_run_now_runs_one_extra_tick_and_leaves_the_grid_alone(
    scheduler: Scheduler, policy: ExecPolicy, heard: list[Run]
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,), policy=policy)
    async with scheduler:
        await asyncio.sleep(3)
        run = await task.run_now()

        assert run.manual
        assert (run.outcome, run.attempts) == (Outcome.SUCCEEDED, 1)
        assert (at(run.scheduled_at), at(run.started_at), at(run.finished_at)) == (3, 3, 4)
        assert run == task.last_run == heard[-1]
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
            "task 'mine' is busy: a run is going on and the policy is SKIP; await task.wait() first"
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
        with pytest.raises(TaskBusy, match="task 'mine' is busy: another run_now"):
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
        with pytest.raises(TaskHeld) as caught:
            await task.run_now()

        holder = "pause()" if hold == "pause" else f"suspend() in {asyncio.current_task().get_name()}"  # type: ignore[union-attr]
        assert str(caught.value) == (
            f"task 'mine' is held by {holder} (migration); leave the suspension or await task.resume() first"
        )
        assert isinstance(caught.value, RuntimeError)
        assert task.last_run is None


async def test_a_task_held_by_many_names_them_all(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="mine")
    async with scheduler:
        await task.pause("lunch")
        async with scheduler.suspend("deploy"), task.suspend():
            with pytest.raises(TaskHeld, match=r"pause\(\) \(lunch\), suspend\(\) in .*, suspend\(\) in .* \(deploy\)"):
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

    with pytest.raises(WrongState, match="task 'mine' cannot run now: the scheduler is stopped or") as caught:
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
            "OwnRun: task 'mine': run_now() inside its own run would wait for itself; call it from another task"
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


# --- cancel ---


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

        assert str(caught.value) == ("task 'mine': a SHIELD run is not cancelled; let it end, or use another policy")
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


# --- reschedule ---


async def test_rescheduling_makes_the_first_tick_one_new_gap_from_now(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(13)
        task.reschedule(7)
        assert (task.interval_s, at(task.next_run_at)) == (7.0, 20)
        await asyncio.sleep(15)

        assert starts(task) == [0, 10, 20, 27]


async def test_rescheduling_to_the_same_interval_begins_a_new_grid(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(13)
        task.reschedule(interval_s=timedelta(seconds=10))
        await asyncio.sleep(11)

        assert starts(task) == [0, 10, 23]


async def test_rescheduling_to_a_trigger_and_back(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(13)
        task.reschedule(trigger=Every(60))
        assert (task.trigger, task.interval_s) == (Every(60), 60.0)
        await asyncio.sleep(110)  # at 123; the grid of the epoch: 55, 115
        task.reschedule(20)
        assert (task.trigger, task.interval_s) == (None, 20.0)
        await asyncio.sleep(21)

        assert starts(task)[2:] == [55, 115, 143]


async def test_rescheduling_lets_the_run_go_on_with_its_old_deadline(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,))
    async with scheduler:
        await asyncio.sleep(5)
        task.reschedule(100)
        await asyncio.sleep(50)

        assert endings(task.history()) == [("CANCELLED", "replaced", 1)]
        assert [run.duration_s for run in task.history()] == [10]


async def test_the_ticks_of_a_shorter_interval_do_not_cut_a_run_before_its_old_deadline(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, (1000,))
    async with scheduler:
        await asyncio.sleep(5)
        task.reschedule(3)
        await asyncio.sleep(94)
        assert task.running
        assert {ending[1] for ending in endings(task.history())} == {"overlap"}
        await asyncio.sleep(2)

        cut = next(run for run in task.history() if run.started_at is not None)
        assert (cut.outcome, cut.reason, cut.duration_s) == (Outcome.CANCELLED, Reason.REPLACED, 100)


@pytest.mark.parametrize("new_s", [1, 1000])
async def test_rescheduling_keeps_the_deadline_of_wait(scheduler: Scheduler, new_s: float) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(5)
        task.reschedule(new_s)
        await asyncio.sleep(26)

        run = next(run for run in task.history() if run.started_at is not None)
        assert (run.outcome, run.duration_s) == (Outcome.TIMED_OUT, 30)


async def test_rescheduling_gives_the_next_run_a_new_deadline(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(5)
        task.reschedule(100)
        await asyncio.sleep(401)

        runs = [run for run in task.history() if run.outcome is Outcome.TIMED_OUT]
        assert [(at(run.started_at), run.duration_s) for run in runs] == [(0, 30), (105, 300)]


async def test_rescheduling_drops_the_tick_that_waits_with_a_record(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        task.reschedule(100)
        assert endings(task.history()) == [("SKIPPED", "rescheduled", 1)]
        assert [at(run.scheduled_at) for run in task.history()] == [10]
        await asyncio.sleep(101)

        assert endings(task.history()) == [("SKIPPED", "rescheduled", 1), ("SUCCEEDED", None, 1)]
        assert task.running
        assert at(task.next_run_at) == 212


async def test_rescheduling_before_start_changes_the_grid_and_nothing_else(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    task.reschedule(7)
    async with scheduler:
        await asyncio.sleep(15)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 3
        assert starts(task) == [0, 7, 14]


async def test_rescheduling_leaves_a_task_disabled_or_paused(scheduler: Scheduler) -> None:
    disabled, paused = (scheduler.schedule_task(job, 10) for _ in range(2))
    disabled.disable()
    await paused.pause()
    async with scheduler:
        await asyncio.sleep(1)
        disabled.reschedule(5)
        paused.reschedule(5)
        await asyncio.sleep(100)

        assert (disabled.enabled, paused.suspended) == (False, True)
        assert starts(disabled) + starts(paused) == []


def test_rescheduling_leaves_a_sharer_of_the_parameters_alone(door: Scheduler) -> None:
    task, other = (door.schedule_task(job, 10) for _ in range(2))
    task.reschedule(7)

    assert (task.interval_s, other.interval_s) == (7.0, 10.0)


@pytest.mark.parametrize(
    ("rule", "argument"),
    [
        ({}, "interval_s"),
        ({"interval_s": 60, "trigger": Every(60)}, "interval_s"),
        ({"interval_s": 0}, "interval_s"),
        ({"interval_s": True}, "interval_s"),
        ({"interval_s": "60"}, "interval_s"),
        ({"trigger": 60}, "trigger"),
    ],
)
async def test_rescheduling_to_nonsense_is_refused_and_changes_nothing(
    scheduler: Scheduler, rule: dict[str, Any], argument: str
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        with pytest.raises(InvalidArgument) as caught:
            task.reschedule(**rule)

        assert caught.value.argument == argument
        assert (task.interval_s, at(task.next_run_at), task.history()) == (10.0, 20, [])


def test_rescheduling_a_removed_task_is_refused(door: Scheduler) -> None:
    task = door.schedule_task(job, 10, name="mine")
    task.remove()

    with pytest.raises(WrongState, match="task 'mine' was removed: schedule it anew"):
        task.reschedule(5)


# --- remove ---


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


async def suspend(task: ScheduledTask[Any]) -> None:
    async with task.suspend():
        await asyncio.sleep(25)


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
    """Tasks that come and go must not fill the memory, not even those whose last run fails."""
    monkeypatch.setattr("kaiju_app._events.log.disabled", True)  # pytest keeps what is logged, with its frames.

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


# --- threads ---


@pytest.mark.parametrize(
    "call",
    [
        ScheduledTask.enable,
        ScheduledTask.disable,
        ScheduledTask.remove,
        lambda task: task.cancel("why"),
        lambda task: task.reschedule(5),
    ],
    ids=["enable", "disable", "remove", "cancel", "reschedule"],
)
async def test_what_changes_a_task_is_refused_in_another_thread(
    scheduler: Scheduler, call: Callable[[ScheduledTask[Any]], object]
) -> None:
    task = scheduler.schedule_task(job, 1e6)
    async with scheduler:
        with pytest.raises(WrongThread, match="call_soon_threadsafe"):
            await asyncio.to_thread(call, task)

        assert (task.enabled, task.interval_s, list(scheduler.tasks)) == (True, 1e6, [task.name])


# --- json_repr ---


async def test_json_repr_of_the_scheduler_keeps_the_keys_of_the_original(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(job, 10)
    told = scheduler.json_repr()
    assert (told["started"], told["time"], told["tasks"]) == (False, None, [task.json_repr()])

    async with scheduler:
        await asyncio.sleep(3)
        told = scheduler.json_repr()
        assert (told["started"], told["time"], told["tasks"]) == (True, 8.0, [task.json_repr()])
        assert told["time"] == loop.time()

    assert (scheduler.json_repr()["started"], scheduler.json_repr()["time"]) == (False, None)


async def test_json_repr_of_a_task_keeps_the_keys_of_the_original(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(
        asyncio.sleep, 10, (4,), policy=ExecPolicy.SKIP, max_timeout_s=7, retries=2, retry_interval_s=1.5, name="mine"
    )
    original = {
        "name": "mine",
        "policy": "SKIP",
        "enabled": True,
        "started": False,
        "interval_s": 10.0,
        "max_timeout_s": 7.0,
        "retries": 2,
        "retry_interval_s": 1.5,
        "called_at": None,
    }
    assert {key: task.json_repr()[key] for key in original} == original

    async with scheduler:
        await asyncio.sleep(13)
        assert {key: task.json_repr()[key] for key in original} == {**original, "started": True, "called_at": 15.0}
        await asyncio.sleep(2)
        task.disable()
        assert {key: task.json_repr()[key] for key in original} == {**original, "enabled": False, "called_at": 15.0}


async def test_json_repr_tells_when_the_function_was_called_last_whatever_was_skipped_since(loop: VirtualLoop) -> None:
    """However few records are kept."""
    scheduler = Scheduler(clock=loop.clock, history=1)
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        task.disable()
        await asyncio.sleep(10)
        task.enable()

        assert endings(task.history()) == [("SKIPPED", "disabled", 1)]
        assert task.json_repr()["called_at"] == 5.0


async def test_json_repr_adds_what_else_is_known(scheduler: Scheduler) -> None:
    results = iter([None, OSError("disk on fire")])

    async def body() -> None:
        result = next(results)
        if result is not None:
            raise result

    task = scheduler.schedule_task(body, trigger=Every(10), first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(16)
        async with task.suspend("migration"):
            told = json.loads(json.dumps(scheduler.json_repr(), allow_nan=False))["tasks"][0]
            assert told["state"] == "suspended"
            assert told["trigger"] == "every 10 s"
            assert told["next_run_at"] is None
            assert told["holds"] == [
                {
                    "holder": f"suspend() in {asyncio.current_task().get_name()}",  # type: ignore[union-attr]
                    "reason": "migration",
                    "since": (ZERO + timedelta(seconds=16)).isoformat(),
                }
            ]
        told = task.json_repr()
        assert told["next_run_at"] == (ZERO + timedelta(seconds=25)).isoformat()
        assert told["holds"] == []
        assert told["counts"] == {
            "SUCCEEDED": 1,
            "FAILED": 1,
            "TIMED_OUT": 0,
            "CANCELLED": 0,
            "SKIPPED": 0,
            "LOST": 0,
        }
        assert [(run["outcome"], run["reason"], run["error"]) for run in told["runs"]] == [  # type: ignore[attr-defined]
            ("SUCCEEDED", None, None),
            ("FAILED", None, "OSError: disk on fire"),
        ]


async def test_json_repr_of_a_run_is_json(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,), name="mine")
    async with scheduler:
        await asyncio.sleep(2)
        (run,) = task.history()

        begun, ended = ZERO.isoformat(), (ZERO + timedelta(seconds=1)).isoformat()
        assert json.loads(json.dumps(run.json_repr(), allow_nan=False)) == {
            "task": "mine",
            "scheduled_at": begun,
            "last_scheduled_at": begun,
            "count": 1,
            "more": False,
            "due": begun,
            "started_at": begun,
            "finished_at": ended,
            "outcome": "SUCCEEDED",
            "reason": None,
            "error": None,
            "attempts": 1,
            "take": 1,
            "instance": run.instance,
            "fence": None,
            "manual": False,
            "lateness_s": 0.0,
            "duration_s": 1.0,
        }


async def test_json_repr_tells_the_holds_of_the_scheduler_and_of_each_task(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    await task.pause("lunch")
    async with scheduler.suspend("deploy"):
        told = json.loads(json.dumps(scheduler.json_repr()))

        assert [hold["reason"] for hold in told["tasks"][0]["holds"]] == ["lunch", "deploy"]
        assert [line.endswith(" (deploy)") for line in told["holds"]] == [True]


async def test_json_repr_is_json_whatever_a_task_is_made_of_and_does(scheduler: Scheduler) -> None:
    async def body(*args: Any) -> object:
        if len(args) == 1:
            raise ValueError("\ud800 \x00 \N{SNOWMAN}", object(), float("nan"))
        return object()

    scheduler.schedule_task(body, 10, (object(),), name="\N{SNOWMAN}")
    scheduler.schedule_task(body, 100 * 365 * 86_400)
    scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(35)
        told = json.loads(json.dumps(scheduler.json_repr(), allow_nan=False))

        assert [[run["outcome"] for run in task["runs"]] for task in told["tasks"]] == [
            ["FAILED"] * 4,
            ["SUCCEEDED"],
            ["SKIPPED", "TIMED_OUT"],
        ]
