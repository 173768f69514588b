"""Results of shared runs as JSON text, so that the process that waits for a run gets them from the store."""

from __future__ import annotations

import json
from typing import Any

from kaiju_app._core.text import describe_exception

MOST_BYTES = 65_536  # A result is an answer, such as a count or a path; a store is no place for data.

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Refused(Exception):
    """A result cannot be kept; the text says why and what to do."""


def result_to_text(result: Any) -> str:
    """Return *result* as JSON text.

    Raises:
        Refused: It is no JSON value, or its text is too long.
    """
    parts: list[str] = []
    size = 0
    try:
        for part in _ENCODER.iterencode(result):  # Stops at the limit, before memory is full or the loop is blocked.
            parts.append(part)
            size += len(part.encode("utf-8", "surrogatepass"))
            if size > MOST_BYTES:
                break
    except Exception as exc:  # Also what classes of the user raise, and RecursionError.
        what = f"it is no JSON value: {describe_exception(exc)}"
        raise Refused(f"result not kept: {what}; return numbers, text, lists and dicts of them, or None") from None
    if size > MOST_BYTES:
        what = f"it is more than {MOST_BYTES:,} bytes of JSON"
        raise Refused(f"result not kept: {what}; store it yourself, and return where it is")
    return "".join(parts)


def result_from_text(text: str | None) -> Any:
    """Return the result with this JSON text; None if none was kept."""
    return None if text is None else json.loads(text)
