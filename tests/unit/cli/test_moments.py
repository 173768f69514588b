"""Instants and durations as people type and read them, at a fixed moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from kaiju_app.cli._moments import about, instant_of, length, local_time, relative, seconds_of

pytestmark = pytest.mark.pure

BERLIN, NEW_YORK, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


NOW = at("2027-03-10T12:00:00+01:00")


@pytest.mark.parametrize(
    ("text", "zone", "now", "means"),
    [
        ("now", BERLIN, NOW, NOW),
        ("-2h", BERLIN, NOW, NOW - timedelta(hours=2)),
        ("-1h30m", BERLIN, NOW, NOW - timedelta(minutes=90)),
        ("+45s", BERLIN, NOW, NOW + timedelta(seconds=45)),
        ("03:00", BERLIN, NOW, at("2027-03-10T03:00+01:00")),
        ("03:00", UTC_ZONE, NOW, at("2027-03-10T03:00Z")),
        ("12:00", BERLIN, NOW, NOW),
        ("12:00:01", BERLIN, NOW, at("2027-03-09T12:00:01+01:00")),
        ("23:30", BERLIN, NOW, at("2027-03-09T23:30+01:00")),
        ("3:05", NEW_YORK, NOW, at("2027-03-10T03:05-05:00")),
        ("2027-03-01T18:00:00Z", BERLIN, NOW, at("2027-03-01T18:00Z")),
        ("2027-03-01T18:00:00+05:30", BERLIN, NOW, at("2027-03-01T18:00+05:30")),
        ("2027-03-01 18:00", BERLIN, NOW, at("2027-03-01T18:00+01:00")),
        ("2027-03-01", BERLIN, NOW, at("2027-03-01T00:00+01:00")),
        # The clocks go forward from 02:00 to 03:00 on 2027-03-28, and back from 03:00 to 02:00 on 2027-10-31.
        ("02:30", BERLIN, at("2027-03-28T12:00+02:00"), at("2027-03-28T03:00+02:00")),
        ("02:30", BERLIN, at("2027-03-28T01:59+01:00"), at("2027-03-27T02:30+01:00")),
        ("02:30", BERLIN, at("2027-03-29T01:00+02:00"), at("2027-03-28T03:00+02:00")),
        ("03:00", BERLIN, at("2027-03-28T12:00+02:00"), at("2027-03-28T03:00+02:00")),
        ("02:30", BERLIN, at("2027-10-31T02:40+02:00"), at("2027-10-31T02:30+02:00")),
        ("02:30", BERLIN, at("2027-10-31T02:10+01:00"), at("2027-10-31T02:30+02:00")),
        ("02:30", BERLIN, at("2027-10-31T12:00+01:00"), at("2027-10-31T02:30+01:00")),
        ("01:30", NEW_YORK, at("2027-11-07T12:00-05:00"), at("2027-11-07T01:30-05:00")),
        # A length is one of the real time, whatever the clocks do meanwhile.
        ("-24h", BERLIN, at("2027-03-28T12:00+02:00"), at("2027-03-27T11:00+01:00")),
        ("2027-10-31 02:30", BERLIN, NOW, at("2027-10-31T02:30+02:00")),
    ],
)
def test_an_instant_means(text: str, zone: ZoneInfo, now: datetime, means: datetime) -> None:
    found = instant_of(text, now, zone)

    assert found == means
    assert found.utcoffset() == timedelta()


def test_a_time_of_day_may_be_the_next_one() -> None:
    assert instant_of("03:00", NOW, BERLIN, ahead=True) == at("2027-03-11T03:00+01:00")
    assert instant_of("12:00", NOW, BERLIN, ahead=True) == at("2027-03-11T12:00+01:00")


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "03:60", "-", "-2", "-2x", "+h", "2027-13-01", "03:00Z"])
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    if text == "-2":  # Seconds.
        assert instant_of(text, NOW, BERLIN) == NOW - timedelta(seconds=2)
        return
    with pytest.raises(ValueError, match="must be a"):
        instant_of(text, NOW, BERLIN)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("2 d", 172_800), ("5min", 300), ("500ms", 0.5)],
)
def test_a_duration_means(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-2h", "2h3", "1e9", "inf", "40000d"])
def test_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "now"),
        (3, "in 3 s"),
        (59.7, "in 1 min"),
        (180, "in 3 min"),
        (3_590, "in 1 h"),
        (90_000, "in 25 h"),
        (-7_200, "2 h ago"),
        (-172_800, "2 d ago"),
        (-31, "31 s ago"),
    ],
)
def test_a_relative_time_has_one_unit(seconds: float, text: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "<1 ms"),
        (0.0123, "12 ms"),
        (1.254, "1.25 s"),
        (59.999, "1 min"),
        (125, "2 min 5 s"),
        (12_000, "3 h 20 min"),
        (90_061, "25 h 1 min"),
        (360_000, "4 d 4 h"),
    ],
)
def test_a_length_has_the_digits_that_matter(seconds: float | None, text: str) -> None:
    assert length(seconds) == text


def test_no_unit_is_full() -> None:
    texts = [about(seconds / 10) for seconds in range(1, 40_000)]

    assert not {"60 s", "60 min", "48 h"} & set(texts)


def test_a_local_time_has_its_date_unless_that_is_today() -> None:
    assert local_time(at("2027-03-10T00:00Z"), NOW, BERLIN) == "01:00:00"
    assert local_time(at("2027-03-09T22:59:59Z"), NOW, BERLIN) == "2027-03-09 23:59:59"
    assert local_time(at("2027-03-09T23:00:00Z"), NOW, BERLIN) == "00:00:00"
