"""When tasks run: the first run, the grid, unreliable clocks, and missed ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kaiju_app._core.clock import utc
from kaiju_app._engine.policy import MAX_BACKLOG
from kaiju_app.scheduler import (
    At,
    Clock,
    Every,
    ExecPolicy,
    FirstRun,
    Missed,
    Outcome,
    Reason,
    Run,
    ScheduledTask,
    Scheduler,
    current_run,
)
from support import reading
from support.reading import History, at, endings
from support.virtual import EPOCH_US, VirtualLoop, close_loop

ZERO = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=EPOCH_US + 5_000_000)  # When a test begins.
HOUR = 3600
DAY = 86_400

POLICIES = list(ExecPolicy)


def after(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def starts(task: ScheduledTask[Any]) -> list[float | None]:
    return [at(run.started_at) for run in task.history() if run.started_at is not None]


def ticks(task: ScheduledTask[Any]) -> list[float | None]:
    return [at(run.scheduled_at) for run in task.history()]


def book(task: ScheduledTask[Any]) -> History:
    return reading.history_of(task, at)


def covered(task: ScheduledTask[Any]) -> int:
    """Return the number of ticks that have ended."""
    return sum(task.counts.values())


async def job(takes_s: float = 0) -> None:
    if takes_s:
        await asyncio.sleep(takes_s)


async def turns(number: int = 5) -> None:
    """Return to the loop a few times without letting time pass."""
    for _ in range(number):
        await asyncio.sleep(0)


# --- the first run ---


@pytest.mark.parametrize(
    ("first_run", "expected"),
    [
        (None, [0, 10, 20]),
        (FirstRun.NOW, [0, 10, 20]),
        (FirstRun.NEXT, [10, 20]),
        (after(7.5), [7.5, 17.5]),
        (after(0), [0, 10, 20]),
        (after(0.000001), [0.000001, 10.000001, 20.000001]),
        (after(-1), [9, 19]),
        (after(-3), [7, 17]),
        (after(-10), [0, 10, 20]),
        (after(-10 * 365 * DAY - 4), [6, 16]),
        (after(7.5).astimezone(timezone(timedelta(hours=-9, minutes=-30))), [7.5, 17.5]),
    ],
)
async def test_an_interval_keeps_the_grid_of_its_first_tick(
    scheduler: Scheduler, first_run: FirstRun | datetime | None, expected: list[float]
) -> None:
    task = scheduler.schedule_task(job, 10, first_run=first_run)
    async with scheduler:
        await asyncio.sleep(24)

        assert starts(task) == expected
        assert ticks(task) == expected


@pytest.mark.parametrize("ago_s", [0.000001, 0.999999])
async def test_an_interval_keeps_the_grid_of_a_first_tick_that_passed_less_than_its_grace_ago(
    scheduler: Scheduler, ago_s: float
) -> None:
    task = scheduler.schedule_task(job, 10, first_run=after(-ago_s))
    async with scheduler:
        await asyncio.sleep(24)

        assert ticks(task) == [-ago_s, 10 - ago_s, 20 - ago_s]
        assert starts(task) == [0, 10 - ago_s, 20 - ago_s]


@pytest.mark.parametrize(
    ("trigger", "first_run", "expected"),
    [
        (Every(60), None, [55, 115, 175]),  # The test begins five seconds after a minute of the Unix epoch.
        (Every(60), FirstRun.NEXT, [55, 115, 175]),
        (Every(60, after(17)), None, [17, 77, 137]),
        (Every(60, after(17 + 60 * 10**6)), None, [17, 77, 137]),
        (Every(60, after(0)), None, [60, 120]),
        (Every(60), FirstRun.NOW, [0, 55, 115, 175]),
        (Every(60, after(0)), FirstRun.NOW, [0, 60, 120]),
        (Every(60), after(20), [20, 55, 115, 175]),
        (Every(60), after(55), [55, 115, 175]),
        (Every(60), after(130), [130, 175]),
    ],
)
async def test_a_trigger_keeps_its_own_grid_whatever_the_first_tick(
    scheduler: Scheduler, trigger: Every, first_run: FirstRun | datetime | None, expected: list[float]
) -> None:
    task = scheduler.schedule_task(job, trigger=trigger, first_run=first_run)
    async with scheduler:
        await asyncio.sleep(176)

        assert starts(task) == expected
        assert ticks(task) == expected


async def test_equal_triggers_tick_together_whenever_they_are_registered(scheduler: Scheduler) -> None:
    tasks = [scheduler.schedule_task(job, trigger=Every(60))]
    async with scheduler:
        await asyncio.sleep(20.5)
        tasks.append(scheduler.schedule_task(job, trigger=Every(60)))
        await asyncio.sleep(100)

        assert [starts(task) for task in tasks] == [[55, 115]] * 2


@pytest.mark.parametrize("first_run", FirstRun)
@pytest.mark.parametrize("age_us", [0, 1, 5_000_000, 10**16])
@pytest.mark.parametrize("interval_s", [1, HOUR, 100 * DAY])
async def test_the_first_run_does_not_depend_on_the_age_of_the_machine(
    scheduler: Scheduler, loop: VirtualLoop, first_run: FirstRun, age_us: int, interval_s: int
) -> None:
    loop.virtual_clock._steady = age_us
    calls: list[int] = []

    async def body() -> None:
        calls.append(loop.virtual_clock.steady() - age_us)

    scheduler.schedule_task(body, interval_s, first_run=first_run)
    async with scheduler:
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(interval_s - 0.5)
        await asyncio.sleep(0.1)

        assert calls == ([0] if first_run is FirstRun.NOW else []) + [interval_s * 1_000_000]


# --- the grid ---


@pytest.mark.parametrize("policy", POLICIES)
async def test_the_grid_is_kept_whatever_a_run_takes(scheduler: Scheduler, policy: ExecPolicy) -> None:
    takes_s = iter([0, 0.000001, 3, 9.999999, 5, 0, 9])

    async def body() -> None:
        await asyncio.sleep(next(takes_s))

    task = scheduler.schedule_task(body, 10, policy=policy)
    async with scheduler:
        await asyncio.sleep(69.5)

        assert starts(task) == [0, 10, 20, 30, 40, 50, 60]
        assert {run.outcome for run in task.history()} == {Outcome.SUCCEEDED}


@pytest.mark.volume
@pytest.mark.parametrize("interval_s", [0.333333, 0.1])
async def test_ten_thousand_late_ticks_do_not_drift(loop: VirtualLoop, interval_s: float) -> None:
    """Every run blocks the loop for a while, and a neighbor makes it late as well."""
    scheduler = Scheduler(clock=loop.virtual_clock, history=1)
    labels: list[datetime] = []
    worst = 0

    async def body() -> None:
        nonlocal worst
        scheduled_at = current_run().scheduled_at
        worst = max(worst, loop.virtual_clock.steady() + EPOCH_US - round(scheduled_at.timestamp() * 1e6))
        labels.append(scheduled_at)
        loop.virtual_clock.block(len(labels) % 7 / 1000)

    async def neighbour() -> None:
        loop.virtual_clock.block(0.007)

    scheduler.schedule_task(neighbour, 0.0617)
    task = scheduler.schedule_task(body, interval_s)
    async with scheduler:
        await asyncio.sleep(10_000 * interval_s - 0.04)
        await scheduler.stop()

        step = timedelta(seconds=interval_s)
        assert labels == [ZERO + number * step for number in range(10_000)]
        assert 0 < worst <= 15_000
        assert covered(task) == 10_000


async def test_a_million_seconds_later_a_tick_is_on_time_to_the_microsecond(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(job, 10.000001)
    async with scheduler:
        loop.virtual_clock.block(10.000001 * 100_000)
        await asyncio.sleep(10.5)

        assert task.history()[-1].scheduled_at == ZERO + 100_001 * timedelta(seconds=10.000001)
        assert task.history()[-1].lateness_s == 0


async def test_a_run_shorter_than_the_shortest_interval_has_its_time(scheduler: Scheduler) -> None:
    """The next tick may be handled a millisecond early, but not before the run has had half a gap."""
    task = scheduler.schedule_task(asyncio.sleep, 0.001, (0.0004,))
    async with scheduler:
        await asyncio.sleep(0.0109)

        assert task.counts == {**dict.fromkeys(Outcome, 0), Outcome.SUCCEEDED: 11}


# --- clocks ---


@pytest.mark.parametrize("step_s", [HOUR, -HOUR, 0.002, -0.002])
async def test_a_step_of_the_wall_clock_moves_the_labels_of_an_interval_and_no_runs(
    scheduler: Scheduler, loop: VirtualLoop, step_s: float
) -> None:
    calls: list[float] = []
    labels: list[float | None] = []

    async def body() -> None:
        calls.append(loop.time() - 5)
        labels.append(at(current_run().scheduled_at))

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(15)
        loop.virtual_clock.step_wall(step_s)
        await asyncio.sleep(20)
        assert task.next_run_at == after(40 + step_s)
        loop.virtual_clock.step_wall(-step_s)
        await asyncio.sleep(10)

        assert calls == [0, 10, 20, 30, 40]
        assert labels == [0, 10, 20 + step_s, 30 + step_s, 40]
        assert ticks(task) == labels
        assert [run.lateness_s for run in task.history()] == [0] * 5


@pytest.mark.parametrize("step_s", [HOUR, -HOUR])
async def test_a_first_run_on_the_wall_clock_is_planned_by_what_it_shows_now(
    scheduler: Scheduler, loop: VirtualLoop, step_s: float
) -> None:
    """The step is used even if nothing has happened since, so that it has not been noticed yet."""
    async with scheduler:
        await asyncio.sleep(10)
        loop.virtual_clock.step_wall(step_s)
        task = scheduler.schedule_task(job, 1000, first_run=after(step_s + 30))
        anchored = scheduler.schedule_task(job, trigger=Every(DAY, after(step_s + 30)))

        assert task.next_run_at == anchored.next_run_at == after(step_s + 30)
        await asyncio.sleep(25)
        assert [starts(task), starts(anchored)] == [[step_s + 30]] * 2


@pytest.mark.parametrize("step_s", [HOUR, -HOUR])
async def test_a_reschedule_to_a_trigger_is_planned_by_what_the_wall_clock_shows_now(
    scheduler: Scheduler, loop: VirtualLoop, step_s: float
) -> None:
    task = scheduler.schedule_task(job, 1000, first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(10)
        loop.virtual_clock.step_wall(step_s)
        task.reschedule(trigger=Every(DAY, after(step_s + 30)))
        await asyncio.sleep(25)

        assert starts(task) == [step_s + 30]


async def test_the_noise_of_two_clocks_does_not_move_labels(loop: VirtualLoop) -> None:
    noise = 0

    def wall() -> int:
        nonlocal noise
        noise = (noise + 617) % 1_000
        return EPOCH_US + loop.virtual_clock.steady() + noise

    scheduler = Scheduler(clock=Clock(steady=loop.virtual_clock.steady, wall=wall), history=200)
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1995)

        moments = [run.scheduled_at for run in task.history()]
        assert moments == [moments[0] + number * timedelta(seconds=10) for number in range(200)]
        assert timedelta(0) <= moments[0] - ZERO < timedelta(milliseconds=1)


async def test_labels_follow_a_wall_clock_that_is_slewed(loop: VirtualLoop) -> None:
    """NTP slews by 500 ppm at most: 1.8 s in an hour."""

    def wall() -> int:
        return EPOCH_US + loop.virtual_clock.steady() + (loop.virtual_clock.steady() - 5_000_000) // 2_000

    scheduler = Scheduler(clock=Clock(steady=loop.virtual_clock.steady, wall=wall))
    calls: list[int] = []

    async def body() -> None:
        calls.append(wall() - EPOCH_US - 5_000_000)

    task = scheduler.schedule_task(body, 600)
    async with scheduler:
        await asyncio.sleep(3601)

        assert len(calls) == 7
        for shown_us, run in zip(calls, task.history(), strict=True):
            assert abs(run.scheduled_at - after(shown_us / 1e6)) <= timedelta(milliseconds=1)


async def test_sleeps_are_capped(scheduler: Scheduler, loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    call_later = loop.call_later

    def note(delay: float, callback: Callable[..., Any], *args: Any, **kws: Any) -> Any:
        delays.append(delay)
        return call_later(delay, callback, *args, **kws)

    scheduler.schedule_task(job, 1000, first_run=FirstRun.NEXT)
    sleep = asyncio.create_task(asyncio.sleep(1090))
    await asyncio.sleep(0)
    monkeypatch.setattr(loop, "call_later", note)
    async with scheduler:
        await sleep

        assert delays == [60] * 16 + [40] + [60] * 2


@pytest.mark.parametrize("asleep_s", [700, 2 * DAY + 190])
async def test_a_machine_that_slept_is_noticed_within_a_minute(loop: VirtualLoop, asleep_s: float) -> None:
    """The loop's clock stands still while the machine sleeps; the scheduler's does not."""
    asleep_us = 0
    scheduler = Scheduler(
        clock=Clock(
            steady=lambda: loop.virtual_clock.steady() + asleep_us,
            wall=lambda: EPOCH_US + loop.virtual_clock.steady() + asleep_us,
        )
    )
    task = scheduler.schedule_task(job, 500)
    async with scheduler:
        await asyncio.sleep(30)
        asleep_us = round(asleep_s * 1e6)
        await asyncio.sleep(60)

        latest = (asleep_s + 60) // 500 * 500
        run = task.history()[-1]
        assert (run.outcome, at(run.scheduled_at)) == (Outcome.SUCCEEDED, latest)
        assert at(run.started_at) == asleep_s + 60
        assert covered(task) == 1 + latest / 500


async def test_a_clock_slower_than_that_of_the_loop_does_not_make_it_spin(loop: VirtualLoop) -> None:
    """The timer fires a little early each time, and the scheduler sleeps again for the rest."""

    def steady() -> int:
        return loop.virtual_clock.steady() * 999 // 1_000

    scheduler = Scheduler(clock=Clock(steady=steady, wall=lambda: EPOCH_US + steady()), history=200)
    wakes = count_wakes(scheduler)
    task = scheduler.schedule_task(job, 50)
    async with scheduler:
        await asyncio.sleep(5_010)

        runs = task.history()
        assert [run.scheduled_at - runs[0].scheduled_at for run in runs] == [
            number * timedelta(seconds=50) for number in range(101)
        ]
        assert all(run.started_at is not None and run.due - run.started_at < timedelta(milliseconds=1) for run in runs)
        assert len(wakes) <= 2 * 101


# --- loops that wake early ---


class EarlyLoop(VirtualLoop):
    """A loop whose timers fire early, as in a loop with a resolution of a millisecond."""

    def __init__(self, early_us: int) -> None:
        super().__init__()
        self.early_us = early_us

    def call_later(self, delay: float, *args: Any, **kws: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        # Not at once: in this loop time passes only while something waits.
        return super().call_later(max(delay / 2, delay - self.early_us / 1e6), *args, **kws)


class RoundingLoop(VirtualLoop):
    """A loop that rounds delays to the nearest millisecond, as uvloop does."""

    def call_later(self, delay: float, *args: Any, **kws: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        return super().call_later(round(delay * 1000) / 1000, *args, **kws)


LOOPS: dict[str, Callable[[], VirtualLoop]] = {
    "in time": VirtualLoop,
    "half a millisecond early": lambda: EarlyLoop(500),
    "almost a millisecond early": lambda: EarlyLoop(999),
    "a millisecond early": lambda: EarlyLoop(1000),
    "rounding": RoundingLoop,
}


def count_wakes(scheduler: Scheduler) -> list[int]:
    """Return a list that grows whenever the scheduler's timer fires."""
    engine = scheduler._engine
    wake = engine.queue.wake
    wakes: list[int] = []

    def counted() -> None:
        wakes.append(engine.now())
        wake()

    engine.queue.wake = counted
    return wakes


