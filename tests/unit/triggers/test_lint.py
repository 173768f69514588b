"""Findings about rules before they run, at a fixed moment, and ``python -m kaiju_app lint`` as a process."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kaiju_app import Application, Health, Service
from kaiju_app.application._application import initialized
from kaiju_app.cli._lint import format_summary
from kaiju_app.errors import InvalidArgument, WrongState
from kaiju_app.scheduler import FirstRun, Scheduler
from kaiju_app.scheduler._lint import Report, format_report, format_runs, lint
from kaiju_app.triggers._at import At
from kaiju_app.triggers._base import Trigger
from kaiju_app.triggers._combined import AnyOf, Except
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._every import Every
from kaiju_app.triggers._foreign import as_base_trigger
from kaiju_app.triggers._lint import Finding, Level, findings
from kaiju_app.triggers._lint_dst import changes

pytestmark = pytest.mark.pure

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
TWO_YEARS = NOW + timedelta(days=731)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BERLIN = "Europe/Berlin"
GAP = "not exist in Europe/Berlin (clocks go from 02:00 to 03:00)"
SUMMER = "03:00 CEST (01:00 UTC)"
NO_RUN = "never runs after 2026-07-01 12:00 UTC"
ADVICE = "remove the task or give it a later time"
ZONES = [BERLIN, "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "Europe/Dublin", "UTC"]


def told_of(trigger: Trigger, now: datetime = NOW, until: datetime | None = None) -> list[str]:
    """Return the findings up to the end of 2027, one line each."""
    found = findings(as_base_trigger("trigger", trigger), now, until)
    return [f"{each.level} {each.text}" for each in found if " 2028-" not in f" {each.text}"]


# --- when clocks change ---


@lru_cache
def looked_at(zone: str) -> list[tuple[datetime, datetime, datetime]]:
    """Return the changes found by looking at a wall clock every minute for two years.

    Each is an instant, what the clock would have shown without the change, and what it shows.
    """
    info = ZoneInfo(zone)
    seen = []
    moment = NOW
    before = moment.astimezone(info).replace(tzinfo=None)
    while moment < TWO_YEARS:
        moment += MINUTE
        local = moment.astimezone(info).replace(tzinfo=None, fold=0)
        if local != before + MINUTE:
            seen.append((moment, before + MINUTE, local))
        before = local
    return seen


@pytest.mark.parametrize("zone", ZONES)
def test_the_changes_of_a_zone_are_those_that_a_look_at_the_clock_every_minute_shows(zone: str) -> None:
    found = [
        (each.at, (each.at + each.before).replace(tzinfo=None), (each.at + each.after).replace(tzinfo=None))
        for each in changes(ZoneInfo(zone), NOW, TWO_YEARS)
    ]

    assert looked_at(zone) == found
    assert len(found) == (0 if zone == "UTC" else 4)


@pytest.mark.parametrize(
    ("zone", "year", "expected"),
    [
        ("Asia/Beirut", 2026, ["2026-03-28T22:00:00 2:00:00 3:00:00", "2026-10-24T21:00:00 3:00:00 2:00:00"]),
        ("America/Havana", 2026, ["2026-03-08T05:00:00 -5:00:00 -4:00:00", "2026-11-01T05:00:00 -4:00:00 -5:00:00"]),
        ("Pacific/Apia", 2011, [
            "2011-04-02T14:00:00 -10:00:00 -11:00:00",
            "2011-09-24T14:00:00 -11:00:00 -10:00:00",
            "2011-12-30T10:00:00 -10:00:00 14:00:00",
        ]),
        ("Africa/Monrovia", 1972, ["1972-01-07T00:44:30 -0:44:30 0:00:00"]),
        ("Asia/Kolkata", 2026, []),
    ],
)  # fmt: skip
def test_changes_are_found_to_the_second_at_midnight_and_over_the_date_line(
    zone: str, year: int, expected: list[str]
) -> None:
    def signed(offset: timedelta) -> str:
        return f"-{-offset}" if offset < timedelta() else str(offset)

    found = changes(ZoneInfo(zone), datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))

    told = [f"{each.at.isoformat()[:19]} {signed(each.before)} {signed(each.after)}" for each in found]
    assert expected == told


def test_only_changes_behind_the_start_and_not_behind_the_end_count() -> None:
    zone = ZoneInfo(BERLIN)
    at = datetime(2026, 10, 25, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)

    assert [at] == [each.at for each in changes(zone, at - tick, at)]
    assert [] == list(changes(zone, at, at + HOUR))
    assert [] == list(changes(zone, at - HOUR, at - tick))


# --- what clock changes do to ticks ---


@dataclass(frozen=True)
class Rule:
    """A rule of minutes and hours, as an expression and as sets of numbers."""

    minute: str
    hour: str

    @property
    def fixed(self) -> bool:
        return not self.minute.startswith("*") and not self.hour.startswith("*")

    def matches(self, local: datetime) -> bool:
        return local.minute in _numbers(self.minute, 60) and local.hour in _numbers(self.hour, 24)


def _numbers(text: str, end: int) -> set[int]:
    if text.startswith("*"):
        return set(range(0, end, int(text[2:] or 1)))
    return {int(each) for each in text.split(",")}


RULES = [
    Rule(minute, hour)
    for minute in ("0", "30", "15,45", "0,30", "*/1", "*/20", "*/5", "*/7")
    for hour in ("0", "1", "2", "1,2,3", "0,1,2,3,23", "23", "3", "*/1", "*/2")
]
SO_MANY = re.compile(r"(\d+) ticks? (?:is|are|runs|run) ")


def counted(finding: Finding) -> int:
    """Return how many ticks *finding* is about, for a rule that follows the wall clock."""
    match = SO_MANY.search(finding.text)
    assert match is not None, finding.text
    return int(match[1])


@pytest.mark.parametrize("zone", ZONES)
def test_a_rule_that_follows_the_clock_is_told_about_where_that_makes_a_difference(zone: str) -> None:
    """The model compares, minute by minute, the ticks around a change with those of either offset alone."""
    info = ZoneInfo(zone)
    told = 0
    for rule in (each for each in RULES if not each.fixed):
        level = Level.NOTE if rule.hour.startswith("*") else Level.WARNING
        expected = []
        for at, old, new in looked_at(zone):
            length = abs(new - old)
            around = [at + MINUTE * number for number in range(-int(length / MINUTE), int(length / MINUTE))]
            real = [each for each in around if rule.matches(each.astimezone(info))]
            as_before = [each for each in around if rule.matches(old + (each - at))]
            as_behind = [each for each in around if rule.matches(new + (each - at))]
            changed = [min(old, new) + MINUTE * number for number in range(int(length / MINUTE))]
            ticks = [each for each in changed if rule.matches(each)]
            if ticks and not real == as_before == as_behind:
                expected.append((level, ticks[0].date().isoformat(), len(ticks)))
        found = [
            each
            for each in findings(Cron(f"{rule.minute} {rule.hour} * * *", zone), NOW)
            if " field is not every " not in each.text
        ]

        assert expected == [(each.level, each.text[:10], counted(each)) for each in found], rule
        told += len(found)
    assert told == 0 if zone == "UTC" else told > 10


@pytest.mark.parametrize("zone", ZONES)
def test_a_rule_for_times_of_day_is_told_about_wherever_the_clocks_are_changed_over_it(zone: str) -> None:
    told = 0
    for rule in (each for each in RULES if each.fixed):
        cron = Cron(f"{rule.minute} {rule.hour} * * *", zone)
        expected = []
        for at, old, new in looked_at(zone):
            changed = [min(old, new) + MINUTE * number for number in range(int(abs(new - old) / MINUTE))]
            ticks = [each for each in changed if rule.matches(each)]
            if ticks and new > old:
                assert cron.after(at - MINUTE) == at
                level = Level.NOTE if len(ticks) == 1 and not rule.matches(new) else Level.WARNING
                expected.append((level, str(ticks[0])[:16], f"{at:%H:%M} UTC)"))
            elif ticks:
                first = at - (old - ticks[-1])
                assert cron.at_or_before(first) == first
                expected.append((Level.NOTE, str(ticks[0])[:16], f"{first:%H:%M} UTC"))
        found = findings(cron, NOW)

        assert len(expected) == len(found)
        for (level, begin, end), finding in zip(expected, found, strict=True):
            assert finding.level is level
            assert finding.text.startswith(begin)
            assert finding.text.endswith(end)
        told += len(found)
    assert told == 0 if zone == "UTC" else told > 10


def test_a_time_of_day_that_does_not_exist_or_comes_twice_is_told_with_what_happens() -> None:
    assert told_of(Cron("30 2 * * *", BERLIN)) == [
        "NOTE 2026-10-25 02:30 occurs twice in Europe/Berlin: it runs only the first time, at 00:30 UTC",
        f"NOTE 2027-03-28 02:30 does {GAP}: it runs at {SUMMER}",
        "NOTE 2027-10-31 02:30 occurs twice in Europe/Berlin: it runs only the first time, at 00:30 UTC",
    ]


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("0,30 2 * * *", f"02:00, 02:30 do {GAP}: they become a single run at {SUMMER}"),
        ("0 2,3 * * *", f"02:00 does {GAP}: it is merged into the tick at {SUMMER}"),
        ("0,30 2,3 * * *", f"02:00, 02:30 do {GAP}: they are merged into the tick at {SUMMER}"),
        ("0-59/10 2 * * *", f"02:00 to 02:50 do {GAP}: the 6 ticks become a single run at {SUMMER}"),
    ],
)  # fmt: skip
def test_it_is_told_when_several_ticks_become_one(expression: str, what: str) -> None:
    now = datetime(2027, 3, 1, tzinfo=UTC)

    assert f"WARNING 2027-03-28 {what}" == told_of(Cron(expression, BERLIN), now)[0]


@pytest.mark.parametrize("expression", ["30 2 * * *", "30 2,3 * * *", "30 2 28 3 *"])
def test_that_a_tick_is_only_put_off_is_a_note(expression: str) -> None:
    now = datetime(2027, 3, 1, tzinfo=UTC)

    assert f"NOTE 2027-03-28 02:30 does {GAP}: it runs at {SUMMER}" == told_of(Cron(expression, BERLIN), now)[0]


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("0,30 2 * * *",
         "02:00, 02:30 occur twice in Europe/Berlin: they run only the first time, at 00:00, 00:30 UTC"),
        ("0-59/10 2 * * *",
         "02:00 to 02:50 occur twice in Europe/Berlin: the 6 ticks run only the first time, at 00:00 to 00:50 UTC"),
        ("0 2 * * sun", "02:00 occurs twice in Europe/Berlin: it runs only the first time, at 00:00 UTC"),
    ],
)  # fmt: skip
def test_it_is_told_that_what_comes_twice_runs_the_first_time_only(expression: str, what: str) -> None:
    assert f"NOTE 2026-10-25 {what}" in told_of(Cron(expression, BERLIN))


@pytest.mark.parametrize("expression", ["30 1 * * *", "0 3 * * *", "59 1 * * *", "30 2 * * mon-sat", "30 2 1 * *"])
def test_a_rule_that_no_change_of_the_clocks_meets_is_not_told_about(expression: str) -> None:
    assert [] == findings(Cron(expression, BERLIN), NOW)
    assert [] == findings(Cron("30 2 * * *"), NOW), "UTC has no changes"


def test_at_midnight_a_date_is_said_where_it_differs() -> None:
    gap = "does not exist in America/Santiago (clocks go from 00:00 to 01:00)"

    assert told_of(Cron("30 0,23 * * *", "America/Santiago")) == [
        f"NOTE 2026-09-06 00:30 {gap}: it runs at 01:00 -03 (04:00 UTC)",
        "NOTE 2027-04-03 23:30 occurs twice in America/Santiago: it runs only the first time, at 2027-04-04 02:30 UTC",
        f"NOTE 2027-09-05 00:30 {gap}: it runs at 01:00 -03 (04:00 UTC)",
    ]


def test_a_change_of_half_an_hour_is_told_as_one() -> None:
    assert told_of(Cron("0,15 2 * * *", "Australia/Lord_Howe"))[0] == (
        "WARNING 2026-10-04 02:00, 02:15 do not exist in Australia/Lord_Howe (clocks go from 02:00 to 02:30): "
        "they become a single run at 02:30 +11 (2026-10-03 15:30 UTC)"
    )
    assert [] == findings(Cron("30 2 * * *", "Australia/Lord_Howe"), NOW)


def test_a_day_that_the_date_line_takes_is_told_with_its_dates() -> None:
    now = datetime(2011, 10, 1, tzinfo=UTC)

    until = datetime(2012, 1, 1, tzinfo=UTC)
    gap = "does not exist in Pacific/Apia (clocks go from 2011-12-30 00:00 to 2011-12-31 00:00)"

    assert told_of(Cron("0 12 * * *", "Pacific/Apia"), now, until) == [
        f"NOTE 2011-12-30 12:00 {gap}: it runs at 2011-12-31 00:00 +14 (2011-12-30 10:00 UTC)"
    ]
    assert [] == findings(Cron("*/5 * * * *", "Pacific/Apia"), now, until)


@pytest.mark.parametrize(
    "expression",
    ["*/5 * * * *", "0 * * * *", "7,50 * * * *", "* * * * *", "*/7 * * * *", "*/5 * * * sun", "*/5 1-5 * * *"],
)
def test_nothing_is_told_of_a_rule_that_goes_on_in_real_time_as_ever(expression: str) -> None:
    """If it ticks at the same minutes of every hour around the change, the hours cannot be told apart."""
    assert [] == [each for each in findings(Cron(expression, BERLIN), NOW) if " field is not every " not in each.text]


def test_seconds_are_told_where_there_are_any() -> None:
    assert told_of(Cron("*/20 30 2 * * *", BERLIN))[0] == (
        "WARNING 2026-10-25 02:30, 02:30:20, 02:30:40 occur twice in Europe/Berlin: 3 ticks run twice"
    )
    assert [] == findings(Cron("*/20 * * * * *", BERLIN), NOW)


def test_what_follows_the_clock_is_told_with_the_number_of_its_ticks() -> None:
    """It is a warning if the rule names the hour, as if every day had exactly one of it."""
    assert told_of(Cron("*/5 2 * * *", BERLIN))[:2] == [
        "WARNING 2026-10-25 02:00 to 02:55 occur twice in Europe/Berlin: 12 ticks run twice",
        f"WARNING 2027-03-28 02:00 to 02:55 do {GAP}: 12 ticks are dropped",
    ]
    assert told_of(Cron("0 30 2 * * *", BERLIN))[:2] == [
        "WARNING 2026-10-25 02:30 occurs twice in Europe/Berlin: 1 tick runs twice",
        f"WARNING 2027-03-28 02:30 does {GAP}: 1 tick is dropped",
    ]
    assert told_of(Cron("30 */2 * * *", BERLIN))[:2] == [
        "NOTE 2026-10-25 02:30 occurs twice in Europe/Berlin: 1 tick runs twice",
        f"NOTE 2027-03-28 02:30 does {GAP}: 1 tick is dropped",
    ]


def test_half_an_hour_makes_a_difference_to_an_hourly_rule() -> None:
    zone = "Australia/Lord_Howe"
    gap = f"does not exist in {zone} (clocks go from 02:00 to 02:30)"

    assert told_of(Cron("0 * * * *", zone)) == [
        f"NOTE 2026-10-04 02:00 {gap}: 1 tick is dropped",
        f"NOTE 2027-10-03 02:00 {gap}: 1 tick is dropped",
    ]
    assert told_of(Cron("30 * * * *", zone)) == [
        "NOTE 2027-04-04 01:30 occurs twice in Australia/Lord_Howe: 1 tick runs twice"
    ]
    assert [] == findings(Cron("*/10 * * * *", zone), NOW)
    assert [] == findings(Cron("15,45 * * * *", zone), NOW)


# --- steps ---


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("*/7 * * * *",
         "'*/7' in the minute field is not every 7 minutes: it matches 0, 7, ... 56, then 0 again after 4 minutes"),
        ("5/7 * * * *",
         "'5/7' in the minute field is not every 7 minutes: it matches 5, 12, ... 54, then 5 again after 11 minutes"),
        ("30/5 * * * *",
         ("'30/5' in the minute field is not every 5 minutes: "
          "it matches 30, 35, ... 55, then 30 again after 35 minutes")),
        ("1-59/7 * * * *",
         "'1-59/7' in the minute field is not every 7 minutes: it matches 1, 8, ... 57, then 1 again after 4 minutes"),
        ("*/7,3 * * * *",
         "'*/7' in the minute field is not every 7 minutes: it matches 0, 7, ... 56, then 0 again after 4 minutes"),
        ("3,15-20,*/7 * * * *",
         "'*/7' in the minute field is not every 7 minutes: it matches 0, 7, ... 56, then 0 again after 4 minutes"),
        ("7-7/7 * * * *",
         "'7-7/7' in the minute field is not every 7 minutes: it matches 7, 14, ... 56, then 7 again after 11 minutes"),
        ("0/7 * * * *",
         "'0/7' in the minute field is not every 7 minutes: it matches 0, 7, ... 56, then 0 again after 4 minutes"),
        ("0-59/7 * * * *",
         "'0-59/7' in the minute field is not every 7 minutes: it matches 0, 7, ... 56, then 0 again after 4 minutes"),
        ("*/40 * * * *",
         "'*/40' in the minute field is not every 40 minutes: it matches 0, 40, then 0 again after 20 minutes"),
        ("*/90 * * * *",
         "'*/90' in the minute field is not every 90 minutes: it matches 0, then 0 again after 60 minutes"),
        ("*/25 * * * * *",
         "'*/25' in the second field is not every 25 seconds: it matches 0, 25, 50, then 0 again after 10 seconds"),
        ("0 */5 * * *",
         "'*/5' in the hour field is not every 5 hours: it matches 0, 5, ... 20, then 0 again after 4 hours"),
        ("0 10/20 * * *",
         "'10/20' in the hour field is not every 20 hours: it matches 10, then 10 again after 24 hours"),
        ("0 0-20/5 * * *",
         "'0-20/5' in the hour field is not every 5 hours: it matches 0, 5, ... 20, then 0 again after 4 hours"),
        ("0 0 5/7 * *",
         ("'5/7' in the day-of-month field is not every 7 days: "
          "it matches 5, 12, ... 26, then 5 again, however long the month is")),
        ("0 0 */2 * *",
         ("'*/2' in the day-of-month field is not every 2 days: "
          "it matches 1, 3, ... 31, then 1 again, however long the month is")),
        ("0 0 1 */5 *",
         "'*/5' in the month field is not every 5 months: it matches JAN, JUN, NOV, then JAN again after 2 months"),
        ("0 0 1 Jan-Dec/5 *",
         ("'jan-dec/5' in the month field is not every 5 months: "
          "it matches JAN, JUN, NOV, then JAN again after 2 months")),
        ("0 0 * * */2",
         ("'*/2' in the day-of-week field is not every 2 days: "
          "it matches SUN, TUE, ... SAT, then SUN again after 1 day")),
        ("0 0 * * WED/2",
         "'wed/2' in the day-of-week field is not every 2 days: it matches WED, FRI, SUN, then WED again after 3 days"),
        ("0 0 * * 1-7/3",
         "'1-7/3' in the day-of-week field is not every 3 days: it matches MON, THU, SUN, then MON again after 1 day"),
        ("0 0 * * */8",
         "'*/8' in the day-of-week field is not every 8 days: it matches SUN, then SUN again after 7 days"),
    ],
)  # fmt: skip
def test_a_step_that_does_not_come_out_even_is_told_with_what_it_does(expression: str, what: str) -> None:
    assert [f"WARNING {what}"] == told_of(Cron(expression))


@pytest.mark.parametrize(
    "expression",
    [
        "*/5 * * * *", "*/1 * * * *", "*/60 * * * *", "0 */6 * * *", "0 0 1 */3 *", "0 0 * * */7", "0 0 */1 * *",
        "0-30/7 * * * *", "0,7,14 * * * *", "0 9-17/3 * * *", "0 9-17/2 * * *", "0 6-22/4 * * *", "0 0 1-15/2 * *",
        "1-59/2 * * * *", "3/6 * * * *", "5/10,7/10 * * * *", "0-29/7,45 * * * *", "0 0 1-28/7 * *", "0 0 * * 0-7/7",
        "0 0 LW * *", "0 0 * * mon#2", "0 0 * * 5L", "0 0 * * 1-5/2", "*/30 0 * * * *",
    ],
)  # fmt: skip
def test_a_step_that_comes_out_even_or_pauses_at_the_end_of_its_range_is_not_told_about(expression: str) -> None:
    assert [] == findings(Cron(expression), NOW)


def test_every_step_of_a_rule_is_told_about() -> None:
    assert [f"WARNING '*/7' in the {field} field" for field in ("second", "minute", "hour", "month")] == [
        each[: each.index(" is not every")] for each in told_of(Cron("*/7 */7 */7 * */7 *"))
    ]


# --- days of month and of week ---

ENOUGH = "do not both have to match: it matches every day that one of them matches"


@pytest.mark.parametrize(
    ("rule", "way_out"),
    [
        (Cron("0 0 13 * fri"), "Except(Cron('0 0 13 * *'), Cron('* * * * 0,1,2,3,4,6'))"),
        (Cron("0 0 1-7 * mon", "Asia/Tokyo"), "Cron('0 0 * * 1#1', tz='Asia/Tokyo')"),
        (Cron("5 0 0 15-21 jan mon,wed"), "Cron('5 0 0 * jan 1#3,3#3')"),
        (
            Cron("0 6 1,15 * mon-fri", "Europe/Berlin"),
            "Except(Cron('0 6 1,15 * *', tz='Europe/Berlin'), Cron('* * * * 0,6', tz='Europe/Berlin'))",
        ),
        (Cron("0 0 L-3,15W * sun"), "Except(Cron('0 0 L-3,15W * *'), Cron('* * * * 1,2,3,4,5,6'))"),
        (Cron("0 0 1-7,15W * 7"), "Except(Cron('0 0 1-7,15W * *'), Cron('* * * * 1,2,3,4,5,6'))"),
        (Cron("0 0 1-31 * fri"), "Except(Cron('0 0 1-31 * *'), Cron('* * * * 0,1,2,3,4,6'))"),
        (Cron("0 0 1 * 5L"), ""),
        (Cron("0 0 1 * sun,5L"), ""),
        (Cron("0 0 1 * 0-6"), ""),
    ],
)
def test_it_is_told_that_a_day_of_the_month_or_of_the_week_is_enough(rule: Cron, way_out: str) -> None:
    day, _, weekday = rule.expression.split()[-3:]
    write = f"; for days that match both, write {way_out}" if way_out else ""

    assert [
        f"WARNING {day!r} in the day-of-month field and {weekday!r} in the day-of-week field {ENOUGH}{write}"
    ] == told_of(rule)
    if way_out:
        both = eval(way_out, {"Cron": Cron, "Except": Except})
        by_day, by_weekday = (
            replace(rule, expression=" ".join(parts))
            for parts in ([*rule.expression.split()[:-1], "*"], [*rule.expression.split()[:-3], "*", _, weekday])
        )
        found = set(by_day.upcoming(NOW, 1_500)) & set(by_weekday.upcoming(NOW, 1_500))
        assert sorted(found)[:20] == both.upcoming(NOW, 20)
        assert not any("both" in text for text in told_of(both))


@pytest.mark.parametrize("expression", ["0 0 * * fri", "0 0 13 * *", "0 0 13 * ?", "0 0 * * *", "0 0 13 * */7"])
def test_of_a_rule_whose_days_all_have_to_match_nothing_is_told(expression: str) -> None:
    assert [] == findings(Cron(expression), NOW)


# --- no run ---


def test_moments_that_are_over_are_an_error() -> None:
    over = At(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 8, 30, tzinfo=UTC))

    assert told_of(over) == [f"ERROR {NO_RUN}: its last tick was 2026-01-01 08:30 UTC; {ADVICE}"]
    assert [] == findings(over, datetime(2026, 1, 1, 8, 29, tzinfo=UTC))
    assert 1 == len(findings(over, datetime(2026, 1, 1, 8, 30, tzinfo=UTC)))


def test_an_until_that_is_over_is_an_error() -> None:
    until = datetime(2026, 6, 1, tzinfo=UTC)

    assert told_of(Cron("30 2 * * *", BERLIN), until=until) == [
        f"ERROR {NO_RUN}: its until, 2026-06-01 00:00 UTC, has passed; {ADVICE}"
    ]


def test_an_until_before_the_next_tick_is_an_error() -> None:
    tick = datetime(2026, 7, 2, 2, 30, tzinfo=UTC)
    rule = Cron("30 2 * * *")

    assert told_of(rule, until=tick - MINUTE) == [
        f"ERROR {NO_RUN}: its next tick, 2026-07-02 02:30 UTC, is later than its until, 2026-07-02 02:29 UTC; {ADVICE}"
    ]
    assert [] == findings(rule, NOW, tick)


class Silent:
    """A user's own trigger that never ticks."""

    def after(self, moment: datetime, /) -> datetime | None:
        return None

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        return None


ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("trigger", [Silent(), AnyOf(Silent(), Silent()), Except(Cron("0 0 * * *"), ALWAYS)], ids=str)
def test_a_rule_that_never_ticks_is_an_error(trigger: Trigger) -> None:
    assert told_of(trigger) == [f"ERROR {NO_RUN}: its rule has no tick; {ADVICE}"]


