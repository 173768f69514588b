"""Triggers from JSON: reads what ``json_repr()`` returns and what people write into a config file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time
from typing import Any, TypeVar

from kaiju_app._core.validate import aware, renamed
from kaiju_app.errors import InvalidArgument

from ._at import At
from ._calendar import Calendar
from ._combined import AnyOf, Except
from ._cron import Cron
from ._every import Every
from ._foreign import ForeignTrigger
from ._registered import trigger_of_form
from ._windows import DailyWindow, Window
from ._zones import known_zone

T = TypeVar("T")
Readers = Mapping[str, tuple[Callable[[str, dict[str, Any]], T], Sequence[str], Sequence[str]]]
"""By the key that tells the kind: what reads such a form, the other keys it must have, and those it may have."""


def trigger_from_json(form: object) -> Every | Cron | Calendar | At | AnyOf | Except | ForeignTrigger:
    """Return the trigger that *form* describes.

    The forms of a trigger are

    * ``{"every": 3600, "anchor": "2026-01-01T00:00:00+00:00"}``: in seconds; the default anchor is the Unix epoch;
    * ``{"cron": "0 6 * * mon-fri", "tz": "Europe/Berlin"}``: the default zone is UTC; ``"spread": "name"`` for an H;
    * ``{"calendar": {"every": "2 weeks", "on": "wed", "at": "14:00", "tz": "Europe/Berlin", "start": "2026-01-07"}}``:
      only the first key is always needed, the others have the defaults of ``Calendar``;
    * ``{"at": ["2026-12-24T18:00:00Z"]}``;
    * ``{"registered": "name", "values": ...}``: of a class that ``register_trigger()`` was given in this process;
    * ``{"any_of": [trigger, ...]}``;
    * ``{"except": [excluded, ...], "rule": trigger}``, where *excluded* is a trigger, or
      ``{"from": "2026-12-24T18:00:00Z", "to": ...}``, or ``{"daily": ["22:00", "06:00"], "tz": "Europe/Berlin"}``.

    Args:
        form: JSON values, as from ``json_repr()`` or ``json.loads()``.

    Raises:
        InvalidArgument: A part is unknown, missing or invalid; the error names it, as in ``trigger any_of[1] cron``.
    """
    return _trigger("trigger", form)


def _read(path: str, form: object, readers: Readers[T]) -> T:
    if not isinstance(form, Mapping):
        raise InvalidArgument(path, form, "must be an object such as {'every': 3600}")
    values = dict(form)
    found = [kind for kind in readers if kind in values]
    if len(found) != 1:
        raise InvalidArgument(path, form, f"must have exactly one of the keys {', '.join(readers)}")
    read, needed, others = readers[found[0]]
    _check(path, values, [found[0], *needed], others)
    return read(path, values)


def _check(path: str, form: dict[str, Any], needed: Sequence[str], others: Sequence[str]) -> None:
    """Refuse *form* if it lacks a key or has an unknown one."""
    for key in needed:
        if key not in form:
            raise InvalidArgument(
                path, form, f"must have the key {key}" + (f" in addition to {needed[0]}" if key != needed[0] else "")
            )
    for key in form:
        if key not in (*needed, *others):
            known = " and ".join((*needed, *others))
            raise InvalidArgument(path, form, f"must not have the key {key!r}: allowed are {known}")


# --- triggers ---


def _every(path: str, form: dict[str, Any]) -> Every:
    anchor = _moment(f"{path} anchor", form["anchor"]) if "anchor" in form else None
    with renamed(seconds=f"{path} every"):
        return Every(form["every"], anchor)


def _cron(path: str, form: dict[str, Any]) -> Cron:
    with renamed(expression=f"{path} cron", tz=f"{path} tz", spread=f"{path} spread"):
        return Cron(form["cron"], form.get("tz", "UTC"), form.get("spread"))


def _calendar(path: str, form: dict[str, Any]) -> Calendar:
    values, path = form["calendar"], f"{path} calendar"
    if not isinstance(values, Mapping):
        raise InvalidArgument(path, values, "must be an object such as {'every': 'week', 'on': 'wed', 'at': '14:00'}")
    _check(path, dict(values), ["every"], CALENDAR)
    with renamed(**{name: f"{path} {name}" for name in ("every", *CALENDAR)}):
        return Calendar(**values)


def _at(path: str, form: dict[str, Any]) -> At:
    return At(*_each(f"{path} at", [form["at"]] if isinstance(form["at"], str) else form["at"], _moment))


def _registered(path: str, form: dict[str, Any]) -> ForeignTrigger:
    return ForeignTrigger(trigger_of_form(f"{path} registered", form["registered"], form["values"]))


def _any_of(path: str, form: dict[str, Any]) -> AnyOf:
    return AnyOf(*_each(f"{path} any_of", form["any_of"], _trigger))


def _except(path: str, form: dict[str, Any]) -> Except:
    parts = _list(f"{path} except", form["except"])
    rule = _trigger(f"{path} rule", form["rule"])
    return Except(rule, *_each(f"{path} except", parts, lambda place, each: _read(place, each, EXCLUDED)))


def _trigger(path: str, form: object) -> Every | Cron | Calendar | At | AnyOf | Except | ForeignTrigger:
    return _read(path, form, TRIGGERS)


# --- windows ---


def _window(path: str, form: dict[str, Any]) -> Window:
    with renamed(end=f"{path} to"):
        return Window(_moment(f"{path} from", form["from"]), _moment(f"{path} to", form["to"]))


def _daily(path: str, form: dict[str, Any]) -> DailyWindow:
    values = _list(f"{path} daily", form["daily"])
    if len(values) != 2:
        raise InvalidArgument(f"{path} daily", values, "must be two times of day, such as ['22:00', '06:00']")
    zone = known_zone(f"{path} tz", form.get("tz", "UTC"))
    start, end = (each.replace(tzinfo=zone) for each in _each(f"{path} daily", values, _time))
    with renamed(end=f"{path} daily[1]"):
        return DailyWindow(start, end)


CALENDAR = ("on", "at", "tz", "start")
TRIGGERS: Readers[Every | Cron | Calendar | At | AnyOf | Except | ForeignTrigger] = {
    "every": (_every, (), ("anchor",)),
    "cron": (_cron, (), ("tz", "spread")),
    "calendar": (_calendar, (), ()),
    "at": (_at, (), ()),
    "registered": (_registered, ("values",), ()),
    "any_of": (_any_of, (), ()),
    "except": (_except, ("rule",), ()),
}
EXCLUDED: Readers[Every | Cron | Calendar | At | AnyOf | Except | ForeignTrigger | Window | DailyWindow] = {
    **TRIGGERS,
    "from": (_window, ("to",), ()),
    "daily": (_daily, (), ("tz",)),
}


# --- values ---


def _list(path: str, value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple) or not value:
        raise InvalidArgument(path, value, "must be a list with at least one item")
    return value


def _each(path: str, value: object, read: Callable[[str, Any], T]) -> list[T]:
    return [read(f"{path}[{place}]", each) for place, each in enumerate(_list(path, value))]


def _moment(path: str, value: Any) -> datetime:
    try:
        return aware(path, datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):  # Not a string; not ISO text or naive; before year 1.
        rule = "must be ISO text with an offset from UTC: '2026-12-24T18:00:00+00:00'"
        raise InvalidArgument(path, value, rule) from None


def _time(path: str, value: Any) -> time:
    try:
        found = time.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is not None:
        raise InvalidArgument(path, value, "must be a time of day such as '22:00', in the zone that the key tz names")
    return found
