"""The log of what has happened besides runs: bounded, each kind by itself."""

from __future__ import annotations

import pytest

from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.upsets import MOST, UpsetLog

pytestmark = pytest.mark.pure


def test_what_two_timers_tell_of_one_block_is_one() -> None:
    log = UpsetLog()
    log.note(UpsetKind.BLOCKED, 5_000_000, 9_000_000)
    log.note(UpsetKind.BLOCKED, 3_000_000, 9_000_100, None, "by task 'a'")
    log.note(UpsetKind.BLOCKED, 9_000_100, 11_000_000)
    log.note(UpsetKind.BLOCKED, 10_000_000, 13_000_000)

    spans = [(each.since, each.until, each.who) for each in log.of("")]
    assert spans == [
        (3_000_000, 9_000_100, "by task 'a'"),
        (9_000_100, 11_000_000, None),
        (10_000_000, 13_000_000, None),
    ]


def test_the_latest_of_some_kinds_are_in_the_order_of_their_ends_and_what_goes_on_is_last() -> None:
    log = UpsetLog()
    log.note(UpsetKind.STORE, 1, 9)
    log.begin(UpsetKind.DISABLED, 2, "a")
    log.note(UpsetKind.BLOCKED, 4, 5)
    log.note(UpsetKind.HELD, 4, 7, "a")

    kinds = (UpsetKind.BLOCKED, UpsetKind.STORE, UpsetKind.DISABLED)
    assert [each.since for each in log.latest(kinds, 9)] == [4, 1, 2]
    assert [each.since for each in log.latest(kinds, 2)] == [1, 2]


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
