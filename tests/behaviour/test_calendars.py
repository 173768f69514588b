"""Tasks with calendar triggers: which ticks run, deadlines, the end of a rule, jitter, and triggers that fail."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time as stopwatch
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kaiju_app._core.clock import EPOCH
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
    ScheduledTask,
    Scheduler,
    Scope,
    Trigger,
    current_run,
)
from kaiju_app.triggers._foreign import as_base_trigger
from support.machine import idle_year_s
from support.reading import ZERO, endings, history_of, moment, nothing, shown, sleep_until, warnings_of
from support.virtual import VirtualLoop

HOURLY = Cron("0 * * * *")
WORKDAYS = Cron("0 6 * * mon-fri")

LOG = "kaiju_app.scheduler"


def begun_in_time(runs: list[Run]) -> bool:
    """Return whether all runs began when due or up to a millisecond before, since other timers may wake the loop."""
    return all(run.started_at and timedelta(0) <= run.due - run.started_at <= timedelta(milliseconds=1) for run in runs)


def labels(task: ScheduledTask[Any]) -> list[str | None]:
    return [shown(run.scheduled_at) for run in task.history()]


class HalfPast:
    """A user's own trigger with only the two required methods: half past every hour."""

    def after(self, moment: datetime) -> datetime:
        return HOURLY.after(moment + timedelta(minutes=30)) - timedelta(minutes=30)  # type: ignore[operator]

    def at_or_before(self, moment: datetime) -> datetime:
        return HOURLY.at_or_before(moment + timedelta(minutes=30)) - timedelta(minutes=30)  # type: ignore[operator]


# --- the first run ---

ON_THE_HOUR = ["Fri 09:00", "Fri 10:00"]


@pytest.mark.parametrize(
    ("trigger", "first_run", "expected"),
    [
        (HOURLY, None, ON_THE_HOUR),
        (HOURLY, FirstRun.NEXT, ON_THE_HOUR),
        (HOURLY, FirstRun.NOW, ["Fri 08:00:05", *ON_THE_HOUR]),
        (HOURLY, moment("Fri 08:20"), ["Fri 08:20", *ON_THE_HOUR]),
        (HOURLY, moment("Fri 08:20").astimezone(ZoneInfo("Asia/Tokyo")), ["Fri 08:20", *ON_THE_HOUR]),
        (HOURLY, moment("Fri 09:00"), ON_THE_HOUR),
        (HOURLY, moment("Fri 09:30"), ["Fri 09:30", "Fri 10:00"]),
        (HOURLY, ZERO, ["Fri 08:00:05", *ON_THE_HOUR]),
        (HOURLY, ZERO - timedelta(minutes=20), ON_THE_HOUR),
        (HOURLY, ZERO - timedelta(days=3650), ON_THE_HOUR),
        (At(moment("Fri 08:30")), None, ["Fri 08:30"]),
        (At(ZERO - timedelta(1), moment("Fri 08:30"), moment("Fri 09:00")), None, ["Fri 08:30", "Fri 09:00"]),
        (At(ZERO - timedelta(1)), None, []),
        (At(ZERO - timedelta(1)), FirstRun.NOW, ["Fri 08:00:05"]),
        (At(ZERO - timedelta(1)), moment("Fri 08:10"), ["Fri 08:10"]),
        (AnyOf(HOURLY, At(moment("Fri 08:30"), moment("Fri 09:00"))), None, ["Fri 08:30", *ON_THE_HOUR]),
        (Except(HOURLY, (moment("Fri 09:00"), moment("Fri 09:30"))), None, ["Fri 10:00"]),
        (Except(HOURLY, Cron("* 9 * * *")), FirstRun.NOW, ["Fri 08:00:05", "Fri 10:00"]),
        (HalfPast(), None, ["Fri 08:30", "Fri 09:30"]),
        (HalfPast(), FirstRun.NOW, ["Fri 08:00:05", "Fri 08:30", "Fri 09:30"]),
    ],
)
async def test_a_rule_keeps_to_itself_and_a_first_run_adds_at_most_one_tick(
    scheduler: Scheduler,
    loop: VirtualLoop,
    trigger: Trigger,
    first_run: FirstRun | datetime | None,
    expected: list[str],
) -> None:
    task = scheduler.schedule_task(nothing, trigger=trigger, first_run=first_run)
    async with scheduler:
        assert shown(task.next_run_at) == (expected[0] if expected else None)
        await sleep_until(loop, "Fri 10:10")

    assert history_of(task) == [("SUCCEEDED", tick, tick) for tick in expected]


@pytest.mark.parametrize("policy", ExecPolicy)
async def test_a_week_in_berlin(loop: VirtualLoop, policy: ExecPolicy) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=100)
    task = scheduler.schedule_task(nothing, trigger=Cron("0 6 * * mon-fri", tz="Europe/Berlin"), policy=policy)
    async with scheduler:
        await sleep_until(loop, "Sun 12:00")
        await asyncio.sleep(7 * 86_400)

    assert labels(task) == ["Mon 05:00", "Tue 05:00", "Wed 05:00", "Thu 05:00", "Fri 05:00"]
    assert [run.lateness_s for run in task.history()] == [0] * 5


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]


@pytest.mark.slow
@pytest.mark.timeout(300)  # In debug mode on a slow machine.
async def test_a_year_of_rules_in_four_zones_has_every_tick_once_in_order_and_in_seconds(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    rules = [Cron(expression, tz) for expression in ("0 * * * *", "30 2 * * *", "15 0 1 * *") for tz in ZONES]
    found: dict[Cron, list[datetime]] = {rule: [] for rule in rules}

    async def body(rule: Cron) -> None:
        found[rule].append(current_run().scheduled_at)

    tasks = [scheduler.schedule_task(body, trigger=rule, args=(rule,)) for rule in rules]
    begun = stopwatch.process_time()
    async with scheduler:
        await asyncio.sleep(365 * 86_400)
    spent_s = stopwatch.process_time() - begun

    end = ZERO + timedelta(365)
    assert spent_s < 3 * idle_year_s(debug=loop.get_debug())  # Seconds, and no more, on any machine.
    assert found == {rule: list(takewhile(lambda tick: tick <= end, rule.ticks(ZERO))) for rule in rules}
    assert [task.counts for task in tasks] == [
        {**dict.fromkeys(Outcome, 0), Outcome.SUCCEEDED: len(found[rule])} for rule in rules
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["27 01:30", "28 01:00", "29 00:30"]),  # 02:30 does not exist on the 28th, so it runs at 03:00.
        ("*/30 2 * * *", ["27 01:00", "27 01:30", "29 00:00", "29 00:30"]),
    ],
)
async def test_the_night_in_which_the_clocks_are_put_forward(
    scheduler: Scheduler, loop: VirtualLoop, expression: str, expected: list[str]
) -> None:
    loop.virtual_clock.step_wall((datetime(2027, 3, 26, 12, tzinfo=UTC) - ZERO).total_seconds())
    task = scheduler.schedule_task(nothing, trigger=Cron(expression, "Europe/Berlin"))
    async with scheduler:
        await asyncio.sleep(2.6 * 86_400)

    assert [f"{run.started_at:%d %H:%M}" for run in task.history()] == expected


