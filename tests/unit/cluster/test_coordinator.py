"""Several coordinators over one store, in virtual time, with no faults but crashes."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import FrameType
from typing import Any, ClassVar

import pytest

from kaiju_app._cluster.claim import Claim, OwnedHold, State
from kaiju_app._cluster.coordinator import Coordinator
from kaiju_app._cluster.neighbours import Neighbours
from kaiju_app._cluster.notes import Notes
from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app._engine.upsets import UpsetLog
from kaiju_app.stores._answers import Claimed, FinishRequest, Renewed, Snapshot
from kaiju_app.stores._record import LedgerRow, NextTick, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import Definition, Refusal, define
from kaiju_app.stores.memory import MemoryStore
from support.engines import change_one
from support.records import replace
from support.virtual import EPOCH_US, VirtualLoop

SECOND = 1_000_000
ZERO = EPOCH_US + 5 * SECOND
TIMING = LeaseTiming()


@dataclass(eq=False)
class Instance:
    """An instance whose bodies take a while, with a journal of what it did: (second, what, task, tick)."""

    loop: VirtualLoop
    store: MemoryStore
    name: str
    takes_s: float = 3.0
    timing: LeaseTiming = TIMING
    unknown: frozenset[str] = frozenset()
    journal: list[tuple[float, str, str, float]] = field(default_factory=list)
    bodies: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    lost_holds: list[OwnedHold] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.coordinator = Coordinator(
            self.store, self.name, self, self, self.timing, self.loop.virtual_clock.steady, Neighbours("", "", {}, {}),
            Notes(UpsetLog(), {}, self.loop.virtual_clock.wall),
        )  # fmt: skip
        self.task = self.loop.create_task(self.coordinator.run())

    def note(self, what: str, record: TaskRecord) -> None:
        second = (self.loop.virtual_clock.steady() - 5 * SECOND) / SECOND
        self.journal.append((round(second, 1), what, record.name, (record.tick - ZERO) / SECOND))

    # --- the host interface of a coordinator ---

    def claimable(self) -> set[str]:
        return self.store._records.keys() - self.unknown

    def can_run(self, record: TaskRecord) -> bool:
        return record.name not in self.unknown

    def may_start(self, record: TaskRecord) -> bool:
        return record.name not in self.bodies

    def is_stale(self, _: TaskRecord) -> bool:
        return False

    def restorer(self, *_: object) -> None:
        """Put nothing back: nothing is registered."""

    def claims_on_time_only(self, _: str) -> bool:
        return False

    def definition_maker(self, _: str) -> None:
        """Register nothing."""

    def maybe_outdated(self) -> list[str]:
        return []

    def on_registered(self, *_: object) -> None:
        """Do nothing: nothing is registered."""

    def on_record(self, _: TaskRecord) -> None:
        """Do nothing."""

    def on_acknowledged(self, *_: object) -> None:
        """Do nothing: finished runs are not kept."""

    def on_lease_regained(self, claim: Claim) -> None:
        self.note("regained", claim.record)

    def start(self, claim: Claim) -> None:
        assert claim.name not in self.bodies
        self.bodies[claim.name] = self.loop.create_task(self.body(claim))

    def on_late(self, *_: object) -> None:
        """Do nothing: nobody asks why ticks were late."""

    def on_lease_lost(self, claim: Claim) -> None:
        self.note("lost", claim.record)
        self.bodies[claim.name].cancel()

    def recompute_ending(self, claim: Claim, record: TaskRecord) -> FinishRequest:
        return self.ending(claim, record.schedule)

    def on_hold_lost(self, held: OwnedHold) -> None:
        self.lost_holds.append(held)

    def ending(self, claim: Claim, spec: str) -> FinishRequest:
        record = claim.record
        now = self.loop.virtual_clock.wall()
        row = LedgerRow(
            record.name, record.tick, record.delivery, record.tick, 1, "SUCCEEDED", None, now, manual=record.manual
        )
        tick = record.next_tick + int(spec) * SECOND
        coming = None if record.manual else NextTick(tick, tick)
        return FinishRequest(record.name, record.fence, record.tick, spec, coming, (row,))

    async def body(self, claim: Claim) -> None:
        self.note("begin", claim.record)
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            del self.bodies[claim.name]
            self.coordinator.endings.released(claim, [])
            raise
        self.note("end", claim.record)
        del self.bodies[claim.name]
        self.coordinator.endings.ended(claim, self.ending(claim, claim.record.schedule))

    def crash(self) -> None:
        """Disappear at once, without deregistering from the store."""
        for task in [self.task, *self.bodies.values()]:
            task.cancel()
        self.coordinator.endings.released = lambda *_: None  # type: ignore[method-assign]
        self.on_lease_lost = lambda *_: None  # type: ignore[method-assign]

    async def stop(self) -> None:
        self.coordinator.close()
        await self.task


async def register(store: MemoryStore, *names: str, every_s: int = 10, first: int = ZERO, version: int = 0) -> None:
    for name in names:
        new = Definition(name, str(every_s), (version,), NextTick(first, first), NextTick(first, first))

        def transition(old: TaskRecord | None, now: int, new: Definition = new) -> Any:
            record = define(old, now, new)
            return None if record is None else (record, ())

        await change_one(store, name, transition)


@pytest.fixture
def store(loop: VirtualLoop) -> MemoryStore:
    return MemoryStore(loop.virtual_clock.wall)


def begun(*instances: Instance) -> list[tuple[str, float]]:
    return [(name, tick) for each in instances for _, what, name, tick in each.journal if what == "begin"]


async def test_each_tick_runs_once_on_one_of_the_instances(loop: VirtualLoop, store: MemoryStore) -> None:
    await register(store, "a", "b", "c")
    instances = [Instance(loop, store, name) for name in ("one", "two", "three")]
    await asyncio.sleep(95)
    for each in instances:
        await each.stop()

    ticks = [(name, float(tick)) for name in "abc" for tick in range(0, 100, 10)]
    assert sorted(begun(*instances)) == ticks
    late = [second - tick for each in instances for second, what, _, tick in each.journal if what == "begin"]
    assert max(late) < 0.1
    assert {len(await store.history(name, 100)) for name in "abc"} == {10}
    assert all(record.owner is None for record in (await store.scan()).records)


async def test_a_run_begins_when_its_tick_is_due_and_not_when_it_is_claimed(
    loop: VirtualLoop, store: MemoryStore
) -> None:
    coming = NextTick(ZERO + 7 * SECOND, ZERO + 9 * SECOND)
    new = Definition("a", "10", (0,), coming, coming)
    await change_one(store, "a", lambda old, now: (define(old, now, new), ()))
    one = Instance(loop, store, "one")
    await asyncio.sleep(8.98)
    (claim,) = one.coordinator.own.claims.values()
    assert (claim.state, one.journal) == (State.CLAIMED, [])
    await asyncio.sleep(0.1)

    assert one.journal == [(9.0, "begin", "a", 7.0)]
    await one.stop()


async def test_a_claim_that_was_given_back_is_not_started_with_the_others_of_its_instant(
    loop: VirtualLoop, store: MemoryStore
) -> None:
    await register(store, "a", "b", first=ZERO + 9 * SECOND)
    one = Instance(loop, store, "one")
    await asyncio.sleep(8.98)
    claims = one.coordinator.own.claims
    assert set(claims) == {"a", "b"}
    one.unknown = frozenset({"a"})  # It is not claimed again.
    one.coordinator.starter.give_back(claims["a"])
    await asyncio.sleep(0.1)

    assert begun(one) == [("b", 9.0)]
    await one.stop()


async def test_a_claim_and_its_ending_take_as_many_steps_whatever_else_is_in_hand(loop: VirtualLoop) -> None:
    steps = {}
    for number in (2, 400):
        store = MemoryStore(loop.virtual_clock.wall)
        start = loop.virtual_clock.steady() - 5 * SECOND
        await register(
            store, *(f"long {each}" for each in range(number)), every_s=10**6, first=loop.virtual_clock.wall()
        )
        await register(store, "short", every_s=10**6, first=loop.virtual_clock.wall() + 11 * SECOND)
        one = Instance(loop, store, "one", takes_s=10**5)
        await asyncio.sleep(10.2)
        assert len(one.coordinator.own.claims) == number
        one.takes_s = 0.01
        with counted_steps("_cluster") as counted:
            await asyncio.sleep(1.6)  # Between two renewals, which are of all that is in hand.
        (began, what, *_), ended = one.journal[-2:]
        assert [what, ended[1], began - start / SECOND] == ["begin", "end", 11.0]
        assert len(one.coordinator.own.claims) == number
        steps[number] = counted.total()
        one.crash()

    assert steps[2] == steps[400]


@contextmanager
def counted_steps(package: str) -> Iterator[Counter[str]]:
    """Count the instructions that Python executes in the modules of a package of kaiju_app, by function."""
    counted: Counter[str] = Counter()

    def on_call(frame: FrameType, event: str, _: object) -> Any:
        if f"kaiju_app/{package}/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return on_step

    def on_step(frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            counted[frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else frame.f_code.co_name] += 1
        return on_step

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield counted
    finally:
        sys.settrace(before)


async def test_what_one_instance_does_not_know_is_left_to_others(loop: VirtualLoop, store: MemoryStore) -> None:
    await register(store, "new")
    old = Instance(loop, store, "old", unknown=frozenset({"new"}))
    await asyncio.sleep(25)
    assert old.journal == []
    new = Instance(loop, store, "new")
    await asyncio.sleep(30)

    assert begun(new) == [("new", 0), ("new", 10), ("new", 20), ("new", 30), ("new", 40), ("new", 50)]
    for each in (old, new):
        await each.stop()


async def test_an_orderly_stop_frees_what_it_has_at_once(loop: VirtualLoop, store: MemoryStore) -> None:
    await register(store, "a")
    one = Instance(loop, store, "one")
    await asyncio.sleep(9.95)  # By now it has claimed the next tick.
    assert [claim.state for claim in one.coordinator.own.claims.values()] == [State.CLAIMED]
    await one.stop()
    two = Instance(loop, store, "two")
    await asyncio.sleep(1)

    assert (begun(one), begun(two)) == ([("a", 0)], [("a", 10)])
    (record,) = (await store.scan()).records
    assert (record.owner, record.claims) == ("two", 1)
    await two.stop()


async def test_many_claims_are_given_back_with_few_questions(loop: VirtualLoop) -> None:
    class Counted(MemoryStore):
        asked = 0

        async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
            self.asked += 1
            return await super().scan(names, only_active=only_active)

    store = Counted(loop.virtual_clock.wall)
    names = [f"t{number}" for number in range(200)]
    await register(store, *names, first=ZERO + 7 * SECOND)
    one = Instance(loop, store, "one")
    await asyncio.sleep(6.95)
    assert len(one.coordinator.own.claims) == 200
    before = store.asked

    await one.stop()

    assert store.asked - before < 10
    assert {(each.owner, each.claims) for each in (await store.scan()).records} == {(None, 0)}


async def test_all_endings_that_wait_are_told_together(loop: VirtualLoop) -> None:
    class Counted(MemoryStore):
        told: ClassVar[list[int]] = []

        async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
            self.told.append(len(endings))
            return await super().finish(me, endings)

    store = Counted(loop.virtual_clock.wall)
    await register(store, *(f"t{number}" for number in range(1_200)), first=ZERO + 7 * SECOND)
    one = Instance(loop, store, "one")
    await asyncio.sleep(11)

    assert store.told == [1_200]
    await one.stop()


@pytest.mark.parametrize(
    ("ended", "waited_s"), [({"far": 0}, 0.1), ({"near": 0}, 0.05), ({"far": 0, "near": 0.02}, 0.07)]
)
async def test_an_ending_waits_longer_for_company_if_the_next_tick_is_far(
    loop: VirtualLoop, ended: dict[str, float], waited_s: float
) -> None:
    class Watched(MemoryStore):
        told: ClassVar[list[tuple[int, set[str]]]] = []

        async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
            self.told.append((loop.virtual_clock.steady(), {each.name for each in endings}))
            return await super().finish(me, endings)

    store = Watched(loop.virtual_clock.wall)
    due = ZERO + 7 * SECOND
    for name, after_s in ended.items():
        await register(store, name, every_s=100 if name == "far" else 3, first=due + round(after_s * SECOND))
    one = Instance(loop, store, "one")
    start = loop.virtual_clock.steady()
    await asyncio.sleep(10.5)

    ((at, names),) = [each for each in store.told if each[0] - start < 10.2 * SECOND]
    assert (round((at - start) / SECOND - 10, 2), names) == (waited_s, ended.keys())
    await one.stop()


async def test_an_ending_that_somebody_waits_for_follows_the_call_that_is_under_way_at_once(loop: VirtualLoop) -> None:
    class Slow(MemoryStore):
        told: ClassVar[list[tuple[int, set[str]]]] = []

        async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
            self.told.append((loop.virtual_clock.steady(), {each.name for each in endings}))
            await asyncio.sleep(0.5)
            return await super().finish(me, endings)

    store, due = Slow(loop.virtual_clock.wall), ZERO + 7 * SECOND
    await register(store, "first", every_s=100, first=due)
    await register(store, "second", every_s=100, first=due + 3 * SECOND // 10)
    one = Instance(loop, store, "one")
    start = loop.virtual_clock.steady()
    await asyncio.sleep(10.4)  # "first" has been on its way since 10.1 s; "second" ends at 10.3 s.
    one.coordinator.endings.hurry()
    await asyncio.sleep(0.5)

    told = [(round((at - start) / SECOND, 2), names) for at, names in store.told]
    assert told == [(10.1, {"first"}), (10.6, {"second"})]
    await one.stop()


async def test_what_others_run_is_read_some_at_a_time_and_in_turn(loop: VirtualLoop) -> None:
    names = [f"t{number}" for number in range(1_200)]

    class Watched(MemoryStore):
        read: ClassVar[list[set[str]]] = []

        async def scan(self, names: Collection[str] | None = None, *, only_active: bool = False) -> Snapshot:
            self.read += [set(names)] if names else []
            return await super().scan(names, only_active=only_active)

    class Onlooker(Instance):
        def maybe_outdated(self) -> list[str]:
            return names

    store = Watched(loop.virtual_clock.wall)
    one = Onlooker(loop, store, "one")
    await asyncio.sleep(5)

    assert [len(each) for each in store.read] == [500, 500, 500]
    assert set.union(*store.read) == set(names)
    await one.stop()


async def test_a_lease_is_renewed_unless_it_is_new(loop: VirtualLoop) -> None:
    class Watched(MemoryStore):
        leased: ClassVar[dict[str, list[int]]] = {}

        async def claim(self, query: ClaimQuery) -> Claimed:
            claimed = await super().claim(query)
            self.leased |= {record.name: [loop.virtual_clock.steady()] for record in claimed.records}
            return claimed

        async def renew(self, me: str, runs: Mapping[str, int], *rest: Any) -> Renewed:
            for name in runs:
                self.leased[name].append(loop.virtual_clock.steady())
            return await super().renew(me, runs, *rest)

    store = Watched(loop.virtual_clock.wall)
    for number in range(40):
        await register(store, f"t{number}", every_s=1_000, first=ZERO + 7 * SECOND + number * SECOND // 10)
    one = Instance(loop, store, "one", takes_s=30)
    await asyncio.sleep(20)

    ages = [(later - earlier) / SECOND for each in store.leased.values() for earlier, later in pairwise(each)]
    first = [(each[1] - each[0]) / SECOND for each in store.leased.values()]
    assert len(first) == 40
    assert 0.5 <= min(first) < 1
    assert 2 < max(first) < 2.6
    assert max(ages) < 2.6
    await one.stop()


@pytest.mark.parametrize("timing", [TIMING, LeaseTiming.for_failover(5), LeaseTiming.for_failover(60)], ids=str)
async def test_a_crash_moves_a_task_within_the_bound(
    loop: VirtualLoop, store: MemoryStore, timing: LeaseTiming
) -> None:
    await register(store, "a", every_s=100)
    one = Instance(loop, store, "one", takes_s=50, timing=timing)
    others = [Instance(loop, store, name, timing=timing) for name in ("two", "three")]
    await asyncio.sleep(20)
    victim = next(each for each in [one, *others] if each.bodies)
    rest = [each for each in [one, *others] if each is not victim]
    victim.takes_s = 50
    crashed = 20.0
    victim.crash()
    await asyncio.sleep(timing.failover_s)

    (taken,) = [entry for each in rest for entry in each.journal if entry[1] == "begin"]
    assert (taken[2], taken[3]) == ("a", 0)
    assert timing.ttl_s + timing.grace_s - timing.renew_s - 0.05 <= taken[0] - crashed <= timing.failover_s
    for each in rest:
        await each.stop()
    rows = await store.history("a", 10)
    assert [(row.outcome, row.delivery) for row in rows] == [("LOST", 1), ("SUCCEEDED", 2)]


async def test_a_hold_keeps_every_instance_from_running_a_task(loop: VirtualLoop, store: MemoryStore) -> None:
    await register(store, "a", "b")
    instances = [Instance(loop, store, name) for name in ("one", "two", "three")]
    await asyncio.sleep(11)
    ((held, record),) = await instances[0].coordinator.hold(["a"], "somebody", "a reason")
    assert record.owner is not None
    while await instances[0].coordinator.client.still_running([("a", record.fence)]):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    assert not any("a" in each.bodies for each in instances)
    await asyncio.sleep(50)
    assert [tick for name, tick in sorted(begun(*instances)) if name == "a"] == [0, 10]
    assert [tick for name, tick in sorted(begun(*instances)) if name == "b"] == [0, 10, 20, 30, 40, 50, 60]
    instances[0].coordinator.holds.unhold(held)
    await asyncio.sleep(0.5)

    assert [name for each in instances for name in each.bodies if name == "a"] == ["a"]
    for each in instances:
        await each.stop()


async def test_a_hold_whose_holder_crashed_ends_by_itself(loop: VirtualLoop, store: MemoryStore) -> None:
    await register(store, "a", every_s=1)
    one, two = (Instance(loop, store, name, takes_s=0.1) for name in ("one", "two"))
    await asyncio.sleep(20)
    await one.coordinator.hold("a", "somebody", None)
    await asyncio.sleep(5)
    one.crash()
    before = len(begun(two))
    await asyncio.sleep(TIMING.failover_s + 1)

    assert len(begun(two)) > before
    assert (await store.scan()).records[0].holds == {}
    await two.stop()


async def test_a_run_goes_on_by_the_rule_that_another_instance_has_given_it(
    loop: VirtualLoop, store: MemoryStore
) -> None:
    await register(store, "a", every_s=10)
    one = Instance(loop, store, "one")
    await asyncio.sleep(1)
    await register(store, "a", every_s=4, first=ZERO + 4 * SECOND, version=1)
    await register(store, "a", every_s=100, version=0)  # The old version restarts, and is ignored.
    await asyncio.sleep(10)

    assert begun(one) == [("a", 0), ("a", 4), ("a", 8)]
    await one.stop()


async def test_a_store_that_does_not_answer_cuts_runs_when_their_lease_is_over(
    loop: VirtualLoop, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await register(store, "a", every_s=1000)
    one = Instance(loop, store, "one", takes_s=60)
    await asyncio.sleep(5)

    async def silence(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(1e6)

    with monkeypatch.context() as away:
        for method in ("scan", "swap", "heartbeat"):
            away.setattr(store, method, silence)
        await asyncio.sleep(15)
    (lost,) = [entry for entry in one.journal if entry[1] == "lost"]
    assert 10 <= lost[0] <= 5 + TIMING.ttl_s
    await asyncio.sleep(10)

    assert [entry[1] for entry in one.journal] == ["begin", "lost", "begin"]
    assert sum("no further ticks of cluster tasks are claimed" in line for line in caplog.messages) == 1
    assert sum("available again" in line for line in caplog.messages) == 1
    one.takes_s = 0
    one.crash()


class Locked(MemoryStore):
    """A store with locked records: calls skip them instead of waiting."""

    locked = False

    async def renew(self, me: str, runs: Mapping[str, int], holds: Mapping[str, Collection[str]], ttl: int) -> Renewed:
        return await super().renew(me, {} if self.locked else runs, {} if self.locked else holds, ttl)

    async def finish(self, me: str, endings: Sequence[FinishRequest]) -> list[Refusal | None]:
        return [Refusal.BUSY] * len(endings) if self.locked else await super().finish(me, endings)


async def test_a_run_whose_record_is_locked_is_neither_renewed_nor_lost(loop: VirtualLoop) -> None:
    store = Locked(loop.virtual_clock.wall)
    await register(store, "a", every_s=100)
    one = Instance(loop, store, "one", takes_s=60)
    await asyncio.sleep(1)
    ((held, _),) = await one.coordinator.hold(["a"], "one", None)
    store.locked = True
    await asyncio.sleep(6)
    store.locked = False
    await asyncio.sleep(5)
    assert (one.lost_holds, [what for _, what, *_ in one.journal]) == ([], ["begin"])
    store.locked = True
    await asyncio.sleep(12)

    assert (one.lost_holds, [what for _, what, *_ in one.journal]) == ([held], ["begin", "lost"])
    store.locked = False
    one.coordinator.holds.unhold(held)
    await one.stop()


async def test_an_ending_whose_record_is_locked_is_sent_again(loop: VirtualLoop) -> None:
    store = Locked(loop.virtual_clock.wall)
    await register(store, "a", "b")
    one = Instance(loop, store, "one")
    await asyncio.sleep(2)
    store.locked = True
    await asyncio.sleep(4)
    assert {each.owner for each in (await store.scan()).records} == {"one"}
    store.locked = False
    await asyncio.sleep(0.1)

    assert {each.owner for each in (await store.scan()).records} == {None}
    assert {len(await store.history(name, 10)) for name in "ab"} == {1}
    await one.stop()


async def test_a_claim_that_the_store_knows_and_the_instance_does_not_is_handed_back(
    loop: VirtualLoop, store: MemoryStore
) -> None:
    await register(store, "a", "b", every_s=1000, first=ZERO + 100 * SECOND)
    one = Instance(loop, store, "one")
    ((held, _),) = await one.coordinator.hold(["b"], "somebody", None)  # So that it renews the hold.
    await asyncio.sleep(1)
    (orphan, _) = (await store.scan()).records
    lease = loop.virtual_clock.wall() + 10 * SECOND
    claimed = replace(orphan, rev=orphan.rev + 1, owner="one", fence=orphan.rev + 1, lease_until=lease, claims=1)
    assert await store.swap(orphan, claimed)
    await asyncio.sleep(TIMING.renew_s + 0.1)

    (record, _) = (await store.scan()).records
    assert (record.owner, record.claims) == (None, 0)
    assert one.journal == []
    one.coordinator.holds.unhold(held)
    await one.stop()
