"""What is done to a candidate to overload it, inside the measured process. Each workload returns plain numbers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from math import nan
from time import monotonic

from bench.candidates import Candidate
from bench.floors import NOW, Body
from bench.measure import Window, quantile, sleep_until
from bench.timing import first_tick, phases, start_before

HANDLER_S = 0.001  # How long the handler sleeps between its turns.
WATCH_S = 0.01  # How often a process looks whether it has been stopped and continued.
STOP_AND_GO = "kill -STOP $1; sleep $2; kill -CONT $1"

UPSETS = {
    "block": "a function blocks the loop for {:g} s",
    "burst": "all tasks are registered in the started scheduler",
    "stop": "the process is stopped (SIGSTOP) for {:g} s",
}


class Counts:
    """How often each of many tasks has run. The bodies do nothing else."""

    def __init__(self, tasks: int) -> None:
        self._counts = array("q", bytes(8 * tasks))

    def body(self, number: int) -> Body:
        """Return the body of task *number*."""
        counts = self._counts

        async def run() -> None:
            counts[number] += 1

        return run

    def since(self, before: array[int] | None = None) -> array[int]:
        """Return a copy of the counts, without those of *before*."""
        now = array("q", self._counts)
        return now if before is None else array("q", (late - early for late, early in zip(now, before, strict=True)))


async def overload(
    candidate: Candidate, *, tasks: int, interval_s: float, warm_up_s: float, window_s: float, multiple: int
) -> dict[str, float]:
    """W2 beyond saturation: more tasks of one interval than the candidate can run.

    Args:
        multiple: How many times as much there is to do as F4 can.

    Returns:
        Runs a second; the runs of the least-served task, divided by the mean; the waits of a handler in the same loop,
        in milliseconds. All NaN for a loop that does not give way, unless *multiple* is 1: each of its turns is so many
        times as long as the one before, until the memory is full.
    """
    if multiple > 1 and not candidate.gives_way:
        return dict.fromkeys(("runs_per_s", "least", "wait_ms", "longest_ms"), nan)
    counts = Counts(tasks)
    first_tick_s = first_tick(tasks)
    for number, phase in enumerate(phases(tasks)):
        candidate.add(counts.body(number), interval_s, first_tick_s + phase * interval_s)
    await start_before(candidate, first_tick_s)
    await sleep_until(first_tick_s + warm_up_s)
    before = counts.since()
    async with handler() as waits_s:
        with Window() as window:
            await asyncio.sleep(window_s)
        runs = counts.since(before)
    await candidate.stop()

    waited = sorted(waits_s) or [window.lasted_s]
    total = sum(runs)
    return {
        "runs_per_s": total / window.lasted_s,
        "least": min(runs) * tasks / total if total else 0.0,
        "wait_ms": quantile(waited, 0.99) * 1e3,
        "longest_ms": waited[-1] * 1e3,
    }


@asynccontextmanager
async def handler() -> AsyncIterator[array[float]]:
    """Let a task of the application run beside; yields how much later than asked each of its turns came, in seconds."""
    waits_s = array("d")

    async def serve() -> None:
        while True:
            asked_s = monotonic() + HANDLER_S
            await asyncio.sleep(HANDLER_S)
            waits_s.append(monotonic() - asked_s)

    task = asyncio.create_task(serve())
    try:
        yield waits_s
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def recovery(
    candidate: Candidate, *, tasks: int, interval_s: float, settle_s: float, upset: str, upset_s: float, seconds: int
) -> dict[str, float]:
    """W2 after something that made every task late.

    Args:
        settle_s: How long all is well before.
        upset: A key of UPSETS.
        upset_s: How long it lasts, for those that last.
        seconds: How many seconds to watch afterwards.

    Returns:
        The share of the expected runs that was done in the last second before, and in each second after it.
    """
    started_s = array("d")
    note = started_s.append

    async def body() -> None:
        note(monotonic())

    if upset == "burst":
        await candidate.start()
        await asyncio.sleep(settle_s)
        began_s = monotonic()
        for _ in range(tasks):
            candidate.add(body, interval_s, NOW)
    else:
        first_tick_s = first_tick(tasks)
        for phase in phases(tasks):
            candidate.add(body, interval_s, first_tick_s + phase * interval_s)
        await start_before(candidate, first_tick_s)
        await sleep_until(first_tick_s + settle_s)
        began_s = monotonic()
        await (block(upset_s) if upset == "block" else be_stopped(upset_s))
    over_s = monotonic()
    await sleep_until(over_s + seconds)
    await candidate.stop()

    due = tasks / interval_s
    before_s = min(1.0, settle_s / 2)
    figures = {"before": share(started_s, began_s - before_s, began_s, due)}
    for second in range(seconds):
        figures[str(second + 1)] = share(started_s, over_s + second, over_s + second + 1, due)
    return figures


async def block(lasts_s: float) -> None:
    """Keep the loop from doing anything else."""
    time.sleep(lasts_s)  # noqa: ASYNC251  This is what is measured.


async def be_stopped(lasts_s: float) -> None:
    """Let this process be stopped and continued from outside, as by a debugger or a frozen container."""
    other = subprocess.Popen(["sh", "-c", STOP_AND_GO, "sh", str(os.getpid()), str(lasts_s)])  # noqa: ASYNC220
    while other.poll() is None:  # noqa: ASYNC110  Not by the clock: the stop can be over before Popen() has returned.
        await asyncio.sleep(WATCH_S)


def share(started_s: Sequence[float], from_s: float, until_s: float, per_s: float) -> float:
    """Return how many runs started in a stretch of time, divided by how many were due in it."""
    return sum(from_s <= each < until_s for each in started_s) / (per_s * (until_s - from_s))
