"""An application for simulated clusters, with much of what programs do; it is run by other Pythons, too.

``python shop.py SEED`` prints the journal of a cluster of it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass, field

from kaiju_app import Application, Service
from kaiju_app.scheduler import ExecPolicy, Scheduler, Scope
from kaiju_app.testing import Cluster, Instance


@dataclass
class Stock(Service):
    """Counts in the background."""

    counted: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    async def init(self) -> None:
        schedule = self.app.scheduler.schedule_task
        schedule(self.count, 7, name="count", scope=Scope.CLUSTER)
        schedule(self.report, trigger="* * * * *", name="report", scope=Scope.CLUSTER, policy=ExecPolicy.SKIP)
        schedule(self.refresh, 11, name="refresh")

    async def count(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            group.create_task(self.counted.put(1))

    async def report(self) -> None:
        async with asyncio.timeout(20):
            await asyncio.wait_for(asyncio.sleep(5), 10)
        await asyncio.gather(*(asyncio.sleep(each / 10) for each in range(3)))

    async def refresh(self) -> None:
        try:
            await asyncio.wait_for(self.counted.get(), 2)
        except TimeoutError as exc:
            raise ConnectionError("nothing counted") from exc


def make_app(instance: Instance) -> Application:
    scheduler = Scheduler(instance.store, version=instance.version)
    return Application("shop", services=[Stock()], scheduler=scheduler)


def played(seed: int) -> list[str]:
    """Return the journal of five minutes with every kind of fault."""
    with Cluster(make_app, instances=3, seed=seed) as cluster:
        cluster.advance(61)
        cluster.kill(cluster.task("count").owner or 0)
        cluster.partition(1, 20)
        cluster.advance(30)
        cluster.skew(2, -5, rate=1.01)
        cluster.jump_store_clock(3)
        cluster.advance(30)
        cluster.pause(1, 15)
        cluster.advance(60)
        cluster.deploy(1)
        cluster.advance(60)
        return cluster.journal


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print("\n".join(played(int(sys.argv[1]))))
