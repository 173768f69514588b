"""Exceptions of user code, asked only what no class can refuse: a hostile one must not hide that a run has failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Kinds = type[BaseException] | tuple[type[BaseException], ...]

# Read past what the class of an exception overrides.
_cause_of: Any = vars(BaseException)["__cause__"].__get__
_context_of: Any = vars(BaseException)["__context__"].__get__
_members_of: Any = vars(BaseExceptionGroup)["exceptions"].__get__
traceback_of: Any = vars(BaseException)["__traceback__"].__get__


def is_a(exc: BaseException, kinds: Kinds) -> bool:
    """Return whether *exc* is of one of *kinds*; isinstance() may ask the object for its class, which may raise."""
    return issubclass(type(exc), kinds)


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield *exc*, and what it was raised from."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        yield exc
        seen.add(id(exc))
        cause = _cause_of(exc)
        exc = _context_of(exc) if cause is None else cause


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the members of a group of exceptions, and of the groups in it, in order; *exc* itself if it is no group."""
    rest = [exc]
    while rest:  # No recursion: a group may be nested more deeply than Python can call.
        first = rest.pop()
        if is_a(first, BaseExceptionGroup):
            rest.extend(reversed(_members_of(first)))
        else:
            yield first


def other_than(kinds: Kinds, exc: BaseException) -> BaseException | None:
    """Return the first exception in *exc* that is not of one of *kinds*; None if a group has only such members."""
    return None if is_a(exc, kinds) else next((leaf for leaf in leaves(exc) if not is_a(leaf, kinds)), None)
