"""Arguments and results as short texts, for tasks that were registered with ``show=True``."""

from __future__ import annotations

import gc
import inspect
import os
import re
from argparse import Namespace
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable, Mapping, MappingView, Sequence, ValuesView
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import chain, islice
from types import MappingProxyType, MethodType, SimpleNamespace
from typing import Any

from kaiju_app.stores._masking import HIDDEN

from ._text import name_of, one_line

MOST_VALUE = 300  # Characters of a value.
MOST_PART = 100  # Characters of a text or an object inside it.
MOST_ITEMS = 8  # Of a list, also of the arguments themselves.
DEPTH = 3  # Lists inside lists that are shown.
LOOKED_AT = 2_000  # Characters in which passwords are looked for: more than are shown, so that none is cut in halves.

SECRET = re.compile(
    r"pass(?:word|wd|phrase|code)|(?:^|[_-])pass$|^pwd$|secret|token|cookie|credential|authorization"
    r"|(?:api|private|access|signing)[_-]?key",
    re.IGNORECASE,
)

# A value is taken apart only if Python wrote its ``__repr__``: one that the application wrote may hide a secret.
TEXTS: tuple[object, ...] = (str.__repr__, bytes.__repr__)
DICTS: tuple[object, ...] = (
    dict.__repr__,
    OrderedDict.__repr__,
    defaultdict.__repr__,
    Counter.__repr__,
    type(os.environ).__repr__,
)
DATA: tuple[object, ...] = (UserDict.__repr__, UserList.__repr__)  # They write their ``data``.
PAIR = 2
BRACKETS: dict[object, tuple[str, str]] = {
    list.__repr__: ("[", "]"),
    tuple.__repr__: ("(", ")"),
    set.__repr__: ("{", "}"),
    frozenset.__repr__: ("{", "}"),
    deque.__repr__: ("[", "]"),
    type({}.items()).__repr__: ("dict_items([", "])"),
}
NAMED_TUPLE = namedtuple("NAMED_TUPLE", ()).__repr__.__code__  # All named tuples share it.


def shown(value: object, name: str = "") -> str:
    """Return *value* on one line of at most 300 characters; only ``***`` if *name* says that it is a secret."""
    return HIDDEN if _is_secret(name) else _cut(name_of(_text(value, DEPTH)), MOST_VALUE)


