"""Tasks with given moments: those that have just passed, and those that are over."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument, WrongState
from kaiju_app.scheduler import (
    AnyOf,
    At,
    Cron,
    Every,
    Except,
    ExecPolicy,
    FirstRun,
    Missed,
    Outcome,
    Run,
    Scheduler,
    Scope,
    Trigger,
)
from support.reading import ZERO, SuccessiveLoops, at, endings, history_of, moment, nothing, sleep_until, starts_s, wall
from support.virtual import VirtualLoop

JUST_NOW = ZERO - timedelta(microseconds=300)
HOUR = timedelta(hours=1)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


# --- moments that have just passed ---


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(
    "given",
    [
        {"trigger": At(JUST_NOW)},
        {"trigger": At(JUST_NOW, ZERO - 2 * HOUR)},
        {"trigger": AnyOf(Cron("0 0 1 1 *"), At(JUST_NOW))},
        {"trigger": Except(At(JUST_NOW), (ZERO - 2 * HOUR, ZERO - HOUR))},
        {"trigger": At(JUST_NOW), "missed": Missed.SKIP},
        {"trigger": At(JUST_NOW), "missed": Missed.ALL},
        {"trigger": At(JUST_NOW), "until": JUST_NOW},
        {"trigger": Cron("0 0 1 1 *"), "first_run": JUST_NOW},
        {"interval_s": 86_400, "first_run": JUST_NOW},
    ],
    ids=str,
)
@pytest.mark.parametrize("when", ["before start", "after start"])
async def test_a_moment_that_has_just_passed_runs(
    loop: VirtualLoop, given: dict[str, Any], scope: Scope, when: str
) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    if when == "before start":
        task = scheduler.schedule_task(nothing, name="once", scope=scope, **given)
    async with scheduler:
        if when == "after start":
            task = scheduler.schedule_task(nothing, name="once", scope=scope, **given)
        await asyncio.sleep(10)

        assert starts_s(task) == [-0.0003]


@pytest.mark.parametrize(
    ("passed_s", "given", "runs"),
    [
        (0.999, {}, True),
        (1, {}, False),
        (59, {"grace_s": 60}, True),
        (60, {"grace_s": 60}, False),
        (0.0003, {"grace_s": 0}, False),
    ],
)
async def test_grace_s_says_how_long_ago(
    scheduler: Scheduler, passed_s: float, given: dict[str, Any], runs: bool
) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(ZERO - s(passed_s)), **given)
    async with scheduler:
        await asyncio.sleep(100)

        assert starts_s(task) == ([-passed_s] if runs else [])


async def test_a_moment_between_registration_and_start_counts_from_the_start(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    soon, late = (scheduler.schedule_task(nothing, trigger=At(ZERO + s(each))) for each in (9.5, 8.5))
    loop.virtual_clock.block(10)
    async with scheduler:
        await asyncio.sleep(100)

        assert (starts_s(soon), starts_s(late)) == ([9.5], [])


@pytest.mark.parametrize(
    "rule", [Cron("* * * * * *"), Except(Cron("* * * * * *"), At(ZERO)), AnyOf(Cron("* * * * * *"))], ids=str
)
async def test_a_rule_that_repeats_does_not_look_back(scheduler: Scheduler, rule: Trigger, loop: VirtualLoop) -> None:
    loop.virtual_clock.block(0.3)
    task = scheduler.schedule_task(nothing, trigger=rule)
    async with scheduler:
        await asyncio.sleep(1)

        assert starts_s(task) == [1]


async def test_an_excluded_moment_does_not_run_late(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, trigger=Except(At(JUST_NOW, ZERO + 2 * HOUR), (ZERO - HOUR, ZERO + HOUR)))
    async with scheduler:
        await asyncio.sleep(100)

        assert [] == task.history()


@pytest.mark.parametrize(
    ("missed", "expected"), [(Missed.ONCE, [-0.2]), (Missed.ALL, [-0.5, -0.2]), (Missed.SKIP, [-0.2])]
)
async def test_of_several_that_have_passed_the_missed_option_decides(
    scheduler: Scheduler, missed: Missed, expected: list[float]
) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(ZERO - s(0.5), ZERO - s(0.2)), missed=missed)
    async with scheduler:
        await asyncio.sleep(100)

        assert starts_s(task) == expected
        assert sum(run.count for run in task.history()) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"trigger": At(ZERO + s(10))},
        {"trigger": Cron("0 0 1 1 *"), "first_run": ZERO + s(10)},
        {"interval_s": 86_400, "first_run": ZERO + s(10)},
    ],
    ids=str,
)
@pytest.mark.parametrize("runs_on", [False, True])
def test_a_moment_that_has_run_does_not_run_again_after_a_restart(given: dict[str, Any], runs_on: bool) -> None:
    lives = SuccessiveLoops()
    calls = []

    async def work() -> None:
        calls.append(at(wall(loop)))
        if runs_on:
            await asyncio.sleep(0.2)

    async def live() -> None:
        async with lives.scheduler:
            await asyncio.sleep(10.3 if len(calls) == 0 else 1)

    lives.scheduler.schedule_task(work, grace_s=60, **given)
    for _ in range(2):
        with lives.life() as loop:
            loop.run_until_complete(live())
    assert calls == [10]


async def test_nor_after_reschedule(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(ZERO + s(10)))
    async with scheduler:
        await asyncio.sleep(10.1)
        task.reschedule(trigger=At(ZERO + s(10), ZERO + s(20)))
        await asyncio.sleep(100)

        assert starts_s(task) == [10, 20]


async def test_a_task_can_be_rescheduled_to_now(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(nothing, 3600, first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(10)
        task.reschedule(trigger=At(wall(loop) - timedelta(microseconds=300)))
        await asyncio.sleep(100)

        assert starts_s(task) == [9.9997]


async def test_nor_after_the_clock_was_set_back(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(moment("Fri 09:00")))
    async with scheduler:
        await sleep_until(loop, "Fri 14:00")
        loop.virtual_clock.step_wall(-5 * 3600 + 0.2)
        await asyncio.sleep(7200)

        assert [entry[0] for entry in history_of(task)] == ["SUCCEEDED"]


# --- over ---


async def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("func", [nothing, fail])
async def test_a_one_off_that_is_over_leaves_the_tasks_and_its_last_run_is_told(
    scheduler: Scheduler, reported: list[Run], func: Any
) -> None:
    task = scheduler.schedule_task(func, trigger=At(ZERO + s(1), ZERO + s(2)), name="once", remove_when_over=True)
    async with scheduler:
        await asyncio.sleep(1.5)
        assert dict(scheduler.tasks) == {"once": task}
        await asyncio.sleep(10)

        assert dict(scheduler.tasks) == {}
        assert [at(run.scheduled_at) for run in reported] == [1, 2]
        assert starts_s(task) == [1, 2]
        assert task.state == "stopped"
        with pytest.raises(WrongState, match="removed"):
            await task.run_now()
        scheduler.schedule_task(func, 60, name="once")


async def test_wait_gets_the_last_run_of_a_one_off(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(partial(asyncio.sleep, 5), trigger=At(ZERO + s(1)), remove_when_over=True)
    async with scheduler:
        await asyncio.sleep(2)
        assert task in scheduler.tasks.values()
        run = await task.wait()

        assert run is not None
        assert (run.outcome, at(run.finished_at)) == (Outcome.SUCCEEDED, 6)
        assert len(scheduler.tasks) == 0


@pytest.mark.parametrize("until_s", [20, 25])
async def test_an_interval_with_an_end_is_removed_too(scheduler: Scheduler, until_s: float) -> None:
    task = scheduler.schedule_task(nothing, 10, until=ZERO + s(until_s), remove_when_over=True)
    async with scheduler:
        await asyncio.sleep(19)
        assert len(scheduler.tasks) == 1
        await asyncio.sleep(11)

        assert (len(scheduler.tasks), starts_s(task)) == (0, [0, 10, 20])


async def test_one_that_waits_for_the_run_before_still_runs(scheduler: Scheduler) -> None:
    rule = At(ZERO + s(1), ZERO + s(2))
    task = scheduler.schedule_task(
        partial(asyncio.sleep, 5), trigger=rule, policy=ExecPolicy.WAIT, remove_when_over=True, max_timeout_s=60
    )
    async with scheduler:
        await asyncio.sleep(6.5)
        assert len(scheduler.tasks) == 1
        await asyncio.sleep(10)

        assert (len(scheduler.tasks), history_of(task, at)) == (0, [("SUCCEEDED", 1, 1), ("SUCCEEDED", 2, 6)])


async def test_one_that_is_held_stays_until_it_has_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(ZERO + s(1)), remove_when_over=True)
    async with scheduler:
        await task.pause("maintenance")
        await asyncio.sleep(60)
        assert (len(scheduler.tasks), task.state) == (1, "paused")
        await task.resume()
        await asyncio.sleep(1)

        assert (len(scheduler.tasks), history_of(task, at)) == (0, [("SUCCEEDED", 1, 60)])


async def test_one_that_is_skipped_leaves_too(scheduler: Scheduler, loop: VirtualLoop, reported: list[Run]) -> None:
    scheduler.schedule_task(nothing, trigger=At(ZERO + s(1)), missed=Missed.SKIP, remove_when_over=True)
    async with scheduler:
        loop.virtual_clock.block(60)
        await asyncio.sleep(1)

        assert len(scheduler.tasks) == 0
        assert endings(reported) == [("SKIPPED", "missed", 1)]


async def test_one_that_never_has_a_tick_leaves_with_a_warning(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(nothing, trigger=At(ZERO - HOUR), name="once", remove_when_over=True)
    async with scheduler:
        await asyncio.sleep(1)

        assert len(scheduler.tasks) == 0
    assert "'once' has no tick" in caplog.text


async def test_one_whose_last_run_is_cut_by_stop_leaves(scheduler: Scheduler) -> None:
    scheduler.schedule_task(partial(asyncio.sleep, 5), trigger=At(ZERO + s(1)), remove_when_over=True)
    async with scheduler:
        await asyncio.sleep(2)

    assert len(scheduler.tasks) == 0


class FailsOnce:
    """Has a tick each minute, and cannot tell the one after the next for a while."""

    failing = False

    def after(self, moment: datetime) -> datetime | None:
        if self.failing:
            raise ValueError("no answer")
        return Every(60).after(moment)

    def at_or_before(self, moment: datetime) -> datetime | None:
        return Every(60).at_or_before(moment)


async def test_a_failing_trigger_is_not_over(scheduler: Scheduler, loop: VirtualLoop) -> None:
    rule = FailsOnce()
    task = scheduler.schedule_task(partial(asyncio.sleep, 10), trigger=rule, remove_when_over=True)
    async with scheduler:
        await asyncio.sleep(1)
        rule.failing = True
        await asyncio.sleep(60)
    assert task.running is False
    assert len(scheduler.tasks) == 1


async def test_a_rescheduled_one_stays(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(ZERO - HOUR), remove_when_over=True)
    async with scheduler:
        task.reschedule(60)
        await asyncio.sleep(61)

        assert (len(scheduler.tasks), starts_s(task)) == (1, [60])


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_the_flag_is_a_bool(door: Scheduler, value: Any) -> None:
    with pytest.raises(InvalidArgument, match="remove_when_over must be True or False, got"):
        door.schedule_task(nothing, 60, remove_when_over=value)


def test_a_shared_task_is_not_removed_by_itself(door: Scheduler) -> None:
    with pytest.raises(InvalidArgument, match=r"remove_when_over must be False with Scope.CLUSTER: .*task.remove\(\)"):
        door.schedule_task(nothing, trigger=At(ZERO), name="once", scope=Scope.CLUSTER, remove_when_over=True)
