"""Triggers: each yields due times as a pure function of an instant."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._at import At
from kaiju_app.triggers._base import Trigger
from kaiju_app.triggers._every import Every
from kaiju_app.triggers._foreign import as_base_trigger
from kaiju_app.triggers._lint import never

pytestmark = pytest.mark.pure

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2027, 1, 15, 12, 0, 0, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
US = timedelta(microseconds=1)

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(NAIVE.replace(year=1200), NAIVE.replace(year=2800), timezones=zones)
gaps = st.integers(1_000, 100 * 366 * 86_400 * 1_000_000).map(lambda us: timedelta(microseconds=us))
rules = st.builds(Every, gaps, st.none() | moments)


class Noon:
    """A user's own trigger: every day at noon, at UTC-5."""

    zone = timezone(timedelta(hours=-5))

    def after(self, moment: datetime, /) -> datetime:
        noon = self.at_or_before(moment)
        return noon + timedelta(days=1)

    def at_or_before(self, moment: datetime, /) -> datetime:
        local = moment.astimezone(self.zone)
        noon = local.replace(hour=12, minute=0, second=0, microsecond=0)
        return noon if noon <= local else noon - timedelta(days=1)


class Walker(Noon):
    """A trigger with a method ``ticks()``."""

    def ticks(self, after: datetime) -> Iterator[datetime]:
        yield self.after(after)


class Listed(Noon):
    """A trigger that uses the name ``ticks`` for something else."""

    ticks = (NOON,)


