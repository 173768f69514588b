"""WHETHER somebody else's lease is taken away: from what was seen of it, and who is dead for certain."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from .stores._record import Record, Row
from .stores._store import Transition
from .stores._transitions import bury, challenge, challenge_hold, expire, expire_hold, lost


def take_over(
    seen: Record, at: int, me: str, grace: int, dead: Collection[str] = frozenset(), *, calm: bool = True
) -> Transition:
    """Return the transition that moves the leases in *seen* on that are over, if nobody has changed it since.

    Args:
        at: When it was seen, by the clock of the store. What was not over by then is left alone, whatever that clock
            shows when the transition gets there: somebody may have set it meanwhile.
        me: The instance that observes; what it has itself, it renews.
        grace: Microseconds that others have to answer.
        dead: Instances that need not be challenged.
        calm: Nothing speaks against the clock of the store. Otherwise only pauses end, which have no holder to protect.
    """

    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        if old is None or old.rev != seen.rev:
            return None
        new, rows = old, []
        over = min(at, now)
        buried = bury(old, now, dead)
        if buried is not None:
            new = buried
        elif calm and old.holder != me:
            new = expire(old, over) or challenge(old, now, grace) or old
        if old.holder is not None and new.holder is None:
            rows.append(lost(old, now))
        for key, held in new.holds.items():
            if not held.leased or (calm and not key.startswith(f"{me}#")):
                new = expire_hold(new, over, key) or challenge_hold(new, now, key, grace) or new
        return None if new is old else (replace(new, rev=max(old.rev + 1, now)), rows)

    return transition
