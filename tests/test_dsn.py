"""What is shown of a database's address, and what never is."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.scheduler import LeaseTiming, Scheduler, Scope
from kaiju_app.stores import store_from_url
from kaiju_app.stores._dsn import Address
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
        with pytest.raises(InvalidArgument, match=r"an address that is not shown: it may hold a password") as caught:
            make(url)
        assert not [each for each in _chain(caught.value) if "s3cr3t" in str(each)]


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


# --- what a driver says ---

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


async def _shown(url: str, kind: type[Exception]) -> list[str]:
    """Return all that is to be seen of a scheduler whose driver tells all that it was told."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    shown = []

    async def connect(dsn: str, **_: Any) -> None:
        place = urlsplit(dsn)
        password = unquote(place.netloc.partition("@")[0].partition(":")[2])
        told = [password, *(value for name, value in parse_qsl(place.query) if "password" in name)]
        raise kind(f"cannot connect to {dsn} with {' or '.join(told)}")

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


def test_what_a_driver_says_is_shown_without_what_is_secret() -> None:
    address = Address("postgresql://me:s3cr3t%2Fword@db/app?sslpassword=an+other%21")
    said = f"{address.dsn}: me:s3cr3t/word, s3cr3t%2Fword, 'an other!', an+other%21"

    assert address.without_secrets(said) == "***: me:***, ***, '***', ***"
