"""Looking for seeds that break something, and for the least that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from simulated_plan import CALM, Plan
from simulated_world import Asked, Boot, Simulation

Check = Callable[[Simulation], list[str]]


def _checked(simulation: Simulation) -> list[str]:
    return simulation.violations()


def broken(
    plan: Plan, instances: int, seed: int, boot: Boot, ask: Asked | None = None, check: Check = _checked
) -> list[str]:
    """Return what is broken in one simulation."""
    with Simulation(plan, instances, seed, boot, ask) as simulation:
        simulation.run()
        return check(simulation)


def shrunk(plan: Plan, fails: Callable[[Plan], object]) -> Plan:
    """Return *plan* with as few faults as still fail; and with calm weather and right clocks, if that fails, too."""
    calmer: dict[str, Any]
    for calmer in ({"weather": CALM}, {"rates_ppm": (), "store_ppm": 0}):
        if fails(replace(plan, **calmer)):
            plan = replace(plan, **calmer)
    size, before = len(plan.faults), None
    while size > 1 or plan != before:  # In bulk first, and at last one at a time, until none of them can be missed.
        size, before = (size + 1) // 2, plan
        plan = _without(plan, size, fails)
    return plan


def _without(plan: Plan, size: int, fails: Callable[[Plan], object]) -> Plan:
    """Return *plan* without those of its faults that can be missed, *size* neighbours at a time."""
    start = 0
    while start < len(plan.faults):
        fewer = replace(plan, faults=plan.faults[:start] + plan.faults[start + size :])
        if fails(fewer):
            plan = fewer
        else:
            start += size
    return plan


def script(plan: Plan, instances: int, seed: int, before: str = "") -> str:
    """Return the Python that replays a simulation; what it needs *before* that is to make ``boot`` and ``ask``."""
    faults = "".join(f"        {fault!r},\n" for fault in plan.faults)
    weather = "CALM" if plan.weather == CALM else repr(plan.weather)
    return (
        f"{before}plan = Plan(\n    (\n{faults}    ),\n"
        f"    rates_ppm={plan.rates_ppm!r},\n    store_ppm={plan.store_ppm!r},\n"
        f"    weather={weather},\n    for_s={plan.for_s!r},\n)\n"
        f"with Simulation(plan, {instances}, {seed}, boot, ask) as simulation:\n    simulation.run()\n"
    )


def hunt(
    seeds: Iterable[int],
    boot: Boot,
    ask: Asked | None = None,
    *,
    instances: int = 3,
    draw: Callable[[int, int], Plan] = Plan.drawn,
    check: Check = _checked,
    before: str = "",
) -> None:
    """Simulate every seed.

    Args:
        before: Python that makes *boot* and *ask*, for whoever replays what is raised.

    Raises:
        AssertionError: Something was broken, and this is the smallest plan that was found to break it.
    """
    for seed in seeds:
        plan = draw(seed, instances)
        if broken(plan, instances, seed, boot, ask, check):
            small = shrunk(plan, lambda each: broken(each, instances, seed, boot, ask, check))  # noqa: B023
            found = broken(small, instances, seed, boot, ask, check)
            raise AssertionError(f"seed {seed}:\n{script(small, instances, seed, before)}\n" + "\n\n".join(found[:3]))
