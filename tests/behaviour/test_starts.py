"""Listeners that hear of a run when it begins, inside the run."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import CurrentRun, FirstRun, Run, Scheduler, Scope, current_run
from support.reading import nothing
from support.virtual import VirtualLoop

variable: ContextVar[str] = ContextVar("variable", default="nobody")


async def test_what_a_listener_sets_is_there_for_the_function_and_for_no_other_run(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    seen: list[tuple[str, str]] = []
    told: list[str] = []

    def began(run: CurrentRun) -> None:
        told.append(run.run_id)
        variable.set(f"set for {run.task}")

    async def child() -> str:
        return variable.get()

    async def work() -> None:
        seen.append((current_run().task, variable.get()))
        seen.append((current_run().task, await asyncio.create_task(child())))
        if current_run().attempt == 1:
            raise OSError

    end = scheduler.subscribe_starts(began)
    for name in "ab":
        scheduler.schedule_task(work, 100, name=name, retries=1, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(10)
        assert variable.get() == "nobody"
        end()
        end()
        await asyncio.sleep(100)

    assert set(seen[:8]) == {("a", "set for a"), ("b", "set for b")}
    assert {value for _, value in seen[8:]} == {"nobody"}
    assert told == [run.run_id for run in reported][:2]


async def test_a_plain_function_sees_it_too(scheduler: Scheduler) -> None:
    scheduler.subscribe_starts(lambda run: variable.set(run.task) and None)
    task = scheduler.schedule_task(variable.get, 1e6, name="plain", first_run=FirstRun.NEXT)
    async with scheduler:
        assert (await task.run_now()).result == "plain"


async def test_a_listener_that_fails_is_told_and_harms_no_run(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(run: CurrentRun) -> None:
        raise asyncio.CancelledError(run.task)

    heard: list[str] = []
    scheduler.subscribe_starts(fail)
    scheduler.subscribe_starts(lambda run: heard.append(run.task))
    task = scheduler.schedule_task(nothing, 1, name="a")
    async with scheduler:
        await asyncio.sleep(9.5)

    assert [run.outcome.value for run in task.history()] == ["SUCCEEDED"] * 10
    assert heard == ["a"] * 10
    assert len([line for line in caplog.messages if "a listener of starts raised" in line]) == 1


async def test_who_asked_for_an_extra_run_is_known_inside_it(scheduler: Scheduler) -> None:
    asked: list[str | None] = []

    def began(run: CurrentRun) -> None:
        asked.append(None if run.asked_in is None else run.asked_in.run(variable.get))

    scheduler.subscribe_starts(began)
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,), name="a", policy=None)
    async with scheduler:
        await asyncio.sleep(5)
        variable.set("the request")
        await task.run_now()
        await asyncio.sleep(5)

    assert asked == [None, "the request", None]


async def test_an_extra_run_that_had_to_wait_knows_it_as_well(scheduler: Scheduler) -> None:
    asked: list[str] = []

    async def work() -> None:
        context = current_run().asked_in
        asked.append("the rule" if context is None else context.run(variable.get))
        await asyncio.sleep(5)

    task = scheduler.schedule_task(work, 100, name="a")
    async with scheduler:
        await asyncio.sleep(1)
        variable.set("in a hurry")
        await task.run_now()  # The policy is CANCEL: it replaces the run in progress.

    assert asked == ["the rule", "in a hurry"]


async def test_shared_tasks_are_told_too(loop: VirtualLoop) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    told: list[tuple[str, int | None]] = []
    scheduler.subscribe_starts(lambda run: told.append((run.task, run.fence)))
    scheduler.schedule_task(nothing, 10, name="a", scope=Scope.CLUSTER)
    async with scheduler:
        await asyncio.sleep(25)
        runs = await scheduler.history("a")

    assert told == [("a", run.fence) for run in runs]
    assert len(told) >= 2


@pytest.mark.parametrize("wrong", [None, 7, "f", nothing, asyncio.sleep])
def test_only_a_plain_function_can_listen(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="listener must be a plain function that takes a CurrentRun"):
        Scheduler().subscribe_starts(wrong)
