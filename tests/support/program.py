"""A process under test: its output is read line by line, it gets signals, and it never outlives its test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from support.reading import wait_past_signal_echo

SLOW_STEP = re.compile(r"^Executing <.*> took [\d.]+ seconds\n", re.MULTILINE)
PATIENCE_S = 20  # Far more than anything here takes. A process that hangs is killed, and its test fails.


def without_slow_steps(text: str) -> str:
    """Return *text* without the lines of asyncio's debug mode about slow steps: on a busy machine there are some."""
    return SLOW_STEP.sub("", text)


class WatchedProcess:
    """A running process whose output is read line by line; ``text`` has all lines read so far.

    Args:
        directory: Where the file with its standard error is kept.
        command: The program and its arguments.
        cwd: The working directory.
        environment: Added to the environment of the tests.
    """

    def __init__(self, directory: Path, command: Sequence[str], cwd: Path, **environment: str) -> None:
        self.directory = directory
        self.text = ""
        self._signalled = time.monotonic()
        self._errors = (directory / "stderr.txt").open("w+")
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # A process group of its own, as a command gets from an interactive shell.
        )
        self._guard = threading.Timer(PATIENCE_S, self._kill)
        self._guard.start()

    def until(self, pattern: str) -> re.Match[str]:
        """Read lines until one matches, and return the match."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line matches {pattern!r} in:\n{self.text}{self.errors()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, late enough after the one before not to be taken for its echo."""
        wait_past_signal_echo(self._signalled)
        self._signalled = time.monotonic()
        self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process group, as a terminal does."""
        wait_past_signal_echo(self._signalled)
        self._signalled = time.monotonic()
        os.killpg(self._process.pid, number)

    def status(self) -> int:
        """Read the remaining output, and return the exit status."""
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.text += self._process.stdout.read()
        return self._process.wait()

    def errors(self) -> str:
        self._errors.seek(0)
        return without_slow_steps(self._errors.read())

    def close(self) -> None:
        self._guard.cancel()
        self._kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # All of its group may have ended.
            os.killpg(self._process.pid, signal.SIGKILL)
