"""An estimate of the store's clock from its answers: a lower bound to start runs by, and whether it can be trusted.

There are two estimates, for two purposes. A run must not start early, so runs start by a clock that never shows more
than the store's. A lease must not be removed because somebody set a clock, so the midpoint between question and answer
is watched for jumps.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_USEFUL_ROUNDTRIP = 500_000  # A slower answer says too little about the time at which it was given.
MAX_DRIFT_PER_MILLE = 1  # Two clocks drift apart by less than this; real ones by a fiftieth of it.
MAX_UNDETECTED_JUMP = 1_000_000  # The grace of a lease absorbs jumps up to this.


@dataclass(slots=True)
class StoreClock:
    """What one instance knows of its store's clock. All arguments are microseconds.

    Args:
        trust_after: How long the clock must not have jumped before leases of other instances may be removed.
    """

    trust_after: int
    _low: int = 0
    """Least difference of store clock and steady clock at ``_at``; ``_high`` is the greatest."""
    _high: int = 0
    _at: int | None = None
    _sent: int = 0
    _middle: int | None = None
    _calm_since: int = 0

    def observe(self, sent: int, received: int, now: int) -> None:
        """Learn from an answer that carried *now*: the steady times at which it was asked for and received."""
        self._watch(sent, received, now)
        if received - sent > MAX_USEFUL_ROUNDTRIP or (self._at is not None and sent < self._sent):
            return
        low, high = now - received, now - sent
        if self._at is not None:
            slack = _drift(received - self._at)
            narrowed = max(low, self._low - slack), min(high, self._high + slack)
            if narrowed[0] <= narrowed[1]:  # Otherwise one of the clocks has jumped, and only the new answer counts.
                low, high = narrowed
        self._low, self._high, self._at, self._sent = low, high, received, sent

    def at_least(self, steady: int) -> int | None:
        """Return a lower bound of what the store's clock shows at *steady*; None if nothing is known of it."""
        if self._at is None:
            return None
        return steady + self._low - (_drift(steady - self._at) if steady > self._at else 0)

    def ahead_of(self, steady: int) -> tuple[int, int] | None:
        """Return between which bounds the store's clock is ahead of *steady*; None if nothing is known of it."""
        if self._at is None:
            return None
        slack = _drift(max(0, steady - self._at))
        return self._low - slack, self._high + slack

    def when(self, moment: int, steady: int) -> int | None:
        """Return the first steady time, not before *steady*, at which the store's clock surely shows *moment*."""
        shown = self.at_least(steady)
        if shown is None:
            return None
        missing = max(0, moment - shown)
        return steady + missing + _drift(missing) + bool(missing)

    def is_fresh(self, steady: int, within: int) -> bool:
        """Return whether the last useful answer is not older than *within*."""
        return self._at is not None and steady - self._at <= within

    def is_calm(self, steady: int) -> bool:
        """Return whether the store's clock has been watched for ``trust_after`` without a jump."""
        return self._middle is not None and steady - self._calm_since >= self.trust_after

    def _watch(self, sent: int, received: int, now: int) -> None:
        middle = now - (sent + received) // 2
        if self._middle is None or abs(middle - self._middle) > MAX_UNDETECTED_JUMP + (received - sent) // 2:
            self._calm_since = received
        self._middle = middle


def _drift(age: int) -> int:
    return age * MAX_DRIFT_PER_MILLE // 1_000
