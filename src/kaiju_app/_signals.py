"""SIGINT and SIGTERM, handed to the loop one by one."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

HANDLED = (signal.SIGINT, signal.SIGTERM)

MOST_UNSEEN = 2  # A third one that the loop has not taken up says that it is blocked, and not coming back.


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
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                # Not loop.add_signal_handler(): it cannot put the old handler back, and is silent when the loop hangs.
                if signal.getsignal(number) is not None:
                    self._old[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        if len(self.received) - self._seen > MOST_UNSEEN:
            self.__exit__()
            signal.raise_signal(number)
        else:
            self._loop.call_soon_threadsafe(self._take_up)

    def _take_up(self) -> None:
        self._seen += 1
        self._on_signal(self._seen, self.received[self._seen - 1])
