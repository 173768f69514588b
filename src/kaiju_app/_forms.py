"""Triggers as JSON: what ``json_repr()`` writes, and people into a config file, read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time
from typing import Any, TypeVar

from ._arguments import aware
from ._combined import AnyOf, Except, renamed
from ._cron import Cron
from ._triggers import At, Every
from ._windows import Daily, Window
from ._zones import known_zone
from .errors import InvalidArgument

T = TypeVar("T")
Readers = Mapping[str, Callable[[str, dict[str, Any]], T]]


def trigger_from_json(form: object) -> Every | Cron | At | AnyOf | Except:
    """Return the trigger that *form* describes.

    There are ``{"every": 3600, "anchor": "2026-01-01T00:00:00+00:00"}`` (seconds; by default from the Unix epoch),
    ``{"cron": "0 6 * * mon-fri", "tz": "Europe/Berlin"}`` (by default in UTC), ``{"at": ["2026-12-24T18:00:00Z"]}``,
    ``{"any_of": [form, ...]}`` and ``{"except": [excluded, ...], "rule": form}``. What is excluded is a form, or
    ``{"from": "2026-12-24T18:00:00Z", "to": ...}``, or ``{"daily": ["22:00", "06:00"], "tz": "Europe/Berlin"}``.

    Args:
        form: JSON values, as from ``json_repr()`` or ``json.loads()``.

    Raises:
        InvalidArgument: A part is unknown, missing or wrong; it is named, as in ``trigger any_of[1] cron``.
    """
    return _read("trigger", form, TRIGGERS)


def _read(path: str, form: object, readers: Readers[T]) -> T:
    if not isinstance(form, Mapping):
        raise InvalidArgument(path, form, "must be an object such as {'every': 3600}")
    values = dict(form)
    found = [kind for kind in readers if kind in values]
    if len(found) != 1:
        raise InvalidArgument(path, form, f"must have exactly one of the keys {', '.join(readers)}")
    return readers[found[0]](path, values)


def _check(path: str, form: dict[str, Any], needed: Sequence[str], others: Sequence[str] = ()) -> None:
    """Refuse *form* if it lacks a key or has one too many."""
    for key in needed:
        if key not in form:
            raise InvalidArgument(path, form, f"must have the key {key} beside {needed[0]}")
    for key in form:
        if key not in (*needed, *others):
            known = " and ".join((*needed, *others))
            raise InvalidArgument(path, form, f"must have no key {key!r}: there are {known}")


# --- triggers ---


def _every(path: str, form: dict[str, Any]) -> Every:
    _check(path, form, ["every"], ["anchor"])
    anchor = _moment(f"{path} anchor", form["anchor"]) if "anchor" in form else None
    with renamed(seconds=f"{path} every"):
        return Every(form["every"], anchor)


def _cron(path: str, form: dict[str, Any]) -> Cron:
    _check(path, form, ["cron"], ["tz"])
    with renamed(expression=f"{path} cron", tz=f"{path} tz"):
        return Cron(form["cron"], form.get("tz", "UTC"))


def _at(path: str, form: dict[str, Any]) -> At:
    _check(path, form, ["at"])
    values = [form["at"]] if isinstance(form["at"], str) else _list(f"{path} at", form["at"])
    return At(*(_moment(f"{path} at[{place}]", each) for place, each in enumerate(values)))


def _any_of(path: str, form: dict[str, Any]) -> AnyOf:
    _check(path, form, ["any_of"])
    parts = _list(f"{path} any_of", form["any_of"])
    return AnyOf(*(_read(f"{path} any_of[{place}]", each, TRIGGERS) for place, each in enumerate(parts)))


def _except(path: str, form: dict[str, Any]) -> Except:
    _check(path, form, ["except", "rule"])
    parts = _list(f"{path} except", form["except"])
    rule = _read(f"{path} rule", form["rule"], TRIGGERS)
    return Except(rule, *(_read(f"{path} except[{place}]", each, EXCLUDED) for place, each in enumerate(parts)))


# --- what else is excluded ---


def _window(path: str, form: dict[str, Any]) -> Window:
    _check(path, form, ["from", "to"])
    with renamed(end=f"{path} to"):
        return Window(_moment(f"{path} from", form["from"]), _moment(f"{path} to", form["to"]))


def _daily(path: str, form: dict[str, Any]) -> Daily:
    _check(path, form, ["daily"], ["tz"])
    values = _list(f"{path} daily", form["daily"])
    if len(values) != 2:
        raise InvalidArgument(f"{path} daily", values, "must be two times of day, such as ['22:00', '06:00']")
    zone = known_zone(f"{path} tz", form.get("tz", "UTC"))
    start, end = (_time(f"{path} daily[{place}]", each).replace(tzinfo=zone) for place, each in enumerate(values))
    with renamed(end=f"{path} daily[1]"):
        return Daily(start, end)


TRIGGERS: Readers[Every | Cron | At | AnyOf | Except] = {
    "every": _every,
    "cron": _cron,
    "at": _at,
    "any_of": _any_of,
    "except": _except,
}
EXCLUDED: Readers[Every | Cron | At | AnyOf | Except | Window | Daily] = {**TRIGGERS, "from": _window, "daily": _daily}


# --- values ---


def _list(path: str, value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple) or not value:
        raise InvalidArgument(path, value, "must be a list with at least one part")
    return value


def _moment(path: str, value: Any) -> datetime:
    try:
        return aware(path, datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):  # No text; no ISO text, or without an offset; before the year 1.
        raise InvalidArgument(
            path, value, "must be ISO text with an offset from UTC: '2026-12-24T18:00:00+00:00'"
        ) from None


def _time(path: str, value: Any) -> time:
    try:
        found = time.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is not None:
        raise InvalidArgument(path, value, "must be a time of day such as '22:00', whose zone is told by tz")
    return found
