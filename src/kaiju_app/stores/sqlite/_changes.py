"""The statement that writes what has changed in some records: a run changes half a dozen of their twenty columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from kaiju_app.stores._codec import RECORD, arrays_to_text, column_values
from kaiju_app.stores._record import TaskRecord

KEPT = ("app", "name", "partition_hash")  # The first columns of the table; those of RECORD follow, without the name.
REV = RECORD.index("rev")

Pair = tuple[TaskRecord, TaskRecord]
"""A record as it was read, and the one that replaces it."""


def changes(pairs: Sequence[Pair]) -> list[tuple[str, dict[str, Any]]]:
    """Return statements that replace records, with their parameters: one for all records that differ in the same."""
    alike: dict[tuple[int, ...], list[Pair]] = {}
    for old, new in pairs:
        places = [place for place, each in enumerate(new) if each != old[place] or place == REV]
        alike.setdefault(tuple(places), []).append((old, new))
    return [_change(places, some) for places, some in alike.items()]


def _change(places: tuple[int, ...], pairs: Sequence[Pair]) -> tuple[str, dict[str, Any]]:
    columns = {RECORD[place]: column_values(place, [new for _, new in pairs]) for place in places}
    common = {name: values[0] for name, values in columns.items() if values.count(values[0]) == len(values)}
    varying = {name: values for name, values in columns.items() if name not in common}
    names, revs = [old.name for old, _ in pairs], [old.rev for old, _ in pairs]
    records = arrays_to_text(list(zip(names, revs, *varying.values(), strict=True)))
    return _statement(tuple(varying), tuple(common)), {"records": records, **common}


@cache
def _statement(varying: tuple[str, ...], common: tuple[str, ...]) -> str:
    """Return the statement: an UPDATE with FROM would scan the whole table, as SQLite orders its tables by itself."""
    given = {name: f"json_extract(value, '$[{place}]')" for place, name in enumerate(varying, 2)}
    given |= {name: f":{name}" for name in common}
    columns = [given.get(name, f"old.{name}") for name in (*KEPT, *RECORD[1:])]
    return (
        f"INSERT INTO kaiju_task SELECT {', '.join(columns)} FROM json_each(:records) CROSS JOIN kaiju_task AS old "
        "WHERE old.app = :app AND old.name = json_extract(value, '$[0]') AND old.rev = json_extract(value, '$[1]') "
        f"ON CONFLICT (app, name) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in given)}"
    )
