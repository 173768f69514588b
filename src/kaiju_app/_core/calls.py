"""Calls and attributes that do not exist: what they are called here, instead of a bare TypeError or AttributeError."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, TypeVar

from kaiju_app.errors import WrongCall, safe_repr

from .text import listed

C = TypeVar("C", bound=type)
P = ParamSpec("P")
R = TypeVar("R")

Advice = str | Callable[[Any], str]
"""What to write instead of an argument that does not exist; a function gets the value."""
Habits = Mapping[str, Advice]
"""Advice by the names of arguments that other schedulers have."""

SHOWN = 20  # How many names an error lists, if none is near.
MANY = 1_000  # Of more names, the nearest one is not looked for: that would block the loop.


class Nothing:
    """Stands for an argument that is missing."""

    def __repr__(self) -> str:
        return "nothing"


def near(name: str, known: Iterable[str]) -> str:
    """Return the names like *name*, as the end of an error: a question, or else those that are *known*."""
    from difflib import get_close_matches  # Only an error needs it.

    names = sorted(known)
    lower = {each.lower(): each for each in names}
    alike = get_close_matches(name.lower(), lower, n=2) if len(names) <= MANY else []
    if alike:
        return f"did you mean {' or '.join(lower[each] for each in alike)}?"
    return f"known: {listed(names, SHOWN)}" if names else "there is none"


# --- arguments ---


def _seconds(argument: str, factor: float) -> Advice:
    def advice(value: Any) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"write {argument}={value * factor:.15g}, in seconds"
        return f"write {argument}=, in seconds"

    return advice


def renamed_to(argument: str) -> Advice:
    """Return the advice to give the value as *argument*."""
    return lambda value: f"write {argument}={safe_repr(value)}"


def units(argument: str) -> Habits:
    """Return the advice for an interval that was given in another unit, or as another argument."""
    factors = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400, "weeks": 604_800, "milliseconds": 0.001}
    return {name: _seconds(argument, factor) for name, factor in factors.items()}


def explained(habits: Habits) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: calls that do not fit its signature raise WrongCall, which says what to write instead."""

    def decorate(func: Callable[P, R]) -> Callable[P, R]:
        @wraps(func)
        def call(*args: P.args, **kws: P.kwargs) -> R:
            try:
                return func(*args, **kws)
            except TypeError as exc:
                if exc.__traceback__ is None or exc.__traceback__.tb_next is not None:  # Raised inside the function.
                    raise
            raise _wrong_call(func, habits, args, kws)

        @wraps(func)
        async def call_async(*args: P.args, **kws: P.kwargs) -> Any:
            return await call(*args, **kws)  # type: ignore[misc]

        return call_async if inspect.iscoroutinefunction(func) else call  # type: ignore[return-value]

    return decorate


def explain_calls(habits: Mapping[str, Habits], elsewhere: Mapping[str, str] | None = None) -> Callable[[C], C]:
    """Decorate a class: its public methods raise WrongCall if a call does not fit.

    Args:
        habits: By the name of the method; with ``__init__`` for a class whose objects users make.
        elsewhere: Advice by the names of methods that other schedulers have, for an ExplainsAttributes.
    """

    def decorate(kind: C) -> C:
        for name, value in list(vars(kind).items()):
            if inspect.isfunction(value) and (name in habits or not name.startswith("_")):
                setattr(kind, name, explained(habits.get(name, {}))(value))
        if elsewhere is not None:
            kind._elsewhere = elsewhere  # type: ignore[attr-defined]
        return kind

    return decorate


def explain_init(habits: Habits | None = None) -> Callable[[C], C]:
    """Decorate a class: its constructor raises WrongCall if a call does not fit. Its methods are called too often."""

    def decorate(kind: C) -> C:
        kind.__init__ = explained(habits or {})(kind.__init__)  # type: ignore[misc]
        return kind

    return decorate


def refuse_unknown(call: str, func: Callable[..., Any], names: Mapping[str, Any], habits: Habits) -> None:
    """Refuse keyword arguments of *call* that *func*, to which it passes them, does not have.

    Raises:
        WrongCall: There is one.
    """
    known = _parameters(func)
    for name, value in names.items():
        if name not in known:
            raise _unknown(call, name, value, known, habits)


def _parameters(func: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(func).parameters
    return {name: each for name, each in found.items() if name != "self"}


def _shown(func: Callable[..., Any]) -> str:
    return f"{func.__qualname__.removesuffix('.__init__').rpartition('.')[2]}()"


def _unknown(call: str, name: str, value: object, known: Mapping[str, object], habits: Habits) -> WrongCall:
    advice = habits.get(name) or near(name, known)
    if callable(advice):
        advice = advice(value)
    return WrongCall(name, value, f"is not an argument of {call}: {advice}")


def _wrong_call(func: Callable[..., Any], habits: Habits, args: tuple[Any, ...], kws: Mapping[str, Any]) -> WrongCall:
    """Return why *func* cannot be called like this."""
    known, call = _parameters(func), _shown(func)
    named = {name: each for name, each in known.items() if each.kind is not each.POSITIONAL_ONLY}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name, value in kws.items():
        if name not in named and (name in habits or not takes_any):
            return _unknown(call, name, value, named, habits)
    if "self" in inspect.signature(func).parameters:
        args = args[1:]
    by_place = [name for name, each in known.items() if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    for name, value in kws.items():
        if name in by_place[: len(args)]:
            return WrongCall(name, value, f"is given twice to {call}, by position and by name: give it once")
    if len(args) > len(by_place) and all(each.kind is not each.VAR_POSITIONAL for each in known.values()):
        taken = f"takes {', '.join(by_place)} by position" if by_place else "takes none by position"
        others = [name for name, each in known.items() if each.kind is each.KEYWORD_ONLY]
        rest = f"; give the others by name: {', '.join(others)}" if others else ""
        return WrongCall(f"argument {len(by_place) + 1}", args[len(by_place)], f"is too much: {call} {taken}{rest}")
    required = [name for name, each in known.items() if each.default is each.empty and name not in kws]
    missing = [name for name in required if name not in by_place[: len(args)]]
    return WrongCall(missing[0] if missing else "call", Nothing(), f"must be given to {call}")


# --- attributes ---


class ExplainsAttributes:
    """Base of a class whose missing attributes say what they are called here."""

    __slots__ = ()

    _elsewhere: ClassVar[Mapping[str, str]] = {}
    """Advice by the names of methods that other schedulers have."""

    if not TYPE_CHECKING:  # Type checkers would believe that every attribute exists.

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_") and not hasattr(type(self), name):
                kind = type(self)
                members = [each for each in dir(kind) if not each.startswith("_")]
                raise AttributeError(
                    f"{kind.__name__} has no {name}: {kind._elsewhere.get(name) or near(name, members)}"
                )
            object.__getattribute__(self, name)  # A property that failed, or Python itself asking: its own error.
