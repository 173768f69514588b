"""A FastAPI application over the weekend on which daylight saving ends: the report is sent once a night."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from kaiju_app.scheduler import Scheduler, current_run
from kaiju_app.testing import VirtualClock

BERLIN = ZoneInfo("Europe/Berlin")
scheduler = Scheduler()
sent: list[str] = []


@scheduler.cron("30 2 * * *", tz="Europe/Berlin")
async def report() -> None:
    sent.append(f"{current_run().scheduled_at.astimezone(BERLIN):%a %H:%M %Z}")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with scheduler:
        yield


app = FastAPI(lifespan=lifespan)
app.get("/sent")(lambda: sent)


@pytest.mark.virtual_time(datetime(2026, 10, 24, 12, tzinfo=BERLIN))
def test_the_report_is_sent_once_a_night(clock: VirtualClock) -> None:
    with TestClient(app, backend_options={"loop_factory": clock.new_loop}) as client:
        assert client.portal is not None
        client.portal.call(clock.until, datetime(2026, 10, 26, 12, tzinfo=BERLIN))
        assert client.get("/sent").json() == ["Sun 02:30 CEST", "Mon 02:30 CET"]  # 02:30 comes twice on Sunday.
