"""The Redis store alone: what it says at the door, lost connections, clusters, sentinels, and what nobody should do."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.crc import key_slot

from contract.test_store_contract import ME, TTL, YOU, S, add, held, record, row, taken
from kaiju_app._core.clock import wall_us
from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.scheduler import Scheduler, Scope
from kaiju_app.stores import store_from_url
from kaiju_app.stores._cas import simply
from kaiju_app.stores._onlooker import Onlooker
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import request_run
from kaiju_app.stores.redis import RedisStore
from kaiju_app.stores.redis import _connection as connection_module
from support.engines import change_one
from support.postgres_server import Missing
from support.redis_server import ExternalServer, Server, Words, any_program, find_program, server_or_skip, shared_server
from support.tcp_proxy import Proxy

pytestmark = pytest.mark.realtime

Opened = Callable[..., Coroutine[None, None, RedisStore]]
SECRET = "s3cr3t"


@pytest.fixture(scope="module")
def program() -> Path:
    return server_or_skip(any_program())


@pytest.fixture(scope="module")
def server(program: Path) -> Iterator[Server]:
    """A server that the tests of this module share."""
    with Server(program) as server:
        yield server


@pytest.fixture
def opened(loop: asyncio.AbstractEventLoop, server: Server) -> Iterator[Opened]:
    """Open a store, by default for an application of the test's own. It is closed at the end."""
    stores: list[RedisStore] = []
    app = uuid4().hex

    async def opened(url: str | None = None, **options: Any) -> RedisStore:
        stores.append(RedisStore(url or server.url, **{"app": app, **options}))
        await stores[-1].open()
        return stores[-1]

    yield opened
    for store in stores:
        with suppress(StoreUnavailable):
            loop.run_until_complete(store.close())


async def refused(opened: Opened, url: str, kind: type[Exception] = InvalidArgument) -> str:
    """Return why a server is refused; the password is not in it."""
    with pytest.raises(kind) as caught:
        await opened(url)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    return str(caught.value)


async def works(store: RedisStore, other: RedisStore) -> None:
    """Check that what a store tells reaches another one at once, and that the other one can claim it."""
    await add(store, "task", next_tick=wall_us() + 60 * S)
    await other.wait_for_change(0.1)
    waiting = asyncio.ensure_future(other.wait_for_change(30))
    await asyncio.sleep(0.05)
    begin = time.monotonic()
    assert (await change_one(store, "task", simply(request_run))).done
    await waiting
    assert time.monotonic() - begin < 5
    assert ["task"] == [each.name for each in (await other.claim(ClaimQuery(ME, ["task"], TTL, 1))).records]


# --- at the door ---


async def test_a_wrong_password_and_missing_rights_are_refused_with_what_is_needed(
    server: Server, opened: Opened
) -> None:
    me = f"user{uuid4().hex[:8]}"
    at = f"127.0.0.1:{server.port}"
    said = await refused(opened, f"redis://{me}:{SECRET}@{at}")
    assert f"redis://127.0.0.1:{server.port}" in said
    assert "check user, password" in said

    allowed = ["on", f">{SECRET}", "~kaiju:*", "&kaiju:*", "+@read", "+@write", "+@scripting", "+@pubsub"]
    allowed += ["+@connection", "+info", "+time"]
    for without in ("~kaiju:*", "&kaiju:*", "+@write", "+@scripting", "+time"):
        server.ask("ACL", "SETUSER", me, "reset", *(each for each in allowed if each != without))
        said = await refused(opened, f"redis://{me}:{SECRET}@{at}")
        assert "the user needs ~kaiju:* &kaiju:* +@read +@write" in said, without
    server.ask("ACL", "SETUSER", me, "reset", *allowed)
    url = f"redis://{me}:{SECRET}@{at}"
    await works(await opened(url), await opened(url))


