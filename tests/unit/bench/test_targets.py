"""A figure meets its target or misses it: by the limit, the floor of the same round, and the median of the rounds."""

from __future__ import annotations

from math import nan

import pytest

from bench.targets import Target

pytestmark = pytest.mark.pure


def rounds(*values: float) -> list[dict[str, float]]:
    return [{"runs": value} for value in values]


def test_the_median_of_the_rounds_counts() -> None:
    verdict = Target(10).judge("runs", rounds(9, 50, 10), {})

    assert verdict is not None
    assert (verdict.value, verdict.met) == (10, True)


def test_each_round_is_compared_with_the_floor_of_the_same_round() -> None:
    target = Target(0.7, at_least=True, floor="F4")

    verdict = target.judge("runs", rounds(60, 90, 300), {"F4": rounds(100, 100, 1_000)})

    assert verdict is not None
    assert (verdict.value, verdict.met) == (0.6, False)
    assert str(verdict) == ">= 0.7 x F4: 0.6, MISSED by 14%"


@pytest.mark.parametrize("floor", [{}, {"F4": rounds(0)}])
def test_without_the_floor_there_is_no_verdict(floor: dict[str, list[dict[str, float]]]) -> None:
    assert Target(0.7, floor="F4").judge("runs", rounds(60), floor) is None


def test_what_could_not_be_measured_is_not_judged() -> None:
    assert Target(10).judge("runs", rounds(nan), {}) is None
