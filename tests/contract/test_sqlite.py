"""The SQLite store alone: killed, stopped and forked processes, full disks, corrupt and newer files."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from contract.test_store_contract import (
    LOSSES,
    ME,
    NEVER,
    T0,
    TTL,
    YOU,
    S,
    add,
    check_made_again,
    held,
    only,
    record,
    row,
    taken,
)
from kaiju_app._core.clock import Clock, substitute, substituted
from kaiju_app._core.ledger_query import Ending, LedgerQuery, Place
from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.stores import SqliteStore
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._onlooker import Onlooker
from kaiju_app.stores._record import NextTick
from kaiju_app.stores._selection import Partition
from kaiju_app.stores._sql import made_by
from kaiju_app.stores._transitions import release, remove_dead
from kaiju_app.stores.sqlite import _connection, _place
from kaiju_app.stores.sqlite._records import SQL
from kaiju_app.stores.sqlite._store import AT_ONCE, TIMEOUT_S
from support.engines import change_one, claim_any
from support.program import WatchedProcess
from support.records import replace

pytestmark = pytest.mark.realtime

Open = Callable[..., Coroutine[None, None, SqliteStore]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def opened(path: Path, loop: asyncio.AbstractEventLoop) -> Iterator[Open]:
    """Open a store on the file. It is closed at the end."""
    stores: list[SqliteStore] = []

    async def opened(timeout_s: float = 2.0, **values: object) -> SqliteStore:
        stores.append(SqliteStore(path, timeout_s=timeout_s, **values))
        await stores[-1].open()
        return stores[-1]

    yield opened
    for store in stores:
        with suppress(StoreUnavailable):
            loop.run_until_complete(store.close())


@pytest.fixture
def store(opened: Open, loop: asyncio.AbstractEventLoop) -> SqliteStore:
    store: SqliteStore = loop.run_until_complete(opened())
    return store


PRELUDE = """
import asyncio, os, signal, sys, time
from kaiju_app.stores import SqliteStore
from kaiju_app.stores._record import LedgerRow, NextTick, StoredHold, TaskRecord
from kaiju_app.stores._answers import FinishRequest
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import hold

def say(*words):
    print(*words, flush=True)

path, me = sys.argv[1:]
store = SqliteStore(path)
"""

Start = Callable[..., WatchedProcess]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start a program whose coroutine ``main`` has a store on the same file."""
    running: list[WatchedProcess] = []

    def start(code: str, me: str = YOU) -> WatchedProcess:
        directory = path.parent / f"process-{len(running)}"
        directory.mkdir()
        program = PRELUDE + textwrap.dedent(code) + "\nasyncio.run(main())\n"
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, str(path), me]
        running.append(WatchedProcess(directory, command, path.parent))
        return running[-1]

    yield start
    for each in running:
        each.close()


HOLDER = """
async def main():
    await store.open()
    await store.heartbeat(me, "{}", 10_000_000)
    claimed = await store.claim(ClaimQuery(me, ["task"], ttl=10_000_000, limit=1))
    holding = lambda old, now: (hold(old, now, f"{me}#1", StoredHold("they", None, 2**62)), ())
    await store.change_each({"held": holding})
    say("has", [each.name for each in claimed.records])
    await asyncio.sleep(60)
"""

WRITER = """
async def main():
    await store.open()
    def half(records):
        assert records.swap(None, TaskRecord("half", 1, "{}", (1,), 0, 0, -1, 0), (), 9)
        say("inside")
        time.sleep(60)
    await store._worker.call(lambda: store._write(half))
"""


async def until(true: Callable[[], object], within_s: float) -> float:
    """Wait until the coroutine function *true* returns something true; return the seconds it took."""
    begin = time.monotonic()
    while not await true():
        assert time.monotonic() - begin < within_s
        await asyncio.sleep(0.002)
    return time.monotonic() - begin


# --- which instances are dead ---


async def test_a_killed_holder_is_dead_at_once_and_what_it_had_is_free(store: SqliteStore, start: Start) -> None:
    await add(store, "task", next_tick=0)
    await add(store, "held", next_tick=2**60)
    process = start(HOLDER)
    process.until(r"has \['task'\]")
    await store.heartbeat(ME, "{}", TTL)
    assert frozenset() == await store.dead()

    process.signal(signal.SIGKILL)
    await until(store.dead, within_s=1)

    dead = await store.dead()
    assert {YOU} == dead
    assert [] == await taken(store)
    for name in ("task", "held"):
        await change_one(
            store, name, lambda old, now: (new, ()) if old and (new := remove_dead(old, now, dead)) else None
        )
    assert ["task"] == await taken(store)
    assert {} == (await only(store, "held") or record()).holds
    assert {YOU} == await store.dead()  # Nothing refers to it any more, so its file is removed.
    assert frozenset() == await store.dead()


async def test_a_stopped_holder_is_not_dead(store: SqliteStore, start: Start) -> None:
    await add(store, "task", next_tick=0)
    await add(store, "held", next_tick=2**60)
    process = start(HOLDER)
    process.until("has")

    process.signal(signal.SIGSTOP)
    for _ in range(50):
        assert frozenset() == await store.dead()
        await asyncio.sleep(0.002)


