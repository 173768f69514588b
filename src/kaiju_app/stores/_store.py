"""What an instance may ask of a store, and what it is answered."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from kaiju_app.errors import InvalidArgument, StoreUnavailable, WrongState

from ._record import Coming, Record, Row
from ._transitions import Refusal, claim, finish, instance_of, is_active, is_due, is_mine, is_stale, renew, renew_hold

# A change is tried again each time somebody else was faster. So many in a row are no competition, but a store that
# refuses everything.
MOST_CONFLICTS = 100
# After more conflicts a pause comes first: another one for everybody, as two may go in lockstep; and longer each time,
# as the record may be locked. All together some two seconds.
AT_ONCE_AGAIN = 3
PAUSE = 1_000
LEAD = 100_000  # Claims come in rounds: each round takes what is due until the next one, and a little more.

Transition = Callable[[Record | None, int], tuple[Record | None, Sequence[Row]] | None]
"""From a record, None if there is none, and the store's time to what replaces it, None to delete it, and the rows that
come with it; or to None: refused. Pure: it is asked again after every conflict, in whatever
thread the store works."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is in a store: its clock at the read, and records in the order of their names."""

    now: int
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a change.

    Attributes:
        old: The record that it was judged by.
        new: The record that replaced it; None if it was refused, or if the record was deleted.
        done: It was not refused.
    """

    now: int
    old: Record | None
    new: Record | None
    done: bool


@dataclass(frozen=True, slots=True)
class Share:
    """Which tasks are rather an instance's own: a hint that spares useless races. If it is wrong, runs are late.

    Attributes:
        n: Instances that live.
        rank: This one's number among them, from 0.
        patience: Microseconds after which a tick that is due is anybody's.
    """

    n: int
    rank: int
    patience: int

    def is_own(self, name: str) -> bool:
        """Return whether this instance is the first that should claim the task."""
        return crc32(name.encode()) % self.n == self.rank


EVERYBODY = Share(1, 0, 0)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a round of claims brought.

    Attributes:
        now: The store's clock, read as late as it can be: runs are late by what lies between that and the answer.
        records: Those claimed now, in the order of their ticks.
        claimable: When it is time to claim the next of the other tasks that are free, not held and not skipped; None:
            there is none. Those that are left because of the limit do not count.
        stale: Those of all records that somebody should look at: the lease of a run or of a hold, or a pause, is over.
    """

    now: int
    records: list[Record]
    claimable: int | None
    stale: list[Record]


