"""A TCP proxy on loopback that is slow, silent or gone when a test says so."""

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

PATIENCE_S = 20.0  # Far beyond what anything here takes.
CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # What SO_LINGER takes: to close the socket is to reset the connection.

Link = asyncio.Task[None]  # A connection of a client, and the one to the server that belongs to it.
Chunks = asyncio.Queue[tuple[float, bytes]]  # Each with the time of the loop when it is due; the end has no bytes.


class Proxy:
    """Passes connections on to a server, from a thread and a loop of its own.

    Its methods can be called from any thread. They return when what they say is true: of a direction that is held or
    dropped, not one byte more is forwarded.

    Args:
        target_host: Where the server is.
        target_port: Where the server is.
        names_of: Told each piece that a client sends, what it names in it; in the thread of the proxy.
    """

    def __init__(
        self, target_host: str, target_port: int, names_of: Callable[[bytes], Collection[str]] = lambda piece: ()
    ) -> None:
        self.target = target_host, target_port  # Where new connections go; may be set at any time.
        self.port = 0
        self.connections = 0  # So far, without those that were refused.
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
        """Return the DSN by which the same database is reached through the proxy."""
        parts = urlsplit(server_dsn)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    @property
    def to_server_bytes(self) -> int:
        """What was forwarded to the server so far, of all connections."""
        return self._ways[0].forwarded

    @property
    def to_client_bytes(self) -> int:
        """What was forwarded to clients so far, of all connections."""
        return self._ways[1].forwarded

    # --- faults of both directions: a call without arguments ends them ---

    def delay(self, to_server_s: float = 0, to_client_s: float = 0) -> None:
        """Forward what arrives from now on so many seconds later, in order."""
        for way, delay_s in zip(self._ways, (to_server_s, to_client_s), strict=True):
            way.delay_s = delay_s

    def hold(self, to_server: bool = False, to_client: bool = False) -> None:
        """Keep what goes there, ends of connections too, and deliver it in order when it is held no more."""
        self._wait_for(self._hold(to_server, to_client))

    def drop(self, to_server: bool = False, to_client: bool = False) -> None:
        """Throw away what goes there, ends of connections too.

        When that is over, the connections that lost something are reset: a stream with a hole in it is of no use.
        """
        self._wait_for(self._drop(to_server, to_client))

    def trap(self, name: str, *, to_server: bool = False, to_client: bool = False) -> threading.Event:
        """Hold as soon as a client sends something of that name, with this itself; the event tells that it was sent."""
        trap = _Trap(name, (to_server, to_client), threading.Event())
        self._wait_for(self._set(trap))
        return trap.sprung

    def disarm(self) -> None:
        """Have no trap any more; what is held stays so."""
        self._wait_for(self._set(None))

    # --- faults of connections ---

    def cut(self) -> None:
        """Reset all connections."""
        self._wait_for(_cut(self._links))

    def refuse(self, refused: bool) -> None:
        """Reset each new connection as soon as it is made, or no more; those that are there stay."""
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
        while others := asyncio.all_tasks() - {me}:  # Connections that are just being accepted.
            await asyncio.wait(others)
        await asyncio.sleep(0)  # What was reset is closed in the next turn.

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
        """Connect a client to the server, until both have ended; who ends it sooner resets it."""
        link = asyncio.current_task()
        assert link is not None
        writers = [writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
            writers.append(server_writer)
            async with asyncio.TaskGroup() as group:
                sources, sinks = (reader, server_reader), (server_writer, writer)
                told = self._on_sent, lambda piece: None
                for way, source, sink, tell in zip(self._ways, sources, sinks, told, strict=True):
                    chunks: Chunks = asyncio.Queue()
                    group.create_task(way.receive(source, chunks, tell))
                    group.create_task(way.deliver(chunks, sink, link))
            for each in writers:  # With all that was written to it.
                each.close()
                await each.wait_closed()
        except OSError:
            pass  # The server is not there, or somebody reset what had ended.
        finally:
            for each in writers:
                _reset(each)


@dataclass(frozen=True)
class _Trap:
    """What is held when something is sent."""

    name: str
    held: tuple[bool, bool]
    sprung: threading.Event


class _Way:
    """What befalls all that goes in one direction."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.forwarded = 0
        self.holed: set[Link] = set()  # Those that lost something.
        self._held = False
        self._dropped = False
        self._changed = asyncio.Event()

    def set(self, *, held: bool | None = None, dropped: bool | None = None) -> None:
        self._held = self._held if held is None else held
        self._dropped = self._dropped if dropped is None else dropped
        self._changed.set()
        self._changed = asyncio.Event()

    async def receive(self, source: asyncio.StreamReader, chunks: Chunks, tell: Callable[[bytes], None]) -> None:
        """Take what comes as fast as it comes: neither a delay nor a hold is felt at the sender's end."""
        while True:
            try:
                chunk = await source.read(CHUNK)
            except OSError:
                chunk = b""  # That it was reset is told as an end, in order.
            tell(chunk)
            chunks.put_nowait((asyncio.get_running_loop().time() + self.delay_s, chunk))
            if not chunk:
                return

    async def deliver(self, chunks: Chunks, sink: asyncio.StreamWriter, link: Link) -> None:
        """Forward what is due and neither held nor dropped, up to its end; if that was dropped, until it is cut."""
        with suppress(OSError):  # Nobody is there any more, which the other direction tells the sender.
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
        """Wait while it is held; return whether to forward, which never is done behind a hole."""
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
    with suppress(OSError):  # It is closed.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
