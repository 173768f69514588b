"""Records and ledger rows as values for a database, and back: JSON for PostgreSQL, columns for SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from kaiju_app._core.text import shortened

from ._record import LedgerRow, StoredHold, TaskRecord
from ._selection import partition_hash

RECORD, ROW = TaskRecord._fields, LedgerRow._fields
FLAGS = frozenset({"manual", "challenged", "next_unknown", "more"})  # Some databases store them as numbers.
RECORD_FLAGS = [place for place, name in enumerate(RECORD) if name in FLAGS]
VERSION, HOLDS = RECORD.index("version"), RECORD.index("holds")
MOST = 2**63 - 1  # The largest number that a column holds.


def _record(values: Mapping[str, Any], version: list[int], holds: dict[str, dict[str, Any]]) -> TaskRecord:
    each = _with_flags(values, RECORD)
    each["version"] = tuple(version)
    each["holds"] = {key: StoredHold(**hold) for key, hold in holds.items()}
    return TaskRecord(**each)


def row_from_values(values: Mapping[str, Any]) -> LedgerRow:
    """Return the ledger row with these values."""
    return LedgerRow(**_with_flags(values, ROW))


def _with_flags(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: bool(values[name]) if name in FLAGS else values[name] for name in names}


def _values(record: TaskRecord) -> dict[str, Any]:
    return record._asdict() | {"partition_hash": partition_hash(record.name)}


# --- JSON, in one parameter of a statement ---


def record_to_json_values(record: TaskRecord, app: str) -> dict[str, Any]:
    """Return the values of a record by column, for JSON."""
    holds = {key: storable_hold(hold)._asdict() for key, hold in record.holds.items()}
    return _values(record) | {"app": app, "holds": holds}


def rows_to_json_values(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """Return the values of rows by column, for JSON."""
    return [storable_row(row)._asdict() for row in rows]


def records_from_json(text: str | None) -> list[TaskRecord]:
    """Return the records in a JSON text; none if there is no text."""
    return [_record(each, each["version"], each["holds"]) for each in json.loads(text)] if text else []


def rows_from_json(text: str | None) -> list[LedgerRow]:
    """Return the ledger rows in a JSON text; none if there is no text."""
    return [row_from_values(values) for values in json.loads(text)] if text else []


# --- arrays, one for each column: they are read and written in a fraction of the time that JSON takes ---


class Arrays(Protocol):
    """Arrays by column."""

    def __getitem__(self, name: str) -> Any: ...


def records_from_arrays(arrays: Arrays) -> list[TaskRecord]:
    """Return the records in the arrays of all columns, each of which is None if there is no record."""
    columns = {name: arrays[name] or () for name in RECORD}
    columns["version"] = [_version(text) for text in columns["version"]]
    columns["holds"] = [_holds(text) for text in columns["holds"]]
    return list(map(TaskRecord._make, zip(*columns.values(), strict=True)))


def row_columns(rows: Sequence[LedgerRow]) -> list[tuple[str, Sequence[Any]]]:
    """Return the names of all columns of rows, each with its values."""
    columns = list(zip(*map(storable_row, rows), strict=True)) or [()] * len(ROW)
    return list(zip(ROW, columns, strict=True))


@cache
def _version(text: str) -> tuple[int, ...]:
    return tuple(json.loads(text))


def _holds(text: str) -> dict[str, StoredHold]:
    return {} if text == "{}" else {key: StoredHold(**hold) for key, hold in json.loads(text).items()}


# --- columns that hold only numbers and text ---


def record_to_array(record: TaskRecord) -> list[Any]:
    """Return the hash for partitions and the values of a record, version and holds as JSON texts."""
    values: list[Any] = list(record)
    values[VERSION], values[HOLDS] = json.dumps(record.version), _holds_to_text(record.holds)
    return [partition_hash(record.name), *values]


def column_values(place: int, records: Sequence[TaskRecord]) -> list[Any]:
    """Return the values of one column, given by its place in ``RECORD``, as ``record_to_array()`` has them."""
    if place == VERSION:
        return [json.dumps(record.version) for record in records]
    if place == HOLDS:
        return [_holds_to_text(record.holds) for record in records]
    return [record[place] for record in records]


def row_to_array(row: LedgerRow) -> tuple[Any, ...]:
    """Return the values of a ledger row."""
    return storable_row(row)


def arrays_to_text(arrays: Sequence[Sequence[Any]]) -> str:
    """Return arrays of values as JSON.

    Raises:
        OverflowError: A number is too large for a column. In JSON it would lose its last digits silently.
    """
    for each in arrays:
        for value in each:
            if isinstance(value, int) and not -MOST <= value <= MOST:
                raise OverflowError(f"{value} is too large for a column")
    return json.dumps(arrays, ensure_ascii=False)


def record_from_values(found: Sequence[Any]) -> TaskRecord:
    """Return the record with these values, in the order of ``RECORD``.

    Raises:
        ValueError: Another program has written into them.
    """
    values = list(found)
    try:
        values[VERSION], values[HOLDS] = _version(values[VERSION]), _holds(values[HOLDS])
    except (ValueError, TypeError, AttributeError) as exc:
        raise ValueError(f"the record of task {found[0]!r} cannot be read: {exc}") from exc
    for place in RECORD_FLAGS:
        values[place] = bool(values[place])
    return TaskRecord._make(values)


def _holds_to_text(holds: Mapping[str, StoredHold]) -> str:
    """Return holds as JSON. No holds are ``{}``, to which queries compare."""
    if not holds:
        return "{}"
    return json.dumps({key: storable_hold(hold)._asdict() for key, hold in holds.items()}, sort_keys=True)


# --- text ---


def storable_row(row: LedgerRow) -> LedgerRow:
    """Return *row* with texts that any database can store: those that people write are ``shortened()``, too."""
    error = row.error and storable(shortened(row.error))
    result = row.result and storable(row.result)  # JSON remains JSON, and has a limit of its own.
    held_by = row.held_by and storable(row.held_by)
    is_storable = (error, result, held_by) == (row.error, row.result, row.held_by)
    return row if is_storable else row._replace(error=error, result=result, held_by=held_by)


def storable_hold(hold: StoredHold) -> StoredHold:
    """Return *hold* with texts that any database can store, ``shortened()``."""
    reason = hold.reason and storable(shortened(hold.reason))
    return hold._replace(holder=storable(shortened(hold.holder)), reason=reason)


def storable(text: str) -> str:
    """Return *text* as any database can store it: NUL and lone surrogates are escaped."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
