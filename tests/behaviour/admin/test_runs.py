"""The endpoint shows the ledger: of one task or all, filtered, page by page."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from behaviour.admin.common import Client, client_of
from behaviour.admin.test_tasks import at_of, fail
from behaviour.cluster.common import Made, share, started
from kaiju_app.scheduler import ExecPolicy, Scheduler
from support.reading import ZERO, nothing


async def slow() -> None:
    await asyncio.sleep(25)


async def all_pages(client: Client, path: str, limit: int, **query: Any) -> list[Any]:
    found: list[Any] = []
    cursor: Any = None
    while True:
        page = await client.get(path, params={**query, "limit": limit} | ({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) <= limit
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


@pytest.fixture
def some(scheduler: Scheduler) -> Scheduler:
    """A scheduler of three tasks: one is fine, one fails, and one is slow and skips ticks."""
    scheduler.schedule_task(nothing, 30, name="fine")
    scheduler.schedule_task(fail, 30, name="failing")
    scheduler.schedule_task(slow, 10, name="slow", policy=ExecPolicy.SKIP)
    return scheduler


async def test_runs_of_all_tasks_come_newest_first_in_pages_that_make_up_the_whole(some: Scheduler) -> None:
    async with some, client_of(some) as client:
        await asyncio.sleep(95)
        whole = await client.get("/api/runs?limit=500")
        pages = await all_pages(client, "/api/runs", 3)

    assert pages == whole["items"]
    ticks = [each["scheduled_at"] for each in pages]
    assert ticks == sorted(ticks, reverse=True)
    assert {each["task"] for each in pages} == {"fine", "failing", "slow"}
    assert (at_of(whole["oldest"]), at_of(whole["newest"])) == (0, 90)
    assert next(each for each in pages if each["outcome"] == "SKIPPED")["reason"] == "overlap"
    assert all(each["run_id"] for each in pages if each["started_at"])


@pytest.mark.parametrize(
    ("query", "outcomes"),
    [
        ({"outcome": "FAILED"}, {"FAILED"}),
        ({"outcome": ["FAILED", "SKIPPED"]}, {"FAILED", "SKIPPED"}),
        ({"reason": "overlap"}, {"SKIPPED"}),
        ({"outcome": "FAILED", "reason": "overlap"}, set()),
        ({"from": (ZERO + timedelta(seconds=200)).isoformat()}, set()),
        ({"from": "2030-01-01T00:00:00Z", "to": "2029-01-01T00:00:00Z"}, set()),
    ],
)
async def test_filters(some: Scheduler, query: Any, outcomes: set[str]) -> None:
    async with some, client_of(some) as client:
        await asyncio.sleep(95)
        found = (await client.get("/api/runs", params=query))["items"]

    assert {each["outcome"] for each in found} == outcomes


async def test_a_window_has_the_ticks_in_it(some: Scheduler) -> None:
    window = {"from": (ZERO + timedelta(seconds=25)).isoformat(), "to": (ZERO + timedelta(seconds=65)).isoformat()}
    async with some, client_of(some) as client:
        await asyncio.sleep(95)
        found = await client.get(f"/api/tasks/{await client.id_of('fine')}/runs", params=window)

    assert [at_of(each["scheduled_at"]) for each in found["items"]] == [60, 30]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("cursor=nonsense", 404),
        ("limit=501", 422),
        ("from=yesterday", 422),
        ("from=2027-01-01T00:00:00", 422),
        ("to=5", 422),
    ],
)
async def test_a_page_that_cannot_be_given_is_refused(some: Scheduler, query: str, status: int) -> None:
    async with client_of(some) as client:
        await client.get(f"/api/runs?{query}", status)


async def test_the_runs_of_shared_tasks_are_those_of_all_instances(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, 10, "only a")
    share(b, nothing, 10, "both")
    share(a, nothing, 10, "both")
    a.schedule_task(nothing, 10, name="local")
    async with started(a, b), client_of(a), client_of(b) as client:
        await asyncio.sleep(35)
        found = (await client.get(f"/api/tasks/{await client.id_of('only a')}/runs"))["items"]
        whole = (await client.get("/api/runs"))["items"]
        refused = await client.get(f"/api/tasks/{await client.id_of('local')}/runs", 409)

    assert [each["outcome"] for each in found] == ["SUCCEEDED"] * 4
    assert {each["task"] for each in whole} == {"only a", "both"}
    assert "ask its endpoint" in refused["detail"]
