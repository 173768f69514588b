"""How fast this machine is, so that a bound in processor time means the same on every machine."""

from __future__ import annotations

import time
from functools import cache
from threading import Thread

from kaiju_app.scheduler import FirstRun, Scheduler
from support.reading import nothing
from support.virtual import VirtualLoop, close_loop

SAMPLE_DAYS = 30


@cache
def idle_year_s(*, debug: bool = False) -> float:
    """Return the processor seconds that a scheduler needs for a year of virtual time in which nothing is due."""
    measured: list[float] = []

    def measure() -> None:
        loop = VirtualLoop()
        loop.set_debug(debug)
        scheduler = Scheduler(clock=loop.virtual_clock)
        scheduler.schedule_task(nothing, 365 * 86_400, first_run=FirstRun.NEXT)
        loop.run_until_complete(scheduler.start())
        begun = time.thread_time()
        loop.run_until_complete(sleep(loop))
        measured.append((time.thread_time() - begun) * 365 / SAMPLE_DAYS)
        loop.run_until_complete(scheduler.stop())
        close_loop(loop)

    async def sleep(loop: VirtualLoop) -> None:
        over = loop.create_future()
        loop.call_later(SAMPLE_DAYS * 86_400, over.set_result, None)
        await over

    thread = Thread(target=measure)  # The caller's thread may have a running loop.
    thread.start()
    thread.join()
    return measured[0]
