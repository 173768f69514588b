"""Four workers of a real server, as the example starts them: one run for each tick, one suspension for all workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.mechanism, pytest.mark.timeout(180)]

PROGRAM = Path(__file__).with_name("workers_journal.py")
PATIENCE_S = 40
SECOND = timedelta(seconds=1)


class Line(NamedTuple):
    """A report begins or ends: in which process, for which tick, and which take of it."""

    at: float
    pid: int
    event: str
    tick: str
    take: int


class Workers:
    """The processes of the example."""

    program = PROGRAM

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (folder / "log.txt").open("w+")
        self._journal = folder / "journal"
        environment = {"PORT": str(self.port), "STORE": f"sqlite:///{folder}/workers.db", "JOURNAL": str(self._journal)}
        environment = os.environ | environment
        command = [sys.executable, str(self.program)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def ask(self, path: str = "/", method: str = "GET") -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def journal(self) -> list[Line]:
        """Return the lines that the reports have written, in order."""
        return [Line(*json.loads(line)) for line in self._journal.read_text().splitlines()]

    def until(self, condition: Callable[[Any], object], path: str = "/") -> Any:
        """Return the first answer for *path* that meets *condition*."""
        end = time.monotonic() + PATIENCE_S
        found: Any = None
        while time.monotonic() < end and self.process.poll() is None:
            try:
                found = self.ask(path)
            except (urllib.error.URLError, ConnectionError):  # The server is not up yet, or the worker was just killed.
                found = None
            if found is not None and condition(found):
                return found
            time.sleep(0.02)
        self.log.seek(0)
        raise AssertionError(f"not reached; last answer {found}\n{self.log.read()[-3000:]}")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.log.close()
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    try:
        yield workers
    finally:
        workers.end()


def ticks_of(runs: list[dict[str, Any]]) -> list[datetime]:
    """Return the ticks that have ended, skipped ones included, in the order of their ends."""
    found: list[datetime] = []
    for run in runs:
        if run["outcome"] != "LOST":
            first = datetime.fromisoformat(run["scheduled_at"])
            found += [first + number * SECOND for number in range(run["count"])]
    return found


def check_ticks(runs: list[dict[str, Any]]) -> None:
    """Check that each tick ended once and none is missing."""
    ticks = ticks_of(runs)
    assert ticks == [ticks[0] + number * SECOND for number in range(len(ticks))]


def check_journal(lines: list[Line], killed: int | None = None) -> None:
    """Check that no two reports overlap and none is made twice, except the one that *killed* was making."""
    assert {1} == set(Counter((line.tick, line.take) for line in lines if line.event == "begin").values())
    going: Line | None = None
    for line in lines:
        if line.event == "begin":
            assert going is None or (going.pid == killed and (going.tick, 2) == (line.tick, line.take))
            going = line
        else:
            assert going is not None
            assert (going.pid, going.tick) == (line.pid, line.tick)
            going = None


def task_of(found: dict[str, Any]) -> dict[str, Any]:
    (task,) = found["tasks"]
    return dict(task)


def test_four_workers_share_one_schedule(workers: Workers) -> None:
    found = workers.until(lambda found: len(found["instances"]) == 4 and len(found["runs"]) >= 4)
    check_ticks(found["runs"])
    assert {each["pid"] for each in found["instances"]} >= {found["answered_by"]}

    # A suspension in one worker holds in all workers.
    before = len(found["runs"])
    asked = time.monotonic()
    restoring = threading.Thread(target=workers.ask, args=("/restore?seconds=3", "POST"))
    restoring.start()
    held = workers.until(lambda found: task_of(found)["holds"] and not task_of(found)["runs_on"])
    quiet = time.monotonic()
    assert task_of(held)["holds"][0]["reason"] == "restoring the database"
    while restoring.is_alive():
        seen = workers.ask()
        assert task_of(seen)["runs_on"] is None or not task_of(seen)["holds"]
        time.sleep(0.05)
    restoring.join()
    found = workers.until(lambda found: any(run["reason"] == "suspended" for run in found["runs"][before:]))
    check_ticks(found["runs"])
    assert [] == [line for line in workers.journal() if quiet < line.at < asked + 3]
    assert quiet < asked + 2  # Else nothing was observed.
    check_journal(workers.journal())

    # The worker that runs the report is killed. Another one goes on with the very tick that was lost.
    busy = workers.until(lambda found: task_of(found)["runs_on"])
    victim = next(each for each in busy["instances"] if each["id"] == task_of(busy)["runs_on"])
    killed = time.monotonic()
    os.kill(victim["pid"], signal.SIGKILL)
    found = workers.until(lambda found: any(run["started_at"] and run["delivery"] == 2 for run in found["runs"]))
    assert time.monotonic() - killed < 5
    check_ticks(found["runs"])
    (again,) = [run for run in found["runs"] if run["delivery"] == 2]
    (lost,) = [run for run in found["runs"] if run["outcome"] == "LOST"]
    assert again["scheduled_at"] == lost["scheduled_at"]
    assert again["instance"] != lost["instance"] == victim["id"]
    assert again["fence"] > lost["fence"]
    check_journal(workers.journal(), victim["pid"])
    assert {line.tick for line in workers.journal() if line.take == 2} == {again["scheduled_at"]}
    told = {run["scheduled_at"] for run in found["runs"] if run["outcome"] == "SUCCEEDED"}
    assert told <= {line.tick for line in workers.journal() if line.event == "end"}
