"""The policy of cluster tasks: with any delays, each tick is run or skipped exactly once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given

from kaiju_app._cluster.policy import (
    ClaimDecision,
    FinishDecision,
    SkippedTicks,
    decide_claim,
    next_tick,
    on_claim,
    on_finish,
    runs_again,
)
from kaiju_app._core.clock import NEVER, epoch_us, utc
from kaiju_app._core.model import ExecPolicy, FirstRun, Missed, OnLost, Outcome, Reason
from kaiju_app._engine import options
from kaiju_app._engine import policy as decide
from kaiju_app._engine.spec import Kind, TaskSpec
from kaiju_app.scheduler import At, Cron, Every, Except, Trigger
from kaiju_app.stores._record import TaskRecord
from kaiju_app.triggers._adapter import Found, TriggerAdapter
from kaiju_app.triggers._timeline import Timeline, timeline_of

pytestmark = pytest.mark.pure

SECOND = 1_000_000
START = epoch_us(datetime(2026, 3, 28, 22, tzinfo=UTC))  # Some hours before daylight saving begins in Berlin.
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
) -> TaskSpec:
    return options.make_spec(
        *options.SpecOptions(
            interval_s=interval_s,
            trigger=trigger,
            policy=policy,
            max_timeout_s=0,
            retries=0,
            retry_interval_s=0,
            retry_on=OSError,
            first_run=FirstRun.NEXT,
            missed=missed,
            grace_s=grace_s,
            catchup_s=86_400,
            jitter_s=jitter_s,
            until=until,
            threaded=False,
            safe_mod=3,
        )
    )


def grid_of(spec: TaskSpec, tick: int | None = None) -> Timeline:
    grid = timeline_of(spec, seed=("", "task"), shared=True)
    if tick is not None and spec.rule is not None:
        grid.spec = decide.with_gap(spec, grid.gap(tick))
    return grid


def opened(spec: TaskSpec, late_s: float, *, resumed: bool = False) -> ClaimDecision:
    """Return the decision for a claim of the tick at START that comes so late, with ticks in seconds from START."""
    found = on_claim(grid_of(spec, START), START, START + round(late_s * SECOND), resumed=resumed)
    return found._replace(
        tick=None if found.tick is None else from_start(found.tick),
        skipped=told(found.skipped),
        following=from_start(found.following.tick),
    )


def closed(spec: TaskSpec, began_s: float, took_s: float, *, kind: Kind = Kind.LIVE, **how: bool) -> FinishDecision:
    began = START + round(began_s * SECOND)
    found = on_finish(grid_of(spec, START), kind, START, began, began + round(took_s * SECOND), **how)
    return FinishDecision(from_start(found.following.tick), told(found.skipped))


def from_start(tick: int) -> int:
    return tick if tick >= NEVER else (tick - START) // SECOND


def told(passed: SkippedTicks | None) -> SkippedTicks | None:
    return None if passed is None else passed._replace(first=from_start(passed.first), last=from_start(passed.last))


# --- the rules, one by one ---


def test_a_tick_in_time_runs() -> None:
    assert opened(spec_for(), 0) == ClaimDecision(0, Kind.LIVE, None, 0)
    assert opened(spec_for(), 9.9) == ClaimDecision(0, Kind.LIVE, None, 0)


def test_of_several_the_latest_runs() -> None:
    assert opened(spec_for(), 31) == ClaimDecision(30, Kind.LIVE, SkippedTicks(0, 20, 3, False, Reason.MISSED), 30)


def test_none_runs_shortly_before_the_next() -> None:
    assert opened(spec_for(), 37) == ClaimDecision(None, Kind.LIVE, SkippedTicks(0, 30, 4, False, Reason.MISSED), 40)


def test_what_a_hold_kept_back_is_told_as_such() -> None:
    assert opened(spec_for(), 4, resumed=True) == ClaimDecision(0, Kind.LIVE, None, 0)
    assert opened(spec_for(), 6, resumed=True) == ClaimDecision(
        None, Kind.LIVE, SkippedTicks(0, 0, 1, False, Reason.SUSPENDED), 10
    )
    assert opened(spec_for(), 31, resumed=True).skipped == SkippedTicks(0, 20, 3, False, Reason.SUSPENDED)


def test_skip_runs_none_that_is_too_old() -> None:
    assert opened(spec_for(missed=Missed.SKIP), 0.9) == ClaimDecision(0, Kind.LIVE, None, 0)
    assert opened(spec_for(missed=Missed.SKIP), 1.5) == ClaimDecision(
        None, Kind.LIVE, SkippedTicks(0, 0, 1, False, Reason.MISSED), 10
    )


def test_all_run_one_after_another() -> None:
    assert opened(spec_for(missed=Missed.ALL), 31) == ClaimDecision(0, Kind.CAUGHT_UP, None, 0)
    assert closed(spec_for(missed=Missed.ALL), 31, 25, kind=Kind.CAUGHT_UP) == FinishDecision(10, None)
    assert opened(spec_for(missed=Missed.ALL), 5).kind is Kind.LIVE


def test_all_run_as_far_back_as_they_may() -> None:
    found = opened(spec_for(missed=Missed.ALL), 20_005)

    assert found.tick == 10_010
    assert found.skipped == SkippedTicks(0, 10_000, 1_001, False, Reason.BACKLOG)


@pytest.mark.parametrize("policy", POLICIES)
def test_after_a_short_run_the_next_tick_follows(policy: ExecPolicy) -> None:
    assert closed(spec_for(policy=policy), 0, 9.9) == FinishDecision(10, None)


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SHIELD])
def test_one_tick_waits(policy: ExecPolicy) -> None:
    assert closed(spec_for(policy=policy), 0, 10) == FinishDecision(10, None)
    assert closed(spec_for(policy=policy), 0, 35) == FinishDecision(30, SkippedTicks(10, 20, 2, False, Reason.OVERLAP))


def test_none_waits_under_skip() -> None:
    assert closed(spec_for(policy=ExecPolicy.SKIP), 0, 35) == FinishDecision(
        40, SkippedTicks(10, 30, 3, False, Reason.OVERLAP)
    )


def test_the_tick_that_cuts_a_run_follows_it() -> None:
    assert closed(spec_for(), 0, 10.1, cancelled=True) == FinishDecision(10, None)
    assert closed(spec_for(), 0, 35, cancelled=True, hung=True) == FinishDecision(
        30, SkippedTicks(10, 20, 2, False, Reason.HUNG)
    )


def test_a_late_run_is_spared() -> None:
    assert closed(spec_for(), 6, 5) == FinishDecision(20, SkippedTicks(10, 10, 1, False, Reason.OVERLAP))
    assert closed(spec_for(), 4, 7) == FinishDecision(10, None)  # It ended by itself at the instant of its deadline.


def test_a_first_tick_beside_an_even_grid_is_not_counted_from() -> None:
    spec = spec_for(None, Every(3600, datetime(2026, 1, 1, 0, 30, tzinfo=UTC)), missed=Missed.ALL)

    assert opened(spec, 60) == ClaimDecision(0, Kind.LIVE, None, 0)
    assert opened(spec, 1800) == ClaimDecision(None, Kind.LIVE, SkippedTicks(0, 0, 1, False, Reason.MISSED), 1800)
    assert closed(spec, 0, 60) == FinishDecision(1800, None)


def test_a_first_tick_beside_an_even_grid_runs_though_it_has_more_jitter_than_time() -> None:
    spec = spec_for(None, Every(3600, datetime(2026, 1, 1, 0, 1, tzinfo=UTC)), jitter_s=3000)
    late = grid_of(spec, START).due(START) - START

    assert 0 <= late < 60 * SECOND
    assert opened(spec, late / SECOND) == ClaimDecision(0, Kind.LIVE, None, 0)


def test_the_last_tick_is_followed_by_none() -> None:
    moment = datetime(2026, 3, 28, 22, tzinfo=UTC)

    assert closed(spec_for(None, At(moment)), 0, 3).following >= NEVER
    until = moment + timedelta(seconds=25)
    assert closed(spec_for(until=until, policy=ExecPolicy.SKIP), 0, 35) == FinishDecision(
        NEVER, SkippedTicks(10, 20, 2, False, Reason.OVERLAP)
    )


def test_a_tick_runs_again_if_its_run_was_lost_or_cut_by_a_stop_and_that_is_wanted() -> None:
    lost = {(OnLost.RETRY, False), (OnLost.RETRY, True), (OnLost.SKIP, True)}
    again = {(Outcome.LOST, reason, *each) for reason in (None, *Reason) for each in lost}
    again.add((Outcome.CANCELLED, Reason.SHUTDOWN, OnLost.RETRY, False))

    for outcome, reason, on_lost, manual in product(Outcome, (None, *Reason), OnLost, (False, True)):
        wanted = (outcome, reason, on_lost, manual) in again
        assert runs_again(outcome, reason, on_lost, manual=manual) is wanted


# --- any history ---


@st.composite
def specs(draw: st.DrawFn) -> TaskSpec:
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
def test_every_tick_is_told_once(spec: TaskSpec, story: list[tuple[int, int, bool, bool, bool]]) -> None:
    """Claims may be late by any time, and runs may take any time."""
    whole = grid_of(spec)
    tick = whole.next_after(START).tick
    now = START
    told_ticks: list[int] = []

    def tell(passed: SkippedTicks | None) -> None:
        if passed is not None:
            found = list(ticks_between(whole, passed.first, passed.last))
            assert passed.more or len(found) == passed.number
            told_ticks.extend(found)

    first = tick
    for late, took, resumed, cut, hung in story:
        if tick >= NEVER:
            break
        now = max(now, whole.due(tick)) + late
        begun = on_claim(grid_of(spec, tick), tick, now, resumed=resumed)
        tell(begun.skipped)
        if begun.tick is None:
            following = begun.following.tick
            assert following > tick
            assert following >= NEVER or whole.due(following) > now
            tick = following
            continue
        told_ticks.append(begun.tick)
        ended = on_finish(grid_of(spec, begun.tick), begun.kind, begun.tick, now, now + took, cancelled=cut, hung=hung)
        now += took
        tell(ended.skipped)
        assert ended.following.tick > begun.tick
        tick = ended.following.tick
    assert told_ticks == list(ticks_between(whole, first, told_ticks[-1] if told_ticks else first - 1))
    assert tick >= NEVER or not told_ticks or whole.next_after(told_ticks[-1]).tick == tick


@given(specs(), delays, delays, st.booleans())
@example(spec_for(interval_s=7), 0, 14 * SECOND, False)
@example(spec_for(interval_s=7), 16 * SECOND, 5 * SECOND, False)
@example(spec_for(missed=Missed.ALL), 25 * SECOND, 30 * SECOND, False)
def test_a_run_that_was_lost_is_not_repeated_by_the_next_claim_if_nobody_wants_that(
    spec: TaskSpec, late: int, silent: int, resumed: bool
) -> None:
    """A claim that comes late runs a later tick than its own, and the next claim has to avoid that one, too."""
    whole = grid_of(spec)
    tick = whole.next_after(START).tick
    assume(tick < NEVER)
    now = whole.due(tick) + late
    lost = on_claim(grid_of(spec, tick), tick, now, resumed=resumed)
    record = TaskRecord("task", 1, "{}", (), tick, whole.due(tick), tick - 1, START, claims=2)

    found = decide_claim(grid_of(spec, tick), record, now + silent, OnLost.SKIP)

    assert found.tick is None
    assert found.following.tick > max(tick, lost.tick or tick)
    if found.skipped is None:
        assert found.following.tick == whole.next_after(tick).tick
    else:
        skipped = list(ticks_between(whole, found.skipped.first, found.skipped.last))
        assert found.skipped.more or len(skipped) == found.skipped.number
        assert found.skipped.first == whole.next_after(tick).tick
        assert whole.next_after(found.skipped.last).tick == found.following.tick
        assert found.following.tick >= NEVER or whole.due(found.following.tick) > now + silent


def ticks_between(grid: Timeline, first: int, last: int) -> list[int]:
    """Return the ticks from one to another, both included, by asking the trigger one by one."""
    found, tick = [], first
    while tick <= last:
        found.append(tick)
        tick = grid.next_after(tick).tick
    return found


# --- an unknown next tick ---


@pytest.mark.parametrize("jitter_s", [0, 0.5])
def test_what_was_not_found_is_told_apart_from_what_is_over_and_from_every_tick(jitter_s: float) -> None:
    rule = Except(Cron("* * * * * *"), *(Cron(f"{first}-59/2 * * * * *") for first in (0, 1)), At(utc(START)))
    spec = replace(spec_for(trigger=Cron("* * * * * *"), interval_s=None, jitter_s=jitter_s), rule=TriggerAdapter(rule))
    grid = grid_of(spec)

    found = next_tick(grid, grid.next_after(START), START, START)
    assert (START + 1, START + 2_000 * SECOND) == (found.tick, round(found.due, -7))
    assert found.unknown

    known = grid_of(spec_for(trigger=Cron("* * * * * *"), interval_s=None, jitter_s=jitter_s))
    tick = next_tick(known, known.next_after(START), START, START)
    assert START + SECOND == tick.tick
    assert not tick.unknown
    assert not next_tick(known, Found(START + 1), START, START).unknown  # A first run that is not on the grid.
    over = grid_of(spec_for(trigger=At(utc(START)), interval_s=None, jitter_s=jitter_s))
    assert NEVER == next_tick(over, over.next_after(START), START, START).tick
