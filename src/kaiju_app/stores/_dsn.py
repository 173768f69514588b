"""A server's address as it may be shown: without what only the server should know."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit


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
        scheme, _, rest = dsn.partition("://")
        place = rest.partition("?")[0]
        self.name = f"{scheme}://{place.rpartition('@')[2]}"
        self._secrets = sorted(_secrets(dsn), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<{self.name}>"

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
