"""WHETHER: each choice against a slow model of the sentence that it follows, and the driver against the choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaiju_app import _decide, _door
from kaiju_app._clock import Clock, epoch_us, utc
from kaiju_app._decide import BACKLOG, EARLY, Step
from kaiju_app._driver import Driver
from kaiju_app._entry import (
    DISABLED,
    FAILING,
    HELD,
    HUNG,
    OFF_GRID,
    QUEUED,
    REMOVED,
    RESUMED,
    SKIPPING,
    WATCHED,
    Entry,
    Hold,
)
from kaiju_app._grid import Grid
from kaiju_app._model import Kind, Reason, Settings, Spec
from kaiju_app._run import Running
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Missed, Trigger

pytestmark = pytest.mark.pure

HOUR = 3_600_000_000
CENTURY = 100 * 366 * 86_400_000_000
WALL = 1_800_000_000_000_000

gaps = st.integers(1_000, 20_000) | st.integers(1_000, HOUR) | st.integers(1_000, CENTURY)
instants = st.integers(0, 100_000) | st.integers(0, CENTURY)
offsets = st.integers(WALL - HOUR, WALL + HOUR)


def make(
    gap: int,
    policy: ExecPolicy = ExecPolicy.CANCEL,
    missed: Missed = Missed.ONCE,
    grace: int | None = None,
    catchup: int = 86_400_000_000,
    max_timeout: int = 0,
    retries: int = 0,
    retry_interval: int = 0,
    first_run: Any = None,
    trigger: Trigger | None = None,
    jitter: int = 0,
    until: int | None = None,
) -> Spec:
    """Return a Spec as the door makes it, from microseconds."""

    def s(us: int) -> timedelta:
        return timedelta(microseconds=us)

    return _door.spec(
        s(gap) if trigger is None else None,
        trigger,
        policy,
        s(max_timeout),
        retries,
        s(retry_interval),
        OSError,
        first_run,
        missed,
        None if grace is None else s(grace),
        s(catchup),
        s(jitter),
        None if until is None else utc(until),
        False,
        3.0,
    )


@st.composite
def specs(draw: st.DrawFn, some_gaps: st.SearchStrategy[int] = gaps) -> Spec:
    gap = draw(some_gaps)
    missed = draw(st.sampled_from(Missed))
    short = st.integers(0, 3 * gap if gap < CENTURY // 3 else CENTURY)
    return make(
        gap,
        policy=draw(st.sampled_from(ExecPolicy)),
        missed=missed,
        grace=None if missed is Missed.ALL else draw(st.none() | short),
        catchup=draw(short | st.just(86_400_000_000)),
        max_timeout=draw(st.just(0) | short),
        retries=draw(st.integers(0, 5)),
        retry_interval=draw(st.just(0) | short),
    )


# --- a tick at the door ---


@given(specs(), st.data(), st.booleans(), st.booleans())
def test_a_tick_is_missed_if_a_later_one_is_due_or_its_grace_is_over(
    spec: Spec, data: st.DataObject, parked: bool, busy: bool
) -> None:
    edges = [edge + by for edge in (0, spec.gap, spec.grace or 0) for by in (-1, 0, 1)]
    lateness = data.draw(st.sampled_from(edges) | st.integers(-EARLY, 3 * spec.gap))
    is_missed = lateness >= spec.gap or (spec.grace is not None and lateness > spec.grace)

    step = _decide.on_tick(spec, lateness, parked=parked, busy=busy)

    if parked:
        assert step is Step.PARK
    elif is_missed:
        assert step is Step.LATE
    else:
        assert step is (Step.WAIT if busy else Step.START)


@pytest.mark.parametrize("early", [0, 1, EARLY])
@given(spec=specs())
def test_a_tick_that_is_early_is_never_missed(spec: Spec, early: int) -> None:
    assert _decide.on_tick(spec, -early, parked=False, busy=False) is Step.START


@given(specs())
def test_a_tick_counts_as_due_a_millisecond_early_but_never_half_a_gap(spec: Spec) -> None:
    assert spec.early == min(EARLY, spec.gap // 2)


# --- a tick and a run in progress ---


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("policy", ExecPolicy)
def test_no_tick_waits_for_a_hung_run(policy: ExecPolicy, cut: bool) -> None:
    assert _decide.overlap(policy, 20, 10, 10, cut=cut, hung=True) is Step.HUNG


@pytest.mark.parametrize(
    ("policy", "cut", "step"),
    [
        (ExecPolicy.CANCEL, False, Step.REPLACE),
        (ExecPolicy.CANCEL, True, Step.WAIT),
        (ExecPolicy.WAIT, False, Step.WAIT),
        (ExecPolicy.WAIT, True, Step.WAIT),
        (ExecPolicy.SKIP, False, Step.OVERLAP),
        (ExecPolicy.SKIP, True, Step.OVERLAP),
        (ExecPolicy.SHIELD, False, Step.WAIT),
    ],
)
def test_the_policy_says_what_a_tick_does_to_a_run(policy: ExecPolicy, cut: bool, step: Step) -> None:
    assert _decide.overlap(policy, 20, 10, 10, cut=cut, hung=False) is step


@given(instants, st.integers(-EARLY, CENTURY), gaps)
def test_cancel_spares_a_run_younger_than_half_a_gap(started: int, age: int, gap: int) -> None:
    step = _decide.overlap(ExecPolicy.CANCEL, started + age, started, gap, cut=False, hung=False)

    assert step is (Step.REPLACE if age >= gap / 2 else Step.OVERLAP)


@pytest.mark.parametrize(("gap", "age"), [(10, 5), (11, 6), (1_000, 500), (1_001, 501)])
def test_half_a_gap_is_rounded_up_to_a_microsecond(gap: int, age: int) -> None:
    def at(age: int) -> Step:
        return _decide.overlap(ExecPolicy.CANCEL, 7 + age, 7, gap, cut=False, hung=False)

    assert (at(age - 1), at(age)) == (Step.OVERLAP, Step.REPLACE)


# --- ticks that are late ---


def due_ticks(due: int, now: int, gap: int) -> list[int]:
    """Return *due*, and whatever else is due at *now*; a first one that is early counts."""
    return [due, *range(due + gap, now + 1, gap)]


def slow_missed(spec: Spec, due: int, now: int, *, held: bool) -> list[int]:
    """Return the ticks to be run, by looking at each."""
    ticks = due_ticks(due, now, spec.gap)
    latest = ticks[-1]
    if spec.missed is Missed.ALL:
        return [tick for tick in ticks if now - tick <= spec.catchup][-BACKLOG:]
    if spec.grace is not None and now - latest > spec.grace:
        return []
    if spec.missed is Missed.SKIP:
        return [latest]  # Within its grace, and no later one is due: it was not missed.
    until_next = latest + spec.gap - now
    too_near = until_next < spec.gap / 2
    return [] if too_near and (held or len(ticks) > 1) else [latest]


@given(
    specs(st.integers(1_000, 20_000)),
    st.integers(0, 1_000_000),
    st.integers(-EARLY, 200_000) | st.integers(18_000_000, 22_000_000),
    st.booleans(),
)
@example(make(1_000, missed=Missed.ALL), 0, 999_000, False)
@example(make(1_000, missed=Missed.ALL), 0, 1_000_000, False)
@example(make(1_000, missed=Missed.ALL, catchup=7_000), 0, 10_000, False)
@example(make(1_000, missed=Missed.ALL, catchup=0), 0, 10_000, False)
@example(make(1_000), 0, 2_500, False)
@example(make(1_000), 0, 2_501, False)
@example(make(1_001), 0, 1_502, False)
@example(make(1_001), 0, 501, True)
def test_missed_is_what_looking_at_each_tick_comes_to(spec: Spec, due: int, lateness: int, held: bool) -> None:
    now = due + lateness
    late = _decide.missed(Grid(spec), due, now, held=held)
    ticks = due_ticks(due, now, spec.gap)

    assert late.dropped + len(late.kept) == len(ticks)
    assert ticks[late.dropped :] == slow_missed(spec, due, now, held=held) == list(late.kept)
    assert not late.dropped or late.last == ticks[late.dropped - 1]
    assert late.following == ticks[-1] + spec.gap
    assert late.following > now


@given(specs(), instants, st.integers(-EARLY, 10 * CENTURY), st.booleans())
def test_every_late_tick_is_dropped_or_kept(spec: Spec, due: int, lateness: int, held: bool) -> None:
    now = due + lateness
    late = _decide.missed(Grid(spec), due, now, held=held)

    assert late.dropped >= 0
    assert 0 <= len(late.kept) <= (BACKLOG if spec.missed is Missed.ALL else 1)
    assert late.following == due + (late.dropped + len(late.kept)) * spec.gap
    assert late.following > now
    assert late.following - spec.gap <= max(now, due)


@given(specs(), instants, st.integers(-EARLY, CENTURY), st.booleans(), st.integers(-CENTURY, CENTURY))
def test_what_becomes_of_late_ticks_does_not_depend_on_the_age_of_the_machine(
    spec: Spec, due: int, lateness: int, held: bool, older: int
) -> None:
    late = _decide.missed(Grid(spec), due, due + lateness, held=held)
    later = _decide.missed(Grid(spec), due + older, due + older + lateness, held=held)
    kept = [tick + older for tick in late.kept]

    assert list(later.kept) == kept
    assert replace(later, kept=()) == replace(late, kept=(), last=late.last + older, following=late.following + older)


@pytest.mark.parametrize(
    ("missed", "held", "reason"),
    [
        (Missed.ONCE, False, Reason.MISSED),
        (Missed.ONCE, True, Reason.SUSPENDED),
        (Missed.SKIP, False, Reason.MISSED),
        (Missed.SKIP, True, Reason.SUSPENDED),
        (Missed.ALL, False, Reason.BACKLOG),
    ],
)
def test_the_reason_of_a_skip_says_what_kept_the_tick(missed: Missed, held: bool, reason: Reason) -> None:
    assert _decide.missed(Grid(make(1_000, missed=missed, catchup=0)), 0, 10_500, held=held).reason is reason


@pytest.mark.parametrize("missed", Missed)
def test_ten_years_at_a_millisecond_are_no_more_work_than_a_second(missed: Missed) -> None:
    """The work is counted, not timed: integers that say how often somebody calculated with them."""
    operations = 0

    class Counting(int):
        def __sub__(self, other: int) -> Counting:
            nonlocal operations
            operations += 1
            return Counting(int(self) - int(other))

        __radd__ = __add__ = lambda self, other: Counting(int(self) + int(other))

    def work(lateness: int) -> int:
        nonlocal operations
        operations = 0
        _decide.missed(Grid(make(1_000, missed=missed)), Counting(0), Counting(lateness), held=False)
        return operations

    assert work(10 * 365 * 86_400_000_000 + 1) == work(1_000_001) > 0


# --- until when a run may go on ---


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Return gap, a tick of the rule, when a run was due, and when it began."""
    gap = draw(gaps)
    grid = draw(instants)
    off_grid = draw(st.just(0) | st.integers(0, gap - 1))  # A first run, or one that somebody asked for.
    due = grid + draw(st.integers(-3, 3)) * gap + off_grid
    started = due + draw(st.integers(-min(EARLY, gap // 2), 0) | st.integers(0, 3 * gap))
    return gap, grid, due, started


def grid_after(moment: int, grid: int, gap: int) -> count[int]:
    """Return the ticks of the grid after *moment*."""
    return count(moment + gap - (moment - grid) % gap, gap)


@given(runs(), st.sampled_from([Kind.LIVE, Kind.MANUAL]))
@example((1_000, 0, 0, -500), Kind.LIVE)
@example((1_001, 0, 0, 501), Kind.LIVE)
@example((10_000, 0, 0, 5_000), Kind.LIVE)
@example((10_000, 0, 0, 5_001), Kind.LIVE)
@example((60_000_000, 0, 30_000_300, 29_999_800), Kind.LIVE)
def test_a_cancel_run_is_replaced_by_the_tick_that_its_deadline_names(
    run: tuple[int, int, int, int], kind: Kind
) -> None:
    """The first tick after its own that overlap() lets replace it is its deadline."""
    gap, grid, due, started = run
    ticks = grid_after(max(started, due), grid, gap)
    replacing = next(
        tick
        for tick in islice(ticks, 3)
        if _decide.overlap(ExecPolicy.CANCEL, tick, started, gap, cut=False, hung=False) is Step.REPLACE
    )

    assert _decide.deadline(Grid(make(gap)), kind, grid, due, started) == (replacing, Reason.REPLACED)


@given(runs(), st.integers(-5, 5), st.sampled_from([Kind.LIVE, Kind.MANUAL]))
def test_any_tick_of_the_rule_will_do_to_count_a_deadline_from(
    run: tuple[int, int, int, int], ticks: int, kind: Kind
) -> None:
    gap, grid, due, started = run
    rule = Grid(make(gap))

    assert _decide.deadline(rule, kind, grid, due, started) == _decide.deadline(
        rule, kind, grid + ticks * gap, due, started
    )


@given(runs(), st.sampled_from(ExecPolicy), st.integers(1, CENTURY), st.sampled_from([Kind.LIVE, Kind.MANUAL]))
def test_max_timeout_lowers_the_deadline_of_cancel_replaces_that_of_wait_and_skip_and_leaves_shield_alone(
    run: tuple[int, int, int, int], policy: ExecPolicy, max_timeout: int, kind: Kind
) -> None:
    gap, grid, due, started = run
    with_it = _decide.deadline(Grid(make(gap, policy, max_timeout=max_timeout)), kind, grid, due, started)
    default = _decide.deadline(Grid(make(gap, policy)), kind, grid, due, started)

    if policy is ExecPolicy.SHIELD:
        assert (with_it, default) == (None, None)
        return
    assert with_it is not None
    assert default is not None
    own = started + max_timeout
    if policy is ExecPolicy.CANCEL:
        assert with_it == (default if default[0] <= own else (own, Reason.DEADLINE))
    else:
        assert with_it == (own, Reason.DEADLINE)
        assert default == (started + 3 * gap, Reason.DEADLINE)


@given(runs(), st.sampled_from(ExecPolicy), st.integers(0, CENTURY))
def test_a_caught_up_run_has_one_gap_of_time_or_less(
    run: tuple[int, int, int, int], policy: ExecPolicy, max_timeout: int
) -> None:
    gap, grid, due, started = run
    end = _decide.deadline(Grid(make(gap, policy, max_timeout=max_timeout)), Kind.CAUGHT_UP, grid, due, started)

    if policy is ExecPolicy.SHIELD:
        assert end is None
    else:
        assert end == (started + min(gap, max_timeout or gap), Reason.DEADLINE)


# --- retries ---


@given(st.integers(0, 10), st.integers(1, 20), instants, st.integers(1, HOUR), st.none() | st.integers(-HOUR, 2 * HOUR))
def test_a_retry_comes_after_its_pause_if_one_is_left_and_it_can_start_before_the_deadline(
    retries: int, attempt: int, now: int, pause: int, end_in: int | None
) -> None:
    spec = make(HOUR, retries=retries, retry_interval=pause)
    at = _decide.retry_at(spec, attempt, now, None if end_in is None else now + end_in)

    assert at == (now + pause if attempt <= retries and (end_in is None or pause < end_in) else None)


@given(gaps, st.integers(0, 1_000))
def test_the_default_pause_spreads_the_retries_evenly(gap: int, retries: int) -> None:
    pause = _decide.default_retry_pause(gap, retries, triggered=False)

    assert pause * (retries + 1) <= gap < (pause + 1) * (retries + 1)
    assert _decide.default_retry_pause(gap, retries, triggered=True) == min(pause, 30_000_000)


# --- the first tick ---


@given(gaps, st.integers(-CENTURY, CENTURY), instants, offsets)
@example(10, 0, 0, WALL)
@example(10_000, -10_000, 50_000, WALL)
@example(10_000, -1, 50_000, WALL)
def test_a_first_run_at_an_instant_is_that_or_the_next_one_of_its_grid(
    gap: int, ahead: int, now: int, offset: int
) -> None:
    gap = max(gap, 1_000)
    due, off_grid = _decide.first_tick(Grid(make(gap, first_run=utc(now + ahead + offset)), offset), now)

    assert not off_grid
    if ahead >= 0:
        assert due == now + ahead
    else:
        assert now <= due < now + gap
        assert (due - (now + ahead)) % gap == 0


@given(gaps, instants, offsets)
def test_an_interval_starts_at_once_or_one_interval_from_now(gap: int, now: int, offset: int) -> None:
    assert _decide.first_tick(Grid(make(gap), offset), now) == (now, False)
    assert _decide.first_tick(Grid(make(gap, first_run=FirstRun.NOW), offset), now) == (now, False)
    assert _decide.first_tick(Grid(make(gap, first_run=FirstRun.NEXT), offset), now) == (now + gap, False)
    assert Grid(make(gap), offset).after(now) == now + gap


@given(gaps, st.integers(-CENTURY, CENTURY), instants, offsets, st.sampled_from([None, *FirstRun]))
def test_a_trigger_starts_at_its_next_tick_or_with_an_extra_one(
    gap: int, anchor: int, now: int, offset: int, first_run: FirstRun | None
) -> None:
    rule = Every(timedelta(microseconds=gap), utc(WALL + anchor))
    grid = Grid(make(gap, trigger=rule, first_run=first_run), offset)
    following = grid.after(now)

    assert now < following <= now + gap
    assert (following + offset - epoch_us(rule.anchor)) % gap == 0
    assert _decide.first_tick(grid, now) == ((now, True) if first_run is FirstRun.NOW else (following, False))


@given(gaps, st.integers(0, CENTURY), instants, offsets)
def test_an_instant_ahead_is_an_extra_tick_of_a_trigger(gap: int, ahead: int, now: int, offset: int) -> None:
    spec = make(gap, trigger=Every(timedelta(microseconds=gap)), first_run=utc(now + ahead + offset))

    assert _decide.first_tick(Grid(spec, offset), now) == (now + ahead, True)


@given(gaps, instants, offsets, st.integers(0, CENTURY), st.booleans())
@example(HOUR, HOUR - 300_000_000, 0, HOUR - 600_000_000, True)
def test_an_extra_tick_is_due_before_the_rule_comes_to_its_next_one(
    gap: int, now: int, offset: int, jitter: int, shared: bool
) -> None:
    """As the jitter of every tick ends before the next one."""
    rule = Every(timedelta(microseconds=gap), utc(WALL))
    spec = make(gap, trigger=rule, first_run=FirstRun.NOW, jitter=jitter % gap)
    grid = Grid(spec, offset, ("", "task"), shared=shared)
    tick, off_grid = _decide.first_tick(grid, now)

    assert off_grid
    assert tick <= grid.due(tick) < grid.after(tick)


# --- the driver does what is decided ---

SETTINGS = Settings(cancel_grace=5_000_000, history=3, threads=1, safe_mod=3.0, instance="test")
FLAGS = [DISABLED, HELD, QUEUED, WATCHED, FAILING, REMOVED, OFF_GRID, HUNG, SKIPPING, RESUMED]
TALKATIVE = WATCHED | FAILING | REMOVED | HUNG | SKIPPING  # They change what is told, not what is done.


class Went(Exception):
    """The driver has decided: which way it went, and with what."""


def went(way: str) -> Callable[..., None]:
    def recorder(entry: Entry, *facts: Any, **_: Any) -> None:
        raise Went(way, *facts)

    return recorder


@st.composite
def situations(draw: st.DrawFn) -> tuple[Spec, int, int, bool, bool]:
    """Return parameters, lateness, flags, and whether a run is going on and all tasks are held."""
    spec = draw(specs(st.integers(1_000, 5_000) | gaps))
    edges = [0, spec.gap, spec.gap // 2, *([] if spec.grace is None else [spec.grace])]
    near = st.sampled_from(edges).flatmap(lambda edge: st.integers(edge - 2, edge + 2))
    lateness = draw(near | st.integers(-EARLY, 3 * spec.gap))
    flags = sum(draw(st.just([]) | st.lists(st.sampled_from(FLAGS), max_size=3, unique=True)))
    return spec, max(-spec.early, lateness), flags, draw(st.booleans()), draw(st.sampled_from([False, False, True]))


def situation(
    spec: Spec, lateness: int, flags: int, running: bool, all_held: bool, at: int = HOUR
) -> tuple[Driver, Entry]:
    """Return a driver, whose clock stands still, with one tick that is due."""
    driver = Driver(Clock(steady=lambda: at, wall=lambda: WALL + at), SETTINGS)
    entry = Entry(driver, "task", print, (), {}, spec)
    entry.flags = flags
    entry.due = at - lateness
    entry.seq = driver._agenda.push(entry.due, entry)
    if flags & QUEUED:
        entry.waiting = entry.due - spec.gap
    if running:
        entry.run = Running(entry, entry.due - spec.gap, entry.due - spec.gap)
    if all_held:
        driver.holds.append(Hold("test", None, 0))
    return driver, entry


def step_of(spec: Spec, lateness: int, flags: int, running: bool, all_held: bool) -> Step:
    parked = bool(flags & (DISABLED | HELD)) or all_held
    return _decide.on_tick(spec, lateness, parked=parked, busy=running or bool(flags & QUEUED))


@given(situations())
def test_the_driver_takes_the_short_way_only_where_the_decision_is_to_start(
    drawn: tuple[Spec, int, int, bool, bool],
) -> None:
    """Its START row is written out; both agree on every input. A flag may ask for the long way to the same end."""
    driver, entry = situation(*drawn)
    driver.start_run = went("short")  # type: ignore[method-assign]
    driver._on_tick = went("long")  # type: ignore[method-assign]
    due, flags = entry.due, drawn[2]

    with pytest.raises(Went) as caught:
        driver._wake()

    way, *facts = caught.value.args
    assert (way == "short") == (step_of(*drawn) is Step.START and not flags)
    if way == "short":
        assert facts == [due, HOUR]
        assert entry.due == due + entry.spec.gap
        assert driver._agenda.heap == [(entry.due, entry.seq, entry)]
    else:
        assert (entry.due, entry.seq) == (due, 0)
        assert driver._agenda.heap == []


@given(situations())
def test_both_ways_start_the_same_tick_and_plan_the_same_next_one(drawn: tuple[Spec, int, int, bool, bool]) -> None:
    spec, lateness, flags, running, all_held = drawn
    drawn = (spec, lateness, flags & TALKATIVE, running, all_held)
    driver, entry = situation(*drawn)
    driver.start_run = went("started")  # type: ignore[method-assign]
    due = entry.due
    if step_of(*drawn) is not Step.START:
        return

    with pytest.raises(Went) as caught:
        driver._wake()

    started = ["started", due, HOUR]
    assert [*caught.value.args] == ([*started, Kind.LIVE, entry.due] if flags & TALKATIVE else started)
    assert entry.due == due + spec.gap
    assert driver._agenda.heap == [(entry.due, entry.seq, entry)]


@given(situations())
def test_a_parked_tick_is_left_alone(drawn: tuple[Spec, int, int, bool, bool]) -> None:
    driver, entry = situation(*drawn)
    driver.start_run = went("started")  # type: ignore[method-assign]
    before = (entry.due, entry.flags, entry.run, entry.waiting)
    if step_of(*drawn) is not Step.PARK:
        return

    driver._wake()

    assert (entry.due, entry.flags, entry.run, entry.waiting) == before
    assert (entry.seq, entry.ring, driver._agenda.heap, list(driver._parked)) == (0, None, [], [entry])


@given(specs(), st.integers(1, HOUR))
def test_a_tick_that_is_not_due_is_not_looked_at(spec: Spec, ahead: int) -> None:
    driver, entry = situation(spec, -spec.early - ahead, 0, False, False)
    driver.start_run = went("short")  # type: ignore[method-assign]
    driver._on_tick = went("long")  # type: ignore[method-assign]
    before = (entry.due, entry.seq)

    driver._wake()

    assert (entry.due, entry.seq) == before
