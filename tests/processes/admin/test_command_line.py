"""``python -m kaiju_app run --admin`` serves the endpoint beside an application, and nowhere without protection."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.realtime

PROGRAM = """
from kaiju_app import Application
from kaiju_app.scheduler import Scheduler

scheduler = Scheduler()

async def work() -> None:
    pass

scheduler.schedule_task(work, 60, name="work")
app = Application("demo", scheduler=scheduler)
"""


@contextmanager
def running(directory: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    (directory / "demo.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "kaiju_app", "run", "demo:app", *arguments]
    environ = {**os.environ, **environment}
    with subprocess.Popen(command, cwd=directory, env=environ, stderr=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(40, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def address_of(process: Any) -> str:
    for line in process.stderr:
        if found := re.search(r"listens at (http://\S+)/ ", line):
            return found[1]
    raise AssertionError("it does not listen")


def until_ready(process: Any) -> None:
    assert any("is READY" in line for line in process.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_ends_the_application(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "--admin", "127.0.0.1:0") as process:
        address = address_of(process)
        until_ready(process)
        [task] = httpx.get(f"{address}/api/tasks").json()["items"]
        done = httpx.post(f"{address}/api/tasks/{task['id']}/run", json={"wait_s": 5})
        with httpx.Client() as kept:  # A connection that is kept open does not hold up the end.
            assert kept.get(f"{address}/health/ready").status_code == 200
            process.send_signal(number)
            rest = process.stderr.read() if process.stderr else ""
            assert process.wait() == 0, rest

    assert task["name"] == "work"
    assert done.json()["outcome"] == "SUCCEEDED"
    assert "Traceback" not in rest
    assert "CLOSED" in rest


def test_elsewhere_it_needs_a_token(tmp_path: Path) -> None:
    with running(
        tmp_path, "--admin", "0.0.0.0:0", "--admin-host", "shop.example", KAIJU_ADMIN_TOKEN="a-b-c"
    ) as process:
        port = address_of(process).rpartition(":")[2]
        address = f"http://127.0.0.1:{port}/api/tasks"
        bearer = {"Authorization": "Bearer a-b-c"}
        assert httpx.get(address).status_code == 401
        assert httpx.get(address, headers=bearer).status_code == 200
        assert httpx.get(address, headers={**bearer, "Host": "shop.example"}).status_code == 200
        assert httpx.get(address, headers={**bearer, "Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--admin", "0.0.0.0:8700"], "anybody who reaches 0.0.0.0 could operate the tasks. Set KAIJU_ADMIN_TOKEN"),
        (["--admin", "[::]:8700"], "anybody who reaches :: could operate"),
        (["--admin", "8700"], "must be HOST:PORT"),
        (["--admin", "127.0.0.1:99999"], "must be HOST:PORT"),
        (["--admin-host", "shop.example"], "--admin-host needs --admin"),
        (["--admin", "127.0.0.1:0", "--admin-host", "shop.example"], "--admin-host needs token= or authorize="),
    ],
)
def test_what_would_be_open_to_anybody_or_is_wrong_is_refused(tmp_path: Path, arguments: list[str], says: str) -> None:
    with running(tmp_path, *arguments) as process:
        said = process.stderr.read() if process.stderr else ""
        assert process.wait() == 2

    assert says in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, "--admin", f"127.0.0.1:{port}") as process:
            said = process.stderr.read() if process.stderr else ""
            assert process.wait() == 1

    assert "service 'AdminServer' failed in init" in said
    assert "in use" in said
