"""Cron rules compared with a model that looks at the wall clock every minute, at clock changes in every zone."""

from __future__ import annotations

import random
import sys
import zoneinfo
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import hypothesis.strategies as st
import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import event, example, given, settings

from kaiju_app._core.clock import EPOCH
from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers import _cron_days
from kaiju_app.triggers._cron import Cron

pytestmark = pytest.mark.pure

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
ZONES = sorted(available_timezones())
ODD_ZONES = [
    "Australia/Lord_Howe",  # half an hour
    "Africa/Cairo", "Asia/Beirut", "America/Asuncion", "America/Havana",  # gaps at midnight
    "Europe/Dublin", "Africa/Casablanca",  # negative
    "Pacific/Apia", "Pacific/Kwajalein", "Asia/Manila",  # the date line
    "Antarctica/Troll", "America/Scoresbysund", "Asia/Pyongyang", "Europe/Berlin", "America/New_York",
]  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A rule as sets of numbers, and as an expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...] | None
    weekdays: tuple[int, ...] | None
    every_minute: bool
    every_hour: bool
    months: tuple[int, ...] | None = None
    last_day: bool = False
    """The last day of the month as well as the days, if there are any."""
    some_weekdays: tuple[tuple[int, int], ...] = ()
    """Weekdays that come only the so manyth time in a month, 0 for the last, as well as the weekdays."""
    stepped: str | None = None
    """The minutes, as a range with steps."""

    @property
    def text(self) -> str:
        def joined(numbers: tuple[int, ...] | None) -> str:
            return "*" if numbers is None else ",".join(map(str, numbers))

        minute = "*" if self.every_minute else self.stepped or joined(self.minutes)
        hour = "*" if self.every_hour else joined(self.hours)
        days = joined(self.days) + (",L" if self.last_day and self.days is not None else "")
        months = "*" if self.months is None else ",".join(MONTHS[each - 1] for each in self.months)
        weekdays = (
            "*"
            if self.weekdays is None
            else ",".join(
                [
                    *(WEEKDAYS[each] for each in self.weekdays),
                    *(f"{WEEKDAYS[each]}#{number}" if number else f"{each}L" for each, number in self.some_weekdays),
                ]
            )
        )
        return f"{minute} {hour} {days} {months} {weekdays}"

    def matches(self, local: datetime) -> bool:
        if not (self.every_minute or local.minute in self.minutes) or local.second:
            return False
        if not (self.every_hour or local.hour in self.hours):
            return False
        if self.months is not None and local.month not in self.months:
            return False
        is_last = (local + DAY).month != local.month
        day = self.days is not None and (local.day in self.days or (self.last_day and is_last))
        weekday = self.weekdays is not None and (
            local.isoweekday() % 7 in self.weekdays
            or (local.isoweekday() % 7, (local.day + 6) // 7) in self.some_weekdays
            or ((local.isoweekday() % 7, 0) in self.some_weekdays and (local + 7 * DAY).month != local.month)
        )
        if self.days is None and self.weekdays is None:
            return True
        return day or weekday  # With a star on one side only the other counts; without a star either matches.

    @property
    def fixed(self) -> bool:
        return not (self.every_minute or self.every_hour)


def numbers(low: int, high: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(low, high), min_size=1, max_size=most, unique=True).map(
        lambda each: tuple(sorted(each))
    )


RULES = st.builds(
    Rule,
    numbers(0, 59, 4) | st.just((0,)) | st.just((0, 30)),
    numbers(0, 4, 3) | numbers(0, 23, 4) | st.just((0,)),  # Mostly at night, when clocks change.
    st.none() | numbers(1, 28, 10),
    st.none() | numbers(0, 6, 4),
    st.integers(0, 5).map(lambda each: each == 0),
    st.booleans(),
)


@lru_cache(maxsize=64)
def changes(zone: str, year: int) -> list[datetime]:
    """Return the days of *year* on which the clocks of *zone* change."""
    info = ZoneInfo(zone)
    days = [datetime(year, 1, 1, tzinfo=UTC) + DAY * number for number in range(366)]
    return [day for day in days if day.astimezone(info).utcoffset() != (day + DAY).astimezone(info).utcoffset()]


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """Draw a zone, and a day on which its clocks change if there is one in that year."""
    zone = draw(st.sampled_from(ODD_ZONES) | st.sampled_from(ZONES))
    year = draw(st.integers(1972, 2100))
    days = changes(zone, year)
    if days:
        return zone, draw(st.sampled_from(days))
    return zone, datetime(year, 1, 1, tzinfo=UTC) + DAY * draw(st.integers(0, 360))


def looked_at(rule: Rule, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the ticks from *start* to *end* found by looking at the wall clock every minute."""
    info = ZoneInfo(zone)
    ticks = []
    moment = start
    before = moment.astimezone(info).replace(tzinfo=None)
    while moment < end:
        moment += MINUTE
        local = moment.astimezone(info)
        now = local.replace(tzinfo=None, fold=0)
        passed_over = [before + MINUTE * number for number in range(1, int((now - before) / MINUTE))]
        if rule.fixed:
            due = any(map(rule.matches, passed_over)) or (rule.matches(now) and local.fold == 0)
        else:
            due = rule.matches(now)
        if due:
            ticks.append(moment)
        before = now
    return ticks


def walked(rule: Cron, start: datetime, end: datetime) -> list[datetime]:
    """Return the ticks from *start* to *end* found with ``after()``."""
    ticks = []
    tick = rule.after(start)
    while tick is not None and tick <= end:
        ticks.append(tick)
        following = rule.after(tick)
        assert following is None or following > tick
        tick = following
    return ticks


@pytest.mark.timeout(240)
@settings(max_examples=250)
@given(where=moments(), rule=RULES, seconds=st.lists(st.integers(0, 3 * 86_400), max_size=20))
@example(("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC)), Rule((30,), (10,), None, None, False, False), [0])
@example(("America/Asuncion", datetime(2023, 10, 1, tzinfo=UTC)), Rule((0,), (0,), None, None, False, False), [0])
@example(("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)), Rule((45,), (1,), None, None, False, False), [0])
@example(("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC)), Rule((30,), (2,), None, None, False, False), [90_000])
@example(("Africa/Cairo", datetime(2026, 4, 23, tzinfo=UTC)), Rule((30,), (0,), None, None, False, False), [90_000])
@example(("Africa/Cairo", datetime(2026, 10, 29, tzinfo=UTC)), Rule((30,), (23,), None, None, True, False), [75_000])
@example(("Europe/Dublin", datetime(2026, 3, 28, tzinfo=UTC)), Rule((30,), (1,), None, None, False, False), [90_000])
@example(("Europe/Dublin", datetime(2026, 10, 24, tzinfo=UTC)), Rule((30,), (1,), None, None, False, True), [90_000])
@example(("Africa/Casablanca", datetime(2026, 2, 14, tzinfo=UTC)), Rule((30,), (2,), None, None, False, False), [9])
@example(("Africa/Casablanca", datetime(2026, 3, 21, tzinfo=UTC)), Rule((30,), (2,), None, None, False, False), [9])
@example(("Antarctica/Troll", datetime(2026, 3, 28, tzinfo=UTC)), Rule((30,), (1, 2), None, None, False, False), [9])
@example(("Antarctica/Troll", datetime(2026, 10, 24, tzinfo=UTC)), Rule((30,), (1, 2), None, None, False, True), [9])
@example(("America/St_Johns", datetime(2010, 3, 13, tzinfo=UTC)), Rule((30,), (0,), None, None, False, False), [9])
@example(("America/St_Johns", datetime(2010, 11, 6, tzinfo=UTC)), Rule((1,), (0,), None, None, False, True), [9])
@example(("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)), Rule((15,), (2,), None, None, False, False), [9])
def test_a_rule_agrees_with_whoever_looks_at_the_clock(
    where: tuple[str, datetime], rule: Rule, seconds: list[int]
) -> None:
    zone, day = where
    start, end = day - DAY, day + 2 * DAY
    if any((start + DAY * number).astimezone(ZoneInfo(zone)).utcoffset() % MINUTE for number in range(4)):
        return  # Before 1972 its offset was no whole number of minutes.
    cron = Cron(rule.text, zone)
    ticks = looked_at(rule, zone, start, end)
    event(f"fixed: {rule.fixed}, ticks: {bool(ticks)}")

    assert cron.fixed == rule.fixed
    assert walked(cron, start, end) == ticks
    for moment in [start, *(start + timedelta(seconds=second) for second in seconds[:2])]:
        later = ticks[bisect_right(ticks, moment) :]
        assert later == list(takewhile(lambda tick: tick <= end, cron.ticks(moment)))
    for tick, following in pairwise(ticks):
        for moment in (tick, tick + timedelta(microseconds=1), following - timedelta(microseconds=1)):
            assert cron.at_or_before(moment) == tick
    for second in seconds:
        moment = start + timedelta(seconds=second, microseconds=7)
        place = bisect_right(ticks, moment)
        if place:
            assert cron.at_or_before(moment) == ticks[place - 1]
        if place < len(ticks):
            assert cron.after(moment) == ticks[place]


@dataclass(frozen=True)
class Minute:
    """A minute of the wall clock, and the minutes that the clock skipped just before it."""

    moment: datetime
    local: datetime
    second_time: bool
    passed_over: tuple[datetime, ...]

    def is_tick_of(self, rule: Rule) -> bool:
        if rule.fixed:
            return any(map(rule.matches, self.passed_over)) or (rule.matches(self.local) and not self.second_time)
        return rule.matches(self.local)


def minutes(zone: str, start: datetime, days: int) -> list[Minute]:
    info = ZoneInfo(zone)
    found = []
    before = start.astimezone(info).replace(tzinfo=None)
    for number in range(1, days * 1440):
        moment = start + MINUTE * number
        local = moment.astimezone(info)
        now = local.replace(tzinfo=None, fold=0)
        passed_over = tuple(before + MINUTE * number for number in range(1, int((now - before) / MINUTE)))
        found.append(Minute(moment, now, bool(local.fold), passed_over))
        before = now
    return found


def a_rule(draw: random.Random, month: int) -> Rule:
    """Draw a rule that includes *month*."""

    def some(low: int, high: int, most: int) -> tuple[int, ...]:
        return tuple(sorted(draw.sample(range(low, high + 1), draw.randint(1, most))))

    first, step = draw.randrange(30), draw.randint(1, 15)
    stepped = f"{first}-59/{step}" if draw.random() < 0.3 else None
    return Rule(
        minutes=some(0, 59, 4) if stepped is None else tuple(range(first, 60, step)),
        hours=some(0, 4, 3) if draw.random() < 0.7 else some(0, 23, 4),
        days=None if draw.random() < 0.6 else some(1, 28, 10),
        weekdays=None if draw.random() < 0.6 else some(0, 6, 4),
        every_minute=draw.random() < 0.2,
        every_hour=draw.random() < 0.5,
        months=None if draw.random() < 0.7 else tuple(sorted({month, *some(1, 12, 8)})),
        last_day=draw.random() < 0.3,
        some_weekdays=tuple((draw.randrange(7), draw.randrange(6)) for _ in range(draw.choice([0, 0, 1, 2]))),
        stepped=stepped,
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_in_every_zone_twelve_thousand_rules_agree_with_a_look_at_every_minute() -> None:
    """The next and the previous tick from any instant near a clock change, if the zone has one that year."""
    draw = random.Random(2)
    seen = {"next": 0, "last": 0, "changes": 0}
    for zone in ZONES:
        eras = [(1973, 2100), (2011, 2100), (1991, 2010), (1973, 1990), (1973, 1990)]  # Evenly, where that has changes.
        years = (draw.randint(*ends) for ends in eras)
        days = next(filter(None, (changes(zone, year) for year in years)), None)
        seen["changes"] += bool(days)
        middle = draw.choice(days) if days else datetime(2050, 1, 1, tzinfo=UTC) + DAY * draw.randrange(365)
        clock = minutes(zone, middle - DAY, 3)
        for _ in range(-(-12_000 // len(ZONES))):
            rule = a_rule(draw, middle.month)
            cron = Cron(rule.text, zone)
            place = draw.randrange(720, 2_880)
            moment = clock[place].moment + timedelta(seconds=draw.choice([0, 0, 0.000001, 59.999999]))
            told, last = cron.after(moment), cron.at_or_before(moment)
            coming = next((each.moment for each in clock[place + 1 :] if each.is_tick_of(rule)), None)
            gone = next((each.moment for each in reversed(clock[: place + 1]) if each.is_tick_of(rule)), None)
            seen["next"] += coming is not None
            seen["last"] += gone is not None

            assert told is not None
            assert last is not None
            assert told == coming or (coming is None and told > clock[-1].moment), (zone, rule.text, moment)
            assert last == gone or (gone is None and last < clock[0].moment), (zone, rule.text, moment)
    assert min(seen["next"], seen["last"]) > 8_000, "the days that were looked at have ticks"
    assert seen["changes"] > 300, "and changes of the clocks"


@pytest.mark.slow
def test_in_every_zone_ticks_grow_and_each_stays_the_last_one_until_the_next() -> None:
    """From 1970 to 2100, including offsets with seconds and both passes of a fold."""
    draw = random.Random(3)
    for zone in ZONES:
        for year in (draw.randint(1970, 2000), draw.randint(2001, 2100)):
            for day in changes(zone, year) or [datetime(year, 6, 1, tzinfo=UTC)]:
                cron = Cron(a_rule(draw, day.month).text, zone)
                ticks = list(takewhile(lambda tick, end=day + 2 * DAY: tick < end, cron.ticks(day - DAY / 2)))
                for tick, following in draw.sample(list(pairwise(ticks)), min(10, max(0, len(ticks) - 1))):
                    spread = (following - tick) * draw.random()
                    for moment in (tick, tick + spread, following - timedelta(microseconds=1)):
                        assert cron.at_or_before(moment) == tick, (cron, moment)
                        assert cron.after(moment) == following, (cron, moment)


def a_field(draw: random.Random, low: int, high: int) -> str:
    kind = draw.random()
    if kind < 0.3:
        return "*"
    if kind < 0.4:
        return f"*/{draw.randint(2, max(2, (high - low) // 2))}"
    if kind < 0.6:
        first = draw.randint(low, high - 1)  # No range of one number: croniter treats it as all numbers.
        steps = "" if draw.random() < 0.7 else f"/{draw.randint(1, 5)}"
        return f"{first}-{draw.randint(first + 1, high)}{steps}"
    return ",".join(map(str, sorted(draw.sample(range(low, high + 1), draw.randint(1, 3)))))


def test_ten_thousand_rules_agree_with_another_library() -> None:
    """In UTC, where only the calendar matters. The other library is configured for Debian's meaning of days."""
    draw = random.Random(1)
    span = int((datetime(2100, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())
    for _ in range(10_000):
        expression = " ".join(a_field(draw, *ends) for ends in [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)])
        moment = EPOCH + timedelta(seconds=draw.randrange(span))
        if draw.random() < 0.3:
            expression = f"{a_field(draw, 0, 59)} {a_field(draw, 0, 23)} L {draw.choice(MONTHS)} *"
        elif draw.random() < 0.3:
            which = f"{draw.choice(WEEKDAYS)}#{draw.randint(1, 5)}"
            expression = f"{a_field(draw, 0, 59)} {a_field(draw, 0, 23)} * {','.join(draw.sample(MONTHS, 5))} {which}"
        _, _, day, _, weekday = expression.split()
        either = not (day.startswith("*") or weekday.startswith("*"))
        second_opinion = croniter(expression, moment, ret_type=datetime, day_or=either)

        assert Cron(expression).after(moment) == second_opinion.get_next(), (expression, moment)


def test_in_any_zone_rules_agree_with_another_library_but_for_a_few_hours_around_a_change_of_the_clocks() -> None:
    """There the other library runs ``*`` ticks of a gap at its end, and fixed times in a fold twice."""
    draw = random.Random(2)
    near = differing = 0
    for _ in range(4_000):
        expression, zone = f"{a_field(draw, 0, 59)} {a_field(draw, 0, 4)} * * *", draw.choice(ZONES)
        year = draw.randint(1970, 2099)
        days = changes(zone, year) or [datetime(year, 1, 1, tzinfo=UTC) + DAY * draw.randrange(365)]
        moment = draw.choice(days) + timedelta(seconds=draw.randint(-3 * 3_600, 24 * 3_600))
        other = croniter(expression, moment.astimezone(ZoneInfo(zone)), ret_type=datetime)
        ours, theirs = Cron(expression, zone).after(moment), other.get_next().astimezone(UTC)

        assert ours is not None
        around = (min(ours, theirs) + timedelta(hours=by) for by in range(-3, 4))
        is_near = len({each.astimezone(ZoneInfo(zone)).utcoffset() for each in around}) > 1
        assert ours == theirs or is_near, (zone, expression, moment, ours, theirs)
        near += is_near
        differing += ours != theirs
    assert near > 500
    assert 0 < differing < near / 10


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("61 * * * *", "invalid minute, '61'"),
        ("* 24 * * *", "invalid hour, '24'"),
        ("0 0 32 * *", "invalid day-of-month, '32'"),
        ("0 0 * 13 *", "invalid month, '13'"),
        ("0 0 * * mon#6", "invalid day-of-week, 'mon#6'"),
        ("61 * * * * *", "invalid second, '61'"),
        ("*/0 * * * *", r"invalid minute, '\*/0'"),
        ("5-1 * * * *", "invalid minute, '5-1'"),
        ("0 0 L/2 * *", "invalid day-of-month, 'L/2'"),
        ("0 0 1,lw/3 * *", "invalid day-of-month, '1,LW/3'"),
        ("* * * *", "must have 5 fields, .* has 4"),
        ("", "must have 5 fields, .* has 0"),
        ("0 0 30 2 *", "must match at least one day"),
        ("0 0 31 4,6 *", "must match at least one day"),
        (None, "must be a string"),
        (5, "must be a string"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_offending_part(expression: object, part: str) -> None:
    with pytest.raises(InvalidArgument, match=part):
        Cron(expression)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("0 0 * * fri-sun", "'fri-sun'"),
        ("0 0 * * sat-mon", "'sat-mon'"),
        ("0 22-6 * * *", "'22-6'"),
        ("0 0 * nov-feb *", "'nov-feb'"),
        ("50-10/5 * * * *", "'50-10/5'"),
    ],
)
def test_a_range_that_goes_over_the_end_of_its_field_is_refused_with_the_way_out(expression: str, part: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"{part}.*; a range must not wrap around: write 5-7 for fri-sun, "):
        Cron(expression)


def test_without_data_of_time_zones_utc_is_known_and_any_other_zone_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("tzdata", *(each for each in sys.modules if each.startswith("tzdata."))):
        monkeypatch.setitem(sys.modules, module, None)
    zoneinfo.reset_tzpath([])
    ZoneInfo.clear_cache()
    try:
        rule = Cron("0 6 * * *")
        with pytest.raises(InvalidArgument, match="this machine has no time zone data: install the package tzdata"):
            Cron("0 6 * * *", "Europe/Berlin")
        assert rule.after(EPOCH) == EPOCH + timedelta(hours=6)
    finally:
        zoneinfo.reset_tzpath()
        ZoneInfo.clear_cache()
    assert (rule, rule.tz, rule.zone.key) == (Cron("0 6 * * *"), "UTC", "UTC")


@pytest.mark.parametrize("tz", ["Europe/Nowhere", "Europe", "", "../etc/passwd", "/etc/localtime", None, UTC, 5])
def test_a_zone_that_is_not_known_is_refused(tz: object) -> None:
    with pytest.raises(InvalidArgument, match="tz must be the key of an IANA time zone"):
        Cron("* * * * *", tz)  # type: ignore[arg-type]


def test_a_naive_moment_is_refused() -> None:
    rule = Cron("* * * * *")
    for ask in (rule.after, rule.at_or_before, rule.ticks, rule.stretch):
        with pytest.raises(InvalidArgument, match="must be an aware datetime"):
            ask(datetime(2026, 1, 1))  # noqa: DTZ001


def test_equal_rules_are_equal_and_say_what_they_do() -> None:
    rule = Cron("0  6 * * mon-fri", "Europe/Berlin")

    assert rule == Cron("0 6 * * mon-fri", ZoneInfo("Europe/Berlin"))  # type: ignore[arg-type]
    assert hash(rule) == hash(Cron("0 6 * * mon-fri", "Europe/Berlin"))
    assert rule != Cron("0 6 * * mon-fri")
    assert rule == Cron("0 6 * * MON-Fri", "Europe/Berlin")
    assert (
        Cron("0 0 LW jan 5L").json_repr()
        == Cron("0 0 lw JAN 5l").json_repr()
        == {
            "cron": "0 0 LW jan 5L",
            "tz": "UTC",
        }
    )
    assert str(rule) == "At 06:00 on Monday through Friday, Europe/Berlin (0 6 * * mon-fri)"


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 L * *", ["2028-01-31", "2028-02-29", "2028-03-31"]),
        ("0 0 LW * *", ["2028-01-31", "2028-02-29", "2028-03-31"]),
        ("0 0 * * 5L", ["2028-01-28", "2028-02-25", "2028-03-31"]),
        ("0 0 * * mon#2", ["2028-01-10", "2028-02-14", "2028-03-13"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 13 * fri", ["2028-01-07", "2028-01-13", "2028-01-14"]),  # Either: Debian's rule without a star.
        ("0 0 */31 * fri", ["2028-09-01", "2028-12-01", "2029-06-01"]),  # Both: one of them begins with a star.
    ],
)
def test_days_are_found_as_crontabs_say_them(expression: str, days: list[str]) -> None:
    rule = Cron(expression)
    found = walked(rule, datetime(2028, 1, 1, tzinfo=UTC), datetime(2036, 12, 31, tzinfo=UTC))

    assert [each.date().isoformat() for each in found[:3]] == days


def test_six_fields_begin_with_the_second_and_follow_the_clock() -> None:
    rule = Cron("*/20 30 2 * * *", "Europe/Berlin")
    fold = walked(rule, datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 10, 25, 12, tzinfo=UTC))
    gap = walked(rule, datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 29, 12, tzinfo=UTC))

    assert [each.isoformat()[11:19] for each in fold] == [
        *("00:30:00", "00:30:20", "00:30:40"),
        *("01:30:00", "01:30:20", "01:30:40"),
    ]
    assert gap == []


