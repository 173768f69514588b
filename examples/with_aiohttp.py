"""aiohttp with a cache that is refreshed in the background. The services start and stop in a cleanup context.

    PORT=8000 python examples/with_aiohttp.py

Then open http://127.0.0.1:8000/rates and http://127.0.0.1:8000/health.
"""

import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

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


BACKGROUND = web.AppKey("BACKGROUND", Application)
RATES = web.AppKey("RATES", Rates)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    async with app[BACKGROUND]:
        yield


async def show_rates(request: web.Request) -> web.Response:
    return web.json_response(request.app[RATES].latest)


async def health(request: web.Request) -> web.Response:
    found = await request.app[BACKGROUND].inspect()
    return web.json_response(found, status=200 if found["healthy"] else 503)


app = web.Application()
app[RATES] = Rates()
app[BACKGROUND] = Application("shop", [app[RATES]])
app.cleanup_ctx.append(lifespan)
app.add_routes([web.get("/rates", show_rates), web.get("/health", health)])

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
