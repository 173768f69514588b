"""Stores of every engine, on a clock that the test sets. Stores on servers share one of each kind."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from kaiju_app._core.clock import wall_us
from kaiju_app.stores import MemoryStore, SqliteStore, Store
from kaiju_app.stores._answers import ChangeResult, Claimed
from kaiju_app.stores._cas import Transition
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores.postgres import PostgresStore
from kaiju_app.stores.postgres._connection import Answer, Connection
from kaiju_app.stores.redis import RedisStore
from kaiju_app.stores.redis import _connection as redis_connection
from kaiju_app.stores.redis._scripts import Script, made_of, script
from support.postgres_server import found_or_skip, shared_server
from support.redis_server import server_or_skip
from support.redis_server import shared_server as redis_server


async def change_one(store: Store, name: str, transition: Transition) -> ChangeResult:
    """Apply *transition* to one record, as soon as no other client has locked it."""
    results: dict[str, ChangeResult] = {}
    while name not in results:
        results = await store.change_each({name: transition})
    return results[name]


async def claim_any(store: Store, me: str, *, skip: Collection[str] = (), **values: Any) -> Claimed:
    """Claim what is due, as an instance that knows all tasks of the store but those to *skip*."""
    names = {record.name for record in (await store.scan()).records}.difference(skip)
    return await store.claim(ClaimQuery(me, names, **values))


ENGINES = ["memory", "sqlite", "postgres", "valkey", pytest.param("redis", marks=pytest.mark.slow)]

Make = Callable[..., Store]


def store_factories(clock: Callable[[], int], path: Path) -> dict[str, Callable[[], Make]]:
    """Return for each engine what makes a store factory.

    All stores of one factory share their records, as the stores of several instances do. A factory takes the name of an
    application; applications have separate records. On ``wall_us`` a server uses its own clock.
    """

    def memory() -> Make:
        stores: dict[str, MemoryStore] = {}
        return lambda app="default": stores.setdefault(app, MemoryStore(clock))

    def postgres() -> Make:
        dsn, own = shared_database(), uuid4().hex

        def make(app: str = "default") -> Store:
            named = f"{own} {app}"
            return PostgresStore(dsn, app=named) if clock is wall_us else PostgresWithTestClock(dsn, named, clock)

        return make

    def redis(kind: str) -> Make:
        url, own = server_or_skip(redis_server(kind)).url, uuid4().hex

        def make(app: str = "default") -> Store:
            named = f"{own} {app}"
            return RedisStore(url, app=named) if clock is wall_us else RedisWithTestClock(url, named, clock)

        return make

    return {
        "memory": memory,
        "valkey": lambda: redis("valkey"),
        "redis": lambda: redis("redis"),
        "sqlite": lambda: lambda app="default": SqliteStore(path / "store.db", app=app, clock=clock),
        "postgres": postgres,
    }


@cache
def shared_database() -> str:
    """Return the DSN of a database that all tests share. Each test uses an application of its own."""
    server = found_or_skip(shared_server())
    name = f"kaiju_{uuid4().hex[:8]}"
    server.create_database(name)
    return server.dsn(name)


class PostgresWithTestClock(PostgresStore):
    """A store whose statements use the clock of the test instead of the server's."""

    def __init__(self, dsn: str, app: str, clock: Callable[[], int]) -> None:
        super().__init__(dsn, app=app)
        shown = "current_setting('kaiju.now')::bigint"
        self._link = ConnectionWithTestClock(self._link.address, 2.0, shown, shown)
        self._link.shown = clock
        self._news._link = self._link


class ConnectionWithTestClock(Connection):
    """Tells the server the time of the test's clock before each statement."""

    shown: Callable[[], int]

    async def _execute(self, connection: asyncpg.Connection[Any], name: str, values: dict[str, Any]) -> Answer:
        await connection.execute(f"SET kaiju.now = {self.shown()}")
        return await super()._execute(connection, name, values)


class RedisWithTestClock(RedisStore):
    """A store whose scripts use the clock of the test, which is kept in a key, instead of the server's."""

    def __init__(self, url: str, app: str, clock: Callable[[], int]) -> None:
        super().__init__(url, app=app)
        self._link = RedisConnectionWithTestClock(self._link.address, self._link.base, 2.0)
        self._link.shown = clock
        self._news._link = self._link


SERVERS_CLOCK = """    local time = call('TIME')
    return time[1] * 1000000 + time[2]
"""


@cache
def with_test_clock(name: str) -> Script:
    text = script(name).text
    assert text.count(SERVERS_CLOCK) == 1
    return made_of(text.replace(SERVERS_CLOCK, "    return tonumber(call('GET', base .. 'clock'))\n"))


class RedisConnectionWithTestClock(redis_connection.Connection):
    """Tells the server the time of the test's clock before each script."""

    shown: Callable[[], int]

    def script(self, name: str) -> Script:
        return with_test_clock(name)

    async def _execute(self, client: Any, what: Script, argument: str) -> Any:
        await client.set(f"{self.base}clock", str(self.shown()))
        return await super()._execute(client, what, argument)