class Winter(tzinfo):
    """A zone in which the hour from 2:00 to 3:00 on 2027-10-31 comes twice."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        if moment is None:
            return timedelta(hours=1)
        two = NAIVE.replace(month=10, day=31, hour=2)
        naive = moment.replace(tzinfo=None)
        again = naive >= two and moment.fold
        return timedelta(hours=1 if again or naive >= two.replace(hour=3) else 2)

    def dst(self, moment: datetime | None) -> timedelta:
        return self.utcoffset(moment) - timedelta(hours=1)


# --- the grid ---


def test_the_grid_is_counted_from_the_unix_epoch() -> None:
    rule = Every(3600 * 24)

    assert rule.after(NOON) == datetime(2027, 1, 16, tzinfo=UTC)
    assert rule.at_or_before(NOON) == datetime(2027, 1, 15, tzinfo=UTC)


def test_after_a_tick_comes_the_next_one() -> None:
    assert Every(60).after(NOON) == NOON + timedelta(seconds=60)


def test_a_tick_is_at_or_before_itself() -> None:
    assert Every(60).at_or_before(NOON) == NOON


def test_a_microsecond_before_a_tick_the_tick_itself_is_next() -> None:
    assert Every(60).after(NOON - US) == NOON
    assert Every(60).at_or_before(NOON - US) == NOON - timedelta(seconds=60)


def test_an_anchor_is_a_tick_of_the_grid() -> None:
    rule = Every(60, anchor=NOON + timedelta(seconds=7))

    assert rule.at_or_before(NOON) == NOON - timedelta(seconds=53)
    assert rule.after(NOON) == NOON + timedelta(seconds=7)
    assert rule.after(NOON + timedelta(seconds=7)) == NOON + timedelta(seconds=67)


def test_an_anchor_in_the_future_carries_the_grid_backwards() -> None:
    rule = Every(60, anchor=NOON + timedelta(days=1000, seconds=7))

    assert rule.after(NOON) == NOON + timedelta(seconds=7)


def test_the_grid_goes_on_before_the_epoch() -> None:
    rule = Every(60)

    assert rule.after(EPOCH - timedelta(seconds=61)) == EPOCH - timedelta(seconds=60)
    assert rule.at_or_before(EPOCH - timedelta(seconds=1)) == EPOCH - timedelta(seconds=60)


def test_ticks_are_utc_whatever_zone_is_asked_in() -> None:
    berlin = timezone(timedelta(hours=1))

    tick = Every(3600).after(datetime(2027, 1, 15, 13, 30, tzinfo=berlin))

    assert tick == datetime(2027, 1, 15, 13, tzinfo=UTC)
    assert tick.tzinfo is UTC


def test_the_hour_that_comes_twice_is_two_hours_long() -> None:
    half_past_two = datetime(2027, 10, 31, 2, 30, tzinfo=Winter())
    rule = Every(3600)

    assert rule.after(half_past_two) == datetime(2027, 10, 31, 1, tzinfo=UTC)
    assert rule.after(half_past_two.replace(fold=1)) == datetime(2027, 10, 31, 2, tzinfo=UTC)


def test_rules_anchored_in_the_hour_that_comes_twice_are_an_hour_apart_and_not_equal() -> None:
    anchor = datetime(2027, 10, 31, 2, 30, tzinfo=Winter())
    first, second = Every(86_400, anchor), Every(86_400, anchor.replace(fold=1))

    assert first.after(NOON) == NOON.replace(day=16, hour=0, minute=30)
    assert second.after(NOON) == NOON.replace(day=16, hour=1, minute=30)
    assert first != second


@given(rules, moments)
def test_after_is_the_first_tick_that_is_strictly_later(rule: Every, moment: datetime) -> None:
    gap = timedelta(microseconds=rule.gap_us)
    tick = rule.after(moment)

    assert moment < tick <= moment + gap
    assert (tick - rule.anchor) % gap == timedelta()


@given(rules, moments)
def test_at_or_before_is_the_last_tick_that_is_not_later(rule: Every, moment: datetime) -> None:
    gap = timedelta(microseconds=rule.gap_us)
    tick = rule.at_or_before(moment)

    assert moment - gap < tick <= moment
    assert (tick - rule.anchor) % gap == timedelta()


@given(rules, moments)
def test_no_tick_lies_between_at_or_before_and_after(rule: Every, moment: datetime) -> None:
    assert rule.after(moment) - rule.at_or_before(moment) == timedelta(microseconds=rule.gap_us)


@given(rules, moments, st.integers(1, 20))
def test_asked_for_one_tick_after_another_it_drifts_by_nothing(rule: Every, moment: datetime, number: int) -> None:
    """A trigger has no cursor: ticks depend on the instants alone."""
    first = tick = rule.after(moment)
    for _ in range(number):
        assert rule.at_or_before(tick) == tick
        assert rule.after(tick - US) == tick
        tick = rule.after(tick)

    assert tick == first + number * timedelta(microseconds=rule.gap_us)


@given(rules, moments, st.integers(-1000, 1000))
def test_any_tick_of_a_grid_may_be_its_anchor(rule: Every, moment: datetime, number: int) -> None:
    gap = timedelta(microseconds=rule.gap_us)
    try:
        anchor = rule.at_or_before(moment) + number * gap
    except OverflowError:
        return
    same = Every(gap, anchor)

    assert same.after(moment) == rule.after(moment)
    assert same.at_or_before(moment) == rule.at_or_before(moment)


# --- given moments ---

some_moments = st.lists(moments, min_size=1, max_size=20)


@given(some_moments, moments)
def test_at_ticks_at_its_moments_and_no_other(several: list[datetime], moment: datetime) -> None:
    rule = At(*several)

    for asked in [moment, *several]:
        assert min((each for each in several if each > asked), default=None) == rule.after(asked)
        assert max((each for each in several if each <= asked), default=None) == rule.at_or_before(asked)
    assert sorted(set(several)) == list(rule.ticks(min(several) - US))


@given(some_moments, st.randoms(use_true_random=False))
def test_moments_are_kept_once_in_order_and_in_utc(several: list[datetime], draw: random.Random) -> None:
    shuffled = [*several, several[0].astimezone(UTC)]
    draw.shuffle(shuffled)
    rule = At(*several)

    assert rule == At(*shuffled)
    assert hash(rule) == hash(At(*shuffled))
    assert tuple(sorted(set(several))) == rule.moments
    assert {UTC} == {each.tzinfo for each in rule.moments}


@pytest.mark.parametrize(
    ("moments", "why"),
    [
        ((), r"moments must be at least one aware datetime, got \(\)"),
        ((NOON, NAIVE), "moments must be an aware datetime such as"),
        (("2027-01-15T12:00:00+00:00",), "moments must be an aware datetime such as"),
        (([NOON],), "moments must be an aware datetime such as"),
        ((None,), "moments must be an aware datetime such as"),
    ],
)
def test_moments_that_are_none_are_refused(moments: tuple[datetime, ...], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as refused:
        At(*moments)

    assert "moments" == refused.value.argument


def test_at_says_its_first_moments() -> None:
    days = [NOON + timedelta(days=number) for number in range(5)]

    assert "at 2027-01-15T12:00:00+00:00" == str(At(NOON))
    assert "at 2027-01-15T12:00:00+00:00, 2027-01-16T12:00:00+00:00" == str(At(*days[:2]))
    assert str(At(*days[:3])).endswith(", 2027-01-17T12:00:00+00:00")
    assert str(At(*days)).endswith(", 2027-01-17T12:00:00+00:00 and 2 more")


# --- several ticks ---


@given(rules, moments, st.integers(0, 30))
def test_upcoming_are_the_next_ones(rule: Every, moment: datetime, n: int) -> None:
    gap = timedelta(microseconds=rule.gap_us)
    first = rule.after(moment)
    try:
        last = first + n * gap
    except OverflowError:
        return

    assert [first + number * gap for number in range(n)] == rule.upcoming(moment, n)
    assert rule.upcoming(moment, n) == list(islice(rule.ticks(moment), n))
    assert last == rule.upcoming(moment, n + 1)[-1]


def test_fewer_are_upcoming_if_there_are_fewer() -> None:
    assert [NOON] == At(NOON).upcoming(NOON - US, 5)
    assert [] == At(NOON).upcoming(NOON, 5)
    assert [] == Every(60).upcoming(NOON, 0)


def test_at_the_end_of_the_calendar_ticks_end() -> None:
    year = NOON.replace(year=9999, month=1, day=1)

    assert 1 == len(Every(timedelta(days=300)).upcoming(year, 5))


def test_beyond_the_ends_of_the_calendar_there_is_no_tick() -> None:
    end, beginning = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)

    assert Every(60).after(end) is None
    assert Every(60).at_or_before(beginning + US) == beginning
    assert Every(60, NOON + US).at_or_before(beginning) is None
    assert At(end).after(end) is None
    assert (end, end) == At(end).stretch(end)


@pytest.mark.parametrize("rule", [Noon(), Walker(), Listed()])
def test_any_trigger_can_be_walked_and_its_ticks_are_utc(rule: Trigger) -> None:
    first = next(as_base_trigger("rule", rule).ticks(NOON))

    assert NOON.replace(hour=17) == first
    assert first.tzinfo is UTC
    assert [first] == as_base_trigger("rule", rule).upcoming(NOON, 1)


def test_a_trigger_that_can_walk_is_left_to_do_it() -> None:
    assert 1 == len(as_base_trigger("rule", Walker()).upcoming(NOON, 5))
    assert 5 == len(as_base_trigger("rule", Listed()).upcoming(NOON, 5))


@pytest.mark.parametrize("kind", [Noon, Walker])
def test_a_trigger_that_goes_back_is_walked_no_further(kind: type[Noon]) -> None:
    class Back(kind):  # type: ignore[misc,valid-type]
        def after(self, moment: datetime, /) -> datetime:
            return moment - US

    with pytest.raises(ValueError, match="which is not later"):
        as_base_trigger("rule", Back()).upcoming(NOON, 5)


@pytest.mark.parametrize("n", [-1, True, 1.0, None, "1"])
def test_a_number_of_ticks_that_is_none_is_refused(n: int) -> None:
    for ask in (lambda: Every(60).upcoming(NOON, n), lambda: as_base_trigger("rule", Noon()).upcoming(NOON, n)):
        with pytest.raises(InvalidArgument, match="n must be an integer of at least 0, got") as refused:
            ask()
        assert "n" == refused.value.argument


@pytest.mark.parametrize("rule", [Every(60), At(NOON), Noon(), Walker()])
def test_ticks_after_a_moment_that_could_be_any_instant_are_refused_at_once(rule: Trigger) -> None:
    with pytest.raises(InvalidArgument, match="after must be an aware datetime"):
        as_base_trigger("rule", rule).ticks(NAIVE)
    with pytest.raises(InvalidArgument, match="after must be an aware datetime"):
        as_base_trigger("rule", rule).upcoming(NAIVE, 0)


# --- what a trigger covers as an exclusion; triggers that never tick ---


@pytest.mark.parametrize("rule", [Every(3600), At(NOON), Noon()])
def test_a_rule_covers_its_ticks_and_nothing_else(rule: Trigger) -> None:
    tick = rule.at_or_before(NOON)
    assert tick is not None

    assert (tick, tick + US) == as_base_trigger("rule", rule).stretch(tick)
    assert as_base_trigger("rule", rule).stretch(tick + US) is None
    assert as_base_trigger("rule", rule).stretch(tick - US) is None


def test_a_rule_without_any_tick_never_ticks() -> None:
    class Nothing:
        def after(self, moment: datetime, /) -> None: ...
        def at_or_before(self, moment: datetime, /) -> None: ...

    assert never(as_base_trigger("rule", Nothing()))


@pytest.mark.parametrize("rule", [Every(60), Noon(), At(NOON), At(EPOCH), At(EPOCH, NOON)])
def test_a_rule_with_a_tick_at_some_time_does_tick(rule: Trigger) -> None:
    assert not never(rule)


# --- repr, equality and hash ---


def test_every_is_a_trigger() -> None:
    assert isinstance(Every(60), Trigger)
    assert not isinstance(60, Trigger)


def test_equal_rules_are_equal_however_they_are_written() -> None:
    rules = {Every(60), Every(60.0), Every(timedelta(minutes=1)), Every(seconds=60, anchor=EPOCH)}

    assert len(rules) == 1
    assert Every(60) != Every(61)
    assert Every(60) != Every(60, anchor=NOON + US)


def test_a_rule_cannot_be_changed() -> None:
    rule = Every(60)

    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.gap_us = 1  # type: ignore[misc]


def test_a_rule_says_what_it_is() -> None:
    assert str(Every(90)) == "every 90 s"
    assert str(Every(timedelta(days=36_500, microseconds=1))) == "every 3153600000.000001 s"
    assert str(Every(0.25, anchor=NOON)) == "every 0.25 s counted from 2027-01-15T12:00:00+00:00"


# --- what is refused ---


@pytest.mark.parametrize(
    ("seconds", "gap_us"),
    [
        (0.001, 1_000),
        (1, 1_000_000),
        (0.1, 100_000),
        (1 / 3, 333_333),
        (2 / 3, 666_667),
        (0.0010004, 1_000),
        (timedelta(milliseconds=1), 1_000),
        (timedelta(days=1, microseconds=1), 86_400_000_001),
        (100 * 365.25 * 86_400, 3_155_760_000_000_000),
        (timedelta(days=36_500), 3_153_600_000_000_000),
    ],
)
def test_a_gap_is_kept_in_whole_microseconds(seconds: float | timedelta, gap_us: int) -> None:
    assert Every(seconds).gap_us == gap_us


@settings(max_examples=1000)
@given(st.integers(1_000, 100 * 366 * 86_400 * 1_000_000))
def test_seconds_are_taken_to_the_microsecond(gap_us: int) -> None:
    assert gap_us == Every(gap_us / 1e6).gap_us


@given(st.floats(0.001, 100 * 366 * 86_400))
def test_seconds_are_rounded_and_nothing_else(seconds: float) -> None:
    assert abs(Every(seconds).gap_us - Fraction(seconds) * 1_000_000) <= Fraction(1, 2)


@given(st.integers(1_000, 3_155_760_000_000_000))
def test_a_timedelta_is_taken_to_the_microsecond(gap_us: int) -> None:
    assert Every(timedelta(microseconds=gap_us)).gap_us == gap_us


@pytest.mark.parametrize(
    "seconds",
    [
        0,
        -1,
        0.000999,
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        pytest.param(10**400, id="huge"),
        200 * 366 * 86_400,
        timedelta(),
        timedelta(microseconds=999),
        timedelta(seconds=-60),
        timedelta.max,
    ],
)
def test_a_gap_out_of_range_is_refused(seconds: float | timedelta) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Every(seconds)

    assert refused.value.argument == "seconds"
    assert refused.value.value is seconds
    assert str(refused.value).startswith("seconds must be at least 0.001 seconds and at most 100 years, got ")


@pytest.mark.parametrize("seconds", [True, False, None, "60", b"60", 1j, [60], NOON, Fraction(1)])
def test_a_gap_that_is_no_number_is_refused(seconds: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Every(seconds)  # type: ignore[arg-type]

    assert refused.value.argument == "seconds"
    assert str(refused.value) == f"seconds must be a number of seconds or a timedelta, got {seconds!r}"


def test_a_value_too_long_to_be_shown_is_cut() -> None:
    """Python refuses to print an integer of 5,000 digits. That must not hide the actual error."""
    with pytest.raises(InvalidArgument) as refused:
        Every(10**5000)

    assert str(refused.value).endswith("got <int whose repr() raises ValueError>")


@pytest.mark.parametrize("anchor", [NAIVE, "2027-01-01", 1_800_000_000, NOON.date()])
def test_an_anchor_that_could_be_any_instant_is_refused(anchor: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Every(60, anchor=anchor)  # type: ignore[arg-type]

    assert refused.value.argument == "anchor"
    assert str(refused.value) == f"anchor must be an aware datetime such as datetime.now(UTC), got {anchor!r}"


@pytest.mark.parametrize("question", [Every.after, Every.at_or_before])
@pytest.mark.parametrize("moment", [NAIVE, None, 1_800_000_000.0])
def test_a_question_about_a_moment_that_could_be_any_instant_is_refused(question: object, moment: object) -> None:
    with pytest.raises(InvalidArgument, match="moment must be an aware datetime"):
        question(Every(60), moment)  # type: ignore[operator]


# --- triggers of other packages ---


class Overflowing:
    """A user's own trigger that ignores the end of the calendar."""

    def after(self, moment: datetime, /) -> datetime:
        raise OverflowError("date value out of range")

    at_or_before = after


def test_an_overflow_is_the_end_of_the_calendar_only_near_it() -> None:
    rule = as_base_trigger("rule", Overflowing())

    assert rule.after(datetime(9990, 1, 1, tzinfo=UTC)) is None
    assert rule.at_or_before(datetime(10, 1, 1, tzinfo=UTC)) is None
    for ask in (rule.after, rule.at_or_before):
        with pytest.raises(OverflowError):
            ask(NOON)


def test_a_trigger_is_wrapped_once_and_looks_like_what_was_given() -> None:
    noon = Noon()
    rule = as_base_trigger("rule", noon)

    assert rule is as_base_trigger("rule", rule)
    assert rule == as_base_trigger("rule", noon)
    assert hash(rule) == hash(as_base_trigger("rule", noon))
    assert (str(rule), repr(rule)) == (str(noon), repr(noon))
    assert as_base_trigger("rule", every := Every(60)) is every
