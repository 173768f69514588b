"""One connection to a PostgreSQL server, made when it is needed, and made anew after whatever went wrong with it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, Protocol, TypeVar, cast

import asyncpg

from kaiju_app.errors import InvalidArgument, StoreUnavailable

from ._dsn import Address
from ._postgres_hosts import CONNECT_S, ERRORS, REFUSALS, Hosts
from ._postgres_schema import check_server, prepare_schema
from ._sql import statements

log = logging.getLogger("kaiju_app.scheduler")

T = TypeVar("T")

NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

OFTEN = ("claim", "renew", "finish", "beat", "scan", "swap")
COLLISIONS = asyncpg.SerializationError, asyncpg.DeadlockDetectedError
TRIES = 5  # Where each transaction is serializable, one of five collides.


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
        self._hosts = Hosts(address)
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
        """Let statements be sent, and connect.

        Raises:
            InvalidArgument: The server can be reached, and refuses, or is none that can be used.
            StoreUnavailable: It cannot be reached.
        """
        self._settle()
        self._turn = self._turn or asyncio.Lock()
        error: Exception
        try:
            await self._answer("facts", {})
        except REFUSALS as exc:
            rule = f"must be a database that can be used with this address ({self.said(exc)})"
            advice = "see to user, password, options, and what the user is allowed"
            error = InvalidArgument(self.address.argument, self.address.name, f"{rule}: {advice}")
        except ERRORS as exc:
            error = self._unavailable(exc)
        else:
            return
        raise error  # Not in a handler: what the driver has said would go with it.

    async def close(self) -> None:
        """Send nothing more; return within the time of a statement."""
        self._settle()
        self._turn = None
        while self._working:
            for each in self._working:
                each.cancel()
            await asyncio.wait(self._working)
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await leave(connection, self._timeout_s)

    async def ask(self, name: str, /, **values: Any) -> Answer:
        """Return the row that the statement *name* answers.

        Raises:
            StoreUnavailable: Nobody knows whether the statement was carried out.
        """
        self._settle()
        try:
            return await self._answer(name, values)
        except (*ERRORS, InvalidArgument) as exc:  # Also what is refused: it was in order once, and may be so again.
            error = self._unavailable(exc)
        raise error  # Not in the handler: what the driver has said would go with it.

    def _unavailable(self, exc: Exception) -> StoreUnavailable:
        return exc if isinstance(exc, StoreUnavailable) else StoreUnavailable(self.address.name, self.said(exc))

    def said(self, exc: BaseException) -> str:
        """Return what an error of the driver says, without what is secret."""
        return self.address.without_secrets(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)

    async def connect(self) -> asyncpg.Connection:
        """Return a new connection, to a host that can be written to.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError: There is none.
        """
        return await self._hosts.connect()

    async def _answer(self, name: str, values: dict[str, Any]) -> Answer:
        turn = self._turn
        if turn is None:
            raise StoreUnavailable(self.address.name, "it is not open")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(turn, name, values)
        except TimeoutError:
            raise StoreUnavailable(self.address.name, f"no answer within {self._timeout_s:g} s") from None

    async def _ask(self, turn: asyncio.Lock, name: str, values: dict[str, Any]) -> Answer:
        await turn.acquire()
        try:
            if turn is not self._turn:
                raise StoreUnavailable(self.address.name, "it was closed")
            connection = await self._ready()
        except BaseException:
            turn.release()
            raise
        # Whoever gives up waiting leaves it to itself: an answer that is late is no reason for another connection.
        return await self._outcome(self._own(self._send(turn, connection, name, values)))

    async def _outcome(self, work: asyncio.Task[T]) -> T:
        """Wait for what goes on also if nobody waits for it; that it was cut does not mean that who waits is to end."""
        await asyncio.wait([work])
        if work.cancelled():
            raise StoreUnavailable(self.address.name, "it was closed")
        return work.result()

    async def _send(
        self, turn: asyncio.Lock, connection: asyncpg.Connection, name: str, values: dict[str, Any]
    ) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._execute_again(connection, name, values)
        except asyncio.CancelledError:  # The store is closed, or the loop.
            connection.terminate()
            raise
        except BaseException as exc:
            if isinstance(exc, TimeoutError):
                self._hosts.leave()
            self._drop(connection)
            raise
        finally:
            turn.release()

    async def _execute_again(self, connection: asyncpg.Connection, name: str, values: dict[str, Any]) -> Answer:
        """Execute it; at once again, if nothing was done as somebody else did something at that moment."""
        for _ in range(TRIES - 1):
            with suppress(*COLLISIONS):
                return await self._execute(connection, name, values)
        return await self._execute(connection, name, values)

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
            return await self._outcome(self._making)
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
        check_server(self.address, connection.get_server_version(), facts["encoding"])
        # A pooler makes up the number by which its clients cancel; a server tells that of the process.
        self.is_pooled = facts["backend"] != connection.get_server_pid()
        if facts["durable"] == "off":
            self.warn(
                "synchronous_commit is off: after a crash of the server a claim may be forgotten that it has "
                "confirmed, and a tick run twice; set it to on for the user or the database"
            )
        if self.is_pooled and facts["isolation"] != "read committed":
            self.warn(
                f"default_transaction_isolation is {facts['isolation']}: statements collide and have to be repeated; "
                "set it to read committed for the user or the database"
            )
        if not self.is_pooled:  # What is set for a pooler's session would be others', too.
            # What was given up and could not be cancelled ends all the same, before there are too many of it.
            await connection.execute(
                f"SET statement_timeout = {CONNECT_S * 1000:.0f}; SET jit = off; "
                "SET default_transaction_isolation = 'read committed'"
            )
        await prepare_schema(connection, self.address, known=facts["known"])
        if not self.is_pooled:
            for name in OFTEN:  # Now, so that each is one way there and back when somebody waits for it.
                sql, _ = parts(name, self._now, self._clock)
                self._prepared[name] = await connection.prepare(sql, name=f"kaiju_{name}")

    def warn(self, what: str) -> None:
        """Say something once."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("store %s: %s", self.address.name, what)

    def _drop(self, connection: asyncpg.Connection) -> None:
        if self._connection is connection:
            self._connection = None
        if self._turn is None:
            connection.terminate()  # The store is being closed: nobody waits for good order.
        elif not connection.is_closed():
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
