"""A process as the tests of programs see it: read line by line, signalled, and never left behind."""

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

from telling import wait_out_the_echo

PATIENCE_S = 20  # Far beyond what anything here takes: a process that hangs is ended, and its test fails.


class Watched:
    """A running process whose lines are read one by one; what it wrote so far is in ``text``.

    Args:
        directory: Where its errors are kept.
        command: What is started.
        cwd: Where it is started.
        environment: Added to that of the tests.
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
            start_new_session=True,  # So that it is in a process group of its own, as behind a shell's prompt.
        )
        self._guard = threading.Timer(PATIENCE_S, self._kill)
        self._guard.start()

    def until(self, pattern: str) -> re.Match[str]:
        """Read lines up to the first that matches."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line matches {pattern!r} in:\n{self.text}{self.errors()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that is not taken for an echo of the one before."""
        wait_out_the_echo(self._signalled)
        self._signalled = time.monotonic()
        self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Do what a terminal does."""
        wait_out_the_echo(self._signalled)
        self._signalled = time.monotonic()
        os.killpg(self._process.pid, number)

    def status(self) -> int:
        """Read what is left, and return the exit status."""
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.text += self._process.stdout.read()
        return self._process.wait()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def close(self) -> None:
        self._guard.cancel()
        self._kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # There may be nobody left in its group.
            os.killpg(self._process.pid, signal.SIGKILL)
