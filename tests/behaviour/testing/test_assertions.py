"""What the assertions of the test kit say when they fail, and that they fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kaiju_app import Application, Scheduler
from kaiju_app.errors import InvalidArgument, WrongState
from kaiju_app.scheduler import ExecPolicy, FirstRun, Outcome, Reason, ScheduledTask, Scope, current_run
from kaiju_app.testing import VirtualClock, assert_schedule, ledger, ran, run_once
from kaiju_app.triggers import Cron
from kaiju_app.triggers._lint import Level
from support.machine import idle_year_s

START = datetime(2027, 1, 1, tzinfo=UTC)
HOUR = 3600


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock(START) as clock:
        yield clock


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


async def sleeps(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def fails_twice() -> int:
    if current_run().attempt < 3:
        raise OSError("no connection")
    return 42


def after(clock: VirtualClock, hours: float, body: Any, interval_s: float, **options: Any) -> ScheduledTask[Any]:
    """Return a task that has run for *hours*; its scheduler is stopped."""
    history = options.pop("history", 100)

    async def main() -> ScheduledTask[Any]:
        async with Scheduler(history=history) as scheduler:
            task = scheduler.schedule_task(body, interval_s, name="report", **options)
            await clock.advance(hours * HOUR)
        return task

    return clock.run(main())


# --- ran ---


def test_what_is_true_passes_and_can_be_chained(clock: VirtualClock) -> None:
    task = after(clock, 5.5, sleeps, HOUR, args=(1.5 * HOUR,), policy=ExecPolicy.SKIP)

    ran(task).times(3).times(3, Outcome.SUCCEEDED).at(hour(0), hour(2), hour(4)).never_overlapped()
    ran(task).skipped("overlap").skipped(Reason.OVERLAP, times=3)
    ran(task).at(*(hour(each).astimezone(ZoneInfo("Asia/Tokyo")) for each in (0, 2, 4)))


def test_a_wrong_number_is_told_with_the_ledger(clock: VirtualClock) -> None:
    task = after(clock, 2.5, sleeps, HOUR, args=(1.5 * HOUR,), policy=ExecPolicy.SKIP)

    with pytest.raises(AssertionError) as failure:
        ran(task).times(24)
    assert str(failure.value) == (
        "task 'report' ran 2 times, not 24 times\n"
        "scheduled            late  took    outcome    reason\n"
        "2027-01-01 00:00:00  0 s   5400 s  SUCCEEDED\n"
        "2027-01-01 01:00:00                SKIPPED    overlap\n"
        "2027-01-01 02:00:00  0 s   1800 s  CANCELLED  shutdown"
    )
    with pytest.raises(AssertionError, match=r"^task 'report' has SUCCEEDED once, not 2 times\n"):
        ran(task).times(2, Outcome.SUCCEEDED)


def test_runs_that_are_missing_or_too_many_are_named(clock: VirtualClock) -> None:
    task = after(clock, 2.5, sleeps, HOUR, args=(0,))

    with pytest.raises(AssertionError) as failure:
        ran(task).at(hour(0), hour(1), hour(5))
    assert str(failure.value).startswith(
        "task 'report' did not run at 2027-01-01 05:00:00+00:00 and also ran at 2027-01-01 02:00:00+00:00\n"
    )
    with pytest.raises(AssertionError, match="in another order, or more than once"):
        ran(task).at(hour(0), hour(2), hour(1))
    with pytest.raises(AssertionError, match="and 7 more"):
        ran(task).at(*map(hour, range(15)))
    with pytest.raises(InvalidArgument, match=r"^moments "):
        ran(task).at(datetime(2027, 1, 1))  # noqa: DTZ001


def test_skips_for_another_reason_do_not_count(clock: VirtualClock) -> None:
    task = after(clock, 2.5, sleeps, HOUR, args=(1.5 * HOUR,), policy=ExecPolicy.SKIP)

    with pytest.raises(AssertionError, match=r"was skipped 0 times \(hung\), not at least once"):
        ran(task).skipped(Reason.HUNG)
    with pytest.raises(AssertionError, match=r"was skipped once \(overlap\), not 2 times"):
        ran(task).skipped("overlap", times=2)
    with pytest.raises(InvalidArgument, match="'replaced', 'deadline'"):
        ran(task).skipped("lazy")


def test_runs_that_overlap_are_told(clock: VirtualClock) -> None:
    """The scheduler never lets it come to that, so the history is a made-up one."""
    task = after(clock, 1.5, sleeps, HOUR, args=(60,))
    first, second = task.history()

    class Made:
        name, running, counts = task.name, task.running, task.counts

        def history(self) -> Any:
            return [replace(first, finished_at=hour(1.01)), second]

    with pytest.raises(AssertionError, match=r"still running its tick of 2027-01-01 00:00.* when that of .*01:00"):
        ran(Made()).never_overlapped()  # type: ignore[arg-type]


def test_a_history_that_does_not_go_back_far_enough_proves_nothing(clock: VirtualClock) -> None:
    task = after(clock, 23.5, sleeps, HOUR, args=(0,), history=20)

    ran(task).times(24)
    for check in (ran(task).never_overlapped, lambda: ran(task).at(hour(23)), lambda: ran(task).skipped("hung")):
        with pytest.raises(WrongState, match=r"has 20 of 24 ticks: write Scheduler\(history=10_000\)"):
            check()


def test_the_ledger_shows_what_is_special_and_the_end_of_a_long_one(clock: VirtualClock) -> None:
    async def main() -> None:
        async with Scheduler(history=100) as scheduler:
            task = scheduler.schedule_task(fails_twice, HOUR, retries=2, retry_interval_s=10, first_run=FirstRun.NEXT)
            assert ledger(task) == "(no tick has ended)"
            task.disable()
            await clock.advance(2.5 * HOUR)
            task.enable()
            await clock.advance(HOUR)
            asked = asyncio.create_task(task.run_now())
            await clock.advance(5)
            lines = ledger(task).splitlines()
            assert lines[-2].endswith("20 s  SUCCEEDED            3 attempts")
            assert lines[-1] == "(a run is in progress)"
            await asked
            assert ledger(task, most=1).splitlines()[1:] == [
                f"({len(task.history()) - 1} earlier records)",
                "2027-01-01 03:30:00  0 s   20 s  SUCCEEDED          3 attempts; asked for",
            ]

    clock.run(main())


# --- run_once ---


def test_one_run_of_a_task_whose_scheduler_is_not_started_lets_no_other_task_run(clock: VirtualClock) -> None:
    others: list[int] = []

    async def main() -> None:
        scheduler = Scheduler()
        task = scheduler.schedule_task(fails_twice, HOUR, retries=2)
        scheduler.schedule_task(lambda: others.append(1), 1, name="other")
        disabled = scheduler.schedule_task(lambda: others.append(1), 1, name="disabled")
        disabled.disable()
        run = await run_once(task)
        assert (run.outcome, run.result, run.attempts, run.manual) == (Outcome.SUCCEEDED, 42, 3, True)
        assert (others, scheduler.started, task.enabled, disabled.enabled) == ([], False, True, False)
        async with scheduler:
            assert (await run_once(disabled)).outcome is Outcome.SUCCEEDED
            await clock.advance(10)
        assert len(others) == 12

    clock.run(main())


def test_one_run_of_a_cluster_task(clock: VirtualClock) -> None:
    async def main() -> None:
        scheduler = Scheduler("memory://")
        task = scheduler.schedule_task(sleeps, HOUR, (5,), name="shared", scope=Scope.CLUSTER)
        run = await run_once(task)
        assert (run.outcome, run.duration_s) == (Outcome.SUCCEEDED, 5)

    clock.run(main())


# --- assert_schedule ---


def test_the_findings_of_lint_are_in_the_failure() -> None:
    app = Application("shop")
    app.scheduler.schedule_task(sleeps, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="in the gap", args=(1,))
    app.scheduler.schedule_task(sleeps, trigger=Cron("*/7 * * * *"), name="uneven", args=(1,))

    with pytest.raises(AssertionError) as failure:
        assert_schedule(app, now=START)
    text = str(failure.value)
    assert text.startswith("lint has findings about ")
    assert "uneven: " in text
    assert "WARNING" in text
    assert "2027-01-01 00:07" in text
    assert_schedule(app, level=Level.ERROR, now=START)


def test_notes_count_if_that_is_asked_for_and_the_present_is_that_of_the_clock(clock: VirtualClock) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(sleeps, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="night", args=(1,))

    assert_schedule(scheduler)
    with pytest.raises(AssertionError, match=r"(?s)1 of 1 task.*night: .*2027-01-02 02:30.*NOTE"):
        assert_schedule(scheduler, level=Level.NOTE)


def test_an_application_without_tasks_is_looked_at_in_vain() -> None:
    with pytest.raises(AssertionError, match="there is no task"):
        assert_schedule(Application("shop"))
    with pytest.raises(InvalidArgument, match=r"^app must be an Application or a Scheduler"):
        assert_schedule("shop")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"^level must be a Level"):
        assert_schedule(Scheduler(), level="ERROR")  # type: ignore[arg-type]


# --- how fast ---

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


async def nothing() -> None:
    pass


@pytest.mark.volume
def test_a_year_of_fifty_tasks_in_four_zones_costs_less_than_its_half_million_idle_minutes(clock: VirtualClock) -> None:
    idle = idle_year_s()  # About 4 s where the year takes less than 2.

    async def main() -> float:
        async with Scheduler() as scheduler:
            tasks = [
                scheduler.schedule_task(
                    nothing, trigger=Cron(f"{number} {number % 24} * * *", tz=ZONES[number % 4]), name=f"task {number}"
                )
                for number in range(50)
            ]
            before = time.process_time()
            await clock.advance(365 * 24 * HOUR)
            spent = time.process_time() - before
        for task in tasks:
            ran(task).times(365)
        return spent

    assert clock.run(main()) < 0.75 * idle
