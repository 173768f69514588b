"""The lifespan examples with the real frameworks: served by a separate process, and entered twice in one process."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.realtime

EXAMPLES = Path(__file__).parents[3] / "examples"
PATIENCE_S = 20  # Far more than anything here takes. A process that hangs is killed, and its test fails.

# A deprecation warning is an error if an example causes it, but not if a library does.
STRICT = ["-X", "dev", "-W", "error:::__main__"]

COMPLAINT = r"Traceback|was never .*|was destroyed .*|^(?:WARNING|ERROR|CRITICAL):(?:kaiju_app|shop).*"

INIT = "    async def init(self) -> None:\n"
CLOSE = "    async def close(self) -> None:\n"
FAILING_INIT = INIT + '        raise ConnectionError("the bank is closed")\n'
FAILING_HEALTH = """\
    async def health(self):  # Fine at the start.
        from kaiju_app import Health
        return Health(["the bank is closed"] if self.refreshes else [])

"""

TWICE_IN_TWO_LOOPS = """
import time
from {client} import TestClient
from example import app, background, rates

for life in 1, 2:
    with TestClient(app) as client:
        seen = rates.refreshes
        while client.get("/rates").json().get("refreshes", 0) < seen + 3:
            time.sleep(0.01)
        health = client.get("/health").json()
        print(health["state"], len(health["scheduler"]["tasks"]))
    print(background.state, len(background.scheduler.tasks))
"""

TWICE_IN_ONE_LOOP = """
import asyncio
from aiohttp.test_utils import TestClient, TestServer
from example import BACKGROUND, RATES, app

async def refreshes(client):
    async with client.get("/rates") as answer:
        return (await answer.json()).get("refreshes", 0)

async def main():
    for life in 1, 2:
        async with TestClient(TestServer(app)) as client:
            seen = app[RATES].refreshes
            while await refreshes(client) < seen + 3:
                await asyncio.sleep(0.01)
            async with client.get("/health") as answer:
                health = await answer.json()
            print(health["state"], len(health["scheduler"]["tasks"]))
        print(app[BACKGROUND].state, len(app[BACKGROUND].scheduler.tasks))

asyncio.run(main())
"""


@dataclass(frozen=True)
class Framework:
    """How a framework and its server differ from the others.

    Args:
        ended: Exit status after SIGTERM.
        refused: Exit status if the application could not start.
        twice: A script that enters the lifespan of ``example`` twice.
    """

    name: str
    ended: int
    refused: int
    twice: str


def on_uvicorn(name: str, client: str) -> Framework:
    """Uvicorn stops cleanly and then raises the signal again; 3 is its STARTUP_FAILURE."""
    return Framework(name, -signal.SIGTERM, 3, TWICE_IN_TWO_LOOPS.format(client=client))


FRAMEWORKS = [
    on_uvicorn("fastapi", "fastapi.testclient"),
    on_uvicorn("starlette", "starlette.testclient"),
    on_uvicorn("litestar", "litestar.testing"),
    # aiohttp's run_app() returns after a signal, and raises what fails the start. Its applications need one loop.
    Framework("aiohttp", 0, 1, TWICE_IN_ONE_LOOP),
]


class Program:
    """A running example; ``text`` is its output so far."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._output = directory / "output.txt"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-u", *STRICT, *arguments],
                cwd=directory,
                env={**os.environ, "PORT": "0"},  # The server takes a free one and prints it.
                stdout=output,
                stderr=output,
            )
        self._guard = threading.Timer(PATIENCE_S, self._process.kill)
        self._guard.start()

    @property
    def text(self) -> str:
        return self._output.read_text()

    def get(self, path: str) -> tuple[int, Any]:
        """Return the status of the answer and its JSON."""
        with closing(http.client.HTTPConnection(self._address(), timeout=PATIENCE_S)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.load(answer)

    def get_until(self, path: str, is_so: Callable[[int, Any], bool]) -> Any:
        """Ask until the answer is as wanted; return its JSON."""
        while True:
            status, said = self.get(path)
            if is_so(status, said):
                return said
            self._wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        """Wait for the end of the process, and return its exit status."""
        return self._process.wait()

    def close(self) -> None:
        self._guard.cancel()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _address(self) -> str:
        while not (found := re.search(r"running on http://([\d.]+:\d+)", self.text, re.I)):
            self._wait()
        return found[1]

    def _wait(self) -> None:
        time.sleep(0.02)
        assert self._process.poll() is None, f"it has ended, status {self._process.returncode}:\n{self.text}"


@pytest.fixture(params=FRAMEWORKS, ids=lambda framework: framework.name)
def framework(request: pytest.FixtureRequest) -> Framework:
    return request.param


@pytest.fixture
def example(framework: Framework) -> Path:
    return EXAMPLES / f"with_{framework.name}.py"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def begin(*arguments: object) -> Program:
        started.append(Program(tmp_path, *map(str, arguments)))
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture
def changed(example: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Copy the example, as a reader would, and change one thing in it."""

    def change(old: str, new: str) -> Path:
        before, found, after = example.read_text().partition(old)
        assert found
        copy = tmp_path / "example.py"
        copy.write_text(before + new + after)
        return copy

    return change


def test_it_serves_what_every_tick_refreshes_until_sigterm_ends_it_in_order(start, example, framework):
    program = start(example)
    first = program.get_until("/rates", lambda status, rates: status == 200 and rates)
    later = program.get_until("/rates", lambda _, rates: rates["refreshes"] > first["refreshes"])
    status, health = program.get("/health")
    program.signal(signal.SIGTERM)
    asked = time.monotonic()

    assert framework.ended == program.status()

    assert time.monotonic() - asked < 5
    assert 200 == status
    assert [("Rates", "READY", True)] == [(each["name"], each["state"], each["healthy"]) for each in health["services"]]
    assert health["scheduler"]["started"]
    [task] = health["scheduler"]["tasks"]
    assert first["as_of"] < later["as_of"]
    assert {first["as_of"], later["as_of"]} <= {run["scheduled_at"] for run in task["runs"]}
    [refreshes] = re.findall(r"^INFO:shop.Rates:closed after (\d+) refreshes$", program.text, re.M)
    assert later["refreshes"] <= int(refreshes)
    assert "application 'shop' is CLOSED\n" in program.text
    assert [] == re.findall(COMPLAINT, program.text, re.M)


def test_its_health_check_fails_as_long_as_a_service_is_not_well(start, changed):
    program = start(changed(CLOSE, FAILING_HEALTH + CLOSE))

    health = program.get_until("/health", lambda status, _: status == 503)

    assert not health["healthy"]
    assert [["the bank is closed"]] == [each["errors"] for each in health["services"]]


def test_a_service_that_cannot_start_keeps_it_from_serving_and_is_named(start, changed, framework):
    program = start(changed(INIT, FAILING_INIT))

    assert framework.refused == program.status()

    assert "application 'shop': service 'Rates' failed in init: ConnectionError: the bank is closed. " in program.text
    assert "running on" not in program.text.lower()
    assert "closed after" not in program.text, "close() is for what init() took hold of"


def test_its_lifespan_may_be_entered_again_and_no_task_is_doubled(start, changed, framework):
    changed("interval_s=1)", "interval_s=0.05)")
    program = start("-c", framework.twice)

    assert 0 == program.status(), program.text

    assert ["READY 1", "CLOSED 0"] * 2 == re.findall(r"^[A-Z]+ \d$", program.text, re.M)
