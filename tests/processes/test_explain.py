"""``scheduler.explain()`` after a process was killed: another one tells what became of its run."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaiju_app.scheduler import CauseKind, Fate, LeaseTiming, Outcome, Scheduler, Scope

pytestmark = pytest.mark.realtime

LEASE = LeaseTiming(ttl_s=2, renew_s=0.4, grace_s=1.3, poll_s=0.4)

PROGRAM = """
import asyncio, sys
from kaiju_app.scheduler import LeaseTiming, Scheduler, Scope

async def job():
    print("running", flush=True)
    await asyncio.sleep(60)

async def main():
    lease = LeaseTiming(ttl_s=2, renew_s=0.4, grace_s=1.3, poll_s=0.4)
    async with Scheduler(sys.argv[1], lease=lease) as scheduler:
        scheduler.schedule_task(job, 3600, name="job", scope=Scope.CLUSTER)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the address of an empty store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("hosts")().url)


async def started(program: str, url: str) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """Return a process that runs *program* on a store, and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, url, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout


async def test_a_killed_process_is_told_from_one_that_took_over(url: str) -> None:
    process, output = await started(PROGRAM, url)
    assert b"running\n" == await output.readline()
    await asyncio.sleep(1)
    process.kill()
    await process.wait()

    async def job() -> None: ...

    async with Scheduler(url, lease=LEASE) as scheduler:
        task = scheduler.schedule_task(job, 3600, name="job", scope=Scope.CLUSTER)
        for _ in range(200):
            runs = (await scheduler.runs("job")).runs
            if len(runs) == 2:
                break
            await asyncio.sleep(0.1)
        again, lost = runs
        found = await scheduler.explain(task, again.scheduled_at)

    assert (again.outcome, again.delivery, lost.outcome) == (Outcome.SUCCEEDED, 2, Outcome.LOST)
    assert (found.fate, found.run) == (Fate.RAN, again)
    assert CauseKind.LOST in [cause.kind for cause in found.causes]
    assert f"because the run before it, on instance {lost.instance}, was lost at" in str(found)
    assert lost.instance != again.instance


BLOCKING = """
import asyncio, sys, time
from kaiju_app.scheduler import LeaseTiming, Missed, Scheduler, Scope

async def job(): ...

async def main():
    lease = LeaseTiming(ttl_s=2, renew_s=0.4, grace_s=1.3, poll_s=0.4)
    async with Scheduler(sys.argv[1], lease=lease) as scheduler:
        scheduler.schedule_task(job, 1, name="job", scope=Scope.CLUSTER, missed=Missed.SKIP)
        await asyncio.sleep(1.5)  # Between two ticks.
        print(time.time(), scheduler.json_repr()["instance"], flush=True)
        time.sleep(3)
        await asyncio.sleep(1.5)

asyncio.run(main())
"""


async def test_one_process_tells_that_the_loop_of_another_one_was_blocked(url: str) -> None:
    process, output = await started(BLOCKING, url)
    blocked_at, instance = (await output.readline()).decode().split()
    assert await process.wait() == 0
    async with Scheduler(url, lease=LEASE) as scheduler:
        inside = datetime.fromtimestamp(float(blocked_at) + 1.5, UTC)
        skips = (await scheduler.runs("job", outcomes=Outcome.SKIPPED)).runs
        [skip] = [each for each in skips if each.scheduled_at <= inside <= each.last_scheduled_at]
        found = await scheduler.explain("job", skip.scheduled_at)

    assert (found.fate, found.run) == (Fate.SKIPPED, skip)
    assert f"was skipped (missed): the loop of instance {instance} was blocked " in str(found)
