"""Connections to a database on several hosts, one of which is writable."""

from __future__ import annotations

import ssl

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from kaiju_app.stores._dsn import Address, Host

CONNECT_S = 10.0  # About twenty round trips of half a second; for all hosts together.
READ_WRITE = SessionAttribute("read-write")
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
REFUSALS = (
    asyncpg.ClientConfigurationError,  # A wrong option of asyncpg.
    asyncpg.InvalidAuthorizationSpecificationError,  # Also for a wrong password.
    asyncpg.InvalidCatalogNameError,  # No such database.
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedObjectError,  # No such setting.
    asyncpg.InvalidParameterValueError,
    asyncpg.InvalidSchemaNameError,  # No schema of the search path exists.
    asyncpg.PostgresSyntaxError,  # Malformed options.
    ssl.SSLCertVerificationError,
)
NEVER_ACCEPTED = ("22", "23", "54", "P0")  # Data exception, integrity constraint, program limit, trigger.
NO_TLS = "rejected SSL upgrade"  # How asyncpg says that the server has none.


class Hosts:
    """The hosts of an address. Each gets its share of the time to connect, so a silent host does not block the others.

    The host that was connected to last is tried first, unless it has been silent since.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._first = 0

    async def connect(self) -> asyncpg.Connection:
        """Return a new connection to a writable host.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError: There is none.
        """
        hosts, first = self._address.hosts, self._first
        failure: Exception | None = None
        for at in range(first, first + len(hosts)):
            try:
                connection = await self._connect_to(hosts[at % len(hosts)], CONNECT_S / len(hosts))
            except (*ERRORS, TimeoutError) as exc:  # asyncpg itself would not move on from a silent host.
                failure = exc
            else:
                self._first = at
                return connection
        assert failure is not None, "an address has a host"
        raise failure

    def skip_current(self) -> None:
        """Try another host first: the current one was silent, and would make the next connect wait, too."""
        self._first += 1

    async def _connect_to(self, host: Host, timeout_s: float) -> asyncpg.Connection:
        name, port = host
        named = {} if "application_name" in self._address.options else {"application_name": "kaiju_app"}
        # No statement cache: it names statements, and behind a pooler the name belongs to another session.
        try:
            return await asyncpg.connect(
                self._address.dsn, host=name or None, port=port, timeout=timeout_s, statement_cache_size=0,
                target_session_attrs=READ_WRITE, server_settings=named,
            )  # fmt: skip
        except ValueError as exc:  # asyncpg does not check all of an address itself.
            raise asyncpg.ClientConfigurationError(str(exc)) from None
        except FileNotFoundError as exc:
            if not name or name.startswith("/"):  # A Unix socket: perhaps the server is not running.
                raise
            what = "a file of sslrootcert, sslcert, sslkey or sslcrl does not exist"
            raise asyncpg.ClientConfigurationError(what) from exc
        except ConnectionError as exc:
            if NO_TLS not in str(exc):
                raise
            raise asyncpg.ClientConfigurationError(f"{exc}: sslmode asks for what it does not have") from None


def is_refused(exc: Exception) -> bool:
    """Return whether the server, or asyncpg for it, does not accept the values of a statement, whenever they come.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    is_of_asyncpg = isinstance(exc, asyncpg.InterfaceError) and isinstance(exc, ValueError)
    return is_of_asyncpg or (getattr(exc, "sqlstate", None) or "")[:2] in NEVER_ACCEPTED
