"""SIGINT and SIGTERM, handed to the loop one by one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from ._clock import steady_us

HANDLED = (signal.SIGINT, signal.SIGTERM)

# A third signal, and the loop has not even taken up the first for half a second: it is blocked, and not coming back.
MOST_UNSEEN = 2
BLOCKED_US = 500_000

# The same signal again so soon is an echo of the first, not a second thought: GNU timeout signals its child, and then
# the group that it is in; make hands on what the whole group gets anyway.
ECHO_US = 100_000


class Signals:
    """Inside this context, each signal is noted and calls *on_signal* in the loop; then the old handlers are back.

    Outside the main thread, where Python delivers none, it does nothing; nor for a handler that Python could not put
    back, because it was not installed by Python.

    Args:
        loop: Open for as long as the context is.
        on_signal: Called in the loop with the number of signals up to this one, and the signal.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[int, signal.Signals], object]) -> None:
        self.received: list[signal.Signals] = []
        self._loop = loop
        self._on_signal = on_signal
        self._seen = 0
        self._waiting_since = 0
        self._last = 0
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                old = signal.getsignal(number)
                if old is not None:
                    self._old[number] = old
                    with contextlib.suppress(NotImplementedError):  # Windows, where the loop looks by itself.
                        # It wakes the loop, even for a signal that another thread got. Its handler alone will not do:
                        # it could not put the old one back, and is silent while the loop hangs.
                        self._loop.add_signal_handler(number, lambda: None)
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = steady_us()
        if self.received and self.received[-1] == number and now - self._last < ECHO_US:
            return
        self._last = now
        unseen = len(self.received) - self._seen
        if not unseen:
            self._waiting_since = now
        self.received.append(signal.Signals(number))
        if unseen >= MOST_UNSEEN and now - self._waiting_since > BLOCKED_US:
            self.__exit__()
            signal.raise_signal(number)
        else:
            self._loop.call_soon_threadsafe(self._take_up)

    def _take_up(self) -> None:
        self._seen += 1
        self._on_signal(self._seen, self.received[self._seen - 1])
