"""What is done to a candidate inside the measured process. Each workload returns plain numbers.

The garbage collector is left as users have it.
"""

from __future__ import annotations

import asyncio
import gc
from array import array
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from bench.candidates import Candidate, Kaiju
from bench.floors import NEXT, NOW
from bench.measure import Probe, SlowProbe, Window, collections, heartbeat, quantile, resident_bytes, sleep_until
from bench.overload import overload, recovery
from bench.timing import LEAD_S, first_tick, phases, start_before

Figures = dict[str, float]
Workload = Callable[..., Awaitable[Figures]]

HOUR_S = 3600.0  # An interval that does not come round while anything is measured.
PATIENCE_S = 30.0  # How long to wait for the last of many runs before they count as lost.
POLL_S = 0.01  # The interval of these checks.
BATCH = 1_000  # Calls between two turns of the loop, so that work put off by a candidate is measured as well.


class NoRuns(Exception):
    """Runs that should have happened are missing."""

    def __init__(self, expected: float, seen: int) -> None:
        super().__init__(f"expected {expected:,.0f} runs, saw {seen:,}")


async def spread(candidate: Candidate, *, tasks: int, interval_s: float, warm_up_s: float, window_s: float) -> Figures:
    """W1, W2: tasks of one interval, their phases spread over it.

    Returns:
        Runs in the window and the runs expected in it; CPU seconds; lateness quantiles in milliseconds.
    """
    late_s = array("d")
    first_tick_s = first_tick(tasks)
    for phase in phases(tasks):
        add_probe(candidate, late_s, interval_s, first_tick_s + phase * interval_s)
    await start_before(candidate, first_tick_s)
    await sleep_until(first_tick_s + interval_s + warm_up_s)
    del late_s[:]
    with Window() as window:
        await asyncio.sleep(window_s)
    seen = sorted(late_s)
    await candidate.stop()

    expected = tasks * window.lasted_s / interval_s
    if not seen:
        raise NoRuns(expected, 0)
    return {
        "runs": len(seen),
        "expected": expected,
        "cpu_s": window.cpu_s,
        "p50_ms": quantile(seen, 0.50) * 1e3,
        "p99_ms": quantile(seen, 0.99) * 1e3,
    }


async def idle(candidate: Candidate, *, tasks: int, idle_s: float) -> Figures:
    """W3: many tasks whose first run is far away.

    Returns:
        Seconds to register and start, resident bytes a task, CPU seconds while idle, seconds to stop.
    """
    gc.collect()
    before = resident_bytes()
    with Window() as register:
        for _ in range(tasks):
            candidate.add(nothing, HOUR_S, NEXT)
        await candidate.start()
    after = resident_bytes()
    with Window() as quiet:
        await asyncio.sleep(idle_s)
    with Window() as stop:
        await candidate.stop()
    return {
        "register_s": register.lasted_s,
        "bytes": (after - before) / tasks,
        "idle_cpu_s": quiet.cpu_s,
        "stop_s": stop.lasted_s,
    }


async def ran_once(candidate: Candidate, *, tasks: int) -> Figures:
    """W3: many tasks that have run exactly once; returns resident bytes a task.

    They are added to a started candidate in batches, each of which runs before the next: the memory of many tasks in
    flight at once, which the allocator keeps, is not what is asked for.
    """
    late_s = array("d", bytes(8 * tasks))
    del late_s[:]
    gc.collect()
    before = resident_bytes()
    await candidate.start()
    note = late_s.append

    async def body() -> None:
        note(0.0)

    for first in range(0, tasks, BATCH):
        batch = min(BATCH, tasks - first)
        for _ in range(batch):
            candidate.add(body, HOUR_S, NOW)
        await all_noted(late_s, first + batch)
    await asyncio.sleep(POLL_S)  # The last runs have begun; let them end.
    after = resident_bytes()
    await candidate.stop()
    return {"bytes": (after - before) / tasks}


async def herd(candidate: Candidate, *, tasks: int) -> Figures:
    """W4: all tasks due at one instant. They share one body: more would only give the garbage collector more to do.

    Returns:
        Milliseconds of the longest block of the loop, of the longest garbage collection (a part of some block), and
        from that instant to the start of the last run.
    """
    late_s = array("d")
    due_s = first_tick(tasks)
    note = late_s.append

    async def body() -> None:
        note(monotonic() - due_s)

    for _ in range(tasks):
        candidate.add(body, HOUR_S, due_s)
    await start_before(candidate, due_s)
    await sleep_until(due_s - LEAD_S / 2)
    with heartbeat() as beat, collections() as longest:
        await all_noted(late_s, tasks)
    await candidate.stop()
    return {"block_ms": beat.longest_s * 1e3, "gc_ms": longest[0] * 1e3, "last_ms": max(late_s) * 1e3}


