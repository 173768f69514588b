"""A loop that somebody else steps, and what is left of it when its process is gone."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from heapq import heappop
from threading import get_ident
from typing import Any

STUBBORN = 1_000  # How often a coroutine may refuse to be closed.


class _NoSelector:
    """Nothing is ever to be read, and whether to wait is not the loop's to decide."""

    def select(self, _: float | None = None) -> list[Any]:
        return []

    def get_map(self) -> dict[Any, Any]:
        return {}

    def close(self) -> None:
        """There is nothing to close."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop that is stepped from outside, by a clock that is given to it."""

    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _thread_id: int | None
    _asyncgens: Any
    _asyncgen_firstiter_hook: Callable[[AsyncGenerator[Any, Any]], None]
    _asyncgen_finalizer_hook: Callable[[AsyncGenerator[Any, Any]], None]
    _run_once: Callable[[], None]

    def __init__(self, steady: Callable[[], int], stirred: Callable[[], None]) -> None:
        super().__init__(_NoSelector())  # type: ignore[arg-type]
        self._steady = steady
        self._stirred = stirred
        self._clock_resolution = 1e-6
        self.slow_callback_duration = math.inf
        self.is_dead = False

    def time(self) -> float:
        return self._steady() / 1e6

    def step(self) -> None:
        """Run one turn: what is ready, and the timers that are due."""
        self._thread_id = get_ident()
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        asyncio.events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            self._thread_id = None
            asyncio.events._set_running_loop(None)

    def wants(self) -> int | None:
        """Return the steady time of the next turn; 0: at once; None: only something from outside can wake it."""
        if self._ready:
            return 0
        while self._scheduled and self._scheduled[0]._cancelled:  # As the loop itself does, but before it is woken.
            self._timer_cancelled_count -= 1
            heappop(self._scheduled)._scheduled = False
        return round(self._scheduled[0]._when * 1e6) if self._scheduled else None

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        if self.is_dead:
            return asyncio.Handle(callback, args, self, context)
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        if self.is_dead:
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def create_task(self, coro: Any, **options: Any) -> Any:
        if self.is_dead:
            coro.close()
            return self.create_future()
        return super().create_task(coro, **options)

    def run_in_executor(self, *_: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("a thread would make a simulation differ from time to time: give it a coroutine function")

    def _make_self_pipe(self) -> None:
        """Nobody writes to it."""

    def _close_self_pipe(self) -> None:
        """It was never made."""

    def _write_to_self(self) -> None:
        if not self.is_dead:
            self._stirred()


def bury(loop: SimulatedLoop, remains: Iterable[Any]) -> None:
    """Throw away a loop, and the tasks and generators in it, unheard and without effect."""
    loop.is_dead = True
    loop.set_exception_handler(lambda *_: None)
    for handle in [*loop._ready, *loop._scheduled]:
        for each in handle._args or ():
            if hasattr(each, "close"):  # A coroutine that was to become a task.
                each.close()
    loop.close()
    asyncio.events._set_running_loop(loop)
    try:
        for each in remains:
            if isinstance(each, asyncio.Task):
                each._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(each.get_coro())
    finally:
        asyncio.events._set_running_loop(None)


def _close(coroutine: Any) -> None:
    """Close a coroutine, even one that awaits something in its finally blocks, or catches everything."""
    for _ in range(STUBBORN):
        try:
            coroutine.close()
        except BaseException:  # Whatever it says now, nobody is there to hear it.
            if getattr(coroutine, "cr_frame", None) is None:
                return
        else:
            return
    raise AssertionError(f"{coroutine} cannot be closed")


@contextmanager
def hushed() -> Iterator[None]:
    """Log nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
