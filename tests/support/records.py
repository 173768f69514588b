"""Changed copies of what stores keep and of what they are asked."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


def replace(old: T, **changes: Any) -> T:
    """Return *old*, a dataclass or a named tuple, with *changes*."""
    if isinstance(old, tuple):
        changed: T = old._replace(**changes)  # type: ignore[attr-defined]
        return changed
    return dataclasses.replace(old, **changes)  # type: ignore[type-var]
