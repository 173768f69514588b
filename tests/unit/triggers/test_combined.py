"""Combined triggers (any of several, one except others), compared with lists of ticks."""

from __future__ import annotations

import dataclasses
import time as real_time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import islice, pairwise, takewhile
from unittest.mock import patch
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import event, example, given, settings

from kaiju_app._core.clock import EPOCH
from kaiju_app.errors import InvalidArgument, SearchTooLong
from kaiju_app.triggers import _combined
from kaiju_app.triggers._at import At
from kaiju_app.triggers._base import Trigger
from kaiju_app.triggers._combined import AnyOf, Except
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._every import Every
from kaiju_app.triggers._foreign import as_base_trigger
from kaiju_app.triggers._lint import never
from kaiju_app.triggers._windows import DailyWindow, Window
from unit.triggers.test_cron import DAY, RULES, moments

pytestmark = pytest.mark.pure

US = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 12, 18, 23, 59, 59, tzinfo=BERLIN)
NOON = datetime(2026, 12, 18, 12, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)


class Foreign:
    """A user's own trigger that counts its calls and answers in a zone of its own."""

    def __init__(self, rule: Trigger) -> None:
        self.rule = rule
        self.asked = 0

    def after(self, moment: datetime, /) -> datetime | None:
        self.asked += 1
        tick = self.rule.after(moment)
        return tick and tick.astimezone(BERLIN)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        self.asked += 1
        tick = self.rule.at_or_before(moment)
        return tick and tick.astimezone(BERLIN)


# --- cases worked out by hand ---

Struck = Callable[[datetime], bool]
Part = tuple[object, Struck]

few = st.integers(0, 6 * 24 * 60)


@st.composite
def parts(draw: st.DrawFn, zone: str, start: datetime) -> Part:
    """Draw an exclusion, and a function that tells from the wall clock whether it covers an instant."""
    info = ZoneInfo(zone)

    def local(instant: datetime) -> datetime:
        return instant.astimezone(info).replace(tzinfo=None)

    kind = draw(st.sampled_from(["cron", "seconds", "daily", "window", "at", "every", "any", "foreign", "except"]))
    if kind in ("cron", "seconds"):
        rule = draw(RULES)
        cron = Cron(rule.text if kind == "cron" else f"* {rule.text}", zone)
        return (
            cron,
            lambda instant: (
                rule.matches(local(instant).replace(second=0, microsecond=0)) or cron.at_or_before(instant) == instant
            ),
        )
    if kind == "daily":
        first, last = draw(st.lists(st.times(), min_size=2, max_size=2, unique=True))
        pair = first.replace(tzinfo=info), last.replace(tzinfo=info)
        if first < last:
            return pair, lambda instant: first <= local(instant).time() < last
        return pair, lambda instant: not last <= local(instant).time() < first
    if kind == "window":
        begin = start + timedelta(minutes=draw(few))
        end = begin + timedelta(minutes=1 + draw(few))
        return (begin, end), lambda instant: begin <= instant < end
    if kind == "at":
        some = [start + timedelta(minutes=each) for each in draw(st.lists(few, min_size=1, max_size=50))]
        return At(*some), lambda instant: instant in some
    if kind == "any":
        several = draw(st.lists(parts(zone, start), min_size=1, max_size=2))
        triggers = [each for each in several if not isinstance(each[0], tuple)] or [(Every(7200), on_grid(7200))]
        return AnyOf(*(each for each, _ in triggers)), lambda instant: any(struck(instant) for _, struck in triggers)  # type: ignore[arg-type]
    if kind == "except":
        (outer, struck), (inner, back) = draw(parts(zone, start)), draw(parts(zone, start))
        if isinstance(outer, tuple):
            outer, struck = Every(60), on_grid(60)
        return Except(outer, inner), lambda instant: struck(instant) and not back(instant)  # type: ignore[arg-type]
    seconds = draw(st.sampled_from([60, 300, 1800, 3600, 7200]))
    return Foreign(Every(seconds)) if kind == "foreign" else Every(seconds), on_grid(seconds)


def on_grid(seconds: int) -> Struck:
    return lambda instant: not (instant - EPOCH) % timedelta(seconds=seconds)


