"""Ends code that never gives a loop in virtual time back: nothing else could, and the test would hang."""

from __future__ import annotations

import ctypes
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from kaiju_app.errors import VirtualTimeError

from ._jobs import code_in


class Watchdog:
    """Checks from a thread whether a loop makes progress, while it runs.

    Args:
        turn: Returns the number of the loop's turn; None while the loop waits in real time.
        patience_s: Real seconds after which a turn is ended, at the latest after twice as many.
        advice: What the code, or the test, is to do instead.
    """

    def __init__(self, turn: Callable[[], int | None], patience_s: float, advice: str) -> None:
        self._turn = turn
        self._patience_s = patience_s
        self._advice = advice
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="kaiju_app: virtual time", daemon=True
        )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self, ident: int) -> None:
        seen = self._turn()
        while not self._over.wait(self._patience_s):
            turn = self._turn()
            if turn is not None and turn == seen:
                interrupt(ident, self._patience_s, self._advice)
            seen = turn


def interrupt(ident: int, patience_s: float, advice: str) -> None:
    """Raise VirtualTimeError in the thread *ident*, in the code that it is executing."""
    frame = sys._current_frames().get(ident)
    if frame is None or _is_debugged(frame):
        return
    text = f"the loop has been blocked for {patience_s:g} s: the code at {code_in(frame)} never awaits. {advice}"

    class NeverAwaits(VirtualTimeError):
        """Python calls it without arguments."""

        def __init__(self) -> None:
            super().__init__(text)

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(NeverAwaits))


def _is_debugged(frame: FrameType) -> bool:
    """Return whether a person is at work, whose patience is longer."""
    files = (each.f_code.co_filename for each, _ in traceback.walk_stack(frame))
    return any(each.endswith("bdb.py") or "pydevd" in each for each in files)
