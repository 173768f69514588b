"""Times as text, as they stand in findings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

MAX_LISTED = 3  # More times or numbers than these are not listed one by one.


def listed(moments: Sequence[datetime], previous: datetime | None = None) -> str:
    """Return *moments* as text, without repeating a date."""
    if len(moments) > MAX_LISTED:
        return f"{format_time(moments[0], previous)} to {format_time(moments[-1], moments[0])}"
    return ", ".join(format_time(each, before) for before, each in zip((previous, *moments), moments, strict=False))


def format_time(moment: datetime, previous: datetime | None = None) -> str:
    """Return date and time of *moment*, without the date if *previous*, which stands next to it, has the same one."""
    text = moment.replace(tzinfo=None).isoformat(" ", "auto" if moment.second or moment.microsecond else "minutes")
    return text[11:] if previous is not None and previous.date() == moment.date() else text
