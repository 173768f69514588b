"""Records and ledger rows as the scripts have them: texts in the order of the fields, and places as sortable texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from kaiju_app._core.ledger_query import Place
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._cas import name_of
from kaiju_app.stores._codec import (
    HOLDS,
    MOST,
    RECORD,
    ROW,
    VERSION,
    arrays_to_text,
    record_from_values,
    record_to_array,
    row_from_values,
    row_to_array,
)
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._transitions import wakes_waiters

TEXTS = frozenset({"name", "schedule", "version", "owner", "holds", "held_back_by"})
NUMBERS = [place for place, name in enumerate(RECORD) if name not in TEXTS]
SHIFT, DIGITS = 1 << 62, 20  # Ticks before the epoch are negative, and texts are compared from their beginning.


def record_values(record: TaskRecord) -> list[str | None]:
    """Return the values of a record after its name.

    Raises:
        OverflowError: A number is too large for other engines, to which the record may be moved.
    """
    values = record_to_array(record)[1:]
    for place in NUMBERS:
        number = values[place]
        if number is not None:
            if not -MOST <= number <= MOST:
                raise OverflowError(f"{number} is too large for a record")
            values[place] = str(int(number))
    return values[1:]


def record_of(values: Sequence[Any]) -> TaskRecord:
    """Return the record with these values, in which False stands for None."""
    found: list[Any] = [None if each is False else each for each in values]
    for place in NUMBERS:
        if found[place] is not None:
            found[place] = int(found[place])
    assert len(found) > max(VERSION, HOLDS), "all values come, those that are None too"
    return record_from_values(found)


def records_of(found: Iterable[Sequence[Any]]) -> list[TaskRecord]:
    """Return the records with these values, ordered by name."""
    return sorted((record_of(each) for each in found), key=lambda record: record.name)


def place_text(place: Place) -> str:
    """Return a place of the ledger as a text. Texts are in the order of the places."""
    return f"{tick_text(place.tick)}\0{place.name}\0{place.manual:d}{place.delivery:0{DIGITS}d}"


def tick_text(tick: int) -> str:
    """Return the beginning of the texts of all places with this tick."""
    return f"{tick + SHIFT:0{DIGITS}d}"


def tick_of(text: str | None) -> int | None:
    """Return the tick of a place; None if there is none."""
    return None if text is None else int(text[:DIGITS]) - SHIFT


def row_values(rows: Iterable[LedgerRow]) -> list[list[str]]:
    """Return for each row its task, its place, its ending and all of it.

    Raises:
        OverflowError: A number is too large for other engines.
    """
    return [
        [row.name, place_text(row.place), row.ending.text, arrays_to_text([row_to_array(row)])[1:-1]] for row in rows
    ]


def rows_from_arrays(texts: Iterable[str]) -> list[LedgerRow]:
    """Return the rows that are in JSON arrays."""
    return [row_from_values(dict(zip(ROW, json.loads(each), strict=True))) for each in texts]


def change_values(old: TaskRecord | None, new: TaskRecord | None, rows: Iterable[LedgerRow]) -> dict[str, Any]:
    """Return the replacement of one record by another."""
    change = {
        "name": name_of(old, new),
        "old_rev": "" if old is None else str(old.rev),
        "rows": row_values(rows),
        "wakes": wakes_waiters(old, new),
    }
    return change if new is None else change | {"new": record_values(new)}


def ending_values(ending: FinishRequest) -> dict[str, Any]:
    """Return how the tick of a claim ends."""
    values = {
        "name": ending.name,
        "fence": str(ending.fence),
        "tick": str(ending.tick),
        "schedule": ending.schedule,
        "rows": row_values(ending.rows),
    }
    if ending.following is None:
        return values
    tick, due, unknown = ending.following
    return values | {"next_tick": str(tick), "next_due": str(due), "next_unknown": f"{unknown:d}"}