# --- until when a run may go on ---


def ahead(text: str, days: int = 0) -> datetime:
    return moment(text) + timedelta(days)


TWO = At(moment("Fri 10:00"), moment("Fri 12:00"))


@pytest.mark.parametrize(
    ("policy", "given", "expected"),
    [
        # From a Thursday on, the next tick is a day away, from a Friday on three days.
        (ExecPolicy.CANCEL, {"trigger": WORKDAYS}, {"Thu 06:00": "Fri 06:00", "Fri 06:00": "Mon 06:00"}),
        (ExecPolicy.WAIT, {"trigger": WORKDAYS}, {"Thu 06:00": "Sun 06:00", "Fri 06:00": "Sun 06:00"}),
        (ExecPolicy.SKIP, {"trigger": WORKDAYS}, {"Thu 06:00": "Sun 06:00", "Fri 06:00": "Sun 06:00"}),
        (ExecPolicy.SHIELD, {"trigger": WORKDAYS}, {"Thu 06:00": None, "Fri 06:00": None}),
        (
            ExecPolicy.CANCEL,
            {"trigger": WORKDAYS, "max_timeout_s": 2 * 86_400},
            {"Thu 06:00": "Fri 06:00", "Fri 06:00": "Sun 06:00"},
        ),
        (ExecPolicy.WAIT, {"trigger": WORKDAYS, "max_timeout_s": 60}, {"Fri 06:00": "Fri 06:01"}),
        (ExecPolicy.CANCEL, {"trigger": TWO}, {"Fri 10:00": "Fri 12:00", "Fri 12:00": None}),
        (ExecPolicy.WAIT, {"trigger": TWO}, {"Fri 10:00": "Fri 16:00", "Fri 12:00": None}),
        (ExecPolicy.SKIP, {"trigger": TWO}, {"Fri 10:00": "Fri 16:00", "Fri 12:00": None}),
        (ExecPolicy.CANCEL, {"trigger": TWO, "max_timeout_s": 90}, {"Fri 12:00": "Fri 12:01:30"}),
        (
            ExecPolicy.CANCEL,
            {"trigger": HOURLY, "until": moment("Fri 10:00")},
            {"Fri 09:00": "Fri 10:00", "Fri 10:00": None},
        ),
        (ExecPolicy.WAIT, {"trigger": HOURLY, "until": moment("Fri 10:00")}, {"Fri 10:00": "Fri 13:00"}),
        (ExecPolicy.CANCEL, {"trigger": Every(3600), "until": moment("Fri 10:00")}, {"Fri 10:00": None}),
        (
            ExecPolicy.CANCEL,
            {"interval_s": 3600, "until": moment("Fri 10:00:05")},
            {"Fri 09:00:05": "Fri 10:00:05", "Fri 10:00:05": None},
        ),
        (
            ExecPolicy.CANCEL,
            {"trigger": HOURLY, "until": moment("Fri 10:00"), "max_timeout_s": 60},
            {"Fri 10:00": "Fri 10:01"},
        ),
    ],
)
async def test_a_deadline_is_that_of_the_tick_and_without_a_next_tick_there_is_none(
    scheduler: Scheduler,
    loop: VirtualLoop,
    policy: ExecPolicy,
    given: dict[str, Any],
    expected: dict[str, str | None],
) -> None:
    told: dict[str | None, str | None] = {}

    async def body() -> None:
        run = current_run()
        told[shown(run.scheduled_at)] = shown(run.deadline)

    scheduler.schedule_task(body, policy=policy, **given)
    async with scheduler:
        await asyncio.sleep(7.5 * 86_400)

    assert {tick: told[tick] for tick in expected} == expected


@pytest.mark.parametrize(
    ("policy", "begun", "ended", "ending"),
    [
        (ExecPolicy.CANCEL, "Thu 06:00", timedelta(1), "CANCELLED"),
        (ExecPolicy.CANCEL, "Fri 06:00", timedelta(3), "CANCELLED"),
        (ExecPolicy.WAIT, "Thu 06:00", timedelta(3), "TIMED_OUT"),
        (ExecPolicy.WAIT, "Fri 06:00", timedelta(9), "TIMED_OUT"),
        (ExecPolicy.SKIP, "Fri 06:00", timedelta(9), "TIMED_OUT"),
    ],
)
async def test_a_run_that_does_not_end_is_cut_at_its_deadline(
    scheduler: Scheduler, policy: ExecPolicy, begun: str, ended: timedelta, ending: str
) -> None:
    async def body() -> None:
        if current_run().scheduled_at == moment(begun):
            await asyncio.sleep(1e9)

    task = scheduler.schedule_task(body, trigger=WORKDAYS, policy=policy)
    async with scheduler:
        await asyncio.sleep(20 * 86_400)

    (run,) = [run for run in task.history() if run.outcome.value == ending]
    assert run.started_at == run.scheduled_at == moment(begun)
    assert run.finished_at == moment(begun) + ended


async def test_the_last_run_of_a_rule_is_not_cut(scheduler: Scheduler, loop: VirtualLoop) -> None:
    rules: list[dict[str, Any]] = [
        {"trigger": At(moment("Fri 10:00"))},
        {"trigger": HOURLY, "until": moment("Fri 10:00")},
        {"trigger": Every(3600), "until": moment("Fri 10:30")},
        {"interval_s": 3600, "until": moment("Fri 10:30")},
    ]
    tasks = [scheduler.schedule_task(asyncio.sleep, args=(30 * 86_400,), **rule) for rule in rules]
    async with scheduler:
        await asyncio.sleep(40 * 86_400)

    assert [endings(task.history())[-1] for task in tasks] == [("SUCCEEDED", None, 1)] * 4
    assert [task.history()[-1].duration_s for task in tasks] == [30 * 86_400] * 4


