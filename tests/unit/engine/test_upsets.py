"""The log of what has happened besides runs: bounded, each kind by itself."""

from __future__ import annotations

import pytest

from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.upsets import MOST, UpsetLog

pytestmark = pytest.mark.pure


def test_what_happens_often_does_not_push_out_what_happens_once() -> None:
    log = UpsetLog()
    log.note(UpsetKind.CLOCK, 5, 9)
    for moment in range(MOST + 7):
        log.note(UpsetKind.BLOCKED, moment, moment + 1)

    found = log.of("task")
    assert MOST == len([each for each in found if each.kind is UpsetKind.BLOCKED])
    assert [Upset(UpsetKind.CLOCK, 5, 9)] == [each for each in found if each.kind is UpsetKind.CLOCK]


def test_a_task_has_its_own_and_those_of_all_tasks() -> None:
    log = UpsetLog()
    log.begin(UpsetKind.DISABLED, 1, "a", "somebody")
    log.begin(UpsetKind.DISABLED, 2, "b")
    log.begin(UpsetKind.STOPPED, None)
    log.end(UpsetKind.DISABLED, 7, "b")
    log.end(UpsetKind.DISABLED, 8, "never disabled")

    assert [Upset(UpsetKind.STOPPED, None, None), Upset(UpsetKind.DISABLED, 1, None, "a", "somebody")] == log.of("a")
    assert [Upset(UpsetKind.STOPPED, None, None), Upset(UpsetKind.DISABLED, 2, 7, "b")] == log.of("b")


@pytest.mark.parametrize(
    ("since", "until", "covered"),
    [(None, None, True), (None, 4, False), (None, 5, True), (5, None, True), (6, None, False), (3, 7, True)],
)
def test_it_covers_a_moment(since: int | None, until: int | None, covered: bool) -> None:
    assert covered is Upset(UpsetKind.HELD, since, until).covers(5)


def test_a_clock_that_was_set_back_covers_the_times_that_come_again() -> None:
    assert Upset(UpsetKind.CLOCK, 9, 3).covers(5)
