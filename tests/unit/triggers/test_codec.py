"""Triggers as JSON: what is written is read back, and errors name the mistake."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._at import At
from kaiju_app.triggers._base import Trigger
from kaiju_app.triggers._calendar import Calendar
from kaiju_app.triggers._codec import trigger_from_json
from kaiju_app.triggers._combined import AnyOf, Except
from kaiju_app.triggers._cron import Cron
from kaiju_app.triggers._every import Every
from kaiju_app.triggers._windows import DailyWindow, Window
from unit.triggers.test_calendar import calendars
from unit.triggers.test_cron import ODD_ZONES, RULES

pytestmark = pytest.mark.pure

EVE = datetime(2026, 12, 24, 18, tzinfo=UTC)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")


class Foreign:
    """A user's own trigger."""

    def after(self, moment: datetime, /) -> None: ...
    def at_or_before(self, moment: datetime, /) -> None: ...


zones = st.sampled_from(ODD_ZONES)
instants = st.datetimes(
    datetime(1, 1, 3),  # noqa: DTZ001  # Its zone comes with the next argument.
    datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.timezones(),
)
gaps = st.integers(1_000, 100 * 366 * 86_400 * 1_000_000).map(lambda us: timedelta(microseconds=us))
windows = (
    st.lists(instants, min_size=2, max_size=2, unique_by=lambda each: each.astimezone(UTC))
    .map(lambda each: sorted(each, key=lambda moment: moment.astimezone(UTC)))
    .map(lambda each: Window(*each))
)
nights = st.builds(
    lambda times, zone: DailyWindow(*(each.replace(tzinfo=ZoneInfo(zone)) for each in times)),
    st.lists(st.times(), min_size=2, max_size=2, unique=True),
    zones,
)
plain: st.SearchStrategy[Trigger] = st.one_of(
    st.builds(Every, gaps, st.none() | instants),
    st.builds(Every, st.integers(1, 10**6)),
    st.builds(lambda rule, zone: Cron(rule.text, zone), RULES, zones),
    calendars(zones),
    st.builds(lambda moments: At(*moments), st.lists(instants, min_size=1, max_size=5)),
)
triggers = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda each: AnyOf(*each)),
        st.builds(
            lambda rule, excluded: Except(rule, *excluded),
            inner,
            st.lists(inner | windows | nights, min_size=1, max_size=4),
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(triggers)
def test_what_is_written_is_read_back(trigger: Every | Cron | Calendar | At | AnyOf | Except) -> None:
    form = trigger.json_repr()
    text = json.dumps(form, allow_nan=False)

    assert trigger == trigger_from_json(json.loads(text))
    assert form == json.loads(text)
    assert form == trigger_from_json(form).json_repr()
    assert 1 == len(str(trigger).splitlines())


@pytest.mark.parametrize(
    ("trigger", "form"),
    [
        (Every(3600), {"every": 3600}),
        (Every(0.25, anchor=EVE), {"every": 0.25, "anchor": "2026-12-24T18:00:00+00:00"}),
        (Cron("0 6 * * mon-fri", "Europe/Berlin"), {"cron": "0 6 * * mon-fri", "tz": "Europe/Berlin"}),
        (Cron("0 6 * * *"), {"cron": "0 6 * * *", "tz": "UTC"}),
        (
            Calendar("2 weeks", on="wed", at="14:00", tz="Europe/Berlin", start="2026-01-07"),
            {
                "calendar": {
                    "every": "2 weeks",
                    "on": "wed",
                    "at": "14:00",
                    "tz": "Europe/Berlin",
                    "start": "2026-01-07",
                }
            },
        ),
        (Calendar("day"), {"calendar": {"every": "day", "at": "00:00", "tz": "UTC"}}),
        (At(EVE.astimezone(BERLIN)), {"at": ["2026-12-24T18:00:00+00:00"]}),
        (AnyOf(Every(60), At(EVE)), {"any_of": [{"every": 60}, {"at": ["2026-12-24T18:00:00+00:00"]}]}),
        (
            Except(
                Every(60),
                Cron("* * 25 12 *"),
                (EVE, EVE + HOUR),
                (time(22, tzinfo=BERLIN), time(6, tzinfo=BERLIN)),
            ),
            {
                "except": [
                    {"cron": "* * 25 12 *", "tz": "UTC"},
                    {"from": "2026-12-24T18:00:00+00:00", "to": "2026-12-24T19:00:00+00:00"},
                    {"daily": ["22:00:00", "06:00:00"], "tz": "Europe/Berlin"},
                ],
                "rule": {"every": 60},
            },
        ),
    ],
)
def test_a_trigger_is_written_as_people_would(
    trigger: Every | Cron | Calendar | At | AnyOf | Except, form: object
) -> None:
    assert form == trigger.json_repr()
    assert json.dumps(form) == json.dumps(trigger.json_repr())
    assert trigger == trigger_from_json(form)


@pytest.mark.parametrize(
    ("form", "trigger"),
    [
        ({"every": 60.0}, Every(60)),
        ({"cron": "0  6 * * *"}, Cron("0 6 * * *")),
        ({"at": "2026-12-24T18:00:00Z"}, At(EVE)),
        ({"at": ["2026-12-24T19:00:00+01:00", "2026-12-24T18:00:00Z"]}, At(EVE)),
        ({"any_of": [{"any_of": [{"every": 1}]}]}, AnyOf(Every(1))),
        (
            {"rule": {"every": 1}, "except": [{"daily": ["22:00", "06:00"]}]},
            Except(Every(1), (time(22, tzinfo=ZoneInfo("UTC")), time(6, tzinfo=ZoneInfo("UTC")))),
        ),
    ],
)
def test_a_form_may_be_written_in_another_way(form: object, trigger: Trigger) -> None:
    assert trigger == trigger_from_json(form)


KINDS = "every, cron, calendar, at, registered, any_of, except"


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (None, "trigger must be an object such as {'every': 3600}, got None"),
        ([], "trigger must be an object such as {'every': 3600}, got []"),
        ("0 6 * * *", "trigger must be an object such as {'every': 3600}, got '0 6 * * *'"),
        ({}, f"trigger must have exactly one of the keys {KINDS}, got {{}}"),
        ({"evry": 5}, f"trigger must have exactly one of the keys {KINDS}, got {{'evry': 5}}"),
        ({"every": 5, "cron": "* * * * *"}, f"trigger must have exactly one of the keys {KINDS}, got "),
        ({"from": "2026", "to": "2027"}, f"trigger must have exactly one of the keys {KINDS}, got "),
        ({"rule": {"every": 5}}, f"trigger must have exactly one of the keys {KINDS}, got "),
        ({"every": 5, "tz": "UTC"}, "trigger must not have the key 'tz': allowed are every and anchor, got "),
        ({"every": 5, 7: 8}, "trigger must not have the key 7: allowed are every and anchor, got "),
        ({"at": "2026-12-24T18:00:00Z", "tz": "UTC"}, "trigger must not have the key 'tz': allowed are at, got "),
        ({"every": "5"}, "trigger every must be a number of seconds or a timedelta, got '5'"),
        ({"every": True}, "trigger every must be a number of seconds or a timedelta, got True"),
        ({"every": 0}, "trigger every must be at least 0.001 seconds and at most 100 years, got 0"),
        ({"every": None}, "trigger every must be a number of seconds or a timedelta, got None"),
        ({"every": 5, "anchor": None}, "trigger anchor must be ISO text with an offset from UTC: "),
        ({"every": 5, "anchor": "2026-12-24T18:00:00"}, "trigger anchor must be ISO text with an offset from UTC: "),
        ({"every": 5, "anchor": "0001-01-01T00:00:00+14:00"}, "trigger anchor must be ISO text with an offset "),
        (
            {"cron": "61 * * * *"},
            "trigger cron has an invalid minute, '61': allowed are 0-59; lists, ranges, steps, got ",
        ),
        ({"cron": 5}, "trigger cron must be a string such as '0 6 * * mon-fri', got 5"),
        ({"cron": "0 0 30 2 *"}, "trigger cron must match at least one day, "),
        ({"cron": "* * * * *", "tz": "Berlin"}, "trigger tz must be the key of an IANA time zone, such as "),
        ({"cron": "* * * * *", "tz": None}, "trigger tz must be the key of an IANA time zone, such as "),
        ({"calendar": 5}, "trigger calendar must be an object such as {'every': 'week', 'on': 'wed', 'at': '14:00'}, "),
        ({"calendar": {"on": "wed"}}, "trigger calendar must have the key every, got "),
        (
            {"calendar": {"every": "week", "day": 5}},
            "trigger calendar must not have the key 'day': allowed are every and ",
        ),
        ({"calendar": {"every": "hour"}}, "trigger calendar every must be days, weeks, months or years, such as "),
        ({"calendar": {"every": "2 weeks"}}, "trigger calendar start must be a date in the first period, such as "),
        ({"calendar": {"every": "day", "tz": "Berlin"}}, "trigger calendar tz must be the key of an IANA time zone, "),
        (
            {"calendar": {"every": "week", "on": 5}},
            "trigger calendar on must be text, such as 'wed' or '2nd fri', got 5",
        ),
        ({"at": []}, "trigger at must be a list with at least one item, got []"),
        ({"at": 5}, "trigger at must be a list with at least one item, got 5"),
        ({"at": ["2026-12-24T18:00:00Z", "Xmas"]}, "trigger at[1] must be ISO text with an offset from UTC: "),
        ({"any_of": []}, "trigger any_of must be a list with at least one item, got []"),
        ({"any_of": {"every": 5}}, "trigger any_of must be a list with at least one item, got {'every': 5}"),
        ({"any_of": [{"every": 5}, {"every": -1}]}, "trigger any_of[1] every must be at least 0.001 seconds "),
        ({"any_of": [{"every": 5}, 5]}, "trigger any_of[1] must be an object such as {'every': 3600}, got 5"),
        ({"except": [{"every": 5}]}, "trigger must have the key rule in addition to except, got "),
        ({"except": [], "rule": {"every": 5}}, "trigger except must be a list with at least one item, got []"),
        ({"except": [{"every": 5}], "rule": 5}, "trigger rule must be an object such as {'every': 3600}, got 5"),
        (
            {"except": [{"every": 5}], "rule": {"daily": ["22:00", "06:00"]}},
            f"trigger rule must have exactly one of the keys {KINDS}, got ",
        ),
        (
            {"except": [{"every": 5}, {}], "rule": {"every": 5}},
            f"trigger except[1] must have exactly one of the keys {KINDS}, from, daily, got {{}}",
        ),
    ],
)
def test_a_wrong_form_is_refused_with_the_offending_part(form: object, why: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        trigger_from_json(form)

    assert str(refused.value).startswith(why)
    assert str(refused.value).startswith(refused.value.argument)


@pytest.mark.parametrize(
    ("excluded", "why"),
    [
        ({"from": "2026-12-24T18:00:00Z"}, " must have the key to in addition to from, got "),
        ({"from": "2026-12-24", "to": 5}, " from must be ISO text with an offset from UTC: "),
        ({"from": "2026-12-24T18:00:00Z", "to": 5}, " to must be ISO text with an offset from UTC: "),
        (
            {"from": "2026-12-24T18:00:00Z", "to": "2026-12-24T18:00:00Z"},
            " to must be later than the start, 2026-12-24T18:00:00+00:00, got ",
        ),
        ({"from": "2026", "to": "2027", "tz": "UTC"}, " must not have the key 'tz': allowed are from and to, got "),
        ({"daily": "22:00"}, " daily must be a list with at least one item, got '22:00'"),
        ({"daily": ["22:00"]}, " daily must be two times of day, such as ['22:00', '06:00'], got ['22:00']"),
        (
            {"daily": ["22:00", "25:00"]},
            " daily[1] must be a time of day such as '22:00', in the zone that the key tz names, ",
        ),
        (
            {"daily": ["22:00Z", "6:00"]},
            " daily[0] must be a time of day such as '22:00', in the zone that the key tz names, ",
        ),
        (
            {"daily": [22, 6]},
            " daily[0] must be a time of day such as '22:00', in the zone that the key tz names, got 22",
        ),
        ({"daily": ["22:00", "22:00"]}, " daily[1] must differ from the start; whole days are "),
        ({"daily": ["22:00", "06:00"], "tz": "Berlin"}, " tz must be the key of an IANA time zone, such as "),
        (
            {"any_of": [{"cron": "* * * *"}]},
            " any_of[0] cron must have 5 fields, or 6 with the second first, but has 4; or be one of @hourly",
        ),
    ],
)
def test_something_wrong_among_the_excluded_is_named(excluded: object, why: str) -> None:
    form = {"any_of": [{"every": 1}, {"except": [{"every": 1}, excluded], "rule": {"every": 1}}]}

    with pytest.raises(InvalidArgument) as refused:
        trigger_from_json(form)

    assert str(refused.value).startswith(f"trigger any_of[1] except[1]{why}")


@pytest.mark.parametrize(
    ("trigger", "part"),
    [
        (AnyOf(Every(1), Foreign()), r"triggers\[1\]"),
        (Except(Foreign(), Every(1)), "rule"),
        (Except(Every(1), Every(1), Foreign()), r"excluded\[1\]"),
        (Except(Every(1), AnyOf(Foreign())), r"triggers\[0\]"),
    ],
)
def test_a_foreign_trigger_has_no_form(trigger: AnyOf | Except, part: str) -> None:
    with pytest.raises(
        InvalidArgument,
        match=rf"^{part} has no JSON form: register_trigger\('name', Foreign\) in every process gives it one",
    ):
        trigger.json_repr()


# --- as Python code ---

NAMES = {"UTC": UTC} | {
    each.__name__: each
    for each in (At, AnyOf, Calendar, Cron, Every, Except, DailyWindow, Window, ZoneInfo, datetime, time)
}


@settings(max_examples=300)
@given(triggers)
def test_what_is_shown_can_be_typed(trigger: Trigger) -> None:
    assert eval(repr(trigger), dict(NAMES)) == trigger


@given(windows | nights)
def test_a_window_that_is_shown_can_be_typed(window: Window | DailyWindow) -> None:
    assert eval(repr(window), dict(NAMES)) == window


@pytest.mark.parametrize(
    ("trigger", "shown"),
    [
        (Every(5), "Every(5)"),
        (Every(0.25), "Every(0.25)"),
        (Every(timedelta(hours=1), EVE), "Every(3600, anchor=datetime(2026, 12, 24, 18, 0, tzinfo=UTC))"),
        (Cron("0 6 * * mon-fri"), "Cron('0 6 * * mon-fri')"),
        (Cron("0  6 * * *", tz="Europe/Berlin"), "Cron('0 6 * * *', tz='Europe/Berlin')"),
        (At(EVE), "At(datetime(2026, 12, 24, 18, 0, tzinfo=UTC))"),
        (AnyOf(Every(5), Cron("0 6 * * *")), "AnyOf(Every(5), Cron('0 6 * * *'))"),
        (
            Except(Every(60), (time(22, tzinfo=ZoneInfo("UTC")), time(6, tzinfo=ZoneInfo("UTC")))),
            "Except(Every(60), (time(22, 0, tzinfo=ZoneInfo('UTC')), time(6, 0, tzinfo=ZoneInfo('UTC'))))",
        ),
        (
            Except(Every(60), (EVE, EVE + HOUR)),
            "Except(Every(60), (datetime(2026, 12, 24, 18, 0, tzinfo=UTC), datetime(2026, 12, 24, 19, 0, tzinfo=UTC)))",
        ),
    ],
)
def test_a_trigger_shows_what_somebody_would_type(trigger: Trigger, shown: str) -> None:
    assert repr(trigger) == shown
