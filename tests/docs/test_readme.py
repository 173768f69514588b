"""The examples of the README run as they are printed there."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

from kaiju_app import Application, Service, service
from kaiju_app.scheduler import ExecPolicy, Scheduler
from support.blocks import Printed, python_blocks, stage
from support.postgres_server import found_or_skip, shared_server
from support.program import without_slow_steps
from support.reading import now_s, stubborn

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


SNIPPETS = [block.code for block in python_blocks(ROOT / "README.md")]
STRICT = ["-X", "dev", "-W", "error"]


def snippet(mark: str) -> str:
    """Return the only code block of the README that contains *mark*."""
    [code] = [code for code in SNIPPETS if mark in code]
    return code


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=30, cwd=cwd)
    done.stderr = without_slow_steps(done.stderr)
    return done


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Printed]]:
    """Run the only code block with a mark, in virtual time; return what it writes."""
    with stage(tmp_path, monkeypatch) as blocks:

        def run(mark: str) -> Printed:
            [block] = [block for block in python_blocks(ROOT / "README.md") if mark in block.code]
            return blocks.run(block)

        yield run


# --- at the top, and in a plain script ---


def test_the_first_code_prints_what_it_says(run: Callable[[str], Printed]) -> None:
    printed = run("Prints")

    assert printed.stderr == ""
    assert printed.stdout.split() == ["refreshed"] * 3


def test_the_plain_script_runs_as_it_is_printed(run: Callable[[str], Printed]) -> None:
    printed = run("refreshing.run_now")

    assert printed.stderr == ""
    assert "scheduled:refresh SUCCEEDED" in printed.stdout
    assert "prune SUCCEEDED" in printed.stdout


# --- on a calendar ---


def test_the_calendar_rules_say_what_the_comments_say(run: Callable[[str], Printed]) -> None:
    described, upcoming = run("trigger_from_json").stdout.splitlines()

    assert described in snippet("trigger_from_json")  # As the comment in the README says.
    assert upcoming == repr([datetime(2026, 12, 27, 5, minute, tzinfo=UTC) for minute in (0, 15)])


# --- in several processes ---


@pytest.mark.realtime
def test_the_shared_script_runs_as_it_is_printed_in_several_processes(tmp_path: Path) -> None:
    code = snippet("sqlite:///")
    command = [sys.executable, *STRICT, "-c", code]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) for _ in range(3)]
    ended = [process.communicate(timeout=60) for process in processes]

    assert [without_slow_steps(stderr) for _, stderr in ended] == [""] * 3
    assert [process.returncode for process in processes] == [0] * 3
    ticks = [line for stdout, _ in ended for line in stdout.splitlines() if len(line.split()) == 3]
    assert len(ticks) == 1, "the first run happens once"
    rows = [line for stdout, _ in ended for line in stdout.splitlines() if "SUCCEEDED" in line]
    assert len(set(rows)) == 1


# --- on many hosts ---


@pytest.mark.realtime
def test_the_script_over_postgresql_bills_once_in_several_processes() -> None:
    server, name = found_or_skip(shared_server()), f"kaiju_{uuid4().hex[:8]}"
    server.create_database(name)
    server.ask("CREATE TABLE account (id integer)", name)
    server.ask("CREATE TABLE bill (account integer, made timestamptz)", name)
    server.ask("INSERT INTO account VALUES (1), (2)", name)
    code, replaced = re.subn(r'"postgresql://[^"]*"', repr(server.dsn(name)), snippet("guard(connection)"))
    assert replaced == 1
    command = [sys.executable, *STRICT, "-c", code]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    ended = [process.communicate(timeout=60) for process in processes]

    assert [without_slow_steps(stderr) for _, stderr in ended] == [""] * 3
    assert server.ask("SELECT count(*) FROM bill", name) == 2
    server.drop_database(name)


# --- in a web application ---

VISITS = """
import time
from fastapi.testclient import TestClient

