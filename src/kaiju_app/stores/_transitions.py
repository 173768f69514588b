"""Every change of a record there is, as a pure function from a record and the store's time to the next record.

Two rules keep what they promise. A change is judged on the very record that it replaces: due, free, unheld, mine are
conditions here, and nowhere else. And nobody is declared dead at one look: a lease that is over is challenged, and only
if that is not answered for a grace it is taken away.

None means: refused, nothing changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from kaiju_app._model import Outcome, Reason

from ._record import Coming, Record, Row, StoredHold

NEVER = 1 << 62  # When a tick is that never comes.
DAY = 86_400_000_000  # How often it is enough to say that a task is known.
WORDS = 200  # Characters that are kept of who held a task: a reason may be a book.


def stamped(old: Record, now: int, **changes: object) -> Record:
    """Return *old* with *changes*, and a rev larger than any before, even if the record was lost meanwhile."""
    return replace(old, rev=max(old.rev + 1, now), **changes)  # type: ignore[arg-type]


# --- the rule ---


@dataclass(frozen=True, slots=True)
class Definition:
    """What an instance says of a task when it registers it.

    Attributes:
        first: The first tick, if there is no record yet.
        by_rule: The tick to come by the rule, after the store's now: a deploy never fires a run.
    """

    name: str
    spec: str
    version: tuple[int, ...]
    first: Coming
    by_rule: Coming


def put(old: Record | None, now: int, new: Definition, *, again: bool = False) -> Record | None:
    """Make the record of a task, or give it another rule; None if there is nothing to change.

    A tick that has come already, or is being run, stays: what follows it is by the new rule.

    Args:
        again: The instance has said so before. Of two rules of one version the last one to come stands, and nobody
            comes by saying the same again.
    """
    if old is None:
        first = new.first
        floor = first.tick - 1 if first.tick < NEVER else now  # By another rule it may come all the same.
        return Record(new.name, now, new.spec, new.version, first.tick, first.due, floor, now)
    if new.version < old.version or (new.version == old.version and (again or new.spec == old.spec)):
        return stamped(old, now, seen=now) if now - old.seen > DAY else None
    if new.spec == old.spec:
        return stamped(old, now, version=new.version, seen=now)
    changes: dict[str, object] = {}
    if old.holder is None and old.next > now:  # Not: due, which may be later by its jitter.
        tick = max(new.by_rule.tick, old.floor + 1)
        # Claims of a tick that will not be do not count for another one.
        changes = {"next": tick, "due": max(new.by_rule.due, tick), "take": old.take if tick == old.next else 0}
    return stamped(old, now, spec=new.spec, version=new.version, seen=now, **changes)


def forget(old: Record, now: int, unseen_for: int) -> bool:
    """Return whether the record may be deleted: nobody has known the task for long, and nobody runs or holds it."""
    return old.holder is None and not old.holds and now - old.seen > unseen_for


# --- what to look at ---


def is_active(old: Record, now: int) -> bool:
    """Return whether there may be something to do about it: it is claimed, held, asked for or due."""
    return old.holder is not None or bool(old.holds) or old.asked is not None or old.due <= now


def is_stale(old: Record, now: int) -> bool:
    """Return whether the lease of a claim or of a hold is over, challenged or not, or a pause."""
    ends = [old.until, *(held.until for held in old.holds.values())]
    return any(end is not None and end < now for end in ends)


def is_news(old: Record | None, new: Record | None) -> bool:
    """Return whether somebody may be waiting for this change.

    Who suspends waits for a run to end, who has claimed makes way for a hold, and everybody wants to know of a tick
    that may be claimed earlier than they heard.
    """
    if new is None:
        return False
    if old is None or (new.asked is not None and old.asked is None):
        return True
    is_free, was_free = (each.holder is None and not each.holds for each in (new, old))
    is_over = old.holder is not None and new.holder is None
    makes_way = new.holder is not None and bool(new.holds.keys() - old.holds.keys())
    return is_over or makes_way or (is_free and (not was_free or new.due < old.due))


# --- runs ---


def is_due(old: Record, now: int, ahead: int = 0) -> bool:
    """Return whether a claim is allowed: it is due, free, and nothing holds it."""
    return old.holder is None and not old.holds and (old.asked is not None or old.due <= now + ahead)


def claim(old: Record, now: int, me: str, ttl: int, ahead: int = 0, *, extra: bool = False) -> Record | None:
    """Let the instance *me* run the tick that is due, until the lease is over; if *extra*, only one asked for."""
    if not is_due(old, now, ahead) or (extra and old.asked is None):
        return None
    manual = extra or old.due > now + ahead
    fence = max(old.rev + 1, now)
    return replace(
        old,
        rev=fence,
        fence=fence,
        holder=me,
        until=now + ttl,
        suspect=False,
        started=now if manual else max(now, old.due),  # A claim ahead begins with its tick.
        take=old.take + (not manual),
        asked_take=old.asked_take + manual,
        manual=manual,
    )


def is_mine(old: Record, me: str, fence: int) -> bool:
    """Return whether the claim with *fence* is the instance's own, and still stands."""
    return old.holder == me and old.fence == fence


