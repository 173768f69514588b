"""What a store has lost and an instance still knows, as pure transitions that put it back.

A store may be emptied, or be replaced by an older copy, while instances run. Two rules keep the promises then. What an
instance owned comes back only if no claim was made since: its fence tells. And a record that was lost is held for the
grace of a lease, in which whoever ran or held its task puts that back: until then nobody knows that it is idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ._answers import FinishRequest
from ._record import NextTick, StoredHold, TaskRecord
from ._transitions import finish, hold

RESTORED = "#restored"  # The key of that hold. Like a pause it belongs to no instance, and ends by itself.


@dataclass(frozen=True, slots=True)
class Known:
    """What an instance knows of a task whose record may be lost.

    Attributes:
        record: The record as it was last read.
        rev: The greatest rev, and so the greatest fence, that was read of any record of the task.
        done: The last tick that is known to have ended.
        coming: The first tick after the store was last seen to have the record.
    """

    record: TaskRecord
    rev: int
    done: int
    coming: NextTick


def put_back(old: TaskRecord | None, now: int, known: Known, grace: int) -> TaskRecord | None:
    """Make a lost record again, or bring one from an older copy of the store forward; None if nothing is missing.

    Fencing tokens keep growing, and no tick that is known to have ended runs again. Pauses come back, holds of
    instances do not: those put them back themselves.
    """
    coming = known.coming
    if old is None:
        record = known.record
        return TaskRecord(
            record.name,
            max(now, known.rev + 1),
            record.schedule,
            record.version,
            coming.tick,
            coming.due,
            min(known.done, coming.tick - 1),
            now,
            next_unknown=coming.unknown,
            holds=_held({key: held for key, held in record.holds.items() if not held.leased}, now, grace),
        )
    if old.rev >= known.rev and old.last_done >= known.done:
        return None
    new = old._replace(rev=max(old.rev + 1, now, known.rev + 1), holds=_held(old.holds, now, grace))
    if old.owner is not None or old.next_tick > known.done:
        return new
    return new._replace(
        next_tick=coming.tick, next_due=coming.due, next_unknown=coming.unknown, last_done=known.done, claims=0
    )


def _held(holds: Mapping[str, StoredHold], now: int, grace: int) -> Mapping[str, StoredHold]:
    # Last, as the hold of an earlier loss may be among them, and end too early.
    return {**holds, RESTORED: StoredHold("the store, which had lost the record", None, now + grace, leased=False)}


def is_lost(old: TaskRecord | None, claimed: TaskRecord) -> bool:
    """Return whether the store has lost the claim *claimed*, and nobody has made another one since.

    A claim that somebody took away has left its fence in the record.
    """
    return old is None or (old.owner in (None, claimed.owner) and old.fence < claimed.fence)


def take_back(old: TaskRecord | None, now: int, claimed: TaskRecord, ttl: int, grace: int) -> TaskRecord | None:
    """Put the claim *claimed*, whose run is going on, back into a store that has lost it."""
    if not is_lost(old, claimed):
        return None
    base = claimed if old is None else old
    return claimed._replace(
        rev=max(now, base.rev + 1, claimed.rev + 1),
        schedule=base.schedule,
        version=base.version,
        known_at=now,
        lease_until=now + ttl,
        challenged=False,
        holds=_held({} if old is None else old.holds, now, grace),
    )


def end_lost(
    old: TaskRecord | None, now: int, claimed: TaskRecord, ending: FinishRequest, grace: int
) -> TaskRecord | None:
    """End the tick of the claim *claimed*, whose run is over, in a store that has lost it."""
    taken = take_back(old, now, claimed, 0, grace)
    if taken is None or claimed.owner is None:
        return None
    ended = finish(taken, now, claimed.owner, ending.fence, ending.tick, ending.schedule, ending.following)
    return ended if isinstance(ended, TaskRecord) else None


def hold_again(old: TaskRecord, now: int, key: str, held: StoredHold, fence: int) -> TaskRecord | None:
    """Put a hold back that the store has lost, if no claim was made since the one with *fence*."""
    return hold(old, now, key, held) if old.fence <= fence else None
