"""Stores of every kind, by whatever clock a test sets, and by a server that all tests share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from postgres_server import needed, the_server

from kaiju_app._clock import wall_us
from kaiju_app.stores import MemoryStore, SqliteStore, Store
from kaiju_app.stores._postgres_link import Answer, Link
from kaiju_app.stores.postgres import PostgresStore

ENGINES = ["memory", "sqlite", "postgres"]

Make = Callable[..., Store]


def makers(clock: Callable[[], int], path: Path) -> dict[str, Callable[[], Make]]:
    """Return for each engine how instances come by stores with the same records; by its own clock, if it has one.

    What makes them takes the application, of which each has records of its own.
    """

    def memory() -> Make:
        stores: dict[str, MemoryStore] = {}
        return lambda app="default": stores.setdefault(app, MemoryStore(clock))

    def postgres() -> Make:
        dsn, own = the_database(), uuid4().hex

        def make(app: str = "default") -> Store:
            named = f"{own} {app}"
            return PostgresStore(dsn, app=named) if clock is wall_us else PostgresByHand(dsn, named, clock)

        return make

    return {
        "memory": memory,
        "sqlite": lambda: lambda app="default": SqliteStore(path / "store.db", app=app, clock=clock),
        "postgres": postgres,
    }


@cache
def the_database() -> str:
    """Return the address of a database that tests share, each with an application of its own."""
    server = needed(the_server())
    name = f"kaiju_{uuid4().hex[:8]}"
    server.create_database(name)
    return server.dsn(name)


class PostgresByHand(PostgresStore):
    """A store in a database whose clock is set by hand: with each statement it is told what the clock shows."""

    def __init__(self, dsn: str, app: str, clock: Callable[[], int]) -> None:
        super().__init__(dsn, app=app)
        shown = "current_setting('kaiju.now')::bigint"
        self._link = LinkByHand(self._link.address, 2.0, shown, shown)
        self._link.shown = clock
        self._news._link = self._link


class LinkByHand(Link):
    shown: Callable[[], int]

    async def _execute(self, connection: asyncpg.Connection[Any], name: str, values: dict[str, Any]) -> Answer:
        await connection.execute(f"SET kaiju.now = {self.shown()}")
        return await super()._execute(connection, name, values)
