"""The names of tasks: default ones, and a warning if the same task is registered twice under them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kaiju_app._core.logs import facts
from kaiju_app._core.text import calling_place, shortened
from kaiju_app._engine.entry import TaskEntry
from kaiju_app._engine.events import log
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.errors import InvalidArgument

MOST_NAME = 1_000
PLAIN = str | bytes | int | float | complex | None  # Comparing these runs no code of the user.

Call = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
"""A function, its positional arguments and its keyword arguments."""


class Names:
    """The names of the tasks of one scheduler.

    Args:
        entries: The tasks by name.
    """

    def __init__(self, entries: Mapping[str, TaskEntry]) -> None:
        self._entries = entries
        self._numbers: dict[str, int] = {}
        """The last number given to each default name that was taken."""
        self._places: dict[str, str] = {}
        """Where the first task of each default name was registered."""

    def default(self, label: str, call: Call, spec: TaskSpec) -> str:
        """Return a default name that is free; warn, once for each function, if another task does the same."""
        name = base = shortened(f"scheduled:{label}", MOST_NAME)
        if base not in self._entries:
            self._numbers.pop(base, None)
            self._places[base] = calling_place()
            return base
        place = self._places.get(base)
        latest = self._entries.get(f"{base}#{self._numbers.get(base)}")
        while name in self._entries:
            number = self._numbers[base] = self._numbers.get(base, 1) + 1
            name = f"{base}#{number}"
        if place is not None:
            for other in (self._entries[base], latest):
                if other is not None and _is_same(other, call, spec):
                    del self._places[base]
                    _warn(name, other.name, base, place)
                    break
        return name

    def checked(self, name: str | None) -> str:
        """Return *name* as a plain str, even if a StrEnum member or another subclass was given.

        Raises:
            InvalidArgument: It is no text, empty, or too long.
        """
        if not isinstance(name, str) or not name:
            raise InvalidArgument("name", name, "must be a non-empty string or None")
        if len(name) > MOST_NAME:
            rule = f"must have at most {MOST_NAME:,} characters, as every log line and record has it, but has"
            raise InvalidArgument("name", name, f"{rule} {len(name):,}")
        return str(name)


def _warn(name: str, other: str, first: str, place: str) -> None:
    where = f"{other!r} was registered" if other == first else f"{first!r} was registered first"
    log.warning(
        "task %r does the same as task %r, so everything in it runs twice: %s at %s, and this one at %s. Remove one of "
        "the two registrations. If the second is to replace the first, give both the same name, and this one "
        "replace=True; if both are wanted, give each a name of its own",
        name, other, where, place, calling_place(), extra=facts(name),
    )  # fmt: skip


def _is_same(entry: TaskEntry, call: Call, spec: TaskSpec) -> bool:
    """Return whether *entry* calls the same function with the same arguments by the same rule."""
    if (entry.spec.trigger, entry.spec.gap) != (spec.trigger, spec.gap):
        return False
    (func, args, kws), (its_func, its_args, its_kws) = _unpacked(call), _unpacked((entry.func, entry.args, entry.kws))
    return (
        _is_same_function(func, its_func)
        and len(args) == len(its_args)
        and kws.keys() == its_kws.keys()
        and all(map(_is_same_value, args, its_args))
        and all(_is_same_value(kws[key], its_kws[key]) for key in kws)
    )


def _unpacked(call: Call) -> Call:
    func: Any
    func, args, kws = call
    while isinstance(func, partial):
        func, args, kws = func.func, (*func.args, *args), {**func.keywords, **kws}
    return func, args, kws


def _is_same_function(func: Any, other: Any) -> bool:
    """Return whether both are the same; also if the module that defines it was loaded twice."""
    if inspect.ismethod(func) and inspect.ismethod(other):
        return func.__self__ is other.__self__ and func.__func__ is other.__func__
    if func is other:
        return True
    if not (inspect.isfunction(func) and inspect.isfunction(other)):
        return False
    func, other = inspect.unwrap(func), inspect.unwrap(other)
    if not (inspect.isfunction(func) and inspect.isfunction(other)) or "<" in func.__qualname__:
        return False  # A lambda, or a function in another one: what differs may be in the variables around it.
    return func.__code__.co_filename == other.__code__.co_filename and func.__code__ == other.__code__


def _is_same_value(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and isinstance(value, PLAIN) and bool(value == other))
