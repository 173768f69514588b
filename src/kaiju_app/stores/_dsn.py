"""The address of a database, and how to show it without its secrets."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from kaiju_app.errors import InvalidArgument

from ._masking import masked, shown

RULE = (
    "must be postgresql://user:password@host:port/database; in user and password every character except letters and "
    "digits must be percent-encoded: %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #"
)
SCHEMES = ("postgresql", "postgres")
HOST = re.compile(r"(?:\[([^][]+)]|([^][:]*))(?::(\d*))?")
CREDENTIALS = ("user", "password", "sslpassword")  # Options in which an @ does not mean that a ? was not encoded.
LAST_PORT = 65_535

Host = tuple[str, int | None]


class Address:
    """The address of a database on one host or several, and which parts of it are secret.

    Args:
        dsn: ``postgresql://user:password@host:port/database?option=value``.
        argument: The name of the argument, for errors.

    Attributes:
        dsn: The address as given; never shown.
        hosts: Each host with its port, if given here or in the environment variables of libpq.
        options: The names in the query.
        name: Hosts and database, built from the parsed parts, so that it cannot contain anything else.

    Raises:
        InvalidArgument: It cannot be parsed, or would be parsed differently than it was meant.
    """

    def __init__(self, dsn: str, argument: str = "store") -> None:
        try:
            place, query = _parse(dsn)
            hosts = _hosts(place, query)
        except ValueError:
            understood = False
        else:
            understood = True
        if not understood:  # Outside the handler: the text of the library shows parts of it, too.
            raise InvalidArgument(argument, shown(dsn) if isinstance(dsn, str) else type(dsn), RULE)
        self.dsn = dsn
        self.argument = argument
        self.hosts = hosts
        self.options = frozenset(query)
        database = unquote(place.path[1:]) or query.get("dbname") or query.get("database", "")
        self.name = f"postgresql://{','.join(map(_shown, hosts))}{database and '/'}{quote(database)}"

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def without_secrets(self, text: str) -> str:
        """Return *text*, such as a driver's error, with this address and all others in it shown without secrets."""
        for whole in (self.dsn, repr(self.dsn)[1:-1]):
            text = text.replace(whole, self.name)
        return masked(text)


def _parse(dsn: str) -> tuple[SplitResult, dict[str, str]]:
    """Return the parts of an address, and its query.

    Raises:
        ValueError: It is not an address, or a part of a password that is not encoded would be misread.
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
        or re.search(r"[\0-\x1f#]", dsn)  # urlsplit() drops control characters, and asyncpg all after a #.
    )
    if misread:
        raise ValueError
    query = parse_qs(place.query, strict_parsing=True, keep_blank_values=True) if place.query else {}
    return place, {name: values[-1] for name, values in query.items()}


def _hosts(place: SplitResult, query: dict[str, str]) -> list[Host]:
    """Return hosts and ports as libpq finds them; a host without a name stands for asyncpg's defaults.

    Raises:
        ValueError: A host or port is not valid, or the numbers of hosts and ports differ.
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
        return text, ""  # The directory of a Unix socket.
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
