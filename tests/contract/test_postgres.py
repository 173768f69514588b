"""The PostgreSQL store alone: first starts, broken connections, poolers, read-only nodes, locks, secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from contract.test_store_contract import (
    LOSSES,
    ME,
    NEVER,
    TTL,
    YOU,
    S,
    add,
    check_made_again,
    held,
    record,
    row,
    simply,
    taken,
)
from kaiju_app._core.clock import wall_us
from kaiju_app._core.ledger_query import Ending, LedgerQuery, Place
from kaiju_app.errors import InvalidArgument, LeaseLost, StoreUnavailable, WrongState
from kaiju_app.scheduler import Scheduler, Scope, current_run
from kaiju_app.stores import store_from_url
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._onlooker import Onlooker
from kaiju_app.stores._record import NextTick, StoredHold, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._sql import missing_steps
from kaiju_app.stores._transitions import Refusal, hold, request_run, unhold
from kaiju_app.stores.postgres import PostgresStore, _connection, _hosts, _schema
from kaiju_app.stores.postgres._columns import ending_columns, numbers, texts
from kaiju_app.stores.postgres._listener import pause_of
from support.engines import change_one, claim_any, shared_database
from support.pgbouncer import PgBouncer, find_pgbouncer
from support.postgres_server import ExternalServer, Server, find_programs, found_or_skip, shared_server
from support.records import replace
from support.tcp_proxy import Proxy

pytestmark = pytest.mark.realtime

Opened = Callable[..., Coroutine[None, None, PostgresStore]]


@pytest.fixture
def server() -> ExternalServer:
    return found_or_skip(shared_server())


@pytest.fixture
def database(server: ExternalServer) -> Iterator[str]:
    """The DSN of an empty database."""
    name = f"kaiju_{uuid4().hex[:8]}"
    server.create_database(name)
    yield server.dsn(name)
    server.drop_database(name)


@pytest.fixture
def opened(loop: asyncio.AbstractEventLoop) -> Iterator[Opened]:
    """Open a store, by default for an application of the test's own. It is closed at the end."""
    stores: list[PostgresStore] = []
    app = uuid4().hex

    async def opened(dsn: str | None = None, **options: Any) -> PostgresStore:
        stores.append(PostgresStore(dsn or shared_database(), **{"app": app, **options}))
        await stores[-1].open()
        return stores[-1]

    yield opened
    for store in stores:
        with suppress(StoreUnavailable):
            loop.run_until_complete(store.close())


@pytest.fixture
def store(opened: Opened, loop: asyncio.AbstractEventLoop) -> PostgresStore:
    store: PostgresStore = loop.run_until_complete(opened())
    return store


@asynccontextmanager
async def connected(dsn: str | None = None) -> Any:
    connection = await asyncpg.connect(dsn or shared_database())
    try:
        yield connection
    finally:
        await connection.close()


# --- first starts ---


async def test_twenty_first_starts_at_once_make_one_schema(database: str, opened: Opened) -> None:
    stores = await asyncio.gather(*(opened(database, timeout_s=20.0) for _ in range(20)))
    made = await asyncio.gather(*(store.swap(None, record()) for store in stores))

    assert sum(made) == 1
    async with connected(database) as connection:
        assert [len(_schema.SCHEMA)] == [
            each["version"] for each in await connection.fetch("SELECT version FROM kaiju_schema")
        ]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    "what",
    [
        *LOSSES,
        "DROP TABLE kaiju_task, kaiju_run, kaiju_instance, kaiju_schema",
        "TRUNCATE kaiju_task, kaiju_run, kaiju_instance",
    ],
)
async def test_what_was_dropped_is_made_again(database: str, opened: Opened, what: str, running: bool) -> None:
    store = await opened(database)
    await add(store, "task")
    if not running:
        await store.close()
    async with connected(database) as connection:
        await connection.execute(what)

    if not running:
        await store.open()
    await check_made_again(store, what)
    async with connected(database) as connection:
        await store._link.close()
        await store._link.open()
        assert [len(_schema.SCHEMA)] == [
            each["version"] for each in await connection.fetch("SELECT version FROM kaiju_schema")
        ]