for life in 1, 2:
    before = rates["refreshed"]
    with TestClient(app) as client:
        while client.get("/rates").json()["refreshed"] < before + 3:
            time.sleep(0.01)
        print(scheduler.started, len(scheduler.tasks))
    print(scheduler.started)
"""


@pytest.mark.realtime
def test_the_lifespan_of_fastapi_starts_and_stops_the_scheduler_each_time() -> None:
    done = python("-X", "dev", "-c", snippet("FastAPI(") + VISITS)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "1", "False"] * 2


# --- watch it ---


def test_the_log_lines_of_the_example_have_the_fields_of_their_run(run: Callable[[str], Printed]) -> None:
    logging.getLogger().handlers.clear()  # pytest has its own; basicConfig() would do nothing.
    printed = run("RunFields()")

    assert printed.stdout == ""
    assert re.search(r"^refresh [0-9a-f]{20} 1: fetching$", printed.stderr, re.MULTILINE)


def test_the_metrics_of_the_example_are_what_it_says(run: Callable[[str], Printed]) -> None:
    printed = run("SchedulerCollector")

    assert printed.stderr == ""
    assert snippet("SchedulerCollector").partition("among others: ")[2].strip() in printed.stdout
    table = README.partition("| Metric |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(kaiju_\w+)", table)) - {"kaiju_store_up"}  # It has no store.
    shown = set(re.findall(r"^# TYPE (kaiju_\w+)", printed.stdout, re.MULTILINE))
    assert named == {each for each in shown if not each.endswith("_created")}


@pytest.mark.realtime
def test_the_trace_of_the_example_has_what_it_says() -> None:
    done = python(*STRICT, "-c", snippet("SchedulerTelemetry"))  # The exporter keeps the stdout of its import.

    assert (done.returncode, done.stderr) == (0, "")
    span = json.loads(done.stdout)
    assert span["name"] == "task refresh"
    assert list(span["attributes"]) == ["task", "tick", "run_id", "attempt", "outcome"]


# --- over HTTP ---

ASKING = """
from starlette.testclient import TestClient

bearer = lambda token: {"Authorization": f"Bearer {token}"}
with TestClient(app, base_url="https://shop.example") as client:
    [task] = client.get("/scheduler/api/tasks", headers=bearer("read-81c2")).json()["items"]
    path, body = f"/scheduler/api/tasks/{task['id']}/pause", {"reason": "audit", "for_s": 3600}
    print(path, client.post(path, json=body, headers=bearer("read-81c2")).status_code)
    print(client.post(path, json=body, headers=bearer("operate-3f9a")).json()["state"])
"""


@pytest.mark.realtime
def test_the_endpoint_is_asked_as_the_readme_says() -> None:
    done = python("-X", "dev", "-c", snippet("admin(scheduler") + ASKING)

    assert done.returncode == 0, done.stderr
    path, *said = done.stdout.replace("refreshed", "").split()
    assert said == ["403", "paused"]
    assert f"https://shop.example{path}" in README


# --- as an application ---


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application of the README, as the module that it names."""
    (tmp_path / "demo.py").write_text(snippet("run_app(app)"))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("demo")
    del sys.modules["demo"]


async def test_the_original_example_keeps_its_three_promises(demo: ModuleType, scheduler: Scheduler) -> None:
    states: list[tuple[float, str]] = []
    active = most = 0

    async def recache_all(self: object) -> None:
        nonlocal active, most
        states.append((now_s(), app.state))
        active += 1
        most = max(active, most)
        await stubborn(5000)  # Longer than the interval, and it ignores its cancellation.
        active -= 1

    demo.CacheService.recache_all = recache_all
    cache = demo.CacheService()
    app = Application("demo", services=[demo.Shop(), cache], scheduler=scheduler)
    async with app:
        assert app.state == "READY"
        async with cache._recache_task.suspend():  # It begins early enough to hold even the first run.
            await asyncio.sleep(100)
            assert states == []
        await asyncio.sleep(8000)
        async with cache._recache_task.suspend():
            quiet_at = now_s()
            await asyncio.sleep(20_000)
            assert active == 0

    assert most == 1, "never two at once, not even when a cancellation is swallowed"
    assert {state for _, state in states} == {"READY"}, "tasks start once the app is ready"
    assert [at for at, _ in states if at > quiet_at] == [], "suspended means quiet"
    assert len(states) == 2


