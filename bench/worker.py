"""The measured process: one candidate, one workload, then the end.

``python -m bench.worker JOB`` with a job as JSON; the figures go to standard output as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from bench.candidates import maker
from bench.workloads import WORKLOADS, Figures


def main(argument: str) -> None:
    """Do the job and print its figures."""
    job: dict[str, Any] = json.loads(argument)
    pin(job["core"])
    if job["workload"] == "together":
        from bench import together  # Needs the package with its stores, which floors and peers do without.

        figures = together.measure(**job["size"])
    else:
        with asyncio.Runner(loop_factory=loop_factory(job["loop"])) as runner:
            figures = runner.run(measure(job["who"], job["workload"], job["size"]))
    print(json.dumps({"figures": figures, "waited": waited_share()}))


async def measure(who: str, workload: str, size: dict[str, Any]) -> Figures:
    """Make the candidate inside the loop, as a program's main coroutine would, and put it to work."""
    return await WORKLOADS[workload](maker(who)(), **size)


def waited_share() -> float:
    """Return the share of its runnable time that this process waited for its core; 0 where that is not counted.

    The first two figures of ``/proc/self/schedstat`` are time on the core and time in the run queue (kernel document
    scheduler/sched-stats).
    """
    try:
        with open("/proc/self/schedstat") as schedstat:
            ran, waited = map(int, schedstat.read().split()[:2])
    except OSError:
        return 0.0
    return waited / max(1, ran + waited)


def pin(core: int | None) -> None:
    """Stay on one core, so that neither migration nor a second core is measured."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop called *name*, `asyncio` or `uvloop`."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


if __name__ == "__main__":
    main(sys.argv[1])
