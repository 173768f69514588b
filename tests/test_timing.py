"""The numbers of a lease: what fits together, and the bound that follows."""

from __future__ import annotations

from typing import Any

import pytest

from kaiju_app._timing import LeaseTiming
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
        ({"renew_s": -1}, "renew_s", "0 or more"),
        ({"grace_s": "5"}, "grace_s", "a number of seconds"),
        ({"poll_s": True}, "poll_s", "a number of seconds"),
        ({"renew_s": 2.1}, "renew_s", "a fifth of ttl_s, 2"),
        ({"grace_s": 4.4}, "grace_s", "twice renew_s and half a second, 4.5"),
        ({"ahead_s": 2.5}, "ahead_s", "at most renew_s, 2"),
        ({"ahead_s": float("nan")}, "ahead_s", "0 or more"),
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, Any], argument: str, rule: str) -> None:
    with pytest.raises(InvalidArgument, match=rule) as caught:
        LeaseTiming(**given)
    assert caught.value.argument == argument


def test_claiming_ahead_can_be_switched_off() -> None:
    assert LeaseTiming(ahead_s=0).ahead_s == 0


def test_what_is_left_of_the_grace_for_cleaning_up() -> None:
    assert LeaseTiming().cleanup_s == pytest.approx(2.42)
    assert LeaseTiming(2, 0.4, 1.3, 0.4, 0.1).cleanup_s == 0
