"""The endpoint of a store inside this process, which looks at the store and runs no task."""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2

from kaiju_app._core.logs import logger
from kaiju_app.scheduler import Scheduler

from ._client import Endpoint
from ._onlook import looking_at
from ._status import Ended, Status

HERE = "http://127.0.0.1"
WAITING = 64  # Parts of an answer that wait for their reader.


@asynccontextmanager
async def endpoint_of_store(url: str, app: str) -> AsyncIterator[Endpoint]:
    """Return the endpoint of the store that *url* names.

    Raises:
        Ended: The address is wrong, the store cannot be reached, or a library is missing.
    """
    try:
        from kaiju_app.admin import Access, admin
    except ModuleNotFoundError as exc:
        if exc.name != "fastapi":
            raise
        raise Ended(Status.USAGE, "--store needs the library fastapi: pip install fastapi, or ask with --url") from None
    logger("kaiju_app").addHandler(logging.NullHandler())  # What goes wrong is told by the answers.
    async with looking_at(url, app) as scheduler:
        endpoint = admin(scheduler, authorize=lambda _: (Access.OPERATE, operator()))
        async with InProcess(endpoint) as transport, httpx2.AsyncClient(transport=transport, base_url=HERE) as http:
            yield Endpoint(http, f"store {scheduler_name(scheduler)}")


def scheduler_name(scheduler: Scheduler) -> str:
    """Return the name of the store that *scheduler* looks at."""
    store = scheduler.json_repr()["store"]
    return str(store["name"]) if isinstance(store, dict) else "of this process"


def operator() -> str:
    """Return who acts, for logs and as the holder of a pause; the host is added as the address it comes from."""
    user = "somebody"
    with suppress(Exception):  # In a container there may be no user of this number; which error says so differs.
        user = getpass.getuser()
    return user


class InProcess(httpx2.AsyncBaseTransport):
    """Hands requests to an ASGI application, and its answers over as they come: events have no end.

    httpx2 has a transport like this one, which waits for the whole answer first.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._serving: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer once its head is known."""
        exchange = _Exchange(await request.aread())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, 80),
            "client": (socket.gethostname(), 0),
            "root_path": "",
        }
        serving = asyncio.create_task(exchange.serve(self._app, scope), name="kaiju_app: a request in this process")
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        status, headers = await exchange.head
        return httpx2.Response(status, headers=headers, stream=exchange)

    async def aclose(self) -> None:
        """End what is being served."""
        for each in (serving := list(self._serving)):
            each.cancel()
        if serving:
            await asyncio.wait(serving)


class _Exchange(httpx2.AsyncByteStream):
    """A request and its answer."""

    def __init__(self, body: bytes) -> None:
        self.head: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] = asyncio.get_running_loop().create_future()
        self._body: bytes | None = body
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        self._gone = asyncio.Event()

    async def serve(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as exc:
            if self.head.done():
                raise
            self.head.set_exception(exc)
        finally:
            if not self._gone.is_set():
                await self._parts.put(None)

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.head.set_result((message["status"], list(message.get("headers", ()))))
        elif not self._gone.is_set():
            await self._parts.put(message.get("body", b""))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part

    async def aclose(self) -> None:
        self._gone.set()
        while not self._parts.empty():  # Whoever waits for room goes on.
            self._parts.get_nowait()
