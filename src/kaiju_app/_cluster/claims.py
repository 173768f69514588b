"""Duty: claim the ticks that are due, or soon will be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from kaiju_app.stores._cas import simply
from kaiju_app.stores._record import NextTick, TaskRecord
from kaiju_app.stores._selection import EVERYBODY, LEAD, ClaimQuery, Partition
from kaiju_app.stores._transitions import claim as claimed_by

from .claim import Claim, State
from .heartbeat import Heartbeat
from .part import Part
from .registration import Registration
from .starter import Starter
from .store_client import do_nothing
from .takeover import Takeover

BATCH_DELAY = 50_000  # Calls wait this long for company: half the statements, above some twenty runs a second.
MAX_PENDING_CLAIMS = 2_000  # Claimed but not started; more could not start in time. Running claims are not limited.
SKIPPED_FOR = 60_000_000  # A task that cannot run here now may be registered or changed later.
MAX_PAUSE_ROUNDING = 1_000  # A pause is over by the store's clock at most this much later than by the steady clock.


@dataclass(eq=False, repr=False)
class Claims(Part):
    """Claims ticks for this instance, and keeps those that it may run.

    Attributes:
        wanted_here: Tasks whose extra run this instance claims although it is disabled here: nobody else may want it.
        on_accepted: Called with the deadline of each claim that was accepted.
        next_at: Steady time of the next claim.
    """

    _heartbeat: Heartbeat
    _takeover: Takeover
    _registration: Registration
    _starter: Starter
    _wake: Callable[[], None]
    wanted_here: set[str] = field(default_factory=set)
    on_accepted: Callable[[int], None] = do_nothing
    next_at: int = 0
    _claimed_at: int = 0
    _skipped: dict[str, int] = field(default_factory=dict)
    """By name, the steady time until which a task is left to other instances."""
    _pause_ends: set[int] = field(default_factory=set)
    """Steady times at which pauses end that this instance has made: then there is something to claim again."""
    _on_time_only: set[str] = field(default_factory=set)
    _coming: ClaimQuery = field(init=False)
    """By what this instance knows when to claim a tick: a question without names."""
    _for_all: bool = False

    def __post_init__(self) -> None:
        self._coming = self._query((), 0, self._client.lease.ahead, self._heartbeat.partition)

    # --- what is claimed, and when ---

    def claim_by(self, steady: int) -> None:
        """Claim at that steady time at the latest."""
        self.next_at = min(self.next_at, steady)

    def poll_now(self) -> None:
        """Claim what is due without waiting for the next poll."""
        self.claim_by(0)
        self._wake()

    def poll_for_all(self) -> None:
        """Claim what is due, including the tasks that other instances would claim first."""
        self._for_all = True
        self.claim_by(0)

    def on_hint(self) -> None:
        """Claim soon, as the store has changed; not at each change, as a claim takes all that is due until the next."""
        self.claim_by(self._claimed_at + max(self._client.lease.ahead - LEAD, BATCH_DELAY))
        self._wake()

    def on_pause(self, length: int) -> None:
        """Claim again when a pause of *length* microseconds, made now, is over."""
        end = self._client.steady() + length + MAX_PAUSE_ROUNDING
        self._pause_ends.add(end)
        self.claim_by(end)
        self._wake()

    def on_finished(self, followings: Iterable[tuple[str, NextTick | None]]) -> None:
        """Claim in time the ticks that follow finished runs, by the names of their tasks; None: that is not known."""
        if self._coming.partition is not self._heartbeat.partition:
            self._coming = self._query((), 0, self._client.lease.ahead, self._heartbeat.partition)
        claim_at = self._coming.claim_at
        due = min((0 if coming is None else claim_at(name, coming.due) for name, coming in followings), default=None)
        if due is not None:
            self.claim_by(self._client.clock.when(due, self._client.steady()) or 0)

    def admit(self, name: str) -> None:
        """Claim a task from now on."""
        self._skipped.pop(name, None)
        if self._host.claims_on_time_only(name):
            self._on_time_only.add(name)
        else:
            self._on_time_only.discard(name)

    def reconsider(self, name: str, *, give_up: bool) -> None:
        """Claim a task again though it could not run here before, or give up what was claimed of it."""
        self._skipped.pop(name, None)
        claim = self._own.claims.get(name)
        if give_up and claim is not None and claim.state is State.CLAIMED:
            self._starter.give_back(claim)
        self.poll_now()

    async def run(self) -> None:
        """Claim what is due."""
        client, lease = self._client, self._client.lease
        self._claimed_at = now = client.steady()
        self._skipped = {name: until for name, until in self._skipped.items() if until > now}
        await self._claim_wanted_here()
        room = MAX_PENDING_CLAIMS - len(self._own.unstarted)
        self.next_at = now + (lease.poll if room > 0 else BATCH_DELAY)
        self._pause_ends = {end for end in self._pause_ends if end > now}
        self.claim_by(min(self._pause_ends, default=self.next_at))
        if room <= 0:
            return
        partition, self._for_all = EVERYBODY if self._for_all else self._heartbeat.partition, False
        names = self._host.claimable() - self._skipped.keys()
        ahead = lease.ahead if client.clock.is_fresh(now, 3 * lease.renew) else 0
        query = self._query(names, room, ahead, partition)
        sent = client.steady()
        claimed = await client.call("claim", client.store.claim(query))
        if claimed is None:
            return
        if self._registration.restore(claimed.missing):
            self.on_pause(lease.grace + BATCH_DELAY)
        elif claimed.missing:
            self.claim_by(now + BATCH_DELAY)  # They are registered some at a time.
        self._registration.seen_at = claimed.now
        held = {each.name for each in self._own.holds.values()}
        for record in claimed.records:
            self._accept(record, sent, held)
        if claimed.next_claim_at is not None:
            due = client.clock.when(claimed.next_claim_at, client.steady())
            # Never at once, whatever the store says: a due task that cannot be claimed would keep the loop busy.
            self.claim_by(max(due or self.next_at, now + BATCH_DELAY))
        if len(claimed.records) == room:
            self.claim_by(0)
        await self._takeover.observe(claimed.expired, claimed.now)

    def _query(self, names: Collection[str], limit: int, ahead: int, partition: Partition) -> ClaimQuery:
        return ClaimQuery(
            self._client.me, names, self._client.lease.ttl, limit, ahead, partition, not_ahead=self._on_time_only
        )

    async def _claim_wanted_here(self) -> None:
        client = self._client
        for name in self.wanted_here - self._own.claims.keys():
            extra = simply(lambda old, now: claimed_by(old, now, client.me, client.lease.ttl, extra=True))
            sent = client.steady()
            changed = await client.change(name, extra)
            if changed is not None and changed.new is not None:
                self._accept(changed.new, sent, {each.name for each in self._own.holds.values()})

    # --- from a claim to its run ---

    def _accept(self, record: TaskRecord, sent: int, held: Collection[str]) -> None:
        """Keep a claim until its tick is due, or give it back if it cannot run here.

        Args:
            held: Tasks that this instance holds.
        """
        claim = Claim(record, sent + self._client.lease.ttl, self._client.store)
        now = self._client.steady()
        if not self._host.can_run(record):
            self._skipped[claim.name] = now + SKIPPED_FOR
            self._starter.give_back(claim)
        elif self._host.is_stale(record):
            self._registration.restore([claim.name])
            self.on_pause(self._client.lease.grace + BATCH_DELAY)
            self._skipped[claim.name] = now + BATCH_DELAY
            self._starter.give_back(claim)
        elif claim.name in held or not self._may_keep(claim, now):
            self._skipped[claim.name] = now + self._client.lease.poll  # Or it would be claimed again at once, forever.
            self._starter.give_back(claim)
        else:
            self._registration.on_record(record)
            self._own.claims[claim.name] = claim
            self.on_accepted(claim.deadline)
            self._starter.start_in_time(claim)

    def _may_keep(self, claim: Claim, now: int) -> bool:
        is_busy = claim.name in self._own.claims  # A body that has lost its lease and is not over yet.
        is_unwanted = self._own.closing or self._outbox.is_returned(claim.key) or is_busy
        return not is_unwanted and self._host.may_start(claim.record) and not self._starter.is_too_late(claim, now)
