"""One connection to a PostgreSQL server, made when it is needed, and made again after any error."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, Protocol, TypeVar, cast

import asyncpg

from kaiju_app._core.logs import logger
from kaiju_app.errors import InvalidArgument, StoreRefused, StoreUnavailable
from kaiju_app.stores._dsn import Address
from kaiju_app.stores._sql import statements

from ._hosts import CONNECT_S, ERRORS, REFUSALS, Hosts, is_refused
from ._schema import check_schema, check_server, prepare_schema

log = logger("kaiju_app.scheduler")

T = TypeVar("T")

# A subquery, so that a statement computes it once, and not for each record: numbers of any precision are slow.
NOW = "(SELECT (extract(epoch FROM now()) * 1000000)::bigint)"
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

OFTEN = ("claim", "renew", "finish", "heartbeat", "scan", "swap")
COLLISIONS = asyncpg.SerializationError, asyncpg.DeadlockDetectedError
TRIES = 5  # If every transaction is serializable, one in five collides.


class Answer(Protocol):
    """A row, by column."""

    def __getitem__(self, name: str) -> Any: ...


class Connection:
    """Statements to a server, one after the other.

    1. Each statement is a transaction of its own and needs nothing from the session. So it works behind a pooler that
       gives each transaction another session.
    2. Statements and connects run in asyncio tasks of their own, each with its own timeout. A caller that gives up does
       not cancel them, so a slow network causes no reconnects.
    3. After any error the connection is dropped, as its state is unknown, and the next statement makes another one. The
       failed statement may have been executed. It is cancelled on the server if that can be reached.

    Args:
        address: The server; its secrets are never shown.
        timeout_s: Seconds after which a statement fails.
        now: SQL for the time when a statement started.
        clock: SQL for the current time. Both are arguments for tests.
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
        self.only_looks = False

    async def open(self) -> None:
        """Accept statements, and connect.

        Raises:
            InvalidArgument: The server refuses the connection or cannot be used.
            StoreUnavailable: It cannot be reached.
        """
        self._settle()
        self._turn = self._turn or asyncio.Lock()
        error: Exception
        try:
            await self._call("facts", {})
        except REFUSALS as exc:
            rule = f"must be a database that accepts this address ({self.said(exc)})"
            advice = "check user, password, database, search_path, options and privileges"
            error = InvalidArgument(self.address.argument, self.address.name, f"{rule}: {advice}")
        except ERRORS as exc:
            error = self._unavailable(exc)
        else:
            return
        raise error  # Outside the handler, so that the text of the driver, which may hold secrets, is not chained.

    async def close(self) -> None:
        """Accept no more statements and disconnect; takes no longer than a statement may."""
        self._settle()
        self._turn = None
        while self._working:
            for each in self._working:
                each.cancel()
            await asyncio.wait(self._working)
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await close_connection(connection, self._timeout_s)

    async def call(self, name: str, /, **values: Any) -> Answer:
        """Execute the statement *name*, and return its row.

        Raises:
            StoreUnavailable: The statement may have been executed or not.
        """
        self._settle()
        try:
            return await self._call(name, values)
        except (*ERRORS, InvalidArgument) as exc:  # A refusal too: the server was usable once, and may be so again.
            error = self._unavailable(exc)
        raise error  # Outside the handler, so that the text of the driver, which may hold secrets, is not chained.

    def _unavailable(self, exc: Exception) -> StoreUnavailable:
        if isinstance(exc, StoreUnavailable):
            return exc
        return (StoreRefused if is_refused(exc) else StoreUnavailable)(self.address.name, self.said(exc))

    def said(self, exc: BaseException) -> str:
        """Return the text of a driver's error, without secrets."""
        return self.address.without_secrets(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)

    async def connect(self) -> asyncpg.Connection:
        """Return a new connection to a writable host.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError: There is none.
        """
        return await self._hosts.connect()

    async def _call(self, name: str, values: dict[str, Any]) -> Answer:
        """Execute a statement in its turn. After the timeout the caller leaves, and the statement goes on."""
        turn = self._turn
        if turn is None:
            raise StoreUnavailable(self.address.name, "it is not open")
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn.acquire()
                try:
                    if turn is not self._turn:
                        raise StoreUnavailable(self.address.name, "it was closed")
                    connection = await self._ready()
                except BaseException:
                    turn.release()
                    raise
                # In a task of its own: a late answer is no reason for another connection.
                return await self._wait_for(self._start(self._execute_in_turn(turn, connection, name, values)))
        except TimeoutError:
            raise StoreUnavailable(self.address.name, f"no answer within {self._timeout_s:g} s") from None

    async def _wait_for(self, work: asyncio.Task[T]) -> T:
        """Return the result of *work*, which goes on if the caller is cancelled, and whose end does not cancel it."""
        await asyncio.wait([work])
        if work.cancelled():
            raise StoreUnavailable(self.address.name, "it was closed")
        return work.result()

    async def _execute_in_turn(
        self, turn: asyncio.Lock, connection: asyncpg.Connection, name: str, values: dict[str, Any]
    ) -> Answer:
        """Execute a statement, and end the turn. After any error the connection is dropped."""
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(TRIES - 1):
                    with suppress(*COLLISIONS):  # Nothing was done, because of a concurrent transaction.
                        return await self._execute(connection, name, values)
                return await self._execute(connection, name, values)
        except asyncio.CancelledError:  # The store or the loop is being closed.
            connection.terminate()
            raise
        except BaseException as exc:
            if isinstance(exc, TimeoutError):
                self._hosts.skip_current()
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
        """Return the connection. If a caller stops waiting for a new one, the next caller gets it."""
        if self._connection is None or self._connection.is_closed():
            if self._making is None or self._making.done():
                self._making = self._start(self._make())
            return await self._wait_for(self._making)
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
        # A pooler makes up the process number by which its clients cancel; a server reports the true one.
        self.is_pooled = facts["backend"] != connection.get_server_pid()
        if facts["durable"] == "off":
            self.warn(
                "synchronous_commit is off: after a crash the server may have lost claims that it had confirmed, and "
                "a tick may run twice; set it to on for the user or the database"
            )
        if self.is_pooled and facts["isolation"] != "read committed":
            self.warn(
                f"default_transaction_isolation is {facts['isolation']}: statements collide and must be repeated; "
                "set it to read committed for the user or the database"
            )
        if not self.is_pooled:  # Settings in a session of a pooler would affect other clients.
            # Abandoned statements that could not be cancelled end by themselves before they become too many.
            await connection.execute(
                f"SET statement_timeout = {CONNECT_S * 1000:.0f}; SET jit = off; "
                "SET default_transaction_isolation = 'read committed'"
            )
        prepare = check_schema if self.only_looks else prepare_schema
        await prepare(connection, self.address, known=facts["known"], complete=facts["complete"])
        if not self.is_pooled:
            for name in OFTEN:  # Now, so that each call takes a single round trip later.
                sql, _ = parts(name, self._now, self._clock)
                self._prepared[name] = await connection.prepare(sql, name=f"kaiju_{name}")

    def warn(self, what: str) -> None:
        """Log a warning once."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("store %s: %s", self.address.name, what)

    def _drop(self, connection: asyncpg.Connection) -> None:
        if self._connection is connection:
            self._connection = None
        if self._turn is None:
            connection.terminate()  # The store is being closed: do not wait for an orderly end.
        elif not connection.is_closed():
            self._start(close_connection(connection, self._timeout_s))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run *work* in a task that goes on without its callers."""
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # Mark it as retrieved; callers that still wait get it.

    def _settle(self) -> None:
        """Leak what another loop or the parent process has made."""
        home = os.getpid(), asyncio.get_running_loop()
        if self._home != home:
            disown(self._connection)
            self._connection, self._making, self._working, self._home = None, None, set(), home
            self._turn = self._turn and asyncio.Lock()


_DISOWNED: list[asyncpg.Connection] = []


def disown(connection: asyncpg.Connection | None) -> None:
    """Leak a connection of another loop or of the parent process.

    It must not be garbage collected: that would close it for the other process, too.
    """
    if connection is not None:
        _DISOWNED.append(connection)


async def close_connection(connection: asyncpg.Connection, timeout_s: float) -> None:
    """Close a connection, in good order if the server answers."""
    try:
        await connection.close(timeout=timeout_s)
    except (*ERRORS, TimeoutError):
        connection.terminate()


@cache
def parts(name: str, now: str = NOW, clock: str = CLOCK) -> tuple[str, list[str]]:
    """Return a statement with numbered parameters, and the names of the parameters in that order."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        each = match[1]
        if each in ("now", "clock"):
            return now if each == "now" else clock
        if each not in names:
            names.append(each)
        return f"${names.index(each) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", numbered, statements("postgres/queries.sql")[name]), names