def test_a_rule_of_which_nothing_is_left_as_far_as_was_searched_is_an_error() -> None:
    rule = Except(Cron("0 0 * * *"), Cron("* * * * *"))

    searched = "all its ticks until 2037-06-13 23:59:59 UTC are excluded, and the search stopped there"
    assert told_of(rule) == [f"ERROR {NO_RUN}: {searched}; {ADVICE}"]
    begun = AnyOf(rule, At(NOW + MINUTE, datetime(2000, 1, 2, tzinfo=UTC)))
    (report,) = lint([Scheduler().schedule_task(asyncio.sleep, args=(1,), trigger=begun)], NOW)
    assert (NOW + MINUTE,) == report.runs


def test_uneven_steps_of_a_rule_without_a_run_are_told_too_and_the_error_comes_first() -> None:
    found = findings(Cron("*/7 2 * * *", BERLIN), NOW, NOW)

    assert [Level.ERROR, Level.WARNING] == [each.level for each in found]


def test_changes_of_the_clocks_behind_its_until_are_not_told_about() -> None:
    rule = Cron("30 2 * * *", BERLIN)

    assert 1 == len(findings(rule, NOW, datetime(2026, 12, 1, tzinfo=UTC)))
    assert [] == findings(rule, NOW, datetime(2026, 10, 1, tzinfo=UTC))