def run_in(loop: VirtualLoop, test: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run_until_complete(test)
    finally:
        close_loop(loop)
    assert loop.complaints == []


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("interval_s", [0.0123457, 0.01, 0.0025, 1.5])
def test_a_loop_that_wakes_early_neither_repeats_nor_loses_a_tick_nor_spins(kind: str, interval_s: float) -> None:
    loop = LOOPS[kind]()
    number = 1_000

    async def test() -> None:
        scheduler = Scheduler(clock=loop.virtual_clock, history=number)
        wakes = count_wakes(scheduler)
        task = scheduler.schedule_task(job, interval_s)
        async with scheduler:
            await asyncio.sleep(interval_s * (number - 0.5))

            step = timedelta(seconds=round(interval_s, 6))
            assert [run.scheduled_at - ZERO for run in task.history()] == [step * tick for tick in range(number)]
            assert {run.outcome for run in task.history()} == {Outcome.SUCCEEDED}
            assert all(run.lateness_s is not None and 0 <= run.lateness_s <= 0.001 for run in task.history())
            assert len(wakes) == number

    run_in(loop, test())


@pytest.mark.parametrize("kind", LOOPS)
def test_the_shortest_interval_in_a_loop_that_wakes_early(kind: str) -> None:
    loop = LOOPS[kind]()

    async def test() -> None:
        scheduler = Scheduler(clock=loop.virtual_clock, history=2_000)
        wakes = count_wakes(scheduler)
        task = scheduler.schedule_task(job, 0.001)
        async with scheduler:
            await asyncio.sleep(1)

            moments = [run.scheduled_at - ZERO for run in task.history()]
            assert moments == [timedelta(milliseconds=tick) for tick in range(len(moments))]
            assert 1_000 <= len(moments) <= 1_002
            assert {run.outcome for run in task.history()} == {Outcome.SUCCEEDED}
            assert len(wakes) <= 2 * 1_002

    run_in(loop, test())


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize(
    ("policy", "ending", "others"),
    [
        (ExecPolicy.CANCEL, ("CANCELLED", "replaced"), 0),
        (ExecPolicy.WAIT, ("TIMED_OUT", "deadline"), 2),
        (ExecPolicy.SKIP, ("TIMED_OUT", "deadline"), 2),
    ],
)
def test_deadlines_in_a_loop_that_wakes_early(
    kind: str, policy: ExecPolicy, ending: tuple[str, str], others: int
) -> None:
    """No run is replaced by its own tick, and none is replaced a gap too late."""
    loop = LOOPS[kind]()

    async def test() -> None:
        scheduler = Scheduler(clock=loop.virtual_clock, history=200)
        wakes = count_wakes(scheduler)
        task = scheduler.schedule_task(asyncio.sleep, 0.05, (1000,), policy=policy)
        async with scheduler:
            await asyncio.sleep(0.05 * 60.5)

            runs = [run for run in task.history() if run.outcome is not Outcome.SKIPPED]
            assert {(run.outcome.value, run.reason) for run in runs} == {ending}
            step = timedelta(milliseconds=50 * (1 + others))
            assert all(abs(run.finished_at - run.started_at - step) <= timedelta(milliseconds=1.1) for run in runs)  # type: ignore[operator]
            assert len(wakes) <= 61 * 3
            if policy is ExecPolicy.CANCEL:
                assert covered(task) == len(runs) == 60

    run_in(loop, test())


def test_a_start_before_due_is_told_as_it_was_but_never_as_negative_lateness() -> None:
    loop = EarlyLoop(700)
    reported: list[Run] = []

    async def test() -> None:
        scheduler = Scheduler(clock=loop.virtual_clock)
        scheduler.subscribe(reported.append)
        scheduler.schedule_task(job, 1, first_run=FirstRun.NEXT)
        async with scheduler:
            await asyncio.sleep(3.5)

    run_in(loop, test())

    assert [run.lateness_s for run in reported] == [0, 0, 0]
    assert [run.due - run.started_at for run in reported if run.started_at] == [timedelta(microseconds=700)] * 3


# --- missed: the machine slept for a weekend ---

SLEPT_S = 64 * HOUR + 900  # From 100 s on: the machine wakes 1000 s after the tick of the 64th hour.

WEEKEND: dict[Missed, History] = {
    Missed.ONCE: [
        ("SUCCEEDED", 0, 0),
        ("missed", 63, HOUR, 63 * HOUR),
        ("SUCCEEDED", 64 * HOUR, 64 * HOUR + 1000),
    ],
    Missed.SKIP: [
        ("SUCCEEDED", 0, 0),
        ("missed", 64, HOUR, 64 * HOUR),
    ],
    Missed.ALL: [
        ("SUCCEEDED", 0, 0),
        ("backlog full", 40, HOUR, 40 * HOUR),
        *(("SUCCEEDED", (41 + k) * HOUR, 64 * HOUR + 1000 + k) for k in range(24)),
    ],
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("rule", ["interval", "trigger"])
async def test_a_weekend_of_sleep(loop: VirtualLoop, missed: Missed, policy: ExecPolicy, rule: str) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=100)
    task = (
        scheduler.schedule_task(job, HOUR, (1,), missed=missed, policy=policy)
        if rule == "interval"
        else scheduler.schedule_task(
            job, trigger=Every(HOUR, ZERO), args=(1,), missed=missed, policy=policy, first_run=FirstRun.NOW
        )
    )
    async with scheduler:
        await asyncio.sleep(100)
        loop.virtual_clock.block(SLEPT_S)
        await asyncio.sleep(2000)
        assert book(task) == WEEKEND[missed]
        await asyncio.sleep(700)

        assert book(task) == [*WEEKEND[missed], ("SUCCEEDED", 65 * HOUR, 65 * HOUR)]
        assert covered(task) == 66


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ExecPolicy.CANCEL, [("missed", 359, 10, 3590), ("CANCELLED", 0, 0), ("SUCCEEDED", 3600, 3604)]),
        (ExecPolicy.WAIT, [("missed", 359, 10, 3590), ("TIMED_OUT", 0, 0), ("SUCCEEDED", 3600, 3604)]),
        (ExecPolicy.SKIP, [("missed", 359, 10, 3590), ("overlap", 1, 3600, 3600), ("TIMED_OUT", 0, 0)]),
        (ExecPolicy.SHIELD, [("missed", 359, 10, 3590)]),
    ],
)
async def test_a_loop_blocked_for_an_hour_during_a_run(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy, expected: History
) -> None:
    """The run's deadline has expired, and the latest due tick meets it."""
    lengths = iter([5000.0])

    async def body() -> None:
        await asyncio.sleep(next(lengths, 1.0))

    task = scheduler.schedule_task(body, 10, policy=policy)
    async with scheduler:
        await asyncio.sleep(4)
        loop.virtual_clock.block(3600)
        await asyncio.sleep(2)

        assert book(task) == expected
        assert task.running == (policy is ExecPolicy.SHIELD)


