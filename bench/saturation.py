"""The largest number of tasks that a candidate keeps up with: how it is searched, and where F4's is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, nan
from statistics import median
from typing import Any

from bench.runner import Figures, GivenUp, Job, Plan, Rounds, WorkerFailed, take_turns
from bench.timing import lead

ENOUGH = 0.99  # W2: share of the expected runs that has to be done.
LATEST_MS = 100.0  # W2: bound of the p99 lateness; the interval.
# W2: how the search grows. An overloaded heap loop makes each turn longer than the one before by the overload: a
# small step keeps it from filling the memory before its window ends.
GROWTH = 1.5
FLOOR = "F4"  # Whose largest number of tasks overload is measured against.
GRACE_S = 2.0  # W2: for starting Python, beside twice the time a job takes.


@dataclass(frozen=True)
class Search:
    """How the largest number of tasks is searched.

    Attributes:
        size: The size of `workloads.spread`, without the number of tasks.
        tasks: Where the search begins; a multiple of *resolution*.
        resolution: How close to the limit the search goes.
        most: Where growing ends.
    """

    size: dict[str, Any]
    tasks: int
    resolution: int
    most: int


FULL = Search({"interval_s": 0.1, "warm_up_s": 0.5, "window_s": 2.0}, 8_000, 500, 128_000)
QUICK = Search({"interval_s": 0.1, "warm_up_s": 0.0, "window_s": 0.2}, 100, 100, 100)


def saturate(search: Search, loop: str = "asyncio") -> Plan:
    """Search the largest number of tasks kept up with: grow until it fails, then halve the gap."""
    tasks, resolution, most = search.tasks, search.resolution, search.most
    kept, failed = 0, most + resolution
    best: Figures = {"cpu_s": nan, "runs": nan, "p99_ms": nan}
    while failed - kept > resolution:
        figures = yield from attempt(search.size, tasks, loop)
        if keeps_up(figures):
            kept, best = tasks, figures
        else:
            failed = tasks
        aim = kept * GROWTH if failed > most else (kept + failed) / 2
        tasks = min(int(aim) // resolution * resolution, most)
    return {"largest": kept, "cpu_us": best["cpu_s"] / best["runs"] * 1e6, "p99_ms": best["p99_ms"]}


def attempt(size: dict[str, Any], tasks: int, loop: str) -> Plan:
    """Try *tasks*; without figures, if the worker has to be stopped because it is hopelessly late."""
    takes_s = lead(tasks) + size["interval_s"] + size["warm_up_s"] + size["window_s"]
    try:
        return (yield Job("spread", {"tasks": tasks, **size}, loop, patience_s=GRACE_S + 2 * takes_s))
    except GivenUp:
        return {"runs": 0, "expected": tasks, "p99_ms": inf}


def keeps_up(figures: Figures) -> bool:
    """Return whether enough runs were done, and soon enough."""
    return figures["runs"] >= ENOUGH * figures["expected"] and figures["p99_ms"] < LATEST_MS


@dataclass
class Largest:
    """F4's largest number of tasks, by kind of loop: what overload and recovery are measured at.

    Attributes:
        run: Measures a candidate, as `runner.Workers.run`.
        given: The number to use instead of any that is found; None to find it.
    """

    run: Callable[[str, Job], Figures]
    given: int | None = None
    _found: dict[str, int] = field(default_factory=dict)

    def learn(self, loop: str, rounds: Rounds) -> None:
        """Keep what W2 has found."""
        if found := [round["largest"] for round in rounds.get(FLOOR, ()) if round.get("largest")]:
            self._found[loop] = round(median(found))

    def on(self, loop: str) -> int:
        """Return the number for a kind of loop. Without W2 it is searched, once.

        Raises:
            WorkerFailed: The search failed.
        """
        if self.given is not None:
            return self.given
        if loop not in self._found:
            print(f"  searching the largest N of {FLOOR} on {loop}", file=sys.stderr, flush=True)
            self._found[loop] = self._search(loop)
        return self._found[loop]

    def _search(self, loop: str) -> int:
        failures: list[str] = []
        figures = take_turns({FLOOR: saturate(FULL, loop)}, self.run, failures)
        if not (found := int(figures.get(FLOOR, {}).get("largest", 0))):
            said = "; ".join(failures) or f"it does not even keep up with {FULL.resolution} tasks"
            raise WorkerFailed(FLOOR, Job("spread", FULL.size, loop), said)
        return found
