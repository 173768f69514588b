"""The endpoint explains ticks, and gives metrics."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from behaviour.admin.common import client_of
from behaviour.admin.test_tasks import at_of
from behaviour.cluster.common import Made, share, started
from kaiju_app.scheduler import ExecPolicy, Scheduler
from support.reading import ZERO, nothing


async def slow() -> None:
    await asyncio.sleep(15)


async def test_a_tick_is_explained_in_a_sentence_and_as_facts(scheduler: Scheduler) -> None:
    scheduler.schedule_task(slow, 10, name="slow", policy=ExecPolicy.SKIP)
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(33)
        path = f"/api/tasks/{await client.id_of('slow')}/explain"
        skipped = await client.get(path, params={"at": (ZERO + timedelta(seconds=10)).isoformat()})
        now = await client.get(path)
        told = await scheduler.explain("slow", ZERO + timedelta(seconds=10))

    assert skipped["fate"] == "skipped"
    assert skipped["sentence"] == str(told)
    assert [each["kind"] for each in skipped["causes"]] == ["overlap"]
    assert at_of(skipped["causes"][0]["tick"]) == 0
    assert skipped["run"]["reason"] == "overlap"
    assert at_of(now["asked"]) == 33
    assert (at_of(now["before"]), at_of(now["after"])) == (30, 40)


async def test_a_cluster_task_is_explained_by_any_instance_and_a_local_one_where_it_is(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, 10, "only a")
    async with started(a, b), client_of(a), client_of(b) as client:
        a.schedule_task(nothing, 10, name="local of a")
        await asyncio.sleep(25)
        at = (ZERO + timedelta(seconds=10)).isoformat()
        told = await client.get(f"/api/tasks/{await client.id_of('only a')}/explain", params={"at": at})
        expected = await a.explain("only a", ZERO + timedelta(seconds=10))
        refused = await client.get(f"/api/tasks/{await client.id_of('local of a')}/explain", 409)

    assert (told["fate"], told["sentence"]) == (expected.fate, str(expected))
    assert told["run"]["instance"] is not None
    assert "ask the endpoint there" in refused["detail"]


async def test_metrics_are_counted_from_the_first_request_on(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 10, name="fine")
    async with scheduler, client_of(scheduler) as client:
        first = await client.http.get("/metrics")
        await asyncio.sleep(25)
        later = await client.http.get("/metrics")

    assert first.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'kaiju_task_runs_total{outcome="SUCCEEDED",task="fine"} 3.0' in later.text
