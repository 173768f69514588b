"""Where instances agree on who runs what: one record for each task, changed only by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable

from kaiju_app.errors import InvalidArgument

from ._dsn import Address, Unshown
from ._store import Store
from .memory import MemoryStore
from .sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore", "Store", "store_from_url"]


def _sqlite(rest: str, app: str) -> Store:
    if not rest.startswith("/") or not rest[1:] or rest[1:].startswith(":"):
        rule = "must name a file: sqlite:///relative/path or sqlite:////absolute/path"
        raise InvalidArgument("store", f"sqlite://{rest}", rule)
    if "?" in rest or "#" in rest:
        rule = "must name a file by its path and nothing else: a file with ? or # in its name is SqliteStore(path)"
        raise InvalidArgument("store", f"sqlite://{rest}", rule)
    return SqliteStore(rest[1:], app=app)


def _postgres(rest: str, app: str) -> Store:
    dsn = f"postgresql://{rest}"
    try:
        from .postgres import PostgresStore
    except ImportError:
        rule = "needs asyncpg: pip install 'kaiju-app[postgres]'"
        raise InvalidArgument("store", Address(dsn).name, rule) from None
    return PostgresStore(dsn, app=app)


_SCHEMES: dict[str, Callable[[str, str], Store]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
}


def store_from_url(url: str, app: str = "default") -> Store:
    """Return the store that *url* names, not opened.

    Args:
        url: ``sqlite:///path``; with four slashes the path is absolute. ``postgresql://user:password@host:port/database``,
            as asyncpg reads it.
        app: The set of instances that share the records.

    Raises:
        InvalidArgument: Nothing is known under this scheme, or the rest makes no sense.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not separator or scheme not in _SCHEMES:
        known = ", ".join(f"{each}://" for each in ("sqlite", "postgresql"))
        shown = Unshown() if isinstance(url, str | bytes) else url
        raise InvalidArgument("store", shown, f"must be a URL that begins with one of {known}, or a Store")
    return _SCHEMES[scheme](rest, app)
