"""A TCP proxy on loopback that delays, holds, drops or cuts connections when a test says so."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 20.0  # Far more than anything here takes.
CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # For SO_LINGER: closing the socket resets the connection.

Link = asyncio.Task[None]  # A client's connection together with its connection to the server.
Chunks = asyncio.Queue[tuple[float, bytes]]  # Loop time at which each is due, and its bytes; none at the end.


class Proxy:
    """Forwards connections to a server, in a thread and a loop of its own.

    Its methods may be called from any thread. They return when they have taken effect: not one more byte of a held or
    dropped direction is forwarded.

    Args:
        target_host: Host of the server.
        target_port: Port of the server.
        names_of: Returns the names in a piece that a client sends, for ``trap()``. Called in the proxy's thread.
    """

    def __init__(
        self, target_host: str, target_port: int, names_of: Callable[[bytes], Collection[str]] = lambda piece: ()
    ) -> None:
        self.target = target_host, target_port  # Of new connections; may be set at any time.
        self.port = 0
        self.connections = 0  # Accepted so far, without refused ones.
        self._ways = _Way(), _Way()  # To the server, to the client.
        self._names_of = names_of
        self._trap: _Trap | None = None
        self._refused = False
        self._links: set[Link] = set()
        self._complaints: list[dict[str, Any]] = []
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_exception_handler(lambda _, context: self._complaints.append(context))
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._wait_for(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait_for(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        assert not self._complaints, self._complaints

    def dsn(self, server_dsn: str) -> str:
        """Return the DSN of the same database through the proxy."""
        parts = urlsplit(server_dsn)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    @property
    def to_server_bytes(self) -> int:
        """Bytes forwarded to the server so far, over all connections."""
        return self._ways[0].forwarded

    @property
    def to_client_bytes(self) -> int:
        """Bytes forwarded to clients so far, over all connections."""
        return self._ways[1].forwarded

    # --- faults of a direction; a call without arguments ends them ---

    def delay(self, to_server_s: float = 0, to_client_s: float = 0) -> None:
        """Delay everything that arrives from now on, in order."""
        for way, delay_s in zip(self._ways, (to_server_s, to_client_s), strict=True):
            way.delay_s = delay_s

    def hold(self, to_server: bool = False, to_client: bool = False) -> None:
        """Hold data and ends of connections, and deliver them in order when the hold ends."""
        self._wait_for(self._hold(to_server, to_client))

    def drop(self, to_server: bool = False, to_client: bool = False) -> None:
        """Throw away data and ends of connections.

        When the fault ends, connections that lost something are reset: a stream with a hole is useless.
        """
        self._wait_for(self._drop(to_server, to_client))

    def trap(self, name: str, *, to_server: bool = False, to_client: bool = False) -> threading.Event:
        """Start to hold when a client sends something of that name, which is held as well; that sets the event."""
        trap = _Trap(name, (to_server, to_client), threading.Event())
        self._wait_for(self._set(trap))
        return trap.sprung

    def disarm(self) -> None:
        """Remove the trap. What is held stays held."""
        self._wait_for(self._set(None))

    # --- faults of connections ---

    def cut(self) -> None:
        """Reset all connections."""
        self._wait_for(_cut(self._links))

    def refuse(self, refused: bool) -> None:
        """Reset each new connection as soon as it is made, or stop doing so. Existing connections stay."""
        self._refused = refused

    # --- in the thread of the proxy ---

    def _wait_for(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._refused = True
        self._server.close()
        await _cut(self._links)
        me = asyncio.current_task()
        while others := asyncio.all_tasks() - {me}:  # Connections that are being accepted right now.
            await asyncio.wait(others)
        await asyncio.sleep(0)  # Transports that were reset close in the next turn.

    async def _hold(self, *held: bool) -> None:
        for way, each in zip(self._ways, held, strict=True):
            way.set(held=each)

    async def _drop(self, *dropped: bool) -> None:
        for way, each in zip(self._ways, dropped, strict=True):
            way.set(dropped=each)
            if not each:
                await _cut(way.holed)

    async def _set(self, trap: _Trap | None) -> None:
        self._trap = trap

    def _on_sent(self, piece: bytes) -> None:
        names, trap = self._names_of(piece), self._trap
        if trap is not None and trap.name in names:
            self._trap = None
            for way, each in zip(self._ways, trap.held, strict=True):
                way.set(held=each)
            trap.sprung.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refused:
            _reset(writer)
            return
        self.connections += 1
        link = self._loop.create_task(self._join(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._forget)

    def _forget(self, link: Link) -> None:
        for links in (self._links, *(way.holed for way in self._ways)):
            links.discard(link)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client to the server until both sides have ended. A cancellation resets both connections."""
        link = asyncio.current_task()
        assert link is not None
        writers = [writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
            writers.append(server_writer)
            async with asyncio.TaskGroup() as group:
                sources, sinks = (reader, server_reader), (server_writer, writer)
                observers = self._on_sent, lambda piece: None
                for way, source, sink, observe in zip(self._ways, sources, sinks, observers, strict=True):
                    chunks: Chunks = asyncio.Queue()
                    group.create_task(way.receive(source, chunks, observe))
                    group.create_task(way.deliver(chunks, sink, link))
            for each in writers:  # This flushes what was written.
                each.close()
                await each.wait_closed()
        except OSError:
            pass  # The server is unreachable, or a connection was reset after its end.
        finally:
            for each in writers:
                _reset(each)


@dataclass(frozen=True)
class _Trap:
    """The directions to hold once a client sends something of this name."""

    name: str
    held: tuple[bool, bool]
    sprung: threading.Event


class _Way:
    """The faults of one direction."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.forwarded = 0
        self.holed: set[Link] = set()  # Connections that lost something.
        self._held = False
        self._dropped = False
        self._changed = asyncio.Event()

    def set(self, *, held: bool | None = None, dropped: bool | None = None) -> None:
        self._held = self._held if held is None else held
        self._dropped = self._dropped if dropped is None else dropped
        self._changed.set()
        self._changed = asyncio.Event()

    async def receive(self, source: asyncio.StreamReader, chunks: Chunks, observe: Callable[[bytes], None]) -> None:
        """Read as fast as data arrives, so that the sender notices neither delays nor holds."""
        while True:
            try:
                chunk = await source.read(CHUNK)
            except OSError:
                chunk = b""  # A reset is forwarded as an end, in order.
            observe(chunk)
            chunks.put_nowait((asyncio.get_running_loop().time() + self.delay_s, chunk))
            if not chunk:
                return

    async def deliver(self, chunks: Chunks, sink: asyncio.StreamWriter, link: Link) -> None:
        """Forward what is due and neither held nor dropped, up to the end of the stream or until the link is cut."""
        with suppress(OSError):  # The receiver is gone. The sender learns that by the other direction.
            while True:
                due, chunk = await chunks.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                if not await self._passes(link):
                    continue
                if not chunk:
                    sink.write_eof()
                    return
                self.forwarded += len(chunk)
                sink.write(chunk)
                await sink.drain()

    async def _passes(self, link: Link) -> bool:
        """Wait while the direction is held; return whether to forward. Nothing is forwarded after a hole."""
        while self._held and not self._dropped:
            await self._changed.wait()
        if self._dropped:
            self.holed.add(link)
        return link not in self.holed


async def _cut(links: Iterable[Link]) -> None:
    cut = set(links)
    for each in cut:
        each.cancel()
    if cut:
        await asyncio.wait(cut)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # It is already closed.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