def whole(draw: st.DrawFn, zone: str) -> Trigger:
    """Draw a trigger without exclusions."""
    every = st.sampled_from([300, 420, 1800, 3600, 3601, 86_400 / 7]).map(Every)
    cron = RULES.map(lambda rule: Cron(rule.text, zone))
    rules: st.SearchStrategy[Trigger] = every | cron | st.builds(AnyOf, every, cron)
    return draw(rules | rules.map(Foreign))


@st.composite
def cases(draw: st.DrawFn) -> tuple[datetime, Trigger, list[Part]]:
    zone, day = draw(moments())
    start = day - DAY
    return start, whole(draw, zone), draw(st.lists(parts(zone, start), min_size=1, max_size=3))


def all_ticks(rule: Trigger, start: datetime, end: datetime) -> list[datetime]:
    found = []
    tick = rule.after(start)
    while tick is not None and tick <= end:
        found.append(tick.astimezone(UTC))  # In a fold, Python never considers instants in different zones equal.
        tick = rule.after(tick)
    return found


def check(rule: Trigger, expected: list[datetime], start: datetime, end: datetime, seconds: list[int]) -> None:
    """Check all methods of *rule*, whose ticks after *start* up to and including *end* are *expected*."""
    found: list[datetime] = []
    reached = end
    try:
        found.extend(takewhile(lambda tick: tick <= end, as_base_trigger("rule", rule).ticks(start)))
    except SearchTooLong as exc:
        reached = exc.reached

    assert reached >= end, "all of it was looked at"
    assert expected == found
    assert all(tick.tzinfo is UTC for tick in found)
    for second in seconds:
        moment = start + timedelta(seconds=second, microseconds=7)
        place = bisect_right(expected, moment)
        if place and moment < end:
            assert expected[place - 1] == rule.at_or_before(moment)
        if place < len(expected):
            assert expected[place] == rule.after(moment)
    for tick, following in islice(pairwise(expected), 25):
        assert following == rule.after(tick) == rule.after(following - US)
        assert tick == rule.at_or_before(tick) == rule.at_or_before(tick + US) == rule.at_or_before(following - US)


@pytest.mark.timeout(240)
@settings(max_examples=70)
@given(case=cases(), seconds=st.lists(st.integers(0, 4 * 86_400), max_size=10))
@example(
    (
        datetime(2026, 10, 24, tzinfo=UTC),
        Every(300),
        [
            (
                (time(2, 30, tzinfo=BERLIN), time(2, 50, tzinfo=BERLIN)),
                lambda each: each.astimezone(BERLIN).hour == 2 and 30 <= each.minute < 50,
            )
        ],
    ),
    [],
)
def test_except_strikes_out_what_is_covered_and_nothing_else(
    case: tuple[datetime, Trigger, list[Part]], seconds: list[int]
) -> None:
    start, rule, excluded = case
    end = start + 4 * DAY
    before = all_ticks(rule, start, end)
    expected = [tick for tick in before if not any(struck(tick) for _, struck in excluded)]
    event(f"nothing struck: {expected == before}, everything: {not expected}")

    with patch.object(_combined, "MAX_STRETCHES", 10_000):  # More than the minutes of four days.
        check(Except(rule, *(each for each, _ in excluded)), expected, start, end, seconds)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(data=st.data(), where=moments(), seconds=st.lists(st.integers(0, 4 * 86_400), max_size=10))
def test_any_of_ticks_whenever_one_of_its_rules_does(
    data: st.DataObject, where: tuple[str, datetime], seconds: list[int]
) -> None:
    zone, start = where
    end = start + 3 * DAY
    several = data.draw(st.lists(st.composite(whole)(zone), min_size=1, max_size=3))
    expected = sorted({tick for rule in several for tick in all_ticks(rule, start, end)})

    check(AnyOf(*several), expected, start, end, seconds)


# --- triggers whose time stands still ---


class Still:
    """A user's own trigger that ignores "strictly later". It raises if the search does not notice."""

    asked = 0

    def after(self, moment: datetime, /) -> datetime:
        self.asked += 1
        assert self.asked < 1_000, "asked for ever"
        return NOON

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        return NOON if moment >= NOON else None


