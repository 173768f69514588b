"""A record where only numbers and text can be kept, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any
from zlib import crc32

from ._record import Record, Row, StoredHold

RECORD = tuple(field.name for field in fields(Record))
FLAGS = ("manual", "suspect")
ROW = tuple(field.name for field in fields(Row))


def record_to_row(record: Record) -> dict[str, Any]:
    """Return the values of a record by name; ``bucket`` is the number by which tasks are shared."""
    values = {name: getattr(record, name) for name in RECORD}
    return values | {
        "version": json.dumps(record.version),
        "holds": holds_to_text(record.holds),
        "bucket": crc32(record.name.encode()),
    }


def record_of(values: Mapping[str, Any]) -> Record:
    """Return the record of which these are the values.

    Raises:
        ValueError: Somebody else has written into it.
    """
    try:
        version, holds = tuple(json.loads(values["version"])), holds_of(values["holds"])
    except (ValueError, TypeError, AttributeError) as exc:
        raise ValueError(f"the record of task {values['name']!r} cannot be read: {exc}") from exc
    return Record(
        **{name: values[name] for name in RECORD if name not in ("version", "holds", *FLAGS)},
        version=version,
        holds=holds,
        manual=bool(values["manual"]),
        suspect=bool(values["suspect"]),
    )


def holds_to_text(holds: Mapping[str, StoredHold]) -> str:
    """Return holds as JSON; none is ``{}``, to which queries compare."""
    return json.dumps({key: asdict(held) for key, held in holds.items()}, sort_keys=True) if holds else "{}"


def holds_of(text: str) -> dict[str, StoredHold]:
    """Return the holds of which this is the JSON."""
    return {} if text == "{}" else {key: StoredHold(**held) for key, held in json.loads(text).items()}


def storable_each(values: dict[str, Any]) -> dict[str, Any]:
    """Return *values* with every text as any database can keep it."""
    return {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}


def storable(text: str) -> str:
    """Return *text* as any database can keep it: a NUL, and half of a character, are only told of."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def row_of(values: Mapping[str, Any]) -> Row:
    """Return the row of the ledger of which these are the values."""
    return Row(
        **{name: values[name] for name in ROW if name not in ("more", "manual")},
        more=bool(values["more"]),
        manual=bool(values["manual"]),
    )
