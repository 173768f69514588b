"""What a claimed tick asks for, and what follows it: whatever the delays, each tick is run or skipped exactly once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from kaiju_app import _decide, _door
from kaiju_app._clock import epoch_us, utc
from kaiju_app._following import Closing, Opening, Passed, closing, coming, is_unknown, opening
from kaiju_app._grid import FOREVER, Grid, Rule
from kaiju_app._model import ExecPolicy, FirstRun, Kind, Missed, Reason, Spec
from kaiju_app.scheduler import At, Cron, Every, Except, Trigger

pytestmark = pytest.mark.pure

SECOND = 1_000_000
START = epoch_us(datetime(2026, 3, 28, 22, tzinfo=UTC))  # Some hours before clocks go forward in Berlin.
POLICIES = list(ExecPolicy)


def spec_for(
    interval_s: float | None = 10,
    trigger: Trigger | None = None,
    policy: ExecPolicy = ExecPolicy.CANCEL,
    missed: Missed = Missed.ONCE,
    *,
    jitter_s: float = 0,
    until: datetime | None = None,
    grace_s: float | None = None,
) -> Spec:
    return _door.spec(
        interval_s, trigger, policy, 0, 0, 0, OSError, FirstRun.NEXT, missed, grace_s, 86_400, jitter_s, until, False, 3
    )


def grid_of(spec: Spec, tick: int | None = None) -> Grid:
    grid = Grid(spec, seed=("", "task"), shared=True)
    if tick is not None and spec.rule is not None:
        grid.spec = _decide.with_gap(spec, grid.gap(tick))
    return grid


def opened(spec: Spec, late_s: float, *, resumed: bool = False) -> Opening:
    """Return what a claim of the tick at START asks for that comes so late; ticks are told in seconds from it."""
    found = opening(grid_of(spec, START), START, START + round(late_s * SECOND), resumed=resumed)
    return found._replace(
        tick=None if found.tick is None else from_start(found.tick),
        passed=told(found.passed),
        following=from_start(found.following),
    )


def closed(spec: Spec, began_s: float, took_s: float, *, kind: Kind = Kind.LIVE, **how: bool) -> Closing:
    began = START + round(began_s * SECOND)
    found = closing(grid_of(spec, START), kind, START, began, began + round(took_s * SECOND), **how)
    return Closing(from_start(found.following), told(found.passed))


def from_start(tick: int) -> int:
    return tick if tick >= FOREVER else (tick - START) // SECOND


def told(passed: Passed | None) -> Passed | None:
    return None if passed is None else passed._replace(first=from_start(passed.first), last=from_start(passed.last))


# --- the rules, one by one ---


def test_a_tick_in_time_runs() -> None:
    assert opened(spec_for(), 0) == Opening(0, Kind.LIVE, None, 0)
    assert opened(spec_for(), 9.9) == Opening(0, Kind.LIVE, None, 0)


def test_of_several_the_latest_runs() -> None:
    assert opened(spec_for(), 31) == Opening(30, Kind.LIVE, Passed(0, 20, 3, False, Reason.MISSED), 30)


def test_none_runs_shortly_before_the_next() -> None:
    assert opened(spec_for(), 37) == Opening(None, Kind.LIVE, Passed(0, 30, 4, False, Reason.MISSED), 40)


def test_what_a_hold_kept_back_is_told_as_such() -> None:
    assert opened(spec_for(), 4, resumed=True) == Opening(0, Kind.LIVE, None, 0)
    assert opened(spec_for(), 6, resumed=True) == Opening(None, Kind.LIVE, Passed(0, 0, 1, False, Reason.SUSPENDED), 10)
    assert opened(spec_for(), 31, resumed=True).passed == Passed(0, 20, 3, False, Reason.SUSPENDED)


def test_skip_runs_none_that_is_too_old() -> None:
    assert opened(spec_for(missed=Missed.SKIP), 0.9) == Opening(0, Kind.LIVE, None, 0)
    assert opened(spec_for(missed=Missed.SKIP), 1.5) == Opening(
        None, Kind.LIVE, Passed(0, 0, 1, False, Reason.MISSED), 10
    )


def test_all_run_one_after_another() -> None:
    assert opened(spec_for(missed=Missed.ALL), 31) == Opening(0, Kind.CAUGHT_UP, None, 0)
    assert closed(spec_for(missed=Missed.ALL), 31, 25, kind=Kind.CAUGHT_UP) == Closing(10, None)
    assert opened(spec_for(missed=Missed.ALL), 5).kind is Kind.LIVE


def test_all_run_as_far_back_as_they_may() -> None:
    found = opened(spec_for(missed=Missed.ALL), 20_005)

    assert found.tick == 10_010
    assert found.passed == Passed(0, 10_000, 1_001, False, Reason.BACKLOG)


@pytest.mark.parametrize("policy", POLICIES)
def test_after_a_short_run_the_next_tick_follows(policy: ExecPolicy) -> None:
    assert closed(spec_for(policy=policy), 0, 9.9) == Closing(10, None)


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SHIELD])
def test_one_tick_waits(policy: ExecPolicy) -> None:
    assert closed(spec_for(policy=policy), 0, 10) == Closing(10, None)
    assert closed(spec_for(policy=policy), 0, 35) == Closing(30, Passed(10, 20, 2, False, Reason.OVERLAP))


def test_none_waits_under_skip() -> None:
    assert closed(spec_for(policy=ExecPolicy.SKIP), 0, 35) == Closing(40, Passed(10, 30, 3, False, Reason.OVERLAP))


def test_the_tick_that_cuts_a_run_follows_it() -> None:
    assert closed(spec_for(), 0, 10.1, cut=True) == Closing(10, None)
    assert closed(spec_for(), 0, 35, cut=True, hung=True) == Closing(30, Passed(10, 20, 2, False, Reason.HUNG))


def test_a_late_run_is_spared() -> None:
    assert closed(spec_for(), 6, 5) == Closing(20, Passed(10, 10, 1, False, Reason.OVERLAP))
    assert closed(spec_for(), 4, 7) == Closing(10, None)  # Ended by itself in the instant in which it was to be cut.


def test_a_first_tick_beside_an_even_grid_is_not_counted_from() -> None:
    spec = spec_for(None, Every(3600, datetime(2026, 1, 1, 0, 30, tzinfo=UTC)), missed=Missed.ALL)

    assert opened(spec, 60) == Opening(0, Kind.LIVE, None, 0)
    assert opened(spec, 1800) == Opening(None, Kind.LIVE, Passed(0, 0, 1, False, Reason.MISSED), 1800)
    assert closed(spec, 0, 60) == Closing(1800, None)


def test_a_first_tick_beside_an_even_grid_runs_though_it_has_more_jitter_than_time() -> None:
    spec = spec_for(None, Every(3600, datetime(2026, 1, 1, 0, 1, tzinfo=UTC)), jitter_s=3000)
    late = grid_of(spec, START).due(START) - START

    assert 0 <= late < 60 * SECOND
    assert opened(spec, late / SECOND) == Opening(0, Kind.LIVE, None, 0)


def test_the_last_tick_is_followed_by_none() -> None:
    moment = datetime(2026, 3, 28, 22, tzinfo=UTC)

    assert closed(spec_for(None, At(moment)), 0, 3).following >= FOREVER
    until = moment + timedelta(seconds=25)
    assert closed(spec_for(until=until, policy=ExecPolicy.SKIP), 0, 35) == Closing(
        FOREVER, Passed(10, 20, 2, False, Reason.OVERLAP)
    )


# --- any story ---


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    trigger: Trigger | None = draw(
        st.sampled_from(
            [None, None, Every(7), Cron("*/2 * * * *", tz="Europe/Berlin"), Cron("15 2,3 * * *", tz="Europe/Berlin")]
        )
    )
    missed = draw(st.sampled_from(Missed))
    grace = None if missed is Missed.ALL else draw(st.sampled_from([None, 0, 3, 100]))
    return spec_for(
        draw(st.sampled_from([0.05, 7, 60])) if trigger is None else None,
        trigger,
        draw(st.sampled_from(POLICIES)),
        missed,
        jitter_s=draw(st.sampled_from([0, 0.03])),
        until=draw(st.sampled_from([None, None, datetime(2026, 3, 28, 22, 10, tzinfo=UTC)])),
        grace_s=grace,
    )


delays = st.integers(0, 30) | st.integers(0, 30 * SECOND) | st.integers(0, 20_000 * SECOND)


@given(specs(), st.lists(st.tuples(delays, delays, st.booleans(), st.booleans(), st.booleans()), max_size=12))
@example(spec_for(missed=Missed.ALL), [(25 * SECOND, 12 * SECOND, False, False, False)] * 3)
def test_every_tick_is_told_once(spec: Spec, story: list[tuple[int, int, bool, bool, bool]]) -> None:
    """Claims come as late as they like, and runs take as long as they like."""
    whole = grid_of(spec)
    tick = whole.after(START)
    now = START
    told_ticks: list[int] = []

    def tell(passed: Passed | None) -> None:
        if passed is not None:
            found = list(ticks_between(whole, passed.first, passed.last))
            assert passed.more or len(found) == passed.number
            told_ticks.extend(found)

    first = tick
    for late, took, resumed, cut, hung in story:
        if tick >= FOREVER:
            break
        now = max(now, whole.due(tick)) + late
        begun = opening(grid_of(spec, tick), tick, now, resumed=resumed)
        tell(begun.passed)
        if begun.tick is None:
            assert begun.following > tick
            assert begun.following >= FOREVER or whole.due(begun.following) > now
            tick = begun.following
            continue
        told_ticks.append(begun.tick)
        ended = closing(grid_of(spec, begun.tick), begun.kind, begun.tick, now, now + took, cut=cut, hung=hung)
        now += took
        tell(ended.passed)
        assert ended.following > begun.tick
        tick = ended.following
    assert told_ticks == list(ticks_between(whole, first, told_ticks[-1] if told_ticks else first - 1))
    assert tick >= FOREVER or not told_ticks or whole.after(told_ticks[-1]) == tick


def ticks_between(grid: Grid, first: int, last: int) -> list[int]:
    """Return the ticks from one to another, both included, asked for one by one."""
    found, tick = [], first
    while tick <= last:
        found.append(tick)
        tick = grid.after(tick)
    return found


# --- what is not known ---


@pytest.mark.parametrize("jitter_s", [0, 0.5])
def test_what_was_not_found_is_told_apart_from_what_is_over_and_from_every_tick(jitter_s: float) -> None:
    rule = Except(Cron("* * * * * *"), *(Cron(f"{first}-59/2 * * * * *") for first in (0, 1)), At(utc(START)))
    spec = replace(spec_for(trigger=Cron("* * * * * *"), interval_s=None, jitter_s=jitter_s), rule=Rule(rule))
    grid = grid_of(spec)

    found = coming(grid, grid.after(START), START, START)
    assert (START + 1, START + 2_000 * SECOND) == (found.tick, round(found.due, -7))
    assert is_unknown(grid, found.tick, found.due)

    known = grid_of(spec_for(trigger=Cron("* * * * * *"), interval_s=None, jitter_s=jitter_s))
    tick = coming(known, known.after(START), START, START)
    assert START + SECOND == tick.tick
    assert not is_unknown(known, tick.tick, tick.due)
    assert not is_unknown(known, START + 1, START + 1 + known.spec.jitter)  # A first run beside the rule.
    over = grid_of(spec_for(trigger=At(utc(START)), interval_s=None, jitter_s=jitter_s))
    assert FOREVER == coming(over, over.after(START), START, START).tick
