"""``scheduler.runs()`` with a store: the cluster tasks from there, the local ones from memory."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from behaviour.cluster.common import Fragile, Made, nothing, share, started
from kaiju_app.errors import InvalidArgument, StoreUnavailable, UnknownTask, WrongState
from kaiju_app.scheduler import Outcome, RunPage, Scheduler
from kaiju_app.stores import MemoryStore, SqliteStore
from support.reading import at
from support.virtual import VirtualLoop


def told(page: RunPage) -> list[tuple[Any, ...]]:
    return [(run.task, at(run.scheduled_at)) for run in page.runs]


async def test_any_instance_tells_of_its_own_tasks_and_of_all_shared_ones(made: Made) -> None:
    a, b = made(), made()
    for each in (a, b):
        share(each, nothing)
    a.schedule_task(nothing, 15, name="own")
    async with started(a, b):
        await asyncio.sleep(31)

        assert [("own", 30), ("job", 30), ("job", 20), ("own", 15), ("job", 10), ("own", 0), ("job", 0)] == told(
            await a.runs()
        )
        assert [("job", 30), ("job", 20), ("job", 10), ("job", 0)] == told(await b.runs()) == told(await a.runs("job"))
        page = await a.runs(limit=3)
        assert [("own", 15), ("job", 10)] == told(await a.runs(limit=2, cursor=page.next))
        assert (0, 30) == (at(page.oldest), at(page.newest))
        assert () == (await a.runs(outcomes=Outcome.FAILED)).runs
        with pytest.raises(UnknownTask, match=r"there is no task 'jab'.*job"):
            await b.runs("jab")


async def test_half_an_answer_is_none(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    scheduler = Scheduler(store, clock=loop.virtual_clock)
    share(scheduler, nothing)
    own = scheduler.schedule_task(nothing, 15, name="own")
    with pytest.raises(WrongState, match="not started"):
        await scheduler.runs()
    async with scheduler:
        await asyncio.sleep(1)
        store.runs = store._unavailable
        with pytest.raises(StoreUnavailable, match="page of the ledger"):
            await scheduler.runs()
        assert [("own", 0)] == told(await scheduler.runs(own))


@pytest.mark.volume
async def test_the_store_keeps_as_many_rows_for_as_long_as_is_asked_for(loop: VirtualLoop) -> None:
    scheduler = Scheduler(
        "memory://", store_history=150, store_history_age_s=timedelta(hours=2), clock=loop.virtual_clock
    )
    share(scheduler, nothing, 30)
    share(scheduler, nothing, 3600, "rare")
    async with scheduler:
        await asyncio.sleep(2 * 3600)
        assert 150 == len((await scheduler.runs("job", limit=999)).runs)
        await asyncio.sleep(8 * 3600)
        assert 4 > len((await scheduler.runs("rare", limit=999)).runs)


def test_a_store_has_its_own_retention() -> None:
    with pytest.raises(InvalidArgument, match="store_history must be left out: a Store has its own: give it there"):
        Scheduler(MemoryStore(), store_history=100)
    store = SqliteStore("some.db", history=7, history_age_s=60)
    assert (7, 60_000_000) == (store.rows_kept, store.rows_age)
    with pytest.raises(InvalidArgument, match="history_age_s must be more than 0 seconds"):
        MemoryStore(history_age_s=0)
