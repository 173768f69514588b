"""The example as a user starts it, as a process in a directory of its own; and every way to stop it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import psutil
import pytest

from support.program import PATIENCE_S, WatchedProcess

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "host_monitor.py"
DATABASE = "host_monitor.db"
TASKS = ["sample", "save", "roll up minutes", "refresh cache", "prune", "check database", "check name://localhost"]
ONLY_IN_MEMORY = '"not saved yet": [1-9]'  # What health() reports of samples that are not in the file yet.


class Monitor(WatchedProcess):
    """The running example."""

    def page(self, path: str = "") -> str:
        """Return the status page."""
        url = re.search(r"http://[\d.:]+/", self.text)
        assert url is not None
        with urllib.request.urlopen(url[0] + path, timeout=PATIENCE_S) as page:
            return page.read().decode()

    def page_until(self, pattern: str, path: str = "") -> str:
        """Read the status page until it matches *pattern*, and return it."""
        while not re.search(pattern, page := self.page(path), re.M):
            time.sleep(0.05)
        return page

    def until_it_ends(self) -> None:
        """Wait until the signal has been handled."""
        with suppress(OSError):  # The status page is already closed.
            self.page_until(" stopped ")

    def until_it_has_opened(self, path: Path) -> None:
        process = psutil.Process(self._process.pid)
        while str(path.resolve()) not in [file.path for file in process.open_files()]:
            time.sleep(0.01)

    def stop_reading(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()

    def is_gone(self) -> bool:
        """Return whether no process of the group is left, or will be left soon."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                self.signal_group(0)
            except ProcessLookupError:
                return True
            time.sleep(0.01)
        return False

    def log(self) -> str:
        path = (self.directory / DATABASE).with_suffix(".log")
        return path.read_text() if path.exists() else ""

    def row(self, task: str) -> str:
        """Return the row of the task whose name starts with *task*, in the last table."""
        return [line for line in self.text.splitlines() if re.match(rf"{re.escape(task)}\S* +[a-z]", line)][-1]

    def last_line(self) -> str:
        return self.text.splitlines()[-1]

    def samples(self) -> list[float]:
        """Return when the samples in the database were taken. Check that the file is intact and closed."""
        assert not list(self.directory.glob(DATABASE + "-*")), "the last one to close it leaves no journal"
        return self.samples_after_a_cut()

    def samples_after_a_cut(self) -> list[float]:
        """Return when the samples in the database were taken. Check that the file is intact."""
        with closing(sqlite3.connect(self.directory / DATABASE)) as db:
            assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
            return [at for (at,) in db.execute("SELECT DISTINCT at FROM sample ORDER BY at")]


@pytest.fixture
def monitors() -> Iterator[list[Monitor]]:
    started: list[Monitor] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture
def start(monitors, tmp_path):
    def begin(*arguments: str) -> Monitor:
        monitors.append(Monitor(tmp_path, [sys.executable, str(EXAMPLE), *arguments], tmp_path))
        return monitors[-1]

    return begin


@pytest.fixture
def make_run(monitors, tmp_path):
    """Start the example with ``make run``."""
    make = shutil.which("make")
    stamp = ROOT / ".venv" / ".stamp"
    if make is None:
        pytest.skip("make is not installed")
    if not stamp.exists():
        pytest.skip("there is no .venv made by tools/bootstrap, and making it takes a minute")
    # Nothing is inherited from a make that may have started these tests. The interpreter is the one of .venv, so that
    # nothing has to be set up.
    outer = dict.fromkeys(("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"), "")
    python = stamp.read_text().splitlines()[0].rpartition(" ")[2]
    arguments = f"ARGS=--database {tmp_path / DATABASE} --plain"
    monitors.append(Monitor(tmp_path, [make, "run", arguments], ROOT, **outer, PYTHON=python, LC_ALL="C"))
    return monitors[-1]