def shown_arguments(
    func: Callable[..., Any], args: Sequence[object], kws: Mapping[str, object]
) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of *func* as texts: at most eight of either kind, with how many more there are."""
    first = args[:MOST_ITEMS]
    secret = _are_secrets(func, len(first))
    texts = [HIDDEN if is_secret else shown(value) for value, is_secret in zip(first, secret, strict=True)]
    more = [f"... and {len(args) - MOST_ITEMS} more"] if len(args) > MOST_ITEMS else []
    named = {one_line(name): shown(value, name) for name, value in islice(kws.items(), MOST_ITEMS)}
    rest = {"...": f"and {len(kws) - MOST_ITEMS} more"} if len(kws) > MOST_ITEMS else {}
    return texts + more, named | rest


def _are_secrets(func: Callable[..., Any], number: int) -> list[bool]:
    """Return which of the first *number* arguments are secrets by their names, in *func* or in what it wraps."""
    names = zip(_names(func, number, is_wrapped=False), _names(func, number, is_wrapped=True), strict=True)
    return [any(map(_is_secret, both)) for both in names]


def _names(func: Callable[..., Any], number: int, *, is_wrapped: bool) -> list[str]:
    """Return the names of the first *number* arguments, also of those in ``*args``; "" where there is none.

    Args:
        is_wrapped: Whether to read the function inside of those that ``functools.wraps`` was used on.
    """
    try:
        parameters = inspect.signature(func, follow_wrapped=is_wrapped).parameters.values()
    except (TypeError, ValueError):  # Some built-in functions have none.
        return [""] * number
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    rest = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "")
    return (names + [rest] * number)[:number]


def _is_secret(name: object) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return isinstance(text, str) and SECRET.search(text) is not None


def _text(value: Any, depth: int) -> str:
    """Return *value* as Python writes it, without what would make that long. Its own ``__repr__`` may fail."""
    kind = type(value)
    try:
        written_by: object = kind.__repr__
        if written_by in TEXTS:
            return _part(repr(value[:LOOKED_AT]) + ("..." if len(value) > LOOKED_AT else ""))
        if written_by in BRACKETS:
            begin, end = BRACKETS[written_by]
            if isinstance(value, (list, tuple)) and len(value) == PAIR and _is_secret(value[0]) and depth > 0:
                return f"{begin}{_text(value[0], depth - 1)}, {HIDDEN}{end}"
            return begin + _listed((_text(each, depth - 1) for each in value), len(value), depth) + end
        if written_by in DICTS:
            return "{" + _listed((_item(key, each, depth) for key, each in value.items()), len(value), depth) + "}"
        if written_by in DATA:
            return _text(value.data, depth)
        if written_by in INSIDES:
            return f"{kind.__name__}({INSIDES[written_by](value, depth)})"
        if kind is MethodType:
            return f"<bound method {_part(value.__qualname__)} of {_text(value.__self__, depth)}>"
        names = _fields_in_repr(kind)
        if names is not None:
            return f"{kind.__name__}({_fields(((each, getattr(value, each)) for each in names), len(names), depth)})"
        return _part(repr(value)[:LOOKED_AT])
    except Exception as exc:  # Code of the application, which may also change the value meanwhile.
        return f"<{kind.__name__}: no text, because of {type(exc).__name__}>"


def _fields_in_repr(kind: type) -> Sequence[str] | None:
    """Return the fields that a generated ``__repr__`` of *kind* writes; None if it has none or another."""
    owner: Any = next(each for each in kind.__mro__ if "__repr__" in vars(each))  # A subclass may have more fields.
    written_by = owner.__repr__
    if getattr(written_by, "__code__", None) is NAMED_TUPLE:
        return tuple(owner._fields)
    generated = getattr(getattr(written_by, "__wrapped__", None), "__code__", None)
    if is_dataclass(owner) and generated is not None and generated.co_filename == "<string>":  # It has no source file.
        return [each.name for each in fields(owner) if each.repr]
    return None


def _item(key: object, value: object, depth: int) -> str:
    return f"{_text(key, depth - 1)}: {HIDDEN if _is_secret(key) else _text(value, depth - 1)}"


def _fields(named: Iterable[tuple[str, object]], number: int, depth: int) -> str:
    return _listed((_field(name, value, depth) for name, value in named), number, depth)


def _field(name: str, value: object, depth: int) -> str:
    return f"{_part(name)}={HIDDEN if _is_secret(name) else _text(value, depth - 1)}"


def _of_proxy(value: MappingProxyType[Any, Any], depth: int) -> str:
    [mapping] = gc.get_referents(value)
    return _text(mapping, depth)


def _of_view(value: Any, depth: int) -> str:
    return HIDDEN if isinstance(value, ValuesView) else _text(value._mapping, depth)  # Values have lost their names.


def _of_chain(value: ChainMap[Any, Any], depth: int) -> str:
    return _listed((_text(each, depth - 1) for each in value.maps), len(value.maps), depth)


def _of_namespace(value: object, depth: int) -> str:
    return _fields(vars(value).items(), len(vars(value)), depth)


def _of_partial(value: partial[Any], depth: int) -> str:
    first = value.args[:MOST_ITEMS]
    secret = _are_secrets(value.func, len(first))
    texts = chain(
        (_text(each, depth - 1) for each in (value.func,)),
        (HIDDEN if is_secret else _text(each, depth - 1) for each, is_secret in zip(first, secret, strict=True)),
        (_field(name, each, depth) for name, each in value.keywords.items()),
    )
    return _listed(texts, 1 + len(value.args) + len(value.keywords), depth)


# What is between the round brackets, by what wrote it; Python writes what is inside by that one's own ``__repr__``.
INSIDES: dict[object, Callable[[Any, int], str]] = {
    MappingProxyType.__repr__: _of_proxy,
    type({}.values()).__repr__: _of_view,
    MappingView.__repr__: _of_view,
    ChainMap.__repr__: _of_chain,
    SimpleNamespace.__repr__: _of_namespace,
    Namespace.__repr__: _of_namespace,
    partial.__repr__: _of_partial,
}


def _listed(texts: Iterable[str], number: int, depth: int) -> str:
    if depth <= 0:
        return "..." if number else ""
    more = [f"... {number - MOST_ITEMS} more"] if number > MOST_ITEMS else []
    return ", ".join([*islice(texts, MOST_ITEMS), *more])


def _part(text: str) -> str:
    return _cut(one_line(text), MOST_PART)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