class Pacing(Still):
    """A trigger whose ``ticks()`` repeats one instant."""

    def ticks(self, after: datetime) -> Iterator[datetime]:
        while True:
            yield self.after(after)


@pytest.mark.parametrize("kind", [Still, Pacing])
@pytest.mark.parametrize(
    "rule_of",
    [
        lambda part: AnyOf(part, Cron("0 6 * * *")),
        lambda part: AnyOf(AnyOf(Every(86_400)), part),
        lambda part: Except(part, At(NOON - HOUR)),
        lambda part: Except(part, (NOON, NOON + HOUR)),
    ],
)
def test_a_part_that_stands_still_is_an_error_and_no_loop(
    kind: type[Still], rule_of: Callable[[Still], AnyOf | Except]
) -> None:
    with pytest.raises(ValueError, match=r"returned 2026-12-18T12:00:00.00:00, which is not later"):
        rule_of(kind()).upcoming(NOON - US, 4)
    with pytest.raises(ValueError, match=r"after\(2026-12-18T12:00:00.00:00\) returned .* which is not later"):
        rule_of(Still()).after(NOON)


def test_a_part_whose_last_tick_is_later_than_asked_is_an_error() -> None:
    class Ahead(Still):
        def at_or_before(self, moment: datetime, /) -> datetime:
            return moment + US

    for rule in (AnyOf(Ahead(), Every(60)), Except(Ahead(), At(NOON)), Except(Every(60), Ahead())):
        with pytest.raises(ValueError, match=r"at_or_before\(2026-12-18T12.* which is later"):
            rule.at_or_before(NOON)


# --- any of several ---


def test_equal_ticks_of_several_rules_are_one() -> None:
    rule = AnyOf(Every(2), Every(3), Every(2))

    assert [2, 3, 4, 6, 8] == [(tick - NOON).seconds for tick in rule.upcoming(NOON, 5)]


def test_any_of_any_of_is_any_of_all() -> None:
    rules = Every(2), Every(3), At(NOON)

    assert AnyOf(*rules) == AnyOf(AnyOf(rules[0]), AnyOf(*rules[1:]))
    assert rules == AnyOf(AnyOf(*rules)).triggers
    assert hash(AnyOf(*rules)) == hash(AnyOf(AnyOf(*rules)))
    assert AnyOf(*rules) != AnyOf(*rules[:2])


def test_equal_rules_are_one() -> None:
    assert AnyOf(Every(2), Every(3)) == AnyOf(Every(2), AnyOf(Every(3), Every(2)), Every(2))


def test_any_of_ticks_on_when_one_of_its_rules_has_ended() -> None:
    rule = AnyOf(At(NOON), At(NOON + DAY))

    assert [NOON, NOON + DAY] == rule.upcoming(NOON - US, 5)
    assert rule.after(NOON + DAY) is None
    assert rule.at_or_before(NOON - US) is None
    assert datetime.max.replace(tzinfo=UTC) == AnyOf(Every(60), At(datetime.max.replace(tzinfo=UTC))).after(
        datetime.max.replace(tzinfo=UTC) - US
    )


# --- except ---


def test_holidays_are_a_cron() -> None:
    work = Cron("0 6 * * mon-fri", "Europe/Berlin")
    rule = Except(work, Cron("* * 24-31 12 *", "Europe/Berlin"), Cron("* * 1 1 *", "Europe/Berlin"))

    days = [tick.astimezone(BERLIN).date() for tick in rule.upcoming(datetime(2026, 12, 22, tzinfo=UTC), 4)]

    assert [date(2026, 12, 22), date(2026, 12, 23), date(2027, 1, 4), date(2027, 1, 5)] == days
    assert datetime(2026, 12, 23, 6, tzinfo=BERLIN) == rule.at_or_before(datetime(2027, 1, 4, 5, 59, tzinfo=BERLIN))


def test_a_window_covers_its_start_and_not_its_end() -> None:
    rule = Except(Every(3600), (NOON, NOON + 3 * HOUR))

    assert [NOON - HOUR, NOON + 3 * HOUR] == rule.upcoming(NOON - 2 * HOUR, 2)
    assert NOON - HOUR == rule.at_or_before(NOON + 3 * HOUR - US)


