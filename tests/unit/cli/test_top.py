"""The screen of top without a terminal: its lines fit any size, and its keys do what the help says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._core.text import ACTING
from kaiju_app.cli._screen import Screen
from kaiju_app.cli._terminal import keys_in
from kaiju_app.cli._top_frame import frame
from kaiju_app.cli._top_state import Action, State, shares, window

pytestmark = pytest.mark.pure

AT = "2027-03-01T18:00:00Z"
EVIL = "evil \x1b]0;owned\x07 \u202ename" + "x" * 80


def id_of(name: str) -> str:
    return f"id-{name.replace(' ', '-')}"


def task(name: str, **values: Any) -> Any:
    last = {"outcome": "FAILED", "finished_at": AT, "scheduled_at": AT, "error": "no \x1b[31m label", "reason": None}
    known = {"id": id_of(name), "name": name, "state": "running", "overdue": False, "recent": ["FAILED", "SKIPPED"]}
    return {**known, "runs_in": "host:1", "runs_on": "1", "holds": [], "last_run": last, **values}


def run(name: str, **values: Any) -> Any:
    known = {"task": name, "task_id": id_of(name), "scheduled_at": AT, "finished_at": AT, "delivery": 1}
    ended = {
        "manual": False,
        "outcome": "SUCCEEDED",
        "duration_s": 0.1,
        "count": 1,
        "more": False,
        "reason": None,
        "error": None,
    }
    return {**known, **ended, "reason": None, "error": None, **values}


def documents(number: int = 3) -> dict[str, Any]:
    names = [f"task {each}" for each in range(number)]
    held = task("held", state="paused", holds=[{"holder": "ops", "reason": "audit", "until": None, "since": None}])
    scheduler = {"tasks": number, "states": {"running": 1}, "instances": 2, "loop_lag": None}
    return {
        "scheduler": scheduler,
        "running": {"items": [task(each) for each in names]},
        "overdue": {"items": [task("late", state="waiting", overdue=True, last_run=None)]},
        "failing": {"items": [task(EVIL)]},
        "held": {"items": [held]},
        "upcoming": {"items": [{"task": each, "task_id": id_of(each), "due": AT} for each in names]},
        "runs": {"items": [run(each) for each in names]},
    }


def state_of(number: int = 3) -> State:
    state = State(link="live")
    state.learn(documents(number))
    return state


def lines_of(state: State, width: int = 80, height: int = 24) -> list[str]:
    return [each.plain for each in frame(Screen(as_json=False), state, width, height, "http://127.0.0.1:8700")]


@given(st.integers(20, 200), st.integers(6, 60), st.integers(0, 40), st.text("jk?/px\r\x1b", max_size=8))
def test_it_fills_a_terminal_of_any_size_and_never_more(width: int, height: int, number: int, typed: str) -> None:
    state = state_of(number)
    for key in keys_in(typed):
        state.press(key)
    found = frame(Screen(as_json=False), state, width, height, "http://127.0.0.1:8700")

    assert len(found) == height
    assert max(each.cell_len for each in found) <= width
    assert not any(ACTING.search(each.plain) or "\n" in each.plain for each in found)


def test_it_shows_what_runs_fails_is_paused_comes_and_ended() -> None:
    lines = lines_of(state_of())

    titles = [each for each in lines if each.isupper() and not each.startswith(" ")]
    assert titles == ["RUNNING NOW", "FAILING AND OVERDUE", "PAUSED", "COMING NEXT", "LAST ENDINGS"]
    assert any("late" in each and "overdue  never ran" in each for each in lines)
    assert any("held" in each and "by ops: audit" in each for each in lines)
    assert "  live  " in lines[0]
    assert "q quit" in lines[-1]


def test_the_row_that_is_chosen_stays_chosen_and_in_sight() -> None:
    state = state_of(40)
    for _ in range(30):
        state.press("j")
    assert state.row is not None
    name = state.row.name

    state.learn(documents(40))
    assert any(each.startswith(f"> {name}") for each in lines_of(state))
    state.press("up")
    assert state.row.name == "task 29"


def test_a_row_that_is_gone_is_looked_for_in_the_other_sections() -> None:
    state = state_of()
    found = documents()
    found["held"]["items"].append(task("task 0", state="paused"))
    found["running"]["items"] = []

    state.learn(found)

    assert state.row is not None
    assert (state.row.section, state.row.name) == (2, "task 0")


def press(state: State, *keys: str) -> list[Action]:
    return [found for key in keys if (found := state.press(key)) is not None]


def test_a_pause_asks_for_a_reason_in_the_bottom_line() -> None:
    state = state_of()

    assert not press(state, "j", "p", *"audit?")
    assert lines_of(state)[-1] == "Pause, because: audit?_"
    [action] = press(state, "backspace", "enter")

    assert (action.what, action.row.name, action.reason) == ("pause", "task 1", "audit")
    assert "q quit" in lines_of(state)[-1]


def test_a_reason_is_needed_and_escape_forgets_the_question() -> None:
    state = state_of()

    assert not press(state, "c", "enter", " ", "enter")
    assert "give a reason, or Esc" in lines_of(state)[-1]
    assert not press(state, "escape", "enter")
    assert not state.asks


def test_the_other_keys_act_at_once() -> None:
    state = state_of()

    assert [each.what for each in press(state, "r", "u")] == ["run", "resume"]
    assert not press(state, "?")
    assert any("Any key goes back." in each for each in lines_of(state))
    assert not press(state, "r")  # It goes back, and does nothing else.
    assert not press(state, "q")
    assert state.ends


def test_a_filter_hides_the_others_until_escape() -> None:
    state = state_of()
    press(state, "/", *"TASK 1", "enter")
    state.learn(documents())
    assert {each.name for each in state.rows} == {"task 1"}
    assert "/TASK 1" in lines_of(state)[0]

    press(state, "escape")
    state.learn(documents())
    assert len({each.name for each in state.rows}) > 3


def test_with_nothing_to_choose_the_keys_do_nothing() -> None:
    state = State()

    assert not press(state, "j", "k", "p", "r", "u", "c")
    assert state.message == "no task is chosen"
    assert any("Waiting for the endpoint" in each for each in lines_of(state))


def test_keys_come_as_a_terminal_sends_them() -> None:
    assert keys_in("j\x1b[A\x1b[B\x1bOA\r\x7f\x1b") == ["j", "up", "down", "up", "enter", "backspace", "escape"]
    assert keys_in("\x1b[1;5C\x1b[200~é") == ["é"]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 60))
def test_sections_share_the_room_fairly(wanted: list[int], room: int) -> None:
    given = shares(wanted, room)

    assert sum(given) == min(room, sum(wanted))
    assert all(0 <= got <= want for got, want in zip(given, wanted, strict=True))
    short = [got for got, want in zip(given, wanted, strict=True) if got < want]
    assert not short or max(given) - min(short) <= 1


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 50))
def test_the_window_has_the_chosen_row_and_no_gap(place: int, size: int, total: int) -> None:
    place, size = min(place, total - 1), min(size, total)
    first = window(place, size, total)

    assert 0 <= first <= place < first + size <= total
