"""Unreliable time: a blocked loop, a sleeping machine, a wall clock that is set. No tick vanishes."""

from __future__ import annotations

import asyncio
import logging
import time as stopwatch
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kaiju_app._core.clock import utc
from kaiju_app.scheduler import (
    AnyOf,
    At,
    Clock,
    Cron,
    Every,
    Except,
    ExecPolicy,
    FirstRun,
    Missed,
    Outcome,
    ScheduledTask,
    Scheduler,
    Trigger,
    current_run,
)
from kaiju_app.triggers._foreign import as_base_trigger
from support.machine import idle_year_s
from support.reading import ZERO, History, history_of, moment, nothing, ran, shown, sleep_until, wall
from support.virtual import VirtualLoop, close_loop

MINUTE = 60
HOUR = 3600
DAY = 86_400
YEAR = 365 * DAY
DECADE = 10 * YEAR

HOURLY = Cron("0 * * * *")
OFFICE = Cron("0 8-17 * * mon-fri")

LOG = "kaiju_app.scheduler"

Script = Sequence[tuple[str, float]]


# --- what happens to a scheduler, and what ticks there are meanwhile ---


def up_to(end: datetime, moments: Iterable[datetime]) -> list[datetime]:
    return list(takewhile(lambda moment: moment <= end, moments))