def test_a_night_goes_over_midnight() -> None:
    rule = Except(Cron("0 * * * *", "Europe/Berlin"), (time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN)))

    hours = [tick.astimezone(BERLIN).hour for tick in rule.upcoming(NOON.replace(hour=0), 18)]

    assert [*range(6, 22), 6, 7] == hours


def test_an_end_at_midnight_is_the_end_of_the_day() -> None:
    rule = Except(Cron("0 */6 * * *", "Europe/Berlin"), (time(12, tzinfo=BERLIN), time(0, tzinfo=BERLIN)))

    assert [6, 0, 6, 0] == [tick.astimezone(BERLIN).hour for tick in rule.upcoming(NOON.replace(hour=0), 4)]


@pytest.mark.parametrize(
    "weekend",
    [
        Cron("* * * * sat,sun", "Europe/Berlin"),
        (datetime(2026, 12, 19, tzinfo=BERLIN), datetime(2026, 12, 21, tzinfo=BERLIN)),
    ],
)
def test_a_weekend_without_a_rule_of_a_millisecond_is_a_handful_of_steps(
    weekend: Cron | tuple[datetime, datetime],
) -> None:
    milliseconds = Foreign(Every(0.001))
    rule = Except(milliseconds, weekend)
    monday = datetime(2026, 12, 21, tzinfo=BERLIN)
    last = FRIDAY.replace(microsecond=999_000)

    assert monday == rule.after(last)
    assert last == rule.at_or_before(monday - US)
    assert milliseconds.asked < 12
    assert [last, monday, monday + timedelta(milliseconds=1)] == rule.upcoming(last - US, 3)


def test_a_long_stretch_is_passed_however_long_it_is() -> None:
    def without(years: int) -> Except:
        return Except(Every(3600), (NOON, NOON + years * 365 * DAY))

    for years in (1, 49, 51, 500):
        assert NOON + years * 365 * DAY == without(years).after(NOON)
        assert NOON - HOUR == without(years).at_or_before(NOON + years * 365 * DAY - US)


def test_a_search_is_given_up_after_four_thousand_stretches_and_tells_how_far_it_came() -> None:
    def without(number: int) -> Except:
        return Except(Every(1), At(*(NOON + timedelta(seconds=each) for each in range(number))))

    def given_up(ask: Callable[[datetime], object], moment: datetime) -> datetime:
        with pytest.raises(SearchTooLong, match=r"all ticks between .* are excluded, and the search stopped") as caught:
            ask(moment)
        assert moment == caught.value.asked
        return caught.value.reached

    last = NOON + 3_999 * SECOND
    assert last == without(3_999).after(NOON - US)
    assert NOON - SECOND == without(3_999).at_or_before(last - SECOND)
    assert last == given_up(without(4_000).after, NOON - US)
    assert last == given_up(lambda moment: without(4_000).upcoming(moment, 1), NOON - US)
    assert NOON == given_up(without(4_000).at_or_before, last)
    assert last + SECOND == without(4_000).after(last)


def test_a_rule_beside_one_whose_search_is_given_up_is_known_as_far_as_that_came() -> None:
    empty = Except(Every(1), Every(1))
    reached = NOON + 4_000 * SECOND
    near, far = (AnyOf(empty, At(NOON + SECOND, reached, tick), empty) for tick in (reached - US, reached + US))

    assert [NOON + SECOND, reached - US, reached] == near.upcoming(NOON, 3)
    assert NOON + SECOND == far.after(NOON)
    assert [NOON + SECOND, reached] == list(islice(far.ticks(NOON), 2))
    for ask in (lambda: far.upcoming(NOON, 3), lambda: AnyOf(empty, At(reached + US)).after(NOON)):
        with pytest.raises(SearchTooLong) as caught:
            ask()
        assert reached == caught.value.reached
    back = NOON - 3_999 * SECOND
    assert back == AnyOf(empty, At(back)).at_or_before(NOON)
    with pytest.raises(SearchTooLong) as caught:
        AnyOf(At(back - US), empty).at_or_before(NOON)
    assert back == caught.value.reached