# --- combined rules ---


def test_the_parts_of_a_rule_are_looked_at() -> None:
    both = AnyOf(Every(60), Cron("30 2 * * *", BERLIN), Cron("*/7 * * * *"))

    assert {*told_of(Cron("30 2 * * *", BERLIN)), *told_of(Cron("*/7 * * * *"))} == set(told_of(both))


def test_what_two_parts_have_in_common_is_told_once() -> None:
    one, other = Cron("30 2 * * *", BERLIN), Cron("30 2 * * mon,sun", BERLIN)

    assert told_of(one) == told_of(AnyOf(one, other))


def test_of_one_part_that_has_no_run_any_more_there_is_no_error() -> None:
    assert [] == findings(AnyOf(At(NOW), Every(60)), NOW)


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/5 2 * * *", "*/20 30 2 * * *"])
@pytest.mark.parametrize(
    "excluded",
    [
        Cron("* 2 * mar,oct *", BERLIN),
        Cron("* * * mar,oct *", BERLIN),
        (time(1, 30, tzinfo=ZoneInfo(BERLIN)), time(3, 30, tzinfo=ZoneInfo(BERLIN))),
        (time(22, tzinfo=ZoneInfo(BERLIN)), time(4, tzinfo=ZoneInfo(BERLIN))),
        (NOW + HOUR, NOW + timedelta(days=1000)),
    ],
    ids=str,
)
def test_ticks_that_are_excluded_are_not_told_about(
    expression: str, excluded: Cron | tuple[datetime, datetime] | tuple[time, time]
) -> None:
    """At clock changes. In March a tick at a fixed time is moved out of the excluded hour, so it does run."""
    rule = Except(Cron(expression, BERLIN), excluded)
    moved = "30 2 * * *" == expression and excluded == Cron("* 2 * mar,oct *", BERLIN)

    assert (["2027-03-28"] if moved else []) == [each.split()[1] for each in told_of(AnyOf(rule, Every(3600)))]
    assert told_of(Cron(expression, BERLIN)) != []