async def test_who_may_not_ask_for_settings_is_told_that_nobody_knows_them(
    server: Server, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    me = f"user{uuid4().hex[:8]}"
    server.ask("ACL", "SETUSER", me, "on", f">{SECRET}", "~kaiju:*", "&kaiju:*", "+@all", "-info")
    await opened(f"redis://{me}:{SECRET}@127.0.0.1:{server.port}")

    assert "may not ask for INFO" in caplog.text
    assert SECRET not in caplog.text


async def test_a_database_that_is_not_there_is_refused(server: Server, opened: Opened) -> None:
    assert "must be a server that accepts this address" in await refused(opened, f"{server.url}/99")


async def test_a_server_that_is_not_there_is_unavailable(opened: Opened) -> None:
    assert "is unavailable" in await refused(opened, f"redis://me:{SECRET}@127.0.0.1:1", StoreUnavailable)


async def test_a_replica_is_unavailable_until_it_is_the_primary(server: Server, opened: Opened) -> None:
    with server.replica() as replica:
        said = await refused(opened, replica.url, StoreUnavailable)
        assert "it is a replica, which can only be read: give the address of the primary" in said
        store = RedisStore(replica.url)
        with suppress(StoreUnavailable):
            await store.open()
        replica.ask("REPLICAOF", "NO", "ONE")
        assert [] == (await store.scan(())).records
        await store.close()


async def test_a_server_that_becomes_a_replica_is_unavailable_and_another_is_looked_for(
    program: Path, opened: Opened
) -> None:
    with Server(program) as one, Server(program) as two, Proxy("127.0.0.1", one.port) as way:
        store = await opened(f"redis://127.0.0.1:{way.port}")
        await add(store, "task")
        one.ask("REPLICAOF", "127.0.0.1", two.port)
        way.target = "127.0.0.1", two.port
        with pytest.raises(StoreUnavailable):
            await store.swap(None, record("other"))
        assert await store.swap(None, record("other"))
        assert [] == (await store.scan(["task"])).records


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"appendonly": "no"}, "appendonly is no: after a crash"),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru: when memory"),
        ({"maxmemory": "100mb", "maxmemory-policy": "noeviction"}, ""),
        ({"maxmemory": "100mb", "maxmemory-policy": "volatile-lru"}, ""),
    ],
)
async def test_settings_that_lose_records_are_told_once_at_the_start(
    program: Path, opened: Opened, caplog: pytest.LogCaptureFixture, settings: dict[str, str], told: str
) -> None:
    with Server(program, settings) as lossy:
        store = await opened(lossy.url)
        lossy.ask("CLIENT", "KILL", "TYPE", "normal")
        with suppress(StoreUnavailable):
            await store.scan()
        await store.scan()
        await store.close()

    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert [told in each for each in warnings] == ([True] if told else [])


async def test_a_server_that_is_too_old_is_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async def info(*_: object) -> dict[str, str]:
        return {"redis_version": "6.0.16"}

    monkeypatch.setattr(connection_module, "info_of", info)
    with pytest.raises(InvalidArgument, match=r"must be Redis 6.2 or newer, or Valkey, not 6.0.16: upgrade the server"):
        await opened()


async def test_what_a_newer_version_has_written_is_refused_and_left_as_it_is(server: Server, opened: Opened) -> None:
    app = uuid4().hex
    store = await opened(app=app)
    server.ask("HSET", f"{store._link.base}meta", "schema", "9")
    with pytest.raises(InvalidArgument, match=r"must have schema 1, .* or an older one, not 9: upgrade kaiju_app"):
        await opened(app=app)
    assert "9" == server.ask("HGET", f"{store._link.base}meta", "schema")


