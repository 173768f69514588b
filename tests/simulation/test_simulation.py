"""Schedulers as users have them keep their promises on several instances, under every fault of the simulation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app._core.model import Outcome
from kaiju_app.scheduler import ExecPolicy
from kaiju_app.stores._record import LedgerRow
from simulation import Bounds, Entry, Simulation, hunt
from simulation.scheduler import Programs

TIMING = LeaseTiming()
SEEDS = int(os.environ.get("SEEDS", "500"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
EVERY_S = 7
AHEAD_S = (0.5, 0.0)  # The seeds take turns.
POLICIES = (ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP)


# One failover, plus the lease that a late renewal from a dead instance prolongs.
BOUNDS = Bounds(failover_s=TIMING.failover_s + TIMING.ttl_s + TIMING.grace_s)


@pytest.mark.slow
@pytest.mark.pure
@pytest.mark.timeout(36_000)  # SEEDS may be large.
@pytest.mark.parametrize(("number", "ahead_s"), list(enumerate(AHEAD_S)))
def test_no_promise_is_broken(number: int, ahead_s: float) -> None:
    """Each seed is 300 seconds of three instances: pauses, crashes, partitions, lost and late messages, clock jumps."""
    seeds = range(FIRST, FIRST + SEEDS)[number :: len(AHEAD_S)]

    begun = search_seeds(seeds, replace(TIMING, ahead_s=ahead_s))

    assert begun > len(seeds) * 20


@pytest.mark.pure
def test_a_seed_that_breaks_a_promise_is_told_as_a_small_script_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(*_: object) -> None: ...

    monkeypatch.setattr("kaiju_app.scheduler._cluster_suspension.ClusterStay._wait_for_runs", at_once)
    with pytest.raises(AssertionError) as caught:
        search_seeds(range(20), TIMING)
    text = str(caught.value)
    names: dict[str, Any] = {}

    exec(text[text.index("from simulation ") : text.index("\n\ntask: ")], names)

    assert any("inside the suspended body" in each for each in names["simulation"].violations(BOUNDS))
    assert len(names["plan"].faults) <= 3


def search_seeds(seeds: range, timing: LeaseTiming) -> int:
    """Return how many runs began; raise at a broken promise, with the Python code that replays it."""
    begun = 0

    def check(simulation: Simulation) -> list[str]:
        nonlocal begun
        begun += sum(entry.event == "begin" for entry in simulation.journal)
        return simulation.violations(BOUNDS) + missing_ticks(simulation.rows(), simulation.journal)

    for seed in seeds:
        policy = POLICIES[seed % len(POLICIES)]
        programs = Programs(timing, every_s=EVERY_S, policy=policy)
        before = (
            "from simulation import *\nfrom simulation.scheduler import ExecPolicy, LeaseTiming, Programs\n\n"
            f"programs = Programs({timing!r}, every_s={EVERY_S}, policy=ExecPolicy.{policy.name})\n"
            "boot, ask = programs.boot, programs.ask\n"
        )
        hunt([seed], programs.boot, programs.ask, check=check, before=before)
    return begun


@pytest.mark.pure
def test_a_tick_that_is_not_told_is_found_at_either_end_and_between() -> None:
    every = EVERY_S * 1_000_000
    rows = [LedgerRow("task", tick * every, 1, tick * every, 1, "SUCCEEDED", None, 0) for tick in range(1, 6)]
    journal = [Entry(0, "store", "next", "task", tick=tick * every) for tick in range(1, 7)]

    assert missing_ticks(rows, journal) == []
    for missing in range(5):
        assert len(missing_ticks(rows[:missing] + rows[missing + 1 :], journal)) == 1


def missing_ticks(rows: Iterable[LedgerRow], journal: Iterable[Entry]) -> list[str]:
    """Every tick from the first to the last before the next one is in a row, without a gap."""
    told = sorted(
        (row.first_tick, row.last_tick) for row in rows if not row.manual and row.outcome != Outcome.LOST.value
    )
    coming = [entry.tick for entry in journal if entry.event == "next"]  # Its timeliness is checked elsewhere.
    before = coming[0] - EVERY_S * 1_000_000
    told = [(before, before), *told, (coming[-1], coming[-1])]
    return [
        f"the ledger has no row for the ticks between {earlier} and {later}"
        for (_, earlier), (later, _) in pairwise(told)
        if later != earlier + EVERY_S * 1_000_000
    ]
