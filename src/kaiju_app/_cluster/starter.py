"""From a claim to its run: each claim starts when its tick is due, or is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from kaiju_app._core.clock import NEVER
from kaiju_app.errors import StoreUnavailable

from .claim import Claim, State
from .part import Part

MOST_AT_ONCE = 1_000  # Microseconds for which runs start one after the other before the loop does something else.
TIMER_SLACK = 1_000_000  # A claimed tick lies ahead by less than twice "ahead" and this, unless a clock was set back.


@dataclass(eq=False, repr=False)
class Starter(Part):
    """Starts the runs of claims, and gives back the claims that cannot start."""

    _coming: list[tuple[int, int, Claim]] = field(default_factory=list)
    """A heap: when the run of a claim starts, and a number that orders those that start together."""
    _number: int = 0
    _timer: asyncio.Handle | None = None
    _wakes_at: int = NEVER
    _expected: int = NEVER
    _set_at: int = 0
    """When the timer fires if nothing blocks the loop."""

    def is_too_late(self, claim: Claim, now: int) -> bool:
        """Return whether too little of the lease is left to start the run."""
        return now >= claim.deadline - self._client.lease.renew

    def restart_timers(self) -> None:
        """Find out again when each run starts, as the estimate of the store's clock has changed."""
        self._coming.clear()
        for claim in list(self._own.unstarted):
            self.start_in_time(claim)

    def start_in_time(self, claim: Claim) -> None:
        """Start the run of *claim* as soon as the store's clock surely shows that its tick is due."""
        now = self._client.steady()
        due = self._client.clock.when(claim.record.tick_due, now)
        if due is None or due - now > 2 * self._client.lease.ahead + TIMER_SLACK:
            self.give_back(claim)  # The store's clock was set back: other instances may know better.
            return
        self._own.unstarted[claim] = due
        self._number += 1
        heappush(self._coming, (due, self._number, claim))
        if due < self._wakes_at:
            self._wake_at(due, now)

    def _wake_at(self, due: int, now: int) -> None:
        """Set the only timer of all claims."""
        self._stop_timer()
        loop = asyncio.get_running_loop()
        self._wakes_at, self._expected, self._set_at = due, max(due, now), now
        if due <= now:
            self._timer = loop.call_soon(self._start_due)
        else:
            self._timer = loop.call_later((due - now) / 1e6, self._start_due)

    def _stop_timer(self) -> None:
        self._wakes_at = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_due(self) -> None:
        """Start the runs whose ticks are due; after a while the loop goes on with something else first."""
        self._stop_timer()
        begun = self._client.steady()
        self._host.on_late(begun - self._expected, self._set_at)
        try:
            while self._coming and self._coming[0][0] <= begun and self._client.steady() - begun < MOST_AT_ONCE:
                due, _, claim = heappop(self._coming)
                if self._own.unstarted.get(claim) == due:
                    self._start(claim)
        finally:
            if self._coming:
                self._wake_at(self._coming[0][0], self._client.steady())

    def _start(self, claim: Claim) -> None:
        if claim.state is not State.CLAIMED:
            return
        now = self._client.steady()
        shown = self._client.clock.at_least(now)
        may_start = not claim.held and self._host.may_start(claim.record)
        if self.is_too_late(claim, now) or not may_start:
            self.give_back(claim)
        elif shown is None or shown < claim.record.tick_due:
            self.start_in_time(claim)
        else:
            claim.state = State.STARTED
            self._own.unstarted.pop(claim, None)
            self._host.start(claim)

    def give_back(self, claim: Claim) -> None:
        """Return a claim whose run has not begun and never will."""
        claim.state = State.RETURNED
        self._own.unstarted.pop(claim, None)
        if not self._own.unstarted:
            self._coming.clear()
            self._stop_timer()
        if self._own.claims.get(claim.name) is claim:
            del self._own.claims[claim.name]
        self._outbox.hand_back(claim.key)

    async def give_back_unstarted(self, names: Sequence[str]) -> None:
        """Give back claims of tasks whose runs have not begun, so that a hold does not have to wait for them.

        Raises:
            StoreUnavailable: The store did not answer in time.
        """
        own = self._own.claims
        returned = [claim for name in names if (claim := own.get(name)) and claim.state is State.CLAIMED]
        for claim in returned:
            self.give_back(claim)
        try:
            async with asyncio.timeout(2 * self._client.lease.renew / 1e6):
                for claim in returned:
                    await self._outbox.until_sent(claim.key)
        except TimeoutError:
            what = f"claims of task {names[0]!r} could not be given back in time"
            raise StoreUnavailable(self._client.store.name, what) from None