def test_the_inside_of_a_window_is_all_but_what_is_before_and_behind_it() -> None:
    begin, end = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    rule = Except(Every(3600), (begin, NOON), (NOON + 3 * HOUR, end))

    assert [NOON, NOON + HOUR, NOON + 2 * HOUR] == rule.upcoming(datetime(2000, 1, 1, tzinfo=UTC), 9)
    assert NOON + 2 * HOUR == rule.at_or_before(end)
    assert rule.at_or_before(NOON - US) is None


def test_what_is_left_over_ends_a_row_of_stretches() -> None:
    odd, rare = Except(Every(1), Every(2)), Except(Every(30 * DAY), Every(60 * DAY))

    assert odd.after(NOON) + 2 * 10_999 * SECOND == odd.upcoming(NOON, 11_000)[-1]
    assert rare.after(NOON) + 60 * 499 * DAY == rare.upcoming(NOON, 500)[-1]


def test_of_several_stretches_the_longest_counts() -> None:
    seconds = [NOON + number * SECOND for number in range(10_001)]
    rule = Except(Every(1), At(*seconds), (seconds[0], seconds[-1] + SECOND))

    assert seconds[-1] + SECOND == rule.after(seconds[0] - US)
    assert seconds[0] - SECOND == rule.at_or_before(seconds[-1])


def test_a_tick_beside_a_stretch_is_not_passed_over() -> None:
    rule = Except(At(*(NOON + number * US for number in range(-2, 5))), (NOON, NOON + 3 * US))

    assert [-2, -1, 3, 4] == [(tick - NOON) // US for tick in rule.upcoming(NOON - HOUR, 9)]
    assert NOON - US == rule.at_or_before(NOON) == rule.at_or_before(NOON + 2 * US)
    assert NOON + 3 * US == rule.after(NOON) == rule.after(NOON - US)


@pytest.mark.parametrize(
    "rule",
    [
        Except(Every(1), Every(1)),
        AnyOf(Except(Every(1), Every(0.5)), Except(At(NOON), At(NOON))),
        Except(Cron("0 6 * * sat", "Europe/Berlin"), Cron("* * * * 6", "Europe/Berlin")),
    ],
)
def test_a_rule_of_which_nothing_is_left_never_ticks(rule: Trigger) -> None:
    begin = real_time.perf_counter()

    assert never(rule)
    assert real_time.perf_counter() - begin < 5  # It takes 0.1 s; the slack is for a busy machine.


def test_at_the_ends_of_the_calendar_a_search_ends() -> None:
    rest = Except(Every(60), (NOON, datetime.max.replace(tzinfo=UTC)))
    late = datetime(9999, 12, 31, 12, tzinfo=UTC)

    assert rest.after(NOON) is None
    assert Except(Every(60), (late, datetime.max.replace(tzinfo=UTC))).after(late) is None
    assert Except(Every(60), (datetime.min.replace(tzinfo=UTC), NOON)).at_or_before(NOON - US) is None
    assert Except(Every(60), Cron("* * * * *")).after(late) is None


def test_except_may_hold_except() -> None:
    inner = Except(Every(3600), (NOON, NOON + 3 * HOUR))

    assert [NOON, NOON + HOUR, NOON + 2 * HOUR] == Except(Every(3600), inner).upcoming(NOON - HOUR, 3)
    assert NOON + 4 * HOUR == Except(inner, At(NOON + 3 * HOUR)).after(NOON)
    assert not never(AnyOf(inner, Except(Every(1), Every(1))))
    assert Except(Every(3600), (NOON, NOON + 3 * HOUR), At(NOON)) == Except(inner, At(NOON))


@pytest.mark.parametrize("expression", ["30 2 * * *", "0,30 2,3 * * *", "*/30 2 * * *", "0 30 2 * * *"])
def test_of_a_rule_without_itself_nothing_is_left_where_the_clocks_are_changed(expression: str) -> None:
    rule = Except(AnyOf(Cron(expression, "Europe/Berlin"), At(NOON)), Cron(expression, "Europe/Berlin"))

    assert [NOON] == rule.upcoming(datetime(2026, 1, 1, tzinfo=UTC), 1)


def test_a_tick_that_is_moved_out_of_a_window_is_outside() -> None:
    rule = Except(Cron("30 2 * * *", "Europe/Berlin"), (time(2, tzinfo=BERLIN), time(3, tzinfo=BERLIN)))

    assert datetime(2027, 3, 28, 3, tzinfo=BERLIN) == rule.after(NOON)


def test_an_except_covers_what_its_rule_does_and_its_exceptions_do_not() -> None:
    holidays = Except(Cron("* * 24-26 12 *"), (datetime(2026, 12, 25, tzinfo=UTC), datetime(2026, 12, 26, tzinfo=UTC)))
    rule = Except(Every(43_200 - 30), holidays)
    days = [tick.day for tick in rule.upcoming(datetime(2026, 12, 23, tzinfo=UTC), 6)]

    assert [23, 23, 25, 25, 27, 27] == days


# --- repr, equality and hash ---


def test_pairs_are_kept_as_windows_and_equal_ones_are_equal() -> None:
    night = time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN)
    pair = NOON, NOON + HOUR
    rule = Except(Every(60), pair, night, At(NOON))
    same = Except(Every(60), Window(*pair), DailyWindow(*night), At(NOON))

    assert (Window(*pair), DailyWindow(*night), At(NOON)) == rule.excluded
    assert Every(60) == rule.rule
    assert rule == same == Except(rule.rule, *rule.excluded)
    assert hash(rule) == hash(same)
    assert Window(*pair) == Window(*(each.astimezone(BERLIN) for each in pair))