async def test_a_holder_whose_process_copies_the_directory_of_the_file_is_not_dead(
    store: SqliteStore, start: Start
) -> None:
    """A backup does this: it opens and closes every file there."""
    process = start(
        """
        import shutil

        async def main():
            await store.open()
            await store.heartbeat(me, "{}", 10_000_000)
            shutil.copytree(os.path.dirname(path), os.path.dirname(path) + "-copy")
            say("copied")
            await asyncio.sleep(60)
        """
    )
    process.until("copied")
    assert frozenset() == await store.dead()

    process.signal(signal.SIGKILL)
    await until(store.dead, within_s=1)


async def test_a_holder_that_is_killed_is_dead_at_once_though_a_child_of_it_lives_on(
    store: SqliteStore, start: Start
) -> None:
    process = start(
        """
        async def main():
            await store.open()
            await store.heartbeat(me, "{}", 10_000_000)
            if os.fork() == 0:
                time.sleep(60)
            say("forked")
            await asyncio.sleep(60)
        """
    )
    process.until("forked")
    assert frozenset() == await store.dead()

    process.signal(signal.SIGKILL)
    await until(store.dead, within_s=1)


async def test_an_instance_that_let_go_is_not_dead_but_gone(store: SqliteStore, path: Path, start: Start) -> None:
    process = start(
        """
        async def main():
            await store.open()
            await store.heartbeat(me, "{}", 10_000_000)
            say("beat")
            sys.stdin.read()
            await store.close()
            await store.close()
        """
    )
    assert 0 == process.status()

    assert frozenset() == await store.dead()
    assert ["store.db", "store.db-shm", "store.db-wal"] == sorted(each.name for each in path.parent.glob("store*"))


async def test_two_stores_of_one_process_do_not_take_each_other_for_dead(
    path: Path, opened: Open, start: Start
) -> None:
    one, two = await opened(), await opened()
    await one.heartbeat(ME, "{}", TTL)
    await two.heartbeat(YOU, "{}", TTL)
    os.symlink(path.parent, link := f"{path.parent}-too")
    alias = SqliteStore(f"{link}/{path.name}")
    await alias.open()

    assert frozenset() == await one.dead() == await two.dead() == await alias.dead()
    await alias.close()
    process = start("async def main():\n    await store.open()\n    say('dead', await store.dead())")
    process.until(r"dead frozenset\(\)$")  # Looking did not release the locks either.


async def test_an_instance_has_traces_while_a_claim_or_a_hold_of_any_application_names_it(opened: Open) -> None:
    one, two = await opened(app="one"), await opened(app="two")

    async def traces() -> list[bool]:
        look = [lambda records, me=me: records.has_traces(me) for me in (ME, YOU)]
        return [await one._worker.call(partial(one._read, each)) for each in look]

    await add(two, "task", next_tick=0)
    assert [False, False] == await traces()
    assert ["task"] == await taken(two)
    assert [True, False] == await traces()
    await change_one(
        two, "task", lambda old, now: (released, ()) if (released := release(old, now, ME, old.rev)) else None
    )
    assert [False, False] == await traces()
    await held(two, "task", f"{YOU}#1", until=None)
    assert [False, True] == await traces()


# --- several processes ---


def test_twenty_processes_may_open_a_new_file_at_once(path: Path, start: Start) -> None:
    code = """
    async def main():
        began = time.monotonic()
        await store.open()
        new = TaskRecord("task", 1, "{}", (1,), 0, 0, -1, 1)
        changed = (await store.change_each({"task": lambda old, now: None if old else (new, ())}))["task"]
        say("made" if changed.done else "found", time.monotonic() - began)
    """
    processes = [start(code) for _ in range(20)]

    assert [0] * 20 == [each.status() for each in processes], [each.errors() for each in processes]
    told = [each.text.split() for each in processes]
    assert Counter(made=1, found=19) == Counter(word for word, _ in told)
    assert (
        max(float(took_s) for _, took_s in told) < TIMEOUT_S
    )  # Both took less than that together: none was close to giving up.
    assert [] == list(path.parent.glob("*.corrupt*"))


async def test_no_tick_is_claimed_twice_by_processes_that_compete(store: SqliteStore, start: Start) -> None:
    await add(store, *(f"task-{number % 7}-{number}" for number in range(300)), next_tick=0, rev=1)
    code = """
    async def main():
        await store.open()
        say("ready")
        query = ClaimQuery(me, [f"task-{number % 7}-{number}" for number in range(300)], ttl=10_000_000, limit=3)
        while claimed := (await store.claim(query)).records:
            for each in claimed:
                say("ran", each.name, each.next_tick, each.fence)
            following = [each.next_tick + 1 if each.next_tick < 3 else 2**60 for each in claimed]
            endings = [
                FinishRequest(each.name, each.fence, each.tick, each.schedule, NextTick(next, next))
                for each, next in zip(claimed, following)
            ]
            assert [None] * len(endings) == await store.finish(me, endings)
    """
    processes = [start(code, me=f"{number}" * 32) for number in range(3)]

    assert [0] * 3 == [each.status() for each in processes], [each.errors() for each in processes]
    ran = [line.split()[1:] for each in processes for line in each.text.splitlines() if line.startswith("ran")]
    assert Counter({(f"task-{n % 7}-{n}", str(tick)): 1 for n in range(300) for tick in range(4)}) == Counter(
        (name, tick) for name, tick, _ in ran
    )
    fences: dict[str, list[int]] = {}
    for name, _, fence in sorted(ran, key=lambda each: int(each[1])):
        fences.setdefault(name, []).append(int(fence))
    assert all(each == sorted(set(each)) for each in fences.values())