@pytest.mark.parametrize("policy", POLICIES)
async def test_ticks_missed_during_a_run_are_caught_up_after_it(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy
) -> None:
    """Missed.ALL promises to run each tick, and no policy skips one."""
    lengths = iter([25.0])

    async def body() -> None:
        await asyncio.sleep(next(lengths, 1.0))

    task = scheduler.schedule_task(body, 10, policy=policy, missed=Missed.ALL)
    async with scheduler:
        await asyncio.sleep(4)
        loop.virtual_clock.block(20)  # Until 24: ticks 10 and 20.
        await asyncio.sleep(5)

        first = ("CANCELLED", 0, 0) if policy is ExecPolicy.CANCEL else ("SUCCEEDED", 0, 0)
        free = 24 if policy is ExecPolicy.CANCEL else 25
        assert book(task) == [first, ("SUCCEEDED", 10, free), ("SUCCEEDED", 20, free + 1)]


# --- missed: once ---


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("until_s", "expected"),
    [
        (20, [("missed", 1, 10, 10), ("SUCCEEDED", 20, 20)]),
        (25, [("missed", 1, 10, 10), ("SUCCEEDED", 20, 25)]),  # The next tick is half a gap away.
        (25.000001, [("missed", 2, 10, 20)]),
        (29.9, [("missed", 2, 10, 20)]),
        (30, [("missed", 2, 10, 20), ("SUCCEEDED", 30, 30)]),
        (19.9, [("SUCCEEDED", 10, 19.9)]),  # Late, not missed: no later tick is due.
    ],
)
async def test_once_runs_the_latest_unless_the_next_is_less_than_half_a_gap_away(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy, until_s: float, expected: History
) -> None:
    task = scheduler.schedule_task(job, 10, policy=policy)
    async with scheduler:
        await asyncio.sleep(1)
        loop.virtual_clock.block(until_s - 1)
        await turns()

        assert book(task) == [("SUCCEEDED", 0, 0), *expected]
        await asyncio.sleep(35.5 - until_s)
        assert covered(task) == 4
        assert book(task)[-1] == ("SUCCEEDED", 30, 30)


