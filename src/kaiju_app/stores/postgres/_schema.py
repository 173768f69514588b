"""Requirements for a PostgreSQL server, and the creation and migration of the tables."""

from __future__ import annotations

import asyncpg
from asyncpg import ServerVersion

from kaiju_app.errors import InvalidArgument
from kaiju_app.stores._dsn import Address
from kaiju_app.stores._sql import missing_steps, statements

SCHEMA = statements("postgres/schema.sql")
OLDEST = 13
FOUND = "SELECT relname FROM pg_class WHERE relname LIKE 'kaiju%' AND pg_table_is_visible(oid)"  # Indexes, too.
HOME = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('kaiju_schema')"


def check_server(address: Address, version: ServerVersion, encoding: str) -> None:
    """Raise if the server cannot be used.

    Raises:
        InvalidArgument: It is too old, or cannot store every text.
    """
    if version.major < OLDEST:
        rule = f"must be PostgreSQL {OLDEST} or newer, not {version.major}.{version.minor}: upgrade the server"
        raise InvalidArgument(address.argument, address.name, rule)
    if encoding != "UTF8":  # Error texts may be in any language, and must be storable for a run to end.
        way_out = "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        rule = f"must be a database with the encoding UTF8, not {encoding}: {way_out}"
        raise InvalidArgument(address.argument, address.name, rule)


async def prepare_schema(connection: asyncpg.Connection, address: Address, *, known: bool, complete: bool) -> None:
    """Create the tables, those that somebody has dropped, too, or apply the missing steps, one instance at a time.

    Tables are created in the first schema of the search path. Later steps are applied where the tables are found, even
    if another schema is the first by then.

    Raises:
        InvalidArgument: The tables were made by a newer version.
    """
    taken = await connection.fetchval("SELECT max(version) FROM kaiju_schema") or 0 if known else 0
    if taken < len(SCHEMA) or (taken == len(SCHEMA) and not complete):
        async with connection.transaction(isolation="read_committed"):  # To see what other instances have just done.
            # Without it two of twenty instances that start at once collide in spite of IF NOT EXISTS.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('kaiju_schema'))")
            if home := await connection.fetchval(HOME):
                await connection.execute(f"SET LOCAL search_path = {home}")
            await connection.execute("CREATE TABLE IF NOT EXISTS kaiju_schema (version integer NOT NULL)")
            taken = await connection.fetchval("SELECT max(version) FROM kaiju_schema") or 0
            found = {name for (name,) in await connection.fetch(FOUND)}
            for step in missing_steps(SCHEMA, taken, found) if taken <= len(SCHEMA) else ():
                await connection.execute(step)
            if taken < len(SCHEMA):
                await connection.execute(f"DELETE FROM kaiju_schema; INSERT INTO kaiju_schema VALUES ({len(SCHEMA)})")
    if taken > len(SCHEMA):
        rule = f"must have schema {len(SCHEMA)}, that of this version, or an older one, not {taken}"
        raise InvalidArgument(address.argument, address.name, f"{rule}: upgrade kaiju_app, or use another database")


async def check_schema(connection: asyncpg.Connection, address: Address, *, known: bool, complete: bool) -> None:
    """Raise if the tables are not those of this version: who only looks neither creates nor migrates them.

    Raises:
        InvalidArgument: They were made by another version, or not at all.
    """
    taken = await connection.fetchval("SELECT max(version) FROM kaiju_schema") or 0 if known else 0
    if taken != len(SCHEMA) or not complete:
        rule = f"must have schema {len(SCHEMA)}, that of this version, not {taken or 'none'}"
        advice = "look at it with the version of kaiju_app that the application has, or start the application"
        raise InvalidArgument(address.argument, address.name, f"{rule}: {advice}")
