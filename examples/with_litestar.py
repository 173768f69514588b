"""Litestar with a cache that is refreshed in the background. An Application can be a lifespan as it is.

    PORT=8000 python examples/with_litestar.py

Then open http://127.0.0.1:8000/rates and http://127.0.0.1:8000/health.
"""

import logging
import os
from dataclasses import dataclass, field

import uvicorn
from litestar import Litestar, Response, get
from litestar.logging import LoggingConfig

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


@get("/rates")
async def show_rates() -> dict[str, object]:
    return rates.latest


@get("/health")
async def health() -> Response[dict[str, object]]:
    found = await background.inspect()
    return Response(found, status_code=200 if found["healthy"] else 503)


# Litestar's root logger writes in a thread and would lose its last lines: uvicorn raises the signal again at its end.
logs = LoggingConfig(configure_root_logger=False)
app = Litestar([show_rates, health], lifespan=[background], logging_config=logs)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