def writer(start: Start) -> WatchedProcess:
    """Start a process that is in the middle of a change."""
    process = start(WRITER)
    process.until("inside")
    return process


async def test_a_process_killed_inside_a_transaction_leaves_nothing_half_done(store: SqliteStore, start: Start) -> None:
    process = writer(start)

    process.signal(signal.SIGKILL)
    begin = time.monotonic()
    await add(store, "task")

    assert time.monotonic() - begin < 1
    assert [record()] == (await store.scan()).records


async def test_a_process_stopped_inside_a_transaction_makes_others_wait_and_breaks_nothing(
    opened: Open, start: Start
) -> None:
    store = await opened(timeout_s=0.4)
    await add(store, "task", next_tick=2**60)
    process = writer(start)
    process.signal(signal.SIGSTOP)

    begin = time.monotonic()
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.swap(None, record("new"))
    assert 0.15 < time.monotonic() - begin < 0.4
    assert ["task"] == [each.name for each in (await store.scan()).records]
    assert [] == (await claim_any(store, ME, ttl=TTL, limit=1)).records  # Nothing is due, so it needs no lock.
    several = await asyncio.gather(*(store.swap(None, record(f"{n}")) for n in range(4)), return_exceptions=True)
    assert {StoreUnavailable} == {type(each) for each in several}

    process.signal(signal.SIGKILL)
    await asyncio.sleep(0.4)
    await add(store, "new")
    names = {each.name for each in (await store.scan()).records}
    assert {"new", "task"} <= names
    assert "3" not in names  # It had not begun when its caller gave up.


async def test_a_call_that_is_stuck_is_given_up_and_ends_before_the_next_one_begins(
    opened: Open,
) -> None:
    store = await opened(timeout_s=0.2)
    stuck = asyncio.ensure_future(store._worker.call(lambda: time.sleep(0.5)))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s"):
        await store.swap(None, record("never"))
    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s"):
        await stuck
    await asyncio.sleep(0.4)

    assert [] == (await store.scan()).records


async def test_a_call_that_nobody_waits_for_any_more_does_not_begin(store: SqliteStore) -> None:
    stuck = asyncio.ensure_future(store._worker.call(lambda: time.sleep(0.1)))
    given_up = asyncio.ensure_future(store.swap(None, record()))
    await asyncio.sleep(0)
    given_up.cancel()
    await stuck

    assert [] == (await store.scan()).records
    assert given_up.cancelled()


def test_a_forked_child_has_a_connection_and_locks_of_its_own(path: Path, start: Start) -> None:
    process = start(
        """
        async def main():
            await store.open()
            await store.heartbeat(me, "{}", 10_000_000)
            await store.swap(None, TaskRecord("parent", 1, "{}", (1,), 0, 0, -1, 0))

        async def child():
            await store.heartbeat("4" * 32, "{}", 10_000_000)
            dead = await store.dead()
            changed = await store.swap(None, TaskRecord("child", 1, "{}", (1,), 0, 0, -1, 0))
            say("child", changed, [each.name for each in (await store.scan()).records], dead)
            await store.close()

        async def rest():
            say("parent", [each.name for each in (await store.scan()).records], await store.dead())
            say("wait")
            await asyncio.sleep(60)

        asyncio.run(main())
        if os.fork() == 0:
            asyncio.run(child())
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        main = rest
        """
    )
    process.until(r"child True \['child', 'parent'\] frozenset\(\)")
    process.until(r"parent \['child', 'parent'\] frozenset\(\)")
    process.until("wait")

    async def look() -> None:
        store = SqliteStore(path)
        await store.open()
        assert frozenset() == await store.dead()  # The child's end did not release the parent's lock.
        process.signal(signal.SIGKILL)
        await until(store.dead, within_s=1)
        await store.close()

    asyncio.run(look())


def test_a_fork_waits_for_the_end_of_a_transaction(start: Start) -> None:
    process = start(
        """
        async def main():
            await store.open()
            ended = []
            def slow(_):
                time.sleep(0.3)
                ended.append(True)
            writing = asyncio.ensure_future(store._worker.call(lambda: store._write(slow)))
            await asyncio.sleep(0.1)
            if not (child := os.fork()):
                os._exit(7 if ended else 8)
            say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            await writing
            assert await store.swap(None, TaskRecord("task", 1, "{}", (1,), 0, 0, -1, 0))
            await store.close()
        """
    )
    assert process.until("child (.*)")[1] == "7"
    assert 0 == process.status()


def test_forks_while_others_write_harm_nobody(start: Start) -> None:
    process = start(
        """
        async def write():
            for number in range(400):
                await store.swap(None, TaskRecord(f"{number}", 1, "{}", (1,), 0, 0, -1, 0))

        async def main():
            await store.open()
            writing = asyncio.ensure_future(write())
            children = 0
            while not writing.done():
                await asyncio.sleep(0.002)
                if children < 40:
                    children += 1
                    if not (child := os.fork()):
                        try:
                            import sqlite3
                            sqlite3.connect(path).execute("SELECT count(*) FROM kaiju_task").fetchone()
                        finally:
                            os._exit(0)
                    assert os.waitpid(child, 0)[1] == 0
            await writing
            say("wrote", len((await store.scan()).records), children > 20)
            await store.close()
        """
    )
    assert process.until("wrote (.*)")[1] == "400 True"
    assert 0 == process.status()


