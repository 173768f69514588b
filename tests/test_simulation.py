"""The promises, with several instances, under every fault that the simulation knows: schedulers as users have them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from simulated import Bounds, Entry, Simulation, hunt
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


# The bound of one failover, and of a renewal that arrives late, from one who is gone meanwhile.
BOUNDS = Bounds(failover_s=TIMING.failover_s + TIMING.ttl_s + TIMING.grace_s)


@pytest.mark.slow
@pytest.mark.pure
@pytest.mark.timeout(36_000)  # As many seeds as somebody wants.
@pytest.mark.parametrize("ahead_s", [0.5, 0.0])
def test_no_promise_is_broken(ahead_s: float) -> None:
    """Three instances and 300 seconds a seed: pauses, crashes, partitions, lost and late messages, clocks that jump."""
    begun = hunted(range(FIRST, FIRST + SEEDS), replace(TIMING, ahead_s=ahead_s))

    assert begun > SEEDS * 20


@pytest.mark.pure
def test_a_seed_that_breaks_a_promise_is_told_as_a_small_script_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(*_: object) -> None: ...

    monkeypatch.setattr("kaiju_app._shared_suspend._quiet_elsewhere", at_once)
    with pytest.raises(AssertionError) as caught:
        hunted(range(20), TIMING)
    text = str(caught.value)
    names: dict[str, Any] = {}

    exec(text[text.index("from simulated ") : text.index("\n\ntask: ")], names)

    assert any("inside the suspended body" in each for each in names["simulation"].violations(BOUNDS))
    assert len(names["plan"].faults) <= 3


def hunted(seeds: range, timing: LeaseTiming) -> int:
    """Return how many runs began; whatever breaks a promise is raised, with the Python that replays it."""
    begun = 0

    def check(simulation: Simulation) -> list[str]:
        nonlocal begun
        begun += sum(entry.event == "begin" for entry in simulation.journal)
        return simulation.violations(BOUNDS) + untold(simulation.rows(), simulation.journal)

    for seed in seeds:
        policy = POLICIES[seed % len(POLICIES)]
        programs = Programs(timing, every_s=EVERY_S, policy=policy)
        before = (
            "from simulated import *\nfrom simulated_scheduler import ExecPolicy, LeaseTiming, Programs\n\n"
            f"programs = Programs({timing!r}, every_s={EVERY_S}, policy=ExecPolicy.{policy.name})\n"
            "boot, ask = programs.boot, programs.ask\n"
        )
        hunt([seed], programs.boot, programs.ask, check=check, before=before)
    return begun


@pytest.mark.pure
def test_a_tick_that_is_not_told_is_found_at_either_end_and_between() -> None:
    every = EVERY_S * 1_000_000
    rows = [Row("task", tick * every, 1, tick * every, 1, "SUCCEEDED", None, 0) for tick in range(1, 6)]
    journal = [Entry(0, "store", "next", "task", tick=tick * every) for tick in range(1, 7)]

    assert untold(rows, journal) == []
    for missing in range(5):
        assert len(untold(rows[:missing] + rows[missing + 1 :], journal)) == 1


def untold(rows: Iterable[Row], journal: Iterable[Entry]) -> list[str]:
    """Every tick is in a row, from the first one to the last before the one to come: they follow without a gap."""
    told = sorted((row.first, row.last) for row in rows if not row.manual and row.outcome != Outcome.LOST.value)
    coming = [entry.tick for entry in journal if entry.event == "next"]  # That it comes in time is checked elsewhere.
    before = coming[0] - EVERY_S * 1_000_000
    told = [(before, before), *told, (coming[-1], coming[-1])]
    return [
        f"nothing is told of the ticks between {earlier} and {later}"
        for (_, earlier), (later, _) in pairwise(told)
        if later != earlier + EVERY_S * 1_000_000
    ]
