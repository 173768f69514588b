"""Triggers that users write, by name: so that they can be written as JSON, and read in other processes."""

from __future__ import annotations

from typing import Any, Protocol, Self

from kaiju_app._core.validate import key
from kaiju_app.errors import InvalidArgument, safe_repr

from ._base import Trigger


class JsonTrigger(Trigger, Protocol):
    """A trigger whose rule can be written as JSON."""

    def to_json(self) -> Any:
        """Return the parameters of the rule as JSON values."""

    @classmethod
    def from_json(cls, values: Any, /) -> Self:
        """Return the trigger with these parameters, as ``to_json()`` returned them."""


_kinds: dict[str, type[JsonTrigger]] = {}


def register_trigger(name: str, kind: type[JsonTrigger]) -> None:
    """Give a class of triggers a name in JSON, so that tasks of ``Scope.CLUSTER`` can have such triggers.

    Call it in every process, before tasks are scheduled. A store holds name and parameters, never code: a process that
    does not know the name leaves the task to others. ``trigger_from_json()`` then reads
    ``{"registered": name, "values": ...}``.

    Args:
        name: Never to be changed, because it stays in the store.
        kind: A class with the methods of ``Trigger``, ``to_json()`` and the class method ``from_json(values)``.

    Raises:
        InvalidArgument: One of them is wrong, the name means another class, or the class has another name.
    """
    name = key("name", name)
    missing = [each for each in ("after", "at_or_before", "to_json", "from_json") if not _has(kind, each)]
    if missing:
        rule = f"must be a class of triggers with to_json() and from_json(), but has no {' and no '.join(missing)}"
        raise InvalidArgument("kind", kind, rule)
    known = _kinds.get(name, kind)
    if _place(known) != _place(kind):  # A module that is imported again defines its classes again.
        raise InvalidArgument("name", name, f"must not be the name of two classes: it is that of {safe_repr(known)}")
    other = name_of(kind)
    if other not in (None, name):
        raise InvalidArgument("name", name, f"must be the only name of the class, which is registered as {other!r}")
    _kinds[name] = kind


def _has(kind: object, method: str) -> bool:
    return isinstance(kind, type) and callable(getattr(kind, method, None))


def _place(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


def name_of(kind: type) -> str | None:
    """Return the name of a class of triggers; None if it has none."""
    return next((name for name, each in _kinds.items() if each is kind), None)


def form_of(trigger: Any) -> dict[str, object]:
    """Return a *trigger* that a user has written as JSON values.

    Raises:
        InvalidArgument: Its class is not registered, or its parameters are no JSON values.
    """
    import json  # Few programs need it.

    name = name_of(type(trigger))
    if name is None:
        rule = f"has no JSON form: register_trigger('name', {type(trigger).__name__}) in every process gives it one"
        raise InvalidArgument("trigger", trigger, rule)
    values = trigger.to_json()
    try:
        return {"registered": name, "values": json.loads(json.dumps(values, allow_nan=False))}
    except (TypeError, ValueError) as exc:
        raise InvalidArgument("trigger", trigger, f"must return JSON values from to_json(), but: {exc}") from None


def trigger_of_form(argument: str, name: object, values: Any) -> Trigger:
    """Return the trigger that is registered as *name*, with the parameters *values*.

    Raises:
        InvalidArgument: Nothing is registered as *name* in this process, or its ``from_json()`` fails.
    """
    kind = _kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidArgument(argument, name, "must be a name that register_trigger() was given in this process")
    try:
        found = kind.from_json(values)
        if not isinstance(found, kind):
            raise TypeError(f"it returned {safe_repr(found)}")
        return found
    except Exception as exc:  # It is user code.
        rule = f"must be readable by {kind.__name__}.from_json(), which raised {type(exc).__name__}: {exc}"
        raise InvalidArgument(f"{argument} values", values, rule) from exc
