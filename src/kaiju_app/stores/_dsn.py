"""A database's address as it may be shown: without what only its server should know."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, parse_qs, quote, unquote, unquote_plus, urlsplit

from kaiju_app.errors import InvalidArgument

RULE = (
    "must be postgresql://user:password@host:port/database; in user and password whatever is no letter or digit has to "
    "be percent-encoded: %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #"
)
SCHEMES = ("postgresql", "postgres")
HOST = re.compile(r"(?:\[([^][]+)]|([^][:]*))(?::(\d*))?")
CREDENTIALS = ("user", "password", "sslpassword")  # The options in which an @ is no sign that a ? was not encoded.
LAST_PORT = 65_535

Host = tuple[str, int | None]


class Unshown:
    """What an error shows instead of an address that was not understood."""

    def __repr__(self) -> str:
        return "an address that is not shown: it may hold a password"


class Address:
    """Where a database is, on one server or on several, and what of it is secret.

    Args:
        dsn: ``postgresql://user:password@host:port/database?option=value``.
        argument: Name of the argument that it was given as.

    Attributes:
        dsn: As it was given; never shown.
        hosts: Each with its port, as far as they are given; there, or in the environment of libpq.
        options: The names in the query.
        name: Hosts and database, put together from what was understood, so that nothing else can be in it.

    Raises:
        InvalidArgument: It cannot be taken apart, or would be in another way than is meant.
    """

    def __init__(self, dsn: str, argument: str = "store") -> None:
        try:
            place, query = _taken_apart(dsn)
            hosts = _hosts(place, query)
        except ValueError:
            understood = False
        else:
            understood = True
        if not understood:  # Not in the handler: what the library has to say shows parts of it, too.
            raise InvalidArgument(argument, Unshown(), RULE)
        self.dsn = dsn
        self.argument = argument
        self.hosts = hosts
        self.options = frozenset(query)
        database = unquote(place.path[1:]) or query.get("dbname") or query.get("database", "")
        self.name = f"postgresql://{','.join(map(_shown, hosts))}{database and '/'}{quote(database)}"
        self._secrets = sorted(_secrets(dsn, place), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def without_secrets(self, text: str) -> str:
        """Return *text*, such as an error of a driver, without what is secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _taken_apart(dsn: str) -> tuple[SplitResult, dict[str, str]]:
    """Return an address in its parts, and its query.

    Raises:
        ValueError: It is none, or a part of a password that was not encoded would be taken for something else.
    """
    if not isinstance(dsn, str):
        raise ValueError
    place = urlsplit(dsn)
    pairs = [pair.partition("=") for pair in place.query.split("&") if pair]
    misread = (
        dsn.partition("://")[0] not in SCHEMES
        or place.netloc.count("@") > 1
        or "@" in place.path
        or any("@" in f"{name}{value}" and name not in CREDENTIALS for name, _, value in pairs)
        or re.search(r"[\0-\x1f#]", dsn)  # urlsplit() leaves control characters out, and asyncpg what follows a #.
    )
    if misread:
        raise ValueError
    query = parse_qs(place.query, strict_parsing=True, keep_blank_values=True) if place.query else {}
    return place, {name: values[-1] for name, values in query.items()}


def _hosts(place: SplitResult, query: dict[str, str]) -> list[Host]:
    """Return hosts and ports as libpq finds them; one without a name stands for whatever asyncpg tries then.

    Raises:
        ValueError: One is none, or there is another number of ports.
    """
    in_address = place.netloc.rpartition("@")[2]
    given = unquote(in_address) or query.get("host") or ("" if "service" in query else os.environ.get("PGHOST", ""))
    hosts = [_host(each) for each in given.split(",")]
    ports = (query.get("port") or os.environ.get("PGPORT", "")).split(",")
    if len(ports) not in (1, len(hosts)):
        raise ValueError
    elsewhere = ports if len(ports) == len(hosts) else ports * len(hosts)
    return [(host, _port(port or other)) for (host, port), other in zip(hosts, elsewhere, strict=True)]


def _host(text: str) -> tuple[str, str]:
    if text.startswith("/"):
        return text, ""  # The directory of a socket.
    found = HOST.fullmatch(text)
    if found is None:
        raise ValueError
    return found[1] or found[2], found[3] or ""


def _port(text: str) -> int | None:
    if text and int(text) > LAST_PORT:
        raise ValueError
    return int(text) if text else None


def _shown(host: Host) -> str:
    name, port = host
    shown = f"[{name}]" if ":" in name else quote(name, safe="")
    return shown if port is None else f"{shown}:{port}"


def _secrets(dsn: str, place: SplitResult) -> set[str]:
    """Return the address itself, and every form of its passwords."""
    found = {dsn, place.netloc.rpartition("@")[0].partition(":")[2]}
    for pair in place.query.split("&"):
        name, _, value = pair.partition("=")
        if name in ("password", "sslpassword"):
            found |= {value, unquote_plus(value)}
    return {form for secret in found for form in (secret, unquote(secret)) if form}
