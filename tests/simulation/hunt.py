"""Search for seeds that break a promise, and for the smallest plan that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from kaiju_app.testing._cluster.network import RELIABLE
from kaiju_app.testing._cluster.plan import Plan
from kaiju_app.testing._cluster.world import AskHook, BootHook
from simulation.checked import Simulation
from simulation.drawn import drawn_plan

Check = Callable[[Simulation], list[str]]


def _checked(simulation: Simulation) -> list[str]:
    return simulation.violations()


def broken(
    plan: Plan, instances: int, seed: int, boot: BootHook, ask: AskHook | None = None, check: Check = _checked
) -> list[str]:
    """Run one simulation and return the violations."""
    with Simulation(plan, instances, seed, boot, ask) as simulation:
        simulation.run()
        return check(simulation)


def shrink(plan: Plan, fails: Callable[[Plan], object]) -> Plan:
    """Return the smallest plan that still fails: fewest faults, and a reliable network and exact clocks if possible."""
    calmer: dict[str, Any]
    for calmer in ({"network": RELIABLE}, {"rates_ppm": (), "store_ppm": 0}):
        if fails(replace(plan, **calmer)):
            plan = replace(plan, **calmer)
    size, before = len(plan.faults), None
    while size > 1 or plan != before:  # Remove large groups first, then single faults, until every one is needed.
        size, before = (size + 1) // 2, plan
        plan = _without(plan, size, fails)
    return plan


def _without(plan: Plan, size: int, fails: Callable[[Plan], object]) -> Plan:
    """Return *plan* without the faults that it fails without, removing *size* neighbors at a time."""
    start = 0
    while start < len(plan.faults):
        fewer = replace(plan, faults=plan.faults[:start] + plan.faults[start + size :])
        if fails(fewer):
            plan = fewer
        else:
            start += size
    return plan


def script(plan: Plan, instances: int, seed: int, before: str = "") -> str:
    """Return the Python code that replays a simulation. The code in *before* has to define ``boot`` and ``ask``."""
    faults = "".join(f"        {fault!r},\n" for fault in plan.faults)
    network = "RELIABLE" if plan.network == RELIABLE else repr(plan.network)
    return (
        f"{before}plan = Plan(\n    (\n{faults}    ),\n"
        f"    rates_ppm={plan.rates_ppm!r},\n    store_ppm={plan.store_ppm!r},\n"
        f"    network={network},\n    for_s={plan.for_s!r},\n)\n"
        f"with Simulation(plan, {instances}, {seed}, boot, ask) as simulation:\n    simulation.run()\n"
    )


def hunt(
    seeds: Iterable[int],
    boot: BootHook,
    ask: AskHook | None = None,
    *,
    instances: int = 3,
    draw: Callable[[int, int], Plan] = drawn_plan,
    check: Check = _checked,
    before: str = "",
) -> None:
    """Simulate every seed.

    Args:
        before: Python code that defines *boot* and *ask*; it becomes part of the replay script.

    Raises:
        AssertionError: A promise was broken. The message has the smallest plan found that breaks it.
    """
    for seed in seeds:
        plan = draw(seed, instances)
        if broken(plan, instances, seed, boot, ask, check):
            small = shrink(plan, lambda each: broken(each, instances, seed, boot, ask, check))  # noqa: B023
            found = broken(small, instances, seed, boot, ask, check)
            raise AssertionError(f"seed {seed}:\n{script(small, instances, seed, before)}\n" + "\n\n".join(found[:3]))
