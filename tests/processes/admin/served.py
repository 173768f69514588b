"""A process that serves the endpoint, for tests."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).parent / "programs" / "served.py"
PATIENCE_S = 30


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def served(
    directory: Path, program: Path = PROGRAM, patience_s: float = PATIENCE_S, **environment: str
) -> Iterator[int]:
    """Serve the endpoint in a process; return its port. What it writes is in ``log.txt`` of *directory*."""
    port = free_port()
    with (directory / "log.txt").open("wb") as log:
        command = [sys.executable, "-u", str(program), str(port)]
        process = subprocess.Popen(
            command, cwd=directory, stdout=log, stderr=log, env={**os.environ, **environment}, text=True
        )
        try:
            until = time.monotonic() + patience_s
            while not answers(port):
                assert process.poll() is None, (directory / "log.txt").read_text()
                assert time.monotonic() < until, "it does not answer"
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def answers(port: int, path: str = "/health/live") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
