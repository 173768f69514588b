"""News of a Redis or Valkey server about changes that an instance may be waiting for."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from uuid import uuid4
from zlib import crc32

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import MovedError

from ._connection import CONNECT_S, Connection, close_client, disown, end
from ._servers import ERRORS, client_for_news, is_refusal

READY_S = 0.2
ECHO_S = 1.0
FIRST_PAUSE_MS, LAST_PAUSE_MS = 200, 5_000
CHECK_S = 30.0  # A connection that was cut silently looks like an idle one.


class Listener:
    """A connection that listens while the store is open. Without it other instances' changes are seen at the next poll.

    In a cluster the news stay on the node that has the slot of the application.

    Args:
        connection: To the server whose news count.
    """

    def __init__(self, connection: Connection) -> None:
        self._link = connection
        self._home: object = None
        self._listening: asyncio.Task[None] | None = None
        self._pubsub: PubSub | None = None
        self._ready = self._heard = asyncio.Event()
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
        """Return at the next news, or after *timeout_s*."""
        self._settle()
        await _has_come(self._heard, timeout_s)
        self._heard.clear()

    async def close(self) -> None:
        """Stop listening."""
        self._settle()
        listening, self._listening = self._listening, None
        if listening is not None:
            await end([listening])

    def _settle(self) -> None:
        """Leak what another loop or the parent process has made."""
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            disown(self._pubsub)
            self._listening, self._pubsub, self._home = None, None, home
            self._ready, self._heard = asyncio.Event(), asyncio.Event()

    async def _listen(self) -> None:
        """Listen, and reconnect whenever that ends."""
        while True:
            try:
                await self._listen_once()
            except (*ERRORS, TimeoutError) as exc:
                if is_refusal(exc) and not isinstance(exc, MovedError):  # Then the slot has just moved.
                    said = self._link.said(exc)
                    self._link.warn(f"cannot listen, changes by other instances are noticed at the next poll: {said}")
                pause_ms = pause_of(self._nonce, self._failures)
                self._failures += 1
                await asyncio.sleep(pause_ms / 1000)

    async def _listen_once(self) -> None:
        """Listen until the connection breaks, which raises."""
        async with asyncio.timeout(CONNECT_S):
            client = await client_for_news(self._link.address, self._link.base)
        self._pubsub = pubsub = client.pubsub()
        try:
            async with asyncio.timeout(CONNECT_S):
                channel = f"{self._link.base}news"
                await (
                    pubsub.ssubscribe(channel) if self._link.address.kind == "cluster" else pubsub.subscribe(channel)
                )
            while True:
                await self._hear(pubsub)
        finally:
            self._pubsub = None
            with suppress(*ERRORS, TimeoutError):
                async with asyncio.timeout(ECHO_S):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await close_client(client, ECHO_S)

    async def _hear(self, pubsub: PubSub) -> None:
        """Take the next message; if none comes for long, check the connection."""
        message = await pubsub.get_message(timeout=CHECK_S)
        if message is None:
            await pubsub.ping()
            message = await pubsub.get_message(timeout=ECHO_S)
            if message is None:
                raise NoConnection("news no longer arrive")
        if message["type"] in ("subscribe", "ssubscribe"):
            self._failures = 0
            if self._ready.is_set():
                self._heard.set()  # News may have been missed in between.
            self._ready.set()
        elif message["type"] == "sunsubscribe":
            raise NoConnection("the slot of the application has moved to another node")
        elif message["type"] in ("message", "smessage"):
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
