"""``pause_after_failures``: a task is paused after a number of unsuccessful runs in a row."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument, TaskSuspended
from kaiju_app.scheduler import ExecPolicy, Outcome, ScheduledTask, Scheduler, Scope
from support.reading import nothing


class Script:
    """A function that does at each call what a letter says: succeed, fail, or last for 25 s."""

    def __init__(self, letters: str) -> None:
        self.letters = iter(letters)

    async def __call__(self) -> None:
        letter = next(self.letters)
        if letter == "f":
            raise ValueError("no")
        if letter == "c":
            raise asyncio.CancelledError
        await asyncio.sleep(25 if letter == "l" else 0)


def outcomes(task: ScheduledTask[Any]) -> str:
    return " ".join(run.outcome.value for run in task.history() if run.outcome is not Outcome.SKIPPED)


def holds(task: ScheduledTask[Any]) -> list[tuple[str, str]]:
    shown: Any = task.json_repr()["holds"]
    return [(hold["holder"], hold["reason"]) for hold in shown]


@pytest.mark.parametrize(
    ("letters", "number", "runs"),
    [
        ("f", 1, 1),
        ("fffff", 3, 3),
        ("sffsfff", 3, 7),
        ("llllll", 3, 3),
        ("cflsss", 3, 3),
        ("fsfsfs", 2, None),
    ],
)
async def test_a_task_is_paused_after_so_many_in_a_row(
    scheduler: Scheduler, letters: str, number: int, runs: int | None
) -> None:
    task = scheduler.schedule_task(Script(letters + "s" * 50), 10, pause_after_failures=number)
    async with scheduler:
        await asyncio.sleep(105)

        assert (task.state, len(outcomes(task).split())) == (("waiting", 11) if runs is None else ("paused", runs))


async def test_the_pause_says_why_and_is_logged(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    task = scheduler.schedule_task(Script("ff"), 10, name="x", pause_after_failures=2)
    async with scheduler:
        await asyncio.sleep(15)

        reason = "2 unsuccessful runs in a row, the last one FAILED after 0 s: ValueError: no"
        assert holds(task) == [("pause_after_failures", reason)]
        told: Any = caplog.records[-1]
        assert told.getMessage() == (
            f"task 'x': paused, after {reason}. Mend it, then await task.resume(): one more failure pauses it again"
        )
        assert (told.levelname, told.task, told.outcome) == ("ERROR", "x", "FAILED")
        with pytest.raises(TaskSuspended, match=r"pause_after_failures .2 unsuccessful runs in a row"):
            await task.run_now()


async def test_after_resume_one_failure_pauses_again_and_a_success_begins_anew(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(Script("ff" + "f" + "sf" + "f"), 10, pause_after_failures=2)
    async with scheduler:
        await asyncio.sleep(15)
        assert (task.state, outcomes(task)) == ("paused", "FAILED FAILED")
        await task.resume()
        await asyncio.sleep(10)
        assert (task.state, outcomes(task)) == ("paused", "FAILED FAILED FAILED")
        assert holds(task)[0][1].startswith("3 unsuccessful runs in a row")
        await task.resume()
        await asyncio.sleep(20)
        assert task.state == "waiting"
        await asyncio.sleep(10)
        assert (task.state, outcomes(task)) == ("paused", "FAILED FAILED FAILED SUCCEEDED FAILED FAILED")


async def test_what_somebody_asked_for_is_no_failure(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(Script("lfls"), 100, pause_after_failures=2)
    async with scheduler:
        await asyncio.sleep(1)
        task.cancel("enough")
        await asyncio.sleep(100)
        assert (task.state, outcomes(task)) == ("waiting", "CANCELLED FAILED")
        await asyncio.sleep(100)
        task.cancel("enough")
        await asyncio.sleep(1)
        assert task.state == "waiting"


async def test_the_pause_of_an_operator_is_left_as_it_is(scheduler: Scheduler) -> None:
    async def work() -> None:
        await asyncio.sleep(5)
        raise ValueError

    task = scheduler.schedule_task(work, 10, pause_after_failures=1)
    async with scheduler:
        await asyncio.sleep(1)
        await task.pause("maintenance")
        await asyncio.sleep(50)

        assert holds(task) == [("pause()", "maintenance")]


async def test_a_tick_that_waits_for_the_last_failure_does_not_run(scheduler: Scheduler) -> None:
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        await asyncio.sleep(15)
        raise ValueError

    task = scheduler.schedule_task(work, 10, policy=ExecPolicy.WAIT, pause_after_failures=1)
    async with scheduler:
        await asyncio.sleep(100)
        assert (len(calls), task.state) == (1, "paused")


async def test_manual_runs_count(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(Script("ff"), 1000, pause_after_failures=2)
    async with scheduler:
        await asyncio.sleep(1)
        await task.run_now()
        assert task.state == "paused"


async def test_a_removed_task_leaves_no_count(scheduler: Scheduler) -> None:
    for _ in range(2):
        task = scheduler.schedule_task(Script("fs"), 10, name="x", pause_after_failures=2)
        async with scheduler:
            await asyncio.sleep(1)
            assert task.state == "waiting"
            task.remove()
    assert vars(scheduler._engine.recorder.failures)["_counts"] == {}


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
@pytest.mark.parametrize("scope", Scope)
def test_the_number_is_a_positive_integer(value: Any, scope: Scope) -> None:
    with pytest.raises(InvalidArgument, match="pause_after_failures must be an integer of at least 1, got"):
        Scheduler("memory://").schedule_task(nothing, 60, name="x", scope=scope, pause_after_failures=value)


def test_a_shared_number_fits_into_the_ledger() -> None:
    with pytest.raises(
        InvalidArgument, match=r"pause_after_failures must be at most 50 with Scope.CLUSTER: .*, got 51"
    ):
        Scheduler("memory://").schedule_task(nothing, 60, name="x", scope=Scope.CLUSTER, pause_after_failures=51)