@pytest.mark.parametrize(
    ("given", "pause_s"),
    [
        ({"trigger": HOURLY}, 30),
        ({"trigger": Every(3600)}, 30),
        ({"trigger": At(moment("Fri 09:00"))}, 30),
        ({"trigger": Cron("*/8 * * * * *")}, 2),
        ({"trigger": Every(8)}, 2),
        ({"trigger": HOURLY, "retry_interval_s": 200}, 200),
        ({"interval_s": 3600}, 30),
    ],
)
async def test_the_default_pause_between_attempts_is_at_most_half_a_minute(
    scheduler: Scheduler, loop: VirtualLoop, given: dict[str, Any], pause_s: float
) -> None:
    attempts: list[float] = []

    async def body() -> None:
        attempts.append(loop.time())
        raise OSError("no luck")

    scheduler.schedule_task(body, retries=3, policy=ExecPolicy.WAIT, **given)
    async with scheduler:
        await asyncio.sleep(2 * 3600)

    attempts = attempts[:4]
    assert [later - earlier for earlier, later in pairwise(attempts)] == pytest.approx([pause_s] * 3)


@pytest.mark.parametrize(
    ("rule", "asked", "skipped", "replaced"),
    [
        (HOURLY, "Fri 09:30", [], "Fri 10:00"),
        (HOURLY, "Fri 09:30:00.000001", ["Fri 10:00"], "Fri 11:00"),
        (WORKDAYS, "Sat 12:00", [], "Mon 06:00"),
        (WORKDAYS, "Sun 12:00", ["Mon 06:00"], "Tue 06:00"),
        (WORKDAYS, "Mon 17:00", [], "Tue 06:00"),
        (WORKDAYS, "Mon 20:00", ["Tue 06:00"], "Wed 06:00"),
    ],
)
async def test_a_manual_run_is_replaced_by_the_first_tick_half_a_gap_after_its_start(
    scheduler: Scheduler, loop: VirtualLoop, rule: Cron, asked: str, skipped: list[str], replaced: str
) -> None:
    deadlines: list[str | None] = []

    async def body() -> None:
        if shown(current_run().scheduled_at) == asked:
            deadlines.append(shown(current_run().deadline))
            await asyncio.sleep(1e9)

    task = scheduler.schedule_task(body, trigger=rule)
    async with scheduler:
        await sleep_until(loop, asked)
        run = await task.run_now()

    assert (run.outcome, str(run.reason), run.manual) == (Outcome.CANCELLED, "replaced", True)
    assert (shown(run.finished_at), deadlines) == (replaced, [replaced])
    assert [entry[2] for entry in history_of(task) if entry[0] == "overlap"] == skipped


@pytest.mark.parametrize(
    ("late_at", "skipped", "replaced"), [("Fri 09:25", [], "Fri 10:00"), ("Fri 09:35", ["Fri 10:00"], "Fri 11:00")]
)
async def test_a_late_run_is_replaced_by_the_first_tick_half_a_gap_after_its_start(
    scheduler: Scheduler, loop: VirtualLoop, late_at: str, skipped: list[str], replaced: str
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, trigger=HOURLY, args=(1e9,))
    async with scheduler:
        await sleep_until(loop, "Fri 08:59:30")
        loop.virtual_clock.block((moment(late_at) - moment("Fri 08:59:30")).total_seconds())
        await sleep_until(loop, "Fri 11:30")

        run = next(run for run in task.history() if run.started_at is not None)
        assert (shown(run.started_at), shown(run.finished_at)) == (late_at, replaced)
        assert [entry[2] for entry in history_of(task) if entry[0] == "overlap"] == skipped


# --- where a rule ends ---

ENDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"interval_s": 60, "until": moment("Fri 08:02:05")}, ["Fri 08:00:05", "Fri 08:01:05", "Fri 08:02:05"]),
    ({"interval_s": 60, "until": moment("Fri 08:02:04.999999")}, ["Fri 08:00:05", "Fri 08:01:05"]),
    ({"interval_s": 60, "until": ZERO}, ["Fri 08:00:05"]),
    ({"interval_s": 60, "until": ZERO - timedelta(1)}, []),
    ({"interval_s": 60, "first_run": moment("Fri 08:01"), "until": moment("Fri 08:01:30")}, ["Fri 08:01"]),
    ({"trigger": Every(60), "until": moment("Fri 08:02")}, ["Fri 08:01", "Fri 08:02"]),
    ({"trigger": Every(60), "until": moment("Fri 08:01:59.999999")}, ["Fri 08:01"]),
    ({"trigger": Every(60), "until": ZERO}, []),
    ({"trigger": Every(60), "until": ZERO, "first_run": FirstRun.NOW}, ["Fri 08:00:05"]),
    ({"trigger": Cron("* * * * *"), "until": moment("Fri 08:02")}, ["Fri 08:01", "Fri 08:02"]),
    (
        {"trigger": Cron("* * * * *"), "until": moment("Fri 08:02").astimezone(ZoneInfo("America/New_York"))},
        ["Fri 08:01", "Fri 08:02"],
    ),
    ({"trigger": Cron("* * * * *"), "until": moment("Fri 08:01:59.999999")}, ["Fri 08:01"]),
    ({"trigger": Cron("* * * * *"), "first_run": moment("Fri 08:03"), "until": moment("Fri 08:02")}, []),
    ({"trigger": Cron("* * * * *"), "until": ZERO - timedelta(3650)}, []),
    ({"trigger": HalfPast(), "until": moment("Fri 08:40")}, ["Fri 08:30"]),
    ({"trigger": At(moment("Fri 08:01"), moment("Fri 08:09"))}, ["Fri 08:01", "Fri 08:09"]),
    ({"trigger": At(moment("Fri 08:01"), moment("Fri 08:09")), "until": moment("Fri 08:05")}, ["Fri 08:01"]),
    ({"trigger": At(ZERO - timedelta(1))}, []),
]


NO_TICK = "task {!r} has no tick after 2027-01-15 08:00:05+00:00 and will never run"


