"""The programs of the site as files, in their real servers: what the pages about frameworks and the start say."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes.admin.served import free_port
from support.blocks import ROOT, blocks_of, python_blocks
from support.program import WatchedProcess

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed, pytest.mark.timeout(120)]

HOW_TO = ROOT / "docs" / "how-to"

SAYS_IT = """
stop = scheduler.stop


async def say_that_it_stops():
    await stop()
    print("has stopped:", not scheduler.started, flush=True)


scheduler.stop = say_that_it_stops

"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WatchedProcess]]:
    """Start a program in the directory of the test, with the arguments of ``python -m``."""
    with ExitStack() as ended:

        def start(*arguments: str) -> WatchedProcess:
            logs = tmp_path / f"logs-{free_port()}"
            logs.mkdir()
            # Frameworks warn of what is not ours.
            process = WatchedProcess(logs, [sys.executable, *arguments], tmp_path, PYTHONWARNINGS="", PYTHONDEVMODE="")
            ended.callback(process.close)
            return process

        yield start


def answer(process: WatchedProcess, address: str) -> Any:
    """Return what the server answers at *address*, as soon as it does."""
    end = time.monotonic() + 60
    while True:
        try:
            response = httpx.get(address, timeout=20)
        except httpx.TransportError:
            assert time.monotonic() < end, process.errors()
            time.sleep(0.1)
        else:
            assert response.status_code == 200, response.text
            return response.json()


@pytest.mark.parametrize("page", ["fastapi", "starlette", "litestar", "quart", "django", "aiohttp"])
def test_a_real_server_starts_and_stops_the_scheduler(
    page: str, tmp_path: Path, start: Callable[..., WatchedProcess]
) -> None:
    source = HOW_TO / f"{page}.md"
    port = free_port()
    code = python_blocks(source)[0].code
    if page == "aiohttp":
        code = code.replace("port=8000", f"port={port}")
        head, main, tail = code.partition("if __name__")
        code, command = head + SAYS_IT + main + tail, ["shop.py"]
    else:
        code += SAYS_IT
        [server] = re.findall(r"^\$ (uvicorn|hypercorn) shop:app$", source.read_text("utf-8"), re.MULTILINE)
        options = ["--port", f"{port}"] if server == "uvicorn" else ["--bind", f"127.0.0.1:{port}"]
        command = ["-m", server, "shop:app", *options]
    (tmp_path / "shop.py").write_text(code)
    process = start(*command)
    found = answer(process, f"http://127.0.0.1:{port}/prices")
    process.signal(signal.SIGTERM)

    process.until("has stopped: True")
    assert found == {"refreshed": 1}


def test_the_five_minute_start_step_by_step(tmp_path: Path, start: Callable[..., WatchedProcess]) -> None:
    page = ROOT / "docs" / "start.md"
    first, main, shared, alert = (block.code for block in python_blocks(page))
    (tmp_path / "first.py").write_text(first + main.replace("sleep(12)", "sleep(1)"))
    start("first.py").until(r"^prices of \d\d:\d\d:\d\d$")

    commands = [block.code for block in blocks_of(page) if block.language == "console"]
    ports = re.findall(r"kaiju run shop:app --admin 127\.0\.0\.1:(\d+)", "".join(commands))
    assert len(ports) == 2
    (tmp_path / "shop.py").write_text(shared + alert)
    addresses = [f"http://127.0.0.1:{free_port()}" for _ in ports]
    processes = [
        start("-m", "kaiju_app", "run", "shop:app", "--admin", address.partition("//")[2]) for address in addresses
    ]
    for process, address in zip(processes, addresses, strict=True):
        tasks = answer(process, f"{address}/api/tasks")["items"]
        assert {task["name"] for task in tasks} == {"prices", "report"}
    end = time.monotonic() + 60
    while len(answer(processes[0], f"{addresses[0]}/api/instances")["items"]) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)

    commands_of_a_terminal = re.findall(r"^\$ kaiju ((?:tasks|pause|explain).*)$", "".join(commands), re.MULTILINE)
    assert len(commands_of_a_terminal) == 3
    for words, told in (
        (["tasks"], "report"),
        (["pause", "report", "--reason", "the mail server is down", "--for", "1h"], "paused"),
        (["explain", "report", "--at", "now"], "report"),
    ):
        program = start("-m", "kaiju_app", *words, "--url", addresses[1])
        program.until(told)
        assert program.status() == 0
    states = {task["name"]: task["state"] for task in answer(processes[0], f"{addresses[0]}/api/tasks")["items"]}
    assert states["report"] == "paused"

    for process in processes:
        process.signal(signal.SIGINT)
        assert process.status() == 0
    printed = "".join(process.text for process in processes)
    assert "ALERT: report FAILED RuntimeError: the mail server does not answer" in printed
    times = re.findall(r"^prices of (\S+)$", printed, re.MULTILINE)
    assert times
    assert len(times) == len(set(times)), "one of the two prints each price"
