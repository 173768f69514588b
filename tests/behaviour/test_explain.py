"""``scheduler.explain()`` of local tasks: each situation is made for real, and the sentence is read."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviour.tasks import job
from kaiju_app._core.clock import epoch_us, utc
from kaiju_app.errors import InvalidArgument, UnknownTask
from kaiju_app.scheduler import (
    CauseKind,
    Cron,
    Every,
    Except,
    ExecPolicy,
    Explanation,
    Fate,
    FirstRun,
    Missed,
    Scheduler,
    current_run,
)
from support.virtual import EPOCH_US, VirtualLoop, close_loop

BERLIN = ZoneInfo("Europe/Berlin")


def moment(second: float) -> datetime:
    """Return the wall-clock time so many seconds after the test began, at 08:00:05Z."""
    return utc(EPOCH_US + 5_000_000) + timedelta(seconds=second)


async def told(scheduler: Scheduler, second: float, task: str = "job") -> str:
    return str(await scheduler.explain(task, moment(second))).removeprefix(f"task {task!r}").removeprefix(", tick ")


async def linger(seconds: float = 25) -> None:
    await asyncio.sleep(seconds)


def linger_in_thread(loop: VirtualLoop) -> None:
    loop.virtual_clock.block(7)


# --- it ran ---


async def test_it_ran(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, (2,), name="job")
    async with scheduler:
        await asyncio.sleep(15)
        found = await scheduler.explain("job", moment(10))

    assert str(found) == "task 'job', tick 2027-01-15 08:00:15Z: ran at 08:00:15Z: SUCCEEDED after 2 s."
    assert (found.fate, found.tick, found.before, found.after) == (Fate.RAN, moment(10), moment(0), moment(20))
    assert found.run is not None
    assert found.run.duration_s == 2
    assert json.loads(json.dumps(found.json_repr()))["fate"] == "ran"


async def test_it_failed_after_all_attempts(scheduler: Scheduler) -> None:
    async def fail() -> None:
        raise ValueError("no luck\nat all")

    scheduler.schedule_task(fail, 10, name="job", retries=2, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(5)

        assert await told(scheduler, 0) == (
            "2027-01-15 08:00:05Z: ran at 08:00:05Z: FAILED after 2 s and 3 attempts: ValueError: no luck."
        )


async def test_it_was_cut(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, name="job")
    scheduler.schedule_task(linger, 10, name="short", max_timeout_s=3)
    async with scheduler:
        await asyncio.sleep(15)

        assert "ran at 08:00:05Z: CANCELLED (replaced) after 10 s." in await told(scheduler, 0)
        assert "ran at 08:00:05Z: TIMED_OUT (deadline) after 3 s." in await told(scheduler, 0, "short")


async def test_it_was_asked_for(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(4)
        await task.run_now()

        assert "was asked for by run_now(), and ran at 08:00:09Z: SUCCEEDED" in await told(scheduler, 4)


async def test_it_is_running(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 60, name="job")
    async with scheduler:
        await asyncio.sleep(5)
        found = await scheduler.explain("job", moment(0))

    assert (found.fate, str(found)) == (
        Fate.RUNNING, "task 'job', tick 2027-01-15 08:00:05Z: is running, since 08:00:05Z."
    )  # fmt: skip


# --- it was late ---


async def test_it_was_late_because_the_run_before_took_long(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, (14,), name="job", policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(13)
        waiting = await scheduler.explain("job", moment(10))
        await asyncio.sleep(20)

        assert waiting.fate is Fate.WAITING
        assert str(waiting).endswith(
            "is due, and waits because the run of tick 08:00:05Z was in progress, since 08:00:05Z."
        )
        assert await told(scheduler, 10) == (
            "2027-01-15 08:00:15Z: ran at 08:00:19Z, 4 s late, because the run of tick 08:00:05Z was in progress, and "
            "took 14 s: SUCCEEDED after 14 s."
        )


async def test_it_was_late_because_it_was_held(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(8)
        await task.pause("deploy")
        await asyncio.sleep(4)
        held = await told(scheduler, 10)
        await task.resume()
        await asyncio.sleep(1)

        assert held.endswith("is due, and waits because the task was held by pause() (deploy) since 08:00:13Z.")
        assert "2 s late, because the task was held by pause() (deploy) from 08:00:13Z to 08:00:17Z: " in await told(
            scheduler, 10
        )


async def test_it_was_late_because_the_loop_was_blocked(scheduler: Scheduler, loop: VirtualLoop) -> None:
    async def block() -> None:
        loop.virtual_clock.block(5)

    scheduler.schedule_task(block, 1000, name="greedy", first_run=moment(8))
    scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(20)
        found = await scheduler.explain("job", moment(10))

    assert "ran at 08:00:18Z, 3 s late, because the loop was blocked" in str(found)
    assert "'greedy'" in str(found)
    assert [CauseKind.BLOCKED] == [cause.kind for cause in found.causes]


async def test_it_was_late_and_nobody_knows_why(scheduler: Scheduler, loop: VirtualLoop) -> None:
    """A block of less than a second is not kept."""
    scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(9.9)
        loop.virtual_clock.block(0.6)
        await asyncio.sleep(1)

        assert "500 ms late, and it is not known why: blocks of the loop that are short" in await told(scheduler, 10)


# --- it did not run ---


async def test_the_run_before_was_in_progress(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, name="job", policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(15)
        during = await told(scheduler, 10)
        await asyncio.sleep(20)
        found = await scheduler.explain("job", moment(10))

    assert during == (
        "2027-01-15 08:00:15Z: was skipped (overlap): the run of tick 08:00:05Z was in progress, since 08:00:05Z."
    )
    assert str(found) == (
        "task 'job', tick 2027-01-15 08:00:15Z: was skipped (overlap): the run of tick 08:00:05Z was in progress, and "
        "took 25 s; with it 2 ticks in all, from 08:00:15Z to 08:00:25Z."
    )
    assert [(CauseKind.OVERLAP, moment(0))] == [(cause.kind, cause.tick) for cause in found.causes]


async def test_the_jitter_of_a_tick_is_not_known_any_more(scheduler: Scheduler, loop: VirtualLoop) -> None:
    """A start begins the grid of an interval anew: of ticks before it, only that of a record keeps its jitter."""
    scheduler._engine.notifier.instance = "the same"  # The jitter depends on it.
    task = scheduler.schedule_task(job, 10, name="job", missed=Missed.SKIP, jitter_s=2, first_run=FirstRun.NEXT)
    async with scheduler:
        async with task.suspend("deploy"):
            await asyncio.sleep(13)
        await asyncio.sleep(0.3)
        loop.virtual_clock.block(8)  # Until the time of the tick is over, and before it is due.
        await asyncio.sleep(0)
        async with task.suspend("deploy"):
            await asyncio.sleep(2)
        await asyncio.sleep(2)
    await scheduler.start()

    assert "(deploy) from 08:00:26.300Z to 08:00:28.300Z; " in await told(scheduler, 20)
    await scheduler.stop()


async def test_a_run_that_hung_was_in_the_way(scheduler: Scheduler) -> None:
    async def stubborn() -> None:
        for _ in range(4):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                continue

    scheduler.schedule_task(stubborn, 10, name="job")
    async with scheduler:
        await asyncio.sleep(25)

        assert "was skipped (hung): the run of tick 08:00:05Z was in progress, since" in await told(scheduler, 20)
        await asyncio.sleep(100)


async def test_it_was_held(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(8)
        async with task.suspend("backup"):
            await asyncio.sleep(9)
        await asyncio.sleep(1)

        assert (
            "was skipped (suspended): the task was held by suspend() in Task-1 (backup) from 08:00:13Z to 08:00:22Z."
        ) in (await told(scheduler, 10)).replace(_this_task(), "Task-1")


def _this_task() -> str:
    task = asyncio.current_task()
    assert task is not None
    return task.get_name()


async def test_all_tasks_were_held(scheduler: Scheduler) -> None:
    scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(8)
        async with scheduler.suspend("backup"):
            await asyncio.sleep(9)
        await asyncio.sleep(1)

        assert "(backup) from 08:00:13Z to 08:00:22Z." in await told(scheduler, 10)


async def test_it_was_disabled(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(8)
        task.disable()
        await asyncio.sleep(4)
        found = await scheduler.explain("job", moment(10))
        task.enable()

        assert found.fate is Fate.DISABLED
        assert re.search(
            r"does not run: the task was disabled by disable\(\) at .*test_explain.py:\d+ since 08:00:13Z", str(found)
        )
        assert "was skipped (disabled): the task was disabled by disable() at" in await told(scheduler, 10)
        assert " from 08:00:13Z to 08:00:17Z." in await told(scheduler, 10)


async def test_a_run_has_disabled_it(scheduler: Scheduler) -> None:
    async def off() -> None:
        scheduler.tasks["job"].disable()

    scheduler.schedule_task(off, 1000, name="switch", first_run=moment(8))
    scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(15)

        assert "disabled by disable() in the run of task 'switch' at /" in await told(scheduler, 10)


async def test_it_was_missed_while_the_loop_was_blocked(scheduler: Scheduler, loop: VirtualLoop) -> None:
    scheduler.schedule_task(job, 10, name="job", missed=Missed.SKIP)
    async with scheduler:
        await asyncio.sleep(8)
        loop.virtual_clock.block(17)
        await asyncio.sleep(3)

        assert "was skipped (missed): the loop was blocked from 08:00:15Z to 08:00:30Z; with it" in await told(
            scheduler, 10
        )


async def test_it_was_missed_while_the_machine_slept(scheduler: Scheduler, loop: VirtualLoop) -> None:
    scheduler.schedule_task(job, 10, name="job", missed=Missed.SKIP)
    async with scheduler:
        await asyncio.sleep(8)
        loop.virtual_clock.sleep_machine(17)
        await asyncio.sleep(3)

        assert "was skipped (missed): the machine slept from 08:00:15Z to 08:00:32Z" in await told(scheduler, 10)


async def test_the_clock_was_set_forward_over_it(scheduler: Scheduler, loop: VirtualLoop) -> None:
    scheduler.schedule_task(job, name="job", trigger=Every(60), missed=Missed.SKIP)
    scheduler.schedule_task(job, 10, name="often")
    async with scheduler:
        await asyncio.sleep(5)
        loop.virtual_clock.step_wall(600)
        await asyncio.sleep(20)

        assert "was skipped (missed): the wall clock was set from 08:00:15Z to 08:10:15Z" in await told(scheduler, 175)
        found = await scheduler.explain("often", moment(100))
        assert "was not due at 2027-01-15 08:01:45Z, which the clock never showed: the wall clock was set from" in str(
            found
        )


async def test_the_clock_was_set_back_by_hours(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(job, name="job", trigger=Every(60))
    scheduler.schedule_task(job, 10, name="often")
    async with scheduler:
        await asyncio.sleep(50)
        async with task.suspend():
            await asyncio.sleep(10)
            loop.virtual_clock.step_wall(-4 * 3600)
            await asyncio.sleep(20)

        assert "was skipped (suspended)" in await told(scheduler, 55)


async def test_more_were_missed_than_are_caught_up(scheduler: Scheduler, loop: VirtualLoop) -> None:
    scheduler.schedule_task(job, 10, name="job", missed=Missed.ALL, catchup_s=60)
    async with scheduler:
        await asyncio.sleep(8)
        loop.virtual_clock.block(300)
        await asyncio.sleep(30)

        assert "was skipped (backlog full): the loop was blocked from 08:00:15Z to 08:05:13Z" in await told(
            scheduler, 10
        )


async def test_later_ticks_have_overtaken_it(scheduler: Scheduler, loop: VirtualLoop) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.35)

    task = scheduler.schedule_task(work, 0.1, name="job")
    async with scheduler:
        await asyncio.sleep(2.2)
        ran = {epoch_us(run.scheduled_at) for run in task.history() if run.started_at is not None}
        for number in range(20):
            tick = epoch_us(moment(0)) + 100_000 * number
            found = await scheduler.explain("job", utc(tick))
            assert (Fate.RAN if tick in ran else Fate.SKIPPED, utc(tick)) == (found.fate, found.tick), found
            assert (tick in ran) is not ("was skipped (missed): overtaken by later ticks, some of which" in str(found))


async def test_the_scheduler_was_stopped(scheduler: Scheduler) -> None:
    scheduler.schedule_task(job, 10, name="job")
    before = await told(scheduler, 0)
    async with scheduler:
        await asyncio.sleep(12)
    await asyncio.sleep(30)
    async with scheduler:
        await asyncio.sleep(5)
        found = await scheduler.explain("job", moment(20))

        assert before == ": was not due at 2027-01-15 08:00:05Z: the scheduler was not started yet."
        assert found.fate is Fate.NOT_DUE
        assert "was not due at 2027-01-15 08:00:25Z: the scheduler was stopped from 08:00:17Z to 08:00:47Z." in str(
            found
        )
        assert "was not due at 2027-01-15 08:00:00Z: the scheduler was first started at 08:00:05Z." in await told(
            scheduler, -5
        )
        assert "ran at 08:00:15Z" in await told(scheduler, 10)
        assert "was not due at 2027-01-15 08:00:09Z: the ticks before and after are 08:00:05Z and 08:00:15Z" in (
            await told(scheduler, 4)
        )


async def test_it_waited_when_the_scheduler_was_stopped(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, name="job", policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)

    assert "was skipped (shutdown): the scheduler was stopped since 08:00:17Z." in await told(scheduler, 10)


async def test_it_got_another_rule(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(linger, 10, (14,), name="job", policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(12)
        task.reschedule(60)
        await asyncio.sleep(1)

        assert "was skipped (rescheduled): the task got another rule at 08:00:17Z." in await told(scheduler, 10)
        found = await scheduler.explain("job", moment(5))
        assert (found.fate, found.tick) == (Fate.UNKNOWN, None)
        assert "another rule was in force at 2027-01-15 08:00:10Z (every 10 s), and nothing is kept of a tick" in str(
            found
        )


# --- there was no tick ---


async def test_it_was_not_due(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, (5,), name="job")
    async with scheduler:
        await asyncio.sleep(16)
        found = await scheduler.explain("job", moment(3))

    assert (found.fate, found.tick, found.before, found.after) == (Fate.NOT_DUE, None, moment(0), moment(10))
    assert str(found) == (
        "task 'job': was not due at 2027-01-15 08:00:08Z: the ticks before and after are 08:00:05Z and 08:00:15Z; the "
        "run of tick 08:00:05Z was in progress."
    )


async def test_it_is_due_later(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, name="job", trigger=Cron("0 12 * * *"))
    async with scheduler:
        await asyncio.sleep(55)
        noon = datetime(2027, 1, 15, 12, tzinfo=UTC)

        assert str(await scheduler.explain(task, noon)).endswith("tick 2027-01-15 12:00:00Z: is due in 3 h 59 min.")
        await task.pause("later")
        found = await scheduler.explain(task, noon)
        assert found.fate is Fate.PLANNED
        assert "but does not start while this lasts: the task was held by pause() (later) since 08:01:00Z" in str(found)


async def test_daylight_saving_has_moved_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, name="job", trigger=Cron("30 2 * * *", tz="Europe/Berlin"))
    async with scheduler:
        found = await scheduler.explain(task, datetime(2027, 3, 28, 2, 30, tzinfo=BERLIN))

    assert found.fate is Fate.NOT_DUE
    assert "are 01:00:00Z and 2027-03-29 00:30:00Z; the clocks in Europe/Berlin were set from 02:00 to 03:00" in str(
        found
    )


async def test_an_exclusion_has_left_it_out(scheduler: Scheduler) -> None:
    closed = (datetime(2027, 1, 15, 9, tzinfo=UTC), datetime(2027, 1, 15, 11, tzinfo=UTC))
    task = scheduler.schedule_task(job, name="job", trigger=Except(Cron("0 * * * *"), closed))
    async with scheduler:
        found = await scheduler.explain(task, datetime(2027, 1, 15, 10, tzinfo=UTC))

    assert found.fate is Fate.NOT_DUE
    assert "its rule has a tick then, which is left out: from 2027-01-15T09:00:00+00:00 to 2027-01-15T11:00:00" in str(
        found
    )


async def test_it_may_not_have_been_registered_then(scheduler: Scheduler) -> None:
    async with scheduler:
        await asyncio.sleep(3600)
        scheduler.schedule_task(job, name="job", trigger=Cron("* * * * *"))
        await asyncio.sleep(120)
        found = await scheduler.explain("job", datetime(2027, 1, 15, 8, 30, tzinfo=UTC))

    assert found.fate is Fate.UNKNOWN
    assert "is a tick of its rule, but nothing is known of it: its first record is of tick 09:01:00Z, so it may" in str(
        found
    )


async def test_it_is_older_than_what_is_kept(loop: VirtualLoop) -> None:
    scheduler = Scheduler(history=3, clock=loop.virtual_clock)
    scheduler.schedule_task(job, 10, name="job")
    async with scheduler:
        await asyncio.sleep(101)
        found = await scheduler.explain("job", moment(10))

    assert found.fate is Fate.FORGOTTEN
    assert str(found) == (
        "task 'job', tick 2027-01-15 08:00:15Z: what was at 2027-01-15 08:00:15Z is not known any more: the oldest "
        "record is of tick 08:01:25Z."
    )


async def test_the_door(scheduler: Scheduler) -> None:
    with pytest.raises(UnknownTask, match="there is no task 'job'"):
        await scheduler.explain("job", moment(0))
    with pytest.raises(InvalidArgument, match="at must be an aware datetime"):
        await scheduler.explain("job", datetime(2027, 1, 1))  # noqa: DTZ001
    wrong: Any = None
    with pytest.raises(InvalidArgument, match="task must be a task or its name"):
        await scheduler.explain(wrong, moment(0))


# --- every tick of a random period ---

GAP = 10

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sleep"), st.integers(1, 45)),
        st.tuples(st.just("suspend"), st.integers(1, 45)),
        st.tuples(st.just("suspend all"), st.integers(1, 45)),
        st.tuples(st.just("pause"), st.integers(1, 45)),
        st.tuples(st.just("disable"), st.integers(1, 45)),
        st.tuples(st.just("block"), st.integers(2, 45)),
        st.tuples(st.just("sleep of the machine"), st.integers(2, 45)),
        st.tuples(st.just("stop"), st.integers(1, 45)),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(
    STEPS,
    st.sampled_from(ExecPolicy),
    st.sampled_from(Missed),
    st.sampled_from([0, 3, 8, 14, 27]),
    st.booleans(),
    st.sampled_from([0, 2]),
)
def test_every_tick_is_explained_as_the_journal_has_it(
    steps: list[tuple[str, int]], policy: ExecPolicy, missed: Missed, takes: int, is_rule: bool, jitter: int
) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(explained(loop, steps, policy, missed, takes, is_rule, jitter))
    finally:
        close_loop(loop)


async def explained(
    loop: VirtualLoop,
    steps: list[tuple[str, int]],
    policy: ExecPolicy,
    missed: Missed,
    takes: int,
    is_rule: bool,
    jitter: int,
) -> None:
    journal: dict[int, int] = {}

    async def body() -> None:
        journal[epoch_us(current_run().scheduled_at)] = loop.virtual_clock.wall()
        await asyncio.sleep(takes)

    scheduler = Scheduler(history=1000, clock=loop.virtual_clock)
    scheduler._engine.notifier.instance = "the same"  # The jitter depends on it.
    trigger, interval = (Every(GAP), None) if is_rule else (None, GAP)
    task = scheduler.schedule_task(
        body, interval, trigger=trigger, name="job", policy=policy, missed=missed, jitter_s=jitter,
        first_run=FirstRun.NEXT,
    )  # fmt: skip
    await scheduler.start()
    begin = loop.virtual_clock.wall()
    for what, seconds in steps:
        match what:
            case "suspend":
                async with task.suspend("why"):
                    await asyncio.sleep(seconds)
            case "suspend all":
                async with scheduler.suspend("why"):
                    await asyncio.sleep(seconds)
            case "pause":
                await task.pause("why", for_s=seconds)
                await asyncio.sleep(seconds + 1)
            case "disable":
                task.disable()
                await asyncio.sleep(seconds)
                task.enable()
            case "block":
                await asyncio.sleep(0.3)  # Not between a tick and the first step of its run, where no timer is late.
                loop.virtual_clock.block(seconds)
                await asyncio.sleep(0)
            case "sleep of the machine":
                await asyncio.sleep(0.3)
                loop.virtual_clock.sleep_machine(seconds)
                await asyncio.sleep(0)
            case "stop":
                await scheduler.stop()
                await asyncio.sleep(seconds)
                await scheduler.start()
            case _:
                await asyncio.sleep(seconds)
    await asyncio.sleep(61.25)  # Until what was started has begun, and a sleep of the machine is noticed.
    for second in range(-20, (loop.virtual_clock.wall() - begin) // 1_000_000 + 30, 5):
        at = begin + second * 1_000_000
        found = await scheduler.explain("job", utc(at))
        check(found, at, loop.virtual_clock.wall(), journal)
    for tick, started in journal.items():
        found = await scheduler.explain("job", utc(tick))
        assert found.fate in (Fate.RAN, Fate.RUNNING), found
        assert found.tick == utc(tick)
        if found.run is not None:
            assert found.run.started_at == utc(started)
            if started - epoch_us(found.run.due) >= 1_000_000:
                assert found.causes, found
    await scheduler.stop()


def check(found: Explanation, at: int, now: int, journal: dict[int, int]) -> None:
    """Compare what is *found* of a whole second with the journal."""
    tick = None if found.tick is None else epoch_us(found.tick)
    if found.run is not None and found.run.started_at is not None and not found.run.attempts:
        assert "before its function was called" in str(found)
    elif found.fate in (Fate.RAN, Fate.RUNNING):
        assert tick in journal, found
    elif tick is not None:
        assert tick not in journal or found.fate is Fate.PLANNED, found
    if found.fate is Fate.SKIPPED:
        assert found.causes, found
    if found.fate is Fate.PLANNED:
        assert tick is not None
        assert tick > now - 3_000_000, found
    if found.fate is Fate.NOT_DUE:
        assert not [each for each in journal if abs(each - at) < 1_000_000], found
    assert found.fate is not Fate.FORGOTTEN
