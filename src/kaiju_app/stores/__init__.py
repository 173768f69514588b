"""Stores, where instances agree on who runs what: one record for each task, changed only by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from kaiju_app._core.lazy import lazy_names
from kaiju_app.errors import InvalidArgument

from ._base import ROWS_AGE_S, ROWS_KEPT, Store
from ._dsn import Address
from ._masking import KNOWN, REDIS_SCHEMES, nearest, shown

if TYPE_CHECKING:
    from .memory import MemoryStore
    from .sqlite import SqliteStore
else:
    __getattr__, __dir__ = lazy_names(__name__, {".memory": ("MemoryStore",), ".sqlite": ("SqliteStore",)})

__all__ = ["MemoryStore", "SqliteStore", "Store", "store_from_url"]


def _sqlite(rest: str, app: str, history: int, history_age_s: float | timedelta) -> Store:
    if not rest.startswith("/") or not rest[1:] or rest[1:].startswith(":"):
        meant = nearest(f"sqlite://{rest}")
        rule = f"must name a file: sqlite:///relative/path or sqlite:////absolute/path; perhaps you mean {meant}"
        raise InvalidArgument("store", f"sqlite://{rest}", rule)
    if "?" in rest or "#" in rest:
        rule = "must name a file by its path alone: for a file name with ? or #, use SqliteStore(path)"
        raise InvalidArgument("store", f"sqlite://{rest}", rule)
    from .sqlite import SqliteStore

    return SqliteStore(rest[1:], app=app, history=history, history_age_s=history_age_s)


def _postgres(rest: str, app: str, history: int, history_age_s: float | timedelta) -> Store:
    dsn = f"postgresql://{rest}"
    try:
        from .postgres import PostgresStore
    except ModuleNotFoundError as exc:
        if exc.name != "asyncpg":
            raise
        rule = "on a PostgreSQL server needs the library asyncpg (pip install asyncpg)"
        raise InvalidArgument("store", Address(dsn).name, rule) from None
    return PostgresStore(dsn, app=app, history=history, history_age_s=history_age_s)


def _redis(scheme: str, rest: str, app: str, history: int, history_age_s: float | timedelta) -> Store:
    url = f"{scheme}://{rest}"
    try:
        import redis  # noqa: F401  # First the library as a whole: of one that is broken, a part would be missing.

        from .redis import RedisStore
    except ModuleNotFoundError as exc:
        if exc.name != "redis":
            raise
        rule = "on a Redis or Valkey server needs the library redis (pip install redis)"
        raise InvalidArgument("store", shown(url), rule) from None
    return RedisStore(url, app=app, history=history, history_age_s=history_age_s)


def _memory(rest: str, app: str, history: int, history_age_s: float | timedelta) -> Store:
    if rest:
        rule = "must be memory:// with nothing after it: such a store has no name, and only one scheduler has it"
        raise InvalidArgument("store", shown(f"memory://{rest}"), rule)
    from .memory import MemoryStore

    return MemoryStore(history=history, history_age_s=history_age_s)


_SCHEMES: dict[str, Callable[[str, str, int, float | timedelta], Store]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    **{scheme: partial(_redis, scheme) for scheme in REDIS_SCHEMES},
}


def store_from_url(
    url: str, app: str = "default", *, history: int = ROWS_KEPT, history_age_s: float | timedelta = ROWS_AGE_S
) -> Store:
    """Return the store that *url* names, without opening it.

    Args:
        url: ``sqlite:///path``, with four slashes for an absolute path,
            ``postgresql://user:password@host:port/database``, in the syntax of asyncpg,
            ``redis://user:password@host:port/number``, as ``RedisStore`` describes, or ``memory://``.
        app: The set of instances that share the records.
        history: How many ledger rows of each task the store keeps.
        history_age_s: Seconds after which a ledger row is deleted all the same, but for the newest one of its task.

    Raises:
        InvalidArgument: The scheme is unknown, or the rest is not valid.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not separator or scheme not in _SCHEMES:
        raise _no_store(url)
    return _SCHEMES[scheme](rest, app, history, history_age_s)


def _no_store(url: object) -> InvalidArgument:
    rule = f"must be a URL ({KNOWN}) or a Store"
    if not isinstance(url, str):
        return InvalidArgument("store", type(url) if isinstance(url, bytes) else url, rule)  # It may hold a password.
    meant = nearest(url)
    return InvalidArgument("store", shown(url), rule if meant is None else f"{rule}; perhaps you mean {meant}")