def renew(old: Record, now: int, me: str, fence: int, ttl: int) -> Record | None:
    """Prolong a lease, which also answers a challenge."""
    return stamped(old, now, until=now + ttl, suspect=False) if is_mine(old, me, fence) else None


class Refusal(Enum):
    """Why a run was not finished."""

    LOST = auto()
    """The claim does not stand any more."""
    DONE = auto()
    """It was finished already, and the answer was lost."""
    CHANGED = auto()
    """The task has another rule meanwhile: what follows has to be found by that one."""
    BUSY = auto()
    """Somebody has locked the record at this moment: to be asked again."""


def finish(
    old: Record, now: int, me: str, fence: int, tick: int, spec: str, following: Coming | None
) -> Record | Refusal:
    """End the *tick* of a claim, and set the one that follows it.

    Args:
        spec: The rule by which *following* was found.
        following: The next tick; None for an extra run, which leaves the grid alone.
    """
    if not is_mine(old, me, fence):
        is_over = old.asked != tick if following is None else old.floor >= tick
        return Refusal.DONE if old.fence == fence and old.holder is None and is_over else Refusal.LOST
    if old.manual:
        return _freed(old, now, asked=None, asked_take=0, seen=now)
    assert following is not None, f"the tick of task {old.name!r} cannot end without the next one"
    if spec != old.spec:
        return Refusal.CHANGED
    coming = max(following.tick, old.next + 1)
    due = max(following.due, coming)
    return _freed(old, now, next=coming, due=due, floor=old.next, take=0, kept_back=None, seen=now)


def hand_back(old: Record, now: int, me: str, fence: int) -> Record | None:
    """Give back a claim that never started: the tick stays due, and the claim does not count."""
    if not is_mine(old, me, fence):
        return None
    return _freed(old, now, take=old.take - (not old.manual), asked_take=old.asked_take - old.manual)


def release(old: Record, now: int, me: str, fence: int) -> Record | None:
    """Give back a claim whose run was cut: the tick stays due, and the next claim of it is another take."""
    return _freed(old, now) if is_mine(old, me, fence) else None


def challenge(old: Record, now: int, grace: int) -> Record | None:
    """Ask the holder of a lease that is over to renew it within *grace*."""
    if old.holder is None or old.suspect or old.until is None or old.until >= now:
        return None
    return stamped(old, now, suspect=True, until=now + grace)


def expire(old: Record, now: int) -> Record | None:
    """Take a lease away whose holder did not answer the challenge."""
    if old.holder is None or not old.suspect or old.until is None or old.until >= now:
        return None
    return _freed(old, now)


