"""Retries and deadlines: what a failing service does to a task."""

import asyncio

import pytest

from kaiju_app.scheduler import Backoff, Outcome, Scheduler, current_run
from kaiju_app.testing import VirtualClock, ran, run_once


async def fetch(succeeds_at: int) -> int:
    await asyncio.sleep(2)
    if current_run().attempt < succeeds_at:
        raise ConnectionError("no answer")
    return 42


@pytest.mark.asyncio
async def test_the_third_attempt_succeeds(clock: VirtualClock, scheduler: Scheduler) -> None:
    pauses = Backoff(initial_s=10, factor=2, jitter=0)
    run = await run_once(scheduler.schedule_task(fetch, 3600, (3,), retries=3, retry_interval_s=pauses))
    assert (run.result, run.attempts, run.duration_s) == (42, 3, 2 + 10 + 2 + 20 + 2)


@pytest.mark.asyncio
async def test_a_deadline_holds_for_all_attempts_together(clock: VirtualClock, scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 3600, (90,), max_timeout_s=60, retries=3)
    async with scheduler:
        await clock.advance(3.5 * 3600)
    ran(task).times(4, Outcome.TIMED_OUT).never_overlapped()
