"""An event loop that the simulation steps, and how its leftovers are discarded after a crash."""

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
from typing import Any, NoReturn

from kaiju_app.errors import VirtualTimeError

MAX_CLOSE_ATTEMPTS = 1_000  # How often a coroutine may refuse to be closed.


class _NoSelector:
    """Never has anything to read, and never waits: the simulation decides when the loop runs."""

    def select(self, _: float | None = None) -> list[Any]:
        return []

    def get_map(self) -> dict[Any, Any]:
        return {}

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop that is stepped from outside and reads the given clock.

    Args:
        steady: The clock, in microseconds.
        on_work: Called when something outside the loop gives it work.
    """

    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _thread_id: int | None
    _asyncgens: Any
    _asyncgen_firstiter_hook: Callable[[AsyncGenerator[Any, Any]], None]
    _asyncgen_finalizer_hook: Callable[[AsyncGenerator[Any, Any]], None]
    _run_once: Callable[[], None]

    def __init__(self, steady: Callable[[], int], on_work: Callable[[], None]) -> None:
        super().__init__(_NoSelector())  # type: ignore[arg-type]
        self._steady = steady
        self._on_work = on_work
        self._clock_resolution = 1e-6
        self.slow_callback_duration = math.inf
        self.is_dead = False
        self.refusals: list[BaseException] = []
        # From Python 3.12 on, runs of a scheduler would start eagerly, and the journal would differ from that of 3.11.
        self.set_task_factory(_plain_task)

    def time(self) -> float:
        return self._steady() / 1e6

    def step(self) -> None:
        """Run one turn: ready callbacks and due timers."""
        self._thread_id = get_ident()
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        asyncio.events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            self._thread_id = None
            asyncio.events._set_running_loop(None)

    def next_turn_at(self) -> int | None:
        """Return the steady time of the next turn: 0 if now, None if only something outside can wake the loop."""
        if self._ready:
            return 0
        while self._scheduled and self._scheduled[0]._cancelled:  # The loop does the same, but only once it runs.
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
        self.refuse_thread()

    def refuse_thread(self) -> NoReturn:
        """Raise the error for code that starts a thread."""
        self._refuse(
            "a thread would make the simulation non-deterministic. Write the function as `async def`: a task that is a "
            "plain function runs in a thread, too. If a library needs a thread, let the test replace that library"
        )

    def refuse_sleep(self, seconds: float) -> NoReturn:
        """Raise the error for code that sleeps in real time."""
        self._refuse(
            f"time.sleep({seconds!r}) would wait in real time, and no simulated time would pass. Write `await "
            "asyncio.sleep()`; to make an instance late, call cluster.pause()"
        )

    def _refuse(self, text: str) -> NoReturn:
        failure = VirtualTimeError(text)
        self.refusals.append(failure)
        raise failure

    def _make_self_pipe(self) -> None:
        """Do nothing: no thread ever writes to the pipe."""

    def _close_self_pipe(self) -> None:
        """Do nothing: the pipe was never made."""

    def _write_to_self(self) -> None:
        if not self.is_dead:
            self._on_work()


def _plain_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


def discard(loop: SimulatedLoop, remains: Iterable[Any]) -> None:
    """Discard a loop with its tasks and generators, without log lines and without side effects."""
    loop.is_dead = True
    loop.set_exception_handler(lambda *_: None)
    for handle in [*loop._ready, *loop._scheduled]:
        for each in handle._args or ():
            if hasattr(each, "close"):  # A coroutine that was about to become a task.
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
    """Close a coroutine, even if its ``finally`` blocks await something or it catches everything."""
    for _ in range(MAX_CLOSE_ATTEMPTS):
        try:
            coroutine.close()
        except BaseException:  # The process has crashed: no error of it matters.
            if getattr(coroutine, "cr_frame", None) is None:
                return
        else:
            return
    raise AssertionError(f"{coroutine} cannot be closed")


@contextmanager
def logging_disabled() -> Iterator[None]:
    """Disable all logging while the context lasts."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
