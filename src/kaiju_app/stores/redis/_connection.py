"""Calls of scripts on a Redis or Valkey server, one after the other; connections are made when they are needed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from redis.exceptions import NoPermissionError, NoScriptError

from kaiju_app._core.logs import logger
from kaiju_app.errors import InvalidArgument, StoreRefused, StoreUnavailable

from ._address import Address
from ._scripts import Script, script
from ._servers import ERRORS, Client, advice_for, check, client_of, info_of, is_drop, is_refusal

log = logger("kaiju_app.scheduler")

T = TypeVar("T")

CANCEL_AGAIN_S = 0.1
CONNECT_S = 10.0  # About twenty round trips of half a second.
SCHEMA = 1


class Connection:
    """Calls of scripts, one after the other.

    1. Each call is one script, which the server executes as a whole or not at all.
    2. Calls and connects run in asyncio tasks of their own, each with its own timeout. A caller that gives up does
       not cancel them, so a slow network causes no reconnects.
    3. After an error of the network the connection is dropped, and the next call makes another one. The failed call
       may have been executed. It is never repeated here.

    Args:
        address: The server; its secrets are never shown.
        base: The beginning of the keys of the application.
        timeout_s: Seconds after which a call fails.
    """

    def __init__(self, address: Address, base: str, timeout_s: float) -> None:
        self.address = address
        self.base = base
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._is_prepared = False
        self._preparing: asyncio.Task[None] | None = None
        self._turn: asyncio.Lock | None = None
        self._home: object = None
        self._working: set[asyncio.Task[Any]] = set()
        self._warned: set[str] = set()
        self.news = "SPUBLISH" if address.kind == "cluster" else "PUBLISH"
        self.only_looks = False

    async def open(self) -> None:
        """Accept calls, and connect.

        Raises:
            InvalidArgument: The server refuses the connection or cannot be used.
            StoreUnavailable: It cannot be reached.
        """
        self._settle()
        self._turn = self._turn or asyncio.Lock()
        error: Exception
        try:
            await self._call(None, "")
        except ERRORS as exc:
            if is_refusal(exc):
                rule = f"must be a server that accepts this address ({self.said(exc)}): {advice_for(exc)}"
                error = InvalidArgument("store", self.address.name, rule)
            else:
                error = self._unavailable(exc)
        else:
            return
        raise error  # Outside the handler, so that the text of the library, which may hold secrets, is not chained.

    async def close(self) -> None:
        """Accept no more calls and disconnect; takes no longer than a call may."""
        self._settle()
        self._turn = None
        await end(self._working)
        client, self._client, self._is_prepared = self._client, None, False
        if client is not None:
            await close_client(client, self._timeout_s)

    async def call(self, name: str, /, **values: Any) -> Any:
        """Execute the script *name*, and return its answer.

        Raises:
            StoreUnavailable: The script may have been executed or not.
            StoreRefused: A text of *values* cannot be sent.
        """
        self._settle()
        try:
            argument = json.dumps(values | {"news": self.news}, ensure_ascii=False)
            argument.encode()
        except UnicodeEncodeError as exc:
            raise StoreRefused(self.address.name, f"a text is no Unicode: {exc.reason}") from None
        try:
            return await self._call(self.script(name), argument)
        except (*ERRORS, InvalidArgument) as exc:  # A refusal too: the server was usable once, and may be so again.
            error = self._unavailable(exc)
        raise error  # Outside the handler, so that the text of the library, which may hold secrets, is not chained.

    def script(self, name: str) -> Script:
        """Return the script *name*."""
        return script(name)

    def _unavailable(self, exc: Exception) -> StoreUnavailable:
        return exc if isinstance(exc, StoreUnavailable) else StoreUnavailable(self.address.name, self.said(exc))

    def said(self, exc: BaseException) -> str:
        """Return the text of an error, without secrets."""
        return self.address.without_secrets(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)

    def _made(self) -> Client:
        if self._client is None:
            self._client = client_of(self.address)
        return self._client

    async def _call(self, what: Script | None, argument: str) -> Any:
        """Execute a script in its turn. After the timeout the caller leaves, and the script goes on."""
        turn = self._turn
        if turn is None:
            raise StoreUnavailable(self.address.name, "it is not open")
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn.acquire()
                try:
                    if turn is not self._turn:
                        raise StoreUnavailable(self.address.name, "it was closed")
                    client = await self._ready()
                except BaseException:
                    turn.release()
                    raise
                # In a task of its own: a late answer is no reason for another connection.
                return await self._wait_for(self._start(self._execute_in_turn(turn, client, what, argument)))
        except TimeoutError:
            # A server without TLS waits for the end of a line that never comes.
            perhaps = ": does it have TLS at this port?" if self.address.is_encrypted and not self._is_prepared else ""
            raise StoreUnavailable(self.address.name, f"no answer within {self._timeout_s:g} s{perhaps}") from None

    async def _wait_for(self, work: asyncio.Task[T]) -> T:
        """Return the result of *work*, which goes on if the caller is cancelled, and whose end does not cancel it."""
        await asyncio.wait([work])
        if work.cancelled():
            raise StoreUnavailable(self.address.name, "it was closed")
        return work.result()

    async def _execute_in_turn(self, turn: asyncio.Lock, client: Client, what: Script | None, argument: str) -> Any:
        """Execute a script, and end the turn."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return None if what is None else await self._execute(client, what, argument)
        except BaseException as exc:
            if is_drop(exc):
                self._drop(client)
            raise
        finally:
            turn.release()

    async def _execute(self, client: Client, what: Script, argument: str) -> Any:
        # Two keys, neither of which exists: while their slot moves, a node of a cluster then answers TRYAGAIN. With one
        # key the node that the slot moves to would execute the script, without the records that have not moved yet.
        keys = self.base, f"{self.base}absent"
        try:
            said = await client.evalsha(what.digest, 2, *keys, argument)
        except NoScriptError:  # Nothing was executed. The server keeps the script from now on.
            said = await client.eval(what.text, 2, *keys, argument)
        return json.loads(said)

    async def _ready(self) -> Client:
        """Return a client of a server that was looked at. If a caller stops waiting, the next caller gets it."""
        if not self._is_prepared:
            if self._preparing is None or self._preparing.done():
                self._preparing = self._start(self._prepare())
            await self._wait_for(self._preparing)
        return self._made()

    async def _prepare(self) -> None:
        client = self._made()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._look_at(client)
        except BaseException:
            self._drop(client)
            raise
        self._is_prepared = True

    async def _look_at(self, client: Client) -> None:
        try:
            for said in check(self.address, await info_of(client, self.base)):
                self.warn(said)
        except NoPermissionError:
            self.warn("this user may not ask for INFO, so that nobody knows whether what the server keeps is safe")
        values = {"schema": SCHEMA, "only_looks": self.only_looks, "news": self.news}
        found = await self._execute(client, self.script("prepare"), json.dumps(values))
        if self.only_looks and found != str(SCHEMA):
            rule = f"must have schema {SCHEMA}, that of this version, not {found or 'none'}"
            advice = "look at it with the version of kaiju_app that the application has, or start the application"
            raise InvalidArgument("store", self.address.name, f"{rule}: {advice}")
        if found != str(SCHEMA):
            rule = f"must have schema {SCHEMA}, that of this version, or an older one, not {found}"
            raise InvalidArgument("store", self.address.name, f"{rule}: upgrade kaiju_app, or use another server")

    def warn(self, what: str) -> None:
        """Log a warning once."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("store %s: %s", self.address.name, what)

    def _drop(self, client: Client) -> None:
        if self._client is client:
            self._client, self._is_prepared = None, False
            if self._turn is not None:
                self._start(close_client(client, self._timeout_s))

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
            disown(self._client)
            self._client, self._is_prepared, self._preparing, self._working = None, False, None, set()
            self._home = home
            self._turn = self._turn and asyncio.Lock()


_DISOWNED: list[object] = []


def disown(client: object) -> None:
    """Leak a client of another loop or of the parent process.

    It must not be garbage collected: that would close its connection for the other process, too.
    """
    if client is not None:
        _DISOWNED.append(client)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: redis-py takes some cancellations for the end of a time limit of its own."""
    while waiting := [each for each in tasks if not each.done()]:
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)


async def close_client(client: Client, timeout_s: float) -> None:
    """Close the connections of a client."""
    sentinels = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in [client, *(sentinels.sentinels if sentinels else ())]:
        with suppress(*ERRORS, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await each.aclose()