@pytest.mark.parametrize(("given", "expected"), ENDS)
async def test_until_is_the_last_moment_of_a_rule_and_then_it_is_over(
    scheduler: Scheduler,
    loop: VirtualLoop,
    caplog: pytest.LogCaptureFixture,
    given: dict[str, Any],
    expected: list[str],
) -> None:
    deadlines: list[datetime | None] = []

    async def body() -> str:
        deadlines.append(current_run().deadline)
        return "done"

    caplog.set_level(logging.INFO, LOG)
    task = scheduler.schedule_task(body, **given)
    async with scheduler:
        assert len(task.upcoming(99)) == len(expected)
        await sleep_until(loop, "Fri 09:00:30")

        assert history_of(task) == [("SUCCEEDED", tick, tick) for tick in expected]
        assert (task.state, task.next_run_at, task.upcoming(5)) == ("over", None, [])
        assert json.loads(json.dumps(task.json_repr()))["state"] == "over"
        assert repr(task).endswith(" over>")
        (record,) = caplog.records
        begin = f"task {task.name!r}: its rule has no further tick" if expected else NO_TICK.format(task.name)
        assert record.levelname == ("INFO" if expected else "WARNING")
        assert record.getMessage().startswith(begin)

        run = await task.run_now()
        assert (run.outcome, run.manual, deadlines[-1]) == (Outcome.SUCCEEDED, True, None)
        assert task.state == "over"


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"interval_s": 60, "until": ZERO}, "every 60 s"),
        ({"trigger": Every(60), "until": ZERO}, "every 60 s"),
        ({"trigger": At(ZERO - timedelta(1))}, "at 2027-01-14"),
    ],
)
async def test_that_a_rule_is_over_is_told_once_and_the_rule_with_it(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, given: dict[str, Any], rule: str
) -> None:
    caplog.set_level(logging.INFO, LOG)
    task = scheduler.schedule_task(nothing, **given)
    async with scheduler:
        await asyncio.sleep(100)
        task.disable()
        task.enable()
        async with task.suspend():
            pass
        lines = [record.getMessage() for record in caplog.records if record.name == LOG]

    assert (len(lines), rule in lines[0]) == (1, True), lines


@pytest.mark.parametrize("scope", Scope)
async def test_a_rule_without_a_tick_to_come_is_told_loudly_once_with_the_way_out(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture, scope: Scope
) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    scheduler.schedule_task(nothing, trigger=At(ZERO - timedelta(1)), name="a", scope=scope)
    async with scheduler:
        await asyncio.sleep(10_000)
        (told,) = warnings_of(caplog)

    what = (
        "at 2027-01-14T08:00:05+00:00; remove it or give it a later time. "
        "A moment that passed less than grace_s ago would run"
    )
    assert re.fullmatch(
        rf"task 'a' has no tick after 2027-01-15 08:00:0\S+ and will never run: {re.escape(what)}", told
    )


