"""Four worker processes with one schedule: each report is made once, by one of them, and by none during a restore.

    PORT=8000 python examples/with_workers.py

Open http://127.0.0.1:8000/ several times: different workers answer and show the same runs. Suspend the reports in all
workers for five seconds with ``curl -X POST 'http://127.0.0.1:8000/restore?seconds=5'``. Kill the worker that is making
a report: another worker makes it again.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from kaiju_app import Application, ScheduledTask, Scheduler, Service
from kaiju_app.scheduler import Scope

STORE = os.environ.get("STORE", "sqlite:///with_workers.db")


@dataclass
class Reports(Service):
    task: ScheduledTask[None] = field(init=False)

    async def init(self) -> None:
        self.task = self.app.scheduler.schedule_task(self.report, interval_s=1, name="report", scope=Scope.CLUSTER)

    async def report(self) -> None:
        await asyncio.sleep(0.3)  # A real program would make a report here.

    async def restore(self, seconds: float) -> None:
        async with self.task.suspend("restoring the database"):  # In here, no worker makes a report.
            await asyncio.sleep(seconds)


reports = Reports()
background = Application("shop", [reports], scheduler=Scheduler(STORE))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with background:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def show() -> dict[str, object]:
    scheduler = background.scheduler
    runs = [run.json_repr() for run in await scheduler.history("report", 20)]
    return {"answered_by": os.getpid(), "runs": runs} | await scheduler.inspect()


@app.post("/restore")
async def restore(seconds: float = 5.0) -> dict[str, object]:
    await reports.restore(seconds)
    return {"restored_by": os.getpid()}


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    uvicorn.run("with_workers:app", port=port, workers=4, app_dir=str(Path(__file__).parent))