# --- the file ---


def write(path: Path, rubbish: bytes, offset: int = 0) -> None:
    """Overwrite a part of the file, as a bad disk does."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(offset)
        file.write(rubbish)


def size(path: Path) -> int:
    """Return the size of the write-ahead log beside a file."""
    return path.with_name(path.name + "-wal").stat().st_size


def remount(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


def aside(path: Path) -> list[Path]:
    """Return the files that were set aside, without the log files that belong to them."""
    return [each for each in path.parent.glob(f"{path.name}.corrupt-*") if each.suffix.count("-") == 1]


@pytest.mark.parametrize("rubbish", [b"\0" * 100, b"\0" * 4_096 + b"x" * 4_096, b"SQLite format 3\0" + b"\xff" * 5_000])
async def test_a_file_that_is_damaged_is_renamed_and_begun_anew(
    path: Path, opened: Open, caplog: pytest.LogCaptureFixture, rubbish: bytes
) -> None:
    """A power cut, for example, may leave zeros where something was being written."""
    write(path, rubbish)
    store = SqliteStore(path)
    await store.open()

    assert await store.swap(None, record())
    await store.close()
    (renamed,) = aside(path)
    assert rubbish == renamed.read_bytes()
    (line,) = caplog.messages
    assert str(path) in line
    assert renamed.name in line


@pytest.mark.parametrize("text", [b"x\n", b"store: sqlite\n" * 999, b"\0\0PK" * 999])
async def test_a_file_that_is_somebody_elses_is_refused_and_left_as_it_is(path: Path, text: bytes) -> None:
    write(path, text)
    store = SqliteStore(path)

    with pytest.raises(InvalidArgument, match=r"must be an SQLite file, or not exist yet: .* got '.*store\.db'"):
        await store.open()
    await store.close()
    assert {path.name: text} == {each.name: each.read_bytes() for each in path.parent.glob("*")}


async def test_a_directory_is_refused(path: Path) -> None:
    os.mkdir(path)
    store = SqliteStore(path)

    with pytest.raises(InvalidArgument, match=r"must be a file, and this is a directory: .*, got '.*store\.db'"):
        await store.open()
    await store.close()
    assert [] == os.listdir(path)


async def test_a_file_that_breaks_later_is_renamed_once_by_whoever_meets_it(
    path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await opened(), await opened()
    await add(one, *(f"task-{number}" for number in range(200)))
    await one._worker.call(one._database._checkpoint)  # Moves the log into the file.
    write(path, b"\x5a" * 99_999, 4096)

    for store in (one, two):
        for _ in range(2):
            with suppress(StoreUnavailable):
                await store.scan()
    assert await one.swap(None, record())
    assert [record()] == (await two.scan()).records
    late = sqlite3.DatabaseError("somebody else has met it as well, and comes second")
    late.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    await two.close()
    two._database._file = (0, 0)
    two._database._failed(late)
    assert [record()] == (await one.scan()).records
    assert 1 == len(aside(path))
    assert 1 == len(caplog.messages)


async def test_a_file_that_was_removed_is_begun_anew_by_all(path: Path, opened: Open) -> None:
    one, two = await opened(), await opened()
    await add(one, "old")
    for each in (path, f"{path}-wal", f"{path}-shm"):
        os.unlink(each)

    await add(two, "new")

    assert ["new"] == [each.name for each in (await one.scan()).records]
    await add(one, "more")
    assert ["more", "new"] == [each.name for each in (await two.scan()).records]


async def test_an_older_file_takes_the_steps_that_are_missing_or_none(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, "task")
    await store.close()
    monkeypatch.setattr(
        _connection, "SCHEMA", _connection.SCHEMA | {"next": "CREATE TABLE more (one);\nCREATE TABLE more (two)"}
    )
    with pytest.raises(StoreUnavailable, match="table more already exists"):
        await store.open()
    await store.close()
    monkeypatch.setattr(_connection, "SCHEMA", _connection.SCHEMA | {"next": "CREATE TABLE more (one);\n"})
    await store.open()

    assert record() == await only(store)
    with closing(sqlite3.connect(path)) as connection:
        assert [(len(_connection.SCHEMA),)] == connection.execute("SELECT version FROM kaiju_schema").fetchall()
        assert [] == connection.execute("SELECT * FROM more").fetchall()


async def test_a_file_that_is_a_step_behind_takes_that_step_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = _connection.SCHEMA
    monkeypatch.setattr(_connection, "SCHEMA", {number: schema[number] for number in "123456"})
    monkeypatch.setattr(_connection, "MADE", made_by(_connection.SCHEMA))
    old = SqliteStore(path)
    await old.open()
    await add(old, "task")
    await old.close()
    monkeypatch.undo()
    made: list[str] = []
    make = _connection._make
    monkeypatch.setattr(_connection, "_make", lambda at, what: (made.append(what.strip()), make(at, what)))

    store = SqliteStore(path)
    await store.open()
    assert ["task"] == [each.name for each in (await store.scan()).records]
    await store.close()

    assert [each.strip() for each in schema["7"].split(";")] == made


async def test_a_file_from_before_results_were_kept_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "SCHEMA", {"1": _connection.SCHEMA["1"]})
    old = SqliteStore(path)
    await old.open()
    await add(old, "task")
    await old.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO kaiju_run (app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, "
            "finished_at, attempts) VALUES ('default', 'task', 1, 0, 0, 1, 1, 1, 0, 'SUCCEEDED', 2, 1)"
        )
    monkeypatch.undo()

    store = SqliteStore(path)
    await store.open()
    kept = row(first=T0 + 5, result="42")
    assert record() == await only(store)
    assert await store.swap(record(), record(rev=T0), [kept])
    first, second = await store.history("task", 2)
    await store.close()

    assert (first.result, second) == (None, kept)


async def test_a_page_of_the_ledger_reads_only_what_is_asked_for(path: Path, store: SqliteStore) -> None:
    plans: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO kaiju_run (app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, "
            "reason, finished_at, attempts) VALUES ('default', ?, ?, 0, 0, 1, 1, 1, 0, ?, NULL, 2, 1)",
            [(f"task {n % 50}", n, "FAILED" if n % 1000 == 7 else "SUCCEEDED") for n in range(20_000)],
        )
        connection.commit()
        for name in ("places", "places_of_task", "edges", "edges_of_task", "runs"):
            terms = {
                "app": "default", "name": "task 1", "ending": "FAILED ", "endings": None, "since": 5, "tick": 99_999,
                "below": "", "manual": 0, "delivery": 0, "limit": 9, "ids": "[1, 2]",
            }  # fmt: skip
            plans += [each[3] for each in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", terms)]

    bounded = r"app=\? AND (<expr>|name)=\? AND first_tick>\? AND \(?first_tick(,[a-z,]+\))?<"
    found = [each for each in plans if "kaiju_run" in each]
    assert not [each for each in found if not each.startswith("SEARCH") or "B-TREE" in each], plans
    assert 2 == len([each for each in found if re.search(bounded, each)]), plans
    assert not [each for each in plans if "ORDER BY" in each], plans
    page = await store.runs(LedgerQuery(3, endings=frozenset([Ending("FAILED", None)]), below=Place(19_007)))
    assert [18_007, 17_007, 16_007] == [each.first_tick for each in page.rows]


async def test_lives_around_a_span_are_found_by_an_index(path: Path, store: SqliteStore) -> None:
    """Of the others no note is read: it may have 20 KB."""
    with closing(sqlite3.connect(path)) as connection:
        terms = {"app": "default", "since": 5, "until": 9, "most": 9}
        plans = [each[3] for each in connection.execute(f"EXPLAIN QUERY PLAN {SQL['lives_near']}", terms)]

    lives = [each for each in plans if "kaiju_life" in each]
    assert 3 == len(
        [each for each in lives if re.match(r"SEARCH kaiju_life USING COVERING INDEX kaiju_life_seen", each)]
    )
    assert len(lives) == 3, plans
    assert [each for each in plans if each.startswith("SEARCH kaiju_note USING PRIMARY KEY (app=? AND id=?)")], plans


async def test_a_lock_whose_file_was_removed_is_taken_again(path: Path, store: SqliteStore) -> None:
    await store.heartbeat(ME, "{}", TTL)
    (lock,) = path.parent.glob("*.lock")
    lock.unlink()
    await store.heartbeat(ME, "{}", TTL)

    assert lock.exists()
    other = SqliteStore(path)
    await other.open()
    assert frozenset() == await other.dead()
    await store.close()
    assert not lock.exists()
    await other.close()


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    "what",
    [
        *LOSSES,
        "DROP INDEX kaiju_task_claimed",
        "DROP TABLE kaiju_task; DROP TABLE kaiju_run; DROP TABLE kaiju_instance; DROP TABLE kaiju_schema",
    ],
)
async def test_what_was_dropped_is_made_again(path: Path, store: SqliteStore, what: str, running: bool) -> None:
    await add(store, "task")
    if not running:
        await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(what)

    if not running:
        await store.open()
    await check_made_again(store, what)
    await store.close()
    await store.open()  # Nothing but a start asks for the version.
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert [(len(_connection.SCHEMA),)] == connection.execute("SELECT version FROM kaiju_schema").fetchall()


async def test_a_newer_file_is_refused_and_left_as_it_is(path: Path, store: SqliteStore) -> None:
    await add(store, "task")
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE kaiju_schema SET version = 99")

    newer = SqliteStore(path)
    with pytest.raises(InvalidArgument, match=r"must have schema \d, .* not 99: upgrade kaiju_app"):
        await newer.open()
    await newer.close()
    with closing(sqlite3.connect(path)) as connection:
        assert (99,) == connection.execute("SELECT version FROM kaiju_schema").fetchone()


async def test_an_onlooker_makes_no_file(path: Path) -> None:
    onlooker = Onlooker(SqliteStore(path))

    with pytest.raises(InvalidArgument, match="must be a file that exists"):
        await onlooker.open()

    assert [] == os.listdir(path.parent)


async def test_an_onlooker_migrates_no_file(path: Path, store: SqliteStore) -> None:
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE kaiju_schema SET version = 1")

    onlooker = Onlooker(SqliteStore(path))
    with pytest.raises(InvalidArgument, match="not 1: look at it with the version of kaiju_app"):
        await onlooker.open()

    with closing(sqlite3.connect(path)) as connection:
        assert (1,) == connection.execute("SELECT version FROM kaiju_schema").fetchone()


async def test_an_onlooker_renames_no_file_that_is_corrupt(path: Path, store: SqliteStore) -> None:
    await add(store, "task")
    await store.close()
    os.truncate(path, 100)
    os.truncate(path, 8_192)

    onlooker = Onlooker(SqliteStore(path))
    with pytest.raises(StoreUnavailable, match=r"malformed|not a database"):
        await onlooker.open()
    await onlooker.close()

    assert "store.db" in os.listdir(path.parent)
    assert not [each for each in os.listdir(path.parent) if "corrupt" in each]


@pytest.mark.parametrize("holds", ["", "[1]", '{"x#1": {"unknown": 1}}'])
async def test_a_record_that_somebody_else_has_written_into_is_named(
    path: Path, store: SqliteStore, holds: str
) -> None:
    await add(store, "task", "other")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE kaiju_task SET holds = ? WHERE name = 'task'", (holds,))

    with pytest.raises(StoreUnavailable, match="the record of task 'task' cannot be read"):
        await store.scan()
    assert record("other") == await only(store, "other")


async def test_a_file_on_another_host_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_place, "file_system", lambda _: "nfs4")
    store = SqliteStore(path)

    with pytest.raises(InvalidArgument, match=r"must be on a disk of this host, not on nfs4"):
        await store.open()
    await store.close()
    assert [] == os.listdir(path.parent)


async def test_where_a_link_leads_to_is_what_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(far := path.parent / "far")
    os.symlink(far / "store.db", path)
    monkeypatch.setattr(_place, "file_system", lambda place: "nfs4" if place.name == "far" else "ext4")

    store = SqliteStore(path)
    with pytest.raises(InvalidArgument, match="not on nfs4"):
        await store.open()
    await store.close()


def test_the_file_system_is_found_out() -> None:
    assert "proc" == _place.file_system(Path("/proc"))
    assert _place.file_system(Path("/proc/no/such/place")) is None


async def test_a_directory_that_is_not_there_at_the_start_is_refused_and_later_is_waited_for(path: Path) -> None:
    place = path.parent / "later"
    store = SqliteStore(place / "store.db")
    with pytest.raises(InvalidArgument, match=f"make the directory {place}"):
        await store.open()
    os.mkdir(place)
    await store.open()
    assert await store.swap(None, record())
    os.rename(place, path.parent / "away")
    with pytest.raises(StoreUnavailable):
        await store.swap(None, record("other"))
    os.rename(path.parent / "away", place)

    assert await store.swap(None, record("other"))
    await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full and a read-only disk; only root may mount a small one")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


async def test_a_full_disk_makes_the_store_unavailable_until_there_is_room(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "store.db")
    await store.open()
    await add(store, "first")
    ballast = small_disk / "ballast"
    with suppress(OSError):
        write(ballast, b"x" * 2**21)

    made = []
    large = {"schedule": "x" * 9_000}
    with suppress(StoreUnavailable):
        for number in range(2000):
            assert await store.swap(None, record(f"task-{number}", **large))
            made.append(f"task-{number}")
    assert len(made) < 200
    with pytest.raises(StoreUnavailable, match="full"):
        await store.swap(None, record("another", **large))
    os.unlink(ballast)

    assert await store.swap(None, record("last"))
    assert {"first", "last", *made} == {each.name for each in (await store.scan()).records}
    await store.close()


async def test_a_read_only_disk_makes_the_store_unavailable(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "store.db")
    await store.open()
    await add(store, "first")
    await store.close()
    remount(small_disk, "ro")

    with pytest.raises(StoreUnavailable):
        await store.open()
    with pytest.raises(StoreUnavailable, match=r"readonly|read-only|Read-only|unable to open"):
        await store.swap(None, record("second"))
    remount(small_disk, "rw")
    assert await store.swap(None, record("second"))
    await store.close()


# --- its log, its clock, its size ---


async def test_the_log_is_written_back_from_time_to_time(path: Path, store: SqliteStore) -> None:
    one = record(schedule="x" * 2_000)
    await store.swap(None, one)
    largest = 0
    for _ in range(3 * _connection.CHANGES_A_CHECKPOINT):
        await store.swap(one, one := replace(one, rev=one.rev + 1))
        largest = max(largest, size(path))

    assert largest < 12 * 2**20
    assert one == await only(store)


async def test_a_reader_without_end_stops_nobody_and_is_named(
    path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "MUCH_LOG", 0)
    monkeypatch.setattr(_connection, "CHANGES_A_CHECKPOINT", 10)
    monkeypatch.setattr(_connection, "is_affected", lambda _: True)
    await add(store, "task")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert (1,) == reader.execute("SELECT count(*) FROM kaiju_task").fetchone()
        for number in range(9):
            await add(store, f"{number}")
    assert ["end the long read transaction" in line for line in caplog.messages] == [True]
    for number in range(10, 20):
        await add(store, f"{number}")
    assert len(caplog.messages) == 1
    assert 0 == size(path)


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_of_sqlite_that_may_corrupt_their_log_are_known(version: tuple[int, int, int], affected: bool) -> None:
    assert affected == _connection.is_affected(version)


@pytest.mark.parametrize(("step", "now"), [(-S, 0), (-S - 1, -S - 1), (-3600 * S, -3600 * S), (5, 5)])
async def test_a_small_step_back_of_the_clock_is_waited_out_and_a_large_one_followed(
    opened: Open, step: int, now: int
) -> None:
    shown = 1_000_000 * S
    store = await opened(clock=lambda: shown)
    await add(store, "task", rev=shown)
    start = shown
    shown += step

    assert start + now == (await store.scan()).now
    assert start + now == (await change_one(store, "task", lambda old, now: None)).now


async def test_a_claim_tells_the_time_at_its_end(opened: Open) -> None:
    """Runs start by that time. An earlier one would add the duration of the transaction to their lateness."""
    readings = iter(range(T0, T0 + S, 1_000))
    store = await opened(clock=lambda: next(readings))
    await add(store, "task", next_tick=T0)

    claimed = await claim_any(store, ME, ttl=TTL, limit=1)

    assert claimed.records[0].claimed_at is not None
    assert claimed.records[0].claimed_at < claimed.now


async def test_a_clock_is_smoothed_by_records_of_its_own_application_only(opened: Open) -> None:
    now = 1_000_000 * S
    one, two = await opened(app="one", clock=lambda: now), await opened(app="two", clock=lambda: now)
    await add(two, "task", rev=now + 5)

    assert (now, now + 5) == ((await one.scan()).now, (await two.scan()).now)


async def test_the_wait_for_the_lock_ends_although_the_clock_of_a_test_stands_still(path: Path) -> None:
    connection, before = _connection.Connection(path, busy_ms=100), substituted()
    connection.write(lambda _: None)
    substitute(Clock(lambda: 0, lambda: 0))
    try:
        with closing(connection), closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                connection.write(lambda _: None)
    finally:
        substitute(before)

    assert 0.05 < time.monotonic() - began < 2


async def test_an_idle_poll_takes_no_lock(path: Path, store: SqliteStore) -> None:
    far = 2**60
    await add(store, "later", "held", "claimed", "skipped", next_tick=far)
    await add(store, "shifted", next_tick=0, next_due=far)
    await held(store, "held", until=far)
    await change_one(store, "held", lambda old, now: (replace(old, rev=old.rev + 1, next_due=0, manual_at=0), ()))
    await change_one(
        store, "claimed", lambda old, now: (replace(old, rev=old.rev + 1, next_due=0, owner=YOU, manual_at=0), ())
    )
    await change_one(store, "skipped", lambda old, now: (replace(old, rev=old.rev + 1, next_due=0, manual_at=0), ()))
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")

        claimed = await claim_any(store, ME, ttl=TTL, limit=5, skip={"skipped"})

        assert ([], far) == (claimed.records, claimed.next_claim_at)
        assert [] == (await store.renew(ME, {}, {}, TTL)).own_claims
        assert not (await change_one(store, "later", lambda old, now: None)).done


async def test_claims_renewals_and_endings_take_the_same_statements_however_many_there_are(opened: Open) -> None:
    clock, stated = T0, Counter[str]()
    store = await opened(clock=lambda: clock, history=3)
    await add(store, *(f"task {number}" for number in range(303)), next_tick=T0)

    def trace() -> None:
        store._database._ready().set_trace_callback(lambda sql: stated.update([" ".join(sql.split()[:3])]))

    await store._worker.call(trace)
    taken: dict[int, list[Counter[str]]] = {}
    for limit in (3, 300):
        counts = taken[limit] = []
        stated.clear()
        claims = (await claim_any(store, ME, ttl=TTL, limit=limit)).records
        counts.append(stated.copy())
        stated.clear()
        assert (
            len(claims)
            == limit
            == len((await store.renew(ME, {each.name: each.fence for each in claims}, {}, TTL)).runs)
        )
        counts.append(stated.copy())
        stated.clear()
        endings = [
            FinishRequest(
                each.name, each.fence, each.tick, each.schedule, NextTick(NEVER, NEVER), (row(each.name, each.tick),)
            )
            for each in claims
        ]
        assert [None] * limit == await store.finish(ME, endings)
        counts.append(stated.copy())

    assert taken[3] == taken[300]
    _, renewal, ending = taken[300]
    # Each with BEGIN, COMMIT, a look at the clock, and how often to look for the lock, before and after BEGIN:
    # read, write, own claims and holds; read, write, rows and trim.
    assert (renewal.total(), ending.total()) == (9, 9)


async def test_a_change_finds_the_short_moments_in_which_the_lock_is_free(path: Path, store: SqliteStore) -> None:
    await add(store, "task")
    over, holds = Event(), 0

    def hold_again_and_again() -> None:
        nonlocal holds
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as greedy:
            while not over.is_set():
                greedy.execute("BEGIN IMMEDIATE")
                time.sleep(0.3)
                greedy.execute("COMMIT")
                holds += 1
                time.sleep(0.01)

    greedy = Thread(target=hold_again_and_again)
    greedy.start()
    try:
        for number in range(3):
            await change_one(
                store, "task", lambda old, now, number=number: (replace(old, rev=old.rev + number + 1), ())
            )
    finally:
        over.set()
        greedy.join()

    assert holds <= 7  # SQLite itself looks every 100 ms by then, and gives up after one second.


async def test_applications_do_not_see_each_others_tasks(opened: Open) -> None:
    one, two = await opened(app="one"), await opened(app="two")
    await add(one, "task", next_tick=0)
    await one.swap(None, record("rows"), [row()])
    await one.heartbeat(ME, "{}", TTL)
    await add(one, "asked", next_tick=2**60, manual_at=1)

    assert [] == (await two.scan()).records == (await two.scan(only_active=True)).records
    assert [] == await taken(two)
    for rank in range(2):
        assert (await claim_any(two, YOU, ttl=TTL, limit=1, partition=Partition(2, rank, TTL))).next_claim_at is None
    assert (await claim_any(two, YOU, ttl=TTL, limit=1)).next_claim_at is None
    assert (await change_one(two, "task", lambda old, now: None)).old is None
    assert [] == await two.history("task", 9)
    assert [YOU] == [each.id for each in await two.heartbeat(YOU, "{}", TTL)]
    await add(two, "task", next_tick=0)
    assert ["task"] == await taken(two)
    assert ["task", "asked"] == await taken(one)


async def test_applications_do_not_change_each_others_tasks(opened: Open) -> None:
    one, two = await opened(app="one", history=9), await opened(app="two", history=9)
    mine, theirs = record(rev=S, next_tick=0), record(rev=S, next_tick=2**60)
    await one.swap(None, mine, [row(first_tick=number, finished_at=0) for number in range(4)])
    await two.swap(None, theirs, [row(first_tick=number, finished_at=0) for number in range(4)])

    for store, old in ((one, mine), (two, theirs)):
        assert old == (await change_one(store, "task", lambda old, now: None)).old
    changed = replace(mine, rev=2 * S)
    assert await one.swap(mine, changed)
    assert not await two.swap(changed, None)
    assert [theirs] == (await two.scan()).records == (await two.scan(["task"])).records
    assert await two.swap(theirs, None)
    assert [changed] == (await one.scan()).records
    assert [0, 1, 2, 3] == [each.first_tick for each in await one.history("task", 9)]
    assert [0, 1, 2, 3] == [each.first_tick for each in await two.history("task", 9)]


async def test_rows_of_other_applications_do_not_count_as_the_last_ones_of_a_task(opened: Open) -> None:
    one, two = await opened(app="one", history=2), await opened(app="two", history=9)
    mine, theirs = record(rev=S), record(rev=S)
    await one.swap(None, mine, [row(first_tick=number) for number in range(2)])
    await two.swap(None, theirs, [row(first_tick=number) for number in range(4)])
    await one.swap(mine, replace(mine, rev=2 * S), [row(first_tick=2)])
    assert [1, 2] == [each.first_tick for each in await one.history("task", 9)]
    await one.swap(replace(mine, rev=2 * S), mine, [row(first_tick=number) for number in range(3, 9)])

    assert [7, 8] == [each.first_tick for each in await one.history("task", 9)]
    assert [0, 1, 2, 3] == [each.first_tick for each in await two.history("task", 9)]


async def test_applications_do_not_see_who_has_what_of_each_other(opened: Open) -> None:
    one, two = await opened(app="one"), await opened(app="two")
    await add(one, "claimed", next_tick=0)
    await add(one, "held", next_tick=2**60)
    assert ["claimed"] == [each.name for each in (await claim_any(one, ME, ttl=0, limit=1)).records]
    await held(one, "held", f"{ME}#1", until=0)

    assert [] == (await two.scan(only_active=True)).records
    assert [] == (await claim_any(two, ME, ttl=TTL, limit=1)).expired
    renewed = await two.renew(ME, {}, {}, TTL)
    assert ([], set()) == (renewed.own_claims, renewed.own_holds)
    await asyncio.sleep(0.001)
    assert ["claimed", "held"] == [each.name for each in (await claim_any(one, YOU, ttl=TTL, limit=1)).expired]


async def test_applications_tidy_only_what_is_their_own(opened: Open) -> None:
    one, two = await opened(app="one"), await opened(app="two")
    for store in (one, two):
        await store.swap(None, record(), [row(first_tick=number, finished_at=0) for number in range(4)])
        await store.heartbeat(ME, "{}", TTL)
        await store.heartbeat(YOU, "{}", TTL)

    assert 3 == await one.prune(keep=2, age=99 * S)
    assert 4 == len(await two.history("task", 9))
    await one.deregister(YOU)
    assert [ME, YOU] == [each.id for each in await two.heartbeat(ME, "{}", TTL)]


async def test_applications_forget_only_instances_of_their_own(opened: Open) -> None:
    now = 1_000_000 * S
    one, two = await opened(app="one", clock=lambda: now), await opened(app="two", clock=lambda: now)
    for store in (one, two):
        await store.heartbeat(YOU, "{}", TTL)
    now += TTL

    await one.prune(keep=9, age=S)

    assert [ME] == [each.id for each in await one.heartbeat(ME, "{}", TTL)]
    assert [ME, YOU] == [each.id for each in await two.heartbeat(ME, "{}", TTL)]


async def test_rows_beyond_what_one_transaction_deletes_go_too(opened: Open) -> None:
    store = await opened(history=AT_ONCE * 3)
    rows = [row(first_tick=number, finished_at=0) for number in range(AT_ONCE * 2 + 7)]
    await store.swap(None, record(), rows)

    assert AT_ONCE * 2 + 4 == await store.prune(keep=3, age=2**60)
    assert rows[-3:] == await store.history("task", 99)


async def test_a_lock_that_somebody_holds_while_opening_is_not_waited_for_for_ever(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    store = SqliteStore(path, timeout_s=2)
    with pytest.raises(StoreUnavailable, match="has been opening a store"):
        await store.open()
    os.close(descriptor)

    assert await store.swap(None, record())
    await store.close()


async def test_nothing_is_logged_where_nothing_happened(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "kaiju_app")
    store = await opened()
    await add(store, "task", next_tick=0)
    await taken(store)
    await store.close()
    assert [] == caplog.messages