async def test_steps_that_are_missing_are_taken_once(
    database: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(await opened(database), "task")
    steps = {
        **_schema.SCHEMA,
        "next": "CREATE TABLE kaiju_second (one integer); INSERT INTO kaiju_second VALUES (7)",
    }
    monkeypatch.setattr(_schema, "SCHEMA", steps)

    stores = await asyncio.gather(*(opened(database, timeout_s=20.0) for _ in range(5)))

    assert all([await taken(store, limit=0) == [] for store in stores])
    async with connected(database) as connection:
        assert [len(_schema.SCHEMA)] == [
            each["version"] for each in await connection.fetch("SELECT version FROM kaiju_schema")
        ]
        assert 1 == await connection.fetchval("SELECT count(*) FROM kaiju_second")
        assert 1 == await connection.fetchval("SELECT count(*) FROM kaiju_task")


@pytest.mark.parametrize("dropped", [None, "kaiju_life"])
async def test_a_database_that_is_a_step_behind_takes_that_step_only(
    database: str, opened: Opened, monkeypatch: pytest.MonkeyPatch, dropped: str | None
) -> None:
    """Unless a part was dropped: to repeat a step takes strong locks for nothing, which the others would wait for."""
    await (await opened(database)).close()
    async with connected(database) as connection:
        await connection.execute("DROP INDEX kaiju_life_seen; UPDATE kaiju_schema SET version = 6")
        if dropped:
            await connection.execute(f"DROP TABLE {dropped}")
    taken_steps: list[list[str]] = []

    def noted(*args: Any, **named: Any) -> list[str]:
        taken_steps.append(missing_steps(*args, **named))
        return taken_steps[-1]

    monkeypatch.setattr(_schema, "missing_steps", noted)
    await opened(database)

    assert [len(each) for each in taken_steps] == [1 if dropped is None else 7]
    async with connected(database) as connection:
        for table in ("kaiju_note", "kaiju_life"):
            assert 0 == await connection.fetchval(f"SELECT count(*) FROM {table}")


@pytest.mark.parametrize("table", ["kaiju_task", "kaiju_run", "kaiju_instance", "kaiju_life", "kaiju_note"])
async def test_a_table_that_is_dropped_is_made_again(database: str, opened: Opened, table: str) -> None:
    store = await opened(database)
    await add(store, "task")
    async with connected(database) as connection:
        await connection.execute(f"DROP TABLE {table}")

    async def use() -> None:
        await store.heartbeat(ME, "{}", TTL)
        await store.note(ME, "[]")
        await store.lives()
        await store.history("task", 1)
        await store.scan()

    with pytest.raises(StoreUnavailable, match=table):
        await use()
    await use()


async def test_steps_are_taken_where_the_tables_are(
    database: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds even if another schema has become the first of the search path, such as one named like the user."""
    await add(await opened(database), "task")
    async with connected(database) as connection:
        await connection.execute("CREATE SCHEMA postgres")
    second = {"next": "CREATE TABLE kaiju_second (one integer); ALTER TABLE kaiju_task ADD COLUMN more integer"}
    monkeypatch.setattr(_schema, "SCHEMA", _schema.SCHEMA | second)

    store = await opened(database)

    assert await taken(store, limit=0) == []
    async with connected(database) as connection:
        found = await connection.fetch("SELECT tablename, schemaname FROM pg_tables WHERE tablename LIKE 'kaiju%'")
        assert {each["schemaname"] for each in found} == {"public"}
        assert len(found) == 7
        assert [len(_schema.SCHEMA)] == [
            each["version"] for each in await connection.fetch("SELECT version FROM kaiju_schema")
        ]


async def test_a_newer_schema_is_refused_and_left_as_it_is(database: str, opened: Opened) -> None:
    await opened(database)
    async with connected(database) as connection:
        await connection.execute("UPDATE kaiju_schema SET version = 99")

    with pytest.raises(
        InvalidArgument, match=r"must have schema \d, that of this version, or an older one, not 99: upgrade"
    ):
        await opened(database)


async def test_who_may_not_make_tables_can_use_those_that_are_there(
    server: ExternalServer, database: str, opened: Opened
) -> None:
    await opened(database)
    user = f"user_{uuid4().hex[:8]}"
    async with connected(database) as connection:
        await connection.execute(f"CREATE ROLE {user} LOGIN; REVOKE CREATE ON SCHEMA public FROM public")
        await connection.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON kaiju_task, kaiju_run, kaiju_instance, kaiju_life, "
            f"kaiju_note TO {user};"
            f"GRANT SELECT ON kaiju_schema TO {user}"
        )
    try:
        store = await opened(database.replace("postgres@", f"{user}@"))
        await add(store, "task", next_tick=wall_us() - S)
        assert ["task"] == await taken(store)
    finally:
        server.drop_database(database.rpartition("/")[2])
        async with connected() as connection:
            await connection.execute(f"DROP ROLE {user}")


# --- what goes wrong ---


async def test_a_connection_that_was_terminated_is_made_anew(store: PostgresStore) -> None:
    async with connected() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with suppress(StoreUnavailable):
        await store.scan()

    assert [] == (await store.scan()).records


async def test_a_server_that_says_nothing_is_given_up_in_time_and_leaves_nothing_behind(opened: Opened) -> None:
    dsn = shared_database()
    host, port = dsn.partition("@")[2].partition("/")[0].split(":")
    with Proxy(host, int(port)) as proxy:
        store = await opened(proxy.dsn(dsn), timeout_s=0.3)
        proxy.hold(to_server=True, to_client=True)
        for _ in range(3):
            begin = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"no answer within 0.3 s"):
                await store.scan()
            assert time.monotonic() - begin < 0.5
        proxy.hold()

        assert [] == (await _patiently(store.scan)).records
        await store.close()
    await _until(lambda: _sessions("kaiju_app", dsn), 0)


async def _patiently(ask: Callable[[], Coroutine[None, None, Any]]) -> Any:
    for _ in range(50):
        with suppress(StoreUnavailable):
            return await ask()
        await asyncio.sleep(0.05)
    return await ask()


async def _until(value: Callable[[], Coroutine[None, None, object]], wanted: object) -> None:
    end = time.monotonic() + 10
    while (found := await value()) != wanted:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)


async def _sessions(name: str, dsn: str) -> int:
    async with connected(dsn) as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()", name
        )
        return count


async def test_statements_that_wait_for_a_table_do_not_pile_up_on_the_server(database: str, opened: Opened) -> None:
    """While a table is being altered, every retry would leave one more waiting session, up to the server's limit."""
    store = await opened(database, timeout_s=0.3)
    async with connected(database) as connection, connection.transaction():
        await connection.execute("LOCK TABLE kaiju_task IN ACCESS EXCLUSIVE MODE")
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await claim_any(store, ME, ttl=TTL, limit=1)
        assert 3 >= await _sessions("kaiju_app", database)  # One that listens, and one that is ending.
    assert [] == await taken(store)


async def test_tables_that_were_dropped_are_made_anew(database: str, opened: Opened) -> None:
    store = await opened(database)
    async with connected(database) as connection:
        await connection.execute("DROP TABLE kaiju_task, kaiju_run, kaiju_instance, kaiju_schema")

    with pytest.raises(StoreUnavailable, match=r"UndefinedTableError: relation \"kaiju_task\" does not exist"):
        await store.scan()

    assert [] == (await store.scan()).records


async def test_a_server_that_forgets_is_told_of_once(
    database: str, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(database) as connection:
        await connection.execute(f"ALTER DATABASE {database.rpartition('/')[2]} SET synchronous_commit = off")
    store = await opened(database)
    await store._link.close()
    await store.open()

    said = [each.getMessage() for each in caplog.records if "synchronous_commit" in each.getMessage()]
    assert len(said) == 1
    assert f"store {store.name}: synchronous_commit is off" in said[0]


async def test_a_read_only_node_is_left(opened: Opened) -> None:
    """The DSN may lead to a standby, at the start or later, or the primary may become one."""
    with Server(found_or_skip(find_programs())) as primary, primary.standby() as standby:
        primary.create_database("app")
        with Proxy("127.0.0.1", primary.port) as proxy:
            store = await opened(proxy.dsn(primary.dsn("app")))
            await add(store, "task", next_tick=wall_us() - S)
            proxy.target = ("127.0.0.1", standby.port)
            proxy.cut()
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await claim_any(store, ME, ttl=TTL, limit=1)
            proxy.target = ("127.0.0.1", primary.port)
            assert ["task"] == await _patiently(lambda: taken(store))
            primary.ask("ALTER SYSTEM SET default_transaction_read_only = on")
            primary.ask("SELECT pg_reload_conf()")

            async def is_left() -> bool:
                with suppress(StoreUnavailable):
                    await store.heartbeat(ME, "{}", TTL)
                    return False
                return True

            await _until(is_left, True)
            await store.close()


@pytest.mark.parametrize("way_s", [0.05, 0.15])
async def test_a_connection_takes_longer_to_make_than_anybody_waits_for_it(opened: Opened, way_s: float) -> None:
    """Its many round trips take longer than an answer may. A caller that gives up leaves the attempt to the next."""
    dsn = shared_database()
    host, port = dsn.partition("@")[2].partition("/")[0].split(":")
    with Proxy(host, int(port)) as proxy:
        store = await opened(proxy.dsn(dsn), timeout_s=2.5 * way_s + 0.2)
        proxy.delay(way_s / 2, way_s / 2)
        proxy.cut()
        begin = time.monotonic()

        assert [] == (await _patiently(store.scan)).records

        assert time.monotonic() - begin < 5
        assert (
            proxy.connections <= 6
        )  # Two, and two again. The listener tries twice while there is no other connection.
        await store.close()


async def test_who_opens_a_store_before_its_server_is_there_listens_when_it_is(opened: Opened) -> None:
    dsn = shared_database()
    host, port = dsn.partition("@")[2].partition("/")[0].split(":")
    other = await opened()
    await add(other, "task")
    with Proxy(host, int(port)) as proxy:
        proxy.refuse(True)
        store = PostgresStore(proxy.dsn(dsn), app=other.app)
        with pytest.raises(StoreUnavailable):
            await store.open()
        proxy.refuse(False)
        await _patiently(store.scan)
        await asyncio.wait_for(store._news._ready.wait(), 5)
        begin = time.monotonic()
        waiting = asyncio.ensure_future(store.wait_for_change(10))
        await asyncio.sleep(0)
        await change_one(other, "task", simply(request_run))
        await waiting
        assert time.monotonic() - begin < 1
        await store.close()


async def test_news_come_a_long_way(opened: Opened) -> None:
    dsn = shared_database()
    host, port = dsn.partition("@")[2].partition("/")[0].split(":")
    with Proxy(host, int(port)) as proxy:
        proxy.delay(0.05, 0.05)
        store, other = await _patiently(lambda: opened(proxy.dsn(dsn))), await opened()
        await add(other, "task")
        for _ in range(30):  # A poll is shorter than it takes to listen.
            await store.wait_for_change(0.1)
        asked = time.monotonic()
        waiting = asyncio.ensure_future(store.wait_for_change(10))
        await asyncio.sleep(0)
        await change_one(other, "task", simply(request_run))
        await waiting
        assert time.monotonic() - asked < 1
        await store.close()


async def test_who_waits_when_the_store_is_closed_is_told_so(database: str, opened: Opened) -> None:
    """The caller gets an error, not a CancelledError, and no other call makes a new connection meanwhile."""
    host, port = database.partition("@")[2].partition("/")[0].split(":")
    with Proxy(host, int(port)) as proxy:
        store = await opened(proxy.dsn(database), timeout_s=1.0)
        proxy.hold(to_server=True, to_client=True)
        made = proxy.connections
        waiting = [asyncio.ensure_future(store.scan()) for _ in range(3)]
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        await store.close()
        assert time.monotonic() - begin < 1.5
        for each in waiting:
            with pytest.raises(StoreUnavailable, match="it was closed"):
                await each
        assert proxy.connections == made


async def test_a_question_in_flight_when_the_scheduler_stops_is_not_answered(database: str) -> None:
    scheduler = Scheduler(database)
    scheduler.schedule_task(_nothing, 60, name="task", scope=Scope.CLUSTER)
    await scheduler.start()
    async with connected(database) as connection, connection.transaction():
        await connection.execute("LOCK TABLE kaiju_run IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.ensure_future(scheduler.history("task"))
        await asyncio.sleep(0.1)
        await scheduler.stop(timeout_s=0.1)
        with pytest.raises(StoreUnavailable):
            await asked


async def test_a_listener_that_cannot_connect_pauses_for_another_time_at_each_try() -> None:
    pauses = {nonce: [pause_of(nonce, failures) for failures in range(50)] for nonce in ("one", "another")}

    for each in pauses.values():
        assert all(100 <= pause < 200 for pause in each[:1])
        assert all(2_500 <= pause < 5_000 for pause in each[5:])
        assert len(set(each[5:])) > 40
    assert sum(one == another for one, another in zip(*pauses.values(), strict=True)) < 3


# --- isolation ---


async def _work(stores: list[PostgresStore]) -> int:
    """Let instances claim, renew and finish; return how many ticks they finished."""
    finished = 0
    over = time.monotonic() + 1.5

    async def work(store: PostgresStore, me: str) -> None:
        nonlocal finished
        while time.monotonic() < over:
            for each in (await claim_any(store, me, ttl=TTL, limit=5)).records:
                await store.renew(me, {each.name: each.fence}, {}, TTL)
                coming = NextTick(each.next_tick + 1, each.next_tick + 1)
                (refused,) = await store.finish(
                    me, [FinishRequest(each.name, each.fence, each.next_tick, "{}", coming)]
                )
                finished += refused is None

    await asyncio.gather(*(work(store, f"{number}" * 32) for number, store in enumerate(stores)))
    return finished


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_each_statement_is_a_transaction_whatever_the_isolation_of_the_database(
    database: str, opened: Opened, server: ExternalServer, level: str
) -> None:
    name = database.rpartition("/")[2]
    server.ask(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    stores = await asyncio.gather(*(opened(database, app="app", timeout_s=20.0) for _ in range(3)))
    await add(stores[0], *(f"task-{number}" for number in range(20)), next_tick=wall_us() - 60 * S)

    assert await _work(stores) > 20


async def test_behind_a_pooler_the_isolation_is_told_of_and_what_collides_is_repeated(
    database: str, pooler: str, opened: Opened, server: ExternalServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.ask(f"ALTER DATABASE {database.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    store = await opened(pooler, timeout_s=10.0)

    assert [each for each in caplog.records if "default_transaction_isolation is serializable" in each.getMessage()]
    await add(store, "task", next_tick=wall_us() - S)
    assert ["task"] == await taken(store)


@pytest.mark.parametrize("collision", [asyncpg.SerializationError, asyncpg.DeadlockDetectedError])
async def test_what_collides_is_repeated_on_the_same_connection(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, collision: type[Exception]
) -> None:
    tries = []
    execute, connection = store._link._execute, store._link._connection

    async def collides(*given: Any) -> Any:
        tries.append(given)
        if len(tries) < 3:
            raise collision("of two")
        return await execute(*given)

    monkeypatch.setattr(store._link, "_execute", collides)

    assert [] == (await store.scan()).records
    assert len(tries) == 3
    assert store._link._connection is connection


# --- locks ---


async def test_nothing_waits_for_a_record_that_somebody_has_locked(store: PostgresStore) -> None:
    now = (await store.scan()).now
    await add(store, "free", "locked", "ours", next_tick=now - S)
    await add(store, "asked", next_tick=NEVER, manual_at=now - S)
    (claimed,) = (await claim_any(store, ME, ttl=TTL, limit=1, skip={"asked", "free", "locked"})).records
    mine = {"ours": claimed.fence}
    async with connected() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM kaiju_task WHERE app = $1 AND name <> 'free' FOR NO KEY UPDATE", store.app
        )
        begin = time.monotonic()
        renewed = await store.renew(ME, mine, {}, TTL)
        ended = await store.finish(ME, [FinishRequest("ours", claimed.fence, claimed.next_tick, "{}", None)])
        swapped = await store.swap(claimed, replace(claimed, rev=claimed.rev + 1))
        taken_now = await taken(store)
        assert time.monotonic() - begin < 1
    assert (set(), [("ours", claimed.fence)]) == (renewed.runs, renewed.own_claims)
    assert [Refusal.BUSY] == ended
    assert not swapped
    assert ["free"] == taken_now
    assert {"ours"} == (await store.renew(ME, mine, {}, TTL)).runs
    assert {"asked", "locked"} == set(await taken(store))


async def test_a_change_waits_a_while_for_a_record_that_is_locked(store: PostgresStore) -> None:
    await add(store, "task")

    async def hold_and_let_go() -> None:
        async with connected() as connection, connection.transaction():
            await connection.execute("SELECT FROM kaiju_task WHERE app = $1 FOR NO KEY UPDATE", store.app)
            locked.set()
            await asyncio.sleep(0.4)

    locked = asyncio.Event()
    holding = asyncio.ensure_future(hold_and_let_go())
    await locked.wait()

    assert (await held(store)).holds
    await holding


# --- statements ---


async def test_claims_find_what_is_due_without_looking_at_every_record(database: str, opened: Opened) -> None:
    store = await opened(database)
    now = (await store.scan()).now
    names = [f"task-{number:05}" for number in range(10_000)]
    due = {name: now + number * S for number, name in enumerate(names)}
    records = [record(name, next_tick=due[name], owner=YOU if number % 1000 == 7 else None, lease_until=now + 60 * S)
               for number, name in enumerate(names)]  # fmt: skip
    for start in range(0, len(names), 500):
        some = {each.name: lambda old, now, each=each: (each, ()) for each in records[start : start + 500]}
        assert all(each.done for each in (await store.change_each(some)).values())
    values = {"app": store.app, "me": ME, "ttl": TTL, "limit": 50, "ahead": S, "lead": S // 10,
              "not_ahead": texts(["y"]), "count": 3, "index": 1, "patience": S,
              "names": texts(names[:100]), "number": 100}  # fmt: skip
    async with connected(database) as connection:
        await connection.execute("ANALYZE")
        for name in ("claim", "renew", "finish"):
            sql, names = _connection.parts(name)
            async with connection.transaction():
                plan = json.loads(
                    await connection.fetchval(
                        f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {sql}", *(values.get(each, "{}") for each in names)
                    )
                )
            looked_at = list(_scans(plan[0]["Plan"]))
            assert not [each for each in looked_at if each["Node Type"] == "Seq Scan"], (name, looked_at)
            assert 150 > sum(each["Actual Rows"] * each["Actual Loops"] for each in looked_at), (name, looked_at)


async def test_a_page_of_the_ledger_reads_only_what_is_asked_for(database: str, opened: Opened) -> None:
    """Of a task with thousands of rows, and of all tasks: the pages of one outcome, of all, and of another time."""
    store = await opened(database)
    missed, failed = Ending("SKIPPED", "missed"), Ending("FAILED", None)
    async with connected(database) as connection:
        await connection.execute(
            "INSERT INTO kaiju_run (app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, "
            "reason, finished_at, attempts) SELECT $1, 'task ' || n % 100, n, 0, false, 1, n, 1, false, "
            "CASE WHEN n % 1000 = 7 THEN 'FAILED' WHEN n % 2 = 0 THEN 'SKIPPED' ELSE 'SUCCEEDED' END, "
            "CASE WHEN n % 2 = 0 THEN 'missed' END, n, 1 FROM generate_series(1, 100000) AS n",
            store.app,
        )
        await connection.execute("ANALYZE")
    for query, read in (
        (LedgerQuery(20, endings=frozenset([failed])), 120),
        (LedgerQuery(20, endings=frozenset([failed, missed])), 140),
        (LedgerQuery(20), 160),
        (LedgerQuery(20, below=Place(50_000)), 160),
        (LedgerQuery(20, since=99_990), 160),
        (LedgerQuery(20, "task 7"), 50),
        (LedgerQuery(20, "task 7", below=Place(50_000)), 50),
    ):
        looked_at = await _read_rows(database, store, query)
        assert looked_at <= read, (query, looked_at)


async def _read_rows(database: str, store: PostgresStore, query: LedgerQuery) -> float:
    """Return how many entries of indexes and rows of the ledger a query reads, by the server's own count."""
    called: dict[str, Any] = {}

    async def remember(statement: str, /, **values: Any) -> dict[str, Any]:
        called.update(values, statement=statement)
        return {"rows": None, "oldest": None, "newest": None}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._link, "call", remember)
        await store.runs(query)
    sql, names = _connection.parts(called["statement"])
    async with connected(database) as connection:
        plan = json.loads(
            await connection.fetchval(
                f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {sql}", *(called[each] for each in names)
            )
        )
    scans = list(_scans(plan[0]["Plan"], "kaiju_run"))
    assert not [each for each in scans if each["Node Type"] == "Seq Scan"], scans
    dropped = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        each["Actual Loops"] * (each["Actual Rows"] + sum(each.get(name, 0) for name in dropped)) for each in scans
    )


async def test_claims_renewals_and_endings_of_a_new_table_compare_no_record_with_all_others(
    database: str, opened: Opened
) -> None:
    """Without statistics the planner takes thousands of records for a few."""
    store = await opened(database)
    now, names = (await store.scan()).now, [f"task-{number:04}" for number in range(2_000)]
    transitions = {}
    for name in names:
        one = record(name, next_tick=now - S, owner=ME, fence=7, lease_until=now + 60 * S)
        free = record(f"free {name}", next_tick=now - S)
        transitions[name], transitions[free.name] = (lambda old, now, each=each: (each, ()) for each in (one, free))
    assert all(each.done for each in (await store.change_each(transitions)).values())
    some, rows = names[:500], [row(name, now - S) for name in names[:500]]
    ended = ending_columns([FinishRequest(each.name, 7, now - S, "{}", NextTick(now, now), (each,)) for each in rows])
    claims = {"me": YOU, "ttl": TTL, "limit": 500, "ahead": S, "lead": S // 10, "not_ahead": "{}", "count": 1,
              "index": 0, "patience": 0, "names": texts(transitions), "number": len(transitions)}  # fmt: skip
    async with connected(database) as connection:
        renewals = {
            "me": ME,
            "ttl": TTL,
            "names": texts(some),
            "fences": numbers([7] * 500),
            "keys": texts(["[]"] * 500),
        }
        for name, values in (("claim", claims), ("renew", renewals), ("finish", {"me": ME, **ended})):
            sql, parameters = _connection.parts(name)
            given = {"app": store.app, **values}
            text = f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {sql}"
            plan = json.loads(await connection.fetchval(text, *(given[each] for each in parameters)))
            compared = [
                each.get("Rows Removed by Join Filter", 0) * each["Actual Loops"] for each in _nodes(plan[0]["Plan"])
            ]
            assert sum(compared) <= len(some), (name, plan)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)


def _scans(node: dict[str, Any], table: str = "kaiju_task") -> Iterator[dict[str, Any]]:
    return (each for each in _nodes(node) if each.get("Relation Name") == table)


async def test_a_claim_a_renewal_and_an_ending_are_one_way_there_and_back_each(database: str, opened: Opened) -> None:
    sent: list[bytes] = []

    def count(piece: bytes) -> tuple[str, ...]:
        sent.append(piece)
        return ()

    host, port = database.partition("@")[2].partition("/")[0].split(":")
    with Proxy(host, int(port), count) as proxy:
        store = await opened(proxy.dsn(database), listen=database)
        await add(store, "task", next_tick=wall_us() - S)
        sent.clear()
        (claim,) = (await store.claim(ClaimQuery(ME, ["task"], TTL, 1))).records
        assert len(sent) == 1
        assert {"task"} == (await store.renew(ME, {"task": claim.fence}, {}, TTL)).runs
        assert len(sent) == 2
        assert [None] == await store.finish(
            ME, [FinishRequest("task", claim.fence, claim.next_tick, "{}", NextTick(NEVER, NEVER))]
        )
        assert len(sent) == 3
        await store.close()


# --- notifications ---


async def test_who_waits_hears_of_what_concerns_them(store: PostgresStore, opened: Opened) -> None:
    other = await opened()
    now = (await store.scan()).now
    await add(store, "task", next_tick=now + 60 * S)
    await store.wait_for_change(0.2)

    async def hears(change: Callable[[], Coroutine[None, None, object]]) -> bool:
        waiting = asyncio.ensure_future(store.wait_for_change(0.6))
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        await change()
        await waiting
        return time.monotonic() - begin < 0.3

    assert await hears(lambda: change_one(other, "task", simply(request_run)))
    (claimed,) = (await claim_any(other, YOU, ttl=TTL, limit=1)).records
    assert not await hears(lambda: other.renew(YOU, {"task": claimed.fence}, {}, TTL))
    assert await hears(lambda: held(other))  # The owner of the run has to learn of it.
    assert await hears(lambda: other.finish(YOU, [FinishRequest("task", claimed.fence, claimed.tick, "{}", None)]))
    assert not await hears(lambda: change_one(other, "task", simply(lambda old, now: hold(old, now, "b", _held()))))
    await change_one(other, "task", simply(lambda old, now: unhold(old, now, "b")))
    assert await hears(lambda: change_one(other, "task", simply(lambda old, now: unhold(old, now, f"{YOU}#1"))))
    assert await hears(lambda: other.swap(None, record("new")))
    elsewhere = await opened(app="another")
    assert not await hears(lambda: elsewhere.swap(None, record(uuid4().hex)))


def _held() -> StoredHold:
    return StoredHold("b", None, None)


async def test_who_listens_does_so_again_after_the_connection_broke(store: PostgresStore, opened: Opened) -> None:
    other = await opened()
    await add(store, "task")
    await store.wait_for_change(0.1)
    waiting = asyncio.ensure_future(store.wait_for_change(10))
    await asyncio.sleep(0.05)
    assert store._news._connection is not None
    begin = time.monotonic()
    store._news._connection.terminate()
    await waiting  # It may have been notified meanwhile.
    listening = asyncio.ensure_future(store.wait_for_change(5))
    await asyncio.sleep(0.1)
    await change_one(other, "task", simply(request_run))
    await listening

    assert time.monotonic() - begin < 2


# --- secrets ---

SECRET = "s3cr3t%2F%40word"


@pytest.mark.parametrize(
    "url", [f"postgresql://user:{SECRET}@127.0.0.1:1/db", f"postgresql://127.0.0.1:1/db?user=me&password={SECRET}"]
)
async def test_what_only_the_server_should_know_is_never_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(url)
    scheduler.schedule_task(_nothing, 60, name="task", scope=Scope.CLUSTER)
    caplog.set_level(logging.DEBUG)
    await scheduler.start()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await scheduler.inspect()
        shown = [repr(caught.value), str(caught.value.__cause__), json.dumps(scheduler.json_repr()), repr(scheduler)]
    finally:
        await scheduler.stop()
    shown += [each.getMessage() + str(each.exc_info) for each in caplog.records]

    assert any("no further ticks of cluster tasks are claimed" in each for each in shown)
    assert not [each for each in shown if "s3cr3t" in each or "word" in each.replace("password", "")]


async def _nothing() -> None:
    pass


def test_a_url_names_a_database() -> None:
    store = store_from_url("postgres://user:s3cr3t@db.example:5433/app?sslmode=require", "web")

    assert isinstance(store, PostgresStore)
    assert ("postgresql://db.example:5433/app", "web") == (store.name, store.app)


# --- what is refused at the start ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dsn: f"{dsn}-is-not-there", "InvalidCatalogNameError: database .* does not exist"),
        (lambda dsn: f"{dsn}?sslmode=nonsense", "`sslmode` parameter must be one of"),
        (lambda dsn: f"{dsn}?nonsense=1", 'unrecognized configuration parameter "nonsense"'),
        (lambda dsn: dsn.replace("postgres@", "nobody@"), 'role "nobody" does not exist'),
        (lambda dsn: f"{dsn}?search_path=nowhere", "no schema has been selected to create in.*check .* search_path"),
        (lambda dsn: f"{dsn}?options=-cnonsense", "-c nonsense requires a value"),
        (lambda dsn: f"{dsn}?sslmode=require", "rejected SSL upgrade: sslmode asks for what it does not have"),
        (lambda dsn: f"{dsn}?sslmode=verify-ca&sslrootcert=/nowhere", "a file of sslrootcert.* does not exist"),
    ],
    ids=["database", "option", "setting", "user", "schema", "options", "no TLS", "certificate"],
)
async def test_what_the_server_refuses_is_refused_at_the_start(
    change: Callable[[str], str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = change(shared_database())
    scheduler = Scheduler(dsn.replace("@", f":{SECRET}@"))

    with pytest.raises(InvalidArgument, match=f"must be a database that accepts this address.*{said}") as caught:
        await scheduler.start()

    assert caught.value.argument == "store"
    assert "s3cr3t" not in str(caught.value)
    assert asyncio.all_tasks() == {asyncio.current_task()}  # No listener is left.
    assert caplog.messages == []  # The error has said it.


async def test_a_short_password_changes_no_word_of_what_the_server_says() -> None:
    with pytest.raises(InvalidArgument) as caught:
        await Scheduler(shared_database().replace("postgres@", "nobody:x@")).start()

    assert 'role "nobody" does not exist' in str(caught.value)


@pytest.fixture
def user(server: ExternalServer, database: str) -> Iterator[str]:
    """The DSN of a database with a user who owns nothing in it."""
    name = f"user_{uuid4().hex[:8]}"
    server.ask(f"CREATE ROLE {name} LOGIN")
    server.ask("REVOKE CREATE ON SCHEMA public FROM public", database.rpartition("/")[2])
    yield database.replace("postgres@", f"{name}@")
    server.drop_database(database.rpartition("/")[2])
    server.ask(f"DROP ROLE {name}")


async def test_who_can_neither_find_nor_make_the_tables_is_refused_at_the_start(user: str) -> None:
    with pytest.raises(InvalidArgument, match=r"permission denied for schema public.*and privileges"):
        await Scheduler(user).start()


async def test_who_is_refused_later_is_told_that_the_store_is_away(database: str, user: str, opened: Opened) -> None:
    """This happens while a password is being changed. A configuration that worked at the start will work again."""
    name = user.partition("//")[2].partition("@")[0]
    await opened(database)
    async with connected(database) as connection:
        await connection.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON kaiju_schema, kaiju_task, kaiju_run, kaiju_instance, kaiju_life, "
            "kaiju_note "
            f"TO {name}"
        )
        store = await opened(user)
        await connection.execute(f"ALTER ROLE {name} NOLOGIN")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", name)
        for _ in range(2):  # The first call may fail because the connection was closed.
            with pytest.raises(StoreUnavailable) as caught:
                await store.scan()
        assert "is not permitted to log in" in str(caught.value)
        await connection.execute(f"ALTER ROLE {name} LOGIN")

        assert [] == (await store.scan()).records


async def test_a_database_that_cannot_keep_every_text_is_refused(server: ExternalServer, opened: Opened) -> None:
    name = f"kaiju_{uuid4().hex[:8]}"
    server.ask(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with pytest.raises(InvalidArgument, match=r"with the encoding UTF8, not LATIN1: CREATE DATABASE"):
            await opened(server.dsn(name))
    finally:
        server.drop_database(name)


async def test_a_server_that_is_too_old_is_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    old = asyncpg.ServerVersion(12, 22, 0, "final", 0)
    monkeypatch.setattr(asyncpg.Connection, "get_server_version", lambda self: old)

    with pytest.raises(InvalidArgument, match=r"must be PostgreSQL 13 or newer, not 12.22: upgrade the server"):
        await opened()


# --- several hosts ---


def _both(one: Server | Proxy, two: Server | Proxy, database: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{one.port},127.0.0.1:{two.port}/{database}"


@pytest.fixture
def between(database: str) -> Iterator[Proxy]:
    """A proxy before the server."""
    host, port = database.partition("@")[2].partition("/")[0].split(":")
    with Proxy(host, int(port)) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", ["silent", "dead"])
async def test_a_host_that_is_gone_is_left_for_the_next_one(
    database: str, between: Proxy, opened: Opened, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hosts, "CONNECT_S", 6.0)
    host, port = between.target
    with Proxy(host, port) as gone:
        both = _both(gone, between, database.rpartition("/")[2])
        store = await opened(both, timeout_s=0.5)
        assert (gone.connections > 0, between.connections) == (True, 0)
        if fault == "dead":
            gone.refuse(True)
            gone.cut()
        else:
            gone.hold(to_server=True, to_client=True)
        begin = time.monotonic()
        assert [] == (await _patiently(store.scan)).records
        assert time.monotonic() - begin < 2.5  # A call has found that out, so that no other one waits for it again.

        tried = gone.connections
        between.cut()
        assert [] == (await _patiently(store.scan)).records
        assert gone.connections == tried  # The writable host is tried first.

        other = PostgresStore(both, timeout_s=0.5)  # A new store has to find out; each host gets half of the time.
        with suppress(StoreUnavailable):
            await other.open()
        assert [] == (await _patiently(other.scan)).records
        await asyncio.gather(store.close(), other.close())


async def test_the_host_that_can_be_written_to_is_found(opened: Opened) -> None:
    with Server(found_or_skip(find_programs())) as primary, primary.standby() as standby:
        store = await opened(_both(standby, primary, "postgres"))

        await add(store, "task", next_tick=wall_us() - S)

        assert ["task"] == await taken(store)
        await store.close()


# --- behind a pooler ---


@pytest.fixture
def pooler(database: str) -> Iterator[str]:
    """The DSN of an empty database behind PgBouncer."""
    with PgBouncer(found_or_skip(find_pgbouncer()), database) as bouncer:
        yield bouncer.dsn(database)


async def test_behind_a_pooler_of_transactions_everything_works_and_others_are_polled(
    pooler: str, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    stores = await asyncio.gather(*(opened(pooler, app="app", timeout_s=10.0) for _ in range(5)))
    assert all(store._link.is_pooled for store in stores)

    async def deaf() -> int:
        return sum("LISTEN is accepted but nothing is delivered" in each.getMessage() for each in caplog.records)

    await _until(deaf, 5)  # Logged once per store.
    await add(stores[0], "task", next_tick=wall_us() - S)
    fences = []

    async def work(store: PostgresStore, me: str) -> None:
        while len(fences) < 60:
            for claim in (await claim_any(store, me, ttl=TTL, limit=1)).records:
                fences.append(claim.fence)
                assert {"task"} == (await store.renew(me, {"task": claim.fence}, {}, TTL)).runs
                coming = NextTick(claim.next_tick + 1, claim.next_tick + 1)
                assert [None] == await store.finish(
                    me, [FinishRequest("task", claim.fence, claim.next_tick, "{}", coming)]
                )

    await asyncio.gather(*(work(store, f"{number}" * 32) for number, store in enumerate(stores)))
    assert await deaf() == 5
    assert fences == sorted(set(fences))
    begin = time.monotonic()
    await stores[1].wait_for_change(0.3)
    assert 0.25 < time.monotonic() - begin < 1


async def test_behind_a_pooler_a_direct_address_may_be_given_to_listen(
    pooler: str, database: str, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = await opened(pooler, listen=database), await opened(pooler, listen=database)
    await add(store, "task")
    await store.wait_for_change(0.1)
    waiting = asyncio.ensure_future(store.wait_for_change(10))
    await asyncio.sleep(0.05)
    begin = time.monotonic()
    await change_one(other, "task", simply(request_run))
    await waiting

    assert time.monotonic() - begin < 1
    assert not [each for each in caplog.records if "LISTEN" in each.getMessage()]


async def test_a_wrong_address_to_listen_is_told_of_once(
    database: str, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = f"{database.replace('@', f':{SECRET}@')}-is-not-there"
    store = await opened(database, listen=wrong)
    await store.wait_for_change(0.5)  # It tries again meanwhile.

    (said,) = (each.getMessage() for each in caplog.records if "cannot listen" in each.getMessage())
    assert "InvalidCatalogNameError" in said
    assert "s3cr3t" not in said


# --- guard ---


async def ran(dsn: str, body: Callable[[asyncpg.Connection[Any]], Coroutine[None, None, None]]) -> str:
    """Run a task whose function gets a connection to the store's database; return how the run ended."""
    ended = asyncio.get_running_loop().create_future()

    async def task() -> None:
        async with connected(dsn) as connection:
            await body(connection)

    async with Scheduler(dsn, app=uuid4().hex) as scheduler:
        scheduler.subscribe(lambda run: ended.done() or ended.set_result(f"{run.outcome.name} {run.error or ''}"))
        scheduler.schedule_task(task, 60, name="task", scope=Scope.CLUSTER)
        return str(await asyncio.wait_for(ended, 10))


async def taken_over(dsn: str, name: str = "task") -> None:
    """Take over the claim of a run, as another instance does when the lease has expired."""
    run = current_run()
    async with connected(dsn) as connection:
        await connection.execute(
            "UPDATE kaiju_task SET owner = NULL, lease_until = NULL, rev = rev + 1 WHERE fence = $1", run.fence
        )


async def test_guard_makes_a_takeover_wait_for_the_users_commit(database: str) -> None:
    order = []

    async def body(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute("CREATE TABLE written (fence bigint)")
        async with connection.transaction():
            await connection.execute("INSERT INTO written VALUES ($1)", current_run().fence)
            await current_run().guard(connection)
            takeover = asyncio.ensure_future(taken_over(database))
            done, _ = await asyncio.wait([takeover], timeout=0.3)
            order.append(f"taken over before the commit: {len(done)}")
        await asyncio.wait_for(takeover, 5)
        order.append("taken over")
        async with connection.transaction():
            with pytest.raises(LeaseLost):
                await current_run().guard(connection)
        order.append("refused")

    assert (await ran(database, body)).startswith("SUCCEEDED")
    assert ["taken over before the commit: 0", "taken over", "refused"] == order
    async with connected(database) as connection:
        assert 1 == await connection.fetchval("SELECT count(*) FROM written")


async def test_what_a_run_has_written_whose_tick_was_taken_over_never_was(database: str) -> None:
    async def body(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute("CREATE TABLE written (fence bigint)")
        await taken_over(database)
        async with connection.transaction():
            await connection.execute("INSERT INTO written VALUES ($1)", current_run().fence)
            await current_run().guard(connection)

    assert "lease lost" in await ran(database, body)
    async with connected(database) as connection:
        assert 0 == await connection.fetchval("SELECT count(*) FROM written")


async def test_other_instances_neither_take_over_nor_wait_while_a_run_is_guarded(database: str, opened: Opened) -> None:
    """The lease has expired while its owner commits. Other instances go on with other tasks."""
    store = await opened(database)
    now = (await store.scan()).now
    await add(store, "task", "other", next_tick=now - 60 * S)
    (claim,) = (await claim_any(store, ME, ttl=S // 100, limit=1, skip={"other"})).records
    await asyncio.sleep(0.05)
    async with connected(database) as connection, connection.transaction():
        assert await store.guard(connection, claim)
        (stale,) = (await claim_any(store, YOU, ttl=TTL, limit=0)).expired
        begin = time.monotonic()
        assert not await store.swap(stale, replace(stale, rev=stale.rev + 1, challenged=True))
        assert ["other"] == await taken(store, YOU)
        assert time.monotonic() - begin < 1
    assert await store.swap(stale, replace(stale, rev=stale.rev + 1, challenged=True))


async def test_guard_is_of_one_claim(database: str, opened: Opened) -> None:
    """It fails for a later claim of the same instance, and for another task or application with the same fence."""
    store, elsewhere = await opened(database, app="app"), await opened(database, app="elsewhere")
    now = (await store.scan()).now
    for each in store, elsewhere:
        await add(each, "task", "other", next_tick=now - S, owner=ME, fence=7, lease_until=now + TTL)
    (claim,) = (await store.scan(["task"])).records

    async def guarded(record: TaskRecord, by: PostgresStore = store) -> bool:
        async with connected(database) as connection, connection.transaction():
            return await by.guard(connection, record)

    async def set_free(app: str, name: str) -> None:
        async with connected(database) as connection:
            await connection.execute("UPDATE kaiju_task SET owner = NULL WHERE app = $1 AND name = $2", app, name)

    assert await guarded(claim)
    assert not await guarded(replace(claim, fence=6))
    assert not await guarded(replace(claim, fence=8))
    assert not await guarded(replace(claim, owner=YOU))
    await set_free("app", "task")
    assert not await guarded(claim)
    assert await guarded(claim, elsewhere)
    assert await guarded(replace(claim, name="other"))


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
async def test_guard_tells_of_an_isolation_at_which_no_renewal_can_be_seen(store: PostgresStore, level: str) -> None:
    await add(store, "task", next_tick=wall_us() - S)
    (claim,) = (await claim_any(store, ME, ttl=TTL, limit=1)).records
    async with connected() as connection:
        transaction = connection.transaction(isolation=level)
        await transaction.start()
        await connection.fetch("SELECT FROM kaiju_instance")
        assert await store.guard(connection, claim)
        await transaction.rollback()
        transaction = connection.transaction(isolation=level)
        await transaction.start()
        await connection.fetch("SELECT FROM kaiju_instance")
        await store.renew(ME, {"task": claim.fence}, {}, TTL)
        with pytest.raises(
            WrongState, match=r"task 'task': .* use connection.transaction\(isolation='read_committed'\)"
        ):
            await store.guard(connection, claim)
        await transaction.rollback()


async def test_guard_tells_of_another_database(store: PostgresStore, database: str) -> None:
    async with connected(database) as connection, connection.transaction():
        with pytest.raises(InvalidArgument, match="must be a connection to the database of the scheduler's store"):
            await store.guard(connection, record(owner=ME, fence=7))


async def test_guard_says_what_it_needs(database: str, opened: Opened) -> None:
    asked: list[str] = []

    async def body(connection: asyncpg.Connection[Any]) -> None:
        for given in (connection, object()):
            with pytest.raises(InvalidArgument) as caught:
                await current_run().guard(given)
            asked.append(str(caught.value))
        by_hand = asked[1].partition("execute ")[2].partition(";")[0]
        async with connection.transaction():
            assert 1 == await connection.fetchval(by_hand)
            await taken_over_in(connection)
            assert await connection.fetchval(by_hand) is None

    async def taken_over_in(connection: asyncpg.Connection[Any]) -> None:
        await connection.execute("UPDATE kaiju_task SET owner = NULL WHERE fence = $1", current_run().fence)

    assert (await ran(database, body)).startswith("SUCCEEDED")
    assert "must be in a transaction: async with connection.transaction()" in asked[0]
    assert "must be an asyncpg connection" in asked[1]


async def test_guard_is_refused_where_it_could_guard_nothing() -> None:
    said = {}
    all_said = asyncio.Event()

    async def body() -> None:
        with pytest.raises(WrongState) as caught:
            await current_run().guard(object())
        said[current_run().task] = str(caught.value)
        if len(said) == 2:
            all_said.set()

    async with Scheduler("memory://") as scheduler:
        for scope in Scope:
            scheduler.schedule_task(body, 60, name=scope.name, scope=scope)
        await asyncio.wait_for(all_said.wait(), 10)

    assert "guard() needs Scope.CLUSTER" in said["LOCAL"]
    assert "keep current_run().fence beside what is written" in said["CLUSTER"]


@pytest.mark.realtime
async def test_an_onlooker_makes_no_tables_and_migrates_none(database: str, server: ExternalServer) -> None:
    name = database.rpartition("/")[2]
    tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'kaiju%'"
    empty, older = Onlooker(PostgresStore(database)), Onlooker(PostgresStore(database))
    with pytest.raises(InvalidArgument, match=r"must have schema \d+, .*not none: look at it with the version"):
        await empty.open()
    assert 0 == server.ask(tables, name)

    real = PostgresStore(database)
    await real.open()
    await real.close()
    server.ask("UPDATE kaiju_schema SET version = 1", name)
    with pytest.raises(InvalidArgument, match="not 1: look at it with the version of kaiju_app that the application"):
        await older.open()
    assert 1 == server.ask("SELECT version FROM kaiju_schema", name)
