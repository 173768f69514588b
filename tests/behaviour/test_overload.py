"""When the loop has too much to do: the latest due tick of each task runs, the others are counted, and it recovers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app.scheduler import Cron, ExecPolicy, FirstRun, Missed, Outcome, Reason, Run, ScheduledTask, Scheduler
from support.costly import CostlyLoop
from support.reading import at, endings
from support.virtual import VirtualLoop, close_loop


def run_in_new_loop(main: Callable[[VirtualLoop, Scheduler], Awaitable[None]]) -> None:
    loop = VirtualLoop()
    loop.run_until_complete(main(loop, Scheduler(clock=loop.virtual_clock, history=3)))
    close_loop(loop)


async def nothing() -> None: ...


def covered(task: ScheduledTask[None]) -> int:
    """Return the number of ticks that have ended."""
    return sum(task.counts.values())


# --- the latest due tick runs, and every tick is counted ---


async def test_what_is_overtaken_is_counted_in_one_record(scheduler: Scheduler, loop: VirtualLoop) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.35)

    task = scheduler.schedule_task(work, 0.1, name="busy")
    async with scheduler:
        await asyncio.sleep(2.2)
        runs = [run for run in task.history() if run.outcome is Outcome.SUCCEEDED]
        (overtaken,) = (run for run in task.history() if run.outcome is Outcome.SKIPPED)

        assert [at(run.scheduled_at) for run in runs][:3] == [0, 0.3, 0.7]
        assert [run.lateness_s for run in runs][:3] == [0, 0.05, 0]
        assert (overtaken.reason, overtaken.count, overtaken.finished_at) == (
            Reason.MISSED,
            covered(task) - len(runs),
            None,
        )
        assert overtaken.error == "overtaken by later ticks, some of which ran: the loop had too much to do"
        assert at(overtaken.scheduled_at) == 0.1
        assert task.history()[-1] == task.last_run == runs[-1]
        assert overtaken.last_scheduled_at < runs[-1].scheduled_at


async def test_it_runs_although_the_next_tick_is_near(scheduler: Scheduler, loop: VirtualLoop) -> None:
    """After a stall it would give way to the next one."""

    async def work() -> None:
        loop.virtual_clock.block(0.19)

    task = scheduler.schedule_task(work, 0.1, first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(0.5)

    assert [at(run.scheduled_at) for run in task.history() if run.started_at] == [0.1, 0.2, 0.4, 0.6]


async def test_after_a_stall_the_latest_missed_tick_gives_way_to_the_next_one_if_that_is_near(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    tasks = [scheduler.schedule_task(nothing, 2), scheduler.schedule_task(nothing, 1.6)]
    async with scheduler:
        await asyncio.sleep(1)
        loop.virtual_clock.block(3.5)
        await asyncio.sleep(0.2)

        assert endings(tasks[0].history()) == [("SUCCEEDED", None, 1), ("SKIPPED", "missed", 1), ("SUCCEEDED", None, 1)]
        assert endings(tasks[1].history()) == [("SUCCEEDED", None, 1), ("SKIPPED", "missed", 2)]
        assert tasks[1].history()[-1].error is None


@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize("jitter_s", [0.0, 0.01])
@pytest.mark.parametrize("what", ["remove", "disable", "reschedule"])
async def test_a_listener_that_hears_of_skipped_ticks_sheds_the_load_at_once(
    scheduler: Scheduler, loop: VirtualLoop, what: str, jitter_s: float, stall: bool
) -> None:
    starts: dict[str, list[float]] = {}
    acted: dict[str, float] = {}

    async def work(name: str) -> None:
        starts.setdefault(name, []).append(loop.time())
        loop.virtual_clock.block(0.035)

    def shed(run: Run) -> None:
        if run.outcome is not Outcome.SKIPPED or run.task in acted:
            return
        acted[run.task] = loop.time()
        task = scheduler.tasks[run.task]
        if what == "remove":
            task.remove()
        elif what == "disable":
            task.disable()
        else:
            task.reschedule(100)

    scheduler.subscribe(shed)
    for number in range(10):
        scheduler.schedule_task(work, 0.1, (str(number),), name=str(number), jitter_s=jitter_s)
    async with scheduler:
        if stall:
            await asyncio.sleep(0.5)
            loop.virtual_clock.block(5)
        await asyncio.sleep(10)
        engine = scheduler._engine
        planned = [item[2].name for item in engine.queue.items() if item[1] == item[2].seq]
        known = [name for name, entry in engine.entries.items() if entry.seq]

    assert len(acted) > 5
    # The run in progress goes on, and one that had begun but had not come to its first step.
    assert all(len([each for each in starts[name] if each > at_s + 1e-6]) <= 1 for name, at_s in acted.items())
    assert sorted(planned) == sorted(known)


@given(
    st.lists(st.sampled_from([0.1, 0.25, 1.0]), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.02]),
    st.floats(0.01, 0.2),
    st.integers(1, 5),
    st.sampled_from([None, "history", "stop"]),
)
def test_every_tick_is_counted_and_heard_of_once(
    gaps: list[float], jitter_s: float, cost_s: float, seconds: int, reading: str | None
) -> None:
    heard: list[Run] = []

    async def main(loop: VirtualLoop, scheduler: Scheduler) -> None:
        async def work() -> None:
            loop.virtual_clock.block(cost_s)

        scheduler.subscribe(heard.append)
        tasks = [scheduler.schedule_task(work, gap, jitter_s=jitter_s) for gap in gaps]
        started = loop.virtual_clock.steady()
        async with scheduler:
            for _ in range(seconds):
                await asyncio.sleep(1)
                if reading == "history":
                    assert [run for task in tasks for run in task.history()]
                elif reading == "stop":
                    assert [task.json_repr() for task in tasks]
        for task, gap in zip(tasks, gaps, strict=True):
            ticks = (loop.virtual_clock.steady() - started) // round(gap * 1e6) + 1
            closed = [run for run in heard if run.task == task.name and run.finished_at is not None]
            waiting = next((run for run in task.history()[-1:] if run.finished_at is None), None)
            assert ticks - 1 <= covered(task) <= ticks  # The last one may have its jitter ahead.
            assert covered(task) == sum(run.count for run in closed) + (waiting.count if waiting else 0)
            assert len(task.history()) <= 3

    run_in_new_loop(main)


async def test_listeners_hear_of_overtaken_ticks_at_first_and_after_a_minute(
    scheduler: Scheduler, loop: VirtualLoop, reported: list[Run]
) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.15)

    task = scheduler.schedule_task(work, 0.1)
    async with scheduler:
        await asyncio.sleep(90)
        skips = [run for run in reported if run.outcome is Outcome.SKIPPED]

        assert [run.finished_at is None for run in skips] == [True, False, True]
        assert [at(run.scheduled_at) for run in skips[:2]] == [0.2, 0.2]
        closed_at = at(skips[1].finished_at)
        assert closed_at is not None
        assert 60.2 <= closed_at < 61
        assert skips[1].count == 201  # Of 600 ticks, every third.
    skips = [run for run in reported if run.reason is Reason.MISSED]
    assert [run.finished_at is None for run in skips] == [True, False, True, False]
    assert covered(task) == sum(run.count for run in reported if run.finished_at is not None)


async def test_an_overload_is_logged_once_a_minute(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.15)

    for _ in range(3):
        scheduler.schedule_task(work, 0.1)
    async with scheduler:
        await asyncio.sleep(59)

    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (line,) = [text for text in told if "skipped (missed)" in text]
    assert line.endswith("Likely cause: the loop is overloaded")


async def test_a_query_of_the_ledger_finds_the_open_record(scheduler: Scheduler, loop: VirtualLoop) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.15)

    task = scheduler.schedule_task(work, 0.1)
    async with scheduler:
        await asyncio.sleep(2)
        page = await scheduler.runs(reasons=Reason.MISSED)

        assert [(run.task, run.count, run.finished_at) for run in page.runs] == [
            (task.name, task.counts[Outcome.SKIPPED], None)
        ]


async def test_a_task_that_is_removed_in_an_overload_is_heard_of_to_the_end(
    scheduler: Scheduler, loop: VirtualLoop, reported: list[Run]
) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.15)

    task = scheduler.schedule_task(work, 0.1)
    async with scheduler:
        await asyncio.sleep(5)
        task.remove()
    assert covered(task) == sum(run.count for run in reported if run.finished_at is not None) + sum(
        run.count for run in task.history()[-1:] if run.finished_at is None
    )


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("policy", ExecPolicy)
async def test_no_policy_loses_a_tick(
    scheduler: Scheduler, loop: VirtualLoop, missed: Missed, policy: ExecPolicy
) -> None:
    async def work() -> None:
        loop.virtual_clock.block(0.03)
        await asyncio.sleep(0.12)

    tasks = [
        scheduler.schedule_task(work, trigger=Cron("* * * * * *"), missed=missed, policy=policy),
        *(scheduler.schedule_task(work, 0.1, missed=missed, policy=policy, first_run=FirstRun.NOW) for _ in range(5)),
    ]
    started = loop.virtual_clock.steady()
    async with scheduler:
        await asyncio.sleep(10)
        stopped = loop.virtual_clock.steady()

    assert covered(tasks[0]) == (stopped - started) // 1_000_000
    assert {covered(task) for task in tasks[1:]} == {(stopped - started) // 100_000 + 1}


# --- fairness ---


@given(st.lists(st.integers(1, 40), min_size=2, max_size=12), st.sampled_from([0.1, 0.3]))
def test_equal_tasks_get_equal_shares_of_an_overload(costs_ms: list[int], gap: float) -> None:
    """Bodies of different costs, at one interval, that need twice the time that there is."""
    total = sum(costs_ms) / 1000
    factor = 2 * gap / total
    runs = [0] * len(costs_ms)

    async def main(loop: VirtualLoop, scheduler: Scheduler) -> None:
        async def work(number: int, cost_s: float) -> None:
            runs[number] += 1
            loop.virtual_clock.block(cost_s)

        for number, cost in enumerate(costs_ms):
            scheduler.schedule_task(work, gap, (number, cost / 1000 * factor))
        async with scheduler:
            await asyncio.sleep(60 * gap)

    run_in_new_loop(main)
    assert min(runs) >= 0.9 * sum(runs) / len(runs)


@given(st.lists(st.sampled_from([0.01, 0.02, 0.05, 0.1]), min_size=3, max_size=15), st.integers(1, 20))
def test_short_intervals_do_not_starve_long_ones(gaps: list[float], cost_ms: int) -> None:
    """A task that comes rarely is late by at most what one round of all tasks takes, beside the one in progress."""
    late: list[float] = []

    async def main(loop: VirtualLoop, scheduler: Scheduler) -> None:
        async def work() -> None:
            loop.virtual_clock.block(cost_ms / 1000)

        for gap in gaps:
            scheduler.schedule_task(work, gap)
        rare = scheduler.schedule_task(work, 1.7, first_run=FirstRun.NEXT)
        async with scheduler:
            await asyncio.sleep(6)
            late.extend(run.lateness_s for run in rare.history() if run.lateness_s is not None)
            assert rare.counts[Outcome.SKIPPED] == 0

    run_in_new_loop(main)
    assert late
    assert max(late) <= (2 * len(gaps) + 1) * cost_ms / 1000 + 0.001


# --- an overload ends with its cause ---


DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))
TASKS = 200


async def a_block(loop: CostlyLoop, add: Callable[[], None]) -> None:
    await a_slow_start(loop, add)
    loop.virtual_clock.block(1)


async def a_sleep_of_the_machine(loop: CostlyLoop, add: Callable[[], None]) -> None:
    await a_slow_start(loop, add)
    loop.virtual_clock.sleep_machine(10)


async def a_burst_of_registrations(loop: CostlyLoop, add: Callable[[], None]) -> None:
    for _ in range(TASKS):
        add()


async def a_slow_start(loop: CostlyLoop, add: Callable[[], None]) -> None:
    for _ in range(TASKS):
        add()
        await asyncio.sleep(0.005)
    await asyncio.sleep(1)


def share_of_runs(call_us: int, disturb: Callable[[CostlyLoop, Callable[[], None]], Awaitable[None]]) -> float:
    """Return the share of ticks that run in the third second after a disturbance.

    Args:
        call_us: Microseconds that each call of a function takes.
    """
    loop = CostlyLoop()
    scheduler = Scheduler(clock=loop.virtual_clock)
    logging.getLogger("kaiju_app.scheduler").setLevel(logging.ERROR)  # Writing to the log takes calls as well.
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    def add() -> None:
        scheduler.schedule_task(work, 0.1)

    async def main() -> float:
        async with scheduler:
            with loop.each_call_takes(call_us):
                await disturb(loop, add)
                await asyncio.sleep(2)
                before, since = runs, loop.virtual_clock.steady()
                await asyncio.sleep(1)
                return (runs - before) / (TASKS * 10 * (loop.virtual_clock.steady() - since) / 1e6)

    try:
        return loop.run_until_complete(main())
    finally:
        logging.getLogger("kaiju_app.scheduler").setLevel(logging.NOTSET)
        close_loop(loop)


@pytest.mark.skipif(DEBUG, reason="asyncio's debug mode makes calls of its own, which take time here")
@pytest.mark.parametrize("disturb", [a_block, a_sleep_of_the_machine, a_burst_of_registrations])
def test_an_overload_ends_with_its_cause(
    disturb: Callable[[CostlyLoop, Callable[[], None]], Awaitable[None]],
) -> None:
    """If late ticks cost more than punctual ones, being late would make later, and it would never end."""
    most = next(call_us for call_us in range(40, 0, -2) if share_of_runs(call_us, a_slow_start) >= 0.99)

    assert share_of_runs(round(most * 0.7), disturb) >= 0.98
