"""Each method of the test server has its effect on clients, and the server leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from support.postgres_server import (
    NOBODY,
    SERVER_VARIABLE,
    ExternalServer,
    Missing,
    Programs,
    Server,
    copied,
    found_or_skip,
    is_dead,
    shared_server,
)

pytestmark = pytest.mark.realtime

TABLE = "CREATE TABLE kept AS SELECT 1 AS number"
KEPT = "SELECT number FROM kept"


async def connected(server: ExternalServer) -> Any:
    return await asyncpg.connect(server.dsn(), timeout=5)


async def lost(query: Coroutine[Any, Any, Any]) -> bool:
    try:
        await query
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return True
    return False


def reached(condition: Any, within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(done)


def test_it_answers_also_in_a_running_loop(server: Server) -> None:
    async def in_loop() -> tuple[int, int]:
        connection = await connected(server)
        answer = await connection.fetchval("SELECT 1")
        await connection.close()
        return answer, server.ask("SELECT 2")

    assert (1, 2) == asyncio.run(in_loop())
    assert server.is_running


def test_databases_come_and_go_whoever_is_connected(server: Server) -> None:
    async def dropped() -> bool:
        connection = await asyncpg.connect(server.dsn("one"), timeout=5)
        server.drop_database("one")
        was_lost = await lost(connection.fetchval("SELECT 1"))
        connection.terminate()
        return was_lost

    server.create_database("one")
    assert "one" == server.ask("SELECT current_database()", "one")
    assert asyncio.run(dropped())
    server.drop_database("one")
    assert 0 == server.ask("SELECT count(*) FROM pg_database WHERE datname = 'one'")


def test_all_its_processes_run_as_somebody_without_rights(server: Server) -> None:
    server.freeze()  # So that none of its processes ends meanwhile.
    uids = {each.uids().effective for each in server.processes()}
    server.thaw()

    assert {os.getuid() or NOBODY} == uids


def test_frozen_it_takes_queries_and_connections_and_answers_when_thawed(server: Server) -> None:
    async def asked() -> tuple[bool, list[int]]:
        connection = await connected(server)
        server.freeze()
        late = asyncio.create_task(connected(server))
        query = asyncio.create_task(connection.fetchval("SELECT 1"))
        await asyncio.wait({late, query}, timeout=0.3)
        silent = not (late.done() or query.done())
        server.thaw()
        answers = [await query, await (await late).fetchval("SELECT 2")]
        await connection.close()
        await late.result().close()
        return silent, answers

    assert (True, [1, 2]) == asyncio.run(asked())


def test_killed_it_comes_back_with_what_was_committed(programs: Programs) -> None:
    async def killed(server: Server) -> bool:
        connection = await connected(server)
        await connection.execute(TABLE)
        server.kill()
        return await lost(connection.fetchval("SELECT 1"))

    with Server(programs, fsync=True) as server:
        before = server.processes()
        assert "on" == server.ask("SHOW fsync")
        assert asyncio.run(killed(server))
        assert all(map(is_dead, before))
        assert not server.is_running
        server.start()
        assert 1 == server.ask(KEPT)
        server.freeze()
        server.kill()  # A killed server leaves nothing behind either.
    assert not server.directory.exists()


def test_stopped_in_order_or_hard_it_comes_back_with_its_settings(programs: Programs) -> None:
    with Server(programs, settings={"max_connections": 20}) as server:
        server.ask(TABLE)
        server.stop()
        assert not server.is_running
        server.start()
        server.stop_hard()
        assert not server.is_running
        server.start()
        assert 1 == server.ask(KEPT)
        assert ("20", "off") == (server.ask("SHOW max_connections"), server.ask("SHOW fsync"))


def test_it_has_more_in_its_environment_if_that_is_given(programs: Programs) -> None:
    with Server(programs, environment={"KAIJU_TEST": "given"}) as server:
        assert "given" == server.processes()[0].environ()["KAIJU_TEST"]


def test_a_standby_follows_and_is_written_to_when_promoted(programs: Programs) -> None:
    with Server(programs) as first, first.standby() as second:
        first.ask(TABLE)
        assert reached(lambda: second.ask("SELECT to_regclass('kept') IS NOT NULL"))
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            second.ask("INSERT INTO kept VALUES (2)")
        first.kill()
        second.promote()
        second.ask("INSERT INTO kept VALUES (2)")
        assert 2 == second.ask("SELECT max(number) FROM kept")


def test_nothing_is_left_even_of_a_frozen_one(programs: Programs) -> None:
    with Server(programs) as server:
        processes = server.processes()
        server.freeze()

    assert all(map(is_dead, processes))
    assert not server.directory.exists()


def test_a_directory_that_is_given_is_left_to_its_owner(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    server = Server(programs, tmp_path / "given")
    server.close()

    assert server.directory.exists()


ABANDONED = """
import sys
from support.postgres_server import Server, find_programs
server = Server(find_programs())
server.start()
if sys.argv[1] == "frozen":
    server.freeze()
print(server.directory, *(each.pid for each in server.processes()), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_it_ends_with_tests_that_were_killed(programs: Programs, state: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ABANDONED, state],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        directory, *pids = tests.stdout.readline().split()
        processes = [psutil.Process(int(pid)) for pid in pids]
        tests.send_signal(signal.SIGKILL)

    assert reached(lambda: all(map(is_dead, processes)))
    assert reached(lambda: not Path(directory).exists())


def test_programs_that_only_root_can_read_are_copied(programs: Programs, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("NOT TESTED: only root runs them as somebody else")
    tmp_path.chmod(0o700)
    package = programs.directory.parents[1]
    for each in package.parent.glob(f"{package.name}*"):
        shutil.copytree(each, tmp_path / each.name, ignore=shutil.ignore_patterns("include"))
    private = Programs(tmp_path / programs.directory.relative_to(package.parent))

    assert not private.can_be_run()
    assert copied(private).can_be_run()


def test_all_tests_share_one_server_which_is_the_given_one_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = found_or_skip(shared_server())
    assert shared_server() is shared
    assert 1 == shared.ask("SELECT 1")

    monkeypatch.setenv(SERVER_VARIABLE, "postgresql://me:secret@db.example:5433/mine?sslmode=disable")
    given = shared_server.__wrapped__()  # Without the cache.

    assert isinstance(given, ExternalServer)
    assert not isinstance(given, Server)
    assert "postgresql://me:secret@db.example:5433/mine?sslmode=disable" == given.dsn()
    assert "postgresql://me:secret@db.example:5433/other?sslmode=disable" == given.dsn("other")


def test_a_given_server_without_a_port_is_at_the_usual_one() -> None:
    assert "postgresql://me@db.example:5432/mine" == ExternalServer("postgresql://me@db.example/mine").dsn()
    assert "postgresql://me:secret@[::1]:5432/other?a=b" == ExternalServer("postgresql://me:secret@[::1]/mine?a=b").dsn(
        "other"
    )


def test_where_there_is_none_the_test_says_so() -> None:
    with pytest.raises(pytest.skip.Exception, match="NOT TESTED: no PostgreSQL: it rained"):
        found_or_skip(Missing("it rained"))
