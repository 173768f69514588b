"""The arguments of statements, by the columns that they go to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._cas import name_of
from kaiju_app.stores._codec import record_to_json_values, row_columns, rows_to_json_values
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._transitions import wakes_waiters

# The columns of rows that are texts.
TEXTS = frozenset({"name", "outcome", "reason", "error", "instance", "result", "held_by"})


def swap_columns(app: str, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow]) -> dict[str, Any]:
    """Return the replacement of one record by another, by the columns of the statement."""
    return {
        "name": name_of(old, new),
        "old_rev": None if old is None else old.rev,
        "new": None if new is None else record_to_json_values(new, app),
        "rows": rows_to_json_values(rows),
        "wakes": wakes_waiters(old, new),
    }


def ending_columns(endings: Sequence[FinishRequest]) -> dict[str, str]:
    """Return the columns of endings, and those of their rows with the place of the ending that each belongs to.

    Each is an array as text: see ``texts()``.
    """
    following = [each.following for each in endings]
    rows = [row for each in endings for row in each.rows]
    return {
        "names": texts(each.name for each in endings),
        "fences": numbers(each.fence for each in endings),
        "ticks": numbers(each.tick for each in endings),
        "schedules": texts(each.schedule for each in endings),
        "next_ticks": numbers(None if coming is None else coming.tick for coming in following),
        "next_dues": numbers(None if coming is None else coming.due for coming in following),
        "next_unknowns": numbers(None if coming is None else coming.unknown for coming in following),
        "row_places": numbers(place for place, each in enumerate(endings, 1) for _ in each.rows),
        **{f"row_{name}": (texts if name in TEXTS else numbers)(column) for name, column in row_columns(rows)},
    }


def texts(values: Iterable[str | None]) -> str:
    """Return *values* as the text of an array, which the server reads.

    asyncpg takes several times as long for an array: it asks of each element whether it is a sequence.
    """
    return "{" + ",".join(["NULL" if each is None else _quoted(each) for each in values]) + "}"


class Names:
    """The names of the last claim as the text of an array: thousands of them, which seldom change.

    They are in the order of the index, as the server sorts them otherwise.
    """

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._text = texts(())

    def text(self, names: Collection[str]) -> str:
        """Return *names* as the text of an array."""
        if self._names != names:
            self._names = frozenset(names)
            self._text = texts(sorted(self._names))
        return self._text


def numbers(values: Iterable[int | None]) -> str:
    """Return numbers and truth values as the text of an array."""
    return "{" + ",".join(["NULL" if each is None else str(each) for each in values]) + "}"


def _quoted(text: str) -> str:
    if '"' in text or "\\" in text:
        text = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{text}"'
