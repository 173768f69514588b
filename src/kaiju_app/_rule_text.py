"""The rule of a shared task as text: what a record keeps of it, so that any instance can tell what comes next.

Only when it runs is kept. What is called, with which arguments, and how often it is tried again, is the business of the
instance that runs it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from . import _door
from ._forms import trigger_from_json
from ._grid import BEGINNING, END
from ._model import Spec
from ._triggers import BaseTrigger, Trigger
from .errors import InvalidArgument

KEYS = {"interval_us", "trigger", "jitter_us", "until_us"}


def text_of(spec: Spec) -> str:
    """Return the rule of *spec* as JSON text: the same text for the same rule."""
    trigger = spec.trigger
    form: dict[str, object] = (
        {"trigger": trigger.json_repr()} if isinstance(trigger, BaseTrigger) else {"interval_us": spec.gap}
    )
    if spec.jitter:
        form["jitter_us"] = spec.jitter
    if spec.until is not None:
        form["until_us"] = spec.until
    return json.dumps(form, sort_keys=True, separators=(",", ":"))


def spec_of(text: str, code: Spec) -> Spec | None:
    """Return *code* with the rule of which this is the text; None if this version cannot read it."""
    try:
        form = json.loads(text)
        if not isinstance(form, dict) or not form.keys() <= KEYS:
            return None
        interval, trigger = form.get("interval_us"), form.get("trigger")
        jitter, until = form.get("jitter_us", 0), form.get("until_us")
        if type(jitter) is not int or jitter < 0 or (until is not None and not _is_instant(until)):
            return None
        base = replace(code, jitter=jitter, until=until)
        return _door.respec(
            base,
            None if interval is None else timedelta(microseconds=interval),
            None if trigger is None else trigger_from_json(trigger),
        )
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _is_instant(value: object) -> bool:
    return type(value) is int and BEGINNING <= value <= END


def same_ticks(text: str, other: str) -> bool:
    """Return whether two rules differ in nothing but the jitter of their ticks, and when they end."""
    try:
        form, another = (
            {key: value for key, value in json.loads(each).items() if key not in ("jitter_us", "until_us")}
            for each in (text, other)
        )
    except (ValueError, AttributeError, RecursionError):
        return False
    return form == another


def check_text(trigger: Trigger | None) -> None:
    """Refuse a *trigger* that cannot be kept as text.

    Raises:
        InvalidArgument: It is not made of the triggers of this package.
    """
    try:
        if trigger is None or (isinstance(trigger, BaseTrigger) and trigger_from_json(trigger.json_repr()) == trigger):
            return
    except Exception as exc:  # Its json_repr() is anybody's.
        rule = f"must be one that can be written as JSON for Scope.CLUSTER, and {exc}"
        raise InvalidArgument("trigger", trigger, rule) from exc
    raise InvalidArgument(
        "trigger",
        trigger,
        "must be made of Cron, Every, At, AnyOf and Except for Scope.CLUSTER: other instances read it",
    )
