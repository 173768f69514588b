"""Who follows the endpoint over a socket hears of endings, states and holds, also of other instances."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from kaiju_app.admin import admin
from kaiju_app.admin._hub import MOST_FOLLOWERS
from kaiju_app.scheduler import Scheduler, Scope
from kaiju_app.stores import MemoryStore
from processes.admin.served import free_port
from support.reading import nothing

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(120)]


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve *app* in this loop; return its address."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def events(address: str, **headers: str) -> AsyncIterator[AsyncIterator[Any]]:
    """Follow; return the events, each as (id, kind, values)."""
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", f"{address}/api/events", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield parsed(answer)


async def parsed(answer: httpx.Response) -> AsyncIterator[Any]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line and "event" in fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])
        if not line:
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


async def find(followed: AsyncIterator[Any], kind: str, **values: Any) -> tuple[str, Any]:
    async with asyncio.timeout(30):
        async for event_id, its_kind, found in followed:
            if its_kind == kind and all(found.get(name) == value for name, value in values.items()):
                return event_id, found
    raise AssertionError("the events ended")


async def test_endings_states_and_holds_are_told_and_a_follower_goes_on_where_it_stopped() -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 0.2, name="often")
    task = scheduler.schedule_task(nothing, 3600, name="rare")
    async with scheduler, serving(admin(scheduler)) as address:
        async with events(address) as followed:
            _, ended = await find(followed, "ended", task="often")
            await asyncio.sleep(1.5)  # The first look at the tasks, with which later ones are compared.
            await task.pause("audit", holder="alice")
            last_id, paused = await find(followed, "task", task="rare")
        await task.run_now() if task.state == "waiting" else await task.resume()
        run = await task.run_now()
        async with events(address, **{"Last-Event-ID": last_id}) as followed:
            _, missed = await find(followed, "ended", task="rare")
        async with events(address, **{"Last-Event-ID": "another-17"}) as followed:
            first = await anext(followed)

    assert (ended["outcome"], ended["manual"]) == ("SUCCEEDED", False)
    assert (paused["state"], paused["holds"]) == ("paused", [{"holder": "alice", "reason": "audit"}])
    assert missed["run_id"] == run.run_id
    assert first == (None, "gap", {"missed": None})


async def test_what_other_instances_do_is_told_too() -> None:
    store = MemoryStore()
    a, b = Scheduler(store), Scheduler(store)
    a.schedule_task(nothing, 0.5, name="of a", scope=Scope.CLUSTER)
    b.schedule_task(nothing, 3600, name="both", scope=Scope.CLUSTER)
    async with a, b, serving(admin(b)) as address, events(address) as followed:
        _, ended = await find(followed, "ended", task="of a")
        told = [ended["run_id"]]
        async with asyncio.timeout(20):
            async for _, kind, found in followed:
                if kind == "ended":
                    told.append(found["run_id"])
                if len(told) > 4:
                    break

    assert len({*told}) == len(told), "none is told twice"


async def test_only_so_many_may_follow_and_a_token_is_needed() -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 3600, name="rare")
    streams = []
    async with scheduler, serving(admin(scheduler, token="a-b-c")) as address:
        port = int(address.rpartition(":")[2])
        request = b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer a-b-c\r\n\r\n"
        for _ in range(MOST_FOLLOWERS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            assert b" 200 " in await reader.readline()
            streams.append(writer)
        async with httpx.AsyncClient() as client:
            refused = await client.get(f"{address}/api/events", headers={"Authorization": "Bearer a-b-c"})
            denied = await client.get(f"{address}/api/events")
            for each in streams:
                each.close()
            await asyncio.sleep(0.5)
            async with client.stream(
                "GET", f"{address}/api/events", headers={"Authorization": "Bearer a-b-c"}
            ) as admitted:
                assert admitted.status_code == 200

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert denied.status_code == 401
