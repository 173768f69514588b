"""The promises, with several instances, under every fault that the simulation knows: coordinators as they are built."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest
from simulated import Ask, Bounds, Instance, Plan, Simulation, script

from kaiju_app._claims import Claim, OwnHold
from kaiju_app._cluster import Coordinator
from kaiju_app._timing import LeaseTiming
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores._record import Record, Row
from kaiju_app.stores._store import Ending
from kaiju_app.stores._transitions import Definition, put

SECOND = 1_000_000
EVERY_S = 7
TIMING = LeaseTiming()
SEEDS = int(os.environ.get("SEEDS", "60"))


class Program:
    """What an instance runs: a coordinator, and bodies that act four times a second."""

    def __init__(self, instance: Instance, timing: LeaseTiming) -> None:
        self.instance = instance
        self.bodies: dict[str, asyncio.Task[None]] = {}
        self.coordinator = Coordinator(instance.store, instance.id, self, timing, instance.steady)
        self.suspensions = 0

    async def run(self) -> None:
        now = self.instance.wall()
        new = Definition("task", str(EVERY_S), (0,), now, now)

        def transition(old: Record | None, now: int) -> tuple[Record, tuple[Row, ...]] | None:
            record = put(old, now, new)
            return None if record is None else (record, ())

        while True:
            try:
                async with asyncio.timeout(2):
                    await self.instance.store.change("task", transition)
                break
            except (StoreUnavailable, TimeoutError):
                await asyncio.sleep(1)
        await self.coordinator.run()

    # --- what a coordinator asks of its host ---

    def knows(self, _: str) -> bool:
        return True

    def slots(self) -> int:
        return 5 - len(self.bodies)

    def start(self, claim: Claim) -> None:
        self.journal("begin", claim)
        self.bodies[claim.name] = self.instance.loop.create_task(self.body(claim))

    def lose(self, claim: Claim) -> None:
        self.bodies[claim.name].cancel()

    def follow(self, claim: Claim, record: Record) -> Ending:
        return self.ending(claim, record.spec)

    def unheld(self, _: OwnHold) -> None:
        """Whoever is inside looks at the hold itself."""

    def ending(self, claim: Claim, spec: str) -> Ending:
        record = claim.record
        return Ending(
            record.name, record.fence, spec, record.next + int(spec) * SECOND, (self.row(claim, "SUCCEEDED"),)
        )

    def row(self, claim: Claim, outcome: str) -> Row:
        record = claim.record
        return Row(record.name, record.tick, record.takes, record.tick, 1, outcome, None, self.instance.wall())

    def journal(self, event: str, claim: Claim) -> None:
        record = claim.record
        self.instance.journal(event, record.name, fence=record.fence, tick=record.tick, take=record.takes)  # type: ignore[arg-type]

    async def body(self, claim: Claim) -> None:
        try:
            for _ in range(8):
                await asyncio.sleep(0.25)
                self.journal("act", claim)
        except asyncio.CancelledError:
            del self.bodies[claim.name]
            self.coordinator.released(claim, [self.row(claim, "LOST")])
            return
        self.journal("end", claim)
        del self.bodies[claim.name]
        self.coordinator.ended(claim, self.ending(claim, claim.record.spec))

    # --- a suspension, as it will be ---

    async def suspend(self, ask: Ask) -> None:
        self.suspensions += 1
        note = str(self.suspensions)
        self.instance.journal("suspend", ask.task, note=note)
        try:
            held, record = await self.coordinator.hold(ask.task, self.instance.id, None)
        except (StoreUnavailable, KeyError):
            self.instance.journal("suspended-end", ask.task, note=note)
            return
        try:
            await self.quiet(held, record)
            if not held.lost:
                self.instance.journal("suspended-begin", ask.task, note=note)
            for _ in range(round(ask.for_s * 4)):
                if held.lost:
                    break
                await asyncio.sleep(0.25)
                if not held.lost:
                    self.instance.journal("act-in-suspension", ask.task, note=note)
        finally:
            self.coordinator.unhold(held)
            self.instance.journal("suspended-end", ask.task, note=note)

    async def quiet(self, held: OwnHold, record: Record) -> None:
        while record.holder is not None and not held.lost:
            try:
                if not await self.coordinator.is_running(record.name, record.fence):
                    return
            except StoreUnavailable:
                pass
            await asyncio.sleep(0.5)


class Programs:
    """The programs of one simulation, by their instances."""

    def __init__(self, timing: LeaseTiming) -> None:
        self.timing = timing
        self.of: dict[str, Program] = {}

    async def boot(self, instance: Instance) -> None:
        self.of[instance.id] = program = Program(instance, self.timing)
        await program.run()

    async def ask(self, instance: Instance, ask: Ask) -> None:
        await self.of[instance.id].suspend(ask)


@pytest.mark.slow
@pytest.mark.pure
@pytest.mark.parametrize("ahead_s", [0.5, 0.0])
def test_no_promise_is_broken(ahead_s: float) -> None:
    """Three instances and 300 seconds a seed: pauses, crashes, partitions, lost and late messages, clocks that jump."""
    timing = replace(TIMING, ahead_s=ahead_s)
    begun = 0
    for seed in range(SEEDS):
        programs = Programs(timing)
        with Simulation(Plan.drawn(seed), 3, seed, programs.boot, programs.ask) as simulation:
            journal = simulation.run()
            begun += sum(entry.event == "begin" for entry in journal)
            # The bound of one failover, and what the messages of the next claim may cost.
            found = simulation.violations(Bounds(failover_s=timing.failover_s + 10))
            replay = script(simulation.plan, 3, seed)
        assert found == [], f"seed {seed}\n" + "\n".join(found) + f"\n{replay}"
    assert begun > SEEDS * 20
