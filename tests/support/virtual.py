"""A loop whose clock jumps to the next timer when nothing else is ready: a year of schedules in a second.

No library, because tests need more than fast time: integer microseconds, so that ticks can be compared for equality; a
wall clock that is set independently of the steady clock; a blocked loop and a sleeping machine; and an error instead
of a hang when nothing can ever happen again.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from kaiju_app.scheduler import Clock

EPOCH_US = 1_800_000_000_000_000  # A Friday in 2027: any date would do.


class Stuck(Exception):
    """Nothing is ready and no timer is set, so the test would hang."""


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Advances the clock of its loop instead of waiting."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            ready = super().select(2)  # A thread may still wake the loop.
            if not ready:
                raise Stuck
        if not ready and timeout:
            self.loop.now_us += max(1, round(timeout * 1e6))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. ``complaints`` collects the errors that it would have logged."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self.now_us = 5_000_000  # A machine that has just booted; less than most intervals.
        self.wall_step_us = 0
        self.slept_us = 0
        self._clock_resolution = 1e-6
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self.awake_us() / 1e6

    def awake_us(self) -> int:
        return self.now_us - self.slept_us

    def wall_us(self) -> int:
        return EPOCH_US + self.now_us + self.wall_step_us

    @property
    def clock(self) -> Clock:
        """The clocks for a scheduler in this loop."""
        return Clock(steady=lambda: self.now_us, wall=self.wall_us, awake=self.awake_us)

    def block(self, seconds: float) -> None:
        """Let time pass without returning to the loop, as blocking code does."""
        self.now_us += round(seconds * 1e6)

    def close_the_lid(self, seconds: float) -> None:
        """Let time pass while the machine sleeps. The clock of the loop stands still, as on Linux."""
        self.block(seconds)
        self.slept_us += round(seconds * 1e6)

    def set_the_clock(self, seconds: float) -> None:
        """Set the wall clock forward, or back if *seconds* is negative."""
        self.wall_step_us += round(seconds * 1e6)


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close *loop* as ``asyncio.run`` does."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
