"""The timeline of one task: closed forms and bounded searches, compared with looking at every tick."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kaiju_app._core.clock import NEVER, epoch_us, utc
from kaiju_app._engine import options
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import AnyOf, Every, ExecPolicy, Missed, Trigger
from kaiju_app.triggers._adapter import MAX_COUNTED, Found, TriggerAdapter
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._foreign import as_base_trigger
from kaiju_app.triggers._timeline import Timeline, timeline_of

pytestmark = pytest.mark.pure

WALL = 1_800_000_000_000_000
SECOND = 1_000_000
DECADE = 3_652 * 86_400 * SECOND


@dataclass(frozen=True)
class Listed:
    """A trigger with exactly these ticks, in microseconds after WALL."""

    ticks_us: tuple[int, ...]

    def after(self, moment: datetime) -> datetime | None:
        return next((utc(WALL + tick) for tick in self.ticks_us if utc(WALL + tick) > moment), None)

    def at_or_before(self, moment: datetime) -> datetime | None:
        return next((utc(WALL + tick) for tick in reversed(self.ticks_us) if utc(WALL + tick) <= moment), None)


def spec(
    rule: float | Trigger, jitter_us: int = 0, until: int | None = None, policy: ExecPolicy = ExecPolicy.CANCEL
) -> TaskSpec:
    return options._spec(
        options.SpecOptions(
            interval_s=rule if isinstance(rule, float) else None,
            trigger=None if isinstance(rule, float) else rule,
            policy=policy,
            max_timeout_s=0,
            retries=0,
            retry_interval_s=0,
            retry_on=OSError,
            first_run=None,
            missed=Missed.ONCE,
            grace_s=None,
            catchup_s=86_400,
            jitter_s=timedelta(microseconds=jitter_us),
            until=None if until is None else utc(until),
            threaded=False,
            safe_mod=3.0,
        )
    )


@dataclass(frozen=True)
class Known:
    """A timeline, and all of its ticks up to some instant."""

    timeline: Timeline
    ticks: list[int]

    @property
    def due(self) -> list[int]:
        return [self.timeline.due(tick) for tick in self.ticks]


@st.composite
def timelines(draw: st.DrawFn) -> Known:
    """Draw a timeline of any kind with its first ticks. Steady time 0 is WALL."""
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
        jitter = min(jitter, min(gaps[:-1], default=NEVER) - 1)
    until = draw(st.none() | st.sampled_from(found).map(lambda tick: WALL + tick))
    made = spec(rule, jitter, until)
    seed = ("instance", draw(st.sampled_from(["a", "b", "c"])))
    return Known(timeline_of(made, WALL, seed), [tick for tick in found if until is None or tick <= until - WALL])


def rest(known: Known, now: int) -> list[int]:
    """Return the ticks due by *now*. The first one always counts as due."""
    return [tick for tick, due in zip(known.ticks, known.due, strict=True) if due <= now] or known.ticks[:1]


@given(timelines(), st.data())
def test_what_has_passed_is_what_looking_at_each_tick_comes_to(known: Known, data: st.DataObject) -> None:
    timeline, ticks = known.timeline, known.ticks
    edges = st.sampled_from([*ticks, *known.due]).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
    now = max(known.due[0], data.draw(edges | st.integers(0, ticks[-1])))
    due = timeline.due_ticks(ticks[0], now)
    expected = rest(known, now)

    assert (due.number, due.more, due.last) == (len(expected), False, expected[-1])
    if len(expected) < len(ticks):
        assert due.next.tick == ticks[len(expected)]
        assert due.gap == ticks[len(expected)] - expected[-1]
    most, since = data.draw(st.integers(1, 40)), data.draw(edges)
    assert list(timeline.latest(ticks[0], due, most, since)) == [tick for tick in expected[-most:] if tick >= since]


@given(timelines())
def test_one_tick_leads_to_the_next_and_back(known: Known) -> None:
    timeline, ticks = known.timeline, known.ticks
    for tick, following in pairwise(ticks):
        assert timeline.next_after_tick(tick).tick == following
        assert timeline.before(following).tick == tick
        assert timeline.gap(tick) == timeline.gap_around(tick) == following - tick
        if timeline.spec.trigger is not None:
            assert {timeline.next_after(tick).tick, timeline.next_after(following - 1).tick} == {following}
            assert timeline.gap_around(following - 1) == following - tick


@given(timelines())
def test_jitter_exchanges_no_ticks_and_is_the_same_when_asked_again(known: Known) -> None:
    assert known.due == known.due
    for tick, due in zip(known.ticks, known.due, strict=True):
        assert tick <= due < tick + (known.timeline.spec.jitter or 1)
    for due, following in pairwise(known.due):
        assert due < following


def test_a_gap_that_is_rarely_short_shortens_the_jitter_there() -> None:
    """The short gap is not among the ticks that registration checks against the jitter."""
    timeline = timeline_of(spec(AnyOf(Every(3600), Cron("1 0 1 6 *")), 1_800 * SECOND), 0, ("instance", "task"))
    midnight = epoch_us(datetime.fromisoformat("2027-06-01T00:00:00+00:00"))
    for name in "abcdefgh":
        timeline.seed = ("instance", name)
        assert midnight <= timeline.due(midnight) < timeline.next_after_tick(midnight).tick == midnight + 60 * SECOND


@given(timelines(), st.data())
def test_the_first_tick_that_is_due_from_an_instant_on(known: Known, data: st.DataObject) -> None:
    edges = st.sampled_from([*known.ticks, *known.due]).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
    moment = data.draw(edges)
    found = known.timeline.first_due(data.draw(st.sampled_from(known.ticks)), moment)

    assert found == next((due for due in known.due if due >= moment), found)
    assert found >= moment


@given(timelines())
def test_behind_its_end_a_grid_has_no_ticks(known: Known) -> None:
    until = known.timeline.spec.until
    if until is not None:
        assert known.timeline.next_after_tick(known.ticks[-1]).tick == NEVER
        assert known.timeline.first_due(known.ticks[0], until - WALL + known.timeline.spec.jitter + 1) == NEVER


@pytest.mark.parametrize(
    ("rule", "number", "more"),
    [
        (Every(1), DECADE // SECOND + 1, False),
        (Every(0.001), DECADE // 1_000 + 1, False),
        (Cron("* * * * * *"), MAX_COUNTED, True),
        (Cron("0 * * * *"), MAX_COUNTED, True),
        (Cron("0 0 * * *"), 3_653, False),
    ],
)
def test_ten_years_are_counted_as_far_as_that_is_bounded(rule: Trigger, number: int, more: bool) -> None:
    first = epoch_us(datetime.fromisoformat("2027-01-01T00:00:00+00:00")) - WALL
    timeline = timeline_of(spec(rule), WALL)
    due = timeline.due_ticks(first, first + DECADE)

    assert (due.number, due.more, due.last) == (number, more, first + DECADE)
    assert due.next == timeline.next_after_tick(due.last)
    latest = list(timeline.latest(first, due, 1_000, 0))
    assert (len(latest), latest[-1]) == (1_000, first + DECADE)
    assert all(timeline.next_after_tick(tick).tick == following for tick, following in pairwise(latest))


class Minutes:
    """A user's own trigger of minutes that counts its calls."""

    def __init__(self) -> None:
        self.asked = 0

    def after(self, moment: datetime) -> datetime:
        self.asked += 1
        return Every(60).after(moment)

    def at_or_before(self, moment: datetime) -> datetime:
        self.asked += 1
        return Every(60).at_or_before(moment)