GRACES = [
    # missed, gap, grace_s, late by, whether it runs
    (Missed.ONCE, 10, None, 9.9, True),
    (Missed.ONCE, 10, 2, 2, True),
    (Missed.ONCE, 10, 2, 2.000001, False),
    (Missed.ONCE, 10, 0, 0.000001, False),
    (Missed.ONCE, 10, 25, 9.9, True),
    (Missed.ONCE, 10, timedelta(seconds=3), 3.5, False),
    (Missed.SKIP, 5, None, 1, True),
    (Missed.SKIP, 5, None, 1.000001, False),
    (Missed.SKIP, 100, None, 10, True),
    (Missed.SKIP, 100, None, 10.000001, False),
    (Missed.SKIP, 0.5, None, 0.4, True),
    (Missed.SKIP, 10, 4, 4, True),
    (Missed.SKIP, 10, 4, 4.000001, False),
    (Missed.SKIP, 10, 0, 0.000001, False),
    (Missed.SKIP, 10, 25, 9.9, True),
]


@pytest.mark.parametrize(("missed", "gap_s", "grace_s", "late_s", "runs"), GRACES)
async def test_a_tick_older_than_its_grace_does_not_run(
    scheduler: Scheduler,
    loop: VirtualLoop,
    missed: Missed,
    gap_s: float,
    grace_s: float | timedelta | None,
    late_s: float,
    runs: bool,
) -> None:
    task = scheduler.schedule_task(job, gap_s, missed=missed, grace_s=grace_s)
    async with scheduler:
        await asyncio.sleep(gap_s / 2)
        loop.virtual_clock.block(gap_s / 2 + late_s)
        await turns()

        expected = ("SUCCEEDED", gap_s, gap_s + late_s) if runs else ("missed", 1, gap_s, gap_s)
        assert book(task) == [("SUCCEEDED", 0, 0), expected]


