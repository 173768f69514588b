"""WHEN, for one task: the closed forms and the bounded walks, against looking at every tick."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kaiju_app import _door
from kaiju_app._clock import epoch_us, utc
from kaiju_app._cron import Cron
from kaiju_app._grid import COUNTED, FOREVER, Grid, Rule
from kaiju_app._model import Spec
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import AnyOf, Every, ExecPolicy, Missed, Trigger

pytestmark = pytest.mark.pure

WALL = 1_800_000_000_000_000
SECOND = 1_000_000
DECADE = 3_652 * 86_400 * SECOND


@dataclass(frozen=True)
class Listed:
    """A trigger with just these ticks, microseconds after WALL."""

    ticks_us: tuple[int, ...]

    def after(self, moment: datetime) -> datetime | None:
        return next((utc(WALL + tick) for tick in self.ticks_us if utc(WALL + tick) > moment), None)

    def at_or_before(self, moment: datetime) -> datetime | None:
        return next((utc(WALL + tick) for tick in reversed(self.ticks_us) if utc(WALL + tick) <= moment), None)


def spec(
    rule: float | Trigger, jitter_us: int = 0, until: int | None = None, policy: ExecPolicy = ExecPolicy.CANCEL
) -> Spec:
    return _door.spec.__wrapped__(
        rule if isinstance(rule, float) else None,
        None if isinstance(rule, float) else rule,
        policy, 0, 0, 0, OSError, None, Missed.ONCE, None, 86_400,
        timedelta(microseconds=jitter_us), None if until is None else utc(until), False, 3.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A grid, and its ticks up to some instant, all that there are."""

    grid: Grid
    ticks: list[int]

    @property
    def due(self) -> list[int]:
        return [self.grid.due(tick) for tick in self.ticks]


@st.composite
def grids(draw: st.DrawFn) -> Known:
    """Return a grid of each kind with its first ticks; steady time 0 is WALL."""
    jitter = draw(st.just(0) | st.integers(1, 900_000))
    shape = draw(st.sampled_from(["interval", "every", "cron", "listed"]))
    last = draw(st.integers(5, 40))
    if shape == "interval":
        found = [tick * SECOND for tick in range(last)]
        rule: float | Trigger = 1.0
    elif shape == "every":
        found = [tick * 1_500_000 for tick in range(last)]
        rule = Every(1.5, utc(WALL))
    elif shape == "cron":
        found = [tick * SECOND for tick in range(60) if tick % 60 in (0, 1, 5, 20, 59)]
        rule = Cron("0,1,5,20,59 * * * * *")
    else:
        gaps = draw(st.lists(st.integers(1, 5 * SECOND), min_size=1, max_size=30))
        found = [sum(gaps[:number]) for number in range(len(gaps))]
        rule = Listed(tuple(found))
        jitter = min(jitter, min(gaps[:-1], default=FOREVER) - 1)
    until = draw(st.none() | st.sampled_from(found).map(lambda tick: WALL + tick))
    made = spec(rule, jitter, until)
    seed = ("instance", draw(st.sampled_from(["a", "b", "c"])))
    return Known(Grid(made, WALL, seed), [tick for tick in found if until is None or tick <= until - WALL])


def rest(known: Known, now: int) -> list[int]:
    """Return the ticks that are due by *now*; the first one is taken for due."""
    return [tick for tick, due in zip(known.ticks, known.due, strict=True) if due <= now] or known.ticks[:1]


@given(grids(), st.data())
def test_what_has_passed_is_what_looking_at_each_tick_comes_to(known: Known, data: st.DataObject) -> None:
    grid, ticks = known.grid, known.ticks
    edges = st.sampled_from([*ticks, *known.due]).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
    now = max(known.due[0], data.draw(edges | st.integers(0, ticks[-1])))
    passed = grid.passed(ticks[0], now)
    gone = rest(known, now)

    assert (passed.number, passed.more, passed.last) == (len(gone), False, gone[-1])
    if len(gone) < len(ticks):
        assert passed.following == ticks[len(gone)]
        assert passed.gap == ticks[len(gone)] - gone[-1]
    most, since = data.draw(st.integers(1, 40)), data.draw(edges)
    assert list(grid.tail(ticks[0], passed, most, since)) == [tick for tick in gone[-most:] if tick >= since]


@given(grids())
def test_one_tick_leads_to_the_next_and_back(known: Known) -> None:
    grid, ticks = known.grid, known.ticks
    for tick, following in pairwise(ticks):
        assert grid.following(tick) == following
        assert grid.before(following) == tick
        assert grid.gap(tick) == grid.gap_around(tick) == following - tick
        if grid.spec.trigger is not None:
            assert {grid.after(tick), grid.after(following - 1)} == {following}
            assert grid.gap_around(following - 1) == following - tick


@given(grids())
def test_jitter_exchanges_no_ticks_and_is_the_same_when_asked_again(known: Known) -> None:
    assert known.due == known.due
    for tick, due in zip(known.ticks, known.due, strict=True):
        assert tick <= due < tick + (known.grid.spec.jitter or 1)
    for due, following in pairwise(known.due):
        assert due < following


