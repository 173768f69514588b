"""The identity of a run: the same in its record, in the log, for listeners, and for the code inside it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter

import pytest

from kaiju_app.scheduler import OnLost, Outcome, Run, ScheduledTask, Scheduler, Scope, current_run
from support.reading import nothing
from support.virtual import VirtualLoop


async def fail() -> None:
    raise OSError("no")


async def test_a_run_has_one_identity_for_all_who_hear_of_it(
    scheduler: Scheduler, loop: VirtualLoop, reported: list[Run], caplog: pytest.LogCaptureFixture
) -> None:
    inside: list[tuple[str, int]] = []

    async def work() -> None:
        inside.append((current_run().run_id, current_run().attempt))
        await asyncio.sleep(1)
        loop.virtual_clock.step_wall(-600)
        inside.append((current_run().run_id, current_run().attempt))
        raise OSError("no")

    task = scheduler.schedule_task(work, 1000, retries=1, retry_interval_s=2)
    async with scheduler:
        await asyncio.sleep(20)

        (identity,) = {each for each, _ in inside}
        assert [attempt for _, attempt in inside] == [1, 1, 2, 2]
        assert re.fullmatch("[0-9a-f]{20}", identity)
        assert [run.run_id for run in task.history()] == [identity]
        assert [run.run_id for run in reported] == [identity]
        assert task.history()[0].json_repr()["run_id"] == identity
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.__dict__["run_id"] == identity


async def test_no_two_runs_have_the_same_one(scheduler: Scheduler, reported: list[Run]) -> None:
    for number in range(20):
        scheduler.schedule_task(nothing, 1, name=f"t{number}")
    async with scheduler:
        await asyncio.sleep(49.5)

    assert Counter(Counter(run.run_id for run in reported).values()) == {1: 1000}


async def test_a_skip_has_none(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        async with task.suspend():
            await asyncio.sleep(25)
        await asyncio.sleep(1)

    assert [(run.outcome, run.run_id is None) for run in task.history()] == [
        (Outcome.SKIPPED, True),
        (Outcome.SUCCEEDED, False),
    ]


async def test_a_run_whose_task_is_replaced_keeps_it(scheduler: Scheduler, reported: list[Run]) -> None:
    inside: list[str] = []

    async def work() -> None:
        inside.append(current_run().run_id)
        await asyncio.sleep(5)
        inside.append(current_run().run_id)

    scheduler.schedule_task(work, 1000, name="a")
    async with scheduler:
        await asyncio.sleep(1)
        scheduler.schedule_task(nothing, 1000, name="a", replace=True)
        await asyncio.sleep(10)

    assert inside == [reported[0].run_id] * 2
    assert [run.task for run in reported] == ["a (replaced)", "a"]
    assert reported[0].run_id != reported[1].run_id


@pytest.mark.parametrize("on_lost", OnLost)
async def test_a_shared_run_has_the_same_one_in_the_store(loop: VirtualLoop, on_lost: OnLost) -> None:
    inside: list[str] = []

    async def work() -> None:
        inside.append(current_run().run_id)
        await asyncio.sleep(3)
        inside.append(current_run().run_id)

    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    task: ScheduledTask[None] = scheduler.schedule_task(work, 20, name="w", scope=Scope.CLUSTER, on_lost=on_lost)
    for _ in range(2):  # The second life of the scheduler is another instance for the store.
        async with scheduler:
            await asyncio.sleep(50)
            stored = [run.run_id for run in await scheduler.history("w") if run.outcome is Outcome.SUCCEEDED]
            here = [run.run_id for run in task.history() if run.outcome is Outcome.SUCCEEDED]

    assert len(stored) >= 4
    assert stored == here
    assert inside == [each for run_id in stored for each in (run_id, run_id)]
