"""The smallest coordinator of one task that keeps its promises, and the rules that it can be made to forget.

It tests the simulation and its checks. It is no model of the real coordinator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from kaiju_app._cluster.store_clock import StoreClock
from kaiju_app._core.model import Outcome
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores._answers import ChangeResult, FinishRequest
from kaiju_app.stores._cas import Transition
from kaiju_app.stores._record import LedgerRow, NextTick, StoredHold, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import (
    Definition,
    challenge,
    challenge_hold,
    define,
    expire,
    expire_hold,
    hold,
    lost,
    release,
    return_unstarted,
    unhold,
)
from simulation import Ask, AskHook, BootHook, Process
from support.engines import change_one
from support.records import replace

T = TypeVar("T")

TASK = "task"
SECOND = 1_000_000
TTL, RENEW, GRACE = 10 * SECOND, 2 * SECOND, 4_500_000
EVERY = 10 * SECOND
ROUND_S, CALL_S, ACT_S = 0.5, 2.0, 0.25

LEASE = "a run may act only until its lease expires"
CHALLENGE = "the owner of an expired lease is challenged before it is replaced"
HOLDER = "a suspension waits for the run in progress"
GUARD = "the clock of a store may be set"


@dataclass(eq=False)
class Lease:
    """A right to act until *deadline*, by the steady clock."""

    deadline: int
    record: TaskRecord | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    cut: bool = False


class Toy:
    """What one instance does.

    Args:
        forgets: The rules that it does not follow.
    """

    def __init__(self, instance: Process, forgets: Collection[str] = ()) -> None:
        self.me = instance
        self.forgets = forgets
        self.clock = StoreClock(TTL + GRACE)
        self.run: Lease | None = None
        self.holds: dict[str, Lease] = {}
        self.endings: dict[int, FinishRequest] = {}
        self.changes: dict[object, Transition] = {}
        self.number = 0
        self.renewed: int | None = None

    async def main(self) -> None:
        made = None
        while True:
            made = made or await self.change(_made)
            if self.renewed is None or self.me.steady() - self.renewed >= RENEW:
                await self.renew()
            await self.tidy()
            await self.claim()
            await asyncio.sleep(ROUND_S)

    # --- calls to the store ---

    async def call(self, job: Awaitable[T]) -> tuple[int, T | None]:
        """Return when *job* was sent and its answer; None if the request may have been executed, or may still be."""
        sent = self.me.steady()
        try:
            async with asyncio.timeout(CALL_S):
                answer = await job
        except (TimeoutError, StoreUnavailable):
            return sent, None
        now = getattr(answer, "now", None)
        if now is not None:
            self.clock.observe(sent, self.me.steady(), now)
        return sent, answer

    async def change(self, transition: Transition) -> ChangeResult | None:
        return (await self.call(change_one(self.me.store, TASK, transition)))[1]

    async def renew(self) -> None:
        lease = self.run
        fences = [*self.endings, *([lease.record.fence] if lease and lease.record and not lease.cut else [])]
        keys = {TASK: [key for key, held in self.holds.items() if not held.cut]}
        held_before = dict(self.holds)
        runs = {TASK: max(fences)} if fences else {}
        sent, answer = await self.call(self.me.store.renew(self.me.id, runs, keys, TTL))
        if answer is None:
            return
        self.renewed = sent
        if lease is not None and lease is self.run:
            self.prolong(lease, sent, TASK in answer.runs)
        for key, held in held_before.items():
            self.prolong(held, sent, (TASK, key) in answer.holds)
        known = {*self.endings, *self.changes, *([self.run.record.fence] if self.run and self.run.record else [])}
        for _, fence in answer.own_claims:
            if fence not in known:
                self.changes[fence] = self.returning(return_unstarted, fence)

    def returning(self, how: Callable[[TaskRecord, int, str, int], TaskRecord | None], fence: int) -> Transition:
        return _only(lambda old, now: how(old, now, self.me.id, fence))

    async def tidy(self) -> None:
        for key, transition in list(self.changes.items()):
            if await self.change(transition) is not None:
                del self.changes[key]
        for fence, ending in list(self.endings.items()):
            if (await self.call(self.me.store.finish(self.me.id, [ending])))[1] is not None:
                del self.endings[fence]

    async def claim(self) -> None:
        busy = self.run is not None or self.endings or self.changes
        query = ClaimQuery(self.me.id, [TASK], TTL, limit=0 if busy else 1)
        sent, answer = await self.call(self.me.store.claim(query))
        if answer is None:
            return
        for record in answer.records:
            if self.me.steady() < sent + TTL - RENEW:
                self.start(record, sent)
            else:
                self.changes[record.fence] = self.returning(return_unstarted, record.fence)
        for record in answer.expired:
            if self.clock.is_calm(self.me.steady()) or GUARD in self.forgets:
                await self.look_at(record, answer.now)

    async def look_at(self, record: TaskRecord, now: int) -> None:
        """Challenge or expire what was not renewed, but only if the record is exactly the one that was seen."""
        if record.owner is not None and record.lease_until is not None and record.lease_until < now:
            if CHALLENGE in self.forgets:
                await self.change(_only(lambda old, now: expire(replace(old, challenged=True), now), record.rev))
            elif record.challenged:
                await self.change(_expired(record.rev))
            else:
                await self.change(_only(lambda old, now: challenge(old, now, GRACE), record.rev))
            return
        for key, held in record.holds.items():
            if held.until is not None and held.until < now:
                if held.challenged:
                    await self.change(_only(lambda old, now: expire_hold(old, now, key), record.rev))  # noqa: B023
                else:
                    await self.change(_only(lambda old, now: challenge_hold(old, now, key, GRACE), record.rev))  # noqa: B023
                return

    # --- leases ---

    def begin(self, lease: Lease, body: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            await body

        lease.task = self.me.loop.create_task(run())
        self.arm(lease)
        return lease.task

    def arm(self, lease: Lease) -> None:
        if lease.timer is not None:
            lease.timer.cancel()
        if lease.task is not None and not lease.task.done() and LEASE not in self.forgets:
            lease.timer = self.me.loop.call_at(lease.deadline / 1e6, self.cut, lease)

    def cut(self, lease: Lease) -> None:
        lease.cut = True
        if lease.task is not None and LEASE not in self.forgets:
            lease.task.cancel()

    def prolong(self, lease: Lease, sent: int, kept: bool) -> None:
        if not kept:
            self.cut(lease)
        elif not lease.cut:
            lease.deadline = sent + TTL
            self.arm(lease)

    # --- a run ---

    def start(self, record: TaskRecord, sent: int) -> None:
        lease = self.run = Lease(sent + TTL, record)
        self.begin(lease, self.act(record)).add_done_callback(lambda task: self.ended(lease, record, task))

    async def act(self, record: TaskRecord) -> None:
        facts: dict[str, Any] = {"fence": record.fence, "tick": record.tick, "take": record.delivery}
        self.me.journal("begin", TASK, **facts)
        for _ in range(4 + (record.tick // SECOND % 7) ** 2 * 2):
            self.me.journal("act", TASK, **facts)
            await asyncio.sleep(ACT_S)
        self.me.journal("end", TASK, **facts)

    def ended(self, lease: Lease, record: TaskRecord, task: asyncio.Task[None]) -> None:
        self.run = None
        if lease.timer is not None:
            lease.timer.cancel()
        if task.cancelled():
            self.changes[record.fence] = self.returning(release, record.fence)
            return
        assert record.claimed_at is not None
        tick = record.tick
        gaps = max(0, record.claimed_at - tick) // EVERY
        following = tick + EVERY * (gaps + 1)
        now = record.claimed_at
        rows = [LedgerRow(TASK, tick, record.delivery, tick, 1, Outcome.SUCCEEDED.value, None, now)]
        if gaps:
            rows.append(LedgerRow(TASK, tick + EVERY, 0, following - EVERY, gaps, Outcome.SKIPPED.value, None, now))
        self.endings[record.fence] = FinishRequest(
            TASK, record.fence, tick, record.schedule, NextTick(following, following), tuple(rows)
        )

    # --- a suspension ---

    async def suspend(self, asked: Ask) -> None:
        self.number += 1
        key = f"{self.me.id}#{self.number}"
        self.me.journal("suspend", TASK, note=key)
        try:
            await self.suspended(key, asked.for_s)
        finally:
            self.me.journal("suspended-end", TASK, note=key)
            self.holds.pop(key, None)
            self.changes[key] = _only(lambda old, now: unhold(old, now, key))

    async def suspended(self, key: str, for_s: float) -> None:
        wanted = StoredHold(self.me.id, None, None)
        holding = _only(lambda old, now: hold(old, now, key, replace(wanted, until=now + TTL)))
        sent, changed = await self.call(change_one(self.me.store, TASK, holding))
        if changed is None or changed.new is None:
            return
        held = self.holds[key] = Lease(sent + TTL)
        record: TaskRecord | None = changed.new
        while record is None or (record.owner is not None and HOLDER not in self.forgets):
            await asyncio.sleep(ROUND_S)
            if held.cut or self.me.steady() >= held.deadline:
                return
            _, seen = await self.call(self.me.store.scan([TASK]))
            record = seen.records[0] if seen is not None and seen.records else None
            if record is not None and key not in record.holds:
                return
        if not held.cut and self.me.steady() < held.deadline:
            await asyncio.wait([self.begin(held, self.act_alone(key, for_s))])
            self.cut(held)
            if held.timer is not None:
                held.timer.cancel()

    async def act_alone(self, key: str, for_s: float) -> None:
        end = self.me.loop.time() + for_s
        self.me.journal("suspended-begin", TASK, note=key)
        while self.me.loop.time() < end:
            self.me.journal("act-in-suspension", TASK, note=key)
            await asyncio.sleep(ACT_S)


def _only(step: Callable[[TaskRecord, int], TaskRecord | None], rev: int | None = None) -> Transition:
    """Return *step* as a transition of an existing record; with *rev*, of exactly that revision."""

    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[LedgerRow, ...]] | None:
        new = None if old is None or rev not in (None, old.rev) else step(old, now)
        return None if new is None else (new, ())

    return transition


def _expired(rev: int) -> Transition:
    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[LedgerRow, ...]] | None:
        new = None if old is None or old.rev != rev else expire(old, now)
        return None if old is None or new is None else (new, (lost(old, now),))

    return transition


def _made(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[LedgerRow, ...]] | None:
    first = NextTick(now + SECOND, now + SECOND)
    new = define(old, now, Definition(TASK, "{}", (1,), first, first))
    return None if new is None else (new, ())


def toys(forgets: Collection[str] = ()) -> tuple[BootHook, AskHook]:
    """Return the boot hook and the ask hook of instances that run a ``Toy``."""
    made: dict[str, Toy] = {}

    async def boot(instance: Process) -> None:
        made[instance.id] = Toy(instance, forgets)
        await made[instance.id].main()

    async def ask(instance: Process, asked: Ask) -> None:
        if asked.what == "suspend" and instance.id in made:
            await made[instance.id].suspend(asked)

    return boot, ask
