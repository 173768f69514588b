"""Three instances in one thread: each report is sent once, although the instance that is sending one is killed."""

import asyncio
from datetime import UTC, datetime

import pytest

from kaiju_app.scheduler import Outcome, Scheduler, Scope
from kaiju_app.testing import Cluster, Instance, ran


async def report() -> None:
    await asyncio.sleep(10)


def make_app(instance: Instance) -> Scheduler:
    scheduler = Scheduler(instance.store)
    scheduler.schedule_task(report, trigger="* * * * *", name="report", scope=Scope.CLUSTER)
    return scheduler


@pytest.mark.parametrize("seed", range(3))
def test_each_report_is_sent_once(seed: int) -> None:
    with Cluster(make_app, instances=3, seed=seed) as cluster:
        cluster.advance(65)  # The report of 00:01 is being sent.
        owner = cluster.task("report").owner
        assert owner is not None
        cluster.kill(owner)
        cluster.advance(120)
        ran(cluster.task("report")).times(2, Outcome.SUCCEEDED).never_overlapped()
        ran(cluster.task("report")).at(datetime(2027, 1, 1, 0, 1, tzinfo=UTC), datetime(2027, 1, 1, 0, 2, tzinfo=UTC))
        assert cluster.task("report").counts[Outcome.LOST] == 1  # What the killed instance had begun.
