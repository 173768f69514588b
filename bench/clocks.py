"""From one clock to the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic


def wall_time(monotonic_s: float) -> datetime:
    """Name an instant of the monotonic clock as an aware datetime."""
    return datetime.now(UTC) + timedelta(seconds=monotonic_s - monotonic())