async def test_what_the_example_says_beside_its_code_is_true(demo: ModuleType, scheduler: Scheduler) -> None:
    order: list[str] = []
    shop, cache = demo.Shop(), demo.CacheService()
    for each in (shop, cache):
        for phase in ("init", "post_init", "close"):
            journal(each, phase, order)
    async with Application("demo", services=[shop, cache], scheduler=scheduler) as app:
        await asyncio.sleep(1)
        assert shop.cache is cache
        told = await app.inspect()

    assert order == [
        *("CacheService.init", "Shop.init", "CacheService.post_init", "Shop.post_init"),
        *("Shop.close", "CacheService.close"),
    ]
    assert [(each["name"], each["stats"]) for each in told["services"]] == [
        ("Shop", {"currency": "EUR"}),
        ("CacheService", {}),
    ]


def journal(service: Service, phase: str, order: list[str]) -> None:
    """Let *service* append *phase* to *order* when it gets there."""
    method = getattr(service, phase)

    async def noted() -> None:
        order.append(f"{service.name}.{phase}")
        await method()

    setattr(service, phase, noted)


@pytest.mark.realtime
@pytest.mark.parametrize("command", [["demo.py"], ["-m", "kaiju_app", "run", "demo:app"]], ids=["script", "module"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_application_runs_both_ways_until_a_signal_ends_it(
    demo: ModuleType, tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    # It logs that it is READY, but the script does not configure logging.
    (tmp_path / "sitecustomize.py").write_text("import logging; logging.basicConfig(level=logging.INFO)")
    with subprocess.Popen(
        [sys.executable, *STRICT, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        guard = threading.Timer(20, process.kill)
        guard.start()
        assert process.stderr is not None
        assert any("is READY" in line for line in process.stderr)
        process.send_signal(number)
        rest = process.stderr.read()
        guard.cancel()

    assert process.returncode == 0
    assert "CLOSED" in rest
    assert "Traceback" not in rest


# --- statements of the README ---


def test_the_policies_table_tells_the_default_deadlines() -> None:
    rows = dict(re.findall(r"^\| `(\w+)`.*?\|.*?\| (.*?) \|", README, re.MULTILINE))
    scheduler = Scheduler()
    told = {}
    for policy in ExecPolicy:
        spec = scheduler.schedule_task(print, 10, policy=policy)._entry.spec
        told[policy.value] = f"{spec.limit // spec.gap} gaps" if spec.limit else None

    assert told == {"CANCEL": None, "WAIT": "3 gaps", "SKIP": "3 gaps", "SHIELD": None}
    assert rows == {
        "CANCEL": "the next tick",
        "WAIT": "3 gaps",
        "SKIP": "3 gaps",
        "SHIELD": "none: it is never cancelled",
    }


def test_every_name_that_the_readme_imports_is_public() -> None:
    for module in ("kaiju_app", "kaiju_app.scheduler"):
        lines = re.findall(rf"from {re.escape(module)} import (.*)", README)
        assert lines
        assert set(", ".join(lines).split(", ")) <= set(importlib.import_module(module).__all__)


def test_the_limits_and_options_that_the_readme_names_are_parameters() -> None:
    known = set(inspect.signature(Application).parameters) | set(inspect.signature(service).parameters)

    assert {"service_start_timeout_s", "service_close_timeout_s", "optional_services", "required", "nowait"} <= known
    assert set(re.findall(r"`(\w+_timeout_s)`", README)) - {"max_timeout_s"} <= known


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
