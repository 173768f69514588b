"""Connections to a database that is on several servers, of which one can be written to."""

from __future__ import annotations

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from ._dsn import Address, Host

CONNECT_S = 10.0  # Some twenty ways there and back, of half a second; or as long for all hosts together.
READ_WRITE = SessionAttribute("read-write")
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
REFUSALS = (
    asyncpg.ClientConfigurationError,  # What asyncpg says of options of its own.
    asyncpg.InvalidAuthorizationSpecificationError,  # Of a wrong password, too.
    asyncpg.InvalidCatalogNameError,  # No such database.
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedObjectError,  # No such setting.
    asyncpg.InvalidParameterValueError,
)


class Hosts:
    """The servers of an address. Each has its own part of the time, which one that says nothing keeps from no other.

    The one that was found last is tried first, unless it has said nothing since.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._first = 0

    async def connect(self) -> asyncpg.Connection:
        """Return a new connection, to a host that can be written to.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError: There is none.
        """
        hosts, first = self._address.hosts, self._first
        failure: Exception | None = None
        for at in range(first, first + len(hosts)):
            try:
                connection = await self._connect_to(hosts[at % len(hosts)], CONNECT_S / len(hosts))
            except (*ERRORS, TimeoutError) as exc:  # asyncpg would not leave one that says nothing.
                failure = exc
            else:
                self._first = at
                return connection
        assert failure is not None, "an address has a host"
        raise failure

    def leave(self) -> None:
        """Try another one first: the one that was found has said nothing, and would be waited for once more."""
        self._first += 1

    async def _connect_to(self, host: Host, timeout_s: float) -> asyncpg.Connection:
        name, port = host
        named = {} if "application_name" in self._address.options else {"application_name": "kaiju_app"}
        # No cache of statements: it would name them, and behind a pooler a name is known to another session.
        try:
            return await asyncpg.connect(
                self._address.dsn, host=name or None, port=port, timeout=timeout_s, statement_cache_size=0,
                target_session_attrs=READ_WRITE, server_settings=named,
            )  # fmt: skip
        except ValueError as exc:  # Some of what is wrong with an address asyncpg leaves to whatever it calls.
            raise asyncpg.ClientConfigurationError(str(exc)) from None