def test_ticks_that_are_not_excluded_are_told_about() -> None:
    for excluded in (Cron("* 3 * * *", BERLIN), Cron("* 2 * * *"), (NOW, NOW + HOUR), Every(3600)):
        assert told_of(Cron("45 */2 * * *", BERLIN)) == told_of(Except(Cron("45 */2 * * *", BERLIN), excluded))


def test_of_a_gap_only_the_ticks_count_that_are_not_excluded() -> None:
    rule = Except(Cron("*/5 2 * * *", BERLIN), AnyOf(Cron("0-29 * * * *", BERLIN), Cron("30 2 * * *", BERLIN)))

    assert told_of(rule)[1] == (f"WARNING 2027-03-28 02:35 to 02:55 do {GAP}: 5 ticks are dropped")


def test_what_is_excluded_from_one_part_counts_in_the_other() -> None:
    rule = Cron("30 2 * * *", BERLIN)

    assert told_of(rule) == told_of(AnyOf(Except(rule, Cron("* * * * *", BERLIN)), rule))


def test_steps_are_told_about_in_what_is_excluded_too() -> None:
    rule = Except(Cron("0 */5 * * *"), Cron("*/7 1 * * *"), (NOW, NOW + HOUR))

    assert ["'*/5' in the hour field", "'*/7' in the minute field"] == [
        " ".join(each.split()[1:6]) for each in told_of(rule)
    ]