def test_a_gap_that_is_rarely_short_shortens_the_jitter_there() -> None:
    """It is not among the ticks by which a registration tells whether the jitter is short enough."""
    grid = Grid(spec(AnyOf(Every(3600), Cron("1 0 1 6 *")), 1_800 * SECOND), 0, ("instance", "task"))
    midnight = epoch_us(datetime.fromisoformat("2027-06-01T00:00:00+00:00"))
    for name in "abcdefgh":
        grid.seed = ("instance", name)
        assert midnight <= grid.due(midnight) < grid.following(midnight) == midnight + 60 * SECOND


@given(grids(), st.data())
def test_the_first_tick_that_is_due_from_an_instant_on(known: Known, data: st.DataObject) -> None:
    edges = st.sampled_from([*known.ticks, *known.due]).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
    moment = data.draw(edges)
    found = known.grid.first_due(data.draw(st.sampled_from(known.ticks)), moment)

    assert found == next((due for due in known.due if due >= moment), found)
    assert found >= moment


@given(grids())
def test_behind_its_end_a_grid_has_no_ticks(known: Known) -> None:
    until = known.grid.spec.until
    if until is not None:
        assert known.grid.following(known.ticks[-1]) == FOREVER
        assert known.grid.first_due(known.ticks[0], until - WALL + known.grid.spec.jitter + 1) == FOREVER


@pytest.mark.parametrize(
    ("rule", "number", "more"),
    [
        (Every(1), DECADE // SECOND + 1, False),
        (Every(0.001), DECADE // 1_000 + 1, False),
        (Cron("* * * * * *"), COUNTED, True),
        (Cron("0 * * * *"), COUNTED, True),
        (Cron("0 0 * * *"), 3_653, False),
    ],
)
def test_ten_years_are_counted_as_far_as_that_is_bounded(rule: Trigger, number: int, more: bool) -> None:
    first = epoch_us(datetime.fromisoformat("2027-01-01T00:00:00+00:00")) - WALL
    grid = Grid(spec(rule), WALL)
    passed = grid.passed(first, first + DECADE)

    assert (passed.number, passed.more, passed.last) == (number, more, first + DECADE)
    assert passed.following == grid.following(passed.last)
    tail = list(grid.tail(first, passed, 1_000, 0))
    assert (len(tail), tail[-1]) == (1_000, first + DECADE)
    assert all(grid.following(tick) == following for tick, following in pairwise(tail))


class Minutes:
    """Somebody's minutes, and how often they were asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def after(self, moment: datetime) -> datetime:
        self.asked += 1
        return Every(60).after(moment)

    def at_or_before(self, moment: datetime) -> datetime:
        self.asked += 1
        return Every(60).at_or_before(moment)


@pytest.mark.parametrize("jitter_us", [0, 30 * SECOND])
@pytest.mark.parametrize("ticks", [9_990, COUNTED, 12_000])
def test_ticks_that_were_missed_are_counted_once_for_all_tasks_of_one_rule(jitter_us: int, ticks: int) -> None:
    """A week of minutes, of a hundred tasks."""
    minutes = Minutes()
    made = spec(minutes, jitter_us)
    minutes.asked = 0
    first, now = -WALL % (60 * SECOND), -WALL % (60 * SECOND) + ticks * 60 * SECOND
    for number in range(100):
        grid = Grid(made, WALL, ("instance", str(number)))
        passed = grid.passed(first, now + number * SECOND // 2)
        last = first + (ticks - (grid.due(now) > now + number * SECOND // 2)) * 60 * SECOND

        assert passed.last == last
        assert passed.following == last + 60 * SECOND
        total = (last - first) // (60 * SECOND) + 1
        assert (passed.number, passed.more) == (min(COUNTED, total), total > COUNTED)
    assert minutes.asked < COUNTED + 100 * 10


class Raising:
    def after(self, _: datetime) -> datetime:
        raise ZeroDivisionError("oh")

    at_or_before = after


class Stuck:
    def after(self, moment: datetime) -> datetime:
        return moment

    def at_or_before(self, moment: datetime) -> datetime:
        return moment + timedelta(seconds=1)


class Naive:
    def after(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=None)

    at_or_before = after


@pytest.mark.parametrize(
    ("trigger", "failure"),
    [(Raising(), ZeroDivisionError), (Stuck(), ValueError), (Naive(), InvalidArgument)],
    ids=["raises", "does not move on", "naive"],
)
def test_a_trigger_that_fails_has_no_tick_and_says_why(trigger: Trigger, failure: type[Exception]) -> None:
    for ask, answer in [
        (lambda rule: rule.after(WALL), FOREVER),
        (lambda rule: rule.at_or_before(WALL), None),
        (lambda rule: list(rule.ticks(WALL)), []),
    ]:
        rule = Rule(trigger)
        assert ask(rule) == answer  # type: ignore[no-untyped-call]
        assert type(rule.failure) is failure


def test_the_calendar_has_ends() -> None:
    rule = Rule(Cron("* * * * *"))

    assert rule.after(FOREVER - 1) == FOREVER
    assert rule.at_or_before(-(1 << 60)) is None
    assert list(rule.ticks(FOREVER - 1)) == []
    assert rule.failure is None