@pytest.mark.parametrize(
    ("missed", "grace_s", "late_s", "runs"),
    [
        (Missed.ONCE, None, 4.9, True),
        (Missed.ONCE, 3, 3, True),
        (Missed.ONCE, 3, 3.000001, False),
        (Missed.ONCE, 8, 5.1, False),  # Within its grace, but the next tick is near.
        (Missed.SKIP, None, 1, True),  # The latest tick is within its grace and no later one is due: it is not missed.
        (Missed.SKIP, None, 1.000001, False),
        (Missed.SKIP, 8, 5.1, True),
    ],
)
async def test_of_several_due_ticks_the_grace_is_that_of_the_latest(
    scheduler: Scheduler, loop: VirtualLoop, missed: Missed, grace_s: float | None, late_s: float, runs: bool
) -> None:
    task = scheduler.schedule_task(job, 10, missed=missed, grace_s=grace_s)
    async with scheduler:
        await asyncio.sleep(1)
        loop.virtual_clock.block(39 + late_s)
        await turns()

        assert book(task)[1:] == (
            [("missed", 3, 10, 30), ("SUCCEEDED", 40, 40 + late_s)] if runs else [("missed", 4, 10, 40)]
        )


# --- missed: all ---


@pytest.mark.parametrize("policy", POLICIES)
async def test_all_runs_each_oldest_first_one_after_another_and_live_ticks_queue_behind(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy
) -> None:
    task = scheduler.schedule_task(job, 10, (4,), missed=Missed.ALL, policy=policy)
    async with scheduler:
        await asyncio.sleep(5)
        loop.virtual_clock.block(40)
        await asyncio.sleep(40)

        assert book(task) == [
            ("SUCCEEDED", 0, 0),
            ("SUCCEEDED", 10, 45),
            ("SUCCEEDED", 20, 49),
            ("SUCCEEDED", 30, 53),
            ("SUCCEEDED", 40, 57),
            ("SUCCEEDED", 50, 61),
            ("SUCCEEDED", 60, 65),
            ("SUCCEEDED", 70, 70),
            ("SUCCEEDED", 80, 80),
        ]


