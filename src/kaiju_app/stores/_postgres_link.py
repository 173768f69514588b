"""One connection to a PostgreSQL server, made when it is needed, and made anew after whatever went wrong with it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Coroutine
from functools import cache
from typing import Any, Protocol, TypeVar, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from kaiju_app.errors import InvalidArgument, StoreUnavailable

from ._dsn import Address
from ._sql import statements

log = logging.getLogger("kaiju_app.scheduler")

T = TypeVar("T")

SCHEMA = statements("postgres_schema.sql")
NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

CONNECT_S = 10.0  # Some twenty ways there and back, of half a second.
OFTEN = ("claim", "renew", "finish", "beat", "scan", "swap")
READ_WRITE = SessionAttribute("read-write")
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Answer(Protocol):
    """A row by the names of its columns."""

    def __getitem__(self, name: str) -> Any: ...


class Link:
    """Statements to a server, one after the other.

    1. Each is a transaction of its own, and nothing is kept in the session that a statement needs: so it may go through
       a pooler that gives each transaction another session.
    2. What goes on goes on when nobody waits for it any more: a statement until its own time is over, a connection
       until it is made, which may take longer than anybody waits. So a long way makes no new connections.
    3. Whatever goes wrong, the connection is dropped, and the next statement makes another one: who knows what state it
       is in. What was sent may be carried out all the same; it is cancelled on the server as far as that is reached.

    Args:
        address: The server; None of it that is secret is shown.
        timeout_s: Seconds after which a statement is given up.
        now: SQL of the time at which a statement began, and *clock* of the time at which it is read; for tests.
    """

    def __init__(self, address: Address, timeout_s: float, now: str = NOW, clock: str = CLOCK) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._now = now
        self._clock = clock
        self._connection: asyncpg.Connection | None = None
        self._making: asyncio.Task[asyncpg.Connection] | None = None
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement] = {}
        self._turn: asyncio.Lock | None = None
        self._home: object = None
        self._working: set[asyncio.Task[Any]] = set()
        self._warned: set[str] = set()
        self.is_pooled = False

    async def open(self) -> None:
        """Let statements be sent, and connect."""
        self._settle()
        self._turn = self._turn or asyncio.Lock()
        await self.ask("facts")

    async def close(self) -> None:
        """Send nothing more."""
        self._settle()
        self._turn = None
        for each in self._working:
            each.cancel()
        while self._working:
            await asyncio.wait(self._working)
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await leave(connection, self._timeout_s)

    async def ask(self, name: str, /, **values: Any) -> Answer:
        """Return the row that the statement *name* answers.

        Raises:
            InvalidArgument: The tables were made by a newer version.
            StoreUnavailable: Nobody knows whether the statement was carried out.
        """
        if self._turn is None:
            raise StoreUnavailable(self.address.name, "it is not open")
        self._settle()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(self._turn, name, values)
        except TimeoutError:
            raise StoreUnavailable(self.address.name, f"no answer within {self._timeout_s:g} s") from None
        except ERRORS as exc:
            raise StoreUnavailable(self.address.name, self.said(exc)) from None

    def said(self, exc: BaseException) -> str:
        """Return what an error of the driver says, without what is secret."""
        return self.address.without_secrets(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)

    async def connect(self) -> asyncpg.Connection:
        """Return a new connection, to a node that can be written to.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: There is none.
        """
        named = {} if "application_name=" in self.address.dsn else {"application_name": "kaiju_app"}
        # No cache of statements: it would name them, and behind a pooler a name is known to another session.
        try:
            return await asyncpg.connect(
                self.address.dsn, timeout=CONNECT_S, statement_cache_size=0, target_session_attrs=READ_WRITE,
                server_settings=named,
            )  # fmt: skip
        except ValueError as exc:  # Some of what is wrong with an address asyncpg leaves to whatever it calls.
            raise asyncpg.InterfaceError(str(exc)) from None

    async def _ask(self, turn: asyncio.Lock, name: str, values: dict[str, Any]) -> Answer:
        await turn.acquire()
        try:
            connection = await self._ready()
        except BaseException:
            turn.release()
            raise
        # Whoever gives up waiting leaves it to itself: an answer that is late is no reason for another connection.
        sending = self._own(self._send(turn, connection, name, values))
        return await asyncio.shield(sending)

    async def _send(
        self, turn: asyncio.Lock, connection: asyncpg.Connection, name: str, values: dict[str, Any]
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._execute(connection, name, values)
        except asyncio.CancelledError:  # The store is closed, or the loop.
            connection.terminate()
            raise
        except BaseException:
            self._drop(connection)
            raise
        finally:
            turn.release()

    async def _execute(self, connection: asyncpg.Connection, name: str, values: dict[str, Any]) -> Answer:
        sql, names = parts(name, self._now, self._clock)
        arguments = [values[each] for each in names]
        if self.is_pooled:
            return cast("Answer", await connection.fetchrow(sql, *arguments))
        if name not in self._prepared:
            self._prepared[name] = await connection.prepare(sql, name=f"kaiju_{name}")
        return cast("Answer", await self._prepared[name].fetchrow(*arguments))

    async def _ready(self) -> asyncpg.Connection:
        """Return the connection. To make one takes many ways: whoever gives up waiting leaves it to the next one."""
        if self._connection is None or self._connection.is_closed():
            if self._making is None or self._making.done():
                self._making = self._own(self._make())
            return await asyncio.shield(self._making)
        return self._connection

    async def _make(self) -> asyncpg.Connection:
        async with asyncio.timeout(CONNECT_S):
            connection = await self.connect()
            try:
                await self._prepare(connection)
            except BaseException:
                self._drop(connection)
                raise
        self._connection = connection
        return connection

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        self._prepared.clear()
        sql, _ = parts("facts", self._now, self._clock)
        (facts,) = await connection.fetch(sql)
        # A pooler makes up the number by which its clients cancel; a server tells that of the process.
        self.is_pooled = facts["backend"] != connection.get_server_pid()
        if facts["durable"] == "off":
            self._warn(
                "synchronous_commit is off: after a crash of the server a claim may be forgotten that it has "
                "confirmed, and a tick run twice; set it to on for the user or the database"
            )
        await prepare_schema(connection, self.address, known=facts["known"])
        if not self.is_pooled:  # What is set for a pooler's session would be others', too.
            # What was given up and could not be cancelled ends all the same, before there are too many of it.
            await connection.execute(f"SET statement_timeout = {CONNECT_S * 1000:.0f}; SET jit = off")
            for name in OFTEN:  # Now, so that each is one way there and back when somebody waits for it.
                sql, _ = parts(name, self._now, self._clock)
                self._prepared[name] = await connection.prepare(sql, name=f"kaiju_{name}")

    def _warn(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            log.warning("store %s: %s", self.address.name, what)

    def _drop(self, connection: asyncpg.Connection) -> None:
        if self._connection is connection:
            self._connection = None
        if not connection.is_closed():
            self._own(leave(connection, self._timeout_s))

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do *work* whether anybody waits for it or not."""
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # It counts as looked at: whoever still waits for it is told.

    def _settle(self) -> None:
        """Leave what another loop has made, or the process that this one was forked from."""
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            disown(self._connection)
            self._connection, self._making, self._working, self._home = None, None, set(), home
            self._turn = self._turn and asyncio.Lock()


