"""A store in PostgreSQL, for any number of hosts. Needs asyncpg."""

from ._store import PostgresStore

__all__ = ["PostgresStore"]
