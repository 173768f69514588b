"""Cursors: where the next page of a list begins. They are opaque to those who get them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from ._problems import Refused

Text = tuple[str, str, str]
"""What an item is ordered by, as text, its name, and its home."""


def cursor_of(order: str, place: Text) -> str:
    """Return the cursor of the page after the item at *place* of a list in this *order*."""
    text = json.dumps([order, *place], separators=(",", ":"))  # A name need not be valid UTF-8.
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(order: str, cursor: str) -> Text:
    """Return the place that *cursor* stands for.

    Raises:
        Refused: It is none that was given by a list in this *order*.
    """
    try:
        found = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            its_order, key, name, home = found
            if its_order == order:
                return key, name, home
    except (ValueError, RecursionError):
        pass
    raise no_such_page()


def no_such_page() -> Refused:
    """Return the refusal of a cursor that was never given."""
    return Refused(404, "No such page", "This cursor was not given by a list in this order: begin without a cursor")