class Wall:
    """A log of what the wall clock has shown, in one stretch for each time that it was set back by hours."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.stretches = [[wall(loop)] * 2]

    def look(self) -> None:
        self.stretches[-1][1] = max(self.stretches[-1][1], wall(self.loop))

    def set(self, seconds: float) -> None:
        self.look()
        self.loop.virtual_clock.step_wall(seconds)
        if self.stretches[-1][1] - wall(self.loop) > timedelta(hours=3):
            self.stretches.append([wall(self.loop)] * 2)
        self.look()

    async def caught_up(self) -> None:
        """Wait until the clock shows again what it showed before it was set back.

        After a small step back, ticks that passed while a task was held lie ahead again and have not ended yet.
        """
        self.look()
        await asyncio.sleep((self.stretches[-1][1] - wall(self.loop)).total_seconds())

    def ticks(self, rule: Trigger, first_run: FirstRun | datetime | None = None) -> list[datetime]:
        """Return in order every tick that has to end: each once per stretch."""
        found = [self.stretches[0][0]] if first_run is FirstRun.NOW else []
        for start, end in self.stretches:
            if isinstance(first_run, datetime) and first_run >= start:
                found += up_to(end, chain([first_run], as_base_trigger("rule", rule).ticks(first_run)))
            else:
                found += up_to(end, as_base_trigger("rule", rule).ticks(start))
        return sorted(found)


async def play(scheduler: Scheduler, loop: VirtualLoop, script: Script, *, watched: bool = True) -> Wall:
    """Apply a story to *scheduler* and all its tasks, and stop it."""
    shown_wall = Wall(loop)
    tasks = list(scheduler.tasks.values())
    if watched:
        scheduler.schedule_task(nothing, MINUTE)  # So that the loop wakes often enough to notice steps of the clock.
    await scheduler.start()
    holds: set[str] = set()
    for what, seconds in script:
        if holds and what == "set":
            await shown_wall.caught_up()
        if what in ("pause", "disable"):
            holds.add(what)
        holds.discard({"resume": "pause", "enable": "disable"}.get(what, ""))
        if what == "sleep":
            await asyncio.sleep(seconds)
        elif what == "block":
            loop.virtual_clock.block(seconds)
        elif what == "asleep":
            loop.virtual_clock.sleep_machine(seconds)
        elif what == "set":
            shown_wall.set(seconds)
        for task in tasks:
            if what == "pause":
                await task.pause()
            elif what == "resume":
                await task.resume()
            elif what == "disable":
                task.disable()
            elif what == "enable":
                task.enable()
        if what not in ("sleep", "block", "asleep"):
            await asyncio.sleep(seconds if what != "set" else 0)
    await shown_wall.caught_up()
    await scheduler.stop()
    return shown_wall


def skips_of(scheduler: Scheduler) -> dict[str, list[tuple[datetime, datetime, int]]]:
    """Return a dict by task that collects the first tick, the last tick and the count of each skip record.

    A record may cover ticks that are not adjacent: a tick that was waiting is skipped later.
    """
    engine = scheduler._engine
    skip = engine.recorder.skip
    noted: dict[str, list[tuple[datetime, datetime, int]]] = {}

    def noting(entry: Any, first: int, last: int, number: int, *args: Any, **kws: Any) -> Any:
        told = noted.setdefault(entry.name, [])
        told.append((utc(first + engine.offset), utc(last + engine.offset), number))
        return skip(entry, first, last, number, *args, **kws)

    engine.recorder.skip = noting  # type: ignore[method-assign]
    return noted


def check_book(
    task: ScheduledTask[Any],
    rule: Trigger,
    shown_wall: Wall,
    skips: list[tuple[datetime, datetime, int]],
    first_run: FirstRun | datetime | None = None,
) -> None:
    """Check that every tick has ended once for each time that the wall clock passed it."""
    found = [run.scheduled_at for run in task.history() if run.outcome is not Outcome.SKIPPED]
    for first, last, number in skips:
        # A first tick that is not on the grid is skipped alone.
        covered = [first, *up_to(last, as_base_trigger("rule", rule).ticks(first))]
        assert len(covered) == number
        found += covered
    shown_ticks = shown_wall.ticks(rule, first_run)
    assert sorted(found) == [tick for tick in shown_ticks if task.until is None or tick <= task.until]
    assert sum(task.counts.values()) == sum(run.count for run in task.history()) == len(found)


TO_HALF_PAST_TEN = ("sleep", 2.5 * HOUR - 35)  # Until 10:29:30, half a minute before the scheduler checks the clocks.

SCRIPTS: dict[str, Script] = {
    "a weekend asleep": [("sleep", 9 * HOUR + 1170), ("asleep", 63 * HOUR), ("sleep", 4 * HOUR)],
    "a weekend blocked": [("sleep", 9 * HOUR + 1170), ("block", 63 * HOUR), ("sleep", 4 * HOUR)],
    "blocked for hours": [TO_HALF_PAST_TEN, ("block", 5.7 * HOUR), ("sleep", 4 * HOUR)],
    "asleep every hour": [*([("sleep", 1500), ("asleep", 1300)] * 8), ("sleep", HOUR)],
    "suspended": [TO_HALF_PAST_TEN, ("pause", 4 * HOUR), ("resume", 4 * HOUR)],
    "disabled": [TO_HALF_PAST_TEN, ("disable", 4 * HOUR), ("enable", 4 * HOUR)],
    "an hour back": [TO_HALF_PAST_TEN, ("set", -HOUR), ("sleep", 5 * HOUR)],
    "an hour back and forth": [
        TO_HALF_PAST_TEN, ("set", -HOUR), ("sleep", 1200), ("set", HOUR), ("sleep", 5 * HOUR),
    ],
    "an hour back, in a pause": [
        TO_HALF_PAST_TEN, ("pause", 2 * HOUR), ("set", -HOUR), ("sleep", 1800), ("resume", 4 * HOUR),
    ],
    "an hour back, while disabled": [
        TO_HALF_PAST_TEN, ("disable", 2 * HOUR), ("set", -HOUR), ("sleep", 1800), ("enable", 4 * HOUR),
    ],
    "forward": [TO_HALF_PAST_TEN, ("set", 5.4 * HOUR), ("sleep", 5 * HOUR)],
    "forward and back by less": [
        TO_HALF_PAST_TEN, ("set", 5 * HOUR), ("sleep", 1200), ("set", -2.5 * HOUR), ("sleep", 5 * HOUR),
    ],
    "forward and back": [TO_HALF_PAST_TEN, ("set", 5 * HOUR), ("sleep", 1200), ("set", -5 * HOUR), ("sleep", 8 * HOUR)],
    "three hours back": [TO_HALF_PAST_TEN, ("set", -3 * HOUR), ("sleep", 7 * HOUR)],
    "more than three hours back": [TO_HALF_PAST_TEN, ("set", -3 * HOUR - 60), ("sleep", 7 * HOUR)],
    "two hours back twice": [
        TO_HALF_PAST_TEN, ("sleep", HOUR), ("set", -2 * HOUR), ("sleep", 600), ("set", -2 * HOUR), ("sleep", 7 * HOUR),
    ],
    "a year back": [TO_HALF_PAST_TEN, ("set", -YEAR), ("sleep", 7 * HOUR)],
    "a year back, in a pause": [
        TO_HALF_PAST_TEN, ("pause", 2 * HOUR), ("set", -YEAR), ("sleep", 2 * HOUR), ("resume", 4 * HOUR),
    ],
    "a year back in a blocked loop": [TO_HALF_PAST_TEN, ("block", 4 * HOUR), ("set", -YEAR), ("sleep", 4 * HOUR)],
    "back while much waits": [
        TO_HALF_PAST_TEN, ("block", 4 * HOUR), ("sleep", 600), ("set", -YEAR), ("sleep", 7 * HOUR),
    ],
    "back a little while much waits": [
        TO_HALF_PAST_TEN, ("block", 4 * HOUR), ("sleep", 600), ("set", -2 * HOUR), ("sleep", 7 * HOUR),
    ],
}  # fmt: skip

LENGTHS_S = [0, 20 * MINUTE, 100 * MINUTE, 400 * MINUTE]


@pytest.mark.volume
@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("policy", ExecPolicy)
@pytest.mark.parametrize("script", SCRIPTS)
async def test_every_tick_ends_once_whatever_the_clocks_do(
    loop: VirtualLoop, script: str, policy: ExecPolicy, missed: Missed
) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=200)
    tasks = [
        (rule, scheduler.schedule_task(asyncio.sleep, trigger=rule, args=(length_s,), policy=policy, missed=missed))
        for rule in (HOURLY, OFFICE, Every(HOUR), AnyOf(HOURLY, At(moment("Fri 10:40"), moment("Fri 11:50"))))
        for length_s in LENGTHS_S
    ]
    skips = skips_of(scheduler)
    shown_wall = await play(scheduler, loop, SCRIPTS[script])

    for rule, task in tasks:
        check_book(task, rule, shown_wall, skips.get(task.name, []))


OVER = ZERO + timedelta(hours=6)
FIRST_RUNS = ["Fri 08:15", "Fri 10:35", "Fri 13:45", "Sat 20:15"]

steps = st.tuples(
    st.sampled_from(["sleep", "sleep", "block", "asleep", "set", "set", "pause", "resume", "disable", "enable"]),
    st.integers(0, 40),
    st.booleans(),
)


@pytest.mark.volume
@settings(max_examples=80)
@given(
    st.lists(steps, max_size=12),
    st.sampled_from(ExecPolicy),
    st.sampled_from(Missed),
    st.sampled_from([0, 20 * MINUTE, 100 * MINUTE]),
    st.sampled_from(
        [
            Cron("5 * * * *"),
            Cron("25 */2 * * *"),
            Except(Cron("5,35 * * * *"), Cron("* 12-14 * * *")),
            Every(HOUR, moment("Fri 08:05")),
        ]
    ),
    st.sampled_from([0, 240]),
    st.sampled_from([None, OVER]),
    st.sampled_from([None, FirstRun.NOW, ZERO - timedelta(hours=12), *map(moment, FIRST_RUNS)]),
)
@example([("disable", 9, True)], ExecPolicy.CANCEL, Missed.ONCE, 0, Cron("5 * * * *"), 0, OVER, moment("Sat 20:15"))
@example([("set", 30, True)], ExecPolicy.CANCEL, Missed.ONCE, 0, Cron("5 * * * *"), 0, None, moment("Fri 13:45"))
def test_no_tick_vanishes_and_none_runs_twice_in_any_story(
    story: list[tuple[str, int, bool]],
    policy: ExecPolicy,
    missed: Missed,
    length_s: float,
    rule: Trigger,
    jitter_s: float,
    until: datetime | None,
    first_run: FirstRun | datetime | None,
) -> None:
    """Everything happens at multiples of ten minutes, and no tick is due near those."""
    script: list[tuple[str, float]] = [("sleep", 595)]
    for what, tens, back in story:
        if what == "set":
            script += [("set", -600 * tens if back else 600 * tens), ("sleep", 600)]
        else:
            script += [(what, 600 * tens), ("sleep", 600)]
    loop = VirtualLoop()
    scheduler = Scheduler(clock=loop.virtual_clock, history=1_000)
    task = scheduler.schedule_task(
        asyncio.sleep,
        trigger=rule,
        args=(length_s,),
        policy=policy,
        missed=missed,
        jitter_s=jitter_s,
        until=until,
        first_run=first_run,
    )
    skips = skips_of(scheduler)
    try:
        shown_wall = loop.run_until_complete(play(scheduler, loop, script))
    finally:
        close_loop(loop)

    check_book(task, rule, shown_wall, skips.get(task.name, []), first_run)
    assert loop.complaints == []


# --- a year ---

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]
BAD_WEEK: Script = [
    ("sleep", 2 * DAY), ("block", 7 * HOUR), ("sleep", 2 * DAY), ("asleep", 31 * HOUR), ("sleep", 9 * HOUR),
    ("pause", 13 * HOUR), ("resume", 12 * HOUR),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.pure  # Many ticks, which take three times as long in debug mode.
@pytest.mark.timeout(300)
async def test_a_year_of_bad_weeks_in_four_zones_has_every_tick_once_under_every_policy(loop: VirtualLoop) -> None:
    """Runs are short, longer than an hour, or longer than a day. Late and overlapping ticks are counted as well."""
    scheduler = Scheduler(clock=loop.virtual_clock, history=10_000)

    async def body() -> None:
        tick = current_run().scheduled_at
        await asyncio.sleep(0 if tick.hour % 6 else 30 * HOUR if tick.day == 10 else 100 * MINUTE)

    both = [(policy, missed) for policy in ExecPolicy for missed in Missed]
    rules = [(expression, zone) for expression in ("30 2 * * *", "15 0 1 * *") for zone in ZONES]
    given_ = [(Cron(*rule), *each) for rule in rules for each in both]
    # Covers each zone, policy and value of Missed.
    given_ += [(Cron("0 * * * *", ZONES[number % 4]), *each) for number, each in enumerate(both)]
    tasks = [
        (rule, scheduler.schedule_task(body, trigger=rule, policy=policy, missed=missed))
        for rule, policy, missed in given_
    ]
    skips = skips_of(scheduler)
    begun = stopwatch.process_time()
    shown_wall = await play(scheduler, loop, BAD_WEEK * 52, watched=False)
    spent_s = stopwatch.process_time() - begun

    assert spent_s < 7 * idle_year_s(debug=loop.get_debug())
    for rule, task in tasks:
        check_book(task, rule, shown_wall, skips.get(task.name, []))
    reasons = {str(run.reason) for _, task in tasks for run in task.history() if run.outcome is Outcome.SKIPPED}
    assert reasons == {"missed", "backlog full", "suspended", "overlap"}


# --- a weekend asleep ---

MORNING = [f"Fri {hour:02}:00" for hour in range(9, 18)]


@pytest.mark.parametrize("policy", ExecPolicy)
@pytest.mark.parametrize(
    ("rule", "missed", "expected"),
    [
        (
            HOURLY,
            Missed.ONCE,
            [*ran(*MORNING), ("missed", 62, "Fri 18:00", "Mon 07:00"), ("SUCCEEDED", "Mon 08:00", "Mon 08:20")],
        ),
        (HOURLY, Missed.SKIP, [*ran(*MORNING), ("missed", 63, "Fri 18:00", "Mon 08:00")]),
        (
            HOURLY,
            Missed.ALL,
            [
                *ran(*MORNING),
                ("backlog full", 39, "Fri 18:00", "Sun 08:00"),
                *(("SUCCEEDED", f"Sun {hour:02}:00", "Mon 08:20") for hour in range(9, 24)),
                *(("SUCCEEDED", f"Mon {hour:02}:00", "Mon 08:20") for hour in range(9)),
            ],
        ),
        (OFFICE, Missed.ONCE, [*ran(*MORNING), ("SUCCEEDED", "Mon 08:00", "Mon 08:20")]),
        (OFFICE, Missed.SKIP, [*ran(*MORNING), ("missed", 1, "Mon 08:00", "Mon 08:00")]),
        (OFFICE, Missed.ALL, [*ran(*MORNING), ("SUCCEEDED", "Mon 08:00", "Mon 08:20")]),
        # Three days to the next tick; its grace, a tenth of that, is seven hours.
        (Cron("30 17 * * mon-fri"), Missed.ONCE, [("SUCCEEDED", "Fri 17:30", "Mon 08:20:05")]),
        (Cron("30 17 * * mon-fri"), Missed.SKIP, [("missed", 1, "Fri 17:30", "Fri 17:30")]),
        (Cron("0 2 * * mon-fri"), Missed.SKIP, [("missed", 1, "Mon 02:00", "Mon 02:00")]),
        (Cron("30 6 * * mon-fri"), Missed.SKIP, [("SUCCEEDED", "Mon 06:30", "Mon 08:20:05")]),
        (Cron("30 6 * * mon,fri"), Missed.SKIP, [("SUCCEEDED", "Mon 06:30", "Mon 08:20:05")]),
    ],
)
async def test_a_machine_that_slept_over_the_weekend(
    loop: VirtualLoop, policy: ExecPolicy, rule: Trigger, missed: Missed, expected: History
) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=100)
    task = scheduler.schedule_task(nothing, trigger=rule, policy=policy, missed=missed)
    async with scheduler:
        await sleep_until(loop, "Fri 17:19:35")
        loop.virtual_clock.sleep_machine(63 * HOUR)
        await sleep_until(loop, "Mon 08:30")
        assert history_of(task) == expected
        await sleep_until(loop, "Mon 09:30")
        assert history_of(task) == [*expected, *(ran("Mon 09:00") if rule in (HOURLY, OFFICE) else [])]


FOUR = ("missed", 4, "Fri 10:00", "Fri 13:00")
FIVE = ("missed", 5, "Fri 10:00", "Fri 14:00")
CUT = ("CANCELLED", "Fri 09:00", "Fri 09:00")
OVER = ("TIMED_OUT", "Fri 09:00", "Fri 09:00")
LATE = ("SUCCEEDED", "Fri 14:00", "Fri 14:20")


@pytest.mark.parametrize("upset", ["block", "sleep_machine"])
@pytest.mark.parametrize(
    ("policy", "missed", "expected"),
    [
        (ExecPolicy.CANCEL, Missed.ONCE, [FOUR, CUT, LATE]),
        (ExecPolicy.WAIT, Missed.ONCE, [FOUR, OVER, LATE]),
        (ExecPolicy.SKIP, Missed.ONCE, [FOUR, ("overlap", 1, "Fri 14:00", "Fri 14:00"), OVER]),
        (ExecPolicy.SHIELD, Missed.ONCE, [FOUR]),
        (ExecPolicy.CANCEL, Missed.SKIP, [FIVE, CUT]),
        (ExecPolicy.WAIT, Missed.SKIP, [FIVE, OVER]),
        (ExecPolicy.SKIP, Missed.SKIP, [FIVE, OVER]),
        (ExecPolicy.SHIELD, Missed.SKIP, [FIVE]),
        (
            ExecPolicy.CANCEL,
            Missed.ALL,
            [CUT, *(("SUCCEEDED", f"Fri {hour}:00", "Fri 14:20") for hour in range(10, 15))],
        ),
        (ExecPolicy.SHIELD, Missed.ALL, []),
    ],
)
async def test_a_run_that_goes_on_while_hours_are_lost(
    scheduler: Scheduler, loop: VirtualLoop, upset: str, policy: ExecPolicy, missed: Missed, expected: History
) -> None:
    """The scheduler notices at 14:20, and cancels a run with an expired deadline no later than that."""
    lengths = iter([9.0 * HOUR])

    async def body() -> None:
        await asyncio.sleep(next(lengths, 0))

    task = scheduler.schedule_task(body, trigger=HOURLY, policy=policy, missed=missed)
    async with scheduler:
        await sleep_until(loop, "Fri 09:19:35")
        getattr(loop.virtual_clock, upset)(5 * HOUR + (25 if upset == "block" else 0))
        await sleep_until(loop, "Fri 14:30")

        assert history_of(task) == expected
        assert task.running == (policy is ExecPolicy.SHIELD)


# --- the wall clock is set ---

BEFORE = ran("Fri 09:00", "Fri 10:00")


def alike(*hours: str) -> dict[Missed, History]:
    """Return the same expectation for each value of Missed, because nothing is missed."""
    return {missed: [*BEFORE, *ran(*hours)] for missed in Missed}


@pytest.mark.parametrize(
    ("set_by_s", "reach_", "expected"),
    [
        # Back by up to three hours: ticks that already ran do not run again.
        (-HOUR, "Fri 10:50", alike()),
        (-HOUR, "Fri 11:10", alike("Fri 11:00")),
        (-3 * HOUR, "Fri 11:10", alike("Fri 11:00")),
        (-120, "Fri 11:10", alike("Fri 11:00")),
        # Forward: ticks in between are missed.
        (
            5 * HOUR,
            "Fri 16:10",
            {
                Missed.ONCE: [
                    *BEFORE,
                    ("missed", 4, "Fri 11:00", "Fri 14:00"),
                    ("SUCCEEDED", "Fri 15:00", "Fri 15:30"),
                    *ran("Fri 16:00"),
                ],
                Missed.SKIP: [*BEFORE, ("missed", 5, "Fri 11:00", "Fri 15:00"), *ran("Fri 16:00")],
                Missed.ALL: [
                    *BEFORE,
                    *(("SUCCEEDED", f"Fri {hour}:00", "Fri 15:30") for hour in range(11, 16)),
                    *ran("Fri 16:00"),
                ],
            },
        ),
        (1200, "Fri 11:10", alike("Fri 11:00")),
        (
            5 * HOUR + 1,
            "Fri 15:50",
            {
                Missed.ONCE: [*BEFORE, ("missed", 5, "Fri 11:00", "Fri 15:00")],
                Missed.SKIP: [*BEFORE, ("missed", 5, "Fri 11:00", "Fri 15:00")],
                Missed.ALL: [*BEFORE, *(("SUCCEEDED", f"Fri {hour}:00", "Fri 15:30:01") for hour in range(11, 16))],
            },
        ),
        # Back by more: ticks follow the clock from now on, even if they run a second time.
        (-3 * HOUR - 60, "Fri 09:10", alike("Fri 08:00", "Fri 09:00")),
        (-YEAR, "Thu 12:10", alike("Thu 11:00", "Thu 12:00")),
    ],
)
@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("policy", ExecPolicy)
async def test_what_becomes_of_the_ticks_when_the_wall_clock_is_set(
    scheduler: Scheduler,
    loop: VirtualLoop,
    set_by_s: float,
    reach_: str,
    expected: dict[Missed, History],
    missed: Missed,
    policy: ExecPolicy,
) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY, policy=policy, missed=missed)
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:30")
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(31)
        await sleep_until(loop, reach_)

        assert history_of(task) == expected[missed]


async def test_a_clock_that_is_set_back_twice_by_two_hours_is_planned_anew(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 11:29:30")
        loop.virtual_clock.step_wall(-2 * HOUR)
        await asyncio.sleep(60)
        assert task.next_run_at == moment("Fri 12:00")
        loop.virtual_clock.step_wall(-2 * HOUR)
        await asyncio.sleep(60)
        assert task.next_run_at == moment("Fri 08:00", ZERO - timedelta(hours=1))
        await sleep_until(loop, "Fri 09:30")

        assert history_of(task) == ran("Fri 09:00", "Fri 10:00", "Fri 11:00", "Fri 08:00", "Fri 09:00")


async def test_a_clock_that_goes_to_and_fro_runs_no_tick_twice(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:30")
        for _ in range(5):
            for step_s in (-2.5 * HOUR, 2.5 * HOUR):
                loop.virtual_clock.step_wall(step_s)
                await asyncio.sleep(61)
        await sleep_until(loop, "Fri 12:30")

        assert history_of(task) == [*BEFORE, *ran("Fri 11:00", "Fri 12:00")]


@pytest.mark.volume
@pytest.mark.parametrize("set_by_s", [-YEAR, -5 * HOUR, -HOUR, 5 * HOUR])
@pytest.mark.parametrize("rule", [HOURLY, Every(HOUR)])
async def test_nothing_runs_before_a_first_run_that_lies_ahead_however_the_clock_is_set(
    scheduler: Scheduler, loop: VirtualLoop, rule: Trigger, set_by_s: float
) -> None:
    first_run = moment("Sat 10:40")
    task = scheduler.schedule_task(nothing, trigger=rule, first_run=first_run)
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:30")
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(61)
        assert task.next_run_at == first_run
        await asyncio.sleep((first_run - wall(loop)).total_seconds() + HOUR)

        assert history_of(task) == ran("Sat 10:40", "Sat 11:00")


async def test_a_first_run_comes_again_with_all_that_comes_again(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY, first_run=moment("Fri 09:20"))
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:30")
        loop.virtual_clock.step_wall(-4 * HOUR)
        await sleep_until(loop, "Fri 10:30")

        assert history_of(task) == ran("Fri 09:20", "Fri 10:00", "Fri 09:20", "Fri 10:00")


@pytest.mark.parametrize("set_by_s", [-YEAR, -5 * HOUR, -HOUR, 20 * MINUTE, 5 * HOUR])
@pytest.mark.parametrize("rule", [HOURLY, Every(HOUR), Cron("0 0 1 1 *")])
async def test_a_first_run_at_the_start_whose_jitter_lies_ahead_outlives_a_clock_that_is_set(
    scheduler: Scheduler, loop: VirtualLoop, rule: Trigger, set_by_s: float
) -> None:
    tasks = [
        scheduler.schedule_task(nothing, trigger=rule, first_run=FirstRun.NOW, jitter_s=3590, name=f"task {number}")
        for number in range(100)
    ]
    async with scheduler:
        await asyncio.sleep(25)
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(61)
        told = [task.upcoming(2) for task in tasks if not task.history()]
        await asyncio.sleep(HOUR)

        assert told == [sorted(each) for each in told]
        assert [task.history()[0].outcome for task in tasks] == [Outcome.SUCCEEDED] * 100


@pytest.mark.parametrize("missed", Missed)
async def test_what_a_pause_kept_back_is_told_as_such_though_a_clock_set_back_by_a_year_ends_it(
    scheduler: Scheduler, loop: VirtualLoop, missed: Missed
) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY, missed=missed)
    scheduler.schedule_task(nothing, MINUTE)  # Keeps the loop awake.
    async with scheduler:
        await sleep_until(loop, "Fri 09:30")
        await task.pause()
        await sleep_until(loop, "Fri 11:29:30")
        loop.virtual_clock.step_wall(-YEAR)
        await sleep_until(loop, "Thu 12:03")
        await task.resume()
        await sleep_until(loop, "Thu 13:10")

        kept_back = ("SUCCEEDED", "Thu 12:00", "Thu 12:03")
        assert history_of(task) == [
            *ran("Fri 09:00"), ("suspended", 2, "Fri 10:00", "Fri 11:00"), kept_back, *ran("Thu 13:00")
        ]  # fmt: skip
        assert task.history()[-1].scheduled_at.year == 2026


@pytest.mark.parametrize("hold", ["pause", "disable"])
async def test_a_clock_that_is_set_back_while_nothing_is_planned_is_noticed(
    scheduler: Scheduler, loop: VirtualLoop, hold: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise ticks would be reported that the clock never showed, and ticks that it did show would be lost."""
    task = scheduler.schedule_task(nothing, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 09:30")
        await task.pause() if hold == "pause" else task.disable()
        await sleep_until(loop, "Fri 10:29:30")
        loop.virtual_clock.step_wall(-YEAR)
        await sleep_until(loop, "Thu 12:30")

        assert len(warnings(caplog)) == 1
        await task.resume() if hold == "pause" else task.enable()
        await sleep_until(loop, "Thu 13:10")
        labels = {each for run in task.history() for each in (run.scheduled_at, run.last_scheduled_at)}
        assert sum(run.count for run in task.history()) == 5
        assert datetime(2027, 1, 15, 11, tzinfo=UTC) not in labels


@pytest.mark.parametrize("policy", [ExecPolicy.SKIP, ExecPolicy.WAIT])
async def test_a_record_of_skips_does_not_go_back_in_time(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy
) -> None:
    """A step back by a year ends the record, because its first tick would be later than its last one."""
    task = scheduler.schedule_task(asyncio.sleep, trigger=HOURLY, args=(1e6,), policy=policy, max_timeout_s=1e6)
    async with scheduler:
        await sleep_until(loop, "Fri 12:29:30")
        loop.virtual_clock.step_wall(-YEAR)
        await asyncio.sleep(4 * HOUR)
    assert [run for run in task.history() if run.last_scheduled_at < run.scheduled_at] == []
    assert sum(task.counts.values()) == 8


async def test_what_a_disabled_task_let_pass_is_told_as_such_when_the_clock_is_set_back_by_a_year(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 09:30")
        task.disable()
        await sleep_until(loop, "Fri 11:29:30")
        loop.virtual_clock.step_wall(-YEAR)
        await sleep_until(loop, "Thu 12:20")
        task.enable()
        await sleep_until(loop, "Thu 13:10")

        runs = [run for run in task.history() if run.started_at is not None]
        assert [shown(run.scheduled_at) for run in runs] == ["Fri 09:00", "Thu 13:00"]
        skips = [run for run in task.history() if run.started_at is None]
        assert ({str(run.reason) for run in skips}, sum(run.count for run in skips)) == ({"disabled"}, 3)


@pytest.mark.parametrize(
    ("set_by_s", "ends"), [(-HOUR, "Fri 11:00"), (HOUR, "Fri 12:00"), (-YEAR, "Thu 11:00"), (0, "Fri 11:00")]
)
async def test_a_run_in_progress_is_replaced_by_the_next_tick_that_comes(
    scheduler: Scheduler, loop: VirtualLoop, set_by_s: float, ends: str
) -> None:
    """The run belongs to the tick that started it, whatever the clock shows; its deadline is shown accordingly."""
    deadlines: list[str | None] = []

    async def body() -> None:
        while shown(current_run().scheduled_at) == "Fri 10:00":
            await asyncio.sleep(MINUTE)
            deadlines.append(shown(current_run().deadline))

    task = scheduler.schedule_task(body, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:30")
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(31)
        await sleep_until(loop, ends)
        await asyncio.sleep(30)

        (run,) = [run for run in task.history() if run.outcome is Outcome.CANCELLED]
        assert (str(run.reason), shown(run.scheduled_at), shown(run.finished_at)) == ("replaced", "Fri 10:00", ends)
        assert (deadlines[0], deadlines[-1]) == ("Fri 11:00", ends)
        # With the clock set forward, the tick of 11:00 comes before the run has had more than half of its time.
        overlaps = [shown(run.scheduled_at) for run in task.history() if run.outcome is Outcome.SKIPPED]
        assert overlaps == (["Fri 11:00"] if set_by_s > 0 else [])


@pytest.mark.parametrize("hold", ["pause", "disable"])
@pytest.mark.parametrize(("set_by_s", "ends"), [(-HOUR, "Fri 11:00"), (-YEAR, "Thu 11:00"), (0, "Fri 11:00")])
async def test_a_deadline_holds_while_the_task_is_held_and_the_clock_is_set_back(
    scheduler: Scheduler, loop: VirtualLoop, hold: str, set_by_s: float, ends: str
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, trigger=HOURLY, args=(1e6,))
    async with scheduler:
        await sleep_until(loop, "Fri 10:15")
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(61)
        await task.pause() if hold == "pause" else task.disable()
        await asyncio.sleep(4 * HOUR)

        (_, run) = [run for run in task.history() if run.outcome is Outcome.CANCELLED]
        assert (shown(run.scheduled_at), str(run.reason)) == ("Fri 10:00", "replaced")
        assert shown(run.finished_at) == ends


@pytest.mark.parametrize("set_by_s", [-HOUR, HOUR, -YEAR, 0])
async def test_a_manual_run_is_replaced_by_a_tick_that_comes_and_by_no_other(
    scheduler: Scheduler, loop: VirtualLoop, set_by_s: float
) -> None:
    """The run is requested at 10:05. If the clock is set back, no tick comes at the former 11:00."""

    async def body() -> None:
        if current_run().scheduled_at.minute:
            await asyncio.sleep(1e9)

    task = scheduler.schedule_task(body, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 10:05")
        asked = asyncio.create_task(task.run_now())
        await sleep_until(loop, "Fri 10:09:30")
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(61)
        assert task.next_run_at is not None
        planned = task.next_run_at
        run = await asked

        assert (run.outcome, str(run.reason)) == (Outcome.CANCELLED, "replaced")
        assert run.finished_at == planned


@pytest.mark.parametrize("set_by_s", [-HOUR, HOUR, -YEAR])
async def test_a_tick_that_waits_keeps_its_label_when_the_clock_is_set(
    scheduler: Scheduler, loop: VirtualLoop, set_by_s: float
) -> None:
    labels: list[str | None] = []

    async def body() -> None:
        labels.append(shown(current_run().scheduled_at))
        if labels[-1] == "Fri 10:00":
            await asyncio.sleep(100 * MINUTE)

    task = scheduler.schedule_task(body, trigger=HOURLY, policy=ExecPolicy.WAIT)
    async with scheduler:
        await sleep_until(loop, "Fri 11:19:30")  # The tick of 11:00 waits until the former 11:40.
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(20 * MINUTE + 31)
        waited = {-HOUR: ["Fri 11:00"], HOUR: ["Fri 12:00"], -YEAR: []}[set_by_s]  # The tick of 12:00 has replaced it.
        assert labels == ["Fri 09:00", "Fri 10:00", *waited]
        planned = task.next_run_at
        assert shown(planned) == {-HOUR: "Fri 12:00", HOUR: "Fri 13:00", -YEAR: "Thu 12:00"}[set_by_s]
        await sleep_until(loop, str(shown(planned)))
        await asyncio.sleep(1)
        assert labels == ["Fri 09:00", "Fri 10:00", *waited, shown(planned)]
        skips = [entry for entry in history_of(task) if len(entry) == 4]
        assert (
            skips
            == {
                -HOUR: [],
                HOUR: [("overlap", 1, "Fri 11:00", "Fri 11:00")],
                -YEAR: [("clock set back", 1, "Fri 11:00", "Fri 11:00")],
            }[set_by_s]
        )


@pytest.mark.parametrize(
    ("set_by_s", "caught_up", "live"),
    [
        (0, ["Fri 12:00", "Fri 13:00"], "Fri 14:00"),
        (-2 * HOUR, ["Fri 12:00", "Fri 13:00"], "Fri 14:00"),
        (-YEAR, [], "Thu 14:00"),
    ],
)
async def test_a_backlog_keeps_its_labels_when_the_clock_is_set(
    scheduler: Scheduler, loop: VirtualLoop, set_by_s: float, caught_up: list[str], live: str
) -> None:
    """The clock is set by hours. Ticks still to be caught up come again, or never existed by the new time."""
    labels: list[str | None] = []

    async def body() -> None:
        labels.append(shown(current_run().scheduled_at))
        if len(labels) > 2:
            await asyncio.sleep(15 * MINUTE)

    task = scheduler.schedule_task(body, trigger=HOURLY, missed=Missed.ALL)
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:30")
        loop.virtual_clock.block(2.75 * HOUR)  # From 13:15 on the ticks of 11:00, 12:00 and 13:00 are caught up.
        await sleep_until(loop, "Fri 13:19:30")
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(MINUTE)
        await sleep_until(loop, live)
        await asyncio.sleep(MINUTE)

        assert labels == ["Fri 09:00", "Fri 10:00", "Fri 11:00", *caught_up, live]
        skips = [entry for entry in history_of(task) if len(entry) == 4]
        assert skips == ([] if caught_up else [("clock set back", 2, "Fri 12:00", "Fri 13:00")])


@pytest.mark.parametrize("set_by_s", [-YEAR, -5 * HOUR, -HOUR, HOUR, 5 * HOUR, YEAR])
@pytest.mark.parametrize("given_", [{"interval_s": HOUR}, {"interval_s": HOUR, "jitter_s": 600}])
async def test_an_interval_does_not_notice_that_the_wall_clock_is_set(
    loop: VirtualLoop, set_by_s: float, given_: dict[str, Any]
) -> None:
    calls: list[float] = []
    labels: list[float] = []
    scheduler = Scheduler(clock=loop.virtual_clock)

    async def body() -> None:
        calls.append(loop.time() - 5)
        labels.append((current_run().scheduled_at - ZERO).total_seconds())

    task = scheduler.schedule_task(body, **given_)
    async with scheduler:
        due = [(each - ZERO).total_seconds() for each in task.upcoming(6)]
        await asyncio.sleep(2.5 * HOUR)
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(61)
        assert task.next_run_at == ZERO + timedelta(seconds=due[3] + set_by_s)
        await asyncio.sleep(3.4 * HOUR - 61)

    assert calls == pytest.approx(due, abs=1e-5)
    assert labels == [0, HOUR, 2 * HOUR, 3 * HOUR + set_by_s, 4 * HOUR + set_by_s, 5 * HOUR + set_by_s]
    assert task.counts[Outcome.SUCCEEDED] == sum(task.counts.values()) == 6


@pytest.mark.parametrize("set_by_s", [-YEAR, -4 * HOUR, HOUR])
async def test_the_first_run_of_an_interval_comes_when_it_would_have_whatever_the_wall_clock_shows_then(
    scheduler: Scheduler, loop: VirtualLoop, set_by_s: float
) -> None:
    task = scheduler.schedule_task(nothing, HOUR, first_run=ZERO + timedelta(hours=10))
    async with scheduler:
        await asyncio.sleep(100)
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(11 * HOUR)

        labels = [run.scheduled_at for run in task.history()]
        assert labels == [ZERO + timedelta(hours=hours, seconds=set_by_s) for hours in (10, 11)]


@pytest.mark.parametrize(
    ("set_by_s", "again_s"),
    [(-YEAR - 17, 61), (-HOUR - 17, HOUR + 61), (-17, 61), (17, 61), (HOUR + 17, 61), (YEAR + 17, 61)],
)
@pytest.mark.parametrize("rule", [Every(10), Every(600), Every(600, ZERO), Cron("*/10 * * * *")])
async def test_a_rule_given_as_trigger_is_back_on_its_grid_after_a_step(
    scheduler: Scheduler, loop: VirtualLoop, rule: Trigger, set_by_s: float, again_s: float
) -> None:
    """This happens once the step is noticed and, after a small step back, once the old ticks have passed again."""
    calls: list[datetime] = []

    async def body() -> None:
        calls.append(wall(loop))

    task = scheduler.schedule_task(body, trigger=rule)
    async with scheduler:
        await asyncio.sleep(1234)
        loop.virtual_clock.step_wall(set_by_s)
        await asyncio.sleep(again_s)
        calls.clear()
        since = wall(loop)
        await asyncio.sleep(1801)

        assert calls == up_to(wall(loop), as_base_trigger("rule", rule).ticks(since))
        assert task.next_run_at == next(iter(as_base_trigger("rule", rule).ticks(wall(loop))))


# --- ten years ---

SECONDLY = Cron("* * * * * *")
MINUTELY = Cron("* * * * *")

FULL: list[tuple[dict[str, Any], int, bool]] = [
    # trigger, its gap, whether all ticks of ten years are counted
    ({"interval_s": 1, "first_run": FirstRun.NEXT}, 1, True),
    ({"trigger": Every(1)}, 1, True),
    ({"trigger": SECONDLY}, 1, False),
    ({"trigger": MINUTELY}, 60, False),
    ({"trigger": AnyOf(MINUTELY, Every(60))}, 60, False),
    ({"trigger": Except(SECONDLY, Cron("* 3 * * *"))}, 1, False),
    ({"trigger": Every(1), "jitter_s": 0.1}, 1, True),
    ({"trigger": SECONDLY, "jitter_s": 0.1}, 1, False),
]


@pytest.mark.volume
@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize(
    ("upset", "policy"),
    [
        *(("block", policy) for policy in ExecPolicy),
        ("sleep_machine", ExecPolicy.CANCEL),
        ("step_wall", ExecPolicy.CANCEL),
    ],
)
@pytest.mark.parametrize(("given_", "gap_s", "exact"), FULL)
async def test_ten_years_are_one_record_and_little_work(
    loop: VirtualLoop,
    given_: dict[str, Any],
    gap_s: int,
    exact: bool,
    missed: Missed,
    policy: ExecPolicy,
    upset: str,
) -> None:
    """The latest tick is about 0.4 s late, which is less than half a gap and less than its grace."""
    if upset == "step_wall" and "interval_s" in given_:
        return
    scheduler = Scheduler(clock=loop.virtual_clock, history=1_200)
    scheduler.schedule_task(nothing, 1)  # So that the clocks are checked every second.
    grace_s = None if missed is Missed.ALL else 0.45 * gap_s
    task = scheduler.schedule_task(nothing, missed=missed, grace_s=grace_s, policy=policy, **given_)
    kept = 1_000 if missed is Missed.ALL else 1
    async with scheduler:
        (first,) = task.upcoming(1)
        await asyncio.sleep(0.005)
        getattr(loop.virtual_clock, upset)(DECADE + 0.39)
        begun = stopwatch.process_time()
        await asyncio.sleep(1)
        spent_s = stopwatch.process_time() - begun
        skipped, *runs = task.history()

        assert (skipped.outcome, skipped.due, skipped.more) == (Outcome.SKIPPED, first, not exact)
        runs = runs[:kept]
        assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * kept
        step = timedelta(seconds=gap_s)
        assert [run.scheduled_at for run in runs] == [runs[0].scheduled_at + k * step for k in range(kept)]
        assert skipped.last_scheduled_at == runs[0].scheduled_at - step
        assert wall(loop) - runs[-1].due < 2 * step
        if exact:
            assert skipped.count == 1 + (skipped.last_scheduled_at - skipped.scheduled_at) / step
        else:
            assert skipped.count == 10_000 - kept
        before = sum(task.counts.values())
        await asyncio.sleep(3 * gap_s)
        assert sum(task.counts.values()) == before + 3
        assert task.history()[-1].lateness_s == 0
        assert spent_s < (10 if loop.get_debug() else 1)


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("policy", ExecPolicy)
@pytest.mark.parametrize("rule", [Every(1), SECONDLY])
async def test_ten_years_pass_while_a_run_goes_on(
    loop: VirtualLoop, rule: Trigger, policy: ExecPolicy, missed: Missed
) -> None:
    """The run would end five seconds after that, and does under SHIELD. All ticks meanwhile are counted."""
    scheduler = Scheduler(clock=loop.virtual_clock, history=3_000)
    going_on = 0

    async def body() -> None:
        nonlocal going_on
        assert not going_on
        going_on += 1
        try:
            if current_run().scheduled_at == ZERO + timedelta(seconds=1):
                await asyncio.sleep(DECADE + 5)
        finally:
            going_on -= 1

    task = scheduler.schedule_task(body, trigger=rule, policy=policy, missed=missed)
    async with scheduler:
        await asyncio.sleep(1.005)
        assert task.running
        loop.virtual_clock.block(DECADE + 0.39)
        begun = stopwatch.process_time()
        await asyncio.sleep(10)
        assert stopwatch.process_time() - begun < (10 if loop.get_debug() else 1)

    first, *later = [run for run in task.history() if run.started_at is not None]
    skipped = [run for run in task.history() if run.started_at is None]
    assert (first.outcome, first.scheduled_at) == (
        {
            ExecPolicy.CANCEL: Outcome.CANCELLED,
            ExecPolicy.WAIT: Outcome.TIMED_OUT,
            ExecPolicy.SKIP: Outcome.TIMED_OUT,
            ExecPolicy.SHIELD: Outcome.SUCCEEDED,
        }[policy],
        ZERO + timedelta(seconds=1),
    )
    assert {run.outcome for run in later} == {Outcome.SUCCEEDED}
    assert len(skipped) <= 2
    assert skipped[0].scheduled_at == ZERO + timedelta(seconds=2)
    assert later[-1].scheduled_at == ZERO + timedelta(seconds=DECADE + 11)
    if rule == SECONDLY:
        assert [run.more for run in skipped] == [True, *(False for _ in skipped[1:])]
    else:
        assert sum(task.counts.values()) == DECADE + 11


@pytest.mark.parametrize(("number", "more"), [(9_999, False), (10_000, False), (10_001, True), (20_000, True)])
@pytest.mark.parametrize("hold", [None, "pause", "disable"])
async def test_ticks_of_a_calendar_are_counted_up_to_ten_thousand(
    scheduler: Scheduler, loop: VirtualLoop, number: int, more: bool, hold: str | None
) -> None:
    task = scheduler.schedule_task(nothing, trigger=SECONDLY, missed=Missed.SKIP, grace_s=0)
    async with scheduler:
        if hold == "pause":
            await task.pause()
        elif hold == "disable":
            task.disable()
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(number)
        if hold == "pause":
            await task.resume()
        elif hold == "disable":
            task.enable()
        await asyncio.sleep(0.1)

        (skipped,) = task.history()
        assert (skipped.count, skipped.more) == (min(number, 10_000), more)
        assert skipped.last_scheduled_at == ZERO + timedelta(seconds=number)
        assert skipped.json_repr()["more"] is more


@pytest.mark.parametrize(("catchup_s", "kept"), [(0, 0), (9, 9), (30, 30), (DAY, 1_000)])
@pytest.mark.parametrize("rule", [Every(1), SECONDLY])
async def test_of_ten_years_all_catches_up_nothing_older_than_asked_for(
    loop: VirtualLoop, catchup_s: float, kept: int, rule: Trigger
) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=1_200)
    task = scheduler.schedule_task(nothing, trigger=rule, missed=Missed.ALL, catchup_s=catchup_s)
    async with scheduler:
        await asyncio.sleep(0.5)
        loop.virtual_clock.block(DECADE)
        await asyncio.sleep(0.1)

        skipped, *runs = task.history()
        assert (str(skipped.reason), len(runs)) == ("backlog full", kept)
        assert [run.scheduled_at for run in runs] == [
            ZERO + timedelta(seconds=DECADE - k) for k in reversed(range(kept))
        ]


async def test_the_end_of_ten_years_of_suspension_is_little_work(loop: VirtualLoop) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock)
    tasks = [
        scheduler.schedule_task(nothing, trigger=rule)
        for rule in (SECONDLY, MINUTELY, Every(1), Cron("0 0 29 2 *"), Cron("0 0 1 1 *"))
    ]
    async with scheduler:
        async with scheduler.suspend():
            await asyncio.sleep(100)
            loop.virtual_clock.block(DECADE)
            await asyncio.sleep(1)
        begun = stopwatch.process_time()
        await asyncio.sleep(0.1)
        for task in tasks:
            task.disable()
            task.enable()
        json = scheduler.json_repr()

        assert stopwatch.process_time() - begun < (10 if loop.get_debug() else 1)
        assert len(json["tasks"]) == len(tasks)  # type: ignore[arg-type]
        assert [sum(task.counts.values()) for task in tasks[3:]] == [3, 10]


# --- the log ---


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = (record for record in caplog.records if record.name == LOG)  # asyncio may log slow callbacks.
    return [record.getMessage() for record in told if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("upsets", "parts", "late", "skipped"),
    [
        ([("block", 5 * HOUR)], ["the loop was blocked for 5:00:00"], 2, 8),
        ([("sleep_machine", 5 * HOUR)], ["the machine slept for 5:00:00"], 2, 8),
        (
            [("sleep_machine", 5 * HOUR), ("block", 2 * HOUR)],
            ["the machine slept for 5:00:00", "the loop was blocked for 2:00:00"],
            2,
            12,
        ),
        ([("step_wall", 5 * HOUR)], ["the wall clock was set forward by 5:00:00"], 1, 4),
        ([("step_wall", -2 * HOUR)], ["the wall clock was set back by 2:00:00"], 0, 0),
        ([("step_wall", -5 * HOUR)], ["the wall clock was set back by 5:00:00", "planned anew"], 0, 0),
        (
            [("block", 5 * HOUR), ("step_wall", -2 * HOUR)],
            ["the loop was blocked for 5:00:00", "the wall clock was set back by 2:00:00"],
            2,
            6,
        ),
        (
            [("sleep_machine", 5 * HOUR), ("step_wall", HOUR)],
            ["the machine slept for 5:00:00", "the wall clock was set forward by 1:00:00"],
            2,
            9,
        ),
        ([("block", 50 * MINUTE)], ["the loop was blocked for 0:50:00"], 0, 0),  # One tick of each task is late.
        ([("block", 2)], ["the loop was blocked for 0:00:02"], 0, 0),
    ],
)
async def test_what_upset_the_schedule_is_told_once_with_its_size_and_what_became_of_the_ticks(
    scheduler: Scheduler,
    loop: VirtualLoop,
    caplog: pytest.LogCaptureFixture,
    upsets: list[tuple[str, float]],
    parts: list[str],
    late: int,
    skipped: int,
) -> None:
    """One interval task, at 5 s past the hour, and one calendar task. It begins just before the clocks are checked."""
    for given_ in ({"interval_s": HOUR}, {"trigger": HOURLY}):
        scheduler.schedule_task(nothing, **given_)
    async with scheduler:
        await sleep_until(loop, "Fri 10:20:04.999")
        for what, seconds in upsets:
            getattr(loop.virtual_clock, what)(seconds)
        await asyncio.sleep(10 * MINUTE)

        (line,) = warnings(caplog)
        assert [part for part in parts if part not in line] == []
        assert [part for part in ("blocked", "slept", "set") if part in line and part not in " ".join(parts)] == []
        fate = f"{late} run now and {skipped} are skipped" if late or skipped else "no tick was missed"
        assert line.endswith(fate), line
        await asyncio.sleep(5 * HOUR)
        assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("what", ["block", "sleep_machine", "step_wall"])
@pytest.mark.parametrize("seconds", [0.5, 0.99])
async def test_less_than_a_second_is_not_worth_a_line(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture, what: str, seconds: float
) -> None:
    for given_ in ({"interval_s": HOUR}, {"trigger": HOURLY}):
        scheduler.schedule_task(nothing, **given_)
    async with scheduler:
        for _ in range(5):
            await asyncio.sleep(HOUR)
            getattr(loop.virtual_clock, what)(seconds)
            await asyncio.sleep(5)

    assert warnings(caplog) == []


async def test_each_upset_has_a_line_of_its_own(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(nothing, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 10:29:50")
        for what in ("block", "block", "sleep_machine", "step_wall"):
            getattr(loop.virtual_clock, what)(HOUR)
            await asyncio.sleep(5 * MINUTE)

    starts = [line.split(" for ")[0].split(" by ")[0] for line in warnings(caplog)]
    assert starts == [
        "the loop was blocked",
        "the loop was blocked",
        "the machine slept",
        "the wall clock was set forward",
    ]


@pytest.mark.parametrize("what", ["block", "sleep_machine"])
async def test_without_a_second_clock_sleep_and_block_are_not_told_apart(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    scheduler = Scheduler(clock=Clock(steady=loop.virtual_clock.steady, wall=loop.virtual_clock.wall))
    scheduler.schedule_task(nothing, trigger=HOURLY)
    async with scheduler:
        await sleep_until(loop, "Fri 10:19:59.999")
        getattr(loop.virtual_clock, what)(5 * HOUR)
        await asyncio.sleep(10 * MINUTE)

    (line,) = warnings(caplog)
    assert "the loop was blocked, or the machine slept, for 5:00:00" in line


async def test_a_clock_set_without_any_calendar_is_told_to_be_of_no_effect(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(nothing, HOUR)
    async with scheduler:
        await asyncio.sleep(HOUR)
        loop.virtual_clock.step_wall(-DAY)
        await asyncio.sleep(HOUR)

    (line,) = warnings(caplog)
    assert "the wall clock was set back by 1 day, 0:00:00 (intervals of local tasks are not affected)" in line


async def test_a_clock_that_is_slewed_is_not_worth_a_line(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    """NTP slews by 500 ppm at most. Calendar tasks follow it."""
    started: list[float] = []

    def slewed() -> int:
        return loop.virtual_clock.wall() + (loop.virtual_clock.steady() - 5_000_000) // 2_000

    async def body() -> None:
        started.append(slewed() / 1e6 - current_run().scheduled_at.timestamp())

    scheduler = Scheduler(
        clock=Clock(steady=loop.virtual_clock.steady, wall=slewed, awake=loop.virtual_clock.awake_now)
    )
    scheduler.schedule_task(body, trigger=HOURLY)
    async with scheduler:
        await asyncio.sleep(DAY)

    assert len(started) == 24
    assert max(map(abs, started)) < 0.05
    assert warnings(caplog) == []


async def test_ticks_missed_for_another_reason_are_told_as_before(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop is overloaded, half a second at a time."""
    scheduler.schedule_task(nothing, 0.1)
    async with scheduler:
        for _ in range(5):
            await asyncio.sleep(0.05)
            loop.virtual_clock.block(0.5)

    (line,) = warnings(caplog)
    assert "skipped (missed)" in line
