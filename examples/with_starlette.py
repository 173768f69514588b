"""Starlette with a cache that is refreshed in the background. The services start and stop in the lifespan.

    PORT=8000 python examples/with_starlette.py

Then open http://127.0.0.1:8000/rates and http://127.0.0.1:8000/health.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kaiju_app import Application, Service
from kaiju_app.scheduler import current_run


@dataclass
class Rates(Service):
    latest: dict[str, object] = field(default_factory=dict)
    refreshes: int = 0

    async def init(self) -> None:
        self.app.scheduler.schedule_task(self.refresh, interval_s=1)

    async def refresh(self) -> None:
        self.refreshes += 1  # A real program would ask a bank here.
        as_of = current_run().scheduled_at  # Not now(): even if the run is late, the data is of this tick.
        self.latest = {"EUR/USD": 1.08, "refreshes": self.refreshes, "as_of": as_of.isoformat()}

    async def close(self) -> None:
        self.logger.info("closed after %d refreshes", self.refreshes)


rates = Rates()
background = Application("shop", [rates])


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with background:
        yield


async def show_rates(request: Request) -> JSONResponse:
    return JSONResponse(rates.latest)


async def health(request: Request) -> JSONResponse:
    found = await background.inspect()
    return JSONResponse(found, status_code=200 if found["healthy"] else 503)


app = Starlette(routes=[Route("/rates", show_rates), Route("/health", health)], lifespan=lifespan)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
