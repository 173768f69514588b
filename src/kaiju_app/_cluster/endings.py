"""Duty: tell the store how runs have ended, and what follows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kaiju_app._core.clock import NEVER
from kaiju_app._core.logs import facts
from kaiju_app._engine.events import log
from kaiju_app.errors import StoreRefused
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._cas import anew, simply
from kaiju_app.stores._record import LedgerRow, NextTick
from kaiju_app.stores._recovery import end_lost
from kaiju_app.stores._transitions import Refusal, release

from .claim import Claim, Key, State
from .claims import BATCH_DELAY, Claims
from .part import Part
from .refused_endings import tell, without_texts
from .starter import Starter
from .store_client import REFUSED_RETRY

FAR_DELAY = 2 * BATCH_DELAY
MOST_AT_ONCE = 2_000  # Endings in one call. All that wait go together, or the next ticks of their tasks would be late.


@dataclass(eq=False, repr=False)
class Endings(Part):
    """The endings of runs; each is sent until it is accepted or refused.

    After a call that failed, half as many endings go into the next one, so that one that the store does not accept, or
    that takes it too long, is soon sent alone and keeps no other from being told. See also ``without_texts()``.

    Attributes:
        pending: The endings that the store has not acknowledged yet, by their claims.
    """

    _claims: Claims
    _starter: Starter
    _wake: Callable[[], None]
    pending: dict[Key, FinishRequest] = field(default_factory=dict)
    _send_at: int = 0
    _hurried: bool = False
    """Whether somebody has asked for haste since the last call began."""
    _most: int = MOST_AT_ONCE
    _not_before: dict[Key, int] = field(default_factory=dict)
    """Steady times before which endings that the store does not accept are not sent again."""

    def ended(self, claim: Claim, ending: FinishRequest) -> None:
        """Take note that the run of *claim* is over, and how its tick ends."""
        claim.state = State.ENDING
        send_at = self._client.steady() + self._delay(ending)
        is_sooner = send_at < self._send_at or len(self.pending) == len(self._not_before)
        if is_sooner:
            self._send_at = send_at
        self.pending[claim.key] = ending
        if is_urgent := claim.held or self._own.closing:
            self.hurry()
        if is_sooner or is_urgent:  # Otherwise they are sent with those that wait already.
            self._wake()

    def _delay(self, ending: FinishRequest) -> int:
        """Return how long an ending waits for company: longer if nobody can claim the next tick for a while."""
        following, rows = ending.following, ending.rows
        if following is None or not rows:
            return BATCH_DELAY
        is_far = following.due - rows[-1].finished_at >= self._client.lease.ahead + FAR_DELAY
        return FAR_DELAY if is_far else BATCH_DELAY

    def released(self, claim: Claim, rows: Sequence[LedgerRow]) -> None:
        """Take note that the run of *claim* is over but its tick is not: some instance has to run it again."""
        claim.state = State.RETURNED
        if self._own.claims.get(claim.name) is claim:
            del self._own.claims[claim.name]
        me = self._client.me
        self._outbox.put_return(claim.key, simply(lambda old, now: release(old, now, me, claim.fence), rows))

    def hurry(self) -> None:
        """Send what is pending without waiting for company: somebody waits for it."""
        self._send_at = 0
        self._hurried = True

    @property
    def next_at(self) -> int:
        """Steady time at which endings are sent; NEVER if there are none."""
        if len(self.pending) > len(self._not_before):
            return self._send_at
        return min(self._not_before.values(), default=NEVER)

    async def run(self) -> None:
        """Send the endings that are pending, so many at a time, those first that were not sent yet."""
        client, now = self._client, self._client.steady()
        ready = [key for key in self.pending if self._not_before.get(key, now) <= now]
        endings = sorted((self.pending[key] for key in ready[: self._most]), key=lambda each: each.name)
        self._hurried = False
        try:
            refusals = await client.ask("finish", client.store.finish(client.me, endings))
        except StoreRefused as refused:
            self._most = max(1, len(endings) // 2)
            if len(endings) == 1:
                self._leave_out(endings[0], refused.what)
            return
        if refusals is None:
            self._most = max(1, len(endings) // 2)
            self._put_last(endings)
            return
        self._most = min(2 * self._most, MOST_AT_ONCE)
        followings: list[tuple[str, NextTick | None]] = []
        for ending, refusal in zip(endings, refusals, strict=True):
            claim = self._own.claims.get(ending.name)
            if refusal is Refusal.BUSY:
                continue
            if refusal is Refusal.CHANGED and claim is not None:
                await self._recompute(claim)
                continue
            if refusal is Refusal.LOST and claim is not None and claim.fence == ending.fence:
                back = anew(
                    partial(end_lost, claimed=claim.record, ending=ending, grace=client.lease.grace), ending.rows
                )
                changed = await client.change(ending.name, back)
                if changed is None:
                    continue
                if changed.done:
                    refusal = None
            if refusal is Refusal.LOST:
                log.warning(
                    "task %r: the run with fence %d is over but does not count: it lost its lease, and another "
                    "instance runs the tick or has run it",
                    ending.name, ending.fence, extra=facts(ending.name, ending.tick, fence=ending.fence),
                )  # fmt: skip
            self._drop((ending.name, ending.fence))
            if claim is not None and claim.fence == ending.fence:
                del self._own.claims[ending.name]
                self._host.on_acknowledged(claim, None if refusal is Refusal.LOST else ending)
            followings.append((ending.name, ending.following))
        self._claims.on_finished(followings)
        self._put_last(endings)
        self._outbox.sent.set()
        delay = min(map(self._delay, self.pending.values()), default=BATCH_DELAY)  # Of those that came meanwhile.
        self._send_at = client.steady() + (0 if self._hurried or len(ready) > len(endings) else delay)

    def _put_last(self, endings: Sequence[FinishRequest]) -> None:
        """Send those of *endings* that are still pending after all others."""
        for key in ((each.name, each.fence) for each in endings):
            if key in self.pending:
                self.pending[key] = self.pending.pop(key)

    def _leave_out(self, ending: FinishRequest, why: str) -> None:
        """Have the store told less of an ending that it does not accept."""
        key, lean = (ending.name, ending.fence), without_texts(ending, why)
        tell(self._client.store.name, ending, lean, why)
        if lean is not None:
            self.pending[key] = lean
        else:
            self._not_before[key] = self._client.steady() + REFUSED_RETRY
            self._put_last([ending])

    def _drop(self, key: Key) -> None:
        del self.pending[key]
        self._not_before.pop(key, None)

    async def _recompute(self, claim: Claim) -> None:
        """Find out again what follows the run, by the rule that another instance has given the task meanwhile."""
        seen = await self._client.call("scan", self._client.store.scan([claim.name]))
        if seen is None or not seen.records:
            return
        ending = self._host.recompute_ending(claim, seen.records[0])
        if ending is not None:
            self.pending[claim.key] = ending
        else:  # No run began. Whether the tick is skipped is decided by the new rule, by whoever claims it next.
            self._drop(claim.key)
            self._starter.give_back(claim)
            self._claims.claim_by(0)
