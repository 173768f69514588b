"""Duty: renew the leases of claims and holds, and cancel what has outlived its lease, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from kaiju_app._core.clock import NEVER
from kaiju_app._core.logs import facts
from kaiju_app._engine.events import log
from kaiju_app.stores._answers import Renewed
from kaiju_app.stores._cas import anew, simply
from kaiju_app.stores._record import end_key
from kaiju_app.stores._recovery import take_back
from kaiju_app.stores._transitions import unhold

from .claim import Claim, OwnedHold, State
from .endings import Endings
from .holds import Holds
from .part import Part
from .registration import Registration
from .starter import Starter

AGAIN = 100_000  # A hold is put back as soon as there is a record again.
NEW = 4  # A lease newer than this part of the time between renewals is left to the next one: most runs are short.
MAX_WATCH_DELAY = 500_000  # The loop's timers stop while the machine sleeps; expired leases are seen this soon after.


@dataclass(eq=False, repr=False)
class Leases(Part):
    """The leases of this instance.

    Attributes:
        next_at: Steady time of the next renewal.
    """

    _registration: Registration
    _starter: Starter
    _holds: Holds
    _endings: Endings
    next_at: int = 0
    _timer: asyncio.TimerHandle | None = None
    _earliest: int = NEVER
    """No deadline comes before it, and most come later: the true one is found when it has come."""

    async def run(self) -> None:
        """Renew what is not new. With nothing to renew, too: the answer names claims whose own answer was lost."""
        client = self._client
        old = client.steady() + client.lease.ttl - client.lease.renew // NEW
        runs = {name: claim.fence for name, claim in self._own.claims.items() if claim.deadline <= old}
        keys: dict[str, set[str]] = {}
        for held in self._own.holds.values():
            keys.setdefault(held.name, set()).add(held.key)
        sent = client.steady()
        renewed = await client.call("renew", client.store.renew(client.me, runs, keys, client.lease.ttl))
        if renewed is None:
            return
        self.next_at = sent + client.lease.renew
        gone: list[Claim] = []
        for name, fence in runs.items():
            claim = self._own.claims.get(name)
            if claim is not None and claim.fence == fence and not self._on_renewed(claim, renewed, sent):
                gone.append(claim)
        holds_gone: list[OwnedHold] = []
        for held in list(self._own.holds.values()):
            if held.key in keys.get(held.name, ()):
                if (held.name, held.key) in renewed.holds:
                    held.deadline = sent + client.lease.ttl
                elif (held.name, held.key) not in renewed.own_holds:
                    holds_gone.append(held)
        own = {claim.key for claim in self._own.claims.values()} | runs.items()
        known = own | self._outbox.pending.keys() | self._endings.pending.keys()
        for key in renewed.own_claims:
            if key not in known:
                self._outbox.hand_back(key)
        self._holds.end_unknown(renewed.own_holds)
        if renewed.unwanted:
            await self._end_unwanted(renewed.unwanted)
        if gone:
            await self._take_back(gone)
        if holds_gone:
            await self._hold_again(holds_gone)
        if self._own.claims or self._own.holds:
            self.watch(sent + client.lease.ttl)

    async def _end_unwanted(self, names: Collection[str]) -> None:
        """Cancel the runs that somebody asks to end; say so if one may not be cancelled, by dropping the request."""
        seen = await self._client.call("scan", self._client.store.scan(sorted(names)))
        for record in () if seen is None else seen.records:
            claim = self._own.claims.get(record.name)
            asked = None if claim is None else record.holds.get(end_key(claim.fence))
            if claim is None or asked is None or claim.state is not State.STARTED:
                continue  # It is over, or has not begun: then it is cancelled soon after.
            why = f"cancelled by {asked.holder}: {asked.reason}" if asked.reason else f"cancelled by {asked.holder}"
            if not self._host.on_unwanted(claim, why):
                await self._client.change(record.name, simply(partial(unhold, key=end_key(claim.fence))))

    async def _take_back(self, gone: list[Claim]) -> None:
        """Put claims back that the store has lost. A run whose claim somebody took away is cancelled."""
        client, asked = self._client, self._client.steady()
        lease = client.lease
        back = {
            claim.name: anew(partial(take_back, claimed=claim.record, ttl=lease.ttl, grace=lease.grace))
            for claim in gone
        }
        answered = await client.call("change_each", client.store.change_each(back))
        for claim in gone:
            changed = (answered or {}).get(claim.name)
            if changed is not None and changed.done:
                claim.deadline = asked + lease.ttl
                log.warning(
                    "task %r: store %s has lost the claim with fence %d, whose run is going on; it has it again",
                    claim.name, client.store.name, claim.fence, extra=facts(claim.name, fence=claim.fence),
                )  # fmt: skip
                self._regain(claim)
            elif claim.state is State.STARTED:
                self._lose(claim)

    async def _hold_again(self, gone: list[OwnedHold]) -> None:
        """Put holds back that the store has lost. If a task may have run since, its suspension is lost."""
        asked = self._client.steady()
        answered = await self._holds.place_again(gone)
        for held in gone:
            changed = answered.get(held.name)
            if changed is not None and changed.old is None:  # As soon as there is a record.
                self._registration.restore([held.name])
                self.next_at = min(self.next_at, self._client.steady() + AGAIN)
            elif changed is not None and changed.new is not None and held.key in changed.new.holds:
                held.deadline = asked + self._client.lease.ttl
            else:
                self._holds.lose(held)

    def _on_renewed(self, claim: Claim, renewed: Renewed, sent: int) -> bool:
        """Take note of the answer about one claim; return False if the store does not have it."""
        if claim.name in renewed.runs:
            claim.deadline = sent + self._client.lease.ttl
            claim.held = claim.name in renewed.held_claims
            self._regain(claim)
            if claim.held and claim.state is State.CLAIMED:
                self._starter.give_back(claim)
            elif claim.held:
                self._endings.hurry()
        elif claim.key in renewed.own_claims:
            pass  # Somebody had locked the record. The lease is not lost, and not valid for any longer than before.
        elif claim.state is State.CLAIMED:
            self._starter.give_back(claim)
        elif claim.state is State.STARTED:
            return False
        return True

    def _regain(self, claim: Claim) -> None:
        if claim.lost:
            claim.lost = False
            self._host.on_lease_regained(claim)

    def watch(self, deadline: int) -> None:
        """Look at the deadlines by the steady time *deadline*, which is that of new or renewed leases."""
        if deadline < self._earliest:
            self._earliest = deadline
            self._set_timer()

    def check_deadlines(self) -> None:
        """Cancel what has outlived its lease. It may be called at any time, as often as one likes."""
        now = self._client.steady()
        if now < self._earliest:
            return
        for claim in list(self._own.claims.values()):
            if now >= claim.deadline and claim.state is State.CLAIMED:
                self._starter.give_back(claim)
            elif now >= claim.deadline and claim.state is State.STARTED:
                self._lose(claim)
        for held in list(self._own.holds.values()):
            if now >= held.deadline:
                self._holds.lose(held)
        claims = self._own.claims.values()
        deadlines = [claim.deadline for claim in claims if claim.state is not State.ENDING and not claim.lost]
        deadlines += [held.deadline for held in self._own.holds.values() if not held.lost]
        self._earliest = min(deadlines, default=NEVER)
        self._set_timer()

    def _set_timer(self) -> None:
        """Set the only timer of all deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._earliest < NEVER:
            delay = min(max(0, self._earliest - self._client.steady()), MAX_WATCH_DELAY)
            self._timer = asyncio.get_running_loop().call_later(delay / 1e6, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not (self._own.claims or self._own.holds):
            self._earliest = NEVER
        self.check_deadlines()
        if self._timer is None:
            self._set_timer()

    def _lose(self, claim: Claim) -> None:
        if not claim.lost:
            claim.lost = True
            self._host.on_lease_lost(claim)
