"""A store that is emptied under three processes: what each way does, and how long it takes to the first run after.

The processes register their tasks again within a poll. Nobody claims them for the grace of a lease, in which whoever
was running one puts its claim back.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from kaiju_app._core.clock import steady_us
from processes.fixtures import LONG, OFTEN, Figures, Group, Make
from processes.group import LEASE, Processes, seconds, us, violations
from processes.hosts import Hosts

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

RETRY_S = 0.2  # The first pause after a call that failed because of the loss, at most; two calls may fail.
BUSY_S = 1.0  # Slack for a busy machine.
BOUND_S = LEASE.poll_s + LEASE.grace_s + 2 * RETRY_S + OFTEN["interval_s"] + BUSY_S
OLDER_COPY = "an older copy comes back"
TABLES = ("kaiju_task", "kaiju_run", "kaiju_instance", "kaiju_life", "kaiju_note")

# --- SQLite ---


def files_of(path: Path) -> list[Path]:
    return [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")]


def file_removed(path: Path) -> None:
    for each in files_of(path):
        each.unlink(missing_ok=True)


def everything_removed(path: Path) -> None:
    """Remove the files of the store as ``rm store.db*`` does, the locks of the processes included."""
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink(missing_ok=True)


def file_replaced(path: Path) -> None:
    new = path.with_name("new")
    sqlite3.connect(new).close()
    new.touch()
    for each in files_of(path)[1:]:
        each.unlink(missing_ok=True)
    new.rename(path)


def file_damaged(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 4096)
    for each in files_of(path)[1:]:
        with each.open("r+b") as file:
            file.write(b"\xff" * 4096)


def executed(sql: str) -> Callable[[Path], None]:
    def execute(path: Path) -> None:
        with closing(sqlite3.connect(path, timeout=5)) as connection, connection:
            connection.executescript(sql)

    return execute


OLDER = "; ".join(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM older_{table}" for table in TABLES)
KEPT = "; ".join(f"CREATE TABLE older_{table} AS SELECT * FROM {table}" for table in TABLES)

IN_A_FILE = {
    "the file is removed": file_removed,
    "all files are removed": everything_removed,
    "the file is replaced by an empty one": file_replaced,
    "the file is damaged": file_damaged,
    "the rows are deleted": executed("DELETE FROM kaiju_task"),
    "all rows are deleted": executed("; ".join(f"DELETE FROM {table}" for table in TABLES)),
    "the table is dropped": executed("DROP TABLE kaiju_task"),
    "the history is dropped": executed("DROP TABLE kaiju_run"),
    "what instances told is dropped": executed("DROP TABLE kaiju_life; DROP TABLE kaiju_note"),
    "all tables are dropped": executed("; ".join(f"DROP TABLE {table}" for table in (*TABLES, "kaiju_schema"))),
    OLDER_COPY: executed(f"BEGIN IMMEDIATE; {OLDER}; COMMIT"),
}


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=pytest.mark.mechanism if way == "the file is removed" else ()) for way in IN_A_FILE],
)
def test_a_file_that_is_emptied_is_filled_again(group: Group, figures: Figures, way: str) -> None:
    processes = group(**OFTEN)
    start(processes)
    executed(KEPT)(processes.path)

    goes_on(processes, figures, way, lambda: IN_A_FILE[way](processes.path))


@pytest.mark.parametrize("way", IN_A_FILE)
def test_a_run_goes_on_though_its_file_is_emptied(group: Group, figures: Figures, way: str) -> None:
    processes = group(**LONG)
    start(processes)
    executed(KEPT)(processes.path)

    stays(processes, figures, lambda: IN_A_FILE[way](processes.path))


# --- PostgreSQL ---

IN_A_DATABASE = {
    "the rows are deleted": "DELETE FROM kaiju_task",
    "the tables are truncated": f"TRUNCATE {', '.join(TABLES)}",
    "the table is dropped": "DROP TABLE kaiju_task",
    "the history is dropped": "DROP TABLE kaiju_run",
    "what instances told is dropped": "DROP TABLE kaiju_life, kaiju_note",
    "all tables are dropped": f"DROP TABLE {', '.join(TABLES)}, kaiju_schema",
    "the schema is dropped": "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO public",
    OLDER_COPY: "BEGIN; "
    + "; ".join(
        f"DELETE FROM {table}; INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM older_{table}"
        for table in TABLES
    )
    + "; COMMIT",
}


def execute(processes: Hosts, sql: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(processes.server.dsn(processes.database))
        await connection.execute(sql)
        await connection.close()

    asyncio.run(execute())


@pytest.mark.parametrize("way", IN_A_DATABASE)
def test_a_database_that_is_emptied_is_filled_again(hosts: Make, figures: Figures, way: str) -> None:
    processes = hosts(**OFTEN)
    start(processes)
    execute(processes, KEPT)

    goes_on(processes, figures, way, lambda: execute(processes, IN_A_DATABASE[way]))


@pytest.mark.parametrize("way", IN_A_DATABASE)
def test_a_run_goes_on_though_its_database_is_emptied(hosts: Make, figures: Figures, way: str) -> None:
    processes = hosts(**LONG)
    start(processes)
    execute(processes, KEPT)

    stays(processes, figures, lambda: execute(processes, IN_A_DATABASE[way]))


# --- what has to hold ---


def start(processes: Processes) -> None:
    """Start the processes, and wait until all have registered the task: one that has not cannot know of a loss."""
    processes.start_ready("a", "b", "c")
    processes.wait_until(steady_us() + us(2 * LEASE.poll_s))
    processes.next_act()


def goes_on(processes: Processes, figures: Figures, way: str, empty: Callable[[], None]) -> None:
    """Empty the store between and during short runs, and check that the task goes on."""
    processes.next_begin(steady_us())
    empty()
    lost = steady_us()
    end = processes.wait_for_line(lambda each: each.event == "end", since=lost)
    again = processes.next_begin(end.at)
    for _ in range(3):
        last = processes.next_begin(again.at + 1)

    figures(first_run_after_s=seconds(lost, again.at), bound_s=BOUND_S)
    assert seconds(lost, again.at) < BOUND_S
    assert last.fence > again.fence > end.fence
    if way == OLDER_COPY:
        # Whoever reads it first cannot know what it is, and may claim by it beside the run that goes on: so says the
        # README. It must be over at once.
        processes.next_begin(last.at + 1)
        assert violations([each for each in processes.entries if each.at >= last.at], "task") == []
        assert not any("which is a bug" in each.errors.read_text() for each in processes.all)
        return
    processes.check()
    for each in processes.all:
        assert "another instance runs the tick" not in each.errors.read_text()


def stays(processes: Processes, figures: Figures, empty: Callable[[], None]) -> None:
    """Empty the store during a long run, and check that it goes on, has its lease, and that no other begins."""
    runner = processes.next_act()
    empty()
    lost = steady_us()
    processes.wait_until(lost + us(LEASE.ttl_s + LEASE.grace_s + 2 * LEASE.poll_s + BUSY_S))
    act = processes.next_act(since=steady_us())

    figures(goes_on_for_s=seconds(lost, act.at))
    processes.check()
    assert (runner.who, runner.fence) == (act.who, act.fence)
    assert 1 == len({each.fence for each in processes.entries if each.event == "begin"})
