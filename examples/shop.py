"""A FastAPI application of six tasks on four workers, with a page to look at them, pause them and run them at once.

    PORT=8000 python examples/shop.py

    curl http://127.0.0.1:8000/tasks                                       # All tasks, as this worker sees them.
    curl http://127.0.0.1:8000/tasks/poll/history                          # The latest runs, of all workers.
    curl http://127.0.0.1:8000/errors                                      # The latest errors, of all workers.
    curl -X POST http://127.0.0.1:8000/tasks/report/run                    # Run it; the answer comes when it has ended.
    curl -X POST 'http://127.0.0.1:8000/tasks/report/pause?reason=audit'   # No worker runs it until it is resumed.
    curl -X POST http://127.0.0.1:8000/tasks/report/resume

Each tick of a task of ``Scope.CLUSTER`` runs in one of the workers. The tasks ``compact`` and ``rates`` are local: each
worker runs them by itself. A request reaches only one worker: it pauses a local task in that worker only.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from kaiju_app.errors import KaijuError, TaskBusy, TaskSuspended
from kaiju_app.scheduler import Backoff, Cron, Outcome, ScheduledTask, Scheduler, Scope, current_run

scheduler = Scheduler(os.environ.get("STORE", "sqlite:///shop.db"))


# --- the tasks ---


async def poll_supplier() -> str:
    """Ask for new prices; the supplier often needs to be asked again."""
    if current_run().attempt < 3:
        raise ConnectionError("the supplier does not answer")
    return "17 new prices"


async def close_the_day() -> str:
    return "the day is closed"


async def make_report() -> str:
    await asyncio.sleep(0.2)  # A real program would make a report here.
    return "42 orders"


async def count_stock() -> None:
    raise RuntimeError("shelf 7 has no label")


def compact_files() -> str:
    """Block for two seconds: a plain function runs in a thread, and the worker answers requests meanwhile."""
    time.sleep(2)
    return f"compacted by {os.getpid()}"


async def refresh_rates() -> float:
    return 1.08


scheduler.schedule_task(
    poll_supplier,
    interval_s=5,
    name="poll",
    retries=4,
    retry_interval_s=Backoff(initial_s=0.2, factor=2, max_s=2),
    scope=Scope.CLUSTER,
)
scheduler.schedule_task(
    close_the_day, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="nightly", scope=Scope.CLUSTER
)
scheduler.schedule_task(make_report, trigger=Cron("0 * * * *"), name="report", scope=Scope.CLUSTER, keep_result=True)
scheduler.schedule_task(count_stock, interval_s=5, name="stock", scope=Scope.CLUSTER)
scheduler.schedule_task(compact_files, interval_s=3600, name="compact")
scheduler.schedule_task(refresh_rates, interval_s=60, name="rates", jitter_s=5)


# --- the web application ---


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with scheduler:
        yield


app = FastAPI(lifespan=lifespan)


def task_of(name: str) -> ScheduledTask[Any]:
    if name not in scheduler.tasks:
        raise HTTPException(404, f"there is no task {name!r}")
    return scheduler.tasks[name]


@app.exception_handler(KaijuError)
async def explain(request: Request, exc: KaijuError) -> JSONResponse:
    """Answer with the text of an error: it says what to do. 409: the task is paused or busy; 503: no store."""
    return JSONResponse({"detail": str(exc)}, status_code=409 if isinstance(exc, TaskBusy | TaskSuspended) else 503)


@app.get("/tasks")
async def tasks() -> dict[str, object]:
    return {"answered_by": os.getpid()} | scheduler.json_repr()


@app.get("/errors")
async def errors() -> list[dict[str, object]]:
    """Return the latest failed runs: of all workers for cluster tasks, of this worker for local ones."""
    runs = [run for name in scheduler.tasks for run in await scheduler.history(name)]
    failed = [run for run in runs if run.outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST)]
    failed.sort(key=lambda run: run.scheduled_at, reverse=True)
    return [{"task": run.task, "at": run.scheduled_at, "error": run.error, "by": run.instance} for run in failed[:20]]


@app.get("/tasks/{name}/history")
async def history(name: str) -> list[dict[str, object]]:
    """Return the latest runs of a task: of all workers for a cluster task, of this worker for a local one."""
    task_of(name)
    return [run.json_repr() for run in await scheduler.history(name, 20)]


@app.post("/tasks/{name}/run")
async def run(name: str) -> dict[str, object]:
    """Run the task now, wait for the end of the run, and return its record and what it returned, wherever it ran."""
    ended = await task_of(name).run_now()
    return ended.json_repr() | {"result": ended.result}


@app.post("/tasks/{name}/pause")
async def pause(name: str, reason: str | None = None, for_s: float | None = None) -> dict[str, object]:
    await task_of(name).pause(reason, for_s)
    return task_of(name).json_repr()


@app.post("/tasks/{name}/resume")
async def resume(name: str) -> dict[str, object]:
    await task_of(name).resume()
    return task_of(name).json_repr()


if __name__ == "__main__":
    uvicorn.run("shop:app", port=int(os.environ.get("PORT", "8000")), workers=4, app_dir=str(Path(__file__).parent))
