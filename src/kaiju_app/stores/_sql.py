"""SQL statements and schema steps from .sql files, each under a ``-- name:`` line."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from itertools import islice


@cache
def statements(file: str) -> dict[str, str]:
    """Return the statements of an SQL file of this package by name, in the order of the file."""
    text = files(__package__).joinpath(file).read_text("utf-8")
    _, *parts = re.split(r"^-- name: (.+)$", text, flags=re.MULTILINE)
    return {name.strip(): body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


CREATE = r"CREATE (?:TABLE|INDEX) (\w+)"
MAKES = r"(CREATE TABLE|CREATE INDEX|ADD COLUMN) "


def made_by(schema: dict[str, str]) -> frozenset[str]:
    """Return the names of the tables and indexes that the steps of a schema make."""
    return frozenset(name for step in schema.values() for name in re.findall(CREATE, step))


def missing_steps(schema: dict[str, str], taken: int, found: Collection[str]) -> list[str]:
    """Return the steps that a database still needs which has *taken* the first ones.

    If somebody has dropped a part of what these have made, all steps are returned, so that they make it again.

    Args:
        found: The names of the tables and indexes that the database has.
    """
    steps = list(schema.values())
    if taken and made_by(dict(islice(schema.items(), taken))).issubset(found):
        return steps[taken:]
    return [re.sub(MAKES, r"\1 IF NOT EXISTS ", step) for step in steps]