# --- tasks ---


def work() -> None: ...


def reports_of(scheduler: Scheduler) -> dict[str, Report]:
    return {each.task: each for each in lint(scheduler, NOW)}


def test_a_report_tells_the_rule_in_words_and_the_next_five_runs() -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(work, trigger=Cron("0 6 * * mon-fri", BERLIN), name="a")
    scheduler.schedule_task(work, trigger=Every(3600), name="b")
    reports = reports_of(scheduler)

    assert "At 06:00 on Monday through Friday, Europe/Berlin (0 6 * * mon-fri)" == reports["a"].rule
    assert reports["a"].runs == tuple(datetime(2026, 7, day, 4, tzinfo=UTC) for day in (2, 3, 6, 7, 8))
    assert ZoneInfo(BERLIN) == reports["a"].zone
    assert () == reports["a"].findings
    assert reports["b"].runs == tuple(NOW + HOUR * number for number in range(1, 6))
    assert reports["b"].zone is UTC


def test_the_runs_of_an_interval_are_those_of_one_that_begins_now() -> None:
    scheduler = Scheduler()
    task = scheduler.schedule_task(work, interval_s=0.5)
    runs = tuple(NOW + number * timedelta(seconds=0.5) for number in range(5))

    assert lint([task], NOW) == [Report(task.name, "every 0.5 s", UTC, runs, (), begins=True)]
    assert list(format_report(lint([task], NOW)[0]))[:3] == [
        "scheduled:work: every 0.5 s",
        "  next     if it starts now:",
        "           2026-07-01 12:00:00.000000 UTC",
    ]


TOMORROW = NOW + timedelta(days=1, minutes=20)


