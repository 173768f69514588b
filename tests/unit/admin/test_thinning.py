"""What is drawn is thinned until it is small enough, and nothing is left out or made to look better."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaiju_app.admin._known import Known
from kaiju_app.admin._thinning import (
    BADNESS,
    LEAST,
    Band,
    Bar,
    Drawn,
    Mark,
    fit,
    grouped,
    thin_bands,
    thin_bars,
    thin_marks,
)
from kaiju_app.admin._timeline import _item, _size
from kaiju_app.scheduler import Outcome, Reason

pytestmark = pytest.mark.pure

RAN = [each for each in Outcome if each is not Outcome.SKIPPED]
TIMES = st.integers(-(10**6), 10**6) | st.integers(0, 50) | st.integers(10**15, 10**16)


@st.composite
def bars(draw: Any) -> list[Bar]:
    found = []
    for start in draw(st.lists(TIMES, max_size=60)):
        end = start + draw(st.integers(0, 10**4))
        found.append(Bar(start, end, start, draw(st.sampled_from(RAN)), draw(st.sampled_from([None, *Reason]))))
    if draw(st.booleans()):
        found.append(Bar(draw(TIMES), None, None, None, None))
    return found


MARKS = st.lists(
    st.builds(
        lambda at, length, number, reason: Mark(at, at + length, number, reason),
        TIMES, st.integers(0, 100), st.integers(1, 9), st.sampled_from([None, *Reason]),
    ),
    max_size=60,
)  # fmt: skip


def band(since: int | None, length: int | None, holder: str) -> Band:
    return Band(since, None if length is None or since is None else since + length, "held", holder, None)


BANDS = st.lists(
    st.builds(band, st.none() | TIMES, st.none() | st.integers(0, 1000), st.text(max_size=10)), max_size=40
)
MOST = st.integers(1, 20)


def fitted(drawn: list[Drawn], most_bytes: int) -> tuple[list[Drawn], int | None]:
    number, most = fit(drawn, most_bytes)
    return [each if most is None else each.thinned(most) for each in drawn[:number]], most


def weight(bar: Bar) -> int:
    return -1 if bar.outcome is None else BADNESS[bar.outcome]


@given(bars(), MOST)
def test_each_run_is_inside_a_bar_that_is_as_bad_or_worse(some: list[Bar], most: int) -> None:
    thin = thin_bars(some, most)

    assert len([bar for bar in thin if bar.end is not None]) <= most
    assert sum(bar.number for bar in thin) == len(some)
    for bar in some:
        assert any(
            (bar.end is None) == (each.end is None)
            and each.start <= bar.start
            and (bar.end is None or (each.end or 0) >= bar.end)
            and weight(each) >= weight(bar)
            for each in thin
        )


@given(bars(), MOST)
def test_a_bar_tells_of_one_of_its_worst_runs_and_how_many_there_are(some: list[Bar], most: int) -> None:
    worst = Counter[Outcome | None]()
    for bar in thin_bars(some, most):
        inside = [each for each in some if each.end is not None and bar.start <= each.start <= (bar.end or 0)]
        if bar.end is not None:
            assert any(each.tick == bar.tick and each.outcome == bar.outcome for each in inside)
        worst[bar.outcome] += bar.worst

    everything = Counter(each.outcome for each in some)
    assert worst[Outcome.LOST] == everything[Outcome.LOST], "the worst of all are counted one by one"
    assert all(worst[outcome] <= everything[outcome] for outcome in worst)


@given(bars(), MOST)
def test_thinning_twice_hides_no_more_than_thinning_once(some: list[Bar], most: int) -> None:
    twice = thin_bars(thin_bars(some, 2 * most), most)

    assert sum(bar.number for bar in twice) == len(some)
    assert any(bar.outcome is Outcome.LOST for bar in twice) == any(bar.outcome is Outcome.LOST for bar in some)


@given(MARKS, MOST)
def test_each_skip_is_inside_a_mark_with_its_reason(some: list[Mark], most: int) -> None:
    thin = thin_marks(some, most)

    assert len(thin) <= most + len({mark.reason for mark in some})
    assert sum(mark.number for mark in thin) == sum(mark.number for mark in some)
    for mark in some:
        assert any(each.reason == mark.reason and each.at <= mark.at and each.until >= mark.until for each in thin)


@given(BANDS, MOST)
def test_each_hold_is_inside_a_band_or_counted(some: list[Band], most: int) -> None:
    thin = thin_bands(some, most)

    assert len(thin) <= most + 1
    assert sum(band.number for band in thin) == len(some)


@given(st.lists(TIMES, max_size=80).map(sorted), MOST)
def test_groups_are_few_and_have_everything_once_in_order(starts: list[int], most: int) -> None:
    groups = grouped(starts, most)

    assert len(groups) <= most
    assert [index for first, last in groups for index in range(first, last)] == list(range(len(starts)))


def test_runs_at_even_distances_are_united_evenly() -> None:
    groups = grouped([1000 * each for each in range(1000)], 100)

    assert len(groups) >= 50
    assert max(last - first for first, last in groups) <= 20


def test_a_picture_that_moves_on_keeps_its_bars() -> None:
    starts = [1000 * each for each in range(2000)]
    first = {starts[each] for each, _ in grouped(starts[:1000], 100)}
    later = {starts[each + 7] for each, _ in grouped(starts[7:1007], 100)}

    assert len(first - later) <= 2
    assert len(later - first) <= 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=40), bars(), MARKS, BANDS, st.integers(0, 20)), min_size=1, max_size=6),
    st.integers(10_000, 60_000),
)
def test_what_is_sent_is_not_larger_than_allowed(tasks: list[Any], most_bytes: int) -> None:
    known = [Known("i" * 50, name) for name, *_ in tasks]
    drawn = [
        Drawn(_size(task, ticks), some, marks, bands)
        for task, (_, some, marks, bands, ticks) in zip(known, tasks, strict=True)
    ]
    shown, most = fitted(drawn, most_bytes)
    sent = [_item(task, each, []) for task, each in zip(known, shown, strict=False)]

    assert 1 <= len(shown) <= len(drawn)
    assert sum(len(each.model_dump_json().encode()) for each in sent) <= most_bytes
    assert most is None or most >= LEAST


def test_a_million_bytes_of_runs_fit() -> None:
    hour = [Bar(each * 10**6, each * 10**6 + 5, each * 10**6, Outcome.SUCCEEDED, None) for each in range(900)]
    known = Known("i" * 50, "a name")
    shown, most = fitted([Drawn(_size(known, 0), hour) for _ in range(50)], 250_000)
    sent = sum(len(_item(known, each, []).model_dump_json()) for each in shown)

    assert most is not None
    assert len(shown) == 50
    assert 60_000 < sent <= 250_000, "the room is used"