@contextmanager
def locked(path: Path, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Lock the database against writes by others."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)) as db:
        db.execute(f"BEGIN {kind}")
        yield


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_shows_its_tasks_and_ends_by_itself_with_everything_stored(start):
    monitor = start("--seconds", "2")

    assert 0 == monitor.status(), monitor.errors()

    assert "" == monitor.errors()
    for task in TASKS:
        assert re.search(r" \d+\.\d| - ", monitor.row(task)), task
    assert " ms: " in monitor.row("sample")
    assert "200 OK" in monitor.row("check http://127.0.0.1:")
    assert re.search(r"^now +\d", monitor.text, re.M)
    assert re.search(r"^hour max +\d", monitor.text, re.M)
    assert f"stopped; kept samples: {len(monitor.samples())}, minutes: " in monitor.last_line()
    assert monitor.samples()
    assert "" == monitor.log(), "there was nothing to complain about"


def test_it_tells_at_the_next_start_what_it_kept(start):
    first = start("--seconds", "1")
    first.status()

    second = start("--seconds", "0.1")

    assert 0 == second.status(), second.errors()
    assert f"found nothing yet in {DATABASE}" in first.text
    assert re.search(rf"found samples: {len(first.samples())}, minutes: [12], since \d{{4}}-\d\d-\d\d", second.text)


def test_the_status_page_tells_under_json_how_each_service_is(start):
    monitor = start()
    monitor.until("status page")

    found: dict[str, Any] = json.loads(monitor.page_until('"state": "READY",\n  "healthy": true', "json"))

    services = {each["name"]: each for each in found["services"]}
    assert {"Store": [], "Sampler": ["Store"], "Table": ["Store", "Sampler"], "StatusPage": ["Table"]} == {
        name: services[name]["needs"] for name in ("Store", "Sampler", "Table", "StatusPage")
    }
    assert ["StatusPage"] == services["Checks"]["needs"]
    assert all(each["state"] == "READY" and each["errors"] == [] for each in services.values())
    assert re.match("nothing yet|samples: [1-9]", services["Store"]["stats"]["contents"])
    assert re.match(r"no rows yet|newest row \d\.\d s old", services["Store"]["stats"]["found"])
    assert isinstance(services["Sampler"]["stats"]["not saved yet"], int)
    assert set(TASKS) <= {each["name"] for each in found["scheduler"]["tasks"]}


# --- how it ends ---


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_ends_it_in_order_and_the_samples_of_the_last_second_are_kept(start, number):
    monitor = start()
    monitor.until("^draw table")
    monitor.page_until(ONLY_IN_MEMORY, "json")
    asked = time.time()
    monitor.signal(number)

    assert 0 == monitor.status()

    assert time.time() - asked < 3
    assert "" == monitor.errors() + monitor.log()
    assert f"stopped; kept samples: {len(monitor.samples())}, " in monitor.last_line()
    assert asked - monitor.samples()[-1] < 1.5
    assert "stopped" in monitor.row("save")


@pytest.mark.parametrize(("number", "is_free_again"), [(SIGTERM, True), (SIGINT, False)])
def test_a_signal_during_its_start_ends_it_in_order(start, tmp_path, number, is_free_again):
    with locked(tmp_path / DATABASE, "EXCLUSIVE"):
        monitor = start()
        monitor.until_it_has_opened(tmp_path / DATABASE)  # And now it waits for our lock.
        monitor.signal(number)
        if not is_free_again:
            assert 0 == monitor.status()

    assert 0 == monitor.status()

    assert "" == monitor.errors() + monitor.log()
    assert "" == monitor.text, "it was never ready"
    assert not list(tmp_path.glob(DATABASE + "-*")), "it is closed again"


def test_a_second_signal_during_its_start_ends_it_at_once(start, tmp_path):
    with locked(tmp_path / DATABASE, "EXCLUSIVE"):
        monitor = start()
        monitor.until_it_has_opened(tmp_path / DATABASE)
        monitor.signal(SIGTERM)
        monitor.signal(SIGINT)

        assert monitor.status() in (-SIGINT, 128 + SIGINT, -SIGTERM, 128 + SIGTERM)

    assert "Traceback" not in monitor.errors()
    assert "" == monitor.text


@pytest.mark.parametrize(
    ("first", "second"), [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGINT, SIGTERM), (SIGTERM, SIGINT)]
)
def test_a_second_signal_cuts_the_wait_for_shielded_work_short(start, tmp_path, first, second):
    monitor = start()
    monitor.until("status page")
    with locked(tmp_path / DATABASE):
        monitor.page_until("^save +running")
        monitor.signal(first)
        monitor.until_it_ends()
        monitor.signal(second)
        monitor.until("^save still hangs in a thread")

    assert 128 + second == monitor.status()

    assert "" == monitor.errors()
    assert f"{second.name} again" in monitor.log()
    assert f"stopped; kept samples: {len(monitor.samples())}, " in monitor.last_line()


def test_a_second_signal_leaves_what_was_saved_although_nothing_can_be_written(start, tmp_path):
    monitor = start()
    monitor.until("status page")
    saved_at = time.time()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db, db:
        db.execute("INSERT INTO sample VALUES (?, 'load', 1)", [saved_at])
    with locked(tmp_path / DATABASE):
        monitor.page_until("^save +running")
        monitor.signal(SIGINT)
        monitor.until_it_ends()
        monitor.signal(SIGINT)

        assert 128 + SIGINT == monitor.status()

    assert [saved_at] == monitor.samples_after_a_cut()
    assert "Traceback" not in monitor.errors()


