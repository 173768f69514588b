"""What a store's clock shows, as far as its answers tell: a lower bound to start by, and whether it can be trusted.

Two estimates, because they serve opposite ends. A tick must not start early, so the clock to start by never shows more
than the store's; a lease must not be taken for over because somebody set a clock, so the middle of question and answer
is watched for jumps.
"""

from __future__ import annotations

from dataclasses import dataclass

USABLE = 500_000  # An answer that took longer tells too little about when it was given.
DRIFT_PER_MILLE = 1  # Clocks go differently by less than that: real ones by a fiftieth of it.
JUMP = 1_000_000  # Smaller ones are absorbed by the grace of a lease.


@dataclass(slots=True)
class StoreClock:
    """An instance's idea of the clock of its store. All arguments are microseconds.

    Args:
        trust_after: How long there must have been no jump before somebody else's lease may be taken for over.
    """

    trust_after: int
    _low: int = 0
    """Store clock minus steady clock, at least; ``_high`` at most; both at ``_at``."""
    _high: int = 0
    _at: int | None = None
    _sent: int = 0
    _middle: int | None = None
    _calm_since: int = 0

    def heard(self, sent: int, received: int, now: int) -> None:
        """Learn from an answer that said *now*, to a question that was sent and received at these steady times."""
        self._watch(sent, received, now)
        if received - sent > USABLE or (self._at is not None and sent < self._sent):
            return
        low, high = now - received, now - sent
        if self._at is not None:
            slack = _drift(received - self._at)
            narrowed = max(low, self._low - slack), min(high, self._high + slack)
            if narrowed[0] <= narrowed[1]:  # Otherwise one of the clocks jumped, and only the new answer counts.
                low, high = narrowed
        self._low, self._high, self._at, self._sent = low, high, received, sent

    def at_least(self, steady: int) -> int | None:
        """Return what the store's clock shows at *steady*, or less; None if that is not known."""
        return None if self._at is None else steady + self._low - _drift(max(0, steady - self._at))

    def when(self, moment: int, steady: int) -> int | None:
        """Return the first steady time from *steady* on at which the store's clock surely shows *moment*."""
        shown = self.at_least(steady)
        if shown is None:
            return None
        missing = max(0, moment - shown)
        return steady + missing + _drift(missing) + bool(missing)

    def is_fresh(self, steady: int, within: int) -> bool:
        """Return whether an answer came not longer ago than *within*."""
        return self._at is not None and steady - self._at <= within

    def is_calm(self, steady: int) -> bool:
        """Return whether the store's clock has been watched for long enough and has not jumped."""
        return self._middle is not None and steady - self._calm_since >= self.trust_after

    def _watch(self, sent: int, received: int, now: int) -> None:
        middle = now - (sent + received) // 2
        if self._middle is None or abs(middle - self._middle) > JUMP + (received - sent) // 2:
            self._calm_since = received
        self._middle = middle


def _drift(age: int) -> int:
    return age * DRIFT_PER_MILLE // 1_000
