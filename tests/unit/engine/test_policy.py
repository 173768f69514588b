"""Each decision compared with a slow model of the sentence it implements, and the tick loop with the decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaiju_app._core.clock import NEVER, Clock, epoch_us, utc
from kaiju_app._core.model import Outcome, Reason
from kaiju_app._engine import options
from kaiju_app._engine import policy as decide
from kaiju_app._engine.decision import Decision
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import (
    DISABLED,
    EXTRA_FIRST_TICK,
    FAILING,
    HAS_WAITERS,
    HELD,
    HUNG,
    OPEN_SKIP_RECORD,
    QUEUED,
    RELEASED,
    REMOVED,
    ActiveRun,
    Hold,
    TaskEntry,
)
from kaiju_app._engine.ledger import counts, records
from kaiju_app._engine.policy import EARLY, MAX_BACKLOG
from kaiju_app._engine.spec import Kind, Settings, TaskSpec
from kaiju_app.scheduler import Every, ExecPolicy, FirstRun, Missed, Trigger
from kaiju_app.triggers._adapter import Found
from kaiju_app.triggers._timeline import timeline_of

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
) -> TaskSpec:
    """Return a TaskSpec from options in microseconds, as ``schedule_task()`` makes it."""

    def s(us: int) -> timedelta:
        return timedelta(microseconds=us)

    return options.make_spec(
        *options.SpecOptions(
            interval_s=s(gap) if trigger is None else None,
            trigger=trigger,
            policy=policy,
            max_timeout_s=s(max_timeout),
            retries=retries,
            retry_interval_s=s(retry_interval),
            retry_on=OSError,
            first_run=first_run,
            missed=missed,
            grace_s=None if grace is None else s(grace),
            catchup_s=s(catchup),
            jitter_s=s(jitter),
            until=None if until is None else utc(until),
            threaded=False,
            safe_mod=3.0,
        )
    )


@st.composite
def specs(draw: st.DrawFn, some_gaps: st.SearchStrategy[int] = gaps) -> TaskSpec:
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


# --- a due tick ---


@given(specs(), st.data(), st.booleans(), st.booleans())
def test_a_tick_is_missed_if_a_later_one_is_due_or_its_grace_is_over(
    spec: TaskSpec, data: st.DataObject, parked: bool, busy: bool
) -> None:
    edges = [edge + by for edge in (0, spec.gap, spec.grace or 0) for by in (-1, 0, 1)]
    lateness = data.draw(st.sampled_from(edges) | st.integers(-EARLY, 3 * spec.gap))
    is_missed = lateness >= spec.gap or (spec.grace is not None and lateness > spec.grace)

    step = decide.on_tick(spec, lateness, parked=parked, busy=busy)

    if parked:
        assert step is Decision.PARK
    elif is_missed:
        assert step is Decision.LATE
    else:
        assert step is (Decision.WAIT if busy else Decision.START)


@pytest.mark.parametrize("early", [0, 1, EARLY])
@given(spec=specs())
def test_a_tick_that_is_early_is_never_missed(spec: TaskSpec, early: int) -> None:
    assert decide.on_tick(spec, -early, parked=False, busy=False) is Decision.START


@given(specs())
def test_a_tick_counts_as_due_a_millisecond_early_but_never_half_a_gap(spec: TaskSpec) -> None:
    assert spec.early == min(EARLY, spec.gap // 2)


# --- a tick and a run in progress ---


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("policy", ExecPolicy)
def test_no_tick_waits_for_a_hung_run(policy: ExecPolicy, cut: bool) -> None:
    assert decide.overlap(policy, 20, 10, 10, cancelled=cut, hung=True) is Decision.HUNG


@pytest.mark.parametrize(
    ("policy", "cut", "step"),
    [
        (ExecPolicy.CANCEL, False, Decision.REPLACE),
        (ExecPolicy.CANCEL, True, Decision.WAIT),
        (ExecPolicy.WAIT, False, Decision.WAIT),
        (ExecPolicy.WAIT, True, Decision.WAIT),
        (ExecPolicy.SKIP, False, Decision.OVERLAP),
        (ExecPolicy.SKIP, True, Decision.OVERLAP),
        (ExecPolicy.SHIELD, False, Decision.WAIT),
    ],
)
def test_the_policy_says_what_a_tick_does_to_a_run(policy: ExecPolicy, cut: bool, step: Decision) -> None:
    assert decide.overlap(policy, 20, 10, 10, cancelled=cut, hung=False) is step


@given(instants, st.integers(-EARLY, CENTURY), gaps)
def test_cancel_spares_a_run_younger_than_half_a_gap(started: int, age: int, gap: int) -> None:
    step = decide.overlap(ExecPolicy.CANCEL, started + age, started, gap, cancelled=False, hung=False)

    assert step is (Decision.REPLACE if age >= gap / 2 else Decision.OVERLAP)


@pytest.mark.parametrize(("gap", "age"), [(10, 5), (11, 6), (1_000, 500), (1_001, 501)])
def test_half_a_gap_is_rounded_up_to_a_microsecond(gap: int, age: int) -> None:
    def at(age: int) -> Decision:
        return decide.overlap(ExecPolicy.CANCEL, 7 + age, 7, gap, cancelled=False, hung=False)

    assert (at(age - 1), at(age)) == (Decision.OVERLAP, Decision.REPLACE)


# --- ticks that are late ---


def due_ticks(due: int, now: int, gap: int) -> list[int]:
    """Return *due*, even if it is early, and all later ticks that are due at *now*."""
    return [due, *range(due + gap, now + 1, gap)]


def slow_missed(spec: TaskSpec, due: int, now: int, *, held: bool, stalled_until: int = NEVER) -> list[int]:
    """Return the ticks that run, by looking at each."""
    ticks = due_ticks(due, now, spec.gap)
    latest = ticks[-1]
    if spec.missed is Missed.ALL:
        return [tick for tick in ticks if now - tick <= spec.catchup][-MAX_BACKLOG:]
    if spec.grace is not None and now - latest > spec.grace:
        return []
    if spec.missed is Missed.SKIP:
        return [latest]  # It is within its grace and no later one is due, so it was not missed.
    until_next = latest + spec.gap - now
    too_near = until_next < spec.gap / 2 and not (latest > stalled_until and not held)
    return [] if too_near and (held or len(ticks) > 1) else [latest]


@given(
    specs(st.integers(1_000, 20_000)),
    st.integers(0, 1_000_000),
    st.integers(-EARLY, 200_000) | st.integers(18_000_000, 22_000_000),
    st.booleans(),
    st.just(NEVER) | st.integers(-1_000, 30_000),
)
@example(make(1_000, missed=Missed.ALL), 0, 999_000, False, NEVER)
@example(make(1_000, missed=Missed.ALL), 0, 1_000_000, False, NEVER)
@example(make(1_000, missed=Missed.ALL, catchup=7_000), 0, 10_000, False, NEVER)
@example(make(1_000, missed=Missed.ALL, catchup=0), 0, 10_000, False, NEVER)
@example(make(1_000), 0, 2_500, False, NEVER)
@example(make(1_000), 0, 2_501, False, NEVER)
@example(make(1_001), 0, 1_502, False, NEVER)
@example(make(1_001), 0, 501, True, NEVER)
@example(make(1_000), 0, 2_999, False, 999)
@example(make(1_000), 0, 2_999, False, 1_000)
@example(make(1_000), 0, 2_999, True, 999)
def test_missed_is_what_looking_at_each_tick_comes_to(
    spec: TaskSpec, due: int, lateness: int, held: bool, stalled_ago: int
) -> None:
    now = due + lateness
    stalled_until = NEVER if stalled_ago == NEVER else now - stalled_ago
    late = decide.missed(timeline_of(spec), due, now, held=held, stalled_until=stalled_until)
    ticks = due_ticks(due, now, spec.gap)

    assert late.dropped + len(late.kept) == len(ticks)
    expected = slow_missed(spec, due, now, held=held, stalled_until=stalled_until)
    assert ticks[late.dropped :] == expected == list(late.kept)
    assert not late.dropped or late.last == ticks[late.dropped - 1]
    assert late.next.tick == ticks[-1] + spec.gap
    assert late.next.tick > now


@pytest.mark.parametrize(("ago", "overload"), [(-1, False), (0, False), (1, True), (CENTURY, True)])
def test_a_tick_that_came_due_after_the_last_stall_is_late_because_the_loop_has_too_much_to_do(
    ago: int, overload: bool
) -> None:
    assert decide.is_overload(WALL, WALL - ago) is overload


@given(specs(), instants, st.data())
def test_the_tick_that_overtakes_is_the_one_that_missed_keeps(spec: TaskSpec, due: int, data: st.DataObject) -> None:
    """The overload of a plain interval is decided on a shorter way, with the same result."""
    late_by = data.draw(st.integers(spec.on_time_below, 5 * spec.gap) | st.integers(spec.on_time_below, 10 * CENTURY))
    edges = [0, late_by % spec.gap, spec.gap, late_by]
    stalled_ago = data.draw(st.sampled_from(edges).flatmap(lambda edge: st.integers(edge - 1, edge + 1)))
    now = due + late_by
    late = decide.missed(timeline_of(spec), due, now, held=False, stalled_until=now - stalled_ago)

    number = decide.overtaken(spec, due, now, now - stalled_ago)

    assert (number is not None) == late.overtaken
    if number is not None:
        tick = due + number * spec.gap
        assert late.kept == (tick,)
        assert (late.dropped, late.next.tick) == (number, tick + spec.gap)


@given(specs(), instants, st.integers(-EARLY, 10 * CENTURY), st.booleans())
def test_every_late_tick_is_dropped_or_kept(spec: TaskSpec, due: int, lateness: int, held: bool) -> None:
    now = due + lateness
    late = decide.missed(timeline_of(spec), due, now, held=held)

    assert late.dropped >= 0
    assert 0 <= len(late.kept) <= (MAX_BACKLOG if spec.missed is Missed.ALL else 1)
    assert late.next.tick == due + (late.dropped + len(late.kept)) * spec.gap
    assert late.next.tick > now
    assert late.next.tick - spec.gap <= max(now, due)


@given(specs(), instants, st.integers(-EARLY, CENTURY), st.booleans(), st.integers(-CENTURY, CENTURY))
def test_what_becomes_of_late_ticks_does_not_depend_on_the_age_of_the_machine(
    spec: TaskSpec, due: int, lateness: int, held: bool, older: int
) -> None:
    late = decide.missed(timeline_of(spec), due, due + lateness, held=held)
    later = decide.missed(timeline_of(spec), due + older, due + older + lateness, held=held)
    kept = [tick + older for tick in late.kept]

    assert list(later.kept) == kept
    following = Found(late.next.tick + older)
    assert replace(later, kept=()) == replace(late, kept=(), last=late.last + older, next=following)


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
    assert decide.missed(timeline_of(make(1_000, missed=missed, catchup=0)), 0, 10_500, held=held).reason is reason


@pytest.mark.parametrize("missed", Missed)
def test_ten_years_at_a_millisecond_are_no_more_work_than_a_second(missed: Missed) -> None:
    """The work is counted, not timed: the integers count how often they are used in a calculation."""
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
        decide.missed(timeline_of(make(1_000, missed=missed)), Counting(0), Counting(lateness), held=False)
        return operations

    assert work(10 * 365 * 86_400_000_000 + 1) == work(1_000_001) > 0


# --- the deadline of a run ---


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Return the gap, a tick of the rule, when a run was due, and when it began."""
    gap = draw(gaps)
    grid = draw(instants)
    off_grid = draw(st.just(0) | st.integers(0, gap - 1))  # A first run, or a requested one.
    due = grid + draw(st.integers(-3, 3)) * gap + off_grid
    started = due + draw(st.integers(-min(EARLY, gap // 2), 0) | st.integers(0, 3 * gap))
    return gap, grid, due, started


def grid_after(moment: int, grid: int, gap: int) -> count[int]:
    """Return the ticks after *moment* of the rule with this *gap* and the tick *grid*."""
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
    """The deadline is the first tick after its own that overlap() allows to replace it."""
    gap, grid, due, started = run
    ticks = grid_after(max(started, due), grid, gap)
    replacing = next(
        tick
        for tick in islice(ticks, 3)
        if decide.overlap(ExecPolicy.CANCEL, tick, started, gap, cancelled=False, hung=False) is Decision.REPLACE
    )

    assert decide.deadline(timeline_of(make(gap)), kind, grid, due, started) == (replacing, Reason.REPLACED)


@given(runs(), st.integers(-5, 5), st.sampled_from([Kind.LIVE, Kind.MANUAL]))
def test_any_tick_of_the_rule_will_do_to_count_a_deadline_from(
    run: tuple[int, int, int, int], ticks: int, kind: Kind
) -> None:
    gap, grid, due, started = run
    rule = timeline_of(make(gap))

    assert decide.deadline(rule, kind, grid, due, started) == decide.deadline(
        rule, kind, grid + ticks * gap, due, started
    )


@given(runs(), st.sampled_from(ExecPolicy), st.integers(1, CENTURY), st.sampled_from([Kind.LIVE, Kind.MANUAL]))
def test_max_timeout_lowers_the_deadline_of_cancel_replaces_that_of_wait_and_skip_and_leaves_shield_alone(
    run: tuple[int, int, int, int], policy: ExecPolicy, max_timeout: int, kind: Kind
) -> None:
    gap, grid, due, started = run
    with_it = decide.deadline(timeline_of(make(gap, policy, max_timeout=max_timeout)), kind, grid, due, started)
    default = decide.deadline(timeline_of(make(gap, policy)), kind, grid, due, started)

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
    end = decide.deadline(timeline_of(make(gap, policy, max_timeout=max_timeout)), Kind.CAUGHT_UP, grid, due, started)

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
    at = decide.retry_at(timeline_of(spec), now, attempt, now, None if end_in is None else now + end_in)

    assert at == (now + pause if attempt <= retries and (end_in is None or pause < end_in) else None)


@given(gaps, st.integers(0, 1_000))
def test_the_default_pause_spreads_the_retries_evenly(gap: int, retries: int) -> None:
    pause = decide.default_retry_pause(gap, retries)

    assert pause == 30_000_000 or gap < (pause + 1) * (retries + 1)
    assert pause <= 30_000_000
    assert pause * (retries + 1) <= gap


# --- the first tick ---


@given(gaps, st.integers(-CENTURY, CENTURY), instants, offsets)
@example(10, 0, 0, WALL)
@example(10_000, -10_000, 50_000, WALL)
@example(10_000, -1, 50_000, WALL)
def test_a_first_run_at_an_instant_is_that_or_the_next_one_of_its_grid(
    gap: int, ahead: int, now: int, offset: int
) -> None:
    gap = max(gap, 1_000)
    (due, *_), off_grid = decide.first_tick(timeline_of(make(gap, first_run=utc(now + ahead + offset)), offset), now)

    assert not off_grid
    if ahead >= 0 or -ahead < min(gap, decide.ONE_OFF_GRACE):
        assert due == now + ahead
    else:
        assert now <= due < now + gap
        assert (due - (now + ahead)) % gap == 0


@given(gaps, instants, offsets)
def test_an_interval_starts_at_once_or_one_interval_from_now(gap: int, now: int, offset: int) -> None:
    assert decide.first_tick(timeline_of(make(gap), offset), now) == (Found(now), False)
    assert decide.first_tick(timeline_of(make(gap, first_run=FirstRun.NOW), offset), now) == (Found(now), False)
    assert decide.first_tick(timeline_of(make(gap, first_run=FirstRun.NEXT), offset), now) == (Found(now + gap), False)
    assert timeline_of(make(gap), offset).next_after(now) == Found(now + gap)


@given(gaps, st.integers(-CENTURY, CENTURY), instants, offsets, st.sampled_from([None, *FirstRun]))
def test_a_trigger_starts_at_its_next_tick_or_with_an_extra_one(
    gap: int, anchor: int, now: int, offset: int, first_run: FirstRun | None
) -> None:
    rule = Every(timedelta(microseconds=gap), utc(WALL + anchor))
    grid = timeline_of(make(gap, trigger=rule, first_run=first_run), offset)
    following = grid.next_after(now).tick

    assert now < following <= now + gap
    assert (following + offset - epoch_us(rule.anchor)) % gap == 0
    assert decide.first_tick(grid, now) == (
        (Found(now), True) if first_run is FirstRun.NOW else (Found(following), False)
    )


@given(gaps, st.integers(0, CENTURY), instants, offsets)
def test_an_instant_ahead_is_an_extra_tick_of_a_trigger(gap: int, ahead: int, now: int, offset: int) -> None:
    spec = make(gap, trigger=Every(timedelta(microseconds=gap)), first_run=utc(now + ahead + offset))

    assert decide.first_tick(timeline_of(spec, offset), now) == (Found(now + ahead), True)


@given(gaps, instants, offsets, st.integers(0, CENTURY), st.booleans())
@example(HOUR, HOUR - 300_000_000, 0, HOUR - 600_000_000, True)
def test_an_extra_tick_is_due_before_the_rule_comes_to_its_next_one(
    gap: int, now: int, offset: int, jitter: int, shared: bool
) -> None:
    """The jitter of any tick ends before the next tick."""
    rule = Every(timedelta(microseconds=gap), utc(WALL))
    spec = make(gap, trigger=rule, first_run=FirstRun.NOW, jitter=jitter % gap)
    grid = timeline_of(spec, offset, ("", "task"), shared=shared)
    (tick, *_), off_grid = decide.first_tick(grid, now)

    assert off_grid
    assert tick <= grid.due(tick) < grid.next_after(tick).tick


# --- the tick loop does what is decided ---

SETTINGS = Settings(cancel_grace=5_000_000, history=3, threads=1, safe_mod=3.0, instance="test")
FLAGS = [DISABLED, HELD, QUEUED, HAS_WAITERS, FAILING, REMOVED, EXTRA_FIRST_TICK, HUNG, OPEN_SKIP_RECORD, RELEASED]
TALKATIVE = HAS_WAITERS | FAILING | REMOVED | HUNG | OPEN_SKIP_RECORD  # They change what is reported, not what is done.


class Went(Exception):
    """Raised when the tick loop has decided; says which way it took, and with what arguments."""


def went_with_run(run: ActiveRun) -> None:
    raise Went("short", run.tick, run.started)


def went(way: str) -> Callable[..., None]:
    def recorder(entry: TaskEntry, *facts: Any, **_: Any) -> None:
        raise Went(way, *facts)

    return recorder


@st.composite
def situations(draw: st.DrawFn) -> tuple[TaskSpec, int, int, bool, bool]:
    """Return parameters, lateness, flags, whether a run is in progress, and whether all tasks are held."""
    spec = draw(specs(st.integers(1_000, 5_000) | gaps))
    edges = [0, spec.gap, spec.gap // 2, *([] if spec.grace is None else [spec.grace])]
    near = st.sampled_from(edges).flatmap(lambda edge: st.integers(edge - 2, edge + 2))
    lateness = draw(near | st.integers(-EARLY, 3 * spec.gap))
    flags = sum(draw(st.just([]) | st.lists(st.sampled_from(FLAGS), max_size=3, unique=True)))
    return spec, max(-spec.early, lateness), flags, draw(st.booleans()), draw(st.sampled_from([False, False, True]))


def situation(
    spec: TaskSpec, lateness: int, flags: int, running: bool, all_held: bool, at: int = HOUR
) -> tuple[Engine, TaskEntry]:
    """Return an engine whose clock stands still, and its task, which has a due tick; the timer seems to be late."""
    engine = Engine(Clock(steady=lambda: at, wall=lambda: WALL + at), SETTINGS)
    entry = TaskEntry(engine.recorder, "task", print, (), {}, spec)
    entry.flags = flags
    entry.due = at - lateness
    entry.seq = engine.queue.push(entry.due, entry)
    if flags & QUEUED:
        entry.waiting = entry.due - spec.gap
    if running:
        entry.run = ActiveRun(entry, entry.due - spec.gap, entry.due - spec.gap)
    if all_held:
        engine.holds.append(Hold("test", None, 0))
    return engine, entry


def step_of(spec: TaskSpec, lateness: int, flags: int, running: bool, all_held: bool) -> Decision:
    parked = bool(flags & (DISABLED | HELD)) or all_held
    return decide.on_tick(spec, lateness, parked=parked, busy=running or bool(flags & QUEUED))


@given(situations())
def test_the_driver_takes_the_short_way_only_where_the_decision_is_to_start(
    drawn: tuple[TaskSpec, int, int, bool, bool],
) -> None:
    """The START case is written out in ``wake()``. Both ways agree on every input; a flag only makes the way longer."""
    engine, entry = situation(*drawn)
    engine.tick_loop._begin = went_with_run
    engine.tick_loop._on_tick = went("long")  # type: ignore[method-assign]
    engine.tick_loop._on_overlap = lambda *_: False  # type: ignore[method-assign]
    due, flags = entry.due, drawn[2]

    with pytest.raises(Went) as caught:
        engine.tick_loop.wake()

    way, *facts = caught.value.args
    assert (way == "short") == (step_of(*drawn) is Decision.START and not flags)
    if way == "short":
        assert facts == [due, HOUR]
        assert entry.due == due + entry.spec.gap
        assert [item[:3] for item in engine.queue.heap] == [(entry.due, entry.seq, entry)]
    else:
        assert (entry.due, entry.seq) == (due, 0)
        assert engine.queue.heap == []


@given(situations())
def test_both_ways_start_the_same_tick_and_plan_the_same_next_one(drawn: tuple[TaskSpec, int, int, bool, bool]) -> None:
    spec, lateness, flags, running, all_held = drawn
    drawn = (spec, lateness, flags & TALKATIVE, running, all_held)
    engine, entry = situation(*drawn)
    engine.tick_loop._start = went("long")
    engine.tick_loop._begin = went_with_run
    due = entry.due
    if step_of(*drawn) is not Decision.START:
        return

    with pytest.raises(Went) as caught:
        engine.tick_loop.wake()

    way = ["long", due, HOUR, Kind.LIVE, entry.due] if flags & TALKATIVE else ["short", due, HOUR]
    assert [*caught.value.args] == way
    assert entry.due == due + spec.gap
    assert [item[:3] for item in engine.queue.heap] == [(entry.due, entry.seq, entry)]


@given(situations(), st.integers(-1, 2), st.sampled_from([None, *Reason]), st.booleans())
def test_both_ways_do_the_same_with_a_tick_during_a_run(
    drawn: tuple[TaskSpec, int, int, bool, bool], younger: int, cause: Reason | None, skipped: bool
) -> None:
    """The way of a tick of a plain interval that comes in time while a run is in progress is short as well."""
    spec, lateness, flags, _, all_held = drawn
    left: list[Any] = []
    for short in (True, False):
        engine, entry = situation(spec, lateness, flags & ~OPEN_SKIP_RECORD, True, all_held)
        engine.queue.started = True
        assert entry.run is not None
        entry.run.started += younger * spec.gap // 2
        if skipped:
            engine.recorder.skip(entry, entry.run.tick - 9, entry.run.tick - 9, 1, Reason.OVERLAP, 0)
        entry.run.cause = cause
        if not short:
            engine.tick_loop._on_overlap = lambda *_: False  # type: ignore[method-assign]
        engine.tick_loop.wake()
        heap = sorted((at, number in (entry.seq, entry.alarm)) for at, number, *_ in engine.queue.items())
        planned = heap, entry.due, bool(entry.seq), bool(entry.alarm), bool(engine.planner.parked)
        left.append((planned, entry.flags, entry.waiting, entry.backlog, records(entry), counts(entry)))
        left[-1] += (None if entry.run is None else entry.run.cause,)

    assert left[0] == left[1]


@given(specs(), st.data())
def test_in_an_overload_the_latest_due_tick_takes_the_short_way(spec: TaskSpec, data: st.DataObject) -> None:
    late_by = data.draw(st.integers(spec.gap, 4 * spec.gap))
    engine, entry = situation(spec, late_by, 0, False, False)
    engine.queue.expected = HOUR  # The timer is on time.
    engine.monitor.stalled_until = HOUR - late_by % spec.gap - 1
    engine.tick_loop._begin = went_with_run
    engine.tick_loop._on_tick = went("long")  # type: ignore[method-assign]
    first = entry.due
    late = decide.missed(timeline_of(spec), first, HOUR, held=False, stalled_until=engine.monitor.stalled_until)

    with pytest.raises(Went) as caught:
        engine.tick_loop.wake()

    if not late.overtaken:
        assert caught.value.args[0] == "long"
        assert entry.overtaken is None
    else:
        assert caught.value.args == ("short", late.kept[0], HOUR)
        assert [item[:3] for item in engine.queue.heap] == [(late.next.tick, entry.seq, entry)]
        assert entry.overtaken is not None
        assert (entry.overtaken.first, entry.overtaken.last) == (first, late.last)
        assert entry.overtaken.number == late.dropped


@given(situations())
def test_a_parked_tick_is_left_alone(drawn: tuple[TaskSpec, int, int, bool, bool]) -> None:
    engine, entry = situation(*drawn)
    engine.tick_loop._start = engine.tick_loop._begin = went("started")
    before = (entry.due, entry.flags, entry.run, entry.waiting)
    if step_of(*drawn) is not Decision.PARK:
        return

    engine.tick_loop.wake()

    assert (entry.due, entry.flags, entry.run, entry.waiting) == before
    assert (entry.seq, entry.ring, engine.queue.heap, list(engine.planner.parked)) == (0, None, [], [entry])


@given(specs(), st.integers(1, HOUR))
def test_a_tick_that_is_not_due_is_not_looked_at(spec: TaskSpec, ahead: int) -> None:
    engine, entry = situation(spec, -spec.early - ahead, 0, False, False)
    engine.tick_loop._begin = went_with_run
    engine.tick_loop._on_tick = went("long")  # type: ignore[method-assign]
    before = (entry.due, entry.seq)

    engine.tick_loop.wake()

    assert (entry.due, entry.seq) == before


FOR, AGAINST = (
    [(Outcome.SUCCEEDED, None), (Outcome.SUCCEEDED, Reason.REPLACED)],
    [
        (Outcome.FAILED, None),
        (Outcome.FAILED, Reason.DEADLINE),
        (Outcome.TIMED_OUT, Reason.DEADLINE),
        (Outcome.CANCELLED, Reason.REPLACED),
        (Outcome.CANCELLED, Reason.WITHIN),
    ],
)
NEITHER = [
    (Outcome.FAILED, Reason.SHUTDOWN),  # A thread that raised after it was asked to end.
    (Outcome.FAILED, Reason.REQUESTED),
    (Outcome.CANCELLED, Reason.SHUTDOWN),
    (Outcome.CANCELLED, Reason.REQUESTED),
    (Outcome.LOST, Reason.LEASE),
    (Outcome.LOST, None),
    (Outcome.SKIPPED, Reason.OVERLAP),
]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [*((each, True) for each in FOR), *((each, False) for each in AGAINST), *((each, None) for each in NEITHER)],
)
def test_an_ending_tells_something_about_the_function_unless_somebody_else_caused_it(
    ending: tuple[Outcome, Reason | None], expected: bool | None
) -> None:
    assert decide.verdict(*ending) is expected
