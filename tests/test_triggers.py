"""WHEN: the rules that yield due times, each a pure function of the instant it is asked about."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Every, Trigger

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2027, 1, 15, 12, 0, 0, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
US = timedelta(microseconds=1)

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(NAIVE.replace(year=1200), NAIVE.replace(year=2800), timezones=zones)
gaps = st.integers(1_000, 100 * 366 * 86_400 * 1_000_000).map(lambda us: timedelta(microseconds=us))
rules = st.builds(Every, gaps, st.none() | moments)


class Winter(tzinfo):
    """A zone whose clocks go back from 3:00 to 2:00 on 2027-10-31: what comes in between comes twice."""

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
    """A trigger has no cursor: the ticks follow from the instants alone."""
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


# --- what it is ---


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


@pytest.mark.parametrize("seconds", [True, False, None, "60", b"60", 1j, [60], NOON])
def test_a_gap_that_is_no_number_is_refused(seconds: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Every(seconds)  # type: ignore[arg-type]

    assert refused.value.argument == "seconds"
    assert str(refused.value) == f"seconds must be a number of seconds or a timedelta, got {seconds!r}"


def test_a_value_too_long_to_be_shown_is_cut() -> None:
    """Python refuses to print an integer of 5,000 digits: that must not hide what was wrong."""
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