_DISOWNED: list[asyncpg.Connection] = []


def disown(connection: asyncpg.Connection | None) -> None:
    """Have nothing more to do with a connection of another loop, or of the process that this one was forked from.

    Not even to be collected: that would close it, for the other process, too.
    """
    if connection is not None:
        _DISOWNED.append(connection)


async def leave(connection: asyncpg.Connection, timeout_s: float) -> None:
    """Close a connection in good order, so far as that can be had."""
    try:
        await connection.close(timeout=timeout_s)
    except (*ERRORS, TimeoutError):
        connection.terminate()


async def prepare_schema(connection: asyncpg.Connection, address: Address, *, known: bool) -> None:
    """Make the tables, or take the steps that are missing; one instance at a time.

    Raises:
        InvalidArgument: They were made by a newer version.
    """
    taken = await connection.fetchval("SELECT version FROM kaiju_schema") if known else 0
    if taken < len(SCHEMA):
        async with connection.transaction():
            # Without it two of twenty that start at once collide, although each asks IF NOT EXISTS.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('kaiju_schema'))")
            await connection.execute("CREATE TABLE IF NOT EXISTS kaiju_schema (version integer NOT NULL)")
            taken = await connection.fetchval("SELECT max(version) FROM kaiju_schema") or 0
            for step in list(SCHEMA.values())[taken:]:
                await connection.execute(step)
            if taken < len(SCHEMA):
                await connection.execute(f"DELETE FROM kaiju_schema; INSERT INTO kaiju_schema VALUES ({len(SCHEMA)})")
    if taken > len(SCHEMA):
        rule = f"must be a store of this version, whose schema is {len(SCHEMA)}, not {taken}"
        raise InvalidArgument("store", address.name, f"{rule}: upgrade kaiju_app, or name another database")


@cache
def parts(name: str, now: str = NOW, clock: str = CLOCK) -> tuple[str, list[str]]:
    """Return a statement with numbered parameters, and their names in this order."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        each = match[1]
        if each in ("now", "clock"):
            return now if each == "now" else clock
        if each not in names:
            names.append(each)
        return f"${names.index(each) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", numbered, statements("postgres.sql")[name]), names
