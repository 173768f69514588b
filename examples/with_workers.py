"""Four worker processes, one schedule: the report is made once a tick, and held by all while somebody restores.

    PORT=8000 python examples/with_workers.py

Then look at http://127.0.0.1:8000/ (again and again: another worker answers), and hold the report for five seconds with
``curl -X POST 'http://127.0.0.1:8000/restore?seconds=5'``. Kill the worker that runs it: another one goes on.
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
from kaiju_app.scheduler import Scope, current_run

STORE = os.environ.get("STORE", "sqlite:///with_workers.db")


@dataclass
class Reports(Service):
    task: ScheduledTask[None] = field(init=False)

    async def init(self) -> None:
        self.task = self.app.scheduler.schedule_task(self.report, interval_s=1, name="report", scope=Scope.CLUSTER)

    async def report(self) -> None:
        run = current_run()
        self.logger.info("tick %s fence %s begins", run.scheduled_at.isoformat(), run.fence)
        await asyncio.sleep(0.3)  # Your program makes a report here.
        self.logger.info("tick %s fence %s ends", run.scheduled_at.isoformat(), run.fence)

    async def restore(self, seconds: float) -> None:
        async with self.task.suspend("restoring the database"):  # In no worker is a report made meanwhile.
            self.logger.info("restore begins")
            await asyncio.sleep(seconds)
            self.logger.info("restore ends")


reports = Reports()
background = Application("shop", [reports], scheduler=Scheduler(STORE))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with background:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def show() -> dict[str, object]:
    return {"answered_by": os.getpid()} | await background.scheduler.inspect()


@app.post("/restore")
async def restore(seconds: float = 5.0) -> dict[str, object]:
    await reports.restore(seconds)
    return {"restored_by": os.getpid()}


if __name__ == "__main__":
    uvicorn.run(
        "with_workers:app", port=int(os.environ.get("PORT", "8000")), workers=4, app_dir=str(Path(__file__).parent)
    )
