"""What can be found out about a function without calling it."""

from __future__ import annotations

import inspect
import os.path
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

from kaiju_app.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """What is known of a function. Found out once, as tasks often share a function.

    Attributes:
        threaded: It is a plain function, which runs in a thread.
        label: Its qualified name.
        accepted: Shapes of arguments that fit its signature: whether it is bound, how many arguments are given by
            position, and the names of the others.
    """

    threaded: bool
    label: str
    accepted: set[tuple[bool, int, tuple[str, ...]]]


_known: WeakKeyDictionary[Callable[..., Any], FunctionInfo] = WeakKeyDictionary()  # A memo: it changes no answer.


def function_info(func: Callable[..., Any]) -> FunctionInfo:
    """Return what is known of *func*.

    Raises:
        InvalidArgument: It cannot be called, or it is a generator function.
    """
    key = getattr(func, "__func__", func)  # A bound method is a new object each time; its function is not.
    try:
        known = _known.get(key)
    except TypeError:  # Not hashable, or without weak references.
        return _inspected(func)
    if known is None:
        known = _inspected(func)
        _known[key] = known
    return known


def _inspected(func: Callable[..., Any]) -> FunctionInfo:
    if not callable(func):
        raise InvalidArgument("func", func, "must be callable: pass the function itself, not the result of calling it")
    if is_generator(func):
        raise InvalidArgument("func", func, "must not be a generator function, because calling it runs nothing")
    inner = _unwrapped(func)[0]
    return FunctionInfo(not is_async(func), getattr(inner, "__qualname__", type(inner).__qualname__), set())


def full_name(func: Callable[..., Any]) -> str:
    """Return module and qualified name of *func*: the same whether its program was imported or is run."""
    inner = _unwrapped(func)[0]
    module = getattr(inner, "__module__", None) or "builtins"
    if module == "__main__":
        main = sys.modules.get("__main__")
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name.removesuffix(".__main__")
        elif file:
            module = os.path.basename(file).removesuffix(".py")
    return f"{module}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"


def is_async(func: Callable[..., Any]) -> bool:
    """Return whether calling *func* returns an awaitable, as far as this can be seen without calling it."""
    return any(inspect.iscoroutinefunction(part) for part in _unwrapped(func))


def is_generator(func: Callable[..., Any]) -> bool:
    """Return whether *func* is a generator function, asynchronous or not, so that calling it runs nothing yet."""
    called = _unwrapped(func)[1]
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def _unwrapped(func: Callable[..., Any]) -> tuple[Any, Any]:
    """Return the object inside all partials, and the function that is called in the end."""
    inner = func
    while isinstance(inner, partial):
        inner = inner.func
    return inner, inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner).__call__


def check_args(func: Callable[..., Any], known: FunctionInfo, args: Sequence[Any], kws: Mapping[str, Any]) -> None:
    """Refuse arguments that do not fit the signature of *func*.

    Raises:
        InvalidArgument: They do not fit.
    """
    if type(args) is not tuple and (isinstance(args, str | bytes) or not isinstance(args, Sequence)):
        raise InvalidArgument("args", args, "must be a sequence of arguments, such as args=(value,) for a single one")
    if type(kws) is not dict and not isinstance(kws, Mapping):
        raise InvalidArgument("kws", kws, "must be a mapping of argument names to values")
    shape = (isinstance(func, MethodType), len(args), tuple(kws))
    if shape in known.accepted:
        return
    try:
        # Of a wrapper, only its own signature counts: what it passes to the function inside is its own business.
        signature = inspect.signature(func, follow_wrapped=False)
    except (TypeError, ValueError):  # Some built-in functions have none.
        return
    try:
        signature.bind(*args, **kws)
    except TypeError as exc:
        raise InvalidArgument("args and kws", (*args, dict(kws)), f"must fit {known.label}{signature}: {exc}") from None
    known.accepted.add(shape)