def test_at_the_ends_of_the_calendar_there_is_no_tick() -> None:
    rule = Cron("0 0 1 1 *", "America/New_York")

    assert rule.after(datetime(9999, 6, 1, tzinfo=UTC)) is None
    assert 1 == len(list(rule.ticks(datetime(9998, 6, 1, tzinfo=UTC))))
    assert rule.at_or_before(datetime(1, 1, 1, tzinfo=UTC)) is None


def counted(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return a list that collects each calendar tick that is looked at."""
    looked_at: list[datetime] = []

    class Counted(CronSim):
        def __next__(self) -> datetime:
            looked_at.append(super().__next__())
            return looked_at[-1]

    monkeypatch.setattr(_cron_days, "CronSim", Counted)
    return looked_at


@pytest.mark.parametrize("expression", ["* * * * * *", "*/20 * * * * *", "* * * * *", "0-59 0-23 * * *"])
@pytest.mark.parametrize("minute", range(-90, 180, 5))
def test_a_question_in_a_fold_is_answered_from_a_handful_of_ticks(
    monkeypatch: pytest.MonkeyPatch, expression: str, minute: int
) -> None:
    """An hour that comes twice has thousands of ticks at every second."""
    rule = Cron(expression, "Europe/Berlin")
    moment = datetime(2026, 10, 25, 1, tzinfo=UTC) + timedelta(minutes=minute, microseconds=5)
    for ask in (rule.after, rule.at_or_before, lambda moment: list(islice(rule.ticks(moment), 9))):
        looked_at = counted(monkeypatch)
        ask(moment)
        assert len(looked_at) <= 12


def test_at_the_end_of_the_calendar_a_tick_is_the_last_one_for_good() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    for expression, zone in (("* * * * * *", "UTC"), ("59 23 * * *", "UTC"), ("* * * * *", "America/New_York")):
        rule = Cron(expression, zone)
        last = rule.at_or_before(end)

        assert last is not None
        assert end.replace(second=0, microsecond=0) <= last
        assert rule.after(last) is None
        stretch = rule.stretch(end)
        assert stretch is None or stretch[0] <= last < stretch[1] <= end


# --- one walk ---

SIX_FIELDS = st.builds(
    lambda seconds, rule: f"{','.join(map(str, seconds))} {rule.text}", numbers(0, 59, 3), RULES
) | st.just("*/20 * * * * *")


@settings(max_examples=60)
@given(where=moments(), expression=SIX_FIELDS, second=st.integers(0, 2 * 86_400))
@example(("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC)), "*/20 * * * * *", 0)
@example(("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)), "*/20 */30 1 * * *", 0)
@example(("America/Havana", datetime(2026, 11, 1, tzinfo=UTC)), "59 59 0 * * *", 0)
def test_one_walk_yields_what_asking_for_one_tick_after_the_other_does(
    where: tuple[str, datetime], expression: str, second: int
) -> None:
    zone, day = where
    cron = Cron(expression, zone)
    start = day - DAY / 2 + timedelta(seconds=second, microseconds=3)
    asked: list[datetime] = []
    moment = start
    while len(asked) < 400 and (tick := cron.after(moment)) is not None:
        asked.append(tick)
        moment = tick

    assert asked == list(islice(cron.ticks(start), 400))
    assert all(first < second for first, second in pairwise(asked))
    assert {UTC} == {tick.tzinfo for tick in asked}


@settings(max_examples=100)
@given(where=moments(), rule=RULES, minutes=st.integers(0, 3 * 1440), length=st.integers(0, 3 * 1440))
def test_local_ticks_are_those_of_the_calendar_alone(
    where: tuple[str, datetime], rule: Rule, minutes: int, length: int
) -> None:
    zone, day = where
    start = day.replace(tzinfo=None) + MINUTE * minutes
    every = [start + MINUTE * number for number in range(length)]

    assert list(filter(rule.matches, every)) == list(Cron(rule.text, zone).local_ticks(start, start + MINUTE * length))


def test_local_ticks_begin_with_the_start_and_end_before_the_end() -> None:
    rule = Cron("30 2 * * *", "Europe/Berlin")
    night = datetime(2026, 3, 29, 2, 30)  # noqa: DTZ001  # In the gap.

    assert [night] == list(rule.local_ticks(night, night + DAY))
    assert [night + DAY] == list(rule.local_ticks(night + timedelta(microseconds=1), night + DAY + MINUTE))
    assert [] == list(rule.local_ticks(night + MINUTE, night))
    with pytest.raises(InvalidArgument, match="start must be a naive local datetime"):
        rule.local_ticks(datetime(2026, 3, 29, tzinfo=UTC), night)


def test_what_comes_twice_comes_twice_in_the_last_year_of_the_calendar_too() -> None:
    rule = Cron("*/30 2 31 10 *", "Europe/Berlin")

    found = list(rule.ticks(datetime(9999, 1, 1, tzinfo=UTC)))

    assert ["00:00", "00:30", "01:00", "01:30"] == [tick.isoformat()[11:16] for tick in found]


# --- what a rule covers ---


@settings(max_examples=150)
@given(where=moments(), rule=RULES, us=st.integers(0, 3 * 86_400 * 1_000_000), six=st.booleans())
@example(
    ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC)),
    Rule((0,), (0,), None, None, True, True),
    93_000_000_000,
    False,
)
@example(
    ("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC)), Rule((0,), (0,), None, None, True, True), 93_000_000_000, True
)
def test_a_stretch_is_covered_from_its_begin_to_its_end(
    where: tuple[str, datetime], rule: Rule, us: int, six: bool
) -> None:
    zone, day = where
    cron = Cron(f"* {rule.text}" if six else rule.text, zone)
    moment = day - DAY + timedelta(microseconds=us)

    def matches(instant: datetime) -> bool:
        return rule.matches(instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, second=0, microsecond=0))

    stretch = cron.stretch(moment)
    event(f"length: {stretch and stretch[1] - stretch[0]}")

    assert matches(moment) == (stretch is not None)
    if stretch is not None:
        start, end = stretch
        assert start <= moment < end <= start + DAY
        inside = [start + MINUTE * number for number in range((end - start) // MINUTE)]
        assert all(map(matches, [*inside, end - timedelta(microseconds=1)]))


@pytest.mark.parametrize(
    ("expression", "moment", "start", "end"),
    [
        ("* * 25,26 12 *", "2026-12-25T10:20:30.5+01:00", "2026-12-25T00:00+01:00", "2026-12-26T00:00+01:00"),
        ("* 22,23 * * *", "2026-12-25T22:20:30.5+01:00", "2026-12-25T22:00+01:00", "2026-12-25T23:00+01:00"),
        ("20 22 * * *", "2026-12-25T22:20:30.5+01:00", "2026-12-25T22:20+01:00", "2026-12-25T22:21+01:00"),
        ("* 20 22 * * *", "2026-12-25T22:20:30.5+01:00", "2026-12-25T22:20+01:00", "2026-12-25T22:21+01:00"),
        ("30 20 22 * * *", "2026-12-25T22:20:30.5+01:00", "2026-12-25T22:20:30+01:00", "2026-12-25T22:20:31+01:00"),
        ("30 * * * * *", "2026-12-25T22:20:30.5+01:00", "2026-12-25T22:20:30+01:00", "2026-12-25T22:20:31+01:00"),
        ("* * 22 * * *", "2026-12-25T22:20:30.5+01:00", "2026-12-25T22:00+01:00", "2026-12-25T23:00+01:00"),
        # Days on which daylight saving begins and ends: only the hour is certain, or only the minute.
        ("* * * * *", "2026-03-29T10:20:30.5+02:00", "2026-03-29T10:00+02:00", "2026-03-29T11:00+02:00"),
        ("* * * * *", "2026-10-25T02:20:30.5+01:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"),
        ("30 2 * * *", "2026-10-25T02:30:30.5+01:00", "2026-10-25T02:30+01:00", "2026-10-25T02:31+01:00"),
    ],
)
def test_a_stretch_is_as_long_as_the_fields_allow(expression: str, moment: str, start: str, end: str) -> None:
    found = Cron(expression, "Europe/Berlin").stretch(datetime.fromisoformat(moment))

    assert (datetime.fromisoformat(start), datetime.fromisoformat(end)) == found


@pytest.mark.parametrize(
    ("expression", "moment"),
    [
        ("* * 25,26 12 *", "2026-12-24T23:30:00+00:00"),  # Half past midnight in Berlin.
        ("* * 25,26 12 *", "2026-12-26T22:30:00+00:00"),
        ("30 2 * * *", "2026-10-25T00:30:00+00:00"),  # Both passes of the fold: Debian's rule does not apply.
        ("30 2 * * *", "2026-10-25T01:30:00+00:00"),
    ],
)
def test_what_is_covered_is_local_time_and_nothing_else(expression: str, moment: str) -> None:
    assert Cron(expression, "Europe/Berlin").stretch(datetime.fromisoformat(moment)) is not None


@pytest.mark.parametrize(
    ("expression", "moment"),
    [
        ("30 2 * * *", "2026-03-29T01:00:00.000001+00:00"),  # In the gap; its ticks come after it, one by one.
        ("*/30 2 * * *", "2026-03-29T01:00:00+00:00"),
        ("30 2 * * *", "2026-03-29T01:30:00+00:00"),
        ("* * 25,26 12 *", "2026-11-25T12:00:00+00:00"),
        ("* * 25,26 12 *", "2026-12-24T22:59:59+00:00"),
        ("30 * * * * *", "2026-12-25T12:00:31+00:00"),
    ],
)
def test_any_other_time_is_not_covered(expression: str, moment: str) -> None:
    assert Cron(expression, "Europe/Berlin").stretch(datetime.fromisoformat(moment)) is None


@settings(max_examples=100)
@given(where=moments(), rule=RULES)
@example(("Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC)), Rule((30,), (2,), None, None, False, False))
@example(("Africa/Monrovia", datetime(1972, 1, 6, tzinfo=UTC)), Rule((30,), (0,), None, None, False, False))
def test_a_rule_covers_all_its_ticks_those_too_that_a_gap_moves(where: tuple[str, datetime], rule: Rule) -> None:
    zone, day = where
    cron = Cron(rule.text, zone)

    for tick in walked(cron, day - DAY, day + 2 * DAY):
        stretch = cron.stretch(tick)
        assert stretch is not None
        assert stretch[0] <= tick < stretch[1]


def test_a_change_of_the_clocks_within_a_minute_leaves_the_second() -> None:
    """At 7:00 UTC Mexico's clocks went from 0:23:24 to 0:00."""
    moment = datetime(1922, 1, 1, 6, 59, 50, 7, tzinfo=UTC)
    start = moment.replace(microsecond=0)

    assert (start, start + timedelta(seconds=1)) == Cron("* * * * *", "America/Mexico_City").stretch(moment)
    assert Cron("24 0 * * *", "America/Mexico_City").stretch(moment) is None


@given(rule=RULES)
def test_a_rule_is_told_in_one_line_and_as_json(rule: Rule) -> None:
    cron = Cron(rule.text, "Europe/Berlin")

    assert 1 == len(str(cron).splitlines())
    assert {"cron": rule.text, "tz": "Europe/Berlin"} == cron.json_repr()


def test_a_gap_that_ends_within_a_minute_loses_no_tick() -> None:
    """Liberia went from 23:59:59 to 00:44:30, so the first full minute after the gap is 00:45."""
    rule = Cron("30 0 * * *", "Africa/Monrovia")
    gap_ends = datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)
    tick = datetime(1972, 1, 7, 0, 45, tzinfo=UTC)

    for second in range(-1, 30):
        moment = gap_ends + timedelta(seconds=second)
        assert rule.after(moment) == next(rule.ticks(moment)) == tick
    assert rule.after(tick) == datetime(1972, 1, 8, 0, 30, tzinfo=UTC)
    for moment in (tick, tick + DAY - timedelta(minutes=16)):
        assert rule.at_or_before(moment) == tick