def bury(old: Record, now: int, dead: Collection[str]) -> Record | None:
    """Take away what instances had that are dead for certain, which only an operating system can tell: claim and holds.

    A pause stays: it is an operator's, and outlives its process.
    """
    holds = {key: held for key, held in old.holds.items() if not held.leased or instance_of(key) not in dead}
    if old.holder in dead:
        return _freed(old, now, holds=holds, kept_back=_kept_back(old, now, holds))
    return _with_holds(old, now, holds) if len(holds) < len(old.holds) else None


def lost(old: Record, now: int, reason: Reason | None = None) -> Row:
    """Return the row of a claim that did not end its tick."""
    return Row(
        old.name,
        old.tick,
        old.takes,
        old.tick,
        1,
        Outcome.LOST.value,
        None if reason is None else reason.value,
        now,
        started=old.started,
        manual=old.manual,
        attempts=1,
        fence=old.fence,
        instance=old.holder,
        jitter=old.tick_due - old.tick,
    )


def ask(old: Record, now: int) -> Record | None:
    """Ask for one extra run, by any instance; refused while the task is running, held, or asked for already."""
    if old.holder is not None or old.holds or old.asked is not None:
        return None
    return stamped(old, now, asked=max(old.rev + 1, now))  # Two of one microsecond are two: it is a key in the ledger.


def _freed(old: Record, now: int, **changes: object) -> Record:
    return stamped(old, now, holder=None, until=None, suspect=False, started=None, manual=False, **changes)


# --- holds ---


def instance_of(key: str) -> str:
    """Return the instance to which the hold *key* belongs: its id comes before the first ``#``."""
    return key.partition("#")[0]


def scheduler_of(instance: str) -> str:
    """Return the scheduler of which *instance* is a life: the ids of its later ones have a ``-`` and a number more."""
    return instance.partition("-")[0]


def hold(old: Record, now: int, key: str, held: StoredHold) -> Record:
    """Let nobody claim the task from now on; a claim that stands goes on."""
    return stamped(old, now, holds={**old.holds, key: held})


def renew_hold(old: Record, now: int, key: str, ttl: int) -> Record | None:
    """Prolong the lease of a hold, which also answers a challenge."""
    held = old.holds.get(key)
    if held is None:
        return None
    return stamped(old, now, holds={**old.holds, key: replace(held, until=now + ttl, suspect=False)})


def unhold(old: Record, now: int, key: str) -> Record | None:
    """End a hold."""
    if key not in old.holds:
        return None
    return _with_holds(old, now, {other: held for other, held in old.holds.items() if other != key})


def _with_holds(old: Record, now: int, holds: Mapping[str, StoredHold]) -> Record:
    """Return *old* with fewer holds."""
    return stamped(old, now, holds=holds, kept_back=_kept_back(old, now, holds))


def _kept_back(old: Record, now: int, holds: Mapping[str, StoredHold]) -> str | None:
    """Return who has kept back a tick that is due, if the last hold goes."""
    if not old.holds or holds or old.due > now:
        return old.kept_back
    return ", ".join(_in_words(key, held) for key, held in sorted(old.holds.items()))[:WORDS]


def _in_words(key: str, held: StoredHold) -> str:
    where = f" on {scheduler_of(instance_of(key))}" if held.leased else ""  # A pause is nobody's, and says who made it.
    return f"{held.holder}{where} ({held.reason})" if held.reason else f"{held.holder}{where}"


def challenge_hold(old: Record, now: int, key: str, grace: int) -> Record | None:
    """Ask the instance of a hold whose lease is over to renew it within *grace*."""
    held = old.holds.get(key)
    if held is None or not held.leased or held.suspect or held.until is None or held.until >= now:
        return None
    return stamped(old, now, holds={**old.holds, key: replace(held, until=now + grace, suspect=True)})


def expire_hold(old: Record, now: int, key: str) -> Record | None:
    """Take a hold away that was not renewed after a challenge, or a pause whose time is over."""
    held = old.holds.get(key)
    if held is None or held.until is None or held.until >= now or (held.leased and not held.suspect):
        return None
    return unhold(old, now, key)
