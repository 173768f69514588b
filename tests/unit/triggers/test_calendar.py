"""Every other week, the last Friday, the third workday: compared with RFC 5545 as another library knows it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from dateutil.rrule import DAILY, FR, MO, MONTHLY, SA, SU, TH, TU, WE, WEEKLY, rrule, rruleset
from hypothesis import event, example, given, settings

from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._calendar import Calendar
from kaiju_app.triggers._calendar_days import LIMITS, WEEKDAYS, NthDay
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._lint import findings
from unit.triggers.test_cron import ODD_ZONES, changes

pytestmark = pytest.mark.pure

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
US = timedelta(microseconds=1)
SECOND_OPINION = dict(zip(WEEKDAYS, (MO, TU, WE, TH, FR, SA, SU), strict=True))

nth_days = st.sampled_from(["day", "workday", *WEEKDAYS]).flatmap(
    lambda kind: st.builds(NthDay, st.integers(1, LIMITS.get(kind, 5)), st.just(kind))
)
nth_days = nth_days | nth_days.map(lambda each: each._replace(nth=-each.nth))
dates = st.dates(date(1990, 1, 1), date(2050, 1, 1))
times = st.times().map(lambda each: each.replace(microsecond=0))


@st.composite
def calendars(draw: st.DrawFn, zones: st.SearchStrategy[str] = st.just("UTC")) -> Calendar:  # noqa: B008  # A constant.
    unit = draw(st.sampled_from(["day", "week", "month", "year"]))
    on = None
    if unit == "week":
        on = draw(st.none() | st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=4).map(", ".join))
    elif unit != "day":
        on = draw(st.none() | st.lists(nth_days, min_size=1, max_size=3).map(lambda each: ", ".join(map(str, each))))
    every, at, tz, start = f"{draw(st.integers(1, 30))} {unit}s", draw(times), draw(zones), draw(dates)
    try:
        return Calendar(every, on=on, at=at, tz=tz, start=start)
    except InvalidArgument:  # There is no such day: a fifth Monday of each tenth February.
        return Calendar(every, on="last day", at=at, tz=tz, start=start)


def second_opinion(rule: Calendar) -> rruleset:
    """Return *rule* by RFC 5545, in naive time."""
    assert rule.start is not None
    days, found = rule.days, rruleset()
    common = {"dtstart": datetime.combine(rule.start, rule.at), "wkst": MO}
    if days.unit == "day":
        found.rrule(rrule(DAILY, interval=days.number, **common))
    elif days.unit == "week":
        weekdays = [SECOND_OPINION[each.kind] for each in days.on]
        found.rrule(rrule(WEEKLY, interval=days.number, byweekday=weekdays, **common))
    else:
        common["interval"] = days.number * (12 if days.unit == "year" else 1)
        for nth, kind in days.on:
            if kind == "day":
                found.rrule(rrule(MONTHLY, bymonthday=nth, **common))
            elif kind == "workday":
                found.rrule(rrule(MONTHLY, byweekday=(MO, TU, WE, TH, FR), bysetpos=nth, **common))
            else:
                found.rrule(rrule(MONTHLY, byweekday=SECOND_OPINION[kind](nth), **common))
    return found


@settings(max_examples=500)
@given(calendars(), st.integers(-400, 4_000), st.integers(0, 86_399))
@example(Calendar("2 weeks", on="mon, sun", at="14:00", start="2026-01-07"), 0, 0)  # That Monday is before the start.
@example(Calendar("year", at="14:00", start="2028-02-29"), 1, 0)
@example(Calendar("month", on="23rd workday, 5th fri", at="14:00", start="2028-02-29"), 1, 0)
def test_ticks_are_those_of_another_library(rule: Calendar, day: int, second: int) -> None:
    assert rule.start is not None
    moment = datetime.combine(rule.start, time(), UTC) + timedelta(days=day, seconds=second)
    other = second_opinion(rule)
    limit = moment.replace(tzinfo=None) + timedelta(days=366 * 60)
    ticks = [tick.replace(tzinfo=UTC) for tick in islice(other.xafter(moment.replace(tzinfo=None)), 6)]
    ticks = [tick for tick in ticks if tick.replace(tzinfo=None) < limit]
    last = other.before(moment.replace(tzinfo=None), inc=True)
    event(f"{rule.days.unit}, {len(ticks)} ticks")

    assert ticks == rule.upcoming(moment, 6)[: len(ticks)]
    assert (None if last is None else last.replace(tzinfo=UTC)) == rule.at_or_before(moment)
    assert rule.after(moment) == next(iter(rule.ticks(moment)), None)


@settings(max_examples=300)
@given(calendars(st.sampled_from(ODD_ZONES)), st.integers(0, 2_000), st.integers(0, 86_399))
def test_each_tick_stays_the_last_one_until_the_next(rule: Calendar, day: int, second: int) -> None:
    assert rule.start is not None
    moment = datetime.combine(rule.start, time(), UTC) + timedelta(days=day, seconds=second)
    ticks = rule.upcoming(moment, 8)

    assert ticks == sorted(set(ticks))
    assert {UTC} >= {tick.tzinfo for tick in ticks}
    for tick, following in pairwise(ticks):
        for asked in (tick, tick + (following - tick) / 3, following - US):
            assert tick == rule.at_or_before(asked)
            assert following == rule.after(asked)


@settings(max_examples=300)
@given(st.sampled_from(ODD_ZONES), st.integers(1973, 2040), times, st.data())
@example("Pacific/Apia", 2011, time(), None)
@example("Pacific/Apia", 2011, time(12), None)
@example("Africa/Monrovia", 1972, time(0, 30), None)
def test_every_day_is_what_cron_takes_for_a_time_of_day(
    zone: str, year: int, at: time, data: st.DataObject | None
) -> None:
    """Where the clocks change, too: the ticks in a gap, in a fold and on a day that does not exist."""
    at = at.replace(second=0)
    days = changes(zone, year) or [datetime(year, 1, 1, tzinfo=UTC)]
    day = data.draw(st.sampled_from(days)) if data is not None else days[-1]
    cron, rule = Cron(f"{at.minute} {at.hour} * * *", zone), Calendar("day", at=at, tz=zone)
    start = day - 3 * DAY

    assert cron.upcoming(start, 6) == rule.upcoming(start, 6)
    for tick in cron.upcoming(start, 6):
        for moment in (tick - US, tick, tick + US, tick + DAY / 2):
            assert cron.at_or_before(moment) == rule.at_or_before(moment)
            assert cron.after(moment) == rule.after(moment)


def local(rule: Calendar, moment: datetime, number: int) -> list[str]:
    zone = ZoneInfo(rule.tz)
    return [tick.astimezone(zone).isoformat(" ", "minutes") for tick in rule.upcoming(moment, number)]


def test_every_other_week_keeps_its_local_time_when_the_clocks_change() -> None:
    rule = Calendar("2 weeks", on="wed", at="14:00", tz="Europe/Berlin", start="2026-01-07")

    assert local(rule, datetime(2026, 3, 12, tzinfo=UTC), 3) == [
        "2026-03-18 14:00+01:00",
        "2026-04-01 14:00+02:00",
        "2026-04-15 14:00+02:00",
    ]
    assert rule.at_or_before(datetime(2026, 1, 7, 12, 59, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("rule", "ticks"),
    [
        (Calendar("month", on="3rd workday", at="09:00"), ["2026-07-03", "2026-08-05", "2026-09-03"]),
        (Calendar("month", on="last fri"), ["2026-07-31", "2026-08-28", "2026-09-25"]),
        (Calendar("month", on="2nd last workday"), ["2026-07-30", "2026-08-28", "2026-09-29"]),
        (Calendar("2 months", on="first mon", start="2026-02-10"), ["2026-08-03", "2026-10-05", "2026-12-07"]),
        (Calendar("month", on="31st"), ["2026-07-31", "2026-08-31", "2026-10-31"]),  # A short month is left out.
        (Calendar("3 months", on="last day", start="2026-01-31"), ["2026-07-31", "2026-10-31", "2027-01-31"]),
        (Calendar("year", on="last thu", start="2025-11-01"), ["2026-11-26", "2027-11-25", "2028-11-30"]),
        (Calendar("10 days", start="2026-06-25"), ["2026-07-05", "2026-07-15", "2026-07-25"]),
        (Calendar("week", on="mon-tue, FRIDAY"), ["2026-07-03", "2026-07-06", "2026-07-07"]),
    ],
)
def test_days_are_found_as_they_are_said(rule: Calendar, ticks: list[str]) -> None:
    assert ticks == [tick.date().isoformat() for tick in rule.upcoming(NOW, 3)]


def test_equal_rules_are_equal_and_say_what_they_do() -> None:
    rule = Calendar("2  Weeks", on="Wednesday,mon", at=time(14), tz="Europe/Berlin", start=date(2026, 1, 7))

    assert rule == Calendar("2 weeks", on="mon, wed", at="14:00", tz="Europe/Berlin", start="2026-01-07")
    assert hash(rule) == hash(Calendar("2 weeks", on="mon, wed", at="14:00", tz="Europe/Berlin", start="2026-01-07"))
    assert "every 2 weeks on mon, wed at 14:00 from 2026-01-07, Europe/Berlin" == str(rule)
    assert "every month on the 1st mon, last day at 00:00, UTC" == str(Calendar("month", on="last, first mon"))
    assert Calendar("1 month", on="second last day") == Calendar("month", on="2nd last")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"every": "2 hours"},
            "every must be days, weeks, months or years, such as '2 weeks'; for shorter periods write ",
        ),
        ({"every": 2}, "every must be days, weeks, months or years, such as '2 weeks'; for shorter periods write "),
        ({"every": "0 days"}, "every must be at least 1 and at most 1000 days, got '0 days'"),
        ({"every": "1001 weeks"}, "every must be at least 1 and at most 1000 weeks, got "),
        ({"every": "2 weeks", "on": "wed"}, "start must be a date in the first period, such as '2026-01-07', so that "),
        ({"every": "week"}, "start must be a date in the first period"),
        ({"every": "year", "on": "last fri"}, "start must be a date in the first period"),
        ({"every": "day", "start": NOW}, "start must be a date, such as '2026-01-07', got "),
        ({"every": "day", "start": "7 January"}, "start must be a date, such as '2026-01-07', got '7 January'"),
        ({"every": "day", "on": "wed"}, "on must be left out with days: name days of a week, as in every='week', got "),
        ({"every": "week", "on": "5"}, "on must be days of a week, such as 'wed', 'mon, thu' or 'mon-fri', got '5'"),
        ({"every": "week", "on": "fri-mon"}, "on must be days of a week, such as "),
        ({"every": "week", "on": "mon,"}, "on must be days of a week, such as "),
        ({"every": "month", "on": "fri"}, "on must be days of a month, such as '15th', 'last day', '2nd fri', "),
        ({"every": "month", "on": "6th fri"}, "on must be days of a month, such as "),
        ({"every": "month", "on": "0th day"}, "on must be days of a month, such as "),
        ({"every": "month", "on": ""}, "on must be days of a month, such as "),
        ({"every": "month", "on": ["15th"]}, "on must be text, such as 'wed' or '2nd fri', got "),
        (
            {"every": "year", "on": "30th day", "start": "2026-02-01"},
            "on must match at least one day, but none of the ",
        ),
        ({"every": "day", "at": "25:00"}, "at must be a local time of day, such as '14:00'; its zone is tz, got "),
        ({"every": "day", "at": time(14, tzinfo=UTC)}, "at must be a local time of day, such as '14:00'; its zone is "),
        ({"every": "day", "tz": "Berlin"}, "tz must be the key of an IANA time zone, such as "),
    ],
)
def test_a_wrong_rule_is_refused_with_the_way_out(given: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Calendar(**given)  # type: ignore[arg-type]

    assert str(refused.value).startswith(why)


def test_the_calendar_has_ends() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for zone in ("UTC", "America/New_York", "Pacific/Auckland"):
        for rule in (
            Calendar("day", tz=zone),
            Calendar("week", on="mon-sun", tz=zone),
            Calendar("month", on="1st", tz=zone),
        ):
            tick = rule.at_or_before(last)
            assert tick is not None
            assert rule.after(tick) is None
            assert rule.at_or_before(first) in (None, first)
            begin = rule.after(first)
            assert begin is not None
            assert begin < first + 33 * DAY
    with pytest.raises(InvalidArgument, match="must be an aware datetime"):
        Calendar("day").after(datetime(2026, 1, 1))  # noqa: DTZ001


def test_lint_tells_what_the_clocks_do_to_it() -> None:
    rule = Calendar("2 weeks", on="sun", at="02:30", tz="Europe/Berlin", start="2026-03-29")

    told = [f"{each.level} {each.text}" for each in findings(rule, datetime(2026, 3, 1, tzinfo=UTC), NOW)]
    gap = "02:30 does not exist in Europe/Berlin (clocks go from 02:00 to 03:00)"

    assert [f"NOTE 2026-03-29 {gap}: it runs at 03:00 CEST (01:00 UTC)"] == told
