"""Processes that share tasks, each with an endpoint of its own, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import httpx

from kaiju_app.scheduler import LeaseTiming
from processes.admin.served import answers, free_port

T = TypeVar("T")

PROGRAM = Path(__file__).parent / "programs" / "member.py"
PATIENCE_S = 50.0  # Far more than anything takes, also on a busy machine.


class Member:
    """A process, and the client of its endpoint."""

    def __init__(self, directory: Path, url: str, lease: LeaseTiming, number: int) -> None:
        self.port = free_port()
        self._log = directory / f"member-{number}.txt"
        with self._log.open("wb") as log:
            command = [sys.executable, "-u", str(PROGRAM), str(self.port), url, json.dumps(astuple(lease))]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the answer of its endpoint."""
        answer = self._client.get(f"/api/{path}", params=parameters)
        assert answer.status_code == 200, f"{path}: {answer.text}\n{self.log}"
        return answer.json()

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Return the answer of its endpoint to an action."""
        return self._client.post(f"/api/{path}", json=body)

    def task(self, name: str) -> Any:
        """Return what it says of a task."""
        [item] = (each for each in self.get("tasks")["items"] if each["name"] == name and each["controlled_here"])
        return self.get(f"tasks/{item['id']}")

    def runs(self, name: str, **parameters: Any) -> list[Any]:
        """Return the latest records of a task, the newest first."""
        return list(self.get(f"tasks/{self.task(name)['id']}/runs", **parameters)["items"])

    def end(self) -> None:
        self._client.close()
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def members(directory: Path, url: str, lease: LeaseTiming, number: int = 3) -> Iterator[list[Member]]:
    """Start some processes that share the store at *url*, and wait until all answer and know of each other."""
    with ExitStack() as started:
        found = [Member(directory, url, lease, each) for each in range(number)]
        for each in found:
            started.callback(each.end)
        for each in found:
            eventually(lambda each=each: each.process.poll() is not None or answers(each.port), found)
            assert each.process.poll() is None, each.log
        for each in found:
            eventually(lambda each=each: len(each.get("instances")["items"]) == number, found)
        yield found


def eventually(find: Callable[[], T], of: Sequence[Member] = (), within_s: float = PATIENCE_S) -> T:
    """Call *find* until what it returns is true, and return that."""
    until = time.monotonic() + within_s
    while not (found := find()):
        if time.monotonic() >= until:
            logs = "\n".join(f"--- {each.port}\n{each.log[-2000:]}" for each in of)
            raise AssertionError(f"it did not happen within {within_s:g} s\n{logs}")
        time.sleep(0.05)
    return found
