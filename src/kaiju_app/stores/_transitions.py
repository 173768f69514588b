"""Every change of a record, as a pure function from the record and the store's time to the record that replaces it.

Two rules keep the promises. A change is judged on the very record that it replaces: whether that is due, free, not held
or owned by the caller is decided here and nowhere else. And no instance is declared dead at first sight: an expired
lease is challenged, and taken away only if its owner does not renew it within a grace period.

A transition that returns None is refused, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from kaiju_app._core.clock import NEVER
from kaiju_app._core.model import Outcome, Reason

from ._record import LedgerRow, NextTick, StoredHold, TaskRecord, instance_of, true_holds

DAY = 86_400_000_000  # How often ``known_at`` is updated if nothing else changes.
WORDS = 200  # Characters kept of who held a task: a reason may be arbitrarily long.


def stamped(old: TaskRecord, now: int, **changes: object) -> TaskRecord:
    """Return *old* with *changes*, and a rev larger than any before, even if the record was lost in between."""
    return old._replace(rev=max(old.rev + 1, now), **changes)  # type: ignore[arg-type]


# --- the schedule ---


@dataclass(frozen=True, slots=True)
class Definition:
    """What an instance registers of a task.

    Attributes:
        first: The first tick, used if there is no record yet.
        by_rule: The first tick of the schedule after the store's time: a deploy never starts a run.
    """

    name: str
    schedule: str
    version: tuple[int, ...]
    first: NextTick
    by_rule: NextTick


def define(old: TaskRecord | None, now: int, new: Definition, *, again: bool = False) -> TaskRecord | None:
    """Make the record of a task, or change its schedule; None if there is nothing to change.

    A tick that is due or being run stays; the one after it follows the new schedule.

    Args:
        again: The instance has registered this schedule before. Of two schedules with one version, the last to be
            registered wins, and registering the same schedule again does not count.
    """
    if old is None:
        first = new.first
        floor = first.tick - 1 if first.tick < NEVER else now  # Another schedule may have one.
        return TaskRecord(
            new.name, now, new.schedule, new.version, first.tick, first.due, floor, now, next_unknown=first.unknown
        )
    if new.version < old.version or (new.version == old.version and (again or new.schedule == old.schedule)):
        return stamped(old, now, known_at=now) if now - old.known_at > DAY else None
    if new.schedule == old.schedule:
        return stamped(old, now, version=new.version, known_at=now)
    if old.owner is None and old.next_tick > now:  # Not next_due, which may be later by its jitter.
        tick = max(new.by_rule.tick, old.last_done + 1)
        # Claims of a tick that is dropped do not count for another one.
        claims = old.claims if tick == old.next_tick else 0
        due, unknown = max(new.by_rule.due, tick), new.by_rule.unknown
        old = old._replace(next_tick=tick, next_due=due, next_unknown=unknown, claims=claims)
    return stamped(old, now, schedule=new.schedule, version=new.version, known_at=now)


def is_forgettable(old: TaskRecord, now: int, unseen_for: int) -> bool:
    """Return whether the record may be deleted: no instance has known the task for long, or runs or holds it."""
    return not is_active(old) and now - old.known_at > unseen_for


# --- queries ---


def is_active(old: TaskRecord) -> bool:
    """Return whether an instance has something of the task: a claim or a hold."""
    return old.owner is not None or bool(old.holds)


def is_expired(old: TaskRecord, now: int) -> bool:
    """Return whether the lease of a claim or a hold has expired, challenged or not, or a pause has ended."""
    ends = [old.lease_until, *(held.until for held in old.holds.values())]
    return any(end is not None and end < now for end in ends)


def wakes_waiters(old: TaskRecord | None, new: TaskRecord | None) -> bool:
    """Return whether an instance may be waiting for this change.

    A suspension waits for a run to end, an owner gives way to a hold, and every instance wants to know of a tick that
    can be claimed earlier than it expected.
    """
    if new is None:
        return False
    if old is None or (new.manual_at is not None and old.manual_at is None):
        return True
    is_free, was_free = not is_active(new), not is_active(old)
    is_over = old.owner is not None and new.owner is None
    makes_way = new.owner is not None and bool(new.holds.keys() - old.holds.keys())
    return is_over or makes_way or (is_free and (not was_free or new.next_due < old.next_due))


# --- runs ---


def is_due(old: TaskRecord, now: int, ahead: int = 0) -> bool:
    """Return whether a claim is allowed: the task is due, free and not held."""
    return old.owner is None and not old.holds and (old.manual_at is not None or old.next_due <= now + ahead)


def claim(old: TaskRecord, now: int, me: str, ttl: int, ahead: int = 0, *, extra: bool = False) -> TaskRecord | None:
    """Let the instance *me* run the due tick until the lease expires; if *extra*, only a requested extra run."""
    if not is_due(old, now, ahead) or (extra and old.manual_at is None):
        return None
    manual = extra or old.next_due > now + ahead
    fence = max(old.rev + 1, now)
    return old._replace(
        rev=fence,
        fence=fence,
        owner=me,
        lease_until=now + ttl,
        challenged=False,
        claimed_at=now if manual else max(now, old.next_due),  # A claim made ahead of its tick starts with the tick.
        claims=old.claims + (not manual),
        manual_claims=old.manual_claims + manual,
        manual=manual,
    )


def is_mine(old: TaskRecord, me: str, fence: int) -> bool:
    """Return whether the instance still owns the claim with *fence*."""
    return old.owner == me and old.fence == fence


def renew(old: TaskRecord, now: int, me: str, fence: int, ttl: int) -> TaskRecord | None:
    """Extend a lease. This also answers a challenge."""
    return stamped(old, now, lease_until=now + ttl, challenged=False) if is_mine(old, me, fence) else None


class Refusal(Enum):
    """Why a finish was refused."""

    LOST = auto()
    """The instance no longer owns the claim."""
    DONE = auto()
    """It was finished before, and the answer was lost."""
    CHANGED = auto()
    """The task has a new schedule: the next tick must be computed from it."""
    BUSY = auto()
    """Another client has locked the record: try again."""


def finish(
    old: TaskRecord, now: int, me: str, fence: int, tick: int, schedule: str, following: NextTick | None
) -> TaskRecord | Refusal:
    """End the *tick* of a claim, and set the next one.

    Args:
        schedule: The schedule that *following* was computed from.
        following: The next tick; None for an extra run, which does not change it.
    """
    if not is_mine(old, me, fence):
        is_over = old.manual_at != tick if following is None else old.last_done >= tick
        return Refusal.DONE if old.fence == fence and old.owner is None and is_over else Refusal.LOST
    if old.manual:
        return _freed(old, now, manual_at=None, manual_claims=0, known_at=now)
    assert following is not None, f"the tick of task {old.name!r} cannot end without the next one"
    if schedule != old.schedule:
        return Refusal.CHANGED
    coming = max(following.tick, old.next_tick + 1)
    due = max(following.due, coming)
    return _freed(
        old,
        now,
        next_tick=coming,
        next_due=due,
        next_unknown=following.unknown,
        last_done=old.next_tick,
        claims=0,
        held_back_by=None,
        known_at=now,
    )


def return_unstarted(old: TaskRecord, now: int, me: str, fence: int) -> TaskRecord | None:
    """Give back a claim whose run never started: the tick stays due, and the claim does not count."""
    if not is_mine(old, me, fence):
        return None
    return _freed(old, now, claims=old.claims - (not old.manual), manual_claims=old.manual_claims - old.manual)


def release(old: TaskRecord, now: int, me: str, fence: int) -> TaskRecord | None:
    """Give back a claim whose run was cancelled: the tick stays due, and its next claim is another delivery."""
    return _freed(old, now) if is_mine(old, me, fence) else None


def challenge(old: TaskRecord, now: int, grace: int) -> TaskRecord | None:
    """Ask the owner of an expired lease to renew it within *grace*."""
    if old.owner is None or old.challenged or old.lease_until is None or old.lease_until >= now:
        return None
    return stamped(old, now, challenged=True, lease_until=now + grace)


def expire(old: TaskRecord, now: int) -> TaskRecord | None:
    """Take away a lease whose owner did not answer the challenge."""
    if old.owner is None or not old.challenged or old.lease_until is None or old.lease_until >= now:
        return None
    return _freed(old, now)


def remove_dead(old: TaskRecord, now: int, dead: Collection[str]) -> TaskRecord | None:
    """Take away the claim and the holds of instances that are dead for certain, which only the operating system knows.

    A pause stays: it belongs to an operator, and outlives its process.
    """
    holds = {key: held for key, held in old.holds.items() if not held.leased or instance_of(key) not in dead}
    if old.owner in dead:
        return _freed(old, now, holds=true_holds(holds), held_back_by=_held_back_by(old, now, holds))
    return _with_holds(old, now, holds) if len(holds) < len(old.holds) else None


def lost(old: TaskRecord, now: int, reason: Reason | None = None) -> LedgerRow:
    """Return the ledger row of a claim that did not end its tick."""
    return LedgerRow(
        old.name,
        old.tick,
        old.delivery,
        old.tick,
        1,
        Outcome.LOST.value,
        None if reason is None else reason.value,
        now,
        started_at=old.claimed_at,
        manual=old.manual,
        attempts=1,
        fence=old.fence,
        instance=old.owner,
        jitter=old.tick_due - old.tick,
        held_by=old.delayed_by,
    )


def request_run(old: TaskRecord, now: int) -> TaskRecord | None:
    """Request one extra run, by any instance; refused while the task is claimed, held or already requested."""
    if is_active(old) or old.manual_at is not None:
        return None
    # Unique even within one microsecond: it is a key in the ledger.
    return stamped(old, now, manual_at=max(old.rev + 1, now))


def _freed(old: TaskRecord, now: int, **changes: object) -> TaskRecord:
    kept = {"holds": true_holds(old.holds)} | changes
    return stamped(old, now, owner=None, lease_until=None, challenged=False, claimed_at=None, manual=False, **kept)


# --- holds ---


def hold(old: TaskRecord, now: int, key: str, held: StoredHold) -> TaskRecord:
    """Forbid claims of the task from now on; a current claim continues."""
    return stamped(old, now, holds={**old.holds, key: held})


def renew_hold(old: TaskRecord, now: int, key: str, ttl: int) -> TaskRecord | None:
    """Extend the lease of a hold. This also answers a challenge."""
    held = old.holds.get(key)
    if held is None:
        return None
    return stamped(old, now, holds={**old.holds, key: held._replace(until=now + ttl, challenged=False)})


def unhold(old: TaskRecord, now: int, key: str) -> TaskRecord | None:
    """End a hold."""
    if key not in old.holds:
        return None
    return _with_holds(old, now, {other: held for other, held in old.holds.items() if other != key})


def _with_holds(old: TaskRecord, now: int, holds: Mapping[str, StoredHold]) -> TaskRecord:
    """Return *old* with fewer holds."""
    return stamped(old, now, holds=holds, held_back_by=_held_back_by(old, now, holds))


def _held_back_by(old: TaskRecord, now: int, holds: Mapping[str, StoredHold]) -> str | None:
    """Return who has delayed a due tick, if the last hold ends."""
    before = {key: held for key, held in true_holds(old.holds).items() if not _began_during_run(old, held)}
    if not before or true_holds(holds) or old.next_due > now:
        return old.held_back_by
    return ", ".join(held.describe(key, now, WORDS) for key, held in sorted(before.items()))[:WORDS]


def _began_during_run(old: TaskRecord, held: StoredHold) -> bool:
    """Return whether the run of the due tick began before the hold: then it is not the hold that delays the tick."""
    is_running = old.owner is not None and not old.manual and old.claimed_at is not None
    return is_running and held.since is not None and (old.claimed_at or 0) <= held.since


def challenge_hold(old: TaskRecord, now: int, key: str, grace: int) -> TaskRecord | None:
    """Ask the instance of a hold with an expired lease to renew it within *grace*."""
    held = old.holds.get(key)
    if held is None or not held.leased or held.challenged or held.until is None or held.until >= now:
        return None
    return stamped(old, now, holds={**old.holds, key: held._replace(until=now + grace, challenged=True)})


def expire_hold(old: TaskRecord, now: int, key: str) -> TaskRecord | None:
    """Take away a hold that was not renewed after a challenge, or a pause that has ended."""
    held = old.holds.get(key)
    if held is None or held.until is None or held.until >= now or (held.leased and not held.challenged):
        return None
    return unhold(old, now, key)