@pytest.mark.parametrize(
    ("given", "runs", "begins"),
    [
        ({"interval_s": 3600}, [NOW + HOUR * number for number in range(5)], True),
        ({"interval_s": 3600, "first_run": FirstRun.NEXT}, [NOW + HOUR * number for number in range(1, 6)], True),
        ({"interval_s": 3600, "first_run": TOMORROW}, [TOMORROW + HOUR * number for number in range(5)], False),
        ({"interval_s": 3600, "first_run": NOW - 20 * MINUTE},
         [NOW + 40 * MINUTE + HOUR * number for number in range(5)], False),
        ({"trigger": Cron("0 * * * *"), "first_run": FirstRun.NOW}, [NOW + HOUR * number for number in range(5)], True),
        ({"trigger": Every(3600), "first_run": TOMORROW},
         [TOMORROW, *(TOMORROW - 20 * MINUTE + HOUR * number for number in range(1, 5))], False),
        ({"trigger": Cron("0 * * * *"), "first_run": NOW - 20 * MINUTE},
         [NOW + HOUR * number for number in range(1, 6)], False),
        ({"trigger": At(NOW - HOUR), "first_run": FirstRun.NOW}, [NOW], True),
        ({"trigger": At(NOW - HOUR), "first_run": TOMORROW, "until": TOMORROW}, [TOMORROW], False),
        ({"interval_s": 60, "first_run": datetime.max.replace(tzinfo=UTC)}, [datetime.max.replace(tzinfo=UTC)], False),
    ],
)  # fmt: skip
def test_the_runs_begin_with_the_first_one(given: dict[str, Any], runs: list[datetime], begins: bool) -> None:
    scheduler = Scheduler()
    (report,) = lint([scheduler.schedule_task(work, **given)], NOW)

    assert (list(report.runs), report.begins, report.findings) == (runs, begins, ())


@pytest.mark.parametrize("rule", [{"interval_s": 60}, {"trigger": Cron("30 2 * * *", BERLIN)}])
def test_a_first_run_behind_its_until_is_an_error(rule: dict[str, Any]) -> None:
    scheduler = Scheduler()
    task = scheduler.schedule_task(work, first_run=TOMORROW, until=TOMORROW - MINUTE, **rule)
    (report,) = lint([task], NOW)

    assert () == report.runs
    assert report.findings == (
        Finding(
            Level.ERROR,
            f"{NO_RUN}: its next tick, 2026-07-02 12:20 UTC, is later than its until, 2026-07-02 12:19 UTC; {ADVICE}",
        ),
    )


def test_an_interval_whose_until_comes_before_its_first_run_is_an_error() -> None:
    scheduler = Scheduler()
    task = scheduler.schedule_task(work, 60, first_run=FirstRun.NEXT, until=NOW + timedelta(seconds=59))

    assert [Level.ERROR] == [each.level for each in lint([task], NOW)[0].findings]


def test_changes_of_the_clocks_before_a_first_run_are_not_told_about() -> None:
    rule = Cron("30 2 * * *", BERLIN)

    def dates(first: datetime | None) -> list[str]:
        return [each.text.split()[0] for each in findings(rule, NOW, None, first)]

    assert ["2026-10-25", "2027-03-28", "2027-10-31", "2028-03-26"] == dates(None) == dates(NOW)
    assert ["2027-10-31", "2028-03-26"] == dates(datetime(2027, 5, 1, tzinfo=UTC))
    assert [] == dates(datetime(2030, 1, 1, tzinfo=UTC))


class Away(Silent):
    """A trigger that worked when it was registered, and fails now."""

    asked = 0

    def after(self, moment: datetime, /) -> datetime | None:
        self.asked += 1
        if self.asked > 1:
            raise ConnectionError("the calendar cannot be reached")
        return moment + HOUR


class Still(Away):
    """A trigger whose time stands still."""

    def after(self, moment: datetime, /) -> datetime | None:
        self.asked += 1
        return moment + HOUR if self.asked == 1 else moment


@pytest.mark.parametrize(
    ("trigger", "what"),
    [(Away(), "ConnectionError: the calendar cannot be reached"), (Still(), "ValueError: after(")],
)
def test_a_trigger_that_fails_is_an_error_of_its_task_and_of_no_other(trigger: Trigger, what: str) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(work, trigger=trigger, name="a").disable()
    scheduler.schedule_task(work, trigger=Every(60), name="b")
    reports = reports_of(scheduler)

    failure, disabled = reports["a"].findings
    assert (failure.level, disabled.level) == (Level.ERROR, Level.NOTE)
    assert failure.text.startswith(f"its trigger fails: {what}")
    assert () == reports["a"].runs
    assert 5 == len(reports["b"].runs)
    assert scheduler.tasks["a"]._entry.spec.rule._counted is None  # type: ignore[union-attr]


def test_runs_behind_its_until_are_not_told() -> None:
    scheduler = Scheduler()
    until = NOW + 2 * HOUR
    scheduler.schedule_task(work, trigger=Every(3600), until=until, name="a")
    scheduler.schedule_task(work, 60, until=until, name="b")
    scheduler.schedule_task(work, 60, until=NOW, name="c")
    reports = reports_of(scheduler)

    assert "every 3600 s, until 2026-07-01 14:00 UTC" == reports["a"].rule
    assert (NOW + HOUR, until) == reports["a"].runs
    assert "every 60 s, until 2026-07-01 14:00 UTC" == reports["b"].rule
    assert reports["b"].runs == tuple(NOW + MINUTE * number for number in range(5))
    assert () == reports["b"].findings
    assert () == reports["c"].runs
    assert [Level.ERROR] == [each.level for each in reports["c"].findings]
    assert "its until, 2026-07-01 12:00 UTC, has passed" in reports["c"].findings[0].text


def test_that_a_task_is_disabled_is_noted() -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(work, 60, name="a").disable()
    scheduler.schedule_task(work, trigger=Cron("*/7 * * * *"), name="b").disable()
    reports = reports_of(scheduler)
    note = Finding(Level.NOTE, "the task is disabled: it does not run before enable()")

    assert (note,) == reports["a"].findings
    assert note == reports["b"].findings[-1]
    assert 2 == len(reports["b"].findings)