def test_what_could_not_be_saved_at_the_end_is_told_and_the_status_is_1(start, tmp_path):
    monitor = start()
    monitor.until("status page")
    with locked(tmp_path / DATABASE):
        monitor.page_until("^save +running")
        monitor.signal(SIGTERM)

        assert 1 == monitor.status()

    assert re.search(
        "^application .*'Sampler' failed in close: .* database is locked; what it held may be lost", monitor.errors()
    )
    assert "Traceback" not in monitor.errors()
    assert "Traceback" in monitor.log()


def test_a_second_signal_ends_it_at_once_although_a_thread_hangs(start, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # Opening it for reading blocks until somebody writes.
    monitor = start("--check", f"file://{tmp_path}/pipe")
    monitor.until("^draw table")
    monitor.signal(SIGTERM)
    monitor.page_until("stopped")
    monitor.signal(SIGTERM)

    assert -SIGTERM == monitor.status()

    assert "" == monitor.errors()
    assert f"check file://{tmp_path}/pipe still hangs in a thread: press Ctrl-C again to kill it" in monitor.text
    assert f"stopped; kept samples: {len(monitor.samples())}, " in monitor.last_line()


def test_it_ends_in_order_when_nobody_reads_what_it_prints(start):
    monitor = start()
    monitor.until("status page")
    monitor.stop_reading()

    assert 0 == monitor.status()

    assert "" == monitor.errors() + monitor.log()
    assert monitor.samples()


def test_a_signal_ends_it_in_order_when_nobody_reads_what_it_prints_any_more(start):
    """Ctrl-C behind ``| tee``: both get the signal."""
    monitor = start()
    monitor.until("^draw table")
    monitor.until("^$")  # The end of a table. The next one comes in a few seconds.
    monitor.stop_reading()
    monitor.signal(SIGINT)

    assert 0 == monitor.status()

    assert "" == monitor.errors() + monitor.log()
    assert monitor.samples()


def test_sigterm_to_make_ends_it_in_order(make_run):
    make_run.until("^draw table")
    make_run.page_until(ONLY_IN_MEMORY, "json")
    asked = time.time()
    make_run.signal(SIGTERM)  # make forwards it.

    assert -SIGTERM == make_run.status(), "make waits, and then dies of it itself"

    assert make_run.is_gone()
    assert "" == make_run.errors() + make_run.log()
    assert f"stopped; kept samples: {len(make_run.samples())}, " in make_run.last_line()
    assert asked - make_run.samples()[-1] < 1.5


def test_make_hands_on_sigterm_only_once_so_that_it_still_ends_in_order(make_run, tmp_path):
    make_run.until("status page")
    with locked(tmp_path / DATABASE):
        make_run.page_until("^save +running")
        make_run.signal(SIGTERM)
        make_run.until_it_ends()
        make_run.signal(SIGTERM)

    assert -SIGTERM == make_run.status()

    assert make_run.is_gone()
    assert "" == make_run.errors() + make_run.log()
    assert f"stopped; kept samples: {len(make_run.samples())}, " in make_run.last_line()


def test_sigterm_to_the_whole_group_of_make_may_come_twice_and_nothing_is_lost(make_run):
    """make forwards a signal that the program has got already. If that comes late enough, it is not an echo."""
    make_run.until("^draw table")
    make_run.signal_group(SIGTERM)

    assert -SIGTERM == make_run.status()

    assert make_run.is_gone()
    assert re.fullmatch(rf"(make: .* Error {128 + SIGTERM}\n)?", make_run.errors())
    assert f"stopped; kept samples: {len(make_run.samples())}, " in make_run.last_line()


def test_ctrl_c_behind_make_ends_it_in_order(make_run):
    make_run.until("^draw table")
    make_run.page_until(ONLY_IN_MEMORY, "json")
    asked = time.time()
    make_run.signal_group(SIGINT)

    assert -SIGINT == make_run.status(), "make waits, and then dies of it itself"

    assert make_run.is_gone()
    assert "" == make_run.errors() + make_run.log()
    assert f"stopped; kept samples: {len(make_run.samples())}, " in make_run.last_line()
    assert asked - make_run.samples()[-1] < 1.5


def test_ctrl_c_twice_behind_make_cuts_it_short(make_run, tmp_path):
    make_run.until("status page")
    with locked(tmp_path / DATABASE):
        make_run.page_until("^save +running")
        make_run.signal_group(SIGINT)
        make_run.until_it_ends()
        make_run.signal_group(SIGINT)

    assert -SIGINT == make_run.status()

    assert make_run.is_gone()
    assert re.fullmatch(rf"make: \*\*\* \[Makefile:\d+: run\] Error {128 + SIGINT}\n", make_run.errors())
    assert f"stopped; kept samples: {len(make_run.samples())}, " in make_run.last_line()


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("database", "status", "why"),
    [
        ("notes.txt", 1, "'Store' failed in init: OSError: --database notes.txt: file is not a database"),
        ("directory", 1, "'Store' failed in init: OSError: --database directory: unable to open database file"),
        ("nowhere/host_monitor.db", 2, "nowhere is not writable"),
    ],
)
def test_where_it_cannot_start_it_says_why(start, tmp_path, database, status, why):
    (tmp_path / "notes.txt").write_text("Not a database, but something that somebody wants to keep.\n" * 100)
    (tmp_path / "directory").mkdir()
    monitor = start("--database", database)

    assert status == monitor.status()

    assert why in monitor.errors().splitlines()[-1]
    assert "Traceback" not in monitor.errors()
    assert "" == monitor.text
    assert (tmp_path / "notes.txt").read_text().startswith("Not a database, but")


