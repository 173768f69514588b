"""The clock that a test has put in place of those of the machine, for the whole process."""

from __future__ import annotations

import asyncio
import threading
import time

from kaiju_app._core.clock import Clock, substitute, substituted
from kaiju_app.errors import VirtualTimeError
from kaiju_app.scheduler._lifecycle import running_outside

_sleep = time.sleep
_start = threading.Thread.start


def put_in_place(clock: Clock) -> None:
    """Give the time of *clock* to every scheduler without a clock of its own, and refuse what its loop refuses.

    Raises:
        VirtualTimeError: Another clock is in place, or a scheduler is running already.
    """
    global _sleep, _start
    if substituted() is not None:
        raise VirtualTimeError(
            f"there are two clocks: {substituted()!r} is in use already. A test has one clock: use that one, or "
            "leave its `with` block first"
        )
    outside = running_outside()
    if outside:
        raise VirtualTimeError(
            f"a scheduler is running already, in real time, with the task(s) {', '.join(map(repr, outside))}: stop it, "
            "and start it inside `with clock:`, or in a test that has the fixture `clock`"
        )
    _sleep, time.sleep = time.sleep, _sleep_outside  # type: ignore[assignment]
    # Not what they were at the import: another library may have replaced them since.
    _start, threading.Thread.start = threading.Thread.start, _start_outside  # type: ignore[method-assign,assignment]
    substitute(clock)


def put_back() -> None:
    """Read the clocks of the machine again."""
    substitute(None)
    time.sleep = _sleep
    threading.Thread.start = _start  # type: ignore[method-assign]


def _sleep_outside(seconds: float, /) -> None:
    """Sleep in real time; in a loop in virtual time, refuse to."""
    refuse = getattr(asyncio._get_running_loop(), "refuse_sleep", None)
    if refuse is not None:
        refuse(seconds)
    _sleep(seconds)


def _start_outside(thread: threading.Thread) -> None:
    """Start *thread*; in a loop that can have none, refuse to."""
    refuse = getattr(asyncio._get_running_loop(), "refuse_thread", None)
    if refuse is not None:
        refuse()
    _start(thread)
