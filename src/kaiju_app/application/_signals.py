"""Hands SIGINT and SIGTERM to the event loop one by one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from kaiju_app._core.clock import steady_us

HANDLED = (signal.SIGINT, signal.SIGTERM)

# If the loop has not handled the first of three signals after half a second, it is blocked and will not handle any.
MAX_UNHANDLED = 2
BLOCKED_US = 500_000

# The same signal again so soon is an echo, not a second request: GNU timeout signals its child and then the process
# group that the child is in; make forwards a signal that the whole group gets anyway.
ECHO_US = 100_000


class Signals:
    """Context manager that records each signal and calls *on_signal* in the loop. Its exit restores the old handlers.

    It does nothing outside the main thread, where Python delivers no signals, and leaves a handler alone that was not
    installed by Python, because Python could not put it back.

    Args:
        loop: Must stay open while the context is.
        on_signal: Called in the loop with the number of signals so far and the signal.

    Attributes:
        received: The signals so far, without echoes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[int, signal.Signals], object]) -> None:
        self.received: list[signal.Signals] = []
        self._loop = loop
        self._on_signal = on_signal
        self._handled = 0
        self._unhandled_since_us = 0
        self._last_us = 0
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                old = signal.getsignal(number)
                if old is not None:
                    self._old[number] = old
                    with contextlib.suppress(NotImplementedError):  # Windows, where the loop polls for signals.
                        # This wakes the loop, even for a signal that another thread got. It is not enough by itself:
                        # it cannot put the old handler back, and does nothing while the loop is blocked.
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
        if self.received and self.received[-1] == number and now - self._last_us < ECHO_US:
            return
        self._last_us = now
        unhandled = len(self.received) - self._handled
        if not unhandled:
            self._unhandled_since_us = now
        self.received.append(signal.Signals(number))
        if unhandled >= MAX_UNHANDLED and now - self._unhandled_since_us > BLOCKED_US:
            self.__exit__()
            signal.raise_signal(number)
        else:
            self._loop.call_soon_threadsafe(self._handle)

    def _handle(self) -> None:
        self._handled += 1
        self._on_signal(self._handled, self.received[self._handled - 1])
