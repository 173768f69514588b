"""The promises, with several instances, under every fault that the simulation knows: schedulers as users have them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from simulated import Bounds, Plan, Simulation, script
from simulated_scheduler import Programs

from kaiju_app._model import Outcome
from kaiju_app._timing import LeaseTiming
from kaiju_app.scheduler import ExecPolicy
from kaiju_app.stores._record import Row

TIMING = LeaseTiming()
SEEDS = int(os.environ.get("SEEDS", "100"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
EVERY_S = 7
POLICIES = (ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP)


@pytest.mark.slow
@pytest.mark.pure
@pytest.mark.timeout(36_000)  # As many seeds as somebody wants.
@pytest.mark.parametrize("ahead_s", [0.5, 0.0])
def test_no_promise_is_broken(ahead_s: float) -> None:
    """Three instances and 300 seconds a seed: pauses, crashes, partitions, lost and late messages, clocks that jump."""
    timing = replace(TIMING, ahead_s=ahead_s)
    begun = 0
    for seed in range(FIRST, FIRST + SEEDS):
        programs = Programs(timing, every_s=EVERY_S, policy=POLICIES[seed % 3])
        with Simulation(Plan.drawn(seed), 3, seed, programs.boot, programs.ask) as simulation:
            journal = simulation.run()
            begun += sum(entry.event == "begin" for entry in journal)
            # The bound of one failover, and of a renewal that arrives late, from one who is gone meanwhile.
            late_s = timing.ttl_s + timing.grace_s
            found = simulation.violations(Bounds(failover_s=timing.failover_s + late_s)) + untold(simulation.rows())
            replay = script(simulation.plan, 3, seed)
        assert found == [], f"seed {seed}\n" + "\n".join(found) + f"\n{replay}"
    assert begun > SEEDS * 20


def untold(rows: Iterable[Row]) -> list[str]:
    """Every tick is in a row: those of an interval follow each other without a gap."""
    told = sorted((row.first, row.last) for row in rows if not row.manual and row.outcome != Outcome.LOST.value)
    return [
        f"nothing is told of the ticks between {earlier} and {later}"
        for (_, earlier), (later, _) in pairwise(told)
        if later != earlier + EVERY_S * 1_000_000
    ]
