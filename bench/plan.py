"""W1 to W6: which workloads, how large, which figures, which targets; and the list of all works."""

from __future__ import annotations

from typing import Any

from bench import saturation
from bench.candidates import CANDIDATE, PEER, POLICIES
from bench.plan_overload import overload, recovery
from bench.plan_together import together
from bench.runner import Figures, Job, Plan
from bench.saturation import ENOUGH, LATEST_MS, Largest, saturate
from bench.targets import Target
from bench.work import Figure, Work

SPREAD_FULL = {"tasks": 1_000, "interval_s": 1.0, "warm_up_s": 0.5, "window_s": 10.0}
SPREAD_QUICK = {"tasks": 100, "interval_s": 0.1, "warm_up_s": 0.0, "window_s": 0.3}
SLOW_FULL = {"tasks": 200, "interval_s": 0.1, "body_s": 0.25, "warm_up": 10, "ticks": 60}
SLOW_QUICK = {"tasks": 20, "interval_s": 0.1, "body_s": 0.25, "warm_up": 1, "ticks": 6}


NAMES = (
    "W1",
    "W2",
    "W2-overload",
    "W2-recovery",
    "W3",
    "W4",
    "W5",
    "W6",
    *(work.name for work in together(quick=False)),
)


def works(*, quick: bool, loops: tuple[str, ...], largest: Largest) -> list[Work]:
    """List the tables: at full size, or so small that they only prove that everything runs."""
    size = SPREAD_QUICK if quick else SPREAD_FULL
    listed = [w1(size, loop) for loop in loops]
    if "asyncio" in loops:
        listed.append(w2(quick))
    for loop in loops:
        listed += [overload(loop, largest, quick=quick), recovery(loop, largest, quick=quick)]
    if "asyncio" in loops:
        listed += [w3(quick), w4(quick), w5(quick), w6(quick), *together(quick=quick)]
    return listed


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

    near_floor = Target(0.2, floor="F4", margin=True)
    return Work(
        "W1",
        f"{size['tasks']:,} tasks at {size['interval_s']:g} s, spread phases, {size['window_s']:g} s, on {loop}",
        plan,
        (
            Figure("cpu_ms", "CPU ms per 1,000 runs", (Target(1.5, floor="F4"),)),
            Figure("p50_ms", "lateness p50, ms"),
            Figure("p99_ms", "lateness p99, ms", (near_floor,) if loop == "asyncio" else ()),
            Figure("share", "runs done, %"),
        ),
        floors=("F4", "F2", "F3", "F4y", "F5", "F4e", "F5e") if loop == "asyncio" else ("F4", "F2"),
        loop=loop,
    )


def w2(quick: bool) -> Work:
    """The largest number of tasks at 100 ms that a candidate keeps up with."""
    search = saturation.QUICK if quick else saturation.FULL
    return Work(
        "W2",
        f"tasks at {search.size['interval_s'] * 1e3:g} ms, spread phases, until < {ENOUGH:.0%} of the runs are done"
        f" or p99 lateness reaches {LATEST_MS:g} ms",
        lambda: saturate(search),
        (
            Figure(
                "largest",
                "largest N",
                (
                    Target(0.7, at_least=True, floor="F4", eager=False),
                    Target(17_000, at_least=True, eager=False),
                    Target(0.7, at_least=True, floor="F4e", eager=True),
                    Target(35_000, at_least=True, eager=True),
                ),
            ),
            Figure("cpu_us", "CPU us per run there"),
            Figure("p99_ms", "lateness p99 there, ms"),
        ),
        floors=("F4", "F4y", "F5", "F4e", "F5e"),
    )


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
            Figure("register_s", "register and start, s", (Target(3.0),)),
            Figure("bytes", "resident bytes a task", (Target(800),)),
            Figure("bytes_ran", "the same, last run kept", (Target(1_200),)),
            # None at all cannot be measured: going to sleep and waking up is CPU, too.
            Figure("idle_cpu_ms", f"CPU ms in {idle_s:g} s idle", (Target(1.0),)),
            Figure("stop_s", "stop, s", (Target(1.0),)),
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
            Figure("block_ms", "longest block of the loop, ms", (Target(5.0),)),
            Figure("gc_ms", "longest garbage collection, ms"),
            Figure("last_ms", "due to last start, ms", (Target(1.5, floor="F4y"),)),
        ),
        floors=("F4y", "F4", "F4e"),
    )


def w5(quick: bool) -> Work:
    """Churn: tasks added and removed while others are registered."""
    registered = (10, 100, 1_000) if quick else (1_000, 10_000, 100_000)
    churn_s, due = (0.05, 100) if quick else (1.0, 10_000)
    targets = (Target(100_000, at_least=True),), (), (Target(50_000, at_least=True),)

    def plan() -> Plan:
        figures: Figures = {}
        for count in registered:
            figures[f"pairs_{count}"] = (yield Job("churn", {"registered": count, "churn_s": churn_s}))["pairs_per_s"]
        figures["due_us"] = (yield Job("removal", {"tasks": due}))["us"]
        return figures

    return Work(
        "W5",
        "add and remove a task while K others are registered",
        plan,
        (
            *(
                Figure(f"pairs_{count}", f"pairs per second, K = {count:,}", target)
                for count, target in zip(registered, targets, strict=True)
            ),
            Figure("due_us", f"removal of a task that is due, us ({due:,} of them)", (Target(5.0),)),
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
            Figure("cpu_us", "CPU us per start", (Target(1.5, floor="F4"), Target(1.5, floor=PEER))),
            Figure("tick_us", "CPU us per tick, run or not"),
            Figure("starts", "starts"),
            Figure("most_at_once", "most runs of one task at once", (Target(1),)),
            Figure("unaccounted", "ticks without exactly one ending", (Target(0),)),
        ),
        floors=("F4", PEER),
        candidates=tuple(f"{CANDIDATE}:{policy}" for policy in POLICIES),
    )