def test_the_same_times_elsewhere_are_another_window() -> None:
    def night(zone: ZoneInfo) -> DailyWindow:
        return DailyWindow(time(22, tzinfo=zone), time(6, tzinfo=zone))

    assert night(BERLIN) == night(ZoneInfo.no_cache("Europe/Berlin"))
    assert hash(night(BERLIN)) == hash(night(ZoneInfo.no_cache("Europe/Berlin")))
    assert night(BERLIN) != night(ZoneInfo("America/New_York"))
    assert night(ZoneInfo("UTC")) != night(ZoneInfo("Etc/GMT+1"))


def test_a_combination_says_what_it_is_in_one_line() -> None:
    night = time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN)
    rule = Except(AnyOf(Every(60), At(NOON)), (NOON, NOON + HOUR), night, Cron("* * 25 12 *", "Europe/Berlin"))

    assert str(rule) == (
        "any of (every 60 s; at 2026-12-18T12:00:00+00:00), except "
        "(from 2026-12-18T12:00:00+00:00 to 2026-12-18T13:00:00+00:00; daily from 22:00:00 to 06:00:00, Europe/Berlin; "
        "Every minute on December 25, Europe/Berlin (* * 25 12 *))"
    )


def test_a_window_is_shown_as_a_pair_and_a_trigger_of_the_user_by_its_own_name() -> None:
    class WindowOfMine:
        def after(self, _: datetime) -> datetime | None:
            return None

        def at_or_before(self, _: datetime) -> datetime | None:
            return None

        def __repr__(self) -> str:
            return "WindowOfMine()"

    night = time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN)
    window = repr(Window(NOON, NOON + HOUR)).removeprefix("Window")
    daily = repr(DailyWindow(*night)).removeprefix("DailyWindow")

    assert f"Except(Every(60), {window}, {daily}, WindowOfMine())" == repr(
        Except(Every(60), (NOON, NOON + HOUR), night, WindowOfMine())
    )


@pytest.mark.parametrize("rule", [AnyOf(Every(60)), Except(Every(60), At(NOON))])
def test_a_combination_is_a_trigger_that_cannot_be_changed(rule: AnyOf | Except) -> None:
    assert isinstance(rule, Trigger)
    for field in dataclasses.fields(rule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule, field.name, None)


# --- what is refused ---


