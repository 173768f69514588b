"""What is shown of an address: never who logs in, nor a password. Text that is not an address is never changed."""

from __future__ import annotations

import re
from difflib import get_close_matches

USER_IN_URL = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/'\"]*@", re.IGNORECASE)
OPTION = re.compile(
    r"\b((?:ssl|sentinel_)?password|(?:sentinel_)?user)(=)('(?:[^'\\]|\\.)*'|[^\s&'\"]*)", re.IGNORECASE
)
SCHEME = re.compile(r"(?:([a-z][a-z0-9+.-]*):/{0,2}|([a-z][a-z0-9+.-]*)//)?(.*)", re.IGNORECASE | re.DOTALL)
SECRET_OPTIONS = re.compile(r"\?(?=(?:[^?]*&)?(?:(?:sentinel_)?user|(?:ssl|sentinel_)?password)=)", re.IGNORECASE)
KEYWORDS = re.compile(r"\b(?:host|dbname|password)\s*=")

HIDDEN = "***"
KNOWN = "sqlite:///file, postgresql://user:password@host/database, redis://user:password@host/number or memory://"
REDIS_SCHEMES = [
    f"{name}{tls}{kind}" for name in ("redis", "valkey") for tls in ("", "s") for kind in ("", "+sentinel", "+cluster")
]


def masked(text: str) -> str:
    """Return *text*, such as a driver's error, with the users and passwords of all addresses in it hidden."""
    return OPTION.sub(rf"\1\2{HIDDEN}", USER_IN_URL.sub(rf"\1{HIDDEN}@", text))


def shown(address: str) -> str:
    """Return *address*, which need not be valid, as an error shows it: without user, password and options."""
    start, _, rest = _split(address)
    if not start and KEYWORDS.search(address):  # "host=db user=me": the other notation of libpq.
        return OPTION.sub(rf"\1\2{HIDDEN}", address)
    rest, *options = SECRET_OPTIONS.split(rest, maxsplit=1)
    user, at, place = rest.rpartition("@")
    place = re.split(r"[?#&]", place, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    port = host.rpartition("]")[2].partition(":")[2]
    is_port = all(each.isdecimal() for each in re.split(r"[:,]\D*", port)) if port else True
    if not at and (not is_port or "@" in "".join(options)):
        host = HIDDEN  # It is perhaps a user with a password.
    return f"{start}{HIDDEN if user else ''}{at}{host}{slash}{path}"


def nearest(address: str) -> str | None:
    """Return the valid address that *address* was perhaps meant to be; None if there is none like it."""
    start, scheme, rest = _split(address)
    if not start and KEYWORDS.search(address):
        return "postgresql://user:password@host/database"
    kind = scheme.partition("+")[0].lower()
    if not address:
        return None
    engines = ["sqlite", "postgresql", "postgres", "memory", "redis", "rediss", "valkey", "valkeys"]
    like = get_close_matches(kind, engines, 1, 0.75)
    if ":memory:" in address or like == ["memory"] or address == "memory":
        return "memory://"
    if like == ["sqlite"]:
        return f"sqlite:///{rest.removeprefix('/') or 'scheduler.db'}"
    if like and like[0] in REDIS_SCHEMES:
        place = shown(f"redis://{rest}").removeprefix("redis://")
        return f"{like[0]}://{place.replace(HIDDEN, 'user:password', 1) or 'user:password@host/number'}"
    if like:
        place = shown(f"postgresql://{rest}").removeprefix("postgresql://")
        return f"postgresql://{place.replace(HIDDEN, 'user:password', 1) or 'user:password@host/database'}"
    return f"sqlite:///{address}" if not scheme and "@" not in address else None


def _split(address: str) -> tuple[str, str, str]:
    """Return the beginning of *address* up to its slashes, the scheme in it, and the rest."""
    found = SCHEME.fullmatch(address)
    if found is None:
        return "", "", address
    return address[: found.start(3)], found[1] or found[2] or "", found[3]
