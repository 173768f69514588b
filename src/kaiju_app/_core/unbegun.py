"""Results that show that a function has only prepared its work: nothing runs until somebody uses what it returned."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager
from functools import partial
from itertools import islice
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import Any

from kaiju_app.errors import NothingRan

CALL = "call it in the function, as in `lambda: work()` instead of `lambda: work`, or schedule it itself"
ITERATE = "iterate over it in the function, as in `for _ in work(): pass`"
ADVICE: dict[type, tuple[str, str]] = {
    CoroutineType: ("a coroutine", "await it in the function, as in `return await work()`"),
    GeneratorType: ("a generator", ITERATE),
    AsyncGeneratorType: (
        "an async generator",
        "iterate over it in an `async def`, as in `async for _ in work(): pass`",
    ),
    _GeneratorContextManager: ("a context manager", "enter it in the function, as in `with work(): pass`"),
    _AsyncGeneratorContextManager: (
        "an async context manager",
        "enter it in an `async def`, as in `async with work(): pass`",
    ),
    map: ("a map", ITERATE),
    filter: ("a filter", ITERATE),
    partial: ("a partial", CALL),
    FunctionType: ("a function", CALL),
    MethodType: ("a method", CALL),
    BuiltinFunctionType: ("a built-in function", CALL),
}
MEMBERS: dict[type, str] = {
    CoroutineType: "await them in an `async def`, as in `await asyncio.gather(*works)`",
    GeneratorType: "iterate over each in the function",
    AsyncGeneratorType: "iterate over each in an `async def`",
}
"""Advice by what a collection may hold."""
COLLECTIONS = {list, tuple, set, frozenset, dict}
LOOKED_AT = 8  # Members of a collection: they are mostly alike, and looking at a million ones would block the loop.

SUSPECT = frozenset([*ADVICE, *COLLECTIONS])
"""Types of results that ``check_result()`` looks at. Exact types, as the classes of users may raise when asked."""


def check_result(result: Any) -> None:
    """Refuse a result of a SUSPECT type if nothing has run; close coroutines, so that Python does not warn of them.

    Raises:
        NothingRan: It is, or holds, something that has not begun.
    """
    kind = type(result)
    if kind in COLLECTIONS:
        _check_members(result.values() if kind is dict else result, kind)
    elif _has_not_begun(result):
        _close(result)
        raise NothingRan(*ADVICE[kind])


def _check_members(members: Iterable[Any], kind: type) -> None:
    for each in list(islice(members, LOOKED_AT)):
        if type(each) in MEMBERS and _has_not_begun(each):
            for other in list(members):
                if type(other) is CoroutineType and _has_not_begun(other):
                    _close(other)
            raise NothingRan(f"a {kind.__name__} of {ADVICE[type(each)][0].partition(' ')[2]}s", MEMBERS[type(each)])


def _has_not_begun(value: Any) -> bool:
    kind = type(value)
    if kind in (_GeneratorContextManager, _AsyncGeneratorContextManager):
        value, kind = value.gen, type(value.gen)
    if kind is CoroutineType:
        return inspect.getcoroutinestate(value) == inspect.CORO_CREATED
    if kind is GeneratorType:
        return inspect.getgeneratorstate(value) == inspect.GEN_CREATED
    if kind is AsyncGeneratorType:
        return value.ag_frame is not None and not value.ag_running
    return True


def _close(value: Any) -> None:
    if type(value) is CoroutineType:
        value.close()
