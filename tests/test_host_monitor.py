"""The example, as a person starts it: a process of its own, in a directory of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime

EXAMPLE = Path(__file__).parents[1] / "examples" / "host_monitor.py"
TASKS = ["sample", "save", "roll up minutes", "refresh cache", "prune", "check database", "check name://localhost"]
PATIENCE_S = 20  # Far beyond what anything here takes: a process that hangs is ended, and its test fails.


class Monitor:
    """A running example whose lines are read one by one; what it wrote so far is in ``text``."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.text = ""
        self._errors = (directory / "stderr.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLE), *arguments],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._guard = threading.Timer(PATIENCE_S, self._process.kill)
        self._guard.start()

    def until(self, pattern: str) -> re.Match[str]:
        """Read lines up to the first that matches."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line matches {pattern!r} in:\n{self.text}{self.errors()}")

    def page_until(self, pattern: str) -> None:
        """Read the status page until it matches."""
        url = re.search(r"http://[\d.:]+/", self.text)
        assert url is not None
        while True:
            with urllib.request.urlopen(url[0], timeout=PATIENCE_S) as page:
                if re.search(pattern, page.read().decode()):
                    return
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        """Read what is left, and return the exit status."""
        assert self._process.stdout is not None
        self.text += self._process.stdout.read()
        return self._process.wait()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def row(self, task: str) -> str:
        """Return the row of the task whose name begins so, in the last table."""
        return [line for line in self.text.splitlines() if re.match(rf"{re.escape(task)}\S* +[a-z]", line)][-1]

    def samples(self) -> list[float]:
        """Return when the samples in the database were taken."""
        with closing(sqlite3.connect(self.directory / "host_monitor.db")) as db:
            return [at for (at,) in db.execute("SELECT DISTINCT at FROM sample ORDER BY at")]

    def close(self) -> None:
        self._guard.cancel()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[type[Monitor]]:
    started: list[Monitor] = []

    def begin(*arguments: str) -> Monitor:
        started.append(Monitor(tmp_path, *arguments))
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_shows_its_tasks_and_ends_by_itself_with_everything_stored(start):
    monitor = start("--seconds", "3")

    assert 0 == monitor.status(), monitor.errors()

    assert "" == monitor.errors()
    for task in TASKS:
        assert re.search(r" \d+\.\d| - ", monitor.row(task)), task
    assert " ms: " in monitor.row("sample")
    assert "200 OK" in monitor.row("check http://127.0.0.1:")
    assert re.search(r"^now +\d", monitor.text, re.M)
    assert re.search(r"^hour max +\d", monitor.text, re.M)
    assert f"kept samples: {len(monitor.samples())}, minutes: " in monitor.text
    assert monitor.samples()
    assert [] == list(monitor.directory.glob("*.log")), "there was nothing to complain about"


def test_it_tells_at_the_next_start_what_it_kept(start):
    first = start("--seconds", "2.5")
    first.status()

    second = start("--seconds", "0.1")

    assert 0 == second.status(), second.errors()
    assert "found nothing yet in host_monitor.db" in first.text
    assert re.search(rf"found samples: {len(first.samples())}, minutes: [12], since \d{{4}}-\d\d-\d\d", second.text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_the_samples_of_the_last_second_are_kept(start, number):
    monitor = start()
    monitor.until("^draw table")
    monitor.page_until(r"ms: [23] to be saved")  # Samples that only memory has.
    asked = time.time()
    monitor.signal(number)

    assert 0 == monitor.status()

    assert time.time() - asked < 3
    assert "" == monitor.errors()
    assert f"ended ({number.name}); kept samples: {len(monitor.samples())}, " in monitor.text.splitlines()[-1]
    assert asked - monitor.samples()[-1] < 1.5
    assert "stopped" in monitor.row("save")


def test_a_second_signal_ends_it_at_once_although_a_thread_hangs(start, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # To open it for reading blocks until somebody writes.
    monitor = start("--check", f"file://{tmp_path}/pipe")
    monitor.until("^draw table")
    monitor.signal(signal.SIGTERM)
    monitor.page_until("stopped")
    monitor.signal(signal.SIGTERM)

    assert -signal.SIGTERM == monitor.status()

    assert "" == monitor.errors()


def test_a_check_that_fails_is_shown_and_disturbs_no_other(start, closed_port):
    monitor = start("--seconds", "3", "--check", f"tcp://127.0.0.1:{closed_port}")

    assert 0 == monitor.status(), monitor.errors()

    assert "" == monitor.errors()
    assert re.search(r" 1 +1  FAILED: ConnectionRefusedError", monitor.row(f"check tcp://127.0.0.1:{closed_port}"))
    assert f"check tcp://127.0.0.1:{closed_port}: FAILED: ConnectionRefusedError" in monitor.text
    for task in ("sample", "save", "refresh cache", "prune", "check database", "check name://localhost"):
        assert re.search(r" [1-9]\d* +0  \d+\.\d ms: ", monitor.row(task)), task


def test_the_minutes_are_rolled_up_from_all_samples_and_pruned_only_after_that(start):
    monitor = start("--seconds", "2.5")
    monitor.status()
    samples = monitor.samples()
    path = monitor.directory / "host_monitor.db"
    with closing(sqlite3.connect(path)) as db:
        rolled = db.execute("SELECT sum(samples) FROM minute WHERE metric = 'load'").fetchone()
        with db:  # As if all this was yesterday, and the last minute of it was never rolled up.
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

    assert f"{url!r} is none of tcp://host:port, " in monitor.errors()
