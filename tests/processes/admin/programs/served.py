"""Serve the endpoint of some tasks alone: served.py PORT. TOKEN and STORE are in the environment."""

import asyncio
import os
import sys

import uvicorn

from kaiju_app.admin import admin
from kaiju_app.scheduler import Cron, ExecPolicy, Scheduler, Scope


async def work() -> None:
    pass


async def slow() -> None:
    await asyncio.sleep(0.3)


async def fail() -> None:
    raise RuntimeError("no \x1b[31mway, password=hunter2")


async def main() -> None:
    scheduler = Scheduler(os.environ.get("STORE"))
    scheduler.schedule_task(work, 60, name="refresh")
    scheduler.schedule_task(fail, 60, name="<img src=x onerror=alert(1)>/%2F\0" + "😀" * 240)
    scheduler.schedule_task(slow, 1, name="shielded", policy=ExecPolicy.SHIELD)
    scheduler.schedule_task(slow, 2, name="waits", policy=ExecPolicy.WAIT)
    scheduler.schedule_task(work, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="nightly")
    if os.environ.get("STORE"):
        scheduler.schedule_task(slow, 1, name="shared", scope=Scope.CLUSTER)
    token = os.environ.get("TOKEN")
    options = {} if token is None else {"token": token, "read_token": f"{token}-read"}
    async with scheduler:
        config = uvicorn.Config(admin(scheduler, **options), port=int(sys.argv[1]), log_level="warning")
        await uvicorn.Server(config).serve()


asyncio.run(main())
