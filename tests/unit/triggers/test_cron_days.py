"""``L-3`` and ``15W`` compared with a look at every day of a month."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._cron_days import day_in

pytestmark = pytest.mark.pure

DAY = timedelta(days=1)


def model(year: int, month: int, term: str) -> int | None:
    days = range(1, monthrange(year, month)[1] + 1)
    if term.startswith("L"):
        back = int(term[2:])
        return days[-1 - back] if back < len(days) else None
    day = int(term[:-1])
    weekdays = [each for each in days if date(year, month, each).weekday() < 5]
    return min(weekdays, key=lambda each: abs(each - day)) if day in days else None


TERMS = st.integers(1, 30).map("L-{}".format) | st.integers(1, 31).map("{}W".format)


@given(st.integers(1, 9999), st.integers(1, 12), TERMS)
def test_a_day_is_the_one_that_a_look_at_all_days_of_the_month_finds(year: int, month: int, term: str) -> None:
    assert model(year, month, term) == day_in(year, month, term)


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.lists(TERMS | st.sampled_from(["L", "LW", "7", "20-22", "31", "*/10"]), min_size=1, max_size=3),
    st.sampled_from(["*", "mon", "5L"]),
)
def test_the_days_of_a_rule_are_those_of_its_terms(start: date, terms: list[str], weekday: str) -> None:
    def matches(day: date) -> bool:
        last = monthrange(day.year, day.month)[1]
        known = {
            "L": {last},
            "7": {7},
            "20-22": {20, 21, 22},
            "31": {31},
            "*/10": {1, 11, 21, 31},
            "LW": {model(day.year, day.month, f"{last}W")},
        }
        by_day = any(day.day in (known.get(term) or {model(day.year, day.month, term)}) for term in terms)
        if weekday == "*":
            return by_day
        last_friday = day.weekday() == 4 and day.day > last - 7
        by_weekday = day.weekday() == 0 if weekday == "mon" else last_friday
        return by_day and by_weekday if terms[0].startswith("*") else by_day or by_weekday

    rule = Cron(f"30 6 {','.join(terms)} * {weekday}")
    first = datetime(start.year, start.month, start.day, tzinfo=UTC)
    days = [first + DAY * number for number in range(100)]
    ticks = [day + timedelta(hours=6, minutes=30) for day in days if matches(day.date())]

    found = []
    moment = first
    while (tick := rule.after(moment)) is not None and tick < first + DAY * 100:
        found.append(tick)
        moment = tick
    assert ticks == found
    for tick in ticks:
        assert rule.at_or_before(tick) == tick == rule.at_or_before(tick + timedelta(hours=1))
        assert rule.stretch(tick) is not None


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 L-3 * *", ["2026-01-28", "2026-02-25", "2026-03-28"]),  # As in Quartz and Spring.
        ("0 0 15W * *", ["2026-01-15", "2026-02-16", "2026-03-16"]),
        ("0 0 1W * *", ["2026-01-01", "2026-02-02", "2026-03-02"]),
        ("0 0 1w 8 *", ["2026-08-03", "2027-08-02", "2028-08-01"]),  # The first is a Saturday in 2026.
        ("0 0 31W * *", ["2026-01-30", "2026-03-31", "2026-05-29"]),  # Shorter months have no such day.
        ("0 0 l-1,15w feb *", ["2026-02-16", "2026-02-27", "2027-02-15"]),
        ("0 0 15W,31 2 *", ["2026-02-16", "2027-02-15", "2028-02-15"]),  # No month of the rule has a 31st.
        ("0 0 15W,*/10 * fri", ["2026-01-01", "2026-01-02", "2026-01-09"]),  # The field does not begin with a star.
        ("0 0 */10,15W * fri", ["2026-05-01", "2026-05-15", "2026-07-31"]),
    ],
)
def test_days_are_found_as_quartz_says_them(expression: str, days: list[str]) -> None:
    found = Cron(expression).upcoming(datetime(2025, 12, 31, 12, tzinfo=UTC), 3)

    assert days == [tick.date().isoformat() for tick in found]