@pytest.mark.parametrize(("max_timeout_s", "allowed_s"), [(0, 10), (3, 3), (1000, 10)])
@pytest.mark.parametrize("policy", [ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_a_caught_up_run_has_one_gap_of_time(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy, max_timeout_s: float, allowed_s: float
) -> None:
    deadlines: list[float | None] = []

    async def body() -> None:
        if current_run().scheduled_at > ZERO:
            deadlines.append(at(current_run().deadline))
            await asyncio.sleep(1000)

    task = scheduler.schedule_task(body, 10, missed=Missed.ALL, policy=policy, max_timeout_s=max_timeout_s)
    async with scheduler:
        await asyncio.sleep(5)
        loop.virtual_clock.block(30)
        await asyncio.sleep(allowed_s * 3 + 0.5)

        begun = [35 + number * allowed_s for number in range(3)]
        assert book(task)[1:] == [("TIMED_OUT", 10 * k, start) for k, start in enumerate(begun, 1)]
        assert [run.duration_s for run in task.history()[1:]] == [allowed_s] * 3
        assert deadlines[:3] == [start + allowed_s for start in begun]


async def test_a_shielded_caught_up_run_takes_the_time_it_needs(scheduler: Scheduler, loop: VirtualLoop) -> None:
    lengths = iter([0.0, 15, 25])

    async def body() -> None:
        await asyncio.sleep(next(lengths, 0))

    task = scheduler.schedule_task(body, 10, missed=Missed.ALL, policy=ExecPolicy.SHIELD, max_timeout_s=3)
    async with scheduler:
        await asyncio.sleep(5)
        loop.virtual_clock.block(20)
        await asyncio.sleep(50)

        assert book(task) == [
            ("SUCCEEDED", 0, 0),
            ("SUCCEEDED", 10, 25),
            ("SUCCEEDED", 20, 40),
            *(("SUCCEEDED", tick, 65) for tick in (30, 40, 50, 60)),
            ("SUCCEEDED", 70, 70),
        ]


async def test_all_runs_a_thousand_at_most(loop: VirtualLoop) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=1_200)
    task = scheduler.schedule_task(job, 1, missed=Missed.ALL)
    async with scheduler:
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(6_000)
        await asyncio.sleep(0.25)

        first, skipped, *caught_up = book(task)
        assert [first, skipped] == [("SUCCEEDED", 0, 0), ("backlog full", 5_000, 1, 5_000)]
        assert caught_up == [("SUCCEEDED", tick, 6_000.5) for tick in range(5_001, 6_001)]
        await asyncio.sleep(0.5)
        assert book(task)[-1] == ("SUCCEEDED", 6_001, 6_001)


async def test_a_backlog_that_grows_keeps_the_latest_thousand(loop: VirtualLoop) -> None:
    """Live ticks queue behind a backlog, but a long run must not let them pile up without limit."""
    scheduler = Scheduler(clock=loop.virtual_clock, history=1_200)
    lengths = iter([0.0, 1_500])

    async def body() -> None:
        await asyncio.sleep(next(lengths, 0))

    task = scheduler.schedule_task(body, 1, missed=Missed.ALL, policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(3)  # Until 3.5: ticks 1 to 3.
        await asyncio.sleep(1_500.4)

        first, skipped, long, *caught_up = book(task)
        assert (first, long) == (("SUCCEEDED", 0, 0), ("SUCCEEDED", 1, 3.5))
        assert skipped == ("backlog full", 1503 - 1 - MAX_BACKLOG, 2, 503)
        assert caught_up == [("SUCCEEDED", tick, 1503.5) for tick in range(504, 1_504)]


@pytest.mark.parametrize(
    ("catchup_s", "expected"),
    [
        (25, [("backlog full", 1, 10, 10), *(("SUCCEEDED", tick, 45) for tick in (20, 30, 40))]),
        (24.999999, [("backlog full", 2, 10, 20), *(("SUCCEEDED", tick, 45) for tick in (30, 40))]),
        (timedelta(seconds=5), [("backlog full", 3, 10, 30), ("SUCCEEDED", 40, 45)]),
        (4, [("backlog full", 4, 10, 40)]),
        (0, [("backlog full", 4, 10, 40)]),
    ],
)
async def test_all_runs_nothing_older_than_catchup(
    scheduler: Scheduler, loop: VirtualLoop, catchup_s: float, expected: History
) -> None:
    task = scheduler.schedule_task(job, 10, missed=Missed.ALL, catchup_s=catchup_s)
    async with scheduler:
        await asyncio.sleep(5)
        loop.virtual_clock.block(40)
        await asyncio.sleep(1)

        assert book(task) == [("SUCCEEDED", 0, 0), *expected]
        await asyncio.sleep(5)
        assert book(task)[-1] == ("SUCCEEDED", 50, 50)


# --- missed: while suspended, while disabled ---


@pytest.mark.parametrize("by", ["task", "scheduler", "pause"])
@pytest.mark.parametrize(
    ("missed", "until_s", "expected"),
    [
        (Missed.ONCE, 35, [("suspended", 2, 10, 20), ("SUCCEEDED", 30, 35)]),
        (Missed.ONCE, 35.000001, [("suspended", 3, 10, 30)]),
        (Missed.ONCE, 15, [("SUCCEEDED", 10, 15)]),
        (Missed.ONCE, 15.000001, [("suspended", 1, 10, 10)]),
        (Missed.SKIP, 31, [("suspended", 2, 10, 20), ("SUCCEEDED", 30, 31)]),
        (Missed.SKIP, 31.000001, [("suspended", 3, 10, 30)]),
        (Missed.ALL, 38, [*(("SUCCEEDED", tick, 38) for tick in (10, 20, 30))]),
    ],
)
async def test_ticks_missed_while_suspended_follow_the_rule_at_resume(
    scheduler: Scheduler, missed: Missed, until_s: float, expected: History, by: str
) -> None:
    task = scheduler.schedule_task(job, 10, missed=missed)
    async with scheduler:
        await asyncio.sleep(5)
        if by == "pause":
            await task.pause("for the test", until_s - 5)
            await asyncio.sleep(until_s - 5)
        else:
            async with (task if by == "task" else scheduler).suspend():
                await asyncio.sleep(until_s - 5)
        await asyncio.sleep(0.1)

        assert book(task) == [("SUCCEEDED", 0, 0), *expected]
        await asyncio.sleep(45 - until_s)
        assert book(task)[-1] == ("SUCCEEDED", 40, 40)
        assert covered(task) == 5


@pytest.mark.parametrize(
    ("missed", "skipped", "runs"),
    [
        (Missed.ONCE, ("suspended", 36_524 * 24 - 1), 1),
        (Missed.SKIP, ("suspended", 36_524 * 24), 0),
        (Missed.ALL, ("backlog full", 36_524 * 24 - 24), 24),
    ],
)
async def test_a_suspension_of_a_century_is_one_record(
    loop: VirtualLoop, missed: Missed, skipped: tuple[str, int], runs: int
) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=50)
    task = scheduler.schedule_task(job, HOUR, missed=missed)
    async with scheduler:
        await asyncio.sleep(1)
        async with task.suspend():
            await asyncio.sleep(HOUR + 1)
            loop.virtual_clock.block(36_524 * DAY - HOUR + 400)
            await asyncio.sleep(0)
        await asyncio.sleep(1)

        _, gap, *caught_up = book(task)
        assert gap == (*skipped, HOUR, skipped[1] * HOUR)
        assert [entry[0] for entry in caught_up] == ["SUCCEEDED"] * runs
        await asyncio.sleep(HOUR)
        assert book(task)[-1] == ("SUCCEEDED", 36_524 * DAY + HOUR, 36_524 * DAY + HOUR)


async def test_an_extra_first_tick_kept_back_by_a_suspension(scheduler: Scheduler) -> None:
    """It runs late, unless a tick of the rule has overtaken it; then it counts as missed by the suspension."""
    late = scheduler.schedule_task(job, trigger=Every(60), first_run=FirstRun.NOW)
    overtaken = scheduler.schedule_task(job, trigger=Every(60), first_run=FirstRun.NOW)
    async with scheduler:
        async with overtaken.suspend():
            async with late.suspend():
                await asyncio.sleep(20)
            await asyncio.sleep(40)
        await asyncio.sleep(60)

        assert book(late) == [("SUCCEEDED", 0, 20), ("SUCCEEDED", 55, 55), ("SUCCEEDED", 115, 115)]
        assert book(overtaken) == [("suspended", 1, 0, 0), ("SUCCEEDED", 55, 60), ("SUCCEEDED", 115, 115)]


@pytest.mark.parametrize("missed", Missed)
async def test_ticks_while_disabled_never_run_and_are_one_record(
    scheduler: Scheduler, loop: VirtualLoop, missed: Missed
) -> None:
    task = scheduler.schedule_task(job, 10, missed=missed)
    async with scheduler:
        await asyncio.sleep(5)
        task.disable()
        await asyncio.sleep(20)
        loop.virtual_clock.block(DAY)
        await asyncio.sleep(0)
        task.enable()
        await asyncio.sleep(10)

        assert book(task) == [
            ("SUCCEEDED", 0, 0),
            ("disabled", DAY // 10 + 2, 10, DAY + 20),
            ("SUCCEEDED", DAY + 30, DAY + 30),
        ]


async def disabled_inside_a_suspension(scheduler: Scheduler) -> ScheduledTask[None]:
    """Return a task that is suspended from 5 s to 35 s, and disabled from 15 s to 25 s."""
    task = scheduler.schedule_task(job, 10, missed=Missed.ALL)
    await scheduler.start()
    await asyncio.sleep(5)
    async with task.suspend():
        await asyncio.sleep(10)
        task.disable()
        await asyncio.sleep(10)
        task.enable()
        await asyncio.sleep(10)
    await asyncio.sleep(1)
    await scheduler.stop()
    return task


async def test_a_task_disabled_while_suspended_makes_up_for_what_came_after_that(scheduler: Scheduler) -> None:
    task = await disabled_inside_a_suspension(scheduler)

    assert starts(task) == [0, 35]
    assert book(task)[-1] == ("SUCCEEDED", 30, 35)
    assert covered(task) == 4


async def test_what_a_suspension_kept_back_is_told_as_such_though_disable_ends_it(scheduler: Scheduler) -> None:
    task = await disabled_inside_a_suspension(scheduler)

    assert book(task)[1:-1] == [("suspended", 1, 10, 10), ("disabled", 1, 20, 20)]


# --- without limits ---

DECADE = 10 * 365 * DAY


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.ONCE, ("missed", DECADE * 100 - 1, 0.01, DECADE - 0.01)),
        (Missed.SKIP, ("missed", DECADE * 100 - 1, 0.01, DECADE - 0.01)),
        (Missed.ALL, ("backlog full", DECADE * 100 - 1_000, 0.01, DECADE - 10)),
    ],
)
async def test_ten_years_of_downtime_at_ten_milliseconds_are_one_record(
    loop: VirtualLoop, missed: Missed, expected: tuple[Any, ...]
) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=2_000)
    task = scheduler.schedule_task(job, 0.01, missed=missed)
    async with scheduler:
        await asyncio.sleep(0.005)
        loop.virtual_clock.block(DECADE - 0.005)
        await turns(5_000)

        _, skipped, *caught_up = book(task)
        assert skipped == expected
        assert [entry[0] for entry in caught_up] == ["SUCCEEDED"] * (1_000 if missed is Missed.ALL else 1)
        assert caught_up[-1] == ("SUCCEEDED", DECADE, DECADE)