def test_it_goes_on_without_its_status_page_if_the_port_is_taken(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monitor = start("--seconds", "1", "--port", str(taken.getsockname()[1]))

        assert 0 == monitor.status()

    assert "" == monitor.errors()
    assert "no status page: " in monitor.text
    assert "check http:" not in monitor.text
    assert "'StatusPage' failed in init: OSError: " in monitor.log()
    assert monitor.samples()


def test_damage_to_the_database_is_found_in_the_background_and_told(start, tmp_path):
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db, db:
        db.execute("CREATE TABLE bystander (text)")
        db.execute("INSERT INTO bystander VALUES ('x')")
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    monitor = start()
    monitor.until("status page")

    found = monitor.page_until('"errors": .\\s+"post_init: DatabaseError', "json")
    monitor.signal(SIGTERM)

    assert not json.loads(found)["healthy"]
    assert 0 == monitor.status()
    assert re.fullmatch("application .* service 'Store' failed in post_init: DatabaseError: .*\n", monitor.errors())


def test_a_check_that_fails_is_shown_and_disturbs_no_other(start, closed_port):
    monitor = start("--seconds", "2", "--check", f"tcp://127.0.0.1:{closed_port}")

    assert 0 == monitor.status(), monitor.errors()

    assert "" == monitor.errors()
    assert re.search(r" 1 +1  FAILED: ConnectionRefusedError", monitor.row(f"check tcp://127.0.0.1:{closed_port}"))
    assert f"check tcp://127.0.0.1:{closed_port}: FAILED: ConnectionRefusedError" in monitor.text
    for task in ("sample", "save", "refresh cache", "prune", "check database", "check name://localhost"):
        assert re.search(r" [1-9]\d* +0  \d+\.\d ms: ", monitor.row(task)), task


def test_the_minutes_are_rolled_up_from_all_samples_and_pruned_only_after_that(start):
    monitor = start("--seconds", "1.2")
    monitor.status()
    samples = monitor.samples()
    path = monitor.directory / DATABASE
    with closing(sqlite3.connect(path)) as db:
        rolled = db.execute("SELECT sum(samples) FROM minute WHERE metric = 'load'").fetchone()
        with db:  # As if all this were yesterday, and its last minute had never been rolled up.
            db.execute("UPDATE sample SET at = at - 86400")
            db.execute("UPDATE minute SET at = at - 86400 - 60")

    start("--seconds", "0.1").status()

    with closing(sqlite3.connect(path)) as db:
        (again,) = db.execute("SELECT sum(samples) FROM minute WHERE metric = 'load'").fetchone()
    assert (len(samples),) == rolled
    assert 2 * len(samples) == again


@pytest.mark.parametrize("url", ["tcp://localhost", "gopher://localhost", "http:///path", "localhost:80"])
def test_a_check_that_it_does_not_know_is_refused_with_the_forms_that_it_knows(start, url):
    monitor = start("--check", url)

    assert 2 == monitor.status()

    assert f"{url!r} is not one of tcp://host:port, " in monitor.errors()


def test_the_dashboard_is_where_the_table_says(start):
    monitor = start("--plain", "--dashboard", "0")
    address = monitor.until(r"dashboard: (http://[\d.:]+/)")
    with urllib.request.urlopen(address[1], timeout=PATIENCE_S) as page:
        assert "static/app.js" in page.read().decode()
    with urllib.request.urlopen(f"{address[1]}api/tasks?q=sample", timeout=PATIENCE_S) as answer:
        assert [each["name"] for each in json.load(answer)["items"]] == ["sample"]
    monitor.signal(SIGINT)
    assert monitor.status() == 0
    assert monitor.errors() == ""
