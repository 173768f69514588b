"""Records and rows as PostgreSQL takes and gives them: as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from zlib import crc32

from ._record import Record, Row, StoredHold
from ._text import RECORD, ROW, storable_each


def records_of(text: str | None) -> list[Record]:
    """Return the records of which this is the JSON; None: there are none."""
    return [record_of(values) for values in json.loads(text)] if text else []


def record_of(values: Mapping[str, Any]) -> Record:
    """Return the record of which these are the values."""
    holds = {key: StoredHold(**held) for key, held in values["holds"].items()}
    kept = {name: values[name] for name in RECORD if name not in ("version", "holds")}
    return Record(**kept, version=tuple(values["version"]), holds=holds)


def values_of(record: Record, app: str) -> dict[str, Any]:
    """Return the values of a record by name; ``bucket`` is the number by which tasks are shared."""
    values = {name: getattr(record, name) for name in RECORD}
    holds = {key: storable_each(asdict(held)) for key, held in record.holds.items()}
    return values | {"app": app, "bucket": crc32(record.name.encode()), "holds": holds}


def rows_of(text: str | None) -> list[Row]:
    """Return the rows of the ledger of which this is the JSON; None: there are none."""
    return [Row(**{name: values[name] for name in ROW}) for values in json.loads(text)] if text else []


def row_values(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the values of rows by name."""
    return [storable_each(asdict(row)) for row in rows]
