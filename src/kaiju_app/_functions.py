"""What can be known of a function before it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

from .errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a function: found out once."""

    threaded: bool
    label: str
    fits: set[tuple[bool, int, tuple[str, ...]]]
    """Shapes of arguments that were found to fit: whether it is bound, how many by position, which by name."""


_facts: WeakKeyDictionary[Callable[..., Any], Facts] = WeakKeyDictionary()  # A memo: it changes no answer.


def facts(func: Callable[..., Any]) -> Facts:
    """Return what is known of *func*.

    Raises:
        InvalidArgument: It cannot be called, or is a generator function.
    """
    key = getattr(func, "__func__", func)  # A bound method is a new object each time; its function is not.
    try:
        known = _facts.get(key)
    except TypeError:  # Not hashable, or without weak references.
        return _examine(func)
    if known is None:
        known = _examine(func)
        _facts[key] = known
    return known


def _examine(func: Callable[..., Any]) -> Facts:
    if not callable(func):
        raise InvalidArgument("func", func, "must be callable: pass the function itself, not the result of calling it")
    if is_generator(func):
        raise InvalidArgument("func", func, "must not be a generator function: calling it would run nothing")
    inner = _unwrapped(func)[0]
    return Facts(not is_async(func), getattr(inner, "__qualname__", type(inner).__qualname__), set())


def is_async(func: Callable[..., Any]) -> bool:
    """Return whether calling *func* gives something to be awaited, as far as can be seen without calling it."""
    return any(inspect.iscoroutinefunction(part) for part in _unwrapped(func))


def is_generator(func: Callable[..., Any]) -> bool:
    """Return whether calling *func* runs nothing yet: a generator function, asynchronous or not."""
    called = _unwrapped(func)[1]
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def _unwrapped(func: Callable[..., Any]) -> tuple[Any, Any]:
    """Return the object inside all partials, and the function that is called in the end."""
    inner = func
    while isinstance(inner, partial):
        inner = inner.func
    return inner, inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner).__call__


def check_args(func: Callable[..., Any], known: Facts, args: Sequence[Any], kws: Mapping[str, Any]) -> None:
    """Refuse arguments that do not fit the signature of *func*.

    Raises:
        InvalidArgument: They do not.
    """
    if type(args) is not tuple and (isinstance(args, str | bytes) or not isinstance(args, Sequence)):
        raise InvalidArgument("args", args, "must be a sequence of arguments: args=(value,) for a single one")
    if type(kws) is not dict and not isinstance(kws, Mapping):
        raise InvalidArgument("kws", kws, "must be a mapping of argument names to values")
    shape = (isinstance(func, MethodType), len(args), tuple(kws))
    if shape in known.fits:
        return
    try:
        # A wrapper is believed: what it passes on to the function inside is its own business.
        signature = inspect.signature(func, follow_wrapped=False)
    except (TypeError, ValueError):  # Some built-in functions do not tell.
        return
    try:
        signature.bind(*args, **kws)
    except TypeError as exc:
        raise InvalidArgument("args and kws", (*args, dict(kws)), f"must fit {known.label}{signature}: {exc}") from None
    known.fits.add(shape)