@pytest.mark.parametrize("jitter_us", [0, 30 * SECOND])
@pytest.mark.parametrize("ticks", [9_990, MAX_COUNTED, 12_000])
def test_ticks_that_were_missed_are_counted_once_for_all_tasks_of_one_rule(jitter_us: int, ticks: int) -> None:
    """A hundred tasks share a trigger and miss a week of minutes."""
    minutes = Minutes()
    made = spec(minutes, jitter_us)
    minutes.asked = 0
    first, now = -WALL % (60 * SECOND), -WALL % (60 * SECOND) + ticks * 60 * SECOND
    for number in range(100):
        timeline = timeline_of(made, WALL, ("instance", str(number)))
        due = timeline.due_ticks(first, now + number * SECOND // 2)
        last = first + (ticks - (timeline.due(now) > now + number * SECOND // 2)) * 60 * SECOND

        assert due.last == last
        assert due.next.tick == last + 60 * SECOND
        total = (last - first) // (60 * SECOND) + 1
        assert (due.number, due.more) == (min(MAX_COUNTED, total), total > MAX_COUNTED)
    assert minutes.asked < MAX_COUNTED + 100 * 10


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
    rule = TriggerAdapter(as_base_trigger("trigger", trigger))
    (walked,) = rule.ticks(WALL)
    for found in rule.next_after(WALL), rule.at_or_before(WALL), walked:
        assert found.tick == NEVER
        assert type(found.error) is failure


def test_the_calendar_has_ends() -> None:
    rule = TriggerAdapter(Cron("* * * * *"))

    assert rule.next_after(NEVER - 1) == Found(NEVER)
    assert rule.at_or_before(-(1 << 60)) == Found(NEVER)
    assert list(rule.ticks(NEVER - 1)) == [Found(NEVER)]


def test_an_error_belongs_to_its_answer_alone() -> None:
    """Equal tasks share a rule: what one was answered must not be taken for what another was."""

    class Moody:
        fails = False

        def after(self, moment: datetime) -> datetime:
            if self.fails:
                raise ConnectionError("away")
            return Every(60).after(moment)

        at_or_before = Every(60).at_or_before

    moody = Moody()
    made = spec(moody)
    one, other = (timeline_of(made, WALL, ("instance", name)) for name in ("one", "other"))
    moody.fails = True
    failed = one.next_after(0)
    moody.fails = False

    assert failed.tick == NEVER
    assert type(failed.error) is ConnectionError
    assert failed.search_again_at(0) is None
    assert other.next_after(0).error is None
    assert one.due_ticks(0, 600 * SECOND).next.error is None
    moody.fails = True
    assert type(one.due_ticks(660 * SECOND, 700 * SECOND).next.error) is ConnectionError
