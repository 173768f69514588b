"""What the tests of the endpoint share: a client in the same loop, and what it is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from kaiju_app.admin import admin
from kaiju_app.scheduler import Scheduler

BASE = "http://127.0.0.1:8700"
JSON = {"Content-Type": "application/json"}


class Client:
    """Asks one endpoint."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """Return the JSON of an answer with this status."""
        return self._checked(await self.http.get(path, **options), status)

    async def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """Return the JSON of an answer with this status."""
        return self._checked(await self.http.post(path, json={} if body is None else body, **options), status)

    async def id_of(self, name: str) -> str:
        """Return the id of the task *name*."""
        [found] = [each["id"] for each in (await self.get("/api/tasks?limit=500"))["items"] if each["name"] == name]
        return str(found)

    async def task(self, name: str) -> Any:
        """Return what is known of the task *name*."""
        return await self.get(f"/api/tasks/{await self.id_of(name)}")

    def _checked(self, answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        if status >= 400 and not answer.request.url.path.startswith("/health"):
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert problem.keys() == {"title", "status", "detail", "errors"}
            assert problem["status"] == status
            assert problem["title"]
            assert len(problem["detail"]) > 10
        return answer.json()


@asynccontextmanager
async def client_of(
    target: Any, *, base: str = BASE, peer: tuple[str, int] = ("127.0.0.1", 5), headers: Any = None, **options: Any
) -> AsyncIterator[Client]:
    """Return a client of the endpoint of *target*, a scheduler, or of an endpoint."""
    app = admin(target, **options) if isinstance(target, Scheduler) else target
    transport = httpx.ASGITransport(app, client=peer)
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers) as http:
        yield Client(http)
