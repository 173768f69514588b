"""What the tests of run_app() share: programs that are started, read and signalled."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.program import WatchedProcess

PROGRAMS = Path(__file__).parent / "programs"
PROMPT_S = 4.0  # Two seconds for the rest of the stop and one for threads; less than the default grace of 5 s.

SIGNALS = [signal.SIGINT, signal.SIGTERM]
LOOPS = ["asyncio", pytest.param("uvloop", marks=[pytest.mark.slow, pytest.mark.uvloop])]

each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
each_loop = pytest.mark.parametrize("loop", LOOPS)


class Program(WatchedProcess):
    """A running program, and how it ended."""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def signal_again(self, number: signal.Signals) -> None:
        """Send a signal, even if it comes so soon after the previous one that it may count as an echo."""
        self._signalled = time.monotonic()
        self._process.send_signal(number)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def took_s(self) -> float:
        """Wait for the end, and return the seconds since the last signal."""
        self.status()
        return time.monotonic() - self._signalled

    def kept(self) -> set[str]:
        """Return the services whose close() has returned."""
        return {path.stem for path in self.directory.glob("*.kept")}


Start = Callable[..., Program]


OLD = ["signal.SIG_IGN", "signal.SIG_DFL", "signal.default_int_handler", "mine"]
