"""Quantiles of how late the timer fires, in the last minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._engine.blocks import Place
from kaiju_app._engine.lag import LagMeter

pytestmark = pytest.mark.pure

SECOND = 1_000_000
PLACE = Place("purge", "/app/jobs.py", 41, "purge")


@given(st.lists(st.integers(-500, 1 << 50), min_size=1, max_size=200))
def test_the_quantiles_are_a_sixteenth_off_at_most(lags: list[int]) -> None:
    meter = LagMeter()
    for late in lags:
        meter.note(late, 5 * SECOND)
    told = meter.report(5 * SECOND)

    assert told is not None
    ordered = sorted(max(0, late) for late in lags)
    for part, shown in ((0.5, told.p50_s), (0.99, told.p99_s)):
        exact = ordered[max(0, -(-len(lags) * round(part * 100) // 100) - 1)]
        assert abs(shown * 1e6 - exact) <= exact / 16 + 1
    assert told.max_s * 1e6 == pytest.approx(ordered[-1], abs=0.5)


def test_nothing_is_told_of_a_minute_without_a_timer() -> None:
    meter = LagMeter()
    assert meter.report(5 * SECOND) is None

    meter.note(7, 5 * SECOND)
    assert meter.report(30 * SECOND) is not None
    assert meter.report(80 * SECOND) is None


def test_what_is_older_than_a_minute_counts_no_more() -> None:
    meter = LagMeter()
    meter.note(3 * SECOND, 5 * SECOND)
    meter.blame(3 * SECOND, PLACE)
    told = []
    for now in range(6, 120):
        meter.note(10, now * SECOND)
        report = meter.report(now * SECOND)
        assert report is not None
        told.append((report.max_s, report.cause))

    worst = (3.0, "task 'purge', /app/jobs.py:41 in purge()")
    last = max(number for number, each in enumerate(told, 6) if each == worst)
    assert told == [worst] * (last - 5) + [(1e-5, None)] * (119 - last)
    assert 60 <= last <= 75


def test_the_cause_is_that_of_the_longest_one() -> None:
    meter = LagMeter()
    other = Place(None, "/app/web.py", 7, "render", "socket.py:720 in readinto")
    for late, place in ((2 * SECOND, PLACE), (3 * SECOND, other), (SECOND, PLACE)):
        meter.note(late, 5 * SECOND)
        meter.blame(late, place)
    report = meter.report(5 * SECOND)
    assert report is not None
    assert report.cause == "/app/web.py:7 in render(), inside socket.py:720 in readinto"

    meter.note(4 * SECOND, 5 * SECOND)  # Nobody has seen where.
    report = meter.report(5 * SECOND)
    assert report is not None
    assert (report.max_s, report.cause) == (4.0, None)
    assert report.json_repr() == {"p50_s": report.p50_s, "p99_s": report.p99_s, "max_s": 4.0, "cause": None}
