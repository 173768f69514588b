"""One task of a second beside many that no instance knows any more: what it runs, and what a claim costs."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from kaiju_app.scheduler import Scheduler, Scope
from kaiju_app.stores import Store, store_from_url
from kaiju_app.stores._answers import Claimed
from kaiju_app.stores._record import TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from processes.fixtures import Figures
from support.postgres_server import found_or_skip, shared_server

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

RUNS_S = 10
MANY = [0, 1_000, 10_000, 100_000]


class Timed:
    """The time of each claim of a store."""

    def __init__(self, store: Store) -> None:
        self._claim = store.claim
        self.took_s: list[float] = []
        store.claim = self  # type: ignore[method-assign, assignment]

    async def __call__(self, query: ClaimQuery) -> Claimed:
        began = time.perf_counter()
        claimed = await self._claim(query)
        self.took_s.append(time.perf_counter() - began)
        return claimed


Fill = Callable[[str, int], Coroutine[Any, Any, None]]
OTHERS = ", ".join(name for name in TaskRecord._fields if name not in ("name", "owner"))
COPIES = (
    f"INSERT INTO kaiju_task (app, name, partition_hash, {OTHERS}) SELECT app, 'orphan ' || number, number, {OTHERS}"
)
NUMBERS = "WITH RECURSIVE numbers AS (SELECT 1 AS number UNION ALL SELECT number + 1 FROM numbers WHERE number < ?)"


async def fill_sqlite(url: str, number: int) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(f"{NUMBERS} {COPIES} FROM kaiju_task, numbers", (number,))


async def fill_postgres(url: str, number: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"{COPIES} FROM kaiju_task, generate_series(1, {number}) AS number")
    await connection.execute("ANALYZE kaiju_task")  # As autovacuum does within a minute.
    await connection.close()


async def runs_beside(url: str, fill: Fill, number: int) -> tuple[list[float], list[float]]:
    """Run a task of a second beside *number* orphans; return when its runs began, and how long its claims took."""
    store = store_from_url(url)
    claims = Timed(store)
    began: list[float] = []
    first = asyncio.Event()
    scheduler = Scheduler(store)

    async def live() -> None:
        began.append(time.monotonic())
        first.set()

    scheduler.schedule_task(live, 1, name="live", scope=Scope.CLUSTER)
    async with scheduler:
        await first.wait()
        await asyncio.sleep(0.2)  # Its ending is stored by then, so the copies are free.
        if number:
            await fill(url, number)
        claims.took_s.clear()
        filled = time.monotonic()
        await asyncio.sleep(RUNS_S)
    return [each for each in began if each >= filled], sorted(claims.took_s)


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        pytest.param(engine, number, marks=[pytest.mark.mechanism] if (engine, number) == ("sqlite", 10_000) else [])
        for engine in ("sqlite", "postgres")
        for number in MANY
    ],
)
def test_a_task_makes_all_its_runs_beside_tasks_that_nobody_knows(
    engine: str, number: int, tmp_path: Path, figures: Figures
) -> None:
    if engine == "postgres":
        server = found_or_skip(shared_server())
        name = f"orphans_{uuid4().hex[:8]}"
        server.create_database(name)
        url, fill = server.dsn(name), fill_postgres
    else:
        url, fill = f"sqlite:///{tmp_path / 'store.db'}", fill_sqlite
    began, took = asyncio.run(runs_beside(url, fill, number))

    runs = len(began)
    figures(
        runs=runs, of=RUNS_S, claims=len(took), claim_ms=1000 * took[len(took) // 2], slowest_claim_ms=1000 * took[-1]
    )
    assert RUNS_S - 1 <= runs <= RUNS_S + 1
