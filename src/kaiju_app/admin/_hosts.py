"""By which names this endpoint may be called: the Host and the Origin of a request.

A page of another site can send requests here, and with DNS rebinding even read the answers under a name of its own. So
only known names are answered, and what changes something must come from a page of the same host.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from kaiju_app.errors import InvalidArgument

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Return whether *host*, a name or an address, can only mean this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def split_host(authority: str) -> tuple[str, int | None] | None:
    """Return name and port of a Host header; None if it is not one."""
    if not authority or any(each in authority for each in "/?#@\\ \t"):
        return None
    try:
        parts = urlsplit(f"//{authority}")
        return (parts.hostname or "", parts.port) if parts.hostname else None
    except ValueError:
        return None


def is_host_allowed(authority: str | None, server: str | None, allowed: frozenset[str] | None, *, near: bool) -> bool:
    """Return whether a request with this Host may be answered.

    Args:
        server: The address that the request came in at.
        allowed: The names that were given; None if that address is the only one.
        near: Whether the request comes from this machine, which may call it by its own names.
    """
    found = split_host(authority or "")
    if found is None:
        return False
    name = found[0].rstrip(".")
    if near and is_loopback(name):
        return True
    if allowed is None:
        return server is not None and name == server.lower()
    return (
        any(name == each or (each.startswith("*.") and name.endswith(each[1:])) for each in allowed) or "*" in allowed
    )


def is_same_origin(origin: str | None, fetch_site: str | None, authority: str, scheme: str) -> bool:
    """Return whether a request comes from a page of this host, or from no page at all.

    Args:
        origin: The header Origin, which browsers send with every POST; other programs have none.
        fetch_site: The header Sec-Fetch-Site.
        authority: The header Host.
        scheme: Of the request as the server saw it. A proxy may have had it as https.
    """
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        return False
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    here = split_host(authority)
    if here is None or parts.scheme not in DEFAULT_PORTS or (scheme == "https" and parts.scheme == "http"):
        return False
    default = DEFAULT_PORTS[parts.scheme]
    return (parts.hostname, port or default) == (here[0], here[1] or default)


def hosts_of(allowed: Iterable[str] | None, *, needs_gate: bool) -> frozenset[str] | None:
    """Return the names that were given to ``admin()``, checked.

    Args:
        needs_gate: Neither a token nor ``authorize=`` was given.

    Raises:
        InvalidArgument: They are no names of hosts, or anybody who knows one would have access.
    """
    if allowed is None:
        return None
    found = list(allowed) if isinstance(allowed, Iterable) and not isinstance(allowed, str | bytes) else []
    names = [each for each in found if isinstance(each, str)]
    if not found or names != found or not all(_is_pattern(each) for each in names):
        rule = "must be names of hosts without port, such as ['shop.example', '*.internal'], or None"
        raise InvalidArgument("allowed_hosts", allowed, rule)
    if needs_gate:
        rule = "needs token= or authorize=: without them, only this machine is answered, by its own names"
        raise InvalidArgument("allowed_hosts", allowed, rule)
    return frozenset(each.lower() for each in names)


def _is_pattern(name: str) -> bool:
    plain = name.removeprefix("*.")
    found = split_host(f"[{plain}]" if ":" in plain else plain)
    return name == "*" or (found is not None and found[1] is None and "*" not in plain)
