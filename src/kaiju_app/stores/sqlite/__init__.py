"""A store in a file, for the processes of one host."""

from ._store import SqliteStore

__all__ = ["SqliteStore"]