@pytest.mark.parametrize("rule", ["interval", "trigger"])
async def test_an_interval_of_a_century(scheduler: Scheduler, loop: VirtualLoop, rule: str) -> None:
    century = timedelta(days=36_600)
    task = (
        scheduler.schedule_task(job, century)
        if rule == "interval"
        else scheduler.schedule_task(job, trigger=Every(century, ZERO), first_run=FirstRun.NOW)
    )
    async with scheduler:
        await asyncio.sleep(200)
        assert starts(task) == [0]
        assert task.next_run_at == ZERO + century
        assert task.json_repr()["interval_s"] == century.total_seconds()
        loop.virtual_clock.block(century.total_seconds() - 201)
        await asyncio.sleep(2)

        assert starts(task) == [0, century.total_seconds()]


@pytest.mark.parametrize("rule", ["interval", "trigger"])
async def test_a_first_run_in_eight_thousand_years(scheduler: Scheduler, rule: str) -> None:
    end = datetime(9999, 12, 31, tzinfo=UTC)
    rules: dict[str, Any] = {"interval_s": 60} if rule == "interval" else {"trigger": Every(60)}
    task = scheduler.schedule_task(job, first_run=end, **rules)
    async with scheduler:
        await asyncio.sleep(200)
        assert task.next_run_at == end
        assert task.json_repr()["next_run_at"] == end.isoformat()
        assert task.history() == []


