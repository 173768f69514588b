"""Processes that share tasks through a Redis or Valkey server, each behind a proxy that a test can disturb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaiju_app.scheduler import LeaseTiming
from kaiju_app.stores import store_from_url
from processes.group import LEASE, Process, Processes
from support.redis_server import Server
from support.tcp_proxy import Proxy


class RedisHosts(Processes):
    """Processes of one application on a server of its own, each behind a proxy of its own.

    Args:
        directory: Where all files are.
        server: The server.
        lease: The lease timing of all processes.
        options: Options of all processes, see worker.Options.
    """

    def __init__(self, directory: Path, server: Server, lease: LeaseTiming = LEASE, **options: Any) -> None:
        self.server = server
        super().__init__(directory, server.url, lease, **options)
        self.ways: dict[str, Proxy] = {}

    def way(self, who: str) -> Proxy:
        """Return the proxy between a process, started or not, and the server."""
        if who not in self.ways:
            self.ways[who] = Proxy("127.0.0.1", self.server.port).__enter__()
        return self.ways[who]

    def start(self, who: str, environment: dict[str, str] | None = None, **options: Any) -> Process:
        return super().start(who, environment, **{"store": f"redis://127.0.0.1:{self.way(who).port}", **options})

    def lead_to(self, server: Server) -> None:
        """Direct all new connections to another server, and end the others."""
        self.server, self.url = server, server.url
        for way in self.ways.values():
            way.target = "127.0.0.1", server.port
            way.cut()

    def fences(self) -> dict[str, int]:
        """Return the fence of the last claim of each task, as the server has it."""
        names = self.server.ask("ZRANGE", f"{self._base}names", 0, -1)
        return {name: int(self.server.ask("HGET", f"{self._base}task:{name}", "fence")) for name in names}

    def instances(self) -> int:
        """Return how many instances the server knows."""
        return int(self.server.ask("HLEN", f"{self._base}instances"))

    @property
    def _base(self) -> str:
        return store_from_url(self.url)._link.base  # type: ignore[attr-defined, no-any-return]

    def close(self) -> None:
        super().close()
        for way in self.ways.values():
            way.__exit__(None, None, None)
        self.ways.clear()
