"""Serve very many tasks with a long history: crowded.py PORT. SHARED, ROWS, LOCAL and RATE are in the environment."""

import asyncio
import gc
import os
import sqlite3
import sys
import time
from collections.abc import Iterator

import uvicorn

from kaiju_app.admin import admin
from kaiju_app.scheduler import FirstRun, Scheduler, Scope
from kaiju_app.stores import store_from_url

FILE = "crowded.db"
HOUR_US = 3_600_000_000
OUTCOMES = ("SUCCEEDED",) * 17 + ("FAILED", "TIMED_OUT", "SKIPPED")
INSERT = """
    INSERT INTO kaiju_run (app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, reason,
        error, started_at, finished_at, attempts, fence, instance)
    VALUES ('default', ?, ?, 0, 0, 1, ?, 1, 0, ?, ?, ?, ?, ?, 1, ?, 'before')
"""


async def work() -> None:
    """Do nothing, and well."""


def name_of(number: int) -> str:
    return f"account {number:05}"


def past_runs(shared: int, rows: int) -> Iterator[tuple[object, ...]]:
    """Yield the rows of shared tasks that have run every hour, the newest of the hour before."""
    hour, each = int(time.time()) // 3_600 * HOUR_US, rows // shared
    for age in range(each, 0, -1):
        tick = hour - age * HOUR_US
        for number in range(shared):
            outcome = OUTCOMES[(number * 7 + age * 3) % len(OUTCOMES)]
            began = None if outcome == "SKIPPED" else tick + 1_000 * (number % 50)
            ended = tick + 60_000_000 * (1 + number % 9)
            error = "OSError: the disk is full" if outcome == "FAILED" else None
            reason = {"TIMED_OUT": "deadline", "SKIPPED": "overlap"}.get(outcome)
            yield name_of(number), tick, tick, outcome, reason, error, began, ended, each - age


async def main() -> None:
    shared, rows, local, rate = (int(os.environ[each]) for each in ("SHARED", "ROWS", "LOCAL", "RATE"))
    if shared:
        store = store_from_url(f"sqlite:///{FILE}")
        await store.open()  # Which makes the tables.
        await store.close()
        with sqlite3.connect(FILE) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.executemany(INSERT, past_runs(shared, rows))
        connection.close()
    scheduler = Scheduler(f"sqlite:///{FILE}" if shared else None)
    for number in range(shared):
        scheduler.schedule_task(work, 3_600, name=name_of(number), scope=Scope.CLUSTER)
    for number in range(local):
        scheduler.schedule_task(work, local / rate, name=f"local {number:05}", first_run=FirstRun.NOW)
    async with scheduler:
        while shared and len((await scheduler.inspect())["tasks"]) < shared:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        port = int(sys.argv[1])
        config = uvicorn.Config(admin(scheduler), port=port, log_level="warning", timeout_graceful_shutdown=1)
        gc.collect()
        gc.freeze()
        await uvicorn.Server(config).serve()


asyncio.run(main())