@dataclass(frozen=True, slots=True)
class Renewed:
    """What an instance still has.

    A record that somebody has locked at that moment is not waited for: what it has is not renewed, and not lost either.

    Attributes:
        runs: The names of its runs that were renewed.
        holds: The name of the task and the key of each of its holds that was renewed.
        mine: Name and fence of every claim that the store knows as the instance's.
        held: The names of its runs that somebody wants to be over: their tasks have holds.
        own: The name of the task and the key of every hold that the store knows as the instance's.
    """

    now: int
    runs: set[str]
    holds: set[tuple[str, str]]
    mine: list[tuple[str, int]]
    held: set[str]
    own: set[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How the tick of a claim ends.

    Attributes:
        tick: The tick.
        spec: The rule by which ``following`` was found.
        following: The tick that is due next; None for an extra run.
        rows: The row of the run, and the one of the ticks strictly between.
    """

    name: str
    fence: int
    tick: int
    spec: str
    following: Coming | None
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that was heard of: when, and what it said about itself, as JSON text."""

    id: str
    info: str
    seen: int


class Store(ABC):
    """A clock and a compare-and-set on one record for each task. Nothing else is trusted.

    1. Every change is a pure transition from the record that was read, and takes place only if that record is still the
       stored one: whoever comes second finds out, and judges anew.
    2. A claim needs a record that is due, free and not held; its rev is the run's fence, and larger than any before.
    3. A holder renews its lease while the body runs; one whose lease is over is challenged, and loses the claim only if
       it does not answer for a grace.
    4. A finish sets the next tick, frees the record and keeps the rows, all at once; only of the claim that stands.
    5. A hold is in the same record, so that no claim can pass it.

    Every method may raise StoreUnavailable; the caller then knows nothing about the outcome and must assume either.
    Times are microseconds: durations, or instants on the clock of the store.

    Attributes:
        name: What the store is called in logs and errors.
        app: The set of instances that share the records.
        sees_deaths: ``dead()`` can tell.
        is_for_many: Several schedulers may have the same object.
    """

    name: str
    app: str = "default"
    sees_deaths = False
    is_for_many = False

    _lent: tuple[object, asyncio.AbstractEventLoop] | None = None

    @abstractmethod
    async def open(self) -> None:
        """Get ready; without effect on a store that is open.

        One that cannot be reached says so, and is open all the same: each call tries again to reach it. So is one whose
        caller has given up waiting.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything; without effect on a store that is closed."""

    def lend(self, user: object) -> None:
        """Be *user*'s until it gives this object back, or its loop is closed.

        Raises:
            InvalidArgument: Another one has it: whoever stops first would close it for both.
        """
        user_now, home = self._lent or (user, None)
        if user_now is not user and home is not None and not home.is_closed() and not self.is_for_many:
            rule = "must not be in use by another started scheduler: give each one an object of its own, of one address"
            raise InvalidArgument("store", self.name, rule)
        self._lent = user, asyncio.get_running_loop()

    def take_back(self, user: object) -> None:
        """Be nobody's any more, if *user* has this object."""
        if self._lent is not None and self._lent[0] is user:
            self._lent = None

    @abstractmethod
    async def scan(self, names: Collection[str] | None = None, *, active: bool = False) -> Seen:
        """Return the records of *names*; None: all.

        Args:
            active: Only those that are claimed, held, asked for or due.
        """

    @abstractmethod
    async def swap(self, old: Record | None, new: Record | None, rows: Sequence[Row] = ()) -> bool:
        """Replace *old* by *new* and keep *rows*, if the rev of *old* is still the stored one; otherwise do nothing.

        Args:
            old: None: there must be no record yet.
            new: None: the record is deleted.
            rows: One whose key exists already is left as it is.
        """

    @abstractmethod
    async def wait(self, timeout_s: float) -> None:
        """Return when something may have changed, or after *timeout_s*: a hint, it may be wrong either way."""

    @abstractmethod
    async def history(self, name: str, limit: int) -> list[Row]:
        """Return the last rows of a task, at most *limit*, newest last."""

    @abstractmethod
    async def beat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Say that the instance *me* lives; return those heard of within *ttl*, in the order of their ids.

        For people and for the fair share: nothing that has to be safe is decided by it.
        """

    @abstractmethod
    async def leave(self, me: str) -> None:
        """Say that the instance *me* is gone, so that nobody leaves anything to it."""

    @abstractmethod
    async def tidy(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger; return how many went.

        Args:
            keep: Rows of each task that stay, the newest; the very newest always does.
            age: Microseconds after which a row goes all the same, and an instance that nobody has heard of since.
        """

    # --- what follows has the same effect however an engine does it; faster ones do it in one round trip ---

    async def change(self, name: str, transition: Transition) -> Changed:
        """Apply *transition* to one record."""
        seen = await self.scan([name])
        return await self._settle(name, _only(seen), seen.now, transition)

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, Changed]:
        """Apply transitions to the records of their names, each by itself: to thousands in few round trips.

        One whose record somebody has locked is not waited for: it is not in the answer.
        """
        seen = await self.scan(transitions.keys())
        found = {record.name: record for record in seen.records}
        return {
            name: await self._settle(name, found.get(name), seen.now, transitions[name]) for name in sorted(transitions)
        }

    async def claim(
        self,
        me: str,
        *,
        ttl: int,
        limit: int,
        ahead: int = 0,
        skip: Collection[str] = frozenset(),
        share: Share | None = None,
        punctual: Collection[str] = frozenset(),
    ) -> Claimed:
        """Claim what is due, oldest first.

        Args:
            limit: Most claims.
            ahead: How long before a tick it may be claimed.
            skip: Names that are left to others.
            share: What lies ahead is left to those whose own it is, and what is due already for a while, too; except
                extra runs that somebody asked for.
            punctual: Names that are not claimed before their tick, whatever *ahead* says.
        """
        seen = await self.scan()
        candidates = chosen(seen.records, seen.now, limit, ahead, skip, share, punctual)
        claimed: list[Record] = []
        for record, reach in candidates:
            changed = await self._settle(record.name, record, seen.now, claiming(me, ttl, reach))
            if changed.new is not None:
                claimed.append(changed.new)
        return Claimed(
            seen.now,
            in_order(claimed),
            claimable(seen.records, seen.now, ahead, {*skip, *(record.name for record in claimed)}, share, punctual),
            [record for record in seen.records if is_stale(record, seen.now)],
        )

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Prolong the leases of an instance.

        Args:
            runs: The fence of each of its runs, by name.
            holds: The keys of its holds, by name.
        """
        seen = await self.scan(active=True)
        found = {record.name: record for record in seen.records}
        after: dict[str, Record] = {}
        for name in sorted(runs.keys() | holds.keys()):
            prolong = prolonging(me, runs.get(name), holds.get(name, ()), ttl)
            changed = await self._settle(name, found.get(name), seen.now, prolong)
            if changed.new is not None:
                after[name] = changed.new
        mine = [(record.name, record.fence) for record in seen.records if record.holder == me]
        return renewed(seen.now, me, runs, holds, after, mine, seen.records)

    async def finish(self, me: str, endings: Sequence[Ending]) -> list[Refusal | None]:
        """End the ticks of claims; return for each ending why it was refused, or None.

        One whose record somebody has locked at that moment is not waited for: it is BUSY.
        """
        seen = await self.scan({ending.name for ending in endings})
        found: dict[str, Record | None] = {record.name: record for record in seen.records}
        answers: dict[int, Refusal | None] = {}
        for place, ending in by_name(endings):
            changed = await self._settle(ending.name, found.get(ending.name), seen.now, ended_by(me, ending))
            found[ending.name] = changed.new if changed.done else changed.old
            answers[place] = None if changed.done else refusal(changed.old, changed.now, me, ending)
        return [answers[place] for place in range(len(endings))]

    async def guard(self, connection: object, claimed: Record) -> bool:
        """Keep the record of a claim as it is until a transaction of the user's is over; return whether it stands.

        Raises:
            InvalidArgument: *connection* is not in a transaction on this store.
            WrongState: Nobody can have one on this store.
        """
        raise WrongState(
            f"store {self.name!r} is no database that a transaction could be part of: keep current_run().fence beside "
            "what is written, and refuse there what comes with a lower one"
        )

    async def dead(self) -> frozenset[str]:
        """Return instances that are dead for certain; a store that cannot tell returns none."""
        return frozenset()

    async def _settle(self, name: str, old: Record | None, now: int, transition: Transition) -> Changed:
        """Apply *transition* to *old*, or to what is there instead meanwhile."""
        for conflicts in range(MOST_CONFLICTS):
            wanted = transition(old, now)
            if wanted is None:
                return Changed(now, old, None, done=False)
            new, rows = wanted
            if await self.swap(old, new, rows):
                return Changed(now, old, new, done=True)
            if conflicts >= AT_ONCE_AGAIN:
                await asyncio.sleep(pause_us(f"{old and old.rev}", conflicts) / 1e6)
            seen = await self.scan([name])
            old, now = _only(seen), seen.now
        raise StoreUnavailable(self.name, f"{MOST_CONFLICTS} changes of task {name!r} in a row were refused")


def pause_us(who: str, conflicts: int) -> int:
    """Return how long *who* waits before it tries again: others, who are in its way, for another time."""
    return crc32(f"{who} {conflicts}".encode()) % (PAUSE * conflicts)


def _only(seen: Seen) -> Record | None:
    return seen.records[0] if seen.records else None


# --- the transitions, as an instance wants them ---


def claiming(me: str, ttl: int, reach: int) -> Transition:
    """Return the transition that claims a record."""

    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = None if old is None else claim(old, now, me, ttl, reach)
        return None if new is None else (new, ())

    return transition


def prolonging(me: str, fence: int | None, keys: Collection[str], ttl: int) -> Transition:
    """Return the transition that renews a run and holds of one task, as far as they are still there."""

    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = old
        if new is not None and fence is not None:
            new = renew(new, now, me, fence, ttl) or new
        for key in sorted(keys):
            if new is not None:
                new = renew_hold(new, now, key, ttl) or new
        if old is None or new is None or new is old:
            return None
        return replace(new, rev=max(old.rev + 1, now)), ()  # One write, however much it prolongs.

    return transition


def ended_by(me: str, ending: Ending) -> Transition:
    """Return the transition that finishes a claim."""

    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = None if old is None else finish(old, now, me, ending.fence, ending.tick, ending.spec, ending.following)
        return (new, ending.rows) if isinstance(new, Record) else None

    return transition


# --- answers, as they follow from records ---


def chosen(
    records: Iterable[Record],
    now: int,
    limit: int,
    ahead: int,
    skip: Collection[str],
    share: Share | None,
    punctual: Collection[str],
) -> list[tuple[Record, int]]:
    """Return what to claim, by name, each with how far ahead its tick may be: below 0, it has to be overdue."""
    due = []
    for record in records:
        reach = reach_of(record.name, ahead_of(record.name, ahead, punctual), share)
        if record.name not in skip and is_due(record, now, reach):
            tick = record.asked if record.asked is not None and record.due > now + reach else record.due
            due.append((tick, record.name, record, reach))
    first = sorted(due, key=lambda each: each[:2])[: max(limit, 0)]
    return sorted(((record, reach) for _, _, record, reach in first), key=lambda each: each[0].name)


def ahead_of(name: str, ahead: int, punctual: Collection[str]) -> int:
    """Return how long before a tick whoever's own the task is may claim it."""
    return 0 if name in punctual else ahead


