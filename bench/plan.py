"""W1 to W6: which workloads, how large, which figures, which reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

from bench.candidates import CANDIDATE, EAGER_FLOORS, POLICIES
from bench.reach import Reach
from bench.runner import Figures, GivenUp, Job, Plan
from bench.workloads import lead

ENOUGH = 0.99  # W2: share of the expected runs that has to be done.
LATEST_MS = 100.0  # W2: bound of the p99 lateness; the interval.
# W2: how the search grows. An overloaded heap loop makes each turn longer than the one before by the overload: a
# small step keeps it from filling the memory before its window ends.
GROWTH = 1.5
GRACE_S = 2.0  # W2: for starting Python, beside twice the time a job takes.

SPREAD_FULL = {"tasks": 1_000, "interval_s": 1.0, "warm_up_s": 0.5, "window_s": 10.0}
SPREAD_QUICK = {"tasks": 100, "interval_s": 0.1, "warm_up_s": 0.0, "window_s": 0.3}
SATURATE_FULL = {"interval_s": 0.1, "warm_up_s": 0.5, "window_s": 2.0}
SATURATE_QUICK = {"interval_s": 0.1, "warm_up_s": 0.0, "window_s": 0.2}
SLOW_FULL = {"tasks": 200, "interval_s": 0.1, "body_s": 0.25, "warm_up": 10, "ticks": 60}
SLOW_QUICK = {"tasks": 20, "interval_s": 0.1, "body_s": 0.25, "warm_up": 1, "ticks": 6}


@dataclass(frozen=True)
class Figure:
    """One row of a table: a figure with its unit, and the reach of the candidate."""

    key: str
    label: str
    reaches: tuple[Reach, ...] = ()


@dataclass(frozen=True)
class Work:
    """One table: a plan that every candidate carries out, and the figures it yields."""

    name: str
    title: str
    plan: Callable[[], Plan]
    figures: tuple[Figure, ...]
    floors: tuple[str, ...]
    candidates: tuple[str, ...] = (CANDIDATE,)
    loop: str = "asyncio"

    def whos(self, *, eager: bool) -> list[str]:
        """List candidates and floors, those with eager tasks only where there are any."""
        return [who for who in (*self.candidates, *self.floors) if eager or who not in EAGER_FLOORS]


def works(*, quick: bool, uvloop: bool) -> list[Work]:
    """List the tables: at full size, or so small that they only prove that everything runs."""
    size = SPREAD_QUICK if quick else SPREAD_FULL
    on_uvloop = [w1(size, "uvloop")] if uvloop else []
    return [w1(size, "asyncio"), *on_uvloop, w2(quick), w3(quick), w4(quick), w5(quick), w6(quick)]


def w1(size: dict[str, Any], loop: str) -> Work:
    """CPU per run and lateness of tasks with spread phases."""

    def plan() -> Plan:
        figures = yield Job("spread", size, loop)
        return {
            "cpu_ms": figures["cpu_s"] * 1e3 / figures["runs"] * 1e3,
            "p50_ms": figures["p50_ms"],
            "p99_ms": figures["p99_ms"],
            "share": 100 * figures["runs"] / figures["expected"],
        }

    near_floor = Reach(0.2, floor="F4", margin=True)
    return Work(
        "W1",
        f"{size['tasks']:,} tasks at {size['interval_s']:g} s, spread phases, {size['window_s']:g} s, on {loop}",
        plan,
        (
            Figure("cpu_ms", "CPU ms per 1,000 runs", (Reach(1.5, floor="F4"),)),
            Figure("p50_ms", "lateness p50, ms"),
            Figure("p99_ms", "lateness p99, ms", (near_floor,) if loop == "asyncio" else ()),
            Figure("share", "runs done, %"),
        ),
        floors=("F4", "F2", "F3", "F4y", "F5", "F4e", "F5e") if loop == "asyncio" else ("F4", "F2"),
        loop=loop,
    )


def w2(quick: bool) -> Work:
    """The largest number of tasks at 100 ms that a candidate keeps up with."""
    size = SATURATE_QUICK if quick else SATURATE_FULL
    bounds = (100, 100, 100) if quick else (8_000, 500, 128_000)
    return Work(
        "W2",
        f"tasks at {size['interval_s'] * 1e3:g} ms, spread phases, until < {ENOUGH:.0%} of the runs are done"
        f" or p99 lateness reaches {LATEST_MS:g} ms",
        lambda: saturate(size, *bounds),
        (
            Figure(
                "largest",
                "largest N",
                (
                    Reach(0.7, at_least=True, floor="F4", eager=False),
                    Reach(17_000, at_least=True, eager=False),
                    Reach(0.7, at_least=True, floor="F4e", eager=True),
                    Reach(35_000, at_least=True, eager=True),
                ),
            ),
            Figure("cpu_us", "CPU us per run there"),
            Figure("p99_ms", "lateness p99 there, ms"),
        ),
        floors=("F4", "F4y", "F5", "F4e", "F5e"),
    )


def saturate(size: dict[str, Any], tasks: int, resolution: int, most: int) -> Plan:
    """Search the largest number of tasks kept up with: grow from *tasks* until it fails, then halve the gap.

    Args:
        resolution: How close to the limit the search goes; *tasks* is a multiple of it.
        most: Where growing ends.
    """
    kept, failed = 0, most + resolution
    best: Figures = {"cpu_s": nan, "runs": nan, "p99_ms": nan}
    while failed - kept > resolution:
        figures = yield from attempt(size, tasks)
        if keeps_up(figures):
            kept, best = tasks, figures
        else:
            failed = tasks
        aim = kept * GROWTH if failed > most else (kept + failed) / 2
        tasks = min(int(aim) // resolution * resolution, most)
    return {"largest": kept, "cpu_us": best["cpu_s"] / best["runs"] * 1e6, "p99_ms": best["p99_ms"]}


def attempt(size: dict[str, Any], tasks: int) -> Plan:
    """Try *tasks*; without figures, if the worker has to be stopped because it is hopelessly late."""
    takes_s = lead(tasks) + size["interval_s"] + size["warm_up_s"] + size["window_s"]
    try:
        return (yield Job("spread", {"tasks": tasks, **size}, patience_s=GRACE_S + 2 * takes_s))
    except GivenUp:
        return {"runs": 0, "expected": tasks, "p99_ms": inf}


def keeps_up(figures: Figures) -> bool:
    """Tell whether enough runs were done, and soon enough."""
    return figures["runs"] >= ENOUGH * figures["expected"] and figures["p99_ms"] < LATEST_MS


def w3(quick: bool) -> Work:
    """Memory and registration of idle tasks."""
    tasks, idle_s, ran = (2_000, 0.1, 2_000) if quick else (1_000_000, 2.0, 100_000)

    def plan() -> Plan:
        idle = yield Job("idle", {"tasks": tasks, "idle_s": idle_s})
        ran_once = yield Job("ran_once", {"tasks": ran})
        return {**idle, "idle_cpu_ms": idle["idle_cpu_s"] * 1e3, "bytes_ran": ran_once["bytes"]}

    return Work(
        "W3",
        f"{tasks:,} idle tasks at 1 h; {ran:,} tasks that have run once",
        plan,
        (
            Figure("register_s", "register and start, s", (Reach(3.0),)),
            Figure("bytes", "resident bytes a task", (Reach(800),)),
            Figure("bytes_ran", "the same, last run kept", (Reach(1_200),)),
            # None at all cannot be measured: going to sleep and waking up is CPU, too.
            Figure("idle_cpu_ms", f"CPU ms in {idle_s:g} s idle", (Reach(1.0),)),
            Figure("stop_s", "stop, s", (Reach(1.0),)),
        ),
        floors=("F4", "F3", "F5"),
    )


def w4(quick: bool) -> Work:
    """A herd: all due at one instant."""
    tasks = 500 if quick else 10_000

    def plan() -> Plan:
        return (yield Job("herd", {"tasks": tasks}))

    return Work(
        "W4",
        f"{tasks:,} tasks due at one instant",
        plan,
        (
            Figure("block_ms", "longest block of the loop, ms", (Reach(5.0),)),
            Figure("gc_ms", "longest garbage collection, ms"),
            Figure("last_ms", "due to last start, ms", (Reach(1.5, floor="F4y"),)),
        ),
        floors=("F4y", "F4", "F4e"),
    )


def w5(quick: bool) -> Work:
    """Churn: tasks added and removed while others are registered."""
    registered = (10, 100, 1_000) if quick else (1_000, 10_000, 100_000)
    churn_s = 0.05 if quick else 1.0
    reaches = (Reach(100_000, at_least=True),), (), (Reach(50_000, at_least=True),)

    def plan() -> Plan:
        figures: Figures = {}
        for count in registered:
            figures[f"pairs_{count}"] = (yield Job("churn", {"registered": count, "churn_s": churn_s}))["pairs_per_s"]
        return figures

    return Work(
        "W5",
        "add and remove a task while K others are registered",
        plan,
        tuple(
            Figure(f"pairs_{count}", f"pairs per second, K = {count:,}", reach)
            for count, reach in zip(registered, reaches, strict=True)
        ),
        floors=("F4", "F3", "F5"),
    )


def w6(quick: bool) -> Work:
    """Bodies slower than their interval, under each policy."""
    size = SLOW_QUICK if quick else SLOW_FULL

    def plan() -> Plan:
        figures = yield Job("slow_bodies", size)
        cpu_us = figures["cpu_s"] * 1e6
        return {**figures, "cpu_us": cpu_us / figures["starts"], "tick_us": cpu_us / figures["ticks"]}

    return Work(
        "W6",
        f"{size['tasks']:,} tasks at {size['interval_s'] * 1e3:g} ms whose body lasts {size['body_s']:g} s",
        plan,
        (
            Figure("cpu_us", "CPU us per start", (Reach(1.5, floor="F4"),)),
            Figure("tick_us", "CPU us per tick, run or not"),
            Figure("starts", "starts"),
            Figure("most_at_once", "most runs of one task at once", (Reach(1),)),
            Figure("unaccounted", "ticks without exactly one ending", (Reach(0),)),
        ),
        floors=("F4",),
        candidates=tuple(f"{CANDIDATE}:{policy}" for policy in POLICIES),
    )
