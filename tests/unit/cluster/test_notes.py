"""What an instance tells the others of what has happened to it."""

from __future__ import annotations

import json
from itertools import product
from types import NoneType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._cluster.notes import CALENDAR, MOST, MOST_CHARACTERS, Notes, upsets_in
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.upsets import UpsetLog
from kaiju_app.scheduler._explain_causes import cause_of
from kaiju_app.stores._answers import Life

pytestmark = pytest.mark.pure

S = 1_000_000
NOW = 1_000 * S
VALID = [list(each) for each in product((int, NoneType), (int, NoneType), (str, NoneType), (str, NoneType))]


def read(note: str | None, *, is_alive: bool = True) -> list[Upset]:
    return upsets_in(Life("me-2", 900 * S, NOW, note or ""), is_alive=is_alive)


def test_what_has_happened_is_told_once_and_by_the_clock_of_the_store() -> None:
    log = UpsetLog()
    notes = Notes(log, {"shared"}, lambda: NOW)
    assert notes.news(NOW) is None
    log.note(UpsetKind.BLOCKED, NOW, NOW + 2 * S, None, "by task 'a'")
    log.note(UpsetKind.CLOCK, NOW + 5 * S, NOW + 9 * S)
    log.begin(UpsetKind.DISABLED, NOW + 3 * S, "shared", "disable()")

    told = notes.news(NOW + 60 * S)
    assert told == notes.news(NOW + 60 * S), "until the store has it"
    notes.told()

    assert notes.news(NOW + 60 * S) is None
    assert read(told) == [
        Upset(UpsetKind.BLOCKED, NOW + 60 * S, NOW + 62 * S, None, "by task 'a'", "me"),
        Upset(UpsetKind.CLOCK, NOW + 5 * S, NOW + 9 * S, None, None, "me"),
        Upset(UpsetKind.DISABLED, NOW + 63 * S, None, "shared", "disable()", "me"),
    ]
    assert read(told, is_alive=False)[-1].until == NOW


def test_nothing_is_told_of_local_tasks_of_holds_and_of_earlier_sessions() -> None:
    log = UpsetLog()
    log.note(UpsetKind.BLOCKED, 1, 2 * S)
    notes = Notes(log, {"shared"}, lambda: NOW)
    log.begin(UpsetKind.DISABLED, NOW, "local")
    log.note(UpsetKind.HELD, NOW, NOW + S, "shared")

    assert notes.news(None) is None


def test_a_note_is_small_whatever_happens() -> None:
    log = UpsetLog()
    notes = Notes(log, (), lambda: NOW)
    for second in range(0, 2_000, 10):
        log.note(UpsetKind.BLOCKED, NOW + second * S, NOW + (second + 5) * S, None, "x" * 1_000)
    told = notes.news(None)

    found = read(told)
    assert len(told or "") < 20_000
    assert (len(found), {len(each.who or "") for each in found}) == (MOST, {MOST_CHARACTERS})
    assert found[-1].since == NOW + 1_990 * S


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "7",
        "[7]",
        '[["loop blocked", 1]]',
        '[["meteorite", 1, 2, null, null]]',
        '[["loop blocked", "yesterday", 2, null, null]]',
        '[["loop blocked", 1, "today", null, null]]',
        '[["loop blocked", 1.5, 2, null, null]]',
        '[["loop blocked", 1, true, null, null]]',
        '[["loop blocked", [1], 2, null, null]]',
        '[["disabled", 1, null, 7, null]]',
        '[["loop blocked", 1, 300000000000000000, null, null]]',
        '[["loop blocked", -99999999999999999999, 2, null, null]]',
        '[["clock set", 1e400, 2, null, null]]',
        '[["disabled", 1, null, null, {"name": "me"}]]',
    ],
)
def test_what_another_version_tells_is_passed_over(note: str) -> None:
    assert read(note) == []
    known = ["loop blocked", 1, 2, None, None]
    mixed = json.dumps([*json.loads(note), known]) if note.startswith("[") else json.dumps([known])
    assert [each.kind for each in read(mixed)] == [UpsetKind.BLOCKED]


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**18), 10**18)
    | st.floats()
    | st.text()
    | st.lists(st.integers(), max_size=2)
)


@given(st.sampled_from(UpsetKind), st.tuples(*[anything] * 4), st.booleans())
def test_what_is_read_can_be_asked_about_whatever_was_told(
    kind: UpsetKind, told: tuple[Any, ...], is_alive: bool
) -> None:
    found = read(json.dumps([[kind, *told]]), is_alive=is_alive)

    is_valid = [type(each) for each in told] in VALID and all(each is None or each in CALENDAR for each in told[:2])
    assert len(found) == is_valid
    for each in found:
        assert isinstance(each.covers(NOW), bool)
        assert str(cause_of(each).json_repr())
