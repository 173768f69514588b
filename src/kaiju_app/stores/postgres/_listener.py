"""Notifications of a PostgreSQL server about changes that an instance may be waiting for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4
from zlib import crc32

import asyncpg

from kaiju_app._core.logs import logger

from ._connection import Connection, close_connection, disown
from ._hosts import CONNECT_S, ERRORS, REFUSALS

log = logger("kaiju_app.scheduler")

CHANNEL = "kaiju"
ECHO_S = 1.0
READY_S = 0.2
FIRST_PAUSE_MS, LAST_PAUSE_MS = 200, 5_000
CHECK_S = 30.0  # A connection that was cut silently looks like an idle one.


class Listener:
    """A connection that listens while the store is open. Without it other instances' changes are seen at the next poll.

    A pooler that gives each transaction another session accepts LISTEN and delivers nothing. So delivery is tested with
    an echo from another connection: a notification from the same session arrives even there.

    Args:
        connection: Makes connections that keep their session.
        notify: Sends a notification on another connection.
        app: The set of instances whose changes count.
    """

    def __init__(self, connection: Connection, notify: Callable[[str], Awaitable[object]], app: str) -> None:
        self._link = connection
        self._notify = notify
        self._app = app
        self._home: object = None
        self._listening: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection | None = None
        self._ready = self._heard = self._echo = asyncio.Event()
        self._nonce = uuid4().hex
        self._failures = 0

    def open(self) -> None:
        """Start to listen."""
        self._settle()
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listen())

    async def ready(self) -> None:
        """Wait a moment for the connection to listen."""
        await _has_come(self._ready, READY_S)

    async def wait(self, timeout_s: float) -> None:
        """Return at the next notification, or after *timeout_s*."""
        self._settle()
        await _has_come(self._heard, timeout_s)
        self._heard.clear()

    async def close(self) -> None:
        """Stop listening."""
        self._settle()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])

    def _settle(self) -> None:
        """Leak what another loop or the parent process has made."""
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            disown(self._connection)
            self._listening, self._connection, self._home = None, None, home
            self._ready, self._heard, self._echo = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def _listen(self) -> None:
        """Listen, and reconnect whenever that ends, unless nothing is delivered."""
        is_deaf = False
        while not is_deaf:
            try:
                is_deaf = not await self._listen_once()
            except (*ERRORS, TimeoutError) as exc:
                if isinstance(exc, REFUSALS):
                    said = self._link.said(exc)
                    self._link.warn(f"cannot listen, changes by other instances are noticed at the next poll: {said}")
                pause_ms = pause_of(self._nonce, self._failures)
                self._failures += 1
                await asyncio.sleep(pause_ms / 1000)
        self._ready.set()
        log.warning(
            "store %s: LISTEN is accepted but nothing is delivered, as behind a transaction pooler; changes by "
            "other instances are noticed at the next poll; pass a direct address as PostgresStore(listen=...)",
            self._link.address.name,
        )

    async def _listen_once(self) -> bool:
        """Listen until the connection breaks, which raises; return False if nothing is delivered."""
        async with asyncio.timeout(CONNECT_S):
            connection = self._connection = await self._link.connect()
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.add_listener(CHANNEL, self._on_notice)
            if not await self._hears_an_echo():
                return False
            if self._ready.is_set():
                self._heard.set()  # Notifications may have been missed in between.
            self._ready.set()
            self._failures = 0
            while await self._hears_an_echo():
                await self._until_broken(connection)
            raise asyncpg.InterfaceError("notifications no longer arrive")
        finally:
            self._connection = None
            await close_connection(connection, ECHO_S)

    async def _until_broken(self, connection: asyncpg.Connection) -> None:
        """Return when it is time to check the connection; raise at once if it has ended."""
        broken = asyncio.Event()

        def on_end(_: object) -> None:
            broken.set()

        connection.add_termination_listener(on_end)
        if not connection.is_closed():  # It may have ended just before, which nobody tells any more.
            await _has_come(broken, CHECK_S)
        if connection.is_closed():
            raise asyncpg.InterfaceError("the connection has ended")
        connection.remove_termination_listener(on_end)

    async def _hears_an_echo(self) -> bool:
        self._echo.clear()
        self._nonce = uuid4().hex
        await self._notify(self._nonce)
        return await _has_come(self._echo, ECHO_S)

    def _on_notice(self, connection: object, process: int, channel: str, payload: object) -> None:
        if payload == self._nonce:
            self._echo.set()
        elif payload == self._app:
            self._heard.set()


async def _has_come(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for *event*, but not for longer than *timeout_s*; return whether it has come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()


def pause_of(nonce: str, failures: int) -> int:
    """Return the milliseconds before the next attempt to connect, after this many *failures* in a row.

    Clients that reconnect after a restart are spread out, in a new order at each attempt.
    """
    most = min(LAST_PAUSE_MS, FIRST_PAUSE_MS << min(failures, 5))
    return most // 2 + crc32(f"{nonce} {failures}".encode()) % (most // 2)
