"""What crontabs say in other dialects is understood, or it is said what to write instead."""

from __future__ import annotations

from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from croniter import croniter
from hypothesis import given

from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers import trigger_from_json
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._cron_dialects import H_RANGES, NICKNAMES

pytestmark = pytest.mark.pure

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_a_nickname_means_what_another_library_takes_it_for(nickname: str) -> None:
    rule = Cron(f" {nickname.upper()} ")
    other = croniter(nickname, NOW, ret_type=datetime)

    assert rule == Cron(nickname) == Cron(NICKNAMES[nickname])
    assert rule.upcoming(NOW, 9) == [other.get_next() for _ in range(9)]
    assert rule == trigger_from_json({"cron": nickname}) == trigger_from_json(rule.json_repr())


@pytest.mark.parametrize(
    ("expression", "plain"),
    [("0 0 ? * mon", "0 0 * * mon"), ("0 0 1 * ?", "0 0 1 * *"), ("0 0 0 ? * ?", "0 0 0 * * *")],
)
def test_a_question_mark_leaves_the_day_to_the_other_field(expression: str, plain: str) -> None:
    assert Cron(plain) == Cron(expression)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (
            "@reboot",
            r"expression is no time of a calendar: first_run=FirstRun.NOW makes a task run at each start as well, ",
        ),
        (
            "@every 1m30s",
            r"expression is an interval: write Every\(90\) for every 90 seconds, or interval_s=90, got '@every 1m30s'",
        ),
        (
            "@noon",
            "expression must have 5 fields, or 6 with the second first, but has 1; or be one of @hourly, @daily, @mid",
        ),
        (
            "CRON_TZ=Asia/Tokyo 0 6 * * *",
            "expression must not begin with a time zone: pass it as tz='Europe/Berlin', got ",
        ),
        ("0 0 0 1 1 ? 2027", "expression must have 5 fields, .*, but has 7; a year has no field: end a task with "),
        ("0 0 1 1 * 2027", "expression has an invalid day-of-week, '2027': .*; a year has no field: end a task with "),
        ("0~29 * * * *", "expression has an invalid minute, '0~29': .*; for a time that differs from task to task "),
        ("0 0 5L * *", "expression has an invalid day-of-month, '5L': .*; the last Friday is 5L in the day-of-week "),
        ("0 0 L-3W * *", "expression has an invalid day-of-month, 'L-3W': .*; W takes a single day: 15W, or LW for "),
        ("0 0 1-5w * *", "expression has an invalid day-of-month, '1-5W': .*; W takes a single day: 15W, or LW for "),
        ("0 0 L-31 * *", "expression has an invalid day-of-month, 'L-31': allowed are .*; lists, ranges, steps, got "),
        ("0 0 0W * *", "expression has an invalid day-of-month, '0W': allowed are "),
        ("0 0 32W * *", "expression has an invalid day-of-month, '32W': allowed are "),
        ("0 0 L-3/2 * *", "expression has an invalid day-of-month, 'L-3/2': allowed are "),
        ("0 0 * * L", "expression has an invalid day-of-week, 'L': .*; dialects differ about L alone: write 6 for "),
        ("0 0 31W 2 *", "expression must match at least one day, but never does, got "),
        ("? * * * *", r"expression has an invalid minute, '\?': allowed are "),
        ("0 0 15W/2 * *", "expression has an invalid day-of-month, '15W/2': allowed are "),
    ],
)
def test_what_has_no_place_in_an_expression_is_refused_with_the_way_out(expression: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{why}") as refused:
        Cron(expression)

    assert expression == refused.value.value


# --- H ---

TERMS = ("H", "H/{step}", "H({low}-{high})", "H({low}-{high})/{step}")


@st.composite
def hashed(draw: st.DrawFn) -> tuple[int, str, range]:
    """Draw a field, a term with an H, and the first numbers that it may match, of which there is one for each name."""
    place = draw(st.integers(0, 5))
    term = draw(st.sampled_from(TERMS))
    low, high = H_RANGES[place]
    if "low" in term:
        low = draw(st.integers(low, high))
        high = draw(st.integers(low, high))
    step = draw(st.integers(1, high - low + 1))
    firsts = range(low, low + step) if "step" in term else range(low, high + 1)
    return place, term.format(low=low, high=high, step=step), firsts


@given(hashed(), st.text(st.characters(codec="utf-8"), min_size=1))
def test_an_h_is_a_number_of_its_range_the_same_for_the_same_name(found: tuple[int, str, range], name: str) -> None:
    place, term, firsts = found
    expression = " ".join(term if each == place else "*" for each in range(6))
    rule = Cron(expression, spread=name)
    field = rule.expression.split()[place]

    assert int(field.partition("-")[0]) in firsts
    assert rule == Cron(expression.lower(), spread=name) == trigger_from_json({"cron": expression, "spread": name})
    assert rule == eval(repr(rule)) == trigger_from_json(rule.json_repr())


def test_names_are_spread_over_the_whole_range_and_each_field_by_itself() -> None:
    rules = [Cron("H H * * *", spread=f"task {number}").expression.split() for number in range(2_000)]

    assert set(range(60)) == {int(minute) for minute, *_ in rules}
    assert set(range(24)) == {int(hour) for _, hour, *_ in rules}
    assert len({(minute, hour) for minute, hour, *_ in rules}) > 900
    for minute in range(60):
        assert 10 <= sum(int(rule[0]) == minute for rule in rules) <= 70


def test_steps_after_an_h_keep_their_distance() -> None:
    rule = Cron("H/15 * * * *", spread="report")
    ticks = rule.upcoming(NOW, 9)

    assert 1 == len({tick.minute % 15 for tick in ticks})
    assert rule.expression != Cron("H/15 * * * *", spread="other").expression


def test_the_number_of_a_name_is_the_same_in_every_version() -> None:
    assert "44 3 * * *" == Cron("H 3 * * *", spread="nightly report").expression


@pytest.mark.parametrize("spread", [None, ""])
def test_an_h_without_a_name_is_refused_with_the_way_out(spread: str | None) -> None:
    why = (
        r"^expression has an H, a hash of a name: write Cron\(..., spread='report'\), or give a task with such text a "
    )
    with pytest.raises(InvalidArgument, match=why):
        Cron("H 3 * * *", spread=spread)
    with pytest.raises(InvalidArgument, match=r"^trigger any_of\[0\] cron has an H, "):
        trigger_from_json({"any_of": [{"cron": "H 3 * * *"}]})


@pytest.mark.parametrize("expression", ["0 3 * * *", "H 3 * * *"])
def test_a_name_is_text(expression: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^spread must be text, got 5"):
        Cron(expression, spread=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "field"),
    [("H/61 * * * *", "minute, 'H/61'"), ("H(9-5) * * * *", "minute, 'H.9-5.'"), ("* * H/0 * *", "day-of-month, 'H/0'"),
     ("* H(24-30) * * *", "hour, '2.'|hour, '30'"), ("* * * * H-2", "day-of-week, 'H-2'"), ("H(* * * * *", "minute")],
)  # fmt: skip
def test_an_h_out_of_range_is_refused(expression: str, field: str) -> None:
    with pytest.raises(InvalidArgument, match=f"expression has an invalid ({field})"):
        Cron(expression, spread="report")
