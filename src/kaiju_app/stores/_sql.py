"""SQL as it is kept: in .sql files beside the engines, a statement or a step under each ``-- name:`` line."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


@cache
def statements(file: str) -> dict[str, str]:
    """Return the parts of an SQL file of this package by name, in the order of the file."""
    text = files(__package__).joinpath(file).read_text("utf-8")
    _, *parts = re.split(r"^-- name: (.+)$", text, flags=re.MULTILINE)
    return {name.strip(): body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
