"""``reschedule()``."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from behaviour.tasks import job, starts
from kaiju_app.errors import InvalidArgument, WrongState
from kaiju_app.scheduler import Every, ExecPolicy, Outcome, Reason, Scheduler
from support.reading import at, endings


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
        await asyncio.sleep(110)  # At 123. The grid of the epoch is 55, 115, ...
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

    with pytest.raises(WrongState, match="task 'mine' was removed; schedule it again"):
        task.reschedule(5)
