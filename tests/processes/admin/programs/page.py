"""Serve the endpoint for a browser, under a prefix: page.py PORT.

STORE, TOKEN, BLOCKS and MANY are in the environment.
"""

import asyncio
import os
import sys
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from kaiju_app.admin import admin
from kaiju_app.scheduler import Cron, ExecPolicy, Scheduler, Scope, current_run

HOSTILE = "<img src=x onerror=window.hacked=1>"


async def work() -> None:
    """Do nothing, and well."""


async def fail() -> None:
    raise ConnectionError("the supplier <b>does not answer</b>\nand this is the second line")


async def sometimes() -> None:
    if int(current_run().scheduled_at.timestamp()) % 3 == 0:
        raise OSError("the disk is full")


async def slow() -> None:
    await asyncio.sleep(2.5)


async def long() -> None:
    await asyncio.sleep(600)


def compact() -> None:
    time.sleep(0.05)


async def block() -> None:
    time.sleep(2.2)  # noqa: ASYNC251


async def main() -> None:
    scheduler = Scheduler(os.environ.get("STORE"))
    scheduler.schedule_task(work, 2, name="refresh")
    scheduler.schedule_task(fail, 2, name="supplier", expect_success_within_s=3)
    scheduler.schedule_task(sometimes, 1, name="disk")
    scheduler.schedule_task(slow, 1, name="overlapping", policy=ExecPolicy.SKIP)
    scheduler.schedule_task(long, 3600, name="long")
    scheduler.schedule_task(compact, 5, name="compact")
    scheduler.schedule_task(work, 60, name=HOSTILE)
    scheduler.schedule_task(work, 30, name="newsletter")
    far = (datetime.now(ZoneInfo("Europe/Berlin")).hour + 12) % 24  # It is not due while the tests look at it.
    scheduler.schedule_task(work, trigger=Cron(f"30 {far} * * *", tz="Europe/Berlin"), name="nightly")
    if os.environ.get("STORE"):
        scheduler.schedule_task(work, 1, name="bill", scope=Scope.CLUSTER)
    if os.environ.get("BLOCKS"):
        scheduler.schedule_task(block, 6, name="blocking")
    for i in range(int(os.environ.get("MANY", "0"))):
        scheduler.schedule_task(work, 3600, name=f"many-{i:05}", first_run=None)
    token = os.environ.get("TOKEN")
    options = {} if token is None else {"token": token, "read_token": f"{token}-read"}
    endpoint = admin(scheduler, **options)
    app = Starlette(routes=[Mount("/ops/scheduler", endpoint), Mount("/", endpoint)])
    async with scheduler:
        await scheduler.tasks["newsletter"].pause("the text is not ready", holder="marketing")
        config = uvicorn.Config(app, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve()


asyncio.run(main())
