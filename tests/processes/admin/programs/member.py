"""One of several processes that share tasks, with an endpoint of its own: member.py PORT STORE SECONDS-OF-THE-LEASE."""

import asyncio
import json
import sys

import uvicorn

from kaiju_app.admin import admin
from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Scheduler, Scope


async def often() -> None:
    await asyncio.sleep(0.05)


async def long() -> None:
    await asyncio.sleep(120)


async def main() -> None:
    scheduler = Scheduler(sys.argv[2], lease=LeaseTiming(*json.loads(sys.argv[3])))
    scheduler.schedule_task(often, 0.5, name="often", policy=ExecPolicy.WAIT, scope=Scope.CLUSTER)
    scheduler.schedule_task(long, 3600, name="long", policy=ExecPolicy.WAIT, scope=Scope.CLUSTER)
    scheduler.schedule_task(often, 3600, name="local")
    async with scheduler:
        config = uvicorn.Config(admin(scheduler), port=int(sys.argv[1]), log_level="warning")
        await uvicorn.Server(config).serve()


asyncio.run(main())
