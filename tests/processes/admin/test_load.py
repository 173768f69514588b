"""Two hundred who follow, some of whom do not read, and a client that is very slow: the tasks run on time."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaiju_app.admin._hub import MOST_FOLLOWERS
from processes.admin.served import served

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.timeout(120)]

PROGRAM = Path(__file__).parent / "programs" / "loaded.py"
DEAF = 20
PATIENCE_S = 30

MOST_HELD_UP_MS = 5.0  # 0.5 where nothing else runs. A loop that tells all followers in one turn is held up for 50.
MOST_MEMORY = 80_000_000  # Bytes: of each who does not read the operating system and the server keep 0.2 MB.


class Connection:
    """Sends bytes to the server, and counts those that it gets."""

    def __init__(self, port: int, *, reads: bool = True) -> None:
        self.got = 0
        self.start = b""
        self._port = port
        self._reads = reads
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if not reads:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    async def __aenter__(self) -> Connection:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        request = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n"
        await loop.sock_sendall(self._socket, request.encode())
        self.start = await loop.sock_recv(self._socket, 12)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._socket.close()

    async def _read(self) -> None:
        loop, buffer = asyncio.get_running_loop(), bytearray(1 << 18)
        while self._reads:
            self.got += await loop.sock_recv_into(self._socket, buffer)


async def drip(port: int) -> None:
    """Send a request, a byte a second."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for byte in b"POST /api/pause HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(1)
    finally:
        writer.close()


async def measured(client: httpx.AsyncClient, seconds: float) -> Any:
    await client.get("/lateness")
    await asyncio.sleep(seconds)
    return (await client.get("/lateness")).json()


async def events_reach(connections: list[Connection]) -> None:
    """Wait until each has got more."""
    before = [each.got for each in connections]
    async with asyncio.timeout(PATIENCE_S):
        while any(each.got == was for each, was in zip(connections, before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def test_two_hundred_followers_do_not_hold_up_a_thousand_runs_a_second(tmp_path: Path) -> None:
    asyncio.run(follow_a_thousand_runs_a_second(tmp_path))


async def follow_a_thousand_runs_a_second(tmp_path: Path) -> None:
    with served(tmp_path, PROGRAM) as port:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
            AsyncExitStack() as open_ones,
        ):
            before = await measured(client, 3)
            slow = asyncio.create_task(drip(port))
            everybody = [Connection(port, reads=number >= DEAF) for number in range(MOST_FOLLOWERS)]
            for each in everybody:
                await open_ones.enter_async_context(each)
            readers = everybody[DEAF:]
            await events_reach(readers)
            during = await measured(client, 5)
            await events_reach(readers)
            async with asyncio.timeout(PATIENCE_S):
                while (await admitted(port)) != b"HTTP/1.1 200":  # noqa: ASYNC110  # The deaf lose their places.
                    await asyncio.sleep(0.5)
            assert not slow.done()
            slow.cancel()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            after = await measured(client, 1)

    report = json.dumps({"before": before, "during": during, "after": after}, indent=1)
    assert {each.start for each in everybody} == {b"HTTP/1.1 200"}
    assert during["held_up"] <= MOST_HELD_UP_MS, report
    assert during["memory"] - before["memory"] <= MOST_MEMORY, report
    assert after["memory"] - before["memory"] <= MOST_MEMORY, report
    assert during["runs_a_second"] > 0.5 * before["runs_a_second"], report


async def admitted(port: int) -> bytes:
    """Return how the answer to one more follower begins."""
    async with Connection(port) as one_more:
        return one_more.start
