"""Which parts of a database address are shown, and which never are."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, quote_plus

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.scheduler import LeaseTiming, Scheduler, Scope
from kaiju_app.stores import store_from_url
from kaiju_app.stores._dsn import Address
from kaiju_app.stores._masking import nearest, shown
from kaiju_app.stores.postgres import PostgresStore


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("postgresql://user:s3cr3t@db.example:5433/app?sslmode=require", "postgresql://db.example:5433/app"),
        ("postgres://db.example", "postgresql://db.example"),
        ("postgresql://me@one:1,two,[::1]:3/app", "postgresql://one:1,two,[::1]:3/app"),
        ("postgresql://db/app?user=me@server&password=s3cr3t", "postgresql://db/app"),
        ("postgresql://db/app?user=me&password=s3c@s3cr3t", "postgresql://db/app"),
        ("postgresql:///app?host=/var/run&user=a&password=s3cr3t", "postgresql://%2Fvar%2Frun/app"),
        ("postgresql://?host=one,two&port=1,2&dbname=app", "postgresql://one:1,two:2/app"),
        ("postgresql://me:%zzs3cr3t@db/app%20one", "postgresql://db/app%20one"),
    ],
)
def test_a_store_is_called_by_its_hosts_and_its_database(dsn: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPORT", raising=False)

    assert PostgresStore(dsn).name == name


def test_hosts_and_ports_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "one,two")
    monkeypatch.setenv("PGPORT", "1,2")

    assert Address("postgresql:///app").hosts == [("one", 1), ("two", 2)]
    assert Address("postgresql://three,four:5/app").hosts == [("three", 1), ("four", 5)]
    monkeypatch.delenv("PGPORT")
    assert Address("postgresql:///app?service=mine").hosts == [("", None)]


REFUSED = [
    "mysql://user:s3cr3t@host/db",
    "postgres//user:s3cr3t@host/db",
    "postgresql:user:s3cr3t@host/db",
    "host=db user=me password=s3cr3t dbname=app",
    "host=db password=a://s3cr3t dbname=app",
    "postgresql://user:s3cr3t/word@host/db",
    "postgresql://user:12/s3cr3t@host/db",
    "postgresql://user:12?s3cr3t@host/db",
    "postgresql://user:12?a=s3cr3t@host/db",
    "postgresql://user:12/a?b=s3cr3t@host/db",
    "postgresql://user:12#s3cr3t@host/db",
    "postgresql://user:s3c#s3cr3t@host/db",
    "postgresql://user:s3cr3t@word@host/db",
    "postgresql://user:s3cr3t@word@host/db:x@y",
    "postgresql://user:s3cr3t@host:port/db",
    "postgresql://user:s3cr3t@host:65536/db",
    "postgresql://user:s3cr3t@one,two:port/db",
    "postgresql://user:s3cr3t@one,two,three/db?port=1,2",
    "postgresql://user:s3cr3t[@host/db",
    "postgresql://user:s3cr3t@[::1:1/db",
    "postgresql://user:s3cr3t@host/db?sslmode",
    "postgresql://user:s3cr3t@host/d\nb",
    "postgresql://s3cr3t\N{DOUBLE EXCLAMATION MARK}\N{ACCOUNT OF}:1@host/db",
    "postgresql://me:s3cr3t/db",
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_refused_is_not_shown(url: str) -> None:
    for make in store_from_url, PostgresStore, Scheduler, _listening:
        with pytest.raises(InvalidArgument) as caught:
            make(url)
        assert not [each for each in _chain(caught.value) if "s3cr3t" in f"{each} {vars(each)}"]


@pytest.mark.parametrize(
    ("url", "what", "nearest"),
    [
        ("x.db", "'x.db'", "sqlite:///x.db"),
        ("/var/lib/x.db", "'/var/lib/x.db'", "sqlite:////var/lib/x.db"),
        ("sqlite:x.db", "'sqlite:x.db'", "sqlite:///x.db"),
        ("sqlite://x.db", "'sqlite://x.db'", "sqlite:///x.db"),
        ("sqlite:///:memory:", "'sqlite:///:memory:'", "memory://"),
        ("sqlite+aiosqlite:///x.db", "'sqlite+aiosqlite:///x.db'", "sqlite:///x.db"),
        ("memory", "'memory'", "memory://"),
        ("postgres//me:pw@db.example/app", "'postgres//***@db.example/app'", "postgresql://user:password@db.example/app"),
        ("postgresql:me:pw@h:5/app", "'postgresql:***@h:5/app'", "postgresql://user:password@h:5/app"),
        ("postgresql+asyncpg://h/app?ssl=1", "'postgresql+asyncpg://h/app'", "postgresql://h/app"),
        ("host=h user=me password='p w' dbname=app", "\"host=h user=*** password=*** dbname=app\"",
         "postgresql://user:password@host/database"),
        ("redis//me:pw@cache:6379/0", "'redis//***@cache:6379/0'", "redis://user:password@cache:6379/0"),
        ("redis+asyncio://cache:6379/0", "'redis+asyncio://cache:6379/0'", "redis://cache:6379/0"),
        ("valky://cache", "'valky://cache'", "valkey://cache"),
        ("memcached://me:pw@cache:6379/0", "'memcached://***@cache:6379/0'", None),
        ("mysql://h/app", "'mysql://h/app'", None),
        ("me:pw@h/app", "'me:***@h/app'", None),
        ("", "''", None),
    ],
)  # fmt: skip
def test_an_address_of_no_store_is_shown_without_its_user_beside_the_nearest_valid_one(
    url: str, what: str, nearest: str | None
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Scheduler(url)

    assert caught.value.argument == "store"
    assert str(caught.value).endswith(f", got {what}".replace('"', "'"))
    assert ("; perhaps you mean " in str(caught.value)) is (nearest is not None)
    assert f"; perhaps you mean {nearest}, got " in str(caught.value) or nearest is None
    if nearest is not None:
        store_from_url(nearest)


@pytest.mark.parametrize("url", ["postgresql://me:s3cr3t@host:port/db", "postgresql://me:s3c/r3t@host/db"])
def test_an_address_that_cannot_be_read_is_shown_by_its_place(url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"must be postgresql://.*, got 'postgresql://\*\*\*@host"):
        Scheduler(url)


def test_what_is_no_text_is_refused_too() -> None:
    with pytest.raises(InvalidArgument) as caught:
        store_from_url(b"postgresql://user:s3cr3t@host/db")  # type: ignore[arg-type]
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(InvalidArgument):
        PostgresStore(None)  # type: ignore[arg-type]


def _listening(url: str) -> PostgresStore:
    return PostgresStore("postgresql://host/db", listen=url)


def _chain(exc: BaseException | None) -> list[BaseException]:
    return [] if exc is None else [exc, *_chain(exc.__cause__), *_chain(exc.__context__)]


# --- messages of a driver ---

SPECIAL = "aZ0:/?#[]@!$&'()*+,;=%|\\\"{}<>^`~ é€"
LIKE_THIS = st.tuples(*[st.text(SPECIAL, max_size=6)] * 2).map(lambda around: f"{around[0]}s3cr3t{around[1]}")
WAYS = {
    "encoded": lambda secret: f"postgresql://me:{quote(secret, safe='')}@127.0.0.1:1/db",
    "as it is": lambda secret: f"postgresql://me:{secret}@127.0.0.1:1/db",
    "in the query": lambda secret: f"postgresql://127.0.0.1:1/db?user=me@there&password={quote_plus(secret)}",
    "as it is in the query": lambda secret: f"postgresql://127.0.0.1:1/db?user=me&password={secret}",
    "of a key": lambda secret: f"postgresql://me@127.0.0.1:1/db?sslpassword={quote(secret)}",
}


@given(LIKE_THIS, st.sampled_from(sorted(WAYS)), st.sampled_from([OSError, ValueError, asyncpg.InterfaceError]))
@example("12?s3cr3t", "as it is", ValueError)
@example("s3c@s3cr3t", "as it is in the query", OSError)
@example("s3cr3t&word", "in the query", asyncpg.InterfaceError)
def test_a_password_is_never_shown(secret: str, way: str, kind: type[Exception]) -> None:
    assert not [each for each in asyncio.run(_shown(WAYS[way](secret), kind)) if "s3cr3t" in each]


@given(LIKE_THIS, st.sampled_from(sorted(WAYS)), st.sampled_from(["postgresql://", "postgres//", "redis:", "mysql://"]))
@example("#@s3cr3t", "as it is in the query", "redis:")
def test_a_password_is_not_shown_of_an_address_that_is_none(secret: str, way: str, start: str) -> None:
    url = WAYS[way](secret).replace("postgresql://", start)

    assert "s3cr3t" not in f"{shown(url)} {nearest(url)}"


async def _shown(url: str, kind: type[Exception]) -> list[str]:
    """Return everything that a scheduler shows when its driver repeats the address."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    shown = []

    async def connect(dsn: str, **_: Any) -> None:
        raise kind(f"cannot connect to {dsn} (given {dsn!r})")

    log = logging.getLogger("kaiju_app")
    log.addHandler(handler)
    try:
        with patch.object(asyncpg, "connect", connect):
            for store in (lambda: PostgresStore(url), lambda: PostgresStore("postgresql://127.0.0.1:1/db", listen=url)):
                try:
                    scheduler = Scheduler(store(), lease=LeaseTiming(2, 0.4, 1.3, 0.4, 0.1))
                    shown += [repr(scheduler), repr(store()._link.address)]
                    scheduler.schedule_task(_nothing, 60, name="task", scope=Scope.CLUSTER)
                    await scheduler.start()
                except InvalidArgument as exc:
                    shown += [repr(each) for each in _chain(exc)]
                    continue
                try:
                    shown.append(json.dumps(scheduler.json_repr()))
                    await scheduler.inspect()
                except StoreUnavailable as exc:
                    shown += [repr(each) for each in (exc, exc.__cause__)]
                finally:
                    await scheduler.stop()
    finally:
        log.removeHandler(handler)
    return shown + [f"{each.getMessage()} {each.exc_info}" for each in records]


async def _nothing() -> None:
    pass


def test_addresses_in_what_a_driver_says_are_shown_without_their_secrets() -> None:
    address = Address("postgresql://me:s3cr3t%2Fword@db/app?sslpassword=an+other%21")
    said = f"{address.dsn}: (redis://me:pw@cache/0) host=db password='p w' user=me sslpassword=an+other%21 dbname=app"

    assert address.without_secrets(said) == (
        "postgresql://db/app: (redis://***@cache/0) host=db password=*** user=*** sslpassword=*** dbname=app"
    )


@pytest.mark.parametrize("password", ["x", "e", "role", "nobody", "***", " "])
def test_the_text_of_a_message_is_never_replaced(password: str) -> None:
    said = 'InvalidAuthorizationSpecificationError: role "nobody" does not exist'

    assert Address(f"postgresql://me:{quote(password)}@db/app").without_secrets(said) == said