@pytest.mark.parametrize(
    ("kind", "arguments", "why"),
    [
        (AnyOf, [], r"triggers must be at least one, such as Every\(60\), got \(\)"),
        (AnyOf, [Every(1), 5], r"triggers\[1\] must be a trigger such as Every\(60\).*, got 5"),
        (AnyOf, [Every], r"triggers\[0\] must be a trigger"),
        (AnyOf, [Window(NOON, NOON + HOUR)], r"triggers\[0\] must be a trigger"),
        (AnyOf, [[Every(1)]], r"triggers\[0\] must be a trigger"),
        (Except, [Every(1)], "excluded must be at least one"),
        (Except, [None, Every(1)], "rule must be a trigger such as"),
        (Except, [(NOON, NOON + HOUR), Every(1)], "rule must be a trigger such as"),
        (Except, [Every(1), Every(1), 5], r"excluded\[1\] must be a trigger"),
        (Except, [Every(1), Cron], r"excluded\[0\] must be a trigger"),
        (Except, [Every(1), NOON], r"excluded\[0\] must be a trigger"),
        (Except, [Every(1), (NOON,)], r"excluded\[0\] must be a pair of aware datetimes, or of times"),
        (Except, [Every(1), (NOON, NOON, NOON)], r"excluded\[0\] must be a pair"),
        (Except, [Every(1), ()], r"excluded\[0\] must be a pair"),
        (Except, [Every(1), (NOON, time(6))], r"excluded\[0\] must be a pair"),
        (Except, [Every(1), (Every(1), Every(2))], r"excluded\[0\] must be a pair"),
        (Except, [Every(1), (NAIVE, NOON)], r"excluded\[0\]\[0\] must be an aware datetime"),
        (Except, [Every(1), (NOON, NAIVE)], r"excluded\[0\]\[1\] must be an aware datetime"),
        (Except, [Every(1), (NOON, NOON)], r"excluded\[0\]\[1\] must be later than the start, 2026-12-18T12"),
        (Except, [Every(1), (NOON, NOON - HOUR)], r"excluded\[0\]\[1\] must be later than the start"),
        (Except, [Every(1), (time(22), time(6))], r"excluded\[0\]\[0\] must be a time of day with a ZoneInfo"),
        (
            Except,
            [Every(1), (time(22, tzinfo=BERLIN), time(6, tzinfo=timezone(HOUR)))],
            r"excluded\[0\]\[1\] must be a time of day with a ZoneInfo",
        ),
        (
            Except,
            [Every(1), (time(22, tzinfo=BERLIN), time(6, tzinfo=ZoneInfo("UTC")))],
            r"excluded\[0\]\[1\] must be in the zone of the start, Europe/Berlin, got",
        ),
        (
            Except,
            [Every(1), (time(22, tzinfo=BERLIN), time(22, tzinfo=BERLIN))],
            r"excluded\[0\]\[1\] must differ from the start; whole days are",
        ),
        (Window, [NAIVE, NOON], "start must be an aware datetime"),
        (Window, [NOON, "2026"], "end must be an aware datetime"),
        (DailyWindow, [NOON, NOON], "start must be a time of day"),
    ],
)
def test_what_is_no_combination_is_refused_with_the_offending_part(
    kind: Callable[..., object], arguments: list[object], why: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{why}"):
        kind(*arguments)


@pytest.mark.parametrize("rule", [AnyOf(Every(60)), Except(Every(60), At(NOON)), Window(NOON, NOON + HOUR)])
def test_a_question_about_a_naive_moment_is_refused(rule: AnyOf | Except | Window) -> None:
    questions = [getattr(rule, name, None) for name in ("after", "at_or_before", "ticks", "stretch")]
    for ask in filter(None, questions):
        with pytest.raises(InvalidArgument, match="must be an aware datetime"):
            ask(NAIVE)


def test_a_foreign_tick_that_could_be_any_instant_is_refused() -> None:
    class Naive:
        def after(self, moment: datetime, /) -> datetime:
            return NAIVE

        at_or_before = after

        def ticks(self, after: datetime) -> Iterator[datetime]:
            yield NAIVE

    for rule in (AnyOf(Naive()), Except(Naive(), At(NOON)), Except(Every(1), Naive())):
        for ask in (rule.after, rule.at_or_before, lambda moment, rule=rule: next(rule.ticks(moment))):
            with pytest.raises(InvalidArgument, match="tick must be an aware datetime"):
                ask(NOON)
