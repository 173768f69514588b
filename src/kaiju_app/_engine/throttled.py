"""A log message that may be repeated often: it is logged once a minute, with a count, since people read the log."""

from __future__ import annotations

MIN_INTERVAL = 60_000_000


class ThrottledMessage:
    """A message that may be repeated often."""

    __slots__ = ("count", "logged", "since")

    def __init__(self, now: int) -> None:
        self.since = now
        self.logged = now - MIN_INTERVAL
        self.count = 0

    def due(self, now: int) -> bool:
        """Count one more occurrence; return whether it is time to log it."""
        self.count += 1
        if now - self.logged < MIN_INTERVAL:
            return False
        self.logged = now
        return True
