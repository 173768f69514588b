"""The interface of a store, with a default for each verb that an engine need not speed up."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from kaiju_app._core.ledger_query import LedgerQuery
from kaiju_app._core.validate import duration_us, integer
from kaiju_app.errors import InvalidArgument, StoreUnavailable, WrongState

from ._answers import ChangeResult, Claimed, FinishRequest, Instance, LedgerPage, Life, Renewed, Snapshot, lives_around
from ._cas import (
    AT_ONCE_AGAIN,
    MOST_CONFLICTS,
    Transition,
    by_name,
    claiming,
    ended_by,
    pause_us,
    prolonging,
    refusal,
    renewed,
)
from ._record import LedgerRow, TaskRecord
from ._selection import ClaimQuery, in_order, next_claim_at, select
from ._transitions import Refusal, is_expired, is_forgettable

ROWS_KEPT = 100  # Rows of the ledger for each task.
ROWS_AGE_S = 30 * 86_400  # Older rows go; the newest one of a task stays.
LIVES_KEPT = 1_000  # Of instances that are gone: one that crashes every ten seconds fills it in three hours.
AT_ONCE = 500  # Changes in one statement or transaction, for whose end other clients wait.


class Store(ABC):
    """A clock and a compare-and-set on one record for each task. Nothing else is trusted.

    1. Every change is a pure transition from the record that was read, and is applied only if that record is still
       stored. A client that comes second notices, and judges again.
    2. A claim needs a record that is due, free and not held. Its rev is the fencing token of the run, and larger than
       any before.
    3. An owner renews its lease while the body runs. An expired lease is challenged, and taken away only if the owner
       does not renew it within a grace period.
    4. A finish sets the next tick, frees the record and adds the rows in one step, and only for the current claim.
    5. Holds are in the same record, so no claim can get past one.

    Every method may raise StoreUnavailable. The caller then does not know the outcome, and must assume either.
    It may raise StoreRefused for values that it never accepts; nothing was changed then.
    Times are microseconds: durations, or instants on the clock of the store.

    Attributes:
        name: The name of the store in logs and errors.
        app: The set of instances that share the records.
        sees_deaths: ``dead()`` works.
        is_onlooker: Who uses it is none of the instances, and runs nothing.
        is_for_many: Several schedulers may use the same object.
        rows_kept: How many ledger rows of each task stay.
        rows_age: Microseconds after which a ledger row goes all the same, but for the newest one of its task.
    """

    name: str
    app: str = "default"
    sees_deaths = False
    is_for_many = False
    is_onlooker = False
    rows_kept = ROWS_KEPT
    rows_age = ROWS_AGE_S * 1_000_000

    _lent: tuple[object, asyncio.AbstractEventLoop] | None = None

    def keep_rows(self, history: int, history_age_s: float | timedelta) -> None:
        """Set how many rows of each task stay, and for how long.

        Raises:
            InvalidArgument: *history* is not an integer of at least 1, or *history_age_s* not a positive duration.
        """
        self.rows_kept = integer("history", history, at_least=1)
        self.rows_age = duration_us("history_age_s", history_age_s)
        if not self.rows_age:
            raise InvalidArgument("history_age_s", history_age_s, "must be more than 0 seconds")

    def look_only(self) -> None:  # noqa: B027  A store in memory has nothing to make.
        """Have ``open()`` make and change no files and no tables: it refuses a place that no instance has prepared."""

    @abstractmethod
    async def open(self) -> None:
        """Open the store; does nothing if it is open.

        If it cannot be reached, this raises, and the store is open all the same: each call tries again to reach it.
        The same holds if the caller stops waiting.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release all resources; does nothing if it is closed."""

    def acquire(self, user: object) -> None:
        """Reserve this object for *user* until it is released or the loop of *user* is closed.

        Raises:
            InvalidArgument: Another user has it: the first to stop would close it for both.
        """
        user_now, home = self._lent or (user, None)
        if user_now is not user and home is not None and not home.is_closed() and not self.is_for_many:
            rule = "must not be in use by another started scheduler: give each one an object of its own, of one address"
            raise InvalidArgument("store", self.name, rule)
        self._lent = user, asyncio.get_running_loop()

    def release(self, user: object) -> None:
        """End the reservation of *user*, if there is one."""
        if self._lent is not None and self._lent[0] is user:
            self._lent = None

    @abstractmethod
    async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
        """Return the records with these *names*, or all.

        Args:
            only_active: Return only those that are claimed or held.
        """

    @abstractmethod
    async def swap(self, old: TaskRecord | None, new: TaskRecord | None, rows: Sequence[LedgerRow] = ()) -> bool:
        """Replace *old* by *new* and add *rows*, if the rev of *old* is still stored; otherwise do nothing.

        Args:
            old: None if there must be no record yet.
            new: None to delete the record.
            rows: A row whose key exists is left as it is.
        """

    @abstractmethod
    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when something may have changed, or after *timeout_s*. This is a hint, and may be wrong either way."""

    @abstractmethod
    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the latest rows of a task, at most *limit*, newest last."""

    @abstractmethod
    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for, found by an index: no others are read, but those of its one task."""

    @abstractmethod
    async def delete_history(self, name: str) -> int:
        """Delete all rows of a task; return how many there were."""

    @abstractmethod
    async def heartbeat(self, me: str, info: str, ttl: int) -> list[Instance]:
        """Record that the instance *me* lives; return those with a heartbeat within *ttl*, ordered by id.

        For people and for partitions: no safety depends on it.
        """

    @abstractmethod
    async def instances(self, ttl: int) -> list[Instance]:
        """Return the instances with a heartbeat within *ttl*, ordered by id. It records nothing."""

    @abstractmethod
    async def lives(self) -> list[Life]:
        """Return from when to when instances were heard of, those that are gone too, by the time they were last.

        Each has its note with it.
        """

    @abstractmethod
    async def note(self, me: str, text: str) -> bool:
        """Keep with the life of *me* what has happened to it, as JSON text, in place of what was kept; return True."""

    @abstractmethod
    async def deregister(self, me: str) -> None:
        """Record that the instance *me* has left, so that no other one leaves tasks to it."""

    @abstractmethod
    async def prune(self, *, keep: int, age: int) -> int:
        """Delete old rows of the ledger, and old instances and their lives; return how many rows were deleted.

        Args:
            keep: How many of the newest rows of each task stay; the newest one always does.
            age: Microseconds after which a row is deleted all the same, and an instance without a heartbeat.
        """

    # --- verbs with a default; faster engines need one round trip for each ---

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply transitions to the records of their names, independently: to thousands in few round trips.

        A record that another client has locked is not waited for, and is missing in the answer.
        """
        names = sorted(transitions)
        changed: dict[str, ChangeResult] = {}
        for start in range(0, len(names), AT_ONCE):
            changed |= await self._change_some({name: transitions[name] for name in names[start : start + AT_ONCE]})
        return changed

    async def _change_some(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        """Apply some transitions, in the order of their names."""
        seen = await self.scan(transitions.keys())
        found = {record.name: record for record in seen.records}
        return {name: await self._settle(name, found.get(name), seen.now, each) for name, each in transitions.items()}

    async def claim(self, query: ClaimQuery) -> Claimed:
        """Claim what is due, oldest first."""
        seen = await self.scan()
        claimed: list[TaskRecord] = []
        for record in select(seen.records, seen.now, query):
            changed = await self._settle(record.name, record, seen.now, claiming(query, record.name))
            if changed.new is not None:
                claimed.append(changed.new)
        return Claimed(
            seen.now,
            in_order(claimed),
            next_claim_at(seen.records, seen.now, query, claimed),
            [record for record in seen.records if is_expired(record, seen.now)],
            sorted(set(query.names).difference(record.name for record in seen.records)),
        )

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        """Extend the leases of an instance.

        Args:
            runs: The fence of each of its runs, by task.
            holds: The keys of its holds, by task.
        """
        seen = await self.scan(only_active=True)
        found = {record.name: record for record in seen.records}
        after: dict[str, TaskRecord] = {}
        for name in sorted(runs.keys() | holds.keys()):
            prolong = prolonging(me, runs.get(name), holds.get(name, ()), ttl)
            changed = await self._settle(name, found.get(name), seen.now, prolong)
            if changed.new is not None:
                after[name] = changed.new
        mine = [(record.name, record.fence) for record in seen.records if record.owner == me]
        return renewed(seen.now, me, runs, holds, after, mine, seen.records)

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        """End the ticks of claims; return for each why it was refused, or None.

        A record that another client has locked is not waited for: its answer is BUSY.
        """
        seen = await self.scan({ending.name for ending in endings})
        found: dict[str, TaskRecord | None] = {record.name: record for record in seen.records}
        answers: dict[int, Refusal | None] = {}
        for place, ending in by_name(endings):
            changed = await self._settle(ending.name, found.get(ending.name), seen.now, ended_by(me, ending))
            found[ending.name] = changed.new if changed.done else changed.old
            answers[place] = None if changed.done else refusal(changed.old, changed.now, me, ending)
        return [answers[place] for place in range(len(endings))]

    async def forgettable(self, unseen_for: int, limit: int) -> list[str]:
        """Return tasks that no instance has known for longer than *unseen_for*, and that none runs or holds."""
        seen = await self.scan()
        return [record.name for record in seen.records if is_forgettable(record, seen.now, unseen_for)][:limit]

    async def lives_near(self, since: int, until: int) -> list[Life]:
        """Return from when to when instances were heard of, by the time they were last, around a span of time.

        Those that were heard of in it, the last one before it and the first one after it. Others are not read.
        """
        return lives_around(await self.lives(), since, until)

    async def guard(self, connection: object, claimed: TaskRecord) -> bool:
        """Lock the record of a claim until the user's transaction ends; return whether the claim still stands.

        Raises:
            InvalidArgument: *connection* is not in a transaction on this store.
            WrongState: This store has no transactions.
        """
        raise WrongState(
            f"store {self.name!r} is no database that a transaction could be part of: keep current_run().fence beside "
            "what is written, and refuse there what comes with a lower one"
        )

    async def dead(self) -> frozenset[str]:
        """Return the instances that are dead for certain; none if the store cannot know."""
        return frozenset()

    async def _settle(self, name: str, old: TaskRecord | None, now: int, transition: Transition) -> ChangeResult:
        """Apply *transition* to *old*, or to the record that has replaced it."""
        for conflicts in range(MOST_CONFLICTS):
            wanted = transition(old, now)
            if wanted is None:
                return ChangeResult(now, old, None, done=False)
            new, rows = wanted
            if await self.swap(old, new, rows):
                return ChangeResult(now, old, new, done=True)
            if conflicts >= AT_ONCE_AGAIN:
                await asyncio.sleep(pause_us(f"{old and old.rev}", conflicts) / 1e6)
            seen = await self.scan([name])
            old, now = _only(seen), seen.now
        raise StoreUnavailable(self.name, f"{MOST_CONFLICTS} changes of task {name!r} in a row were refused")


def _only(seen: Snapshot) -> TaskRecord | None:
    return seen.records[0] if seen.records else None
