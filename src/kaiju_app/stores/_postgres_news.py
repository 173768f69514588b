"""What a PostgreSQL server tells without being asked: that something has changed which somebody may be waiting for."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

import asyncpg

from ._postgres_link import Errors, Link, disown, leave

log = logging.getLogger("kaiju_app.scheduler")

CHANNEL = "kaiju"
ECHO_S = 1.0


class News:
    """A connection that listens. Without it others' changes are only seen at the next poll.

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
        self._connection: asyncpg.Connection | None = None
        self._home: object = None
        self._is_deaf = False
        self._heard = asyncio.Event()
        self._echo = asyncio.Event()
        self._nonce = ""

    async def open(self) -> None:
        """Listen from now on, if that can be had."""
        self._settle()
        with suppress(*Errors):
            await self._listen()
        self._heard.clear()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is news, or after *timeout_s*."""
        self._settle()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._listen()
                await self._heard.wait()
                self._heard.clear()
        except TimeoutError:
            pass
        except Errors:  # Until the next wait, which tries again, it is as if there were no news.
            await asyncio.sleep(end - loop.time())

    async def close(self) -> None:
        """Listen no more."""
        self._settle()
        connection, self._connection = self._connection, None
        if connection is not None:
            await leave(connection, ECHO_S)

    def _settle(self) -> None:
        """Leave what another loop has made, or the process that this one was forked from."""
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            disown(self._connection)
            self._connection, self._home = None, home
            self._heard, self._echo = asyncio.Event(), asyncio.Event()

    async def _listen(self) -> None:
        """See to it that there is a connection that listens, or none to be had."""
        if self._is_deaf or (self._connection is not None and not self._connection.is_closed()):
            return
        connection = await self._link.connect()
        try:
            await connection.add_listener(CHANNEL, self._on_notice)
            self._is_deaf = not await self._hears_an_echo()
        except BaseException:
            await leave(connection, ECHO_S)
            raise
        if self._is_deaf:
            await leave(connection, ECHO_S)
            log.warning(
                "store %s: LISTEN is accepted and nothing is delivered, as behind a pooler of transactions; changes of "
                "other instances are noticed at the next poll; for a direct connection give PostgresStore(listen=...)",
                self._link.address.name,
            )
        else:
            self._connection = connection
            self._heard.set()  # What was told while nobody listened.

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
