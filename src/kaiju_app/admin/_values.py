"""Arguments and results as short texts, for tasks that were registered with ``show=True``."""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

from kaiju_app.stores._masking import HIDDEN

from ._text import name_of, one_line

MOST_VALUE = 300  # Characters of a value.
MOST_PART = 100  # Characters of a text or an object inside it.
MOST_ITEMS = 8  # Of a list, also of the arguments themselves.
DEPTH = 3  # Lists inside lists that are shown.
LOOKED_AT = 2_000  # Characters in which passwords are looked for: more than are shown, so that none is cut in halves.

SECRET = re.compile(r"pass(?:word|wd|phrase)|secret|token|api_?key|credential|authorization|^pwd$", re.IGNORECASE)
BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("{", "}"), deque: ("[", "]")
}  # fmt: skip


def shown(value: object, name: str = "") -> str:
    """Return *value* on one line of at most 300 characters; only ``***`` if *name* says that it is a secret."""
    return HIDDEN if SECRET.search(name) else _cut(name_of(_text(value, DEPTH)), MOST_VALUE)


def shown_arguments(
    func: Callable[..., Any], args: Sequence[object], kws: Mapping[str, object]
) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of *func* as texts: at most eight of either kind, with how many more there are."""
    texts = [shown(value, name) for value, name in zip(args[:MOST_ITEMS], _names(func, len(args)), strict=False)]
    more = [f"... and {len(args) - MOST_ITEMS} more"] if len(args) > MOST_ITEMS else []
    named = {one_line(name): shown(value, name) for name, value in islice(kws.items(), MOST_ITEMS)}
    rest = {"...": f"and {len(kws) - MOST_ITEMS} more"} if len(kws) > MOST_ITEMS else {}
    return texts + more, named | rest


def _names(func: Callable[..., Any], number: int) -> list[str]:
    """Return the names of the first *number* parameters; "" where there is none, as in ``*args``."""
    try:
        parameters = inspect.signature(func, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # Some built-in functions have none.
        return [""] * number
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return (names + [""] * number)[:number]


def _text(value: Any, depth: int) -> str:
    """Return *value* as Python writes it, without what would make that long. Its own ``__repr__`` may fail."""
    kind = type(value)
    try:
        if isinstance(value, str | bytes):
            return _part(repr(value[:LOOKED_AT]) + ("..." if len(value) > LOOKED_AT else ""))
        if kind in BRACKETS:
            begin, end = BRACKETS[kind]
            return begin + _listed((_text(each, depth - 1) for each in value), len(value), depth) + end
        if isinstance(value, dict):
            return "{" + _listed((_item(*each, depth) for each in value.items()), len(value), depth) + "}"
        if is_dataclass(value) and not isinstance(value, type):
            names = [each.name for each in fields(value) if each.repr]
            return f"{kind.__name__}({_fields(value, names, depth)})"
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return f"{kind.__name__}({_fields(value, value._fields, depth)})"
        return _part(repr(value)[:LOOKED_AT])
    except Exception as exc:  # Code of the application, which may also change the value meanwhile.
        return f"<{kind.__name__}: no text, because of {type(exc).__name__}>"


def _item(key: object, value: object, depth: int) -> str:
    text = HIDDEN if isinstance(key, str) and SECRET.search(key) else _text(value, depth - 1)
    return f"{_text(key, depth - 1)}: {text}"


def _fields(value: object, names: Sequence[str], depth: int) -> str:
    texts = (f"{name}={HIDDEN if SECRET.search(name) else _text(getattr(value, name), depth - 1)}" for name in names)
    return _listed(texts, len(names), depth)


def _listed(texts: Iterable[str], number: int, depth: int) -> str:
    if depth <= 0:
        return "..." if number else ""
    more = [f"... {number - MOST_ITEMS} more"] if number > MOST_ITEMS else []
    return ", ".join([*islice(texts, MOST_ITEMS), *more])


def _part(text: str) -> str:
    return _cut(one_line(text), MOST_PART)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
