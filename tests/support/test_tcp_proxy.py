"""Each fault of the proxy has its effect on existing and on new connections."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.tcp_proxy import Proxy

pytestmark = pytest.mark.realtime

SILENT_S = 0.1  # How long to watch that nothing arrives.


class _Echo(socketserver.BaseRequestHandler):
    request: socket.socket
    server: _Server

    def handle(self) -> None:
        try:
            while data := self.request.recv(65_536):
                self.server.heard += data
                self.request.sendall(data)
        except ConnectionError:
            self.server.resets += 1


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.heard = b""
        self.resets = 0


@pytest.fixture
def server() -> Iterator[_Server]:
    """An echo server."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: _Server) -> Iterator[Proxy]:
    with Proxy(*server.server_address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    """Connect to the server through the proxy."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 5))


def said(client: socket.socket, text: bytes) -> bytes:
    """Return the answer."""
    client.sendall(text)
    return received(client, len(text))


def received(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def is_silent(client: socket.socket) -> bool:
    client.settimeout(SILENT_S)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)
    return False


def is_reset(client: socket.socket) -> bool:
    try:
        client.sendall(b"?")
        client.recv(1)
    except ConnectionError:
        return True
    return False


def is_refused(proxy: Proxy) -> bool:
    """Return whether a new connection is reset, possibly before ``connect()`` has returned."""
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
            return is_reset(client)
    except ConnectionResetError:
        return True


def reached(condition: Callable[[], Any]) -> bool:
    end = time.monotonic() + 5
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return bool(done)


def test_it_passes_everything_on_and_counts_it(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    one, other = connect(), connect()
    much = bytes(range(256)) * 4_000
    sender = threading.Thread(target=one.sendall, args=(much,))
    sender.start()

    assert much == received(one, len(much))
    sender.join()
    assert b"two" == said(other, b"two")
    assert (2, len(much) + 3, len(much) + 3) == (proxy.connections, proxy.to_server_bytes, proxy.to_client_bytes)


def test_the_end_of_one_direction_comes_after_all_that_was_sent(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)

    assert b"last words" == received(client, 100)


def test_a_delay_lets_all_come_later_and_in_order(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    old = connect()
    assert b"a" == said(old, b"a")
    proxy.delay(to_server_s=0.1, to_client_s=0.05)
    for client in (old, connect()):
        began = time.monotonic()
        client.sendall(b"b")
        time.sleep(0.02)
        assert b"bc" == said(client, b"c") + received(client, 1)
        assert time.monotonic() - began >= 0.15
    old.sendall(b"d")
    time.sleep(0.02)
    proxy.delay()
    assert b"de" == said(old, b"e") + received(old, 1)


def test_a_cut_resets_both_ends_and_later_connections_are_none_the_worse(
    server: _Server, proxy: Proxy, connect: Callable[[], socket.socket]
) -> None:
    client = connect()
    assert b"a" == said(client, b"a")
    proxy.cut()

    assert is_reset(client)
    assert reached(lambda: server.resets == 1)
    assert b"b" == said(connect(), b"b")


def test_while_it_refuses_only_the_old_connections_live(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    old = connect()
    assert b"a" == said(old, b"a")
    proxy.refuse(True)
    assert is_refused(proxy)
    assert b"b" == said(old, b"b")
    proxy.refuse(False)
    assert b"c" == said(connect(), b"c")
    assert 2 == proxy.connections


def test_where_no_server_is_a_connection_is_reset() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Proxy(*unused.getsockname()) as proxy:
            assert is_refused(proxy)


@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_what_is_held_comes_later_and_whole(
    server: _Server, proxy: Proxy, connect: Callable[[], socket.socket], way: str
) -> None:
    old = connect()
    assert b"a" == said(old, b"a")
    proxy.hold(**{way: True})
    new = connect()
    for client in (old, new):
        client.sendall(b"bcd")
        assert is_silent(client)
    heard = b"a" if way == "to_server" else b"abcdbcd"
    assert heard == server.heard
    new.shutdown(socket.SHUT_WR)  # The end is held too, and arrives last.
    proxy.hold()

    assert b"bcd" == received(old, 3)
    assert b"bcd" == received(new, 100)
    assert b"e" == said(old, b"e")


@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_what_is_dropped_never_comes_and_its_connections_are_reset_in_the_end(
    server: _Server, proxy: Proxy, connect: Callable[[], socket.socket], way: str
) -> None:
    old, idle = connect(), connect()
    assert b"ai" == said(old, b"a") + said(idle, b"i")
    proxy.drop(**{way: True})
    new, ending = connect(), connect()
    for client in (old, new):
        client.sendall(b"b")
        assert is_silent(client)
    ending.shutdown(socket.SHUT_WR)
    assert is_silent(ending)
    heard = b"ai" if way == "to_server" else b"aibb"
    assert heard == server.heard
    proxy.drop()

    assert [True] * 2 == [is_reset(client) for client in (old, new)]
    assert b"i" == said(idle, b"i")


def test_what_is_held_is_lost_when_it_is_dropped(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    client = connect()
    proxy.hold(to_client=True)
    client.sendall(b"a")
    assert is_silent(client)
    proxy.drop(to_client=True)
    assert is_silent(client)
    proxy.drop()

    assert is_reset(client)


@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_a_trap_holds_from_the_moment_on_at_which_something_is_sent(server: _Server, way: str) -> None:
    """Earlier data passes. The data that springs the trap and all later data is held. A trap springs once."""
    names = {b"one": ["a number"], b"it": ["it"]}
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(*server.server_address, lambda piece: names.get(piece, [])))
        client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 5))
        sprung = proxy.trap("it", to_server=way == "to_server", to_client=way == "to_client")
        assert b"one" == said(client, b"one")
        assert not sprung.is_set()

        client.sendall(b"it")
        assert sprung.wait(5)
        assert is_silent(client)
        assert reached(lambda: server.heard == (b"one" if way == "to_server" else b"oneit"))

        proxy.hold()
        assert b"it" == received(client, 2)
        assert b"it" == said(client, b"it")


def test_a_trap_that_is_disarmed_holds_nothing(server: _Server) -> None:
    with Proxy(*server.server_address, lambda piece: ["it"]) as proxy:
        sprung = proxy.trap("it", to_server=True)
        proxy.disarm()
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
            assert b"it" == said(client, b"it")
        assert not sprung.is_set()


def test_new_connections_go_to_the_target_of_the_moment(proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
    assert b"a" == said(connect(), b"a")
    with socket.create_server(("127.0.0.1", 0)) as other:
        proxy.target = other.getsockname()
        client = connect()
        accepted, _ = other.accept()
        with accepted:
            accepted.sendall(b"other")
            assert b"other" == received(client, 5)


def test_a_dsn_leads_to_the_same_database_through_the_proxy(proxy: Proxy) -> None:
    assert f"postgresql://me:secret@127.0.0.1:{proxy.port}/mine?a=b" == proxy.dsn(
        "postgresql://me:secret@db.example:5433/mine?a=b"
    )
    assert f"postgresql://127.0.0.1:{proxy.port}/mine" == proxy.dsn("postgresql://db.example/mine")


def test_it_is_told_from_a_running_loop_and_ends_with_open_connections(server: _Server) -> None:
    async def told() -> bytes:
        with Proxy(*server.server_address) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            proxy.hold(to_client=True)
            writer.write(b"a")
            proxy.hold()
            answer = await reader.readexactly(1)
            proxy.hold(to_client=True)
            writer.write(b"b")
        with pytest.raises(ConnectionError):
            await reader.read()
        writer.transport.abort()
        return answer

    assert b"a" == asyncio.run(told())