@pytest.mark.parametrize(
    ("trigger", "zone"),
    [
        (At(NOW), "UTC"),
        (AnyOf(Every(60), Cron("0 0 * * *", BERLIN)), BERLIN),
        (AnyOf(Cron("0 1 * * *", BERLIN), Cron("0 0 * * *", BERLIN)), BERLIN),
        (AnyOf(Cron("0 1 * * *", BERLIN), Cron("0 0 * * *", "Asia/Tokyo")), "UTC"),
        (Except(Cron("0 0 * * *", BERLIN), Cron("* * * * mon", "Asia/Tokyo")), BERLIN),
    ],
    ids=str,
)
def test_runs_are_shown_where_the_rule_looks_at_the_clock(trigger: Trigger, zone: str) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(work, trigger=trigger)

    assert zone == str(lint(scheduler, NOW)[0].zone)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="now must be an aware datetime"):
        lint([], datetime(2026, 7, 1))  # noqa: DTZ001


def test_of_no_tasks_there_is_nothing_to_say() -> None:
    assert [] == lint([], NOW)
    assert [] == lint(Scheduler(), NOW)


# --- as text ---


def test_times_are_shown_in_the_zone_with_its_offset_and_in_utc_where_that_differs() -> None:
    moments = [datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 12, tzinfo=UTC)]

    assert format_runs(moments, ZoneInfo("Europe/London")) == [
        "2026-10-24 13:00+01:00  2026-10-24 12:00 UTC",
        "2026-10-25 12:00+00:00",
    ]
    assert ["2026-10-24 12:00 UTC", "2026-10-25 12:00 UTC"] == format_runs(moments, ZoneInfo("UTC"))
    assert format_runs(moments, ZoneInfo("UTC")) == format_runs(moments, UTC)


def test_times_are_as_exact_as_they_need_and_all_alike() -> None:
    assert format_runs([NOW, NOW + timedelta(seconds=1)], UTC) == ["2026-07-01 12:00:00 UTC", "2026-07-01 12:00:01 UTC"]
    assert format_runs([NOW, NOW + timedelta(milliseconds=500)], UTC) == [
        "2026-07-01 12:00:00.000000 UTC",
        "2026-07-01 12:00:00.500000 UTC",
    ]


def test_a_report_is_shown_in_columns() -> None:
    warning, note = Finding(Level.WARNING, "a sentence"), Finding(Level.NOTE, "another one")

    assert list(format_report(Report("backup", "daily", UTC, (NOW, NOW + 24 * HOUR), (warning, note)))) == [
        "backup: daily",
        "  next     2026-07-01 12:00 UTC",
        "           2026-07-02 12:00 UTC",
        "  WARNING  a sentence",
        "  NOTE     another one",
    ]
    assert ["backup: daily"] == list(format_report(Report("backup", "daily", UTC, (), ())))


def test_the_last_line_counts_tasks_and_findings() -> None:
    error, warning, note = (Finding(level, "a sentence") for level in Level)

    def report(*found: Finding) -> Report:
        return Report("backup", "daily", UTC, (), found)

    assert "1 task: nothing found" == format_summary([report()])
    assert "2 tasks: 1 error, 2 warnings" == format_summary([report(error, warning), report(warning)])
    assert "1 task: 1 warning, 3 notes" == format_summary([report(warning, note, note, note)])


# --- services that are initialised only ---


@dataclass
class Counted(Service):
    """Records its calls."""

    calls: list[str] = field(default_factory=list)

    async def init(self) -> None:
        self.calls.append("init")
        self.app.scheduler.schedule_task(work, 60, name="of the service")

    async def health(self) -> Health:
        self.calls.append("health")
        return Health()

    async def post_init(self) -> None:
        self.calls.append("post_init")

    async def close(self) -> None:
        self.calls.append("close")


async def test_an_application_whose_services_were_only_initialised_is_as_before_and_can_be_started(
    scheduler: Scheduler,
) -> None:
    service = Counted()
    app = Application("shop", [service], scheduler=scheduler)

    async with initialized(app):
        assert ["of the service"] == list(scheduler.tasks)
        assert not scheduler.started
        with pytest.raises(WrongState, match="is STARTING"):
            await app.start()

    assert ["init", "close"] == service.calls
    assert [] == list(scheduler.tasks)
    assert "CLOSED" == app.state == service.state

    async with app:
        await asyncio.sleep(1)
    assert service.calls[2:] == ["init", "health", "post_init", "close"]


async def test_what_goes_wrong_while_they_are_looked_at_is_raised_when_they_are_closed(scheduler: Scheduler) -> None:
    service = Counted()

    with pytest.raises(ZeroDivisionError):
        async with initialized(Application("shop", [service], scheduler=scheduler)):
            raise ZeroDivisionError

    assert ["init", "close"] == service.calls


# --- the command ---

PATIENCE_S = 20  # Far more than anything here takes.

