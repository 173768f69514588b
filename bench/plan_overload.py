"""W2 beyond saturation, and the way back: which workloads, how large, which figures, which targets.

Both are measured at the largest number of tasks that F4 keeps up with on the same interpreter and kind of loop.
"""

from __future__ import annotations

from math import inf
from typing import Any

from bench.overload import UPSETS
from bench.runner import Figures, GivenUp, Job, Plan
from bench.saturation import Largest
from bench.targets import Target
from bench.timing import lead
from bench.work import Figure, Work

MULTIPLES = (1, 2, 4)
GRACE_S = 10.0  # Overload: for starting Python and the stop, beside three times the time a job takes.
LOAD = 0.7  # Recovery: the share of F4's largest number of tasks.
SECONDS = 5  # Recovery: how long it is watched.
JUDGED = 3  # Recovery: the second in which all has to be well again.

OVERLOAD_FULL = {"interval_s": 0.1, "warm_up_s": 1.0, "window_s": 3.0}
OVERLOAD_QUICK = {"interval_s": 0.1, "warm_up_s": 0.0, "window_s": 0.2}
RECOVERY_FULL = {"interval_s": 0.1, "settle_s": 1.5}
RECOVERY_QUICK = {"interval_s": 0.1, "settle_s": 0.3}
UPSET_FULL = {"block": 1.0, "burst": 0.0, "stop": 10.0}
UPSET_QUICK = {"block": 0.1, "burst": 0.0, "stop": 0.3}
QUICK_TASKS = 20
QUICK_SECONDS = 1


def overload(loop: str, largest: Largest, *, quick: bool) -> Work:
    """Return the work that does once, twice and four times as much as F4 can."""
    size = OVERLOAD_QUICK if quick else OVERLOAD_FULL

    def plan() -> Plan:
        tasks = QUICK_TASKS if quick else largest.on(loop)
        figures: Figures = {"tasks": tasks}
        for multiple in MULTIPLES:
            found = yield from attempt(tasks * multiple, multiple, size, loop)
            figures |= {f"{key}_{multiple}": value for key, value in found.items()}
        return figures

    rows = [Figure("tasks", "F4's largest N")]
    for multiple in MULTIPLES:
        floor = "F4" if multiple == 1 else "F4y"  # Only one that gives way survives more than it can do.
        rows += [
            Figure(f"runs_per_s_{multiple}", f"{multiple} x N: runs/s", (Target(0.7, at_least=True, floor=floor),)),
            Figure(f"least_{multiple}", f"{multiple} x N: least-served / mean", (Target(0.5, at_least=True),)),
            Figure(f"wait_ms_{multiple}", f"{multiple} x N: wait of a handler p99, ms", (Target(10.0),)),
            Figure(f"longest_ms_{multiple}", f"{multiple} x N: longest wait, ms"),
        ]
    return Work(
        "W2-overload",
        f"1, 2 and 4 times F4's largest N at {size['interval_s'] * 1e3:g} ms, on {loop}",
        plan,
        tuple(rows),
        # uvloop with eager tasks raises TypeError on some Pythons and loses every run.
        floors=("F4", "F4y", "F4e") if loop == "asyncio" else ("F4", "F4y"),
        loop=loop,
    )


def attempt(tasks: int, multiple: int, size: dict[str, Any], loop: str) -> Plan:
    """Try *tasks*; a candidate that has to be stopped because it is hopelessly late has served nobody."""
    takes_s = lead(tasks) + size["warm_up_s"] + size["window_s"]
    try:
        job = Job("overload", {"tasks": tasks, "multiple": multiple, **size}, loop, patience_s=GRACE_S + 3 * takes_s)
        return (yield job)
    except GivenUp:
        return {"runs_per_s": 0.0, "least": 0.0, "wait_ms": inf, "longest_ms": inf}


def recovery(loop: str, largest: Largest, *, quick: bool) -> Work:
    """Return the work that upsets a loop with much to do, and watches whether it gets over it."""
    size, lasts_s = (RECOVERY_QUICK, UPSET_QUICK) if quick else (RECOVERY_FULL, UPSET_FULL)
    seconds = QUICK_SECONDS if quick else SECONDS

    def plan() -> Plan:
        tasks = QUICK_TASKS if quick else round(LOAD * largest.on(loop))
        figures: Figures = {"tasks": tasks}
        for upset in UPSETS:
            given: dict[str, Any] = {"tasks": tasks, "upset": upset, "upset_s": lasts_s[upset], "seconds": seconds}
            found = yield Job("recovery", {**given, **size}, loop)
            figures |= {f"{upset}_{key}": value for key, value in found.items()}
        return figures

    rows = [Figure("tasks", f"tasks ({LOAD:.0%} of F4's largest N)")]
    for upset, what in UPSETS.items():
        rows.append(Figure(f"{upset}_before", f"{what.format(lasts_s[upset])}: share before"))
        for second in range(1, seconds + 1):
            target = (Target(0.98, at_least=True),) if second == JUDGED else ()
            rows.append(Figure(f"{upset}_{second}", f"  share in second {second} after it", target))
    return Work(
        "W2-recovery",
        f"share of the runs done after the loop was upset, tasks at {size['interval_s'] * 1e3:g} ms, on {loop}",
        plan,
        tuple(rows),
        floors=(),
        loop=loop,
    )