async def churn(candidate: Candidate, *, registered: int, churn_s: float) -> Figures:
    """W5: add a task and remove it again, with *registered* others there; returns pairs per second."""
    for _ in range(registered):
        candidate.add(nothing, HOUR_S, NEXT)
    await candidate.start()
    add, remove, pairs = candidate.add, candidate.remove, 0
    end_s = monotonic() + churn_s
    with Window() as window:
        while monotonic() < end_s:
            for _ in range(BATCH):
                remove(add(nothing, HOUR_S, NEXT))
            pairs += BATCH
            await asyncio.sleep(0)
    await candidate.stop()
    return {"pairs_per_s": pairs / window.lasted_s}


async def removal(candidate: Candidate, *, tasks: int) -> Figures:
    """W5: remove tasks whose first run is due and has not begun; returns microseconds for each."""
    await candidate.start()
    handles = [candidate.add(nothing, HOUR_S, NOW) for _ in range(tasks)]
    remove = candidate.remove
    with Window() as window:
        for handle in handles:
            remove(handle)
    await asyncio.sleep(0)
    await candidate.stop()
    return {"us": window.lasted_s / tasks * 1e6}


async def slow_bodies(
    candidate: Candidate, *, tasks: int, interval_s: float, body_s: float, warm_up: int, ticks: int
) -> Figures:
    """W6: bodies that last longer than their interval.

    Phases are spread over half of the interval, and the stop comes in the other half, in the middle of the gap between
    the last phase and the first: how many ticks are due by then is known exactly.

    Args:
        warm_up: Ticks before the measured window.
        ticks: Ticks of each task in all.

    Returns:
        Starts of bodies, ticks due and CPU seconds in the window; most runs of one task at once; for the scheduler,
        the number of ticks that have no ending or more than one.
    """
    first_tick_s = first_tick(tasks)
    stop_s = first_tick_s + (ticks - 0.25) * interval_s
    probes = [SlowProbe(body_s) for _ in range(tasks)]
    handles = [
        candidate.add(probe.run, interval_s, first_tick_s + number / tasks * interval_s / 2)
        for number, probe in enumerate(probes)
    ]
    await start_before(candidate, first_tick_s)
    await sleep_until(first_tick_s + warm_up * interval_s)
    starts = -sum(probe.starts for probe in probes)
    with Window() as window:
        await sleep_until(stop_s)
    starts += sum(probe.starts for probe in probes)
    await candidate.stop()

    if not starts:
        raise NoRuns(tasks, 0)
    figures: Figures = {
        "starts": starts,
        "ticks": tasks * (ticks - warm_up),
        "cpu_s": window.cpu_s,
        "most_at_once": max(probe.most_at_once for probe in probes),
    }
    if isinstance(candidate, Kaiju):
        figures["unaccounted"] = sum(abs(ticks - candidate.ticks_ended(handle)) for handle in handles)
    return figures


WORKLOADS: dict[str, Workload] = {
    workload.__name__: workload
    for workload in (spread, idle, ran_once, herd, churn, removal, slow_bodies, overload, recovery)
}


async def nothing() -> None:
    """Do nothing: the body of tasks that are not meant to run."""


def add_probe(candidate: Candidate, late_s: array[float], interval_s: float, due_s: float) -> None:
    """Register a body that appends its lateness, in seconds, to *late_s*."""
    probe = Probe(late_s.append, interval_s, due_s, runs_every_tick=candidate.runs_every_tick)
    candidate.add(probe.call if candidate.synchronous else probe.run, interval_s, due_s)


async def all_noted(noted: array[Any], expected: int) -> None:
    """Wait until *expected* values are noted.

    Raises:
        NoRuns: They are not, after PATIENCE_S.
    """
    end_s = monotonic() + PATIENCE_S
    while len(noted) < expected:
        if monotonic() > end_s:
            raise NoRuns(expected, len(noted))
        await asyncio.sleep(POLL_S)
