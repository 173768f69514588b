"""A server's address as it may be shown: without what only the server should know."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit

from kaiju_app.errors import InvalidArgument


class Address:
    """Where a server is, and what of it is secret.

    Args:
        dsn: ``scheme://user:password@host:port/database?option=value``.

    Attributes:
        dsn: As it was given; never shown.
        name: Scheme, hosts and database.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        scheme, separator, rest = dsn.partition("://")
        place = (rest if separator else dsn).rpartition("@")[2].partition("?")[0]
        self.name = f"{scheme}://{place}" if separator else place
        self._secrets = sorted(_secrets(dsn), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def check(self) -> None:
        """Raise if it cannot be taken apart, or would be in another way than is meant.

        Raises:
            InvalidArgument: Something in it is no address.
        """
        place = urlsplit(self.dsn.partition("?")[0])
        hosts = place.netloc.rpartition("@")[2].split(",")
        if "@" in place.path or any(not re.fullmatch(r"(\[[^]]*]|[^:]*)(:\d*)?", host) for host in hosts):
            raise InvalidArgument(
                "store", self.name, "must be postgresql://user:password@host:port/database; in user and password "
                "whatever is no letter or digit has to be percent-encoded: %40 for @, %2F for /, %3A for :",
            )  # fmt: skip

    def without_secrets(self, text: str) -> str:
        """Return *text*, such as an error of a driver, without what is secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _secrets(dsn: str) -> set[str]:
    """Return the address itself, and every form of its password."""
    found = {dsn}
    credentials = dsn.partition("://")[2].partition("?")[0].rpartition("@")[0]
    found.add(credentials.partition(":")[2])
    with suppress(ValueError):  # What cannot be taken apart is no address; whoever connects says so.
        found.update(parse_qs(urlsplit(dsn).query).get("password", ()))
    return {form for secret in found for form in (secret, unquote(secret)) if form}
