"""Plans drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from kaiju_app.testing._cluster.network import Network
from kaiju_app.testing._cluster.plan import Ask, Block, Crash, Cut, Fault, Jump, Outage, Pause, Plan


def drawn_plan(
    seed: int,
    instances: int = 3,
    *,
    for_s: float = 300.0,
    faults: int = 6,
    jumps: int | None = None,
    suspensions: int = 5,
    kinds: Sequence[type[Fault]] = (Pause, Crash, Cut),
    tasks: Sequence[str] = ("task",),
    network: Network | None = None,
) -> Plan:
    """Return the plan of *seed*. With *jumps* None, the number of clock jumps is drawn from 0, 1 and 3."""
    rng = Random(f"plan {seed}")

    def drawn(low: float, high: float) -> float:
        return round(rng.uniform(low, high), 3)

    def fault(kind: type[Fault]) -> Fault:
        at, place = drawn(1, for_s), rng.randrange(instances)
        if kind is Pause:
            return Pause(at, place, drawn(3, 60))
        if kind is Block:
            return Block(at, place, drawn(1, 30))
        if kind is Crash:
            return Crash(at, place, drawn(0.5, 30))
        if kind is Cut:
            return Cut(at, place, drawn(3, 40), rng.choice(("both", "both", "there", "back")))
        if kind is Outage:
            return Outage(at, drawn(1, 40), rng.choice(("refuses", "silent", "stalls")))
        return Jump(at, drawn(-30, 0) if rng.random() < 0.5 else round(3600 * rng.random() ** 3, 3))

    found: list[Fault] = [fault(rng.choice(kinds)) for _ in range(faults)]
    found += [fault(Jump) for _ in range(rng.choice((0, 1, 3)) if jumps is None else jumps)]
    for _ in range(suspensions):
        at, place = drawn(1, for_s), rng.randrange(instances)
        found.append(Ask(at, place, "suspend", rng.choice(tasks), drawn(0.5, 20)))
    return Plan(
        tuple(sorted(found, key=lambda each: each.at_s)),
        tuple(rng.randint(-20_000, 20_000) for _ in range(instances)),
        rng.randint(-20_000, 20_000),
        replace(Network(), split=rng.random() < 0.5) if network is None else network,
        for_s,
    )
