"""DO, with others: the coordinator of an instance. It claims what is due, renews what it has, finishes what is over.

1. Claims, renewals and endings are asked for one after the other, so that an answer is never about a state that a later
   question has changed.
2. A lease counts from before its question was sent, on a clock that goes on while the machine sleeps: whoever is late,
   it is this instance and not the others.
3. A claim that the store knows and this instance does not is an answer that was lost. It is handed back, and its fence
   poisoned: should the answer come after all, nothing starts.
4. A run starts in one step of the loop, after the last look at its deadline, its holds, and the clock of the store.
5. Nobody else's lease is taken for over while the clock of the store is in doubt.
6. What has to be said is said again until it is accepted or refused; it can be said twice without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ._asking import simply
from ._belonging import answered
from ._claiming import LINGER, Claiming, Host
from ._claims import Claim, State
from ._events import log
from ._grid import FOREVER
from ._takeover import take_over
from ._timing import LeaseTiming
from .errors import StoreUnavailable
from .stores._record import Record
from .stores._store import LEAD, Renewed, Store
from .stores._transitions import claim as claimed_by
from .stores._transitions import instance_of

LOOKED_AT = 500_000  # Timers of a loop stand still while the machine sleeps: so a lease that ended then is seen soon.
MOST = 500  # Claims that wait for their tick: more would be started late. How many runs go on, nothing limits.
DEAD_SEEN = 500_000  # Who is dead is looked for so often, where that can be seen.


class Coordinator(Claiming):
    """One instance's part in what several agree on.

    Args:
        me: Identity of the instance: random, and another one after a fork.
        steady: Microseconds on a clock that never steps and counts the machine's sleep.
        info: What the instance says about itself, as JSON text.
    """

    def __init__(
        self, store: Store, me: str, host: Host, timing: LeaseTiming, steady: Callable[[], int], info: str = "{}"
    ) -> None:
        super().__init__(store, me, host, timing, steady, info)
        self._claimed_at = self._renew_at = 0
        self._dead_at = 0 if store.sees_deaths else FOREVER
        self._alone = False
        self._deadline: asyncio.TimerHandle | None = None

    # --- life ---

    async def run(self) -> None:
        """Do all of it until ``close()``, and until everything is said that has to be.

        However it ends, what has a lease is cut in time.
        """
        hints = asyncio.ensure_future(self._listen())
        try:
            await self._go_round()
        except (Exception, asyncio.CancelledError):
            await _end(hints)
            raise
        await _end(hints)

    async def _go_round(self) -> None:
        while not self._is_done():
            self._wake.clear()
            await self._round()
            if not self._is_done():
                await self._rest()
        await self._leave()

    def _is_done(self) -> bool:
        return self._closing and not (self.untold or self.claims or self.holds)

    def reopen(self) -> None:
        """Claim again, after ``close()`` and the end of ``run()``."""
        self._closing = False
        self._dead_at = 0 if self._store.sees_deaths else FOREVER

    def close(self) -> None:
        """Claim nothing more, and give back what has not started; ``run()`` ends when the runs are over."""
        self._closing = True
        self._retry_at = 0
        for claim in list(self.claims.values()):
            if claim.state is State.CLAIMED:
                self._give_back(claim)
        self._wake.set()

    async def _round(self) -> None:
        self.check_deadlines()
        if self._may_ask() and self._steady() >= self._renew_at:
            await self._renew()  # With nothing to renew, too: it tells of claims whose answer was lost.
        if self._may_ask():
            await self._send_back()
        if self._may_ask() and self._outbox and (self._closing or self._steady() >= self._send_at):
            await self._send_endings()
        if self._closing:
            return
        if self._may_ask() and self._steady() >= self._belongs_until():
            await self._belong()
        if self._may_ask() and self._steady() >= self._dead_at:
            await self._look_for_dead()
        if self._may_ask() and self._steady() >= self._claim_at:
            await self._claim()

    def _may_ask(self) -> bool:
        """Return whether it is time to ask the store again: what fails may take as long as a renewal."""
        return self._steady() >= self._retry_at

    async def _rest(self) -> None:
        """Wait until there is something to do again."""
        now = self._steady()
        next_one = min(
            max(self._retry_at, self._send_back_at) if self._returns or self._retry_at > now else now + self.poll,
            max(self._retry_at, self._send_at if self._outbox else now + self.poll),
            max(self._retry_at, self._renew_at),
            max(
                self._retry_at,
                now + self.poll if self._closing else min(self._claim_at, self._belongs_until(), self._dead_at),
            ),
        )
        if next_one <= now:
            return
        try:
            async with asyncio.timeout((next_one - now) / 1e6):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _listen(self) -> None:
        """Look at once when the store hints at a change."""
        while True:
            try:
                await self._store.wait(self.poll / 1e6)
            except Exception as exc:  # Whatever it is, no hint is lost: what is due is looked for all the same.
                if not isinstance(exc, StoreUnavailable):
                    log.exception("store %s: a bug in its wait()", self._store.name)
                await asyncio.sleep(self.poll / 1e6)
            else:
                # Not at each of others' changes: a round takes what is due until the next one, anyway.
                self._claim_by(self._claimed_at + max(self.ahead - LEAD, LINGER))
                self._wake.set()
                self._news.set()
                self._news = asyncio.Event()

    # --- claims ---

    async def _claim(self) -> None:
        self._claimed_at = now = self._steady()
        self._skip = {name: until for name, until in self._skip.items() if until > now}
        await self._claim_extras()
        waiting = sum(claim.state is State.CLAIMED for claim in self.claims.values())
        room = MOST - waiting
        self._claim_at = now + (self.poll if room > 0 else LINGER)
        self._pauses = {end for end in self._pauses if end > now}
        self._claim_by(min(self._pauses, default=self._claim_at))
        if room <= 0:
            return
        ahead = self.ahead if self.clock.is_fresh(now, 3 * self.every) else 0
        share, self._alone = None if self._alone else self._share, False
        question = self._store.claim(
            self.me,
            ttl=self.ttl,
            limit=room,
            ahead=ahead,
            skip=self._skip.keys(),
            share=share,
            punctual=self._punctual,
        )
        answered = await self._ask(question)
        if answered is None:
            return
        claimed, sent = answered
        for record in claimed.records:
            self._take(record, sent)
        if claimed.claimable is not None:
            due = self.clock.when(claimed.claimable, self._steady())
            # Not at once again, whatever the store says: what is due and not to be had would keep the loop busy.
            self._claim_at = min(self._claim_at, max(due or self._claim_at, now + LINGER))
        if len(claimed.records) == room:
            self._claim_at = 0
        await self._observe(claimed.stale, claimed.now)

    async def _claim_extras(self) -> None:
        for name in self.extras - self.claims.keys():
            extra = simply(lambda old, now: claimed_by(old, now, self.me, self.ttl, extra=True))
            answered = await self._ask(self._store.change_each({name: extra}))
            changed = None if answered is None else answered[0].get(name)
            if answered is not None and changed is not None and changed.new is not None:
                self._take(changed.new, answered[1])

    # --- leases ---

    async def _renew(self) -> None:
        runs = {name: claim.fence for name, claim in self.claims.items()}
        keys: dict[str, set[str]] = {}
        for held in self.holds.values():
            keys.setdefault(held.name, set()).add(held.key)
        answered = await self._ask(self._store.renew(self.me, runs, keys, self.ttl))
        if answered is None:
            return
        renewed, sent = answered
        self._renew_at = sent + self.every
        for name, fence in runs.items():
            claim = self.claims.get(name)
            if claim is not None and claim.fence == fence:
                self._on_renewed(claim, renewed, sent)
        for held in list(self.holds.values()):
            if held.key in keys.get(held.name, ()):
                if (held.name, held.key) in renewed.holds:
                    held.deadline = sent + self.ttl
                elif (held.name, held.key) not in renewed.own:
                    self._lose_hold(held)
        known = (
            {claim.key for claim in self.claims.values()} | self._returns.keys() | self._outbox.keys() | runs.items()
        )
        for key in renewed.mine:
            if key not in known:
                self._hand_back(key)
        self._end_unknown(renewed.own)
        self._watch_deadlines()

    def _on_renewed(self, claim: Claim, renewed: Renewed, sent: int) -> None:
        if claim.name in renewed.runs:
            claim.deadline = sent + self.ttl
            claim.held = claim.name in renewed.held
            if claim.lost:
                claim.lost = False
                self._host.regain(claim)
            if claim.held and claim.state is State.CLAIMED:
                self._give_back(claim)
            elif claim.held:
                self._send_at = 0
        elif claim.key in renewed.mine:
            pass  # Somebody had the record locked. It is not lost, and not good for any longer than before.
        elif claim.state is State.CLAIMED:
            self._give_back(claim)
        elif claim.state is State.STARTED:
            self._lose(claim)

    def _watch_deadlines(self) -> None:
        """Have the next deadline looked at in time, whatever the store does."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        leases = [
            claim.deadline for claim in self.claims.values() if claim.state is not State.ENDING and not claim.lost
        ]
        leases += [held.deadline for held in self.holds.values() if not held.lost]
        if leases:
            delay = min(max(0, min(leases) - self._steady()), LOOKED_AT)
            self._deadline = asyncio.get_running_loop().call_later(delay / 1e6, self.check_deadlines)

    def check_deadlines(self) -> None:
        """Cut what has outlived its lease. Called in time; and it does no harm to call it before anything is done."""
        now = self._steady()
        for claim in list(self.claims.values()):
            if now >= claim.deadline and claim.state is State.CLAIMED:
                self._give_back(claim)
            elif now >= claim.deadline and claim.state is State.STARTED:
                self._lose(claim)
        for held in list(self.holds.values()):
            if now >= held.deadline:
                self._lose_hold(held)
        self._watch_deadlines()

    def _lose(self, claim: Claim) -> None:
        if not claim.lost:
            claim.lost = True
            self._host.lose(claim)

    # --- others' leases ---

    async def _observe(self, stale: Sequence[Record], at: int) -> None:
        """Challenge whose lease was over *at* that time, and take it away from who does not answer; end pauses, too."""
        calm = self.clock.is_calm(self._steady())
        paused = {each.name for each in stale if any(not held.leased for held in each.holds.values())}
        moved = {
            each.name: take_over(each, at, self.me, self.grace, calm=calm)
            for each in stale
            if calm or each.name in paused
        }
        answered = await self._ask(self._store.change_each(moved)) if moved else None
        if answered is None:
            return
        done = {name for name, changed in answered[0].items() if changed.done}
        if done & paused or (calm and any(record.suspect for record in stale)):
            self._claim_at = 0

    async def _look_for_dead(self) -> None:
        """Take what instances had that are dead for certain: no clock is needed for that."""
        self._dead_at = self._steady() + DEAD_SEEN
        dead = await self._ask(self._store.dead())
        seen = await self._ask(self._store.scan(active=True)) if dead is not None and dead[0] else None
        if dead is None or seen is None:
            return
        for record in seen[0].records:
            if record.holder in dead[0] or any(instance_of(key) in dead[0] for key in record.holds):
                log.warning(
                    "task %r: what instance %s had of it is free again, as its process is dead",
                    record.name, ", ".join(sorted(dead[0])),
                )  # fmt: skip
                # By their death alone: nothing is known of the clock here.
                bury = take_over(record, seen[0].now, self.me, self.grace, dead[0], calm=False)
                await self._change(record.name, bury)
                self._alone = True  # What falls free is claimed here, whosever it is otherwise.
                self._claim_by(0)
        for each in dead[0]:
            await self._ask(answered(self._store.leave(each)))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
