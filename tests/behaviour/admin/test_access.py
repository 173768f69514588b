"""Who may ask the endpoint for what: one table of every route and every kind of request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from behaviour.admin.common import client_of
from kaiju_app.admin import Access, admin
from kaiju_app.admin._guard import HEADERS
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Scheduler
from support.reading import nothing

TOKEN, READ = "operate-0123456789", "read-0123456789"

READS = [
    "/api/scheduler",
    "/api/tasks",
    "/api/tasks/ID",
    "/api/tasks/ID/upcoming",
    "/api/tasks/ID/runs",
    "/api/runs",
    "/api/timeline",
    "/api/tasks/ID/explain",
    "/metrics",
    "/api/upcoming",
    "/api/instances",
    "/api/openapi.json",
]
CHANGES = [
    ("/api/tasks/ID/run", {}),
    ("/api/tasks/ID/pause", {"reason": "x"}),
    ("/api/tasks/ID/resume", {}),
    ("/api/tasks/ID/cancel", {"reason": "x"}),
    ("/api/pause", {"reason": "x"}),
    ("/api/resume", {}),
]
ROUTES: list[tuple[str, str, Any]] = [
    *(("GET", path, None) for path in READS),
    *(("POST", path, body) for path, body in CHANGES),
    ("GET", "/health/live", None),
    ("GET", "/health/ready", None),
]

operating = {"Authorization": f"Bearer {TOKEN}"}

# What is sent with a request, and what it is answered: GET, POST, and health.
KINDS: dict[str, tuple[dict[str, str], int, int]] = {
    "no token": ({}, 401, 401),
    "wrong token": ({"Authorization": "Bearer operate-0123456780"}, 401, 401),
    "empty token": ({"Authorization": "Bearer "}, 401, 401),
    "token that begins right": ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401, 401),
    "token of another scheme": ({"Authorization": f"Basic {TOKEN}"}, 401, 401),
    "token twice": ({"Authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"}, 401, 401),
    "read": ({"Authorization": f"bearer {READ}"}, 200, 403),
    "operate": (operating, 200, 200),
    "own origin": ({**operating, "Origin": "http://127.0.0.1:8700", "Sec-Fetch-Site": "same-origin"}, 200, 200),
    "behind https": ({**operating, "Origin": "https://shop.example", "Host": "shop.example"}, 200, 200),
    "foreign origin": ({**operating, "Origin": "http://evil.example"}, 200, 403),
    "origin of another port": ({**operating, "Origin": "http://127.0.0.1:8701"}, 200, 403),
    "null origin": ({**operating, "Origin": "null"}, 200, 403),
    "broken origin": ({**operating, "Origin": "http://[::1"}, 200, 403),
    "foreign site": ({**operating, "Sec-Fetch-Site": "cross-site"}, 200, 403),
    "form post": ({**operating, "Content-Type": "application/x-www-form-urlencoded"}, 200, 415),
    "text post": ({**operating, "Content-Type": "text/plain; a=application/json"}, 200, 415),
    "foreign host": ({**operating, "Host": "evil.example"}, 421, 421),
    "rebinding": ({**operating, "Host": "evil.example:8700", "Origin": "http://evil.example:8700"}, 421, 421),
    "host with a user": ({**operating, "Host": "127.0.0.1@evil.example"}, 421, 421),
    "no host": ({**operating, "Host": ""}, 421, 421),
    "own name": ({**operating, "Host": "localhost:8700"}, 200, 200),
    "allowed name": ({**operating, "Host": "SHOP.example:8700"}, 200, 200),
    "name in an allowed domain": ({**operating, "Host": "a.internal"}, 200, 200),
    "name that ends like an allowed one": ({**operating, "Host": "evil-internal"}, 421, 421),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_route_answers_every_kind_of_request_as_the_table_says(scheduler: Scheduler, kind: str) -> None:
    scheduler.schedule_task(long, 3600, name="one", first_run=None)
    headers, of_get, of_post = KINDS[kind]
    found: dict[tuple[str, str], int] = {}
    app = admin(scheduler, token=TOKEN, read_token=READ, allowed_hosts=["shop.example", "*.internal"])
    async with scheduler, client_of(app) as client:
        await asyncio.sleep(1)
        task_id = (await client.get("/api/tasks", headers=operating))["items"][0]["id"]
        for method, path, body in ROUTES:
            if path.endswith(("/run", "/pause")):  # Each finds the task as it is at the start.
                await scheduler.tasks["one"].resume()
            sent = {"Content-Type": "application/json", **headers} if body is not None else headers
            answer = await client.http.request(method, path.replace("ID", task_id), json=body, headers=sent)
            found[method, path] = answer.status_code
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"

    for (method, path), status in found.items():
        expected = 200 if path.startswith("/health") else of_get if method == "GET" else of_post
        if expected == 200 and path.endswith("/run"):
            expected = 202
        assert status == expected, (method, path)
    if of_post not in (200,):
        assert scheduler.tasks["one"].running or scheduler.tasks["one"].last_run.outcome == "CANCELLED"  # type: ignore[union-attr]
        assert len(scheduler.tasks["one"].history()) <= 1, "nothing was run"


async def long() -> None:
    await asyncio.sleep(3000)


async def test_a_caller_learns_what_it_may_do_without_being_refused(scheduler: Scheduler) -> None:
    app = admin(scheduler, token=TOKEN, read_token=READ)
    async with scheduler, client_of(app) as client, client_of(scheduler) as near:
        found = [
            (await client.get("/api/scheduler", headers={"Authorization": f"Bearer {token}"}))["may"]
            for token in (READ, TOKEN)
        ]
        here = (await near.get("/api/scheduler"))["may"]

    assert found == [["read"], ["read", "operate"]]
    assert here == ["read", "operate"]


async def test_the_table_has_every_route(scheduler: Scheduler) -> None:
    async with client_of(scheduler) as client:
        paths = (await client.get("/api/openapi.json"))["paths"]

    described = {(method.upper(), path.replace("{id}", "ID")) for path, each in paths.items() for method in each}
    assert described == {(method, path) for method, path, _ in ROUTES} - {("GET", "/api/openapi.json")} | {
        ("GET", "/api/events")  # It never ends: see test_events.py.
    }


# --- without a token ---


@pytest.mark.parametrize(
    ("peer", "host", "headers", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8700", {}, 200),
        ("127.0.0.1", "localhost", {}, 200),
        ("::1", "[::1]:8700", {}, 200),
        ("::ffff:127.0.0.1", "localhost", {}, 200),
        ("10.0.0.3", "127.0.0.1:8700", {}, 403),
        ("10.0.0.3", "10.0.0.2:8700", {}, 403),
        ("127.0.0.1", "evil.example:8700", {}, 421),
        ("127.0.0.1", "localhost.evil.example", {}, 421),
        ("127.0.0.1", "127.0.0.1", {"X-Forwarded-For": "10.0.0.3"}, 403),
        ("127.0.0.1", "127.0.0.1", {"Forwarded": "for=127.0.0.1"}, 403),
        ("testclient", "localhost", {}, 403),
    ],
)
async def test_without_a_token_only_this_machine_is_answered_by_its_own_names(
    scheduler: Scheduler, peer: str, host: str, headers: dict[str, str], status: int
) -> None:
    async with client_of(scheduler, peer=(peer, 5)) as client:
        answer = await client.get("/api/tasks", status, headers={"Host": host, **headers})

    if status == 403:
        assert "token=" in answer["detail"]


# --- the application decides ---


def header(request: Request) -> Access:
    return {"r": Access.READ, "o": Access.OPERATE}.get(request.headers.get("x-user", ""), Access.NONE)


async def header_later(request: Request) -> tuple[Access, str]:
    await asyncio.sleep(1)
    return header(request), "somebody"


@pytest.mark.parametrize("authorize", [header, header_later])
@pytest.mark.parametrize(("user", "of_get", "of_post"), [("", 403, 403), ("r", 200, 403), ("o", 200, 200)])
async def test_the_application_decides(
    scheduler: Scheduler, authorize: Callable[[Request], Any], user: str, of_get: int, of_post: int
) -> None:
    async with client_of(scheduler, authorize=authorize, peer=("10.0.0.3", 1), headers={"x-user": user}) as client:
        await client.get("/api/tasks", of_get)
        await client.post("/api/resume", {}, of_post)
        await client.get("/health/live", 503)  # It is not started, and anybody may know.


def raises(_: Request) -> Access:
    raise RuntimeError("the database is away")


def yes(_: Request) -> Any:
    return True


@pytest.mark.parametrize("authorize", [raises, yes, lambda _: None, lambda _: 2, lambda _: (Access.OPERATE, 5)])
async def test_an_authorization_that_fails_grants_nothing(
    scheduler: Scheduler, authorize: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(scheduler, authorize=authorize) as client:
        answer = await client.get("/api/tasks", 500)
        await client.post("/api/resume", {}, 500)

    assert "authorize= of the application has a bug" in answer["detail"]
    assert "database" not in answer["detail"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_an_authorization_may_answer_as_the_framework_does(scheduler: Scheduler) -> None:
    def log_in(_: Request) -> Access:
        raise HTTPException(401, "Log in at /login first", {"WWW-Authenticate": "Cookie"})

    async with client_of(scheduler, authorize=log_in) as client:
        answer = await client.http.get("/api/tasks")

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Cookie")
    assert answer.json()["detail"] == "Log in at /login first"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"token": ""}, "token must not be empty"),
        ({"token": 5}, "token must be text"),
        ({"token": "geheim\u00e9"}, "token must be text of ASCII"),
        ({"token": "a", "read_token": "a"}, "read_token must differ"),
        ({"token": "a", "authorize": header}, "authorize must not be given beside a token"),
        ({"authorize": "admin"}, "authorize must be a function"),
        ({"allowed_hosts": ["shop.example"]}, "allowed_hosts needs token= or authorize="),
        ({"token": "a", "allowed_hosts": "shop.example"}, "allowed_hosts must be names of hosts"),
        ({"token": "a", "allowed_hosts": []}, "allowed_hosts must be names of hosts"),
        ({"token": "a", "allowed_hosts": ["http://shop.example"]}, "allowed_hosts must be names of hosts"),
        ({"token": "a", "allowed_hosts": ["shop.example:80"]}, "allowed_hosts must be names of hosts"),
        ({"tokens": "a"}, "tokens"),
    ],
)
def test_wrong_arguments_are_refused_and_no_token_is_shown(options: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        admin(Scheduler(), **options)

    assert names in str(refusal.value)
    assert "geheim" not in str(refusal.value)


def test_what_has_no_scheduler_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="target must be a Scheduler or an Application"):
        admin("shop.main:app")  # type: ignore[arg-type]


# --- bodies ---


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"reason": "' + b"x" * 1000 + b'"}', 200),
        (b'{"reason": "' + b"x" * 1001 + b'"}', 422),
        (b'{"reason": "x"}' + b" " * 20_000, 413),
        (b"{", 422),
        (b"", 422),
        (b'{"reason": "\xff"}', 400),
        (b'{"reason": "\\ud800"}', 422),
        (b'{"reason": "x", "for_s": NaN}', 422),
        (b'{"reason": "x", "for_s": 1e999}', 422),
        (b'{"reason": "x", "for_s": 0}', 422),
        (b"[" * 16_000, 400),
    ],
)
async def test_bodies(scheduler: Scheduler, body: bytes, status: int) -> None:
    scheduler.schedule_task(nothing, 60, name="one")
    async with scheduler, client_of(scheduler) as client:
        path = f"/api/tasks/{await client.id_of('one')}/pause"
        answer = await client.http.post(path, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status, answer.text
    assert status == 200 or answer.json()["detail"]


async def test_a_body_that_comes_a_byte_a_second_is_given_up(scheduler: Scheduler) -> None:
    async def drip() -> Any:
        for byte in b'{"reason": "slowly"}':
            await asyncio.sleep(1)
            yield bytes([byte])

    async with client_of(scheduler) as client:
        answer = await client.http.post("/api/pause", content=drip(), headers={"Content-Type": "application/json"})

    assert answer.status_code == 408


async def test_methods_that_no_route_has_and_addresses_that_do_not_exist(scheduler: Scheduler) -> None:
    async with client_of(scheduler) as client:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            answer = await client.http.request(method, "/api/tasks")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
            assert "access-control-allow-origin" not in answer.headers
        for path in ("/static", "/api", "/health/", "/health/..%2Fapi/tasks", "//api/tasks", "/api/nothing"):
            assert (await client.http.get(path)).status_code == 404


async def test_a_websocket_is_closed(scheduler: Scheduler) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await admin(scheduler)({"type": "websocket", "path": "/", "headers": []}, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_both_tokens_are_compared_as_digests_whatever_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    from kaiju_app.admin._access import Tokens

    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    gates = [Tokens(TOKEN, READ), Tokens(TOKEN, None), Tokens(None, READ)]
    for gate in gates:
        for given in ("", "x", TOKEN, READ, TOKEN[:-1], "x" * 5000):
            request = httpx.Request("GET", "http://a", headers={"Authorization": f"Bearer {given}"})
            scope = {"type": "http", "headers": [(b"authorization", request.headers["authorization"].encode())]}
            asyncio.run(gate.access_of(Request(scope)))

    assert compared == [(32, 32)] * 36
    assert all({*vars(gate)} == {"_operate", "_read"} for gate in gates), "nothing else of a token is kept"
    assert all(len(kept) == 32 for gate in gates for kept in vars(gate).values())
