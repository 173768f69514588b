"""A suspension: nothing refreshes the cache while it is rewritten."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from kaiju_app.scheduler import Scheduler
from kaiju_app.testing import VirtualClock, ran

MIDNIGHT = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.asyncio
@pytest.mark.virtual_time(MIDNIGHT)
async def test_no_refresh_while_the_cache_is_rewritten(clock: VirtualClock, scheduler: Scheduler) -> None:
    refresh = scheduler.schedule_task(asyncio.sleep, 60, (5,))
    async with scheduler:
        await clock.advance(121)  # The run of 00:02 is in progress.
        async with refresh.suspend("rewriting"):
            assert clock.now() == MIDNIGHT + timedelta(seconds=125)  # suspend() has waited for its end.
            await asyncio.sleep(200)  # Stands for the rewriting.
            assert not refresh.running
        await clock.until(MIDNIGHT + timedelta(minutes=7, seconds=30))
    ran(refresh).at(*(MIDNIGHT + timedelta(minutes=each) for each in (0, 1, 2, 5, 6, 7)))
    ran(refresh).skipped("suspended", times=2)  # 00:03 and 00:04; that of 00:05 ran afterwards.