def reach_of(name: str, ahead: int, share: Share | None) -> int:
    """Return how far ahead a tick of the task may be claimed; below 0: how long it has to be overdue."""
    return ahead if share is None or share.is_own(name) else -share.patience


def claim_at(name: str, due: int, ahead: int, share: Share | None) -> int:
    """Return when it is time to claim a tick: one that is rather others' when it is anybody's."""
    return due - min(reach_of(name, ahead, share), lead_of(ahead))


def lead_of(ahead: int) -> int:
    """Return how long before it is due an own tick is claimed at the latest, with all that may be claimed then."""
    return min(ahead, LEAD)


def claimable(
    records: Iterable[Record],
    now: int,
    ahead: int,
    skip: Collection[str],
    share: Share | None,
    punctual: Collection[str],
) -> int | None:
    """Return when it is time to claim the first of those that may not be claimed yet."""
    coming = [
        claim_at(record.name, record.due, own, share)
        for record in records
        if record.holder is None and not record.holds and record.name not in skip
        if record.due > now + reach_of(record.name, own := ahead_of(record.name, ahead, punctual), share)
    ]
    return min(coming, default=None)


def in_order(claimed: Iterable[Record]) -> list[Record]:
    """Return claims in the order of their ticks."""
    return sorted(claimed, key=lambda record: (record.tick, record.name))


