"""What is computed from the runs of an overloaded candidate."""

from __future__ import annotations

from array import array

import pytest

from bench.overload import Counts, share

pytestmark = pytest.mark.pure


async def test_runs_before_the_window_do_not_count() -> None:
    counts = Counts(3)
    bodies = [counts.body(number) for number in range(3)]
    await bodies[0]()
    before = counts.since()

    for number in (1, 1, 2):
        await bodies[number]()

    assert counts.since(before) == array("q", [0, 2, 1])


def test_the_share_is_that_of_the_runs_due_in_the_same_time() -> None:
    started_s = [9.9, 10.0, 10.5, 10.9, 11.0]

    assert share(started_s, 10.0, 11.0, per_s=4) == 0.75
    assert share(started_s, 9.0, 11.0, per_s=4) == 0.5
