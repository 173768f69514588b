"""The arguments of statements, by the columns that they go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._cas import name_of
from kaiju_app.stores._codec import record_to_json_values, rows_to_arrays, rows_to_json_values
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._transitions import wakes_waiters


def swap_columns(app: str, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow]) -> dict[str, Any]:
    """Return the replacement of one record by another, by the columns of the statement."""
    return {
        "name": name_of(old, new),
        "old_rev": None if old is None else old.rev,
        "new": None if new is None else record_to_json_values(new, app),
        "rows": rows_to_json_values(rows),
        "wakes": wakes_waiters(old, new),
    }


def ending_columns(endings: Sequence[FinishRequest]) -> dict[str, Sequence[Any]]:
    """Return the columns of endings, and those of their rows with the place of the ending that each belongs to."""
    following = [each.following for each in endings]
    places = [place for place, each in enumerate(endings, 1) for _ in each.rows]
    return {
        "names": [each.name for each in endings],
        "fences": [each.fence for each in endings],
        "ticks": [each.tick for each in endings],
        "schedules": [each.schedule for each in endings],
        "next_ticks": [None if coming is None else coming.tick for coming in following],
        "next_dues": [None if coming is None else coming.due for coming in following],
        "next_unknowns": [None if coming is None else coming.unknown for coming in following],
        "row_places": places,
        **rows_to_arrays([row for each in endings for row in each.rows]),
    }