def renewed(
    now: int,
    me: str,
    runs: Mapping[str, int],
    holds: Mapping[str, Collection[str]],
    after: Mapping[str, Record],
    mine: Iterable[tuple[str, int]],
    held: Iterable[Record],
) -> Renewed:
    """Return what an instance still has, by the records *after* its renewals; *held*: all that have holds."""
    kept = {name for name, fence in runs.items() if name in after and is_mine(after[name], me, fence)}
    return Renewed(
        now,
        kept,
        {(name, key) for name, keys in holds.items() for key in keys if name in after and key in after[name].holds},
        sorted(mine),
        {name for name in kept if after[name].holds},
        {(record.name, key) for record in held for key in record.holds if instance_of(key) == me},
    )


def by_name(endings: Sequence[Ending]) -> list[tuple[int, Ending]]:
    """Return endings with their places, by name: who locks several records does it in one order."""
    return sorted(enumerate(endings), key=lambda each: (each[1].name, each[1].fence))


def refusal(old: Record | None, now: int, me: str, ending: Ending) -> Refusal:
    """Return why an ending was refused by the record *old*."""
    if old is None:
        return Refusal.LOST
    found = finish(old, now, me, ending.fence, ending.tick, ending.spec, ending.following)
    return found if isinstance(found, Refusal) else Refusal.LOST


def active(records: Iterable[Record], now: int) -> list[Record]:
    """Return those that somebody may have to act on."""
    return [record for record in records if is_active(record, now)]
