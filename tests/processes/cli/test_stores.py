"""The commands straight to a store, while an application works on it; and the endpoint of a store alone."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from kaiju_app.scheduler import FirstRun, Scheduler, Scope
from processes.cli.calls import fail, kaiju, last, succeed
from support.postgres_server import Server

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed]

PATIENCE_S = 30


@contextmanager
def application(store: str, app: str = "default") -> Iterator[None]:
    """Run the tasks of a store in a thread."""
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with Scheduler(store, app=app) as scheduler:
            scheduler.schedule_task(succeed, 3600, name="poll", scope=Scope.CLUSTER)
            scheduler.schedule_task(fail, 3600, name="stock", scope=Scope.CLUSTER)
            scheduler.schedule_task(last, 3600, name="endless", scope=Scope.CLUSTER)
            scheduler.schedule_task(succeed, 3600, name="later", scope=Scope.CLUSTER, first_run=FirstRun.NEXT)
            while not (await scheduler.history("stock") and await scheduler.history("poll")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'scheduler.db'}"
    else:
        server: Server = request.getfixturevalue("server")
        server.create_database(name := f"kaiju_{uuid4().hex[:8]}")
        url = server.dsn(name)
    with application(url):
        yield url


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks"], ["show", "poll"], ["runs"], ["runs", "poll"], ["upcoming"], ["upcoming", "poll"], ["instances"],
        ["explain", "poll", "--at", "now"], ["pause", "later", "--reason", "why"], ["resume", "later"],
        ["pause", "--all", "--reason", "why"], ["resume", "--all"], ["run-now", "poll", "--wait", "20"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_works_on_a_store(store: str, arguments: list[str]) -> None:
    said, found = kaiju(*arguments, "--store", store), kaiju(*arguments, "--json", KAIJU_STORE=store)

    assert (said.status, said.err) == (0, "")
    assert said.out
    assert (found.status, found.err) == (0, "")
    assert isinstance(found.json, dict)


@pytest.mark.mechanism
def test_whoever_looks_is_no_instance_and_leaves_no_trace(store: str) -> None:
    for _ in range(3):
        kaiju("tasks", "--store", store)
    [instance] = kaiju("instances", "--json", "--store", store).json["items"]

    assert instance["pid"] == os.getpid()
    assert not instance["answers"]
    if store.startswith("sqlite"):
        path = Path(store.removeprefix("sqlite:///"))
        assert len([each for each in os.listdir(path.parent) if each.endswith(".lock")]) == 1
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM kaiju_life").fetchone() == (1,)


def test_the_holder_of_a_pause_is_the_person_at_the_command_line(store: str) -> None:
    kaiju("pause", "later", "--reason", "audit", "--for", "1h", "--store", store)
    [hold] = kaiju("show", "later", "--json", "--store", store).json["holds"]
    kaiju("resume", "later", "--store", store)

    assert hold["holder"].startswith(f"{getpass.getuser()} from {socket.gethostname()} on ")
    assert hold["reason"] == "audit"


def test_a_run_of_another_process_is_cancelled_through_the_store(store: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while kaiju("show", "endless", "--json", "--store", store).json["state"] != "running":
        assert time.monotonic() < until
    found = kaiju("cancel", "endless", "--reason", "too long", "--store", store)

    assert found.status == 0, found.err
    while not (runs := kaiju("runs", "endless", "--json", "--store", store).json["items"]):
        assert time.monotonic() < until
    assert runs[0]["outcome"] == "CANCELLED"


def test_another_application_in_the_same_store_has_its_own_tasks(store: str) -> None:
    found = kaiju("tasks", "--store", store, "--app", "other")

    assert (found.status, found.out) == (0, "No task matches.\n")


def test_a_run_without_any_instance_is_asked_for_and_said_to_wait(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'scheduler.db'}"
    with application(url):
        pass
    asked = kaiju("run-now", "poll", "--store", url)

    assert asked.status == 0
    assert "no instance is alive" in asked.err


@pytest.mark.parametrize(
    ("url", "ends", "says"),
    [
        ("sqlite:///DIRECTORY/nothing.db", 2, "--store must be a file that exists"),
        ("sqlite:///DIRECTORY", 2, "--store must be a file, and this is a directory"),
        ("memory://", 2, "in the memory of its process"),
        ("mysql://localhost", 2, "--store must be a URL"),
        ("postgresql://u:secret@127.0.0.1:1/db", 3, "postgresql"),
    ],
)
def test_a_store_that_cannot_be_looked_at_is_said_to_be_wrong_or_away(
    tmp_path: Path, url: str, ends: int, says: str
) -> None:
    found = kaiju("tasks", "--store", url.replace("DIRECTORY", str(tmp_path)))

    assert (found.status, found.out) == (ends, "")
    assert says in found.err
    assert "secret" not in found.err
    assert not os.listdir(tmp_path)


# --- kaiju admin ---


@contextmanager
def alone(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``kaiju admin``."""
    command = [sys.executable, "-m", "kaiju_app", "admin", *arguments]
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(PATIENCE_S, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def address_of(process: Any) -> str:
    for line in process.stderr:
        if found := re.search(r"listens at (http://\S+)/", line):
            assert any("is READY" in each for each in process.stderr)
            return found[1].removesuffix("/api")
    raise AssertionError("it does not listen")


def test_a_store_is_served_without_its_application(store: str) -> None:
    with alone("--bind", "127.0.0.1:0", KAIJU_STORE=store) as process:
        url = address_of(process)
        names = {each["name"] for each in kaiju("tasks", "--json", "--url", url).json["items"]}
        scheduler = httpx.get(f"{url}/api/scheduler").json()
        done = kaiju("run-now", "poll", "--wait", "20", "--url", url)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read() if process.stderr else ""
        assert process.wait() == 0, rest

    assert names == {"poll", "stock", "endless", "later"}
    assert (scheduler["onlooker"], scheduler["instances"]) == (True, 1)
    assert done.status == 0, done.err
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("arguments", "ends", "says"),
    [
        ([], 2, "--store"),
        (["--store", "sqlite:///DIRECTORY/nothing.db"], 2, "--store must be a file that exists"),
        (["--store", "postgresql://127.0.0.1:1/db"], 3, "postgresql"),
    ],
)
def test_a_store_that_cannot_be_served_ends_the_start(
    tmp_path: Path, arguments: list[str], ends: int, says: str
) -> None:
    found = kaiju("admin", *(each.replace("DIRECTORY", str(tmp_path)) for each in arguments))

    assert found.status == ends
    assert says in found.err


def test_only_loopback_is_open_without_a_token(store: str) -> None:
    found = kaiju("admin", "--store", store, "--bind", "0.0.0.0:8700")

    assert found.status == 2
    assert "--bind 0.0.0.0:8700: anybody who reaches 0.0.0.0 could operate the tasks" in found.err