BEGIN = """
import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from kaiju_app import Application, Health, Scheduler, Service
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers import At


def say(*words):
    print(*words, flush=True)


async def work():
    say("work")


@dataclass
class Told(Service):
    async def init(self):
        say("init", self.name)
        self.app.scheduler.schedule_task(work, 60, name=f"of {self.name}")

    async def health(self):
        say("health")
        return Health(["ill"])

    async def post_init(self):
        say("post_init")

    async def close(self):
        say("close", self.name)


scheduler = Scheduler()
"""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run the command in a directory with a module ``main``."""

    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "main.py").write_text(BEGIN + dedent(code))
        return subprocess.run(
            [sys.executable, "-m", "kaiju_app", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run


BEGINS = "  next     if it starts now:"


def without_runs(lines: Iterable[str]) -> list[str]:
    """Return *lines* without those that give the time of a run."""
    return [line for line in lines if not re.fullmatch(r"           20\d\d-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC", line)]


@pytest.mark.realtime
def test_the_tasks_of_a_scheduler_are_shown(command: Command) -> None:
    ended = command(
        """
        scheduler.schedule_task(work, trigger=Cron("30 2 * * *", "Europe/Berlin"), name="nightly")
        scheduler.schedule_task(work, 60, name="often")
        scheduler.schedule_task(work, trigger=Cron("*/7 * * * *"), name="seven")
        """,
        "lint", "main:scheduler",
    )  # fmt: skip
    lines = ended.stdout.splitlines()

    assert 0 == ended.returncode, ended.stderr
    assert "" == ended.stderr
    assert "nightly: At 02:30 every day, Europe/Berlin (30 2 * * *)" == lines[0]
    assert re.fullmatch(r"  next     20\d\d-\d\d-\d\d 02:30\+0[12]:00  20\d\d-\d\d-\d\d 0[01]:30 UTC", lines[1])
    assert 4 == sum("Europe/Berlin" in line for line in lines if line.startswith("  NOTE     20"))
    often = lines.index("often: every 60 s")
    assert [*without_runs(lines[often : often + 8])] == ["often: every 60 s", BEGINS, ""]
    assert "3 tasks: 1 warning, 4 notes" == lines[-1]


@pytest.mark.realtime
def test_an_error_is_status_1(command: Command) -> None:
    code = "scheduler.schedule_task(work, trigger=At(datetime(2020, 1, 1, tzinfo=UTC)), name='once')"
    ended = command(code, "lint", "main:scheduler")

    assert 1 == ended.returncode
    assert "" == ended.stderr
    assert re.search(
        r"^  ERROR    never runs after 20.* UTC: its last tick was 2020-01-01 00:00 UTC", ended.stdout, re.M
    )
    assert "1 task: 1 error" == ended.stdout.splitlines()[-1]


SHOP = """
app = Application("shop", [Told(name="a"), Told(name="b")], scheduler=scheduler)
app.scheduler.schedule_task(work, 60, name="mine")
"""


@pytest.mark.realtime
def test_nothing_of_an_application_is_started_and_it_is_said_what_is_not_seen(command: Command) -> None:
    ended = command(SHOP, "lint", "main:app")

    assert 0 == ended.returncode, ended.stderr
    assert "" == ended.stderr
    assert without_runs(ended.stdout.splitlines()) == [
        "mine: every 60 s",
        BEGINS,
        "",
        "Tasks that services schedule in init() are not included; --init includes them.",
        "",
        "1 task: nothing found",
    ]


@pytest.mark.realtime
def test_with_init_the_services_are_initialised_and_closed_and_no_task_is_run(command: Command) -> None:
    ended = command(SHOP, "lint", "--init", "main:app")

    assert 0 == ended.returncode, ended.stderr
    assert "" == ended.stderr
    assert without_runs(ended.stdout.splitlines()) == [
        *("init a", "init b", "close b", "close a"),
        *("mine: every 60 s", BEGINS, ""),
        *("of a: every 60 s", BEGINS, ""),
        *("of b: every 60 s", BEGINS, ""),
        "3 tasks: nothing found",
    ]


@pytest.mark.realtime
def test_an_init_that_fails_is_told_as_by_run_and_what_was_initialised_is_closed(command: Command) -> None:
    code = """
    class Broken(Told):
        async def init(self):
            raise OSError("no such host")

    app = Application("shop", [Told(name="a"), Broken(name="b")])
    """
    ended = command(code, "lint", "main:app", "--init")

    assert 1 == ended.returncode
    assert ["init a", "close a"] == ended.stdout.splitlines()
    assert "CRITICAL kaiju_app.app: application 'shop': service 'b' failed in init: OSError: no such" in ended.stderr
    assert 1 == ended.stderr.count("Traceback")


@pytest.mark.realtime
def test_services_that_do_not_fit_together_are_told_with_status_1(command: Command) -> None:
    ended = command(SHOP + "app._optional = ('c',)\n", "lint", "main:app", "--init")

    assert 1 == ended.returncode
    assert "" == ended.stdout
    assert "CRITICAL kaiju_app.app: application 'shop' cannot start: optional_services names c" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.realtime
def test_an_optional_service_that_fails_is_told_and_its_tasks_are_not_there(command: Command) -> None:
    code = """
    class Broken(Told):
        async def init(self):
            await super().init()
            raise OSError("no such host")

    app = Application("shop", [Told(name="a"), Broken(name="b")], optional_services=["b"])
    """
    ended = command(code, "lint", "main:app", "--init")

    assert 0 == ended.returncode
    assert "WARNING kaiju_app.app: application 'shop': service 'b' failed in init" in ended.stderr
    assert without_runs(ended.stdout.splitlines())[-4:] == ["of a: every 60 s", BEGINS, "", "1 task: nothing found"]


@pytest.mark.realtime
def test_a_close_that_fails_is_told_behind_the_report_with_status_1(command: Command) -> None:
    code = """
    class Broken(Told):
        async def close(self):
            raise OSError("disk full")

    app = Application("shop", [Broken(name="a")])
    """
    ended = command(code, "lint", "main:app", "--init")

    assert 1 == ended.returncode
    assert "failed in close: OSError: disk full" in ended.stderr
    assert "1 task: nothing found" == ended.stdout.splitlines()[-1]


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("code", "arguments", "way_out"),
    [
        ("app = Application('shop', [Told()])", ["main:app"], "--init includes those that services schedule in init()"),
        ("app = Application('shop')", ["main:app"], "add one with schedule_task()"),
        ("app = Application('shop')", ["main:app", "--init"], "add one with schedule_task()"),
        ("", ["main:scheduler"], "add one with schedule_task()"),
    ],
)
def test_no_task_at_all_is_an_error_with_the_way_out(
    command: Command, code: str, arguments: list[str], way_out: str
) -> None:
    ended = command(code, "lint", *arguments)

    assert 1 == ended.returncode
    assert "" == ended.stdout
    assert f"{arguments[0]!r} has no tasks to look at; {way_out}\n" == ended.stderr


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["lint", "main:number"], "'main:number' is of type int, neither an Application nor a Scheduler"),
        (["lint", "main:Application"], "is of type type, neither an Application nor a Scheduler"),
        (["lint", "main"], "'main' must be MODULE:NAME, e.g. shop.main:app"),
        (["lint", "nowhere:app"], "there is no module 'nowhere'"),
        (["lint", "main:nothing"], "has no attribute 'nothing'"),
        (["lint"], "the following arguments are required: MODULE:NAME"),
        (["lint", "main:scheduler", "--init"], "is a Scheduler, which has no services to initialize: leave out --init"),
        (["run", "main:scheduler"], "'main:scheduler' is of type Scheduler, not an Application: give it to one"),
        (["run", "main:number"], "'main:number' is of type int, not an Application\n"),
        (["run", "main:scheduler", "--init"], "unrecognized arguments: --init"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_one_helpful_line(command: Command, arguments: list[str], what: str) -> None:
    ended = command("number = 7", *arguments)

    assert 2 == ended.returncode
    assert what in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "" == ended.stdout


@pytest.mark.realtime
def test_the_help_says_what_is_shown_and_what_a_status_means(command: Command) -> None:
    ended = command("", "lint", "--help")

    assert 0 == ended.returncode
    for word in ("MODULE:NAME", "--init", "next runs", "status"):
        assert word in ended.stdout
