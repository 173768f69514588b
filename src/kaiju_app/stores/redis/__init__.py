"""A store in Redis or Valkey, for any number of hosts. Needs redis."""

from ._store import RedisStore

__all__ = ["RedisStore"]