async def test_an_anchor_two_thousand_years_ago(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 7, first_run=datetime(1, 1, 1, tzinfo=UTC))
    async with scheduler:
        await asyncio.sleep(8)

        (first, *_) = task.history()
        assert (first.scheduled_at - datetime(1, 1, 1, tzinfo=UTC)) % timedelta(seconds=7) == timedelta(0)
        assert ZERO <= first.scheduled_at < ZERO + timedelta(seconds=7)


@pytest.mark.parametrize("missed", Missed)
async def test_no_number_of_blocked_hours_stops_a_task(scheduler: Scheduler, loop: VirtualLoop, missed: Missed) -> None:
    """Some other schedulers drop a task after a hundred missed ticks."""
    task = scheduler.schedule_task(job, 10, missed=missed, catchup_s=30)
    async with scheduler:
        for _ in range(500):
            loop.virtual_clock.block(HOUR)
            await asyncio.sleep(0.5)
        await asyncio.sleep(21)

        assert [run.outcome for run in task.history()[-2:]] == [Outcome.SUCCEEDED] * 2
        assert covered(task) == 1 + int(loop.time() - 5) // 10


@pytest.mark.parametrize("ending", ["fails", "times out", "replaced", "skipped"])
async def test_no_number_of_bad_endings_stops_a_task(scheduler: Scheduler, ending: str) -> None:
    good = False

    async def body() -> None:
        if good:
            return
        if ending == "fails":
            raise ValueError("no luck")
        await asyncio.sleep(9_995 if ending == "skipped" else 1e6)

    task = scheduler.schedule_task(
        body,
        10,
        policy=ExecPolicy.SHIELD if ending == "skipped" else ExecPolicy.CANCEL,
        max_timeout_s=5 if ending == "times out" else 0,
    )
    async with scheduler:
        await asyncio.sleep(9_985)
        good = True
        await asyncio.sleep(30)

        assert task.last_run is not None
        assert (task.last_run.outcome, at(task.last_run.scheduled_at)) == (Outcome.SUCCEEDED, 10_010)
        assert covered(task) == 1_002


# --- clocks that are set while something else goes on ---


async def test_a_step_that_is_noticed_at_a_registration_leaves_the_agenda_in_order(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    async with scheduler:
        loop.virtual_clock.step_wall(100)
        task = scheduler.schedule_task(job, trigger=Every(10, ZERO))
        agenda = scheduler._engine.queue
        assert [(item[2].name, item[1]) for item in agenda.items()] == [(task.name, task._entry.seq)]
        await asyncio.sleep(95)

        assert agenda.dead == 0
        assert starts(task) == list(range(110, 200, 10))


async def test_a_listener_that_registers_a_task_while_all_are_planned_anew(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    added: list[ScheduledTask[Any]] = []

    def listen(run: Run) -> None:
        if run.reason is Reason.CLOCK and not added:
            added.append(scheduler.schedule_task(job, trigger=Every(1000, ZERO), name="added"))

    task = scheduler.schedule_task(asyncio.sleep, None, (5000,), trigger=Every(1000, ZERO), policy=ExecPolicy.WAIT)
    scheduler.subscribe(listen)
    async with scheduler:
        await asyncio.sleep(2500)  # One runs, one waits.
        loop.virtual_clock.step_wall(-20_000)
        await asyncio.sleep(60)

        assert endings(task.history()) == [("SKIPPED", "clock set back", 1)]
        assert task.next_run_at == added[0].next_run_at == after(-17_000)
        assert utc(loop.virtual_clock.wall()) == after(2560 - 20_000)
        await asyncio.sleep(500)
        assert starts(added[0]) == [-17_000]


class Moody:
    """A trigger that fails on demand."""

    broken = False

    def after(self, moment: datetime) -> datetime:
        if self.broken:
            raise ConnectionError("the calendar cannot be reached")
        return Every(10, ZERO).after(moment)

    def at_or_before(self, moment: datetime) -> datetime:
        return Every(10, ZERO).at_or_before(moment)


async def test_a_trigger_that_failed_is_asked_again_though_the_task_is_disabled_and_enabled(
    scheduler: Scheduler,
) -> None:
    rule = Moody()
    task = scheduler.schedule_task(job, trigger=rule)
    async with scheduler:
        await asyncio.sleep(12)
        rule.broken = True
        await asyncio.sleep(23)
        task.disable()
        task.enable()
        async with task.suspend():
            await asyncio.sleep(1)
        rule.broken = False
        await asyncio.sleep(60)

        assert task.state == "waiting"
        await asyncio.sleep(20)
        assert starts(task)[:3] == [10, 20, 30]  # These ticks were known before the failure.
        assert starts(task)[-1] == 110


async def test_a_moment_that_was_reached_does_not_come_again_after_enable(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(job, trigger=At(after(1000)))
    async with scheduler:
        await asyncio.sleep(1500)
        loop.virtual_clock.step_wall(-1000)
        scheduler.schedule_task(job, 10)  # So that the step is noticed.
        task.disable()
        task.enable()
        await asyncio.sleep(5000)

        assert starts(task) == [1000]
        assert task.state == "over"
