"""The first of many places: in order, and with few comparisons, whatever order they come in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app.admin._listing import CHUNK, Firsts, Place

pytestmark = pytest.mark.pure

places = st.lists(st.tuples(st.integers(0, 50), st.text("ab", max_size=3), st.just("")), max_size=3_000)


@given(places, st.integers(1, 600), st.booleans(), st.integers(1, 400))
def test_the_first_ones_are_those_of_the_sorted_whole(some: list[Place], number: int, down: bool, chunk: int) -> None:
    firsts = Firsts(number, down=down)
    for start in range(0, len(some), chunk):
        firsts.add(iter(some[start : start + chunk]))

    assert firsts.found() == sorted(some, reverse=down)[:number]


compared = 0


class Name(str):
    """Counts how often it is compared."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        global compared
        compared += 1
        return str.__lt__(self, other)

    def __gt__(self, other: str) -> bool:
        global compared
        compared += 1
        return str.__gt__(self, other)


IN_ORDER, MIXED, BACKWARD = (lambda index: index), (lambda index: index * 7_919 % 10_000), (lambda index: -index)


@pytest.mark.parametrize(
    ("number", "order", "most"),
    [
        (51, IN_ORDER, 11_000),
        (51, MIXED, 20_000),
        (51, BACKWARD, 25_000),
        (501, IN_ORDER, 11_000),
        (501, MIXED, 45_000),
        (501, BACKWARD, 25_000),
    ],
)
def test_of_ten_thousand_places_most_are_compared_once(number: int, order: Callable[[int], int], most: int) -> None:
    global compared
    some = [("waiting", Name(f"{order(index) + 20_000}"), "") for index in range(10_000)]
    compared = 0
    firsts = Firsts(number, down=False)
    for start in range(0, len(some), CHUNK):
        firsts.add(some[start : start + CHUNK])

    assert len(firsts.found()) == number
    assert compared <= most
