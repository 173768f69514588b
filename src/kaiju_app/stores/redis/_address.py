"""The address of a server, of sentinels that know one, or of a cluster, and how to show it without its secrets."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from kaiju_app.errors import InvalidArgument
from kaiju_app.stores._masking import HIDDEN, masked, shown

RULE = (
    "must be redis://user:password@host:port/number, redis+sentinel://host:port,host:port/service/number or "
    "redis+cluster://host:port,host:port, with rediss for TLS; in user and password every character except letters and "
    "digits must be percent-encoded: %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #"
)
SCHEME = re.compile(r"(redis|valkey)(s?)(?:\+(sentinel|cluster))?")
HOST = re.compile(r"(?:\[([^][]+)]|([^][:]+))(?::(\d+))?")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
OPTIONS = (*FILES, "sentinel_user", "sentinel_password")
PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}
LAST_PORT = 65_535

Host = tuple[str, int]


class Address:
    """The address of a server, and which parts of it are secret.

    Args:
        url: See ``RULE``. In the query: ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``, which are paths, and
            ``sentinel_user`` and ``sentinel_password``.

    Attributes:
        kind: "sentinel", "cluster", or "" for one server.
        hosts: Each host with its port.
        name: Scheme, hosts and path, built from the parsed parts, so that it cannot contain anything else.
        service: The name by which sentinels know the server.
        number: The number of the database.
        login: The arguments of a client that say who logs in, and how.

    Raises:
        InvalidArgument: It cannot be parsed, or would be parsed differently than it was meant.
    """

    def __init__(self, url: str) -> None:
        try:
            self._parse(url)
        except ValueError:
            understood = False
        else:
            understood = True
        if not understood:  # Outside the handler: the text of the library shows parts of it, too.
            raise InvalidArgument("store", shown(url), RULE)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def without_secrets(self, text: str) -> str:
        """Return *text*, such as a library's error, with this address and all others in it shown without secrets."""
        for whole in self._secrets:
            text = text.replace(whole, HIDDEN)
        return masked(text)

    def _parse(self, url: str) -> None:
        place = urlsplit(url)
        scheme = SCHEME.fullmatch(place.scheme)
        query = parse_qs(place.query, strict_parsing=True, keep_blank_values=True) if place.query else {}
        misread = (
            scheme is None
            or place.netloc.count("@") > 1
            or "@" in place.path
            or not query.keys() <= set(OPTIONS)
            or re.search(r"[\0-\x1f#]", url)  # urlsplit() drops control characters.
        )
        if misread or scheme is None:
            raise ValueError
        options = {name: values[-1] for name, values in query.items()}
        self.kind = scheme[3] or ""
        who, _, hosts = place.netloc.rpartition("@")
        user, _, password = who.partition(":")
        self.hosts = [_host(each, PORTS[self.kind]) for each in hosts.split(",")]
        if not self.kind and len(self.hosts) > 1:
            raise ValueError
        self.service, self.number = self._what(place.path)
        self.is_encrypted = bool(scheme[2])
        given = {"username": unquote(user), "password": unquote(password)}
        self.login: dict[str, Any] = {name: value for name, value in given.items() if value}
        if self.is_encrypted:
            self.login |= {"ssl": True, **{name: options[name] for name in FILES if name in options}}
        elif any(name in options for name in FILES):
            raise ValueError
        sentinels = {"username": options.get("sentinel_user"), "password": options.get("sentinel_password")}
        self.sentinel_login = {name: value for name, value in sentinels.items() if value}
        if self.sentinel_login and self.kind != "sentinel":
            raise ValueError
        self._secrets = [each for each in (url, password, unquote(password), options.get("sentinel_password")) if each]
        path = quote(place.path.rstrip("/"))
        self.name = f"{scheme[0]}://{','.join(map(_shown, self.hosts))}{path}"

    def _what(self, path: str) -> tuple[str, int]:
        parts = [unquote(each) for each in path.split("/")[1:] if each]
        service = parts.pop(0) if self.kind == "sentinel" and parts else ""
        number = int(parts.pop(0)) if parts else 0
        if parts or (self.kind == "sentinel") != bool(service) or (number and self.kind == "cluster") or number < 0:
            raise ValueError
        return service, number


def _host(text: str, usual_port: int) -> Host:
    found = HOST.fullmatch(text)
    if found is None or (found[3] and int(found[3]) > LAST_PORT):
        raise ValueError
    return unquote(found[1] or found[2]), int(found[3] or usual_port)


def _shown(host: Host) -> str:
    name, port = host
    shown_name = f"[{name}]" if ":" in name else quote(name, safe="")
    return f"{shown_name}:{port}"
