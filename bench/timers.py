"""The floors F2 and F3: a timer of the loop for each task."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.floors import Body, Launch, end_runs, first_due


class F3:
    """A `loop.call_at` per task that re-arms itself, and `loop.create_task` per run."""

    synchronous = False
    runs_every_tick = True
    gives_way = False

    def __init__(self) -> None:
        self._timers: set[_Timer] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, func: Body, interval_s: float, first_due_s: float) -> _Timer:
        timer = _Timer(func, interval_s, first_due(interval_s, first_due_s))
        self._timers.add(timer)
        if self._loop:
            timer.arm(self._loop, self._launcher(self._loop))
        return timer

    def remove(self, timer: _Timer) -> None:
        timer.disarm()
        self._timers.remove(timer)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        launch = self._launcher(self._loop)
        for timer in self._timers:
            timer.arm(self._loop, launch)

    async def stop(self) -> None:
        self._loop = None
        for timer in self._timers:
            timer.disarm()
        await end_runs()

    def _launcher(self, loop: asyncio.AbstractEventLoop) -> Launch | None:
        return loop.create_task


class F2(F3):
    """A `loop.call_at` per task that re-arms itself, and a synchronous function: the cost of a bare timer."""

    synchronous = True

    def _launcher(self, loop: asyncio.AbstractEventLoop) -> Launch | None:
        return None


class _Timer:
    """One task of F2 and F3."""

    __slots__ = ("_call_at", "_due_s", "_func", "_handle", "_interval_s", "_launch")

    def __init__(self, func: Body, interval_s: float, due_s: float) -> None:
        self._func = func
        self._interval_s = interval_s
        self._due_s = due_s
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, loop: asyncio.AbstractEventLoop, launch: Launch | None) -> None:
        self._call_at = loop.call_at
        self._launch: Any = launch
        self._handle = loop.call_at(self._due_s, self._call if launch is None else self._spawn)

    def disarm(self) -> None:
        if self._handle:
            self._handle.cancel()

    def _call(self) -> None:
        self._due_s += self._interval_s
        self._handle = self._call_at(self._due_s, self._call)
        self._func()

    def _spawn(self) -> None:
        self._due_s += self._interval_s
        self._handle = self._call_at(self._due_s, self._spawn)
        self._launch(self._func())
