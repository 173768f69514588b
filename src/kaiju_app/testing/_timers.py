"""How long the timers of schedulers sleep in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from kaiju_app._core.clock import Timer
from kaiju_app._engine.timer_queue import MAX_SLEEP

if TYPE_CHECKING:
    from ._loop import VirtualLoop

LONGEST_SLEEP = 86_400_000_000


class Timers:
    """The timers of all schedulers that live by one clock.

    A timer wakes each minute to look at the clocks of the machine. A virtual one cannot change unseen, and half a
    million idle minutes a year take longer than all the rest. So a timer sleeps until it has something to do, and each
    minute only around an upset, which is noticed as on a machine.

    Args:
        now: Reads the steady clock.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._timers: list[Timer] = []
        self._loop: VirtualLoop | None = None
        self._upset_until = 0

    def open(self, loop: VirtualLoop) -> None:
        """Begin anew in *loop*."""
        self._loop = loop
        self._timers.clear()

    def add(self, timer: Timer) -> None:
        """Let *timer* sleep longer from now on."""
        if timer not in self._timers:
            self._timers.append(timer)
        timer.most_sleep = self._most_sleep

    def before_upset(self) -> None:
        """Prepare for what schedulers cannot foresee: the wall clock is set, the loop blocked, the machine asleep."""
        self._upset_until = self._now() + 2 * MAX_SLEEP
        if self._loop is None or self._loop.is_closed():
            return
        for timer in self._timers:
            if asyncio._get_running_loop() is self._loop:
                timer.set_anew()
            else:
                self._loop.call_soon_threadsafe(timer.set_anew)

    def _most_sleep(self) -> int:
        return MAX_SLEEP if self._now() < self._upset_until else LONGEST_SLEEP
