"""Requests to the owner of a claim, as pure transitions."""

from __future__ import annotations

from ._record import StoredHold, TaskRecord, end_key
from ._transitions import hold


def ask_for_end(old: TaskRecord, now: int, holder: str, reason: str | None, ttl: int) -> TaskRecord | None:
    """Ask the owner of the claim to end its run, which has begun; None if none has.

    The owner sees it when it renews its lease, so it lapses after *ttl*. It goes with the claim: no later run is meant.
    """
    if old.owner is None or old.claimed_at is None or old.claimed_at > now:
        return None
    return hold(old, now, end_key(old.fence), StoredHold(holder, reason, now + ttl, leased=False, since=now))
