"""A ScheduledTask: what it says of itself, and tasks in threads."""

from __future__ import annotations

import asyncio

import pytest

from behaviour.tasks import counted, job, starts
from kaiju_app.scheduler import Every, ExecPolicy, Scheduler, Scope
from support.reading import at, endings


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
    assert (task.interval_s, task.trigger, task.policy, task.scope) == (90.0, Every(90), ExecPolicy.CANCEL, Scope.LOCAL)
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
