"""Run a thousand ticks a second beside the endpoint: loaded.py PORT. GET /lateness tells how late they were."""

import asyncio
import gc
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from kaiju_app.admin import admin
from kaiju_app.scheduler import Scheduler, current_run

TASKS, INTERVAL_S = 100, 0.1

lateness_ms: list[float] = []
turns_ms: list[float] = []
since = [time.monotonic()]


class WatchedLoop(asyncio.SelectorEventLoop):
    """Notes how much time of the processor each of its turns takes: other processes do not count."""

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        turns_ms.append((time.thread_time() - began) * 1e3)


async def work() -> None:
    lateness_ms.append((time.time() - current_run().scheduled_at.timestamp()) * 1e3)


def held_up_ms(turns: list[float], elapsed_ms: float) -> float:
    """Return for how long, at most, 99 % of the ticks would wait for the turn of the loop in which they become due."""
    low, high = 0.0, max(turns)
    while high - low > 0.01:
        middle = (low + high) / 2
        waiting = sum(turn - middle for turn in turns if turn > middle)  # In so much time a tick waits for longer.
        low, high = (middle, high) if waiting > elapsed_ms / 100 else (low, middle)
    return high


async def lateness(_: Request) -> JSONResponse:
    """Return what has happened since the last call, in milliseconds, and the memory of this process in bytes."""
    late, turns, elapsed_ms = sorted(lateness_ms), turns_ms[:], (time.monotonic() - since[0]) * 1e3
    lateness_ms.clear()
    turns_ms.clear()
    since[0] = time.monotonic()
    memory = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()  # noqa: ASYNC240
    marks = {f"p{each}": late[len(late) * each // 100] for each in (50, 90, 99)} if late else {}
    return JSONResponse({
        "runs_a_second": len(late) / elapsed_ms * 1e3, **marks, "held_up": held_up_ms(turns, elapsed_ms),
        "longest": max(turns), "busy": sum(turns) / elapsed_ms, "memory": memory,
    })  # fmt: skip


async def main() -> None:
    scheduler = Scheduler()
    first = datetime.now(UTC) + timedelta(seconds=1)
    for number in range(TASKS):  # Each millisecond one of them is due.
        at = first + timedelta(seconds=number * INTERVAL_S / TASKS)
        scheduler.schedule_task(work, INTERVAL_S, name=f"work {number}", first_run=at)
    app = Starlette(routes=[Route("/lateness", lateness), Mount("/", admin(scheduler))])
    async with scheduler:
        config = uvicorn.Config(app, port=int(sys.argv[1]), log_level="critical", timeout_graceful_shutdown=1)
        gc.collect()
        gc.freeze()  # A full collection looks at what was imported, too, and takes 50 ms, whoever has caused it.
        await uvicorn.Server(config).serve()


with asyncio.Runner(loop_factory=WatchedLoop) as runner:
    runner.run(main())
