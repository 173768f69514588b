"""Lease timing: which values fit together, and the failover bound that follows from them."""

from __future__ import annotations

from dataclasses import astuple
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app.errors import InvalidArgument

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("timing", "bound_s"),
    [(LeaseTiming(), 19.3), (LeaseTiming(6, 1.2, 3, 1), 11.4), (LeaseTiming(30, 6, 13, 5), 55.0)],
)
def test_the_bound_of_a_failover_follows_from_the_numbers(timing: LeaseTiming, bound_s: float) -> None:
    assert timing.failover_s == pytest.approx(bound_s)


@pytest.mark.parametrize(
    ("given", "argument", "rule"),
    [
        ({"ttl_s": 0}, "ttl_s", "more than 0"),
        ({"renew_s": -1}, "renew_s", "at least 0 seconds"),
        ({"grace_s": "5"}, "grace_s", "a number of seconds"),
        ({"poll_s": True}, "poll_s", "a number of seconds"),
        ({"ttl_s": 10, "renew_s": 2.1}, "renew_s", "a fifth of ttl_s, 2, got 2.1"),
        ({"renew_s": 2, "grace_s": 4.4}, "grace_s", "twice renew_s and half a second, 4.5, got 4.4"),
        ({"grace_s": 0.5}, "grace_s", "twice renew_s and half a second, 0.5"),
        ({"renew_s": 2, "ahead_s": 2.5}, "ahead_s", "at most renew_s, 2"),
        ({"ttl_s": 10, "ahead_s": 2.5}, "ahead_s", "at most renew_s, 2"),
        ({"ahead_s": float("nan")}, "ahead_s", "at least 0 seconds"),
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, Any], argument: str, rule: str) -> None:
    with pytest.raises(InvalidArgument, match=rule) as caught:
        LeaseTiming(**given)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({}, (10, 2, 4.5, 2, 0.5)),
        ({"ttl_s": 2, "renew_s": 0.4, "grace_s": 1.3, "poll_s": 0.4}, (2, 0.4, 1.3, 0.4, 0.4)),
        ({"ttl_s": 2}, (2, 0.4, 4.5, 2, 0.4)),
        ({"ttl_s": 600}, (600, 2, 4.5, 2, 0.5)),
        ({"renew_s": 3}, (15, 3, 6.5, 2, 0.5)),
        ({"grace_s": 1.3}, (10, 0.4, 1.3, 2, 0.4)),
        ({"ahead_s": 3}, (15, 3, 6.5, 2, 3)),
        ({"ahead_s": 0}, (10, 2, 4.5, 2, 0)),
        ({"ttl_s": timedelta(seconds=30), "renew_s": timedelta(seconds=6)}, (30, 6, 12.5, 2, 0.5)),
    ],
    ids=str,
)
def test_what_is_not_given_follows_from_what_is(given: dict[str, Any], numbers: tuple[float, ...]) -> None:
    assert astuple(LeaseTiming(**given)) == numbers


@given(st.sampled_from(["ttl_s", "renew_s", "grace_s", "poll_s", "ahead_s"]), st.floats(0.501, 1_000))
def test_any_single_number_is_valid_and_kept(name: str, number: float) -> None:
    assert getattr(LeaseTiming(**{name: number}), name) == pytest.approx(number, abs=1e-6)


@given(st.floats(1.44, 86_400) | st.integers(2, 10**6) | st.timedeltas(timedelta(seconds=2), timedelta(days=1)))
@example(5)
@example(19.3)
@example(19.299999999999997)
@example(19.9999999999)
def test_a_failover_within_any_time_has_numbers_that_fit(within: float | timedelta) -> None:
    timing = LeaseTiming.for_failover(within)
    limit_s = within.total_seconds() if isinstance(within, timedelta) else within

    assert limit_s - 0.01 <= timing.failover_s <= limit_s + 1e-6  # Durations are whole microseconds.
    assert LeaseTiming(*astuple(timing)) == timing
    assert timing.renew_s >= 0.1
    assert timing.cleanup_s > 0 or limit_s < 6.1


def test_the_failover_of_the_defaults_has_the_defaults() -> None:
    assert LeaseTiming.for_failover(19.3) == LeaseTiming()


@pytest.mark.parametrize(
    ("within", "message"),
    [
        (1, "failover_s must be at least 1.44 seconds: a shorter lease would expire in an ordinary round trip, got 1"),
        (0, "failover_s must be at least 1.44 seconds: a shorter lease would expire in an ordinary round trip, got 0"),
        ("5", "failover_s must be a number of seconds or a timedelta, got '5'"),
        (-1, "failover_s must be at least 0 seconds and at most 100 years, got -1"),
    ],
)
def test_an_impossible_failover_is_refused_with_the_least_possible_one(within: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        LeaseTiming.for_failover(within)

    assert str(caught.value) == message


def test_claiming_ahead_can_be_switched_off() -> None:
    assert LeaseTiming(ahead_s=0).ahead_s == 0


def test_what_is_left_of_the_grace_for_cleaning_up() -> None:
    assert LeaseTiming().cleanup_s == pytest.approx(2.42)
    assert LeaseTiming(2, 0.4, 1.3, 0.4, 0.1).cleanup_s == 0
