"""What a store does at the start: a mistake is refused, and what may pass is said once."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import LeaseTiming, Scheduler, Scope

THEN = "no further ticks of cluster tasks are claimed, and runs in progress go on while their lease lasts; retrying"
QUICK = LeaseTiming(2, 0.4, 1.3, 0.4, 0.1)


async def nothing() -> None:
    pass


async def failed_to_start(failure: Exception) -> None:
    """Start and stop a scheduler whose database answers each connect with *failure*."""

    async def connect(*_: Any, **__: Any) -> None:
        raise failure

    with patch.object(asyncpg, "connect", connect):
        await started("postgresql://me:x@db.example/app")


async def started(store: str, for_s: float = 0.5) -> None:
    scheduler = Scheduler(store, lease=QUICK)
    scheduler.schedule_task(nothing, 60, name="task", scope=Scope.CLUSTER)
    async with scheduler:
        await asyncio.sleep(for_s)


@pytest.mark.parametrize(
    "mistake",
    [
        asyncpg.InvalidPasswordError('password authentication failed for user "me"'),
        asyncpg.InvalidAuthorizationSpecificationError("no pg_hba.conf entry for host"),
        asyncpg.InvalidCatalogNameError('database "app" does not exist'),
        asyncpg.InvalidSchemaNameError("no schema has been selected to create in"),
        asyncpg.InsufficientPrivilegeError("permission denied for schema public"),
        asyncpg.ClientConfigurationError("`sslmode` parameter must be one of"),
        ConnectionError('PostgreSQL server at "db.example:5432" rejected SSL upgrade'),
        ssl.SSLCertVerificationError("certificate verify failed"),
        FileNotFoundError(2, "No such file or directory"),
    ],
    ids=lambda exc: type(exc).__name__,
)
async def test_a_mistake_is_refused(mistake: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidArgument, match="must be a database that accepts this address") as caught:
        await failed_to_start(mistake)

    assert caught.value.argument == "store"
    assert str(caught.value).endswith(
        ": check user, password, database, search_path, options and privileges, got 'postgresql://db.example/app'"
    )
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("outage", "said"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "ConnectionRefusedError: [Errno 111] Connect call failed"),
        (socket.gaierror(-2, "Name or service not known"), "gaierror: [Errno -2] Name or service not known"),
        (asyncpg.CannotConnectNowError("the database system is starting up"),
         "CannotConnectNowError: the database system is starting up"),
        (asyncpg.TooManyConnectionsError("too many clients"), "TooManyConnectionsError: too many clients"),
        (ConnectionError("unexpected connection_lost() call"), "ConnectionError: unexpected connection_lost() call"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)  # fmt: skip
async def test_what_may_pass_is_said_once(outage: Exception, said: str, caplog: pytest.LogCaptureFixture) -> None:
    await failed_to_start(outage)

    assert caplog.messages == [f"store postgresql://db.example/app: unavailable ({said}): {THEN}"]


async def test_a_server_that_does_not_answer_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def connect(*_: Any, **__: Any) -> None:
        await asyncio.sleep(60)

    with patch.object(asyncpg, "connect", connect):
        await started("postgresql://me@db.example/app", 1)

    assert caplog.messages == [f"store postgresql://db.example/app: unavailable (no answer within 0.4 s): {THEN}"]


@pytest.mark.parametrize("place", ["nowhere/store.db", "file/store.db"])
def test_a_directory_that_is_not_there_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidArgument) as caught:
        asyncio.run(started(f"sqlite:///{tmp_path}/{place}"))

    assert str(caught.value) == (
        f"store must be a file in a directory that exists: make the directory {(tmp_path / place).parent}, or use "
        f"another path, got '{tmp_path}/{place}'"
    )


@pytest.mark.parametrize("what", ["the directory", "the file"])
def test_a_place_where_this_process_may_not_write_is_refused(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store.db").touch()
    forbidden = tmp_path if what == "the directory" else tmp_path / "store.db"
    monkeypatch.setattr("os.access", lambda path, mode: path != forbidden)  # The superuser may write everywhere.

    with pytest.raises(InvalidArgument, match=f"may read and write, .*: allow it to use {what}.*, got '.*store.db'"):
        asyncio.run(started(f"sqlite:///{tmp_path}/store.db"))
    assert not [each for each in tmp_path.iterdir() if each.name != "store.db"]
