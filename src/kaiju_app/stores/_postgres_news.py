"""What a PostgreSQL server tells without being asked: that something has changed which somebody may be waiting for."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4
from zlib import crc32

import asyncpg

from ._postgres_hosts import CONNECT_S, ERRORS, REFUSALS
from ._postgres_link import Link, disown, leave

log = logging.getLogger("kaiju_app.scheduler")

CHANNEL = "kaiju"
ECHO_S = 1.0
READY_S = 0.2
FIRST_PAUSE_MS, LAST_PAUSE_MS = 200, 5_000
CHECK_S = 30.0  # A connection that was cut without a word looks like one on which nothing happens.


class News:
    """A connection that listens, as long as it is open. Without it others' changes are only seen at the next poll.

    A pooler that gives each transaction another session accepts LISTEN, and delivers nothing. So it is tried out: from
    another connection, as what a session tells itself comes back even there.

    Args:
        link: How to come by a connection that keeps its session.
        tell: Sends something to all who listen, by another connection.
        app: The set of instances whose changes count.
    """

    def __init__(self, link: Link, tell: Callable[[str], Awaitable[object]], app: str) -> None:
        self._link = link
        self._tell = tell
        self._app = app
        self._home: object = None
        self._listening: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection | None = None
        self._ready = self._heard = self._echo = asyncio.Event()
        self._nonce = uuid4().hex
        self._failures = 0

    def open(self) -> None:
        """Listen from now on, as soon as that can be had."""
        self._settle()
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listen())

    async def ready(self) -> None:
        """Wait a moment until it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await self._ready.wait()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is news, or after *timeout_s*."""
        self._settle()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._heard.wait()
        self._heard.clear()

    async def close(self) -> None:
        """Listen no more."""
        self._settle()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])

    def _settle(self) -> None:
        """Leave what another loop has made, or the process that this one was forked from."""
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            disown(self._connection)
            self._listening, self._connection, self._home = None, None, home
            self._ready, self._heard, self._echo = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def _listen(self) -> None:
        """Listen, and again whenever that ends, unless nothing is delivered."""
        is_deaf = False
        while not is_deaf:
            try:
                is_deaf = not await self._listen_once()
            except (*ERRORS, TimeoutError) as exc:
                if isinstance(exc, REFUSALS):
                    said = self._link.said(exc)
                    self._link.warn(f"cannot listen, changes of other instances are noticed at the next poll: {said}")
                pause_ms = pause_of(self._nonce, self._failures)
                self._failures += 1
                await asyncio.sleep(pause_ms / 1000)
        self._ready.set()
        log.warning(
            "store %s: LISTEN is accepted and nothing is delivered, as behind a pooler of transactions; changes of "
            "other instances are noticed at the next poll; for a direct connection give PostgresStore(listen=...)",
            self._link.address.name,
        )

    async def _listen_once(self) -> bool:
        """Listen until the connection is found to be broken, which raises; return False if nothing is delivered."""
        async with asyncio.timeout(CONNECT_S):
            connection = self._connection = await self._link.connect()
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.add_listener(CHANNEL, self._on_notice)
            if not await self._hears_an_echo():
                return False
            if self._ready.is_set():
                self._heard.set()  # What was told while nobody listened.
            self._ready.set()
            self._failures = 0
            while await self._hears_an_echo():
                await self._until_broken(connection)
            raise asyncpg.InterfaceError("nothing is heard any more")
        finally:
            self._connection = None
            await leave(connection, ECHO_S)

    async def _until_broken(self, connection: asyncpg.Connection) -> None:
        """Return when it is time to see whether the connection works; at once, when it has ended."""
        broken = asyncio.Event()

        def on_end(_: object) -> None:
            broken.set()

        connection.add_termination_listener(on_end)
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await broken.wait()
        if connection.is_closed():
            raise asyncpg.InterfaceError("the connection has ended")
        connection.remove_termination_listener(on_end)

    async def _hears_an_echo(self) -> bool:
        self._echo.clear()
        self._nonce = uuid4().hex
        await self._tell(self._nonce)
        with suppress(TimeoutError):
            async with asyncio.timeout(ECHO_S):
                await self._echo.wait()
        return self._echo.is_set()

    def _on_notice(self, connection: object, process: int, channel: str, payload: object) -> None:
        if payload == self._nonce:
            self._echo.set()
        elif payload == self._app:
            self._heard.set()


def pause_of(nonce: str, failures: int) -> int:
    """Return the milliseconds until a connection is tried again, after so many *failures* in a row.

    Who reconnects after a restart comes one after the other, and nobody keeps the place that it had.
    """
    most = min(LAST_PAUSE_MS, FIRST_PAUSE_MS << min(failures, 5))
    return most // 2 + crc32(f"{nonce} {failures}".encode()) % (most // 2)
