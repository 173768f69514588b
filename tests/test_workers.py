"""Four workers of a real server, as the example starts them: one run for each tick, one suspension for all."""

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
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.timeout(180)]

EXAMPLE = Path(__file__).parents[1] / "examples" / "with_workers.py"
PATIENCE_S = 40
SECOND = timedelta(seconds=1)


class Workers:
    """The example's processes."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (folder / "log.txt").open("w+")
        environment = os.environ | {"PORT": str(self.port), "STORE": f"sqlite:///{folder}/workers.db"}
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE)], env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def ask(self, path: str = "/", method: str = "GET") -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return the first answer that fulfils *condition*."""
        end = time.monotonic() + PATIENCE_S
        found: dict[str, Any] | None = None
        while time.monotonic() < end and self.process.poll() is None:
            try:
                found = self.ask()
            except (urllib.error.URLError, ConnectionError):  # Not yet, or a worker that was just killed.
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
    """Return the ticks that ended, those of skips too, in the order in which they did."""
    found: list[datetime] = []
    for run in runs:
        if run["outcome"] != "LOST":
            first = datetime.fromisoformat(run["scheduled_at"])
            found += [first + number * SECOND for number in range(run["count"])]
    return found


def check_ticks(runs: list[dict[str, Any]]) -> None:
    """Each tick ended once, and none is left out."""
    ticks = ticks_of(runs)
    assert ticks == [ticks[0] + number * SECOND for number in range(len(ticks))]


def task_of(found: dict[str, Any]) -> dict[str, Any]:
    (task,) = found["tasks"]
    return dict(task)


def test_four_workers_share_one_schedule(workers: Workers) -> None:
    found = workers.until(lambda found: len(found["instances"]) == 4 and len(found["runs"]) >= 4)
    check_ticks(found["runs"])
    assert {each["pid"] for each in found["instances"]} >= {found["answered_by"]}

    # A suspension in one worker holds in all of them.
    before = len(found["runs"])
    restoring = threading.Thread(target=workers.ask, args=("/restore?seconds=3", "POST"))
    restoring.start()
    held = workers.until(lambda found: task_of(found)["holds"] and not task_of(found)["runs_on"])
    assert task_of(held)["holds"][0]["reason"] == "restoring the database"
    while restoring.is_alive():
        seen = workers.ask()
        assert task_of(seen)["runs_on"] is None or not task_of(seen)["holds"]
        time.sleep(0.05)
    restoring.join()
    found = workers.until(lambda found: any(run["reason"] == "suspended" for run in found["runs"][before:]))
    check_ticks(found["runs"])

    # The worker in charge is killed, and another one goes on, with the very tick that was lost.
    busy = workers.until(lambda found: task_of(found)["runs_on"])
    victim = next(each for each in busy["instances"] if each["id"] == task_of(busy)["runs_on"])
    killed = time.monotonic()
    os.kill(victim["pid"], signal.SIGKILL)
    found = workers.until(lambda found: any(run["started_at"] and run["take"] == 2 for run in found["runs"]))
    assert time.monotonic() - killed < 5
    check_ticks(found["runs"])
    (again,) = [run for run in found["runs"] if run["take"] == 2]
    (lost,) = [run for run in found["runs"] if run["outcome"] == "LOST"]
    assert again["scheduled_at"] == lost["scheduled_at"]
    assert again["instance"] != lost["instance"] == victim["id"]
    assert again["fence"] > lost["fence"]
