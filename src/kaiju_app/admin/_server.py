"""The endpoint served alone, as a service of the application that it shows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from kaiju_app.application import Service

CLOSING_S = 3  # For answers that are being sent: those who follow events would never go by themselves.


class _Server(uvicorn.Server):
    """A server that leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal."""
        yield


@dataclass
class AdminServer(Service):
    """Serves an endpoint while the application runs.

    Args:
        endpoint: What ``admin()`` returned.
        host: Address to listen at.
        port: Its port; 0 for any that is free.
    """

    endpoint: ASGIApp
    host: str
    port: int
    _server: Any = field(default=None, init=False)
    _serving: Any = field(default=None, init=False)

    async def init(self) -> None:
        """Listen, and answer from now on."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.create_server((self.host, self.port), family=family)
        config = uvicorn.Config(
            self.endpoint,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSING_S,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="kaiju_app: admin server")
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.logger.info("the endpoint listens at http://%s:%d/ (open it in a browser for the dashboard)", shown, port)

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.should_exit = True
            await self._serving
