"""The rule of a cluster task as JSON text, which its record keeps so that any instance can find the next tick.

It says when the task runs, and nothing else. The function, its arguments and its retries are the business of the
instance that runs it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from kaiju_app._core.clock import BEGINNING, END
from kaiju_app._engine import options
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._base import Trigger
from kaiju_app.triggers._codec import trigger_from_json
from kaiju_app.triggers._foreign import as_base_trigger

KEYS = {"interval_us", "trigger", "jitter_us", "until_us"}


def text_of(spec: TaskSpec) -> str:
    """Return the rule of *spec* as JSON text; equal rules have equal texts."""
    trigger = spec.trigger
    form: dict[str, object] = (
        {"interval_us": spec.gap} if trigger is None else {"trigger": as_base_trigger("trigger", trigger).json_repr()}
    )
    if spec.jitter:
        form["jitter_us"] = spec.jitter
    if spec.until is not None:
        form["until_us"] = spec.until
    return json.dumps(form, sort_keys=True, separators=(",", ":"))


def spec_of(text: str, code: TaskSpec) -> TaskSpec | None:
    """Return *code* with the rule in *text*; None if this version cannot read it."""
    try:
        form = json.loads(text)
        if not isinstance(form, dict) or not form.keys() <= KEYS:
            return None
        interval, trigger = form.get("interval_us"), form.get("trigger")
        jitter, until = form.get("jitter_us", 0), form.get("until_us")
        if type(jitter) is not int or jitter < 0 or (until is not None and not _is_instant(until)):
            return None
        base = replace(code, jitter=jitter, until=until)
        return options.with_rule(
            base,
            None if interval is None else timedelta(microseconds=interval),
            None if trigger is None else trigger_from_json(trigger),
        )
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _is_instant(value: object) -> bool:
    return type(value) is int and BEGINNING <= value <= END


def same_ticks(text: str, other: str) -> bool:
    """Return whether two rules differ at most in their jitter and their end."""
    try:
        form, another = (
            {key: value for key, value in json.loads(each).items() if key not in ("jitter_us", "until_us")}
            for each in (text, other)
        )
    except (ValueError, AttributeError, RecursionError):
        return False
    return form == another


def check_text(trigger: Trigger | None) -> None:
    """Refuse a *trigger* that cannot be written as text.

    Raises:
        InvalidArgument: It is not made of the triggers of this package and of registered ones.
    """
    if trigger is None:
        return
    known = as_base_trigger("trigger", trigger)
    try:
        if trigger_from_json(known.json_repr()) == known:
            return
    except Exception as exc:  # Its json_repr() may be user code.
        rule = f"must be writable as JSON for Scope.CLUSTER: {exc}"
        raise InvalidArgument("trigger", trigger, rule) from exc
    rule = "must be written as JSON and read back without loss for Scope.CLUSTER: use the triggers of kaiju_app itself"
    raise InvalidArgument("trigger", trigger, rule)
