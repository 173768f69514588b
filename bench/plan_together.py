"""W8: instances that share tasks through a store: which stores, how many tasks, which targets."""

from __future__ import annotations

from typing import Any

from bench.runner import Job, Plan
from bench.targets import Target
from bench.work import Figure, Work

STORES = ("postgresql", "valkey", "sqlite")
TASKS = (1_000, 3_000, 6_000)

FULL = {"interval_s": 1.0, "processes": 3, "seconds": 20.0, "start_s": 6.0}
QUICK = {
    "interval_s": 1.0,
    "processes": 2,
    "seconds": 1.0,
    "start_s": 10.0,
}  # A busy machine judges nothing, but has to start them.
QUICK_SHARE = 0.02  # Of the tasks.

ALL_DONE: dict[str, tuple[Target, ...]] = {"missing": (Target(0),), "duplicates": (Target(0),)}
TARGETS: dict[tuple[str, int], dict[str, tuple[Target, ...]]] = {
    ("postgresql", 1_000): {**ALL_DONE, "statements": (Target(70),), "p99_ms": (Target(5),), "cpu_us": (Target(200),)},
    ("postgresql", 3_000): ALL_DONE,
    ("postgresql", 6_000): {**ALL_DONE, "p99_ms": (Target(50),), "cpu_us": (Target(150),)},
    # A tenth of a command a run.
    ("valkey", 1_000): {**ALL_DONE, "statements": (Target(100),), "p99_ms": (Target(5),)},
    ("valkey", 3_000): ALL_DONE,
    ("valkey", 6_000): {**ALL_DONE, "p99_ms": (Target(50),)},
    ("sqlite", 3_000): {**ALL_DONE, "p99_ms": (Target(50),)},
}


def together(*, quick: bool) -> list[Work]:
    """List one work for each store and number of tasks; the quick form only for the smallest number."""
    return [w8(store, tasks, quick=quick) for store in STORES for tasks in (TASKS[:1] if quick else TASKS)]


def w8(store: str, tasks: int, *, quick: bool) -> Work:
    """Return the work in which instances share *tasks* through *store*."""
    given: dict[str, Any] = QUICK if quick else FULL
    size = {"store": store, "tasks": round(tasks * QUICK_SHARE) if quick else tasks, **given}

    def plan() -> Plan:
        return (yield Job("together", size, pinned=False))

    targets = TARGETS.get((store, tasks), {"duplicates": (Target(0),)})
    return Work(
        f"W8-{store}-{tasks}",
        f"{size['tasks']:,} tasks at {size['interval_s']:g} s, {size['processes']} instances on {store},"
        f" {size['seconds']:g} s",
        plan,
        tuple(
            Figure(key, label, targets.get(key, ()))
            for key, label in (
                ("expected", "runs expected"),
                ("missing", "of them not done"),
                ("duplicates", "runs done twice"),
                ("p50_ms", "lateness p50, ms"),
                ("p99_ms", "lateness p99, ms"),
                ("longest_ms", "longest lateness, ms"),
                ("statements", "statements/s"),
                ("cpu_us", "CPU us per run, our processes"),
                ("server_us", "CPU us per run, the server"),
            )
        ),
        floors=(),
    )
