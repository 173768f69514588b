"""What a PostgreSQL server has to be, and the tables in it: made, or brought up to date."""

from __future__ import annotations

import asyncpg
from asyncpg import ServerVersion

from kaiju_app.errors import InvalidArgument

from ._dsn import Address
from ._sql import statements

SCHEMA = statements("postgres_schema.sql")
OLDEST = 13
HOME = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('kaiju_schema')"


def check_server(address: Address, version: ServerVersion, encoding: str) -> None:
    """Raise if it cannot be used.

    Raises:
        InvalidArgument: It is too old, or cannot keep every text.
    """
    if version.major < OLDEST:
        rule = f"must be PostgreSQL {OLDEST} or newer, not {version.major}.{version.minor}: upgrade the server"
        raise InvalidArgument(address.argument, address.name, rule)
    if encoding != "UTF8":  # The text of an error may be in any language, and ends no run where it cannot be kept.
        way_out = "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        rule = f"must be a database whose encoding is UTF8, not {encoding}: {way_out}"
        raise InvalidArgument(address.argument, address.name, rule)


async def prepare_schema(connection: asyncpg.Connection, address: Address, *, known: bool) -> None:
    """Make the tables, or take the steps that are missing; one instance at a time.

    They are made in the first schema of the search path. Later steps are taken where they are found, whichever schema
    is the first one by then.

    Raises:
        InvalidArgument: They were made by a newer version.
    """
    taken = await connection.fetchval("SELECT version FROM kaiju_schema") if known else 0
    if taken < len(SCHEMA):
        async with connection.transaction(isolation="read_committed"):  # What others have just done is to be seen.
            # Without it two of twenty that start at once collide, although each asks IF NOT EXISTS.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('kaiju_schema'))")
            if home := await connection.fetchval(HOME):
                await connection.execute(f"SET LOCAL search_path = {home}")
            await connection.execute("CREATE TABLE IF NOT EXISTS kaiju_schema (version integer NOT NULL)")
            taken = await connection.fetchval("SELECT max(version) FROM kaiju_schema") or 0
            for step in list(SCHEMA.values())[taken:]:
                await connection.execute(step)
            if taken < len(SCHEMA):
                await connection.execute(f"DELETE FROM kaiju_schema; INSERT INTO kaiju_schema VALUES ({len(SCHEMA)})")
    if taken > len(SCHEMA):
        rule = f"must be a store of this version, whose schema is {len(SCHEMA)}, not {taken}"
        raise InvalidArgument(address.argument, address.name, f"{rule}: upgrade kaiju_app, or name another database")
