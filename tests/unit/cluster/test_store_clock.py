"""An instance's estimate of the store's clock: never ahead of the real one, and distrustful after jumps."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from kaiju_app._cluster.store_clock import MAX_UNDETECTED_JUMP, MAX_USEFUL_ROUNDTRIP, StoreClock

pytestmark = pytest.mark.pure

SECOND = 1_000_000
OFFSET = 1_800_000_000 * SECOND
TRUST = 14_500_000


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], float]:
    """Draw the (sent, received, answer) of some calls, and the rate of a clock that is up to 0.05 % wrong."""
    rate = 1 + draw(st.floats(-0.0005, 0.0005))
    found = []
    steady = draw(st.integers(0, 100 * SECOND))
    for _ in range(draw(st.integers(1, 12))):
        sent = steady
        there = sent + draw(st.integers(0, 400_000) | st.integers(0, 5 * SECOND))
        received = there + draw(st.integers(0, 400_000) | st.integers(0, 5 * SECOND))
        found.append((sent, received, OFFSET + round(there * rate)))
        steady = received + draw(st.integers(0, 20 * SECOND))
    return found, rate


@given(answers(), st.integers(0, 60 * SECOND))
def test_it_never_shows_more_than_the_store(heard: tuple[list[tuple[int, int, int]], float], later: int) -> None:
    questions, rate = heard
    clock = StoreClock(TRUST)
    for sent, received, said in questions:
        clock.observe(sent, received, said)
        for steady in (received, received + later):
            shown = clock.at_least(steady)
            assert shown is None or shown <= OFFSET + steady * rate + 1
    assert (clock.at_least(0) is None) == all(received - sent > MAX_USEFUL_ROUNDTRIP for sent, received, _ in questions)


@given(answers(), st.integers(-10 * SECOND, 600 * SECOND))
@example(heard=([(0, 1_001, OFFSET)], 1.0), ahead=-1_001)
def test_what_it_waits_for_has_come(heard: tuple[list[tuple[int, int, int]], float], ahead: int) -> None:
    questions, rate = heard
    clock = StoreClock(TRUST)
    for question in questions:
        clock.observe(*question)
    steady = questions[-1][1]
    moment = OFFSET + steady + ahead
    when = clock.when(moment, steady)
    if when is not None:
        assert when >= steady
        assert OFFSET + when * rate + 1 >= moment
        shown = clock.at_least(when)
        assert shown is not None
        assert shown >= moment - 1 - max(0, ahead) // 1_000


@given(st.integers(0, MAX_USEFUL_ROUNDTRIP), st.integers(0, MAX_USEFUL_ROUNDTRIP))
def test_the_quicker_answer_counts(slow: int, quick: int) -> None:
    clock = StoreClock(TRUST)
    clock.observe(0, slow, OFFSET)
    clock.observe(slow, slow + quick, OFFSET + slow + quick)
    shown = clock.at_least(slow + quick)

    assert shown is not None
    assert OFFSET + slow + quick - shown <= min(slow, quick) + 2 * SECOND // 1_000


@given(st.integers(2 * SECOND, 3_600 * SECOND) | st.integers(-3_600 * SECOND, -2 * SECOND))
@example(MAX_UNDETECTED_JUMP + 100_001)
def test_a_jump_is_believed_and_not_trusted(jump: int) -> None:
    clock = StoreClock(TRUST)
    steady = 0
    for _ in range(20):
        clock.observe(steady, steady + 1_000, OFFSET + steady)
        steady += SECOND
    assert clock.is_calm(steady)
    clock.observe(steady, steady + 1_000, OFFSET + steady + jump)
    shown = clock.at_least(steady + 1_000)

    assert shown == OFFSET + steady + jump
    assert not clock.is_calm(steady + 1_000 + TRUST - 1)
    assert clock.is_calm(steady + 1_000 + TRUST)


def test_a_new_observer_trusts_nobody_yet() -> None:
    clock = StoreClock(TRUST)
    assert (clock.at_least(5), clock.when(5, 5), clock.is_calm(1 << 50), clock.is_fresh(5, 5)) == (
        None,
        None,
        False,
        False,
    )
    clock.observe(10, 20, OFFSET)

    assert not clock.is_calm(20 + TRUST - 1)
    assert clock.is_calm(20 + TRUST)
    assert clock.is_fresh(30, 10)
    assert not clock.is_fresh(31, 10)


def test_an_answer_that_was_overtaken_tells_nothing_new() -> None:
    clock = StoreClock(TRUST)
    clock.observe(100, 200, OFFSET + 150)
    before = clock.at_least(1_000)
    clock.observe(50, 300, OFFSET + 290)

    assert clock.at_least(1_000) == before


def test_the_bounds_of_what_it_is_ahead_grow_with_the_age_of_the_answer() -> None:
    clock = StoreClock(trust_after=1)
    assert clock.ahead_of(0) is None
    clock.observe(1_000, 3_000, 52_000)

    assert clock.ahead_of(3_000) == (49_000, 51_000)
    assert clock.ahead_of(1_003_000) == (48_000, 52_000)