async def test_so_is_one_that_a_task_is_rescheduled_to(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    task = scheduler.schedule_task(nothing, 60)
    async with scheduler:
        task.reschedule(trigger=At(ZERO - timedelta(1)))
        (told,) = warnings_of(caplog)
        task.disable()
        task.enable()

    assert told.startswith(NO_TICK.format(task.name))
    assert [] == [record for record in caplog.records[1:] if record.levelname == "WARNING"]


@pytest.mark.parametrize("given", [given for given, expected in ENDS if len(expected) > 1])
@pytest.mark.parametrize("missed", Missed)
async def test_late_ticks_past_the_end_are_not_counted(
    scheduler: Scheduler, loop: VirtualLoop, given: dict[str, Any], missed: Missed
) -> None:
    """The latest tick before the end runs, however long ago it was, because no next tick is near."""
    expected = next(expected for other, expected in ENDS if other is given)
    if "interval_s" in given:
        given = {**given, "first_run": moment(expected[0])}  # So that no run is needed before the loop is blocked.
    task = scheduler.schedule_task(nothing, missed=missed, **given)
    async with scheduler:
        loop.virtual_clock.block(3600)
        await asyncio.sleep(1)
        await asyncio.sleep(1)

        assert task.state == "over"
        skips = {Missed.ONCE: len(expected) - 1, Missed.SKIP: len(expected), Missed.ALL: 0}[missed]
        assert task.counts[Outcome.SKIPPED] == skips
        assert [entry[1] for entry in history_of(task) if entry[0] == "SUCCEEDED"] == expected[skips:]


async def test_ticks_before_the_end_that_a_suspension_kept_back_come_after_it(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY, until=moment("Fri 11:30"))
    async with scheduler:
        async with task.suspend():
            assert task.state == "suspended"
            await sleep_until(loop, "Sat 11:00")
        assert task.state != "over"
        await asyncio.sleep(1)

        assert history_of(task) == [("suspended", 2, "Fri 09:00", "Fri 10:00"), ("SUCCEEDED", "Fri 11:00", "Sat 11:00")]
        assert task.state == "over"


async def test_a_rule_that_is_over_begins_anew_with_the_scheduler_or_another_rule(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(nothing, trigger=At(moment("Fri 09:00")))
    async with scheduler:
        await sleep_until(loop, "Fri 10:00")
        assert task.state == "over"
        task.reschedule(trigger=At(moment("Fri 11:00")))
        assert (task.state, task.upcoming(2)) == ("waiting", [moment("Fri 11:00")])
        await sleep_until(loop, "Fri 11:30")
        assert task.state == "over"
        task.reschedule(3600)
        await sleep_until(loop, "Fri 13:00")
        assert labels(task) == ["Fri 09:00", "Fri 11:00", "Fri 12:30"]
    assert task.state == "stopped"


@pytest.mark.parametrize("given", [{"interval_s": 60}, {"trigger": Every(60)}, {"trigger": Cron("* * * * *")}])
async def test_a_first_run_behind_the_end_stays_there_when_the_task_is_disabled_and_enabled(
    scheduler: Scheduler, given: dict[str, Any]
) -> None:
    task = scheduler.schedule_task(nothing, first_run=moment("Fri 12:00"), until=moment("Fri 11:00"), **given)
    async with scheduler:
        task.disable()
        task.enable()
        await asyncio.sleep(4 * 3600)

        assert (task.state, task.history()) == ("over", [])


async def test_an_end_outlives_a_reschedule(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(nothing, 3600, until=moment("Fri 12:00"))
    async with scheduler:
        await sleep_until(loop, "Fri 08:30")
        task.reschedule(trigger=HOURLY)
        await sleep_until(loop, "Fri 23:00")

        assert labels(task) == ["Fri 08:00:05", "Fri 09:00", "Fri 10:00", "Fri 11:00", "Fri 12:00"]
        assert (task.until, task.state) == (moment("Fri 12:00"), "over")


# --- what a task shows ---

TOLD: list[tuple[dict[str, Any], str, float | None, list[str]]] = [
    ({"interval_s": 60}, "every 60 s", 60, ["Fri 08:00:05", "Fri 08:01:05", "Fri 08:02:05"]),
    ({"trigger": Every(60)}, "every 60 s", 60, ["Fri 08:01", "Fri 08:02", "Fri 08:03"]),
    ({"trigger": WORKDAYS}, str(WORKDAYS), None, ["Mon 06:00", "Tue 06:00", "Wed 06:00"]),
    ({"trigger": TWO}, str(TWO), None, ["Fri 10:00", "Fri 12:00"]),
    ({"trigger": AnyOf(TWO, Every(7200))}, str(AnyOf(TWO, Every(7200))), None, ["Fri 10:00", "Fri 12:00", "Fri 14:00"]),
    (
        {"trigger": Except(HOURLY, Cron("* 10 * * *"))},
        str(Except(HOURLY, Cron("* 10 * * *"))),
        None,
        ["Fri 09:00", "Fri 11:00", "Fri 12:00"],
    ),
    ({"trigger": HalfPast()}, "HalfPast", None, ["Fri 08:30", "Fri 09:30", "Fri 10:30"]),
    (
        {"trigger": HOURLY, "first_run": FirstRun.NOW, "until": moment("Fri 09:00")},
        str(HOURLY),
        None,
        ["Fri 08:00:05", "Fri 09:00"],
    ),
]


@pytest.mark.parametrize(("given", "rule", "interval_s", "upcoming"), TOLD)
async def test_what_a_task_tells_of_its_rule(
    scheduler: Scheduler, given: dict[str, Any], rule: str, interval_s: float | None, upcoming: list[str]
) -> None:
    task = scheduler.schedule_task(nothing, name="it", **given)
    assert (task.upcoming(3), task.next_run_at, task.state) == ([], None, "stopped")
    async with scheduler:
        assert [shown(each) for each in task.upcoming(3)] == upcoming
        assert (task.upcoming(0), shown(task.next_run_at)) == ([], upcoming[0])
        assert (task.interval_s, task.trigger) == (interval_s, given.get("trigger"))
        typed = "every 60 s" if "interval_s" in given else repr(given["trigger"])
        assert repr(task).startswith(f"<ScheduledTask 'it' {typed} waiting, next ")
        told = json.loads(json.dumps(scheduler.json_repr(), allow_nan=False))["tasks"][0]
        assert (told["interval_s"], told["next_run_at"]) == (interval_s, task.upcoming(1)[0].isoformat())
        assert rule in (told["trigger"] or rule)
        assert told["until"] == (given["until"].isoformat() if "until" in given else None)
        task.disable()
        assert task.upcoming(3) == []
        task.enable()
        assert shown(task.next_run_at) in upcoming


@pytest.mark.parametrize("n", [-1, True, 1.5, "3", None])
async def test_upcoming_is_asked_for_a_whole_number(scheduler: Scheduler, n: Any) -> None:
    task = scheduler.schedule_task(nothing, trigger=HOURLY)

    with pytest.raises(ValueError, match="n must be an integer"):
        task.upcoming(n)


async def test_upcoming_goes_over_the_change_of_the_clocks(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, trigger=Cron("30 2 * * *", "Europe/Berlin"))
    async with scheduler:
        around = [each for each in task.upcoming(300) if each.date() in (date(2027, 3, 28), date(2027, 10, 31))]

        assert [f"{each:%m-%d %H:%M}" for each in around] == ["03-28 01:00", "10-31 00:30"]


# --- reschedule ---


@pytest.mark.parametrize("policy", ExecPolicy)
async def test_from_an_interval_to_a_calendar_and_back_while_a_run_goes_on(
    scheduler: Scheduler, loop: VirtualLoop, policy: ExecPolicy
) -> None:
    """The run keeps its deadline, and a tick of the new rule does not replace it."""
    deadlines: dict[str | None, str | None] = {}

    async def body() -> None:
        run = current_run()
        deadlines[shown(run.scheduled_at)] = shown(run.deadline)
        if shown(run.scheduled_at) in ("Fri 08:00:05", "Fri 12:00"):
            await asyncio.sleep(2 * 3600)

    task = scheduler.schedule_task(body, 3 * 3600, policy=policy)
    async with scheduler:
        await sleep_until(loop, "Fri 08:20")
        task.reschedule(trigger=HOURLY)
        assert (task.interval_s, task.trigger, task.next_run_at) == (None, HOURLY, moment("Fri 09:00"))
        await sleep_until(loop, "Fri 12:20")
        task.reschedule(5 * 3600)
        assert (task.interval_s, task.trigger, task.next_run_at) == (18_000, None, moment("Fri 17:20"))
        await sleep_until(loop, "Fri 18:00")

    waits = policy in (ExecPolicy.WAIT, ExecPolicy.SHIELD)
    cut = policy is ExecPolicy.CANCEL
    assert history_of(task) == [
        *([("overlap", 1, "Fri 09:00", "Fri 09:00")] if waits else [("overlap", 2, "Fri 09:00", "Fri 10:00")]),
        ("SUCCEEDED", "Fri 08:00:05", "Fri 08:00:05"),
        *([("SUCCEEDED", "Fri 10:00", "Fri 10:00:05")] if waits else []),
        ("SUCCEEDED", "Fri 11:00", "Fri 11:00"),
        (*(("CANCELLED",) if cut else ("SUCCEEDED",)), "Fri 12:00", "Fri 12:00"),
        ("SUCCEEDED", "Fri 17:20", "Fri 17:20"),
    ]
    first, last = deadlines["Fri 08:00:05"], deadlines["Fri 12:00"]
    assert (first, last) == {
        ExecPolicy.CANCEL: ("Fri 11:00:05", "Fri 13:00"),
        ExecPolicy.WAIT: ("Fri 17:00:05", "Fri 15:00"),
        ExecPolicy.SKIP: ("Fri 17:00:05", "Fri 15:00"),
        ExecPolicy.SHIELD: (None, None),
    }[policy]


# --- jitter ---

JITTERED: list[tuple[dict[str, Any], float, Trigger]] = [
    ({"interval_s": 3600}, 1200, Every(3600, ZERO)),
    ({"interval_s": 3600}, 3599.999999, Every(3600, ZERO)),
    ({"trigger": Every(3600)}, 1800, Every(3600)),
    ({"trigger": HOURLY}, 1800, HOURLY),
    ({"trigger": Cron("0 6-18 * * *")}, 3599, Cron("0 6-18 * * *")),
    ({"trigger": Cron("0,1 * * * *")}, 59.5, Cron("0,1 * * * *")),
    ({"trigger": HalfPast()}, 300, HalfPast()),
]


@pytest.mark.parametrize(("given", "jitter_s", "rule"), JITTERED)
async def test_jitter_makes_a_tick_due_later_and_leaves_the_grid_alone(
    loop: VirtualLoop, given: dict[str, Any], jitter_s: float, rule: Trigger
) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=100)
    task = scheduler.schedule_task(nothing, jitter_s=jitter_s, **given)
    async with scheduler:
        upcoming = task.upcoming(30)
        assert (task.next_run_at, task.upcoming(30)) == (upcoming[0], upcoming)
        await asyncio.sleep((upcoming[-1] - ZERO).total_seconds())
        await asyncio.sleep(0.01)

        runs = task.history()
        since = ZERO - timedelta(microseconds=1)
        assert [run.scheduled_at for run in runs] == list(islice(as_base_trigger("rule", rule).ticks(since), 30))
        assert [run.due for run in runs] == upcoming
        assert begun_in_time(runs)
        offsets = [run.due - run.scheduled_at for run in runs]
        assert all(timedelta(0) <= offset <= timedelta(seconds=jitter_s) for offset in offsets)
        assert len(set(offsets)) > 20
        assert max(offsets) - min(offsets) > timedelta(seconds=jitter_s / 2)
        assert upcoming == sorted(set(upcoming))
        assert {run.lateness_s for run in runs} == {0}
        assert task.jitter_s == jitter_s == json.loads(json.dumps(task.json_repr()))["jitter_s"]


async def test_jitter_differs_between_tasks_and_schedulers_and_can_be_told_beforehand(loop: VirtualLoop) -> None:
    schedulers = [Scheduler(clock=loop.virtual_clock) for _ in range(2)]
    tasks = [each.schedule_task(nothing, trigger=HOURLY, jitter_s=1800) for each in schedulers for _ in range(2)]
    for scheduler in schedulers:
        await scheduler.start()
    first = [task.upcoming(5) for task in tasks]
    assert len(set(map(tuple, first))) == 4
    for scheduler in schedulers:
        await scheduler.stop()
    await asyncio.sleep(60)
    for scheduler in schedulers:
        await scheduler.start()
    assert [task.upcoming(5) for task in tasks] == first  # The same for the same scheduler, task and tick.
    for scheduler in schedulers:
        await scheduler.stop()


@pytest.mark.parametrize(
    "given",
    [
        {"interval_s": 3600},
        {"interval_s": 3600, "first_run": moment("Fri 08:10")},
        {"trigger": HOURLY, "first_run": FirstRun.NOW},
        {"trigger": HOURLY, "first_run": moment("Fri 08:10")},
        {"trigger": Every(3600), "first_run": FirstRun.NOW},
        {"trigger": Every(3600), "first_run": moment("Fri 08:55")},
        {"trigger": Every(3600, moment("Fri 08:05")), "first_run": FirstRun.NOW},
    ],
)
async def test_a_first_run_has_jitter_too_and_comes_before_the_second(loop: VirtualLoop, given: dict[str, Any]) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock)
    tasks = [scheduler.schedule_task(nothing, jitter_s=3000, **given) for _ in range(20)]
    async with scheduler:
        told = [task.upcoming(2) for task in tasks]
        await asyncio.sleep(3 * 3600)

        firsts = [task.history()[0] for task in tasks]
        label = given["first_run"] if isinstance(given.get("first_run"), datetime) else ZERO
        assert {run.scheduled_at for run in firsts} == {label}
        assert [[run.due for run in task.history()[:2]] for task in tasks] == told
        assert begun_in_time(firsts)
        assert len({run.due for run in firsts}) == 20
        assert all(earlier < later for earlier, later in told)
        assert {task.counts[Outcome.SKIPPED] for task in tasks} == {0}


@pytest.mark.parametrize("given", [{"interval_s": 3600}, {"trigger": HOURLY}, {"trigger": Every(3600)}])
async def test_a_run_is_replaced_when_the_next_tick_is_due_and_not_before(
    scheduler: Scheduler, given: dict[str, Any]
) -> None:
    deadlines: list[datetime | None] = []

    async def body() -> None:
        deadlines.append(current_run().deadline)
        await asyncio.sleep(1e9)

    task = scheduler.schedule_task(body, jitter_s=1800, **given)
    async with scheduler:
        upcoming = task.upcoming(16)
        await asyncio.sleep((upcoming[-1] - ZERO).total_seconds() + 1)

        runs = task.history()
        assert endings(runs) == [("CANCELLED", "replaced", 1)] * 15
        assert [run.due for run in runs] == upcoming[:-1]
        assert begun_in_time(runs)
        cuts = [due - (run.finished_at or ZERO) for due, run in zip(upcoming[1:], runs, strict=True)]
        assert all(timedelta(0) <= early <= timedelta(milliseconds=1) for early in cuts)
        assert deadlines[:-1] == upcoming[1:]


@pytest.mark.parametrize("given", [{"interval_s": 3600}, {"trigger": HOURLY}, {"trigger": Every(3600)}])
@pytest.mark.parametrize("missed", Missed)
async def test_a_tick_whose_jitter_lies_ahead_is_not_missed(
    scheduler: Scheduler, loop: VirtualLoop, given: dict[str, Any], missed: Missed
) -> None:
    """The loop is blocked until a second before the fifth tick is due; without jitter it was due on the hour."""
    task = scheduler.schedule_task(nothing, jitter_s=1800, missed=missed, first_run=FirstRun.NEXT, **given)
    async with scheduler:
        upcoming = task.upcoming(7)
        await asyncio.sleep(1)
        loop.virtual_clock.block((upcoming[4] - ZERO).total_seconds() - 2)
        await asyncio.sleep(0.5)

        # The latest of the four others is not run late, because the next tick is too near.
        assert task.counts[Outcome.SUCCEEDED] == (4 if missed is Missed.ALL else 0)
        assert (sum(task.counts.values()), task.next_run_at) == (4, upcoming[4])
        await asyncio.sleep((upcoming[5] - upcoming[4]).total_seconds() + 2)
        assert [run.due for run in task.history()[-2:]] == upcoming[4:6]
        assert [run.lateness_s for run in task.history()[-2:]] == [0, 0]


@pytest.mark.parametrize("given", [{"interval_s": 3600}, {"trigger": HOURLY}])
async def test_a_stop_between_a_tick_and_its_due_time_records_nothing_for_it(
    scheduler: Scheduler, given: dict[str, Any]
) -> None:
    task = scheduler.schedule_task(nothing, jitter_s=1800, first_run=FirstRun.NEXT, **given)
    async with scheduler:
        upcoming = task.upcoming(3)
        await asyncio.sleep((upcoming[2] - ZERO).total_seconds() - 0.01)

    assert [run.due for run in task.history()] == upcoming[:2]


async def test_an_end_is_a_matter_of_ticks_and_not_of_their_jitter(scheduler: Scheduler, loop: VirtualLoop) -> None:
    tasks = [
        scheduler.schedule_task(nothing, trigger=HOURLY, until=moment("Fri 10:00"), jitter_s=1800) for _ in range(10)
    ]
    async with scheduler:
        await sleep_until(loop, "Fri 12:00")

        assert [labels(task) for task in tasks] == [["Fri 09:00", "Fri 10:00"]] * 10
        assert {task.state for task in tasks} == {"over"}


# --- rules that fail ---


class Moody:
    """A trigger that ticks every ten minutes and sometimes fails."""

    def __init__(self) -> None:
        self.mood = "fine"
        self.asked = 0

    def after(self, moment: datetime) -> datetime | None:
        self.asked += 1
        if self.mood == "raises":
            raise ConnectionError("the calendar is away")
        found = Every(600).after(moment)
        if self.mood == "is naive":
            return found.replace(tzinfo=None)
        return moment if self.mood == "stands still" else found

    def at_or_before(self, moment: datetime) -> datetime | None:
        if self.mood == "raises":
            raise ConnectionError("the calendar is away")
        found = Every(600).at_or_before(moment)
        return found.replace(tzinfo=None) if self.mood == "is naive" else found

    def __str__(self) -> str:
        return "the moody one"


MOODS = ["raises", "is naive", "stands still"]


def bad_rules(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "It will be asked again every minute" in record.getMessage()]


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("policy", ExecPolicy)
async def test_a_rule_that_fails_is_told_and_asked_again_and_harms_nobody(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture, mood: str, policy: ExecPolicy
) -> None:
    moody = Moody()
    task = scheduler.schedule_task(nothing, trigger=moody, policy=policy, name="moody")
    other = scheduler.schedule_task(nothing, trigger=Every(60))
    async with scheduler:
        await sleep_until(loop, "Fri 08:15")
        moody.mood = mood
        await sleep_until(loop, "Fri 08:30:30")
        # The two ticks that were already known have run. Later ones are not known.
        assert labels(task) == ["Fri 08:10", "Fri 08:20", "Fri 08:30"]
        assert (task.next_run_at, task.state) == (None, "waiting")
        first = bad_rules(caplog)[0]
        assert (first.levelname, "'moody'" in first.getMessage()) == ("ERROR", True)
        assert first.exc_info is not None

        asked, told = moody.asked, len(bad_rules(caplog))
        await sleep_until(loop, "Fri 08:50:30")
        assert 20 <= moody.asked - asked <= 60
        assert len(bad_rules(caplog)) == told + 20
        assert all(record.exc_info for record in bad_rules(caplog))

        moody.mood = "fine"
        await sleep_until(loop, "Fri 08:52")
        assert task.next_run_at == moment("Fri 09:00")
        await sleep_until(loop, "Fri 09:15:30")
        assert labels(task)[3:] == ["Fri 09:00", "Fri 09:10"]
        assert len(bad_rules(caplog)) == told + 20
        assert other.counts[Outcome.SUCCEEDED] == sum(other.counts.values()) == 75


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("combined", [lambda rule: AnyOf(rule, At(EPOCH)), lambda rule: Except(rule, At(EPOCH))])
async def test_a_rule_with_a_part_that_fails_leaves_the_loop_free(
    scheduler: Scheduler,
    loop: VirtualLoop,
    caplog: pytest.LogCaptureFixture,
    mood: str,
    combined: Callable[[Moody], Trigger],
) -> None:
    moody = Moody()
    task = scheduler.schedule_task(nothing, trigger=combined(moody))
    other = scheduler.schedule_task(nothing, trigger=Every(60))
    async with scheduler:
        await sleep_until(loop, "Fri 08:15")
        moody.mood = mood
        loop.virtual_clock.block(7200)
        await asyncio.sleep(600)
        told = len(bad_rules(caplog))
        assert told >= 9
        assert other.counts[Outcome.SUCCEEDED] >= 25

        moody.mood = "fine"
        await asyncio.sleep(960)
        assert labels(task)[-1] == "Fri 10:40"
        assert len(bad_rules(caplog)) <= told + 1


@pytest.mark.parametrize("mood", MOODS)
async def test_a_rule_that_fails_does_not_keep_anything_from_working(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture, mood: str
) -> None:
    moody = Moody()
    task = scheduler.schedule_task(asyncio.sleep, trigger=moody, args=(30,))
    async with scheduler:
        await sleep_until(loop, "Fri 08:15")
        moody.mood = mood
        assert task.upcoming(3) == [moment("Fri 08:20")]
        json.dumps(scheduler.json_repr())
        await sleep_until(loop, "Fri 08:20:10")
        json.dumps(scheduler.json_repr())
        async with task.suspend():
            await asyncio.sleep(100)
        task.disable()
        await asyncio.sleep(100)
        task.enable()
        run = await task.run_now()
        assert (run.outcome, run.manual) == (Outcome.SUCCEEDED, True)
        loop.virtual_clock.block(3600)
        await asyncio.sleep(1)
        loop.virtual_clock.step_wall(-7200)
        await asyncio.sleep(100)
        moody.mood = "fine"
        await asyncio.sleep(61)
        assert task.next_run_at is not None
        moody.mood = mood
        assert await scheduler.stop() == []
    assert task.counts[Outcome.SUCCEEDED] == sum(task.counts.values()) == 4


@pytest.mark.parametrize("mood", MOODS)
async def test_a_rule_that_fails_at_the_start_is_asked_again(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture, mood: str
) -> None:
    moody = Moody()
    task = scheduler.schedule_task(nothing, trigger=moody)
    moody.mood = mood
    async with scheduler:
        assert (task.state, task.next_run_at) == ("waiting", None)
        await sleep_until(loop, "Fri 08:03")
        moody.mood = "fine"
        await sleep_until(loop, "Fri 08:25")

        assert labels(task) == ["Fri 08:10", "Fri 08:20"]
        assert len(bad_rules(caplog)) == 3


async def test_asking_a_rule_that_fails_for_what_is_far_ahead_is_no_failure_of_the_task(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The trigger worked again by the time its answer mattered."""
    moody = Moody()
    task = scheduler.schedule_task(nothing, trigger=moody)
    async with scheduler:
        await sleep_until(loop, "Fri 08:15")
        moody.mood = "raises"
        assert task.upcoming(3) == [moment("Fri 08:20")]
        moody.mood = "fine"
        assert task.upcoming(2) == [moment("Fri 08:20"), moment("Fri 08:30")]
        await sleep_until(loop, "Fri 08:35")

        assert labels(task) == ["Fri 08:10", "Fri 08:20", "Fri 08:30"]
        assert bad_rules(caplog) == []


async def test_tasks_with_one_rule_that_fails_are_told_one_by_one(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    moody = Moody()
    tasks = [scheduler.schedule_task(nothing, trigger=moody) for _ in range(3)]
    async with scheduler:
        await sleep_until(loop, "Fri 08:15")
        moody.mood = "raises"
        await sleep_until(loop, "Fri 08:20:30")

        assert [labels(task) for task in tasks] == [["Fri 08:10", "Fri 08:20"]] * 3
        assert len(bad_rules(caplog)) == 3
        await sleep_until(loop, "Fri 08:35:30")
        moody.mood = "fine"
        await sleep_until(loop, "Fri 08:45")
        assert [labels(task)[2:] for task in tasks] == [["Fri 08:30", "Fri 08:40"]] * 3


CENTURY = 100 * 366 * 86_400
END = datetime.max.replace(tzinfo=UTC)
BEGINNING = datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "number"),
    [
        ({"interval_s": CENTURY}, 79),
        ({"interval_s": CENTURY, "jitter_s": CENTURY - 1}, 80),
        ({"trigger": Every(CENTURY)}, 80),
        ({"trigger": Every(60, BEGINNING), "until": END}, 100),
        ({"trigger": Every(60, END)}, 100),
        ({"interval_s": 60, "first_run": END}, 1),
        ({"interval_s": 60, "first_run": END, "jitter_s": 59}, 1),
        ({"trigger": Every(3600), "first_run": END}, 1),
        ({"trigger": Every(3600), "first_run": END - timedelta(seconds=5)}, 1),
        ({"trigger": Cron("* * * * *", "America/New_York"), "first_run": END}, 1),
        ({"trigger": Cron("* * * * *", "Asia/Tokyo"), "first_run": END - timedelta(hours=2)}, 1),
        ({"trigger": At(END)}, 1),
        ({"trigger": At(END), "jitter_s": 5}, 1),
        ({"trigger": AnyOf(Every(CENTURY), At(END))}, 81),
        ({"trigger": Except(Every(CENTURY), At(END))}, 80),
    ],
    ids=str,
)
async def test_at_the_end_of_the_calendar_fewer_ticks_are_upcoming(
    scheduler: Scheduler, loop: VirtualLoop, rule: dict[str, Any], number: int
) -> None:
    task = scheduler.schedule_task(nothing, **rule)
    async with scheduler:
        await asyncio.sleep(100)
        loop.virtual_clock.step_wall(0.000003)
        found = task.upcoming(100)
        assert len(found) == number
        assert sorted(found) == found
        assert task.next_run_at == found[0]
        assert task.json_repr()["state"] == "waiting"
        json.dumps(scheduler.json_repr())


TENS = Cron("*/10 * 8-19 * * *")


class Closed:
    """A user's own trigger, used as an exclusion: every ten seconds from 08:00 to 20:00."""

    def after(self, moment: datetime) -> datetime | None:
        return TENS.after(moment)

    def at_or_before(self, moment: datetime) -> datetime | None:
        return TENS.at_or_before(moment)


@pytest.mark.parametrize("closed", [[Cron("*/20 * 8-19 * * *"), Cron("10-59/20 * 8-19 * * *")], [Closed()]])
@pytest.mark.parametrize("until", [None, moment("Fri 19:30")])
async def test_a_rule_whose_search_is_given_up_is_asked_again_before_it_ticks(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture, closed: list[Trigger], until: datetime
) -> None:
    """Twelve hours excluded in steps of ten seconds: more than a search covers."""
    rule = Except(AnyOf(TENS, Cron("0 * * * *")), *closed)
    task = scheduler.schedule_task(nothing, trigger=rule, until=until)
    async with scheduler:
        assert (task.state, task.next_run_at) == ("waiting", None)
        await sleep_until(loop, "Fri 18:30")
        assert task.state == ("waiting" if until is None else "over")
        await sleep_until(loop, "Fri 19:30")
        assert task.next_run_at == (moment("Fri 20:00") if until is None else None)
        await sleep_until(loop, "Sat 20:30")
        # It ticks hourly until 08:00; then the search is given up again.
        expected = [f"Fri {hour}:00" for hour in range(20, 24)] + [f"Sat {hour:02}:00" for hour in (*range(8), 20)]
        assert labels(task) == (expected if until is None else [])
    assert bad_rules(caplog) == []


class Ending:
    """A trigger that ticks every ten minutes until it reports its end."""

    over = False

    def after(self, moment: datetime) -> datetime | None:
        return None if self.over else Every(600).after(moment)

    def at_or_before(self, moment: datetime) -> datetime | None:
        return Every(600).at_or_before(moment)


async def test_a_rule_of_somebodys_own_may_come_to_its_end(
    scheduler: Scheduler, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    rule = Ending()
    task = scheduler.schedule_task(nothing, trigger=rule)
    async with scheduler:
        await sleep_until(loop, "Fri 08:15")
        rule.over = True
        await sleep_until(loop, "Fri 09:00")

        # The tick at half past was already known when it reported its end.
        assert labels(task) == ["Fri 08:10", "Fri 08:20", "Fri 08:30"]
        assert (task.state, task.next_run_at, bad_rules(caplog)) == ("over", None, [])
