"""A transaction may lock the record of one task for hours without any effect on other tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from uuid import uuid4

import asyncpg
import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.errors import StoreUnavailable
from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Scheduler, Scope
from support.engines import shared_database

pytestmark = pytest.mark.realtime

LEASE = LeaseTiming(ttl_s=2, renew_s=0.4, grace_s=1.3, poll_s=0.4, ahead_s=0.1)
EVERY_S = 0.2
LOCKED_S = 4.0


class Busy:
    """A scheduler with two tasks, one of which is locked."""

    def __init__(self) -> None:
        self.app = uuid4().hex
        self.begun: dict[str, list[int]] = {"locked": [], "other": []}
        self.scheduler = Scheduler(shared_database(), app=self.app, lease=LEASE)
        self.locked, _ = (
            self.scheduler.schedule_task(
                self.note, EVERY_S, (name,), name=name, scope=Scope.CLUSTER, policy=ExecPolicy.WAIT
            )
            for name in self.begun
        )
        self._noted = asyncio.Event()

    async def note(self, name: str) -> None:
        self.begun[name].append(steady_us())
        self._noted.set()

    async def runs(self) -> None:
        """Wait until the task with the lock runs."""
        before = len(self.begun["locked"])
        async with asyncio.timeout(LEASE.failover_s + 1):
            while len(self.begun["locked"]) == before:
                self._noted.clear()
                await self._noted.wait()

    @asynccontextmanager
    async def lock(self, *before: str) -> AsyncIterator[None]:
        """Lock the record of the one task, after some statements about it."""
        connection = await asyncpg.connect(shared_database())
        try:
            for statement in before:
                await connection.execute(statement, self.app)
            async with connection.transaction():
                await connection.execute(
                    "SELECT FROM kaiju_task WHERE app = $1 AND name = 'locked' FOR NO KEY UPDATE", self.app
                )
                yield
        finally:
            await connection.close()

    async def goes_on(self) -> None:
        """Check that the other task runs at each of its ticks for a while."""
        began = steady_us()
        await asyncio.sleep(LOCKED_S)
        now = steady_us()
        seen = [began, *(at for at in self.begun["other"] if at > began), now]
        assert max(later - earlier for earlier, later in pairwise(seen)) < 1_000_000
        assert "ok" == self.scheduler.json_repr()["store"]["state"]  # type: ignore[index,call-overload]


async def test_who_leaves_a_suspension_of_a_locked_task_runs_the_others() -> None:
    busy = Busy()
    async with busy.scheduler:
        await busy.runs()
        suspension = busy.locked.suspend()
        await suspension.__aenter__()
        async with busy.lock():
            await suspension.__aexit__(None, None, None)

            await busy.goes_on()
        await busy.runs()


async def test_a_lease_of_a_dead_process_whose_record_is_locked_holds_up_nobody_else() -> None:
    busy = Busy()
    ghost = (
        "UPDATE kaiju_task SET owner = 'ghost', fence = rev + 1, rev = rev + 1, claimed_at = 0, lease_until = 1, "
        "claims = 1 WHERE app = $1 AND name = 'locked'"
    )
    async with busy.scheduler:
        await busy.runs()
        await asyncio.sleep(LEASE.ttl_s + LEASE.grace_s)  # From now on it could take leases over.
        async with busy.lock(ghost):
            await busy.goes_on()

            with pytest.raises(StoreUnavailable, match="no answer to the pause"):
                await busy.locked.pause("it is locked")
            assert "ok" == busy.scheduler.json_repr()["store"]["state"]  # type: ignore[index,call-overload]
        await busy.runs()
