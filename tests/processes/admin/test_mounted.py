"""The endpoint mounted in frameworks, behind a prefix, and served alone on a socket."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaiju_app.admin import admin
from kaiju_app.scheduler import Scheduler
from processes.admin.served import served
from support.reading import nothing

pytestmark = pytest.mark.realtime

OPERATING = {"Authorization": "Bearer operate-01"}


def in_fastapi(endpoint: Any) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.mount("/scheduler", endpoint)
    return app


def in_starlette(endpoint: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/scheduler", endpoint)])


def in_litestar(endpoint: Any) -> Any:
    from litestar import Litestar, asgi

    return Litestar([asgi("/scheduler", is_mount=True, copy_scope=True)(endpoint)])


def behind_a_prefix(endpoint: Any) -> Any:
    """A proxy serves it at /scheduler and leaves the prefix in the path, as uvicorn --root-path does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endpoint({**scope, "root_path": "/scheduler"}, receive, send)

    return app


@pytest.mark.parametrize("mounted", [in_fastapi, in_starlette, in_litestar, behind_a_prefix])
async def test_it_can_be_mounted(mounted: Callable[[Any], Any]) -> None:
    scheduler = Scheduler()
    scheduler.schedule_task(nothing, 60, name="one")
    app = mounted(admin(scheduler, token="operate-01"))
    transport = httpx.ASGITransport(app)
    async with scheduler, httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        assert (await client.get("/scheduler/api/tasks")).status_code == 401
        assert (await client.get("/scheduler/health/live")).status_code == 200
        assert (await client.get("/scheduler/nothing")).status_code == 401
        assert "static/app.js" in (await client.get("/scheduler/")).text
        assert (await client.get("/scheduler", follow_redirects=True)).url.path == "/scheduler/"
        assert (await client.get("/scheduler/static/app.js")).status_code == 200
        [task] = (await client.get("/scheduler/api/tasks", headers=OPERATING)).json()["items"]
        path = f"/scheduler/api/tasks/{task['id']}"
        form = await client.post(f"{path}/pause", data={"reason": "x"}, headers=OPERATING)
        paused = await client.post(f"{path}/pause", json={"reason": "x"}, headers=OPERATING)
        described = (await client.get("/scheduler/api/openapi.json", headers=OPERATING)).json()
        missing = await client.get("/scheduler/nothing", headers=OPERATING)

    assert (form.status_code, paused.status_code) == (415, 200)
    assert paused.headers["x-content-type-options"] == "nosniff"
    assert paused.json()["state"] == "paused"
    assert described["servers"] == [{"url": "/scheduler"}]
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


def test_it_is_served_alone_and_a_slow_client_holds_nothing_up(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"POST /api/pause HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
            slow.sendall(b"Content-Length: 15\r\n\r\n{")
            began = time.monotonic()
            for _ in range(20):
                assert httpx.get(f"http://127.0.0.1:{port}/api/tasks").status_code == 200
            assert time.monotonic() - began < 5
        names = [each["name"] for each in httpx.get(f"http://localhost:{port}/api/tasks").json()["items"]]
        refused = httpx.get(f"http://127.0.0.1:{port}/api/tasks", headers={"Host": "evil.example"})

    assert len(names) == 5
    assert refused.status_code == 421


def test_two_processes_share_pauses_and_show_each_other(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/scheduler.db"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with served(tmp_path / "a", STORE=store) as a, served(tmp_path / "b", STORE=store) as b:

        def tasks(port: int) -> dict[str, Any]:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/tasks?limit=500").json()
            return {f"{each['name']} {each['process']}": each for each in answer["items"]}

        until = time.monotonic() + 20
        while len(tasks(a)) < 10 or len(tasks(b)) < 10:  # One that is shared; of local ones, not that with a long name.
            assert time.monotonic() < until, (tasks(a).keys(), tasks(b).keys())
            time.sleep(0.1)
        shared = tasks(a)["shared None"]
        answer = httpx.post(f"http://127.0.0.1:{a}/api/tasks/{shared['id']}/pause", json={"reason": "audit"})
        assert answer.status_code == 200
        shown, until = [shared], time.monotonic() + 10
        while any(each["state"] == "running" for each in shown) or not shown[-1]["holds"]:  # Its last run goes on.
            assert time.monotonic() < until, shown
            time.sleep(0.1)
            shown = [tasks(port)["shared None"] for port in (a, b)]
        [elsewhere] = {each["process"] for each in tasks(a).values() if each["process"] and not each["controlled_here"]}

    assert [each["state"] for each in shown] == ["paused"] * 2
    assert [each["holds"][0]["reason"] for each in shown] == ["audit"] * 2
    assert elsewhere.count(":") == 1
    with sqlite3.connect(tmp_path / "scheduler.db") as database:
        assert database.execute("SELECT count(*) FROM kaiju_task").fetchone() == (1,)