async def test_an_onlooker_writes_nothing(server: Server) -> None:
    app = uuid4().hex
    onlooker = Onlooker(RedisStore(server.url, app=app))
    with pytest.raises(InvalidArgument, match=r"must have schema 1, .*not none: look at it with the version"):
        await onlooker.open()
    assert [] == server.ask("KEYS", f"kaiju:{{{app}}}:*")


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificate of an authority, and one that it has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: TLS: there is no openssl")
    where = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=where, check=True, capture_output=True)

    new = "req", "-newkey", "rsa:2048", "-nodes", "-subj"
    openssl(*new, "/CN=authority", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2")
    openssl(*new, "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    (where / "names").write_text("subjectAltName=IP:127.0.0.1")
    sign = "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"
    openssl(*sign, "-out", "server.crt", "-days", "2", "-extfile", "names")
    return where


@pytest.mark.slow
async def test_a_certificate_that_is_not_trusted_is_refused_with_the_way_out(
    certificates: Path, server: Server, opened: Opened
) -> None:
    settings = {
        "port": 0, "tls-port": 0, "tls-cert-file": certificates / "server.crt", "tls-auth-clients": "no",
        "tls-key-file": certificates / "server.key", "tls-ca-cert-file": certificates / "ca.crt",
    }  # fmt: skip
    encrypted = Server(server_or_skip(find_program("redis")), settings)
    encrypted._settings["tls-port"] = encrypted.port
    encrypted.url = f"rediss://127.0.0.1:{encrypted.port}?ssl_ca_certs={certificates / 'ca.crt'}"
    with encrypted:
        said = await refused(opened, f"rediss://me:{SECRET}@127.0.0.1:{encrypted.port}")
        assert "rediss://host:port?ssl_ca_certs=/path/ca.crt" in said
        await works(await opened(encrypted.url), await opened(encrypted.url))
        said = await refused(opened, f"rediss://127.0.0.1:{server.port}", StoreUnavailable)
        assert "does it have TLS at this port?" in said


# --- sentinels ---


@pytest.fixture
def sentinel(program: Path) -> Iterator[Callable[[Server], Server]]:
    with ExitStack() as started:

        def sentinel(primary: Server) -> Server:
            settings = dict.fromkeys(["save", "appendonly", "appendfsync", "repl-diskless-sync-delay"])
            settings |= dict.fromkeys(["enable-debug-command"])
            lines = {
                "sentinel monitor": Words(f"shop 127.0.0.1 {primary.port} 1"),
                "sentinel down-after-milliseconds": Words("shop 300"),
                "sentinel failover-timeout": Words("shop 3000"),
            }
            return started.enter_context(Server(program, settings | lines, arguments=("--sentinel",)))

        yield sentinel


@pytest.mark.slow
async def test_sentinels_name_the_server_and_after_a_failover_the_other_one(
    program: Path, sentinel: Callable[[Server], Server], opened: Opened
) -> None:
    with Server(program) as primary, primary.replica() as replica:
        replica.wait_for(primary)
        asked = sentinel(primary)
        url = f"redis+sentinel://127.0.0.1:{asked.port}/shop"
        store, other = await opened(url), await opened(url)
        await works(store, other)
        assert "or redis+sentinel://host:port/service" in await refused(opened, asked.url)
        asked.wait_until(lambda: asked.info("sentinel")["master0"]["slaves"] == 1, "no replica is known")
        replica.wait_for(primary)

        primary.kill()
        async with asyncio.timeout(20):
            while True:
                with suppress(StoreUnavailable):
                    assert ["task"] == [each.name for each in (await store.scan()).records]
                    assert (await change_one(other, "task", simply(_touched))).done
                    break
                await asyncio.sleep(0.1)
        assert replica.info("replication")["role"] == "master"


def _touched(old: Any, now: int) -> Any:
    return old._replace(rev=max(old.rev + 1, now))


# --- a cluster ---


@pytest.fixture
def cluster(program: Path) -> Iterator[list[Server]]:
    """Two nodes; the first one has all slots."""
    settings = {"cluster-enabled": "yes", "cluster-node-timeout": 2000, "appendonly": "yes"}
    with Server(program, settings) as one, Server(program, settings) as two:
        one.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        one.ask("CLUSTER", "MEET", "127.0.0.1", two.port)
        for each in (one, two):
            each.wait_until(lambda each=each: "cluster_state:ok" in _state(each), "the cluster does not meet")
        yield [one, two]


def _state(server: Server) -> str:
    found = server.ask("CLUSTER", "INFO")
    return "\n".join(f"{name}:{value}" for name, value in found.items()) if isinstance(found, dict) else str(found)


def move_slot(source: Server, target: Server, base: str) -> None:
    """Move the slot of an application, with all its keys, as ``redis-cli --cluster reshard`` does."""
    slot = key_slot(base.encode())
    here, there = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
    for key in source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000):
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    for each in (target, source):
        each.ask("CLUSTER", "SETSLOT", slot, "NODE", there)


@pytest.mark.slow
async def test_in_a_cluster_everything_is_in_one_slot_and_is_found_when_that_has_moved(
    cluster: list[Server], opened: Opened, server: Server
) -> None:
    one, two = cluster
    url = f"redis+cluster://127.0.0.1:{one.port},127.0.0.1:{two.port}"
    app = f"sh{{op}} {uuid4().hex}"
    store, other = await opened(url, app=app), await opened(url, app=app)
    await works(store, other)
    keys = one.ask("KEYS", "*")
    assert {key_slot(store._link.base.encode())} == {key_slot(key.encode()) for key in keys}

    said = await refused(opened, f"redis://127.0.0.1:{two.port}")
    assert "it is a node of a cluster: write redis+cluster://host:port" in said
    said = await refused(opened, server.url.replace("redis://", "redis+cluster://"))
    assert "it is no node of a cluster: write redis://host:port" in said

    move_slot(one, two, store._link.base)
    assert ["task"] == [each.name for each in (await store.scan()).records]
    assert [] == [key for key in one.ask("KEYS", "*") if "sh" in key]
    begin = time.monotonic()
    while time.monotonic() - begin < 10:  # The listener connects again.
        waiting = asyncio.ensure_future(other.wait_for_change(0.3))
        await asyncio.sleep(0.01)
        asked = time.monotonic()
        await change_one(store, "task", lambda old, now: (old._replace(rev=old.rev + 1, owner=None), ()))
        await change_one(store, "task", lambda old, now: (old._replace(rev=old.rev + 1, owner=YOU), ()))
        await waiting
        if time.monotonic() - asked < 0.25:
            break
    else:
        raise AssertionError("no news after the slot has moved")


# --- lost connections ---


async def test_a_connection_that_was_cut_is_made_anew(server: Server, opened: Opened) -> None:
    store = await opened()
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    with suppress(StoreUnavailable):
        await store.scan()

    assert [] == (await store.scan()).records


async def test_news_that_came_while_the_listener_was_away_are_not_missed(server: Server, opened: Opened) -> None:
    store = await opened()
    await store.wait_for_change(0.1)
    waiting = asyncio.ensure_future(store.wait_for_change(30))
    await asyncio.sleep(0.05)
    server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    begin = time.monotonic()
    await waiting
    assert time.monotonic() - begin < 5


async def test_a_server_that_says_nothing_is_given_up_in_time(program: Path, opened: Opened) -> None:
    with Server(program) as silent:
        store = await opened(silent.url, timeout_s=0.3)
        silent.freeze()
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0.3 s"):
            await store.scan()
        assert 0.25 < time.monotonic() - begin < 2
        silent.thaw()
        async with asyncio.timeout(20):
            while True:
                with suppress(StoreUnavailable):
                    assert [] == (await store.scan()).records
                    break


async def test_a_caller_that_gives_up_costs_no_connection(server: Server, opened: Opened) -> None:
    with Proxy("127.0.0.1", server.port) as way:
        store = await opened(f"redis://127.0.0.1:{way.port}")
        before = way.connections
        way.delay(0.05, 0.05)
        for _ in range(3):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await store.scan()
        assert [] == (await store.scan()).records
        assert before == way.connections


async def test_a_script_that_the_server_has_forgotten_is_sent_again(server: Server, opened: Opened) -> None:
    store = await opened()
    await add(store, "task")
    server.ask("SCRIPT", "FLUSH")

    assert ["task"] == [each.name for each in (await store.scan()).records]


# --- what is lost ---


async def test_without_memory_a_change_is_refused_as_a_whole(program: Path, opened: Opened) -> None:
    with Server(program) as full:
        store = await opened(full.url)
        await add(store, "task", next_tick=wall_us() - S)
        before = sorted(full.ask("KEYS", "*"))
        full.ask("CONFIG", "SET", "maxmemory", "1")
        for change in (
            store.swap(None, record("other"), [row("other")]),
            store.claim(ClaimQuery(ME, ["task"], TTL, 1)),
        ):
            with pytest.raises(StoreUnavailable, match=r"OutOfMemoryError|OOM"):
                await change
        assert (await store.scan(["task"])).records[0].owner is None
        full.ask("CONFIG", "SET", "maxmemory", "0")
        assert before == sorted(full.ask("KEYS", "*"))
        assert ["task"] == [each.name for each in (await store.claim(ClaimQuery(ME, ["task"], TTL, 1))).records]


@pytest.mark.slow
async def test_fences_grow_though_everything_was_deleted_while_an_instance_runs(server: Server, opened: Opened) -> None:
    """The record comes back with a rev above the last one that the instance has seen."""
    store = await opened()
    async with Scheduler(store) as scheduler:
        fences: list[int | None] = []
        ran = asyncio.Event()

        async def body() -> None: ...

        def note(run: Any) -> None:
            fences.extend([run.fence] * (run.fence is not None))
            ran.set()

        scheduler.subscribe(note)
        scheduler.schedule_task(body, 0.3, name="task", scope=Scope.CLUSTER)
        await asyncio.wait_for(ran.wait(), 10)
        keys = server.ask("KEYS", f"{store._link.base}*")
        server.ask("DEL", *keys)
        ran.clear()
        await asyncio.wait_for(ran.wait(), 20)
        while len(fences) < 3:
            ran.clear()
            await asyncio.wait_for(ran.wait(), 20)
    assert fences == sorted(set(fences))


async def test_a_claim_believes_the_record_and_not_an_index(server: Server, opened: Opened) -> None:
    """Somebody may have restored a part of the keys, or the server has removed one to free memory."""
    store = await opened()
    await add(store, "held", "claimed", "gone", next_tick=wall_us() - S)
    await held(store, "held", until=wall_us() + 60 * S)
    assert ["claimed"] == await taken(store, YOU, skip={"gone"})
    base = store._link.base
    server.ask("ZADD", f"{base}free", 1, "held", 1, "claimed")
    server.ask("DEL", f"{base}task:gone")

    names = ["held", "claimed", "gone"]
    first, second = [await store.claim(ClaimQuery(ME, names, TTL, 9)) for _ in range(2)]

    assert [] == first.records == second.records
    assert ["gone"] == second.missing
    assert [] == server.ask("ZRANGE", f"{base}free", 0, -1)


async def test_only_the_last_rows_of_a_task_are_kept_and_nothing_of_the_others(server: Server, opened: Opened) -> None:
    store = await opened(history=3)
    await store.swap(None, record(), [row(first_tick=number) for number in range(9)])
    await store.swap(None, record("other"), [row("other")])

    assert [6, 7, 8] == [each.first_tick for each in await store.history("task", 99)]
    base = store._link.base
    assert [4, 4, 4] == [server.ask(*each) for each in (
        ("HLEN", f"{base}rows"), ("ZCARD", f"{base}all"), ("ZCARD", f"{base}ending:SUCCEEDED ")
    )]  # fmt: skip


async def test_twenty_first_starts_at_once_make_one_record(opened: Opened) -> None:
    stores = await asyncio.gather(*(opened() for _ in range(20)))
    assert 1 == sum(await asyncio.gather(*(store.swap(None, record()) for store in stores)))


# --- addresses ---


@pytest.mark.parametrize(
    "url",
    [
        "redis://", "redis://h:x", "redis://h:99999", "redis://one,two", "redis://h/x", "redis://h/1/2", "redis://h/-1",
        "redis://me:a/b@h", "redis://me:a@b@h", "redis://h#1", "redis://h?user=me", "redis://h?ssl_ca_certs=/x",
        "redis+sentinel://h", "redis+sentinel://h/shop/x", "redis+cluster://h/1", "redis+cluster://h?sentinel_user=me",
        "redis://h\n", "redis://[::1",
    ],
)  # fmt: skip
def test_an_address_that_would_be_misread_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="store must be redis://user:password@host:port/number"):
        store_from_url(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://h", "redis://h:6379"),
        ("rediss://me:s3cr3t%40@h:1/2?ssl_ca_certs=/x", "rediss://h:1/2"),
        ("valkey://:s3cr3t@[::1]:5", "valkey://[::1]:5"),
        ("redis+sentinel://a,b:1/shop/3?sentinel_password=s3cr3t", "redis+sentinel://a:26379,b:1/shop/3"),
        ("valkeys+cluster://me:s3cr3t@a:1,b", "valkeys+cluster://a:1,b:6379"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, name: str) -> None:
    store = store_from_url(url)
    assert isinstance(store, RedisStore)
    assert (name, f"<{name}>") == (store.name, repr(store._link.address))
    assert SECRET not in store._link.address.without_secrets(f"cannot use {url}")


def test_an_existing_server_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIJU_TEST_REDIS", "redis://cache.example")
    found = shared_server.__wrapped__("redis")
    assert isinstance(found, ExternalServer)
    assert not isinstance(found, Missing)
    assert found.url == "redis://cache.example:6379"
