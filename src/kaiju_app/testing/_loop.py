"""A loop in virtual time: when nothing is left to do at an instant, its clock jumps to the next one.

Two rules keep it right:

1. Time passes only while the loop is idle: nothing is ready, and no thread that was started from it is at work.
2. It passes to the next timer or to where ``advance()`` goes, whichever is earlier, and never beyond.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NoReturn

from kaiju_app._core.clock import substituted
from kaiju_app._core.text import stack_of
from kaiju_app.errors import VirtualTimeError

from ._jobs import Jobs, WatchedExecutor, busy_threads
from ._watchdog import Watchdog

if TYPE_CHECKING:
    from ._clock import VirtualClock

MOST_TURNS = 100_000  # Without an idle moment: some seconds of real time, in which a test reaches any honest end.
STUCK_S = 2.0  # How long a loop without timers may wait for a thread that it does not know.
MOST_SHOWN = 10


class _IdleSelector(selectors.DefaultSelector):
    """Asks its loop what to do instead of waiting."""

    loop: VirtualLoop
    turn = 0
    waiting = False

    def select(self, timeout: float | None = None) -> list[Any]:
        self.turn += 1
        events: list[Any] = super().select(0)
        if events:
            return events
        if timeout == 0:
            self.loop._on_turn()
            return events
        return self.loop._on_idle(timeout)

    def wait(self, timeout_s: float | None) -> list[Any]:
        """Wait in real time."""
        self.waiting = True
        events: list[Any] = super().select(timeout_s)
        self.waiting = False
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which time passes by a ``VirtualClock``, which makes it.

    Attributes:
        virtual_clock: The clock.
    """

    _ready: deque[asyncio.Handle]
    _default_executor: Executor | None
    _check_default_executor: Callable[[], None]

    def __init__(self, clock: VirtualClock) -> None:
        self._idle = _IdleSelector()
        super().__init__(self._idle)
        self._idle.loop = self
        self.virtual_clock = clock
        self._clock_resolution = 1e-6
        self._turns = 0
        self._closing = False
        self._goals: list[tuple[int, int, asyncio.Future[None]]] = []
        self._jobs = Jobs(self)

    def time(self) -> float:
        """Return the seconds since the machine of the test was booted, without those that it slept."""
        return self.virtual_clock.awake_now() / 1e6

    def run_forever(self) -> None:
        """Run until ``stop()`` is called. If the clock is in use, code that never gives the loop back is ended."""
        if substituted() is not self.virtual_clock:
            super().run_forever()
            return
        idle = self._idle
        advice = "Let it await, or give the clock a larger patience_s"
        with Watchdog(lambda: None if idle.waiting else idle.turn, self.virtual_clock.patience_s, advice):
            super().run_forever()

    async def reach(self, target: int) -> None:
        """Let time pass until the steady clock shows *target*; return when everything that is due then has run."""
        goal = self.create_future()
        heappush(self._goals, (target, id(goal), goal))
        await goal

    def refuse_sleep(self, seconds: float) -> NoReturn:
        """Raise the error for code that sleeps in real time."""
        raise VirtualTimeError(
            f"time.sleep({seconds!r}) would wait in real time, and no virtual time would pass. Write `await "
            "asyncio.sleep()`; to test code that blocks the loop, call clock.block()"
        )

    # --- threads ---

    def watch_job(self, job: Future[Any], over: asyncio.Future[Any]) -> None:
        """Let no time pass until *job* has ended and *over* has told of it."""
        self._jobs.watch(job, over)

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call *func* in a thread; no time passes meanwhile."""
        if executor is None:
            self._check_default_executor()
            executor = self._default_executor
            if executor is None:
                executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
                self.set_default_executor(executor)
        watched = WatchedExecutor(executor)
        over: asyncio.Future[Any] = super().run_in_executor(watched, func, *args)
        if watched.job is not None:
            self.watch_job(watched.job, over)
        return over

    async def shutdown_default_executor(self, *limit: Any) -> None:
        """Wait for the threads of ``asyncio.to_thread()``; no time passes meanwhile."""
        self._closing = True
        try:
            await super().shutdown_default_executor(*limit)
        finally:
            self._closing = False

    # --- what happens instead of waiting ---

    def _on_turn(self) -> None:
        self._turns += 1
        if self._turns > MOST_TURNS:
            self._turns = 0
            ready = [each for each in asyncio.all_tasks(self) if getattr(each, "_fut_waiter", None) is None]
            self._fail(
                f"the loop has made {MOST_TURNS:,} turns at one instant, {self.virtual_clock.now()}: something never "
                f"lets time pass, as `while ...: await asyncio.sleep(0)` does. Tasks that are ready:{_told(ready)}"
            )

    def _on_idle(self, timeout: float | None) -> list[Any]:
        self._turns = 0
        clock = self.virtual_clock
        if self._closing:
            return self._idle.wait(None)
        may_pass = bool(self._goals) or not clock.is_driven_from_outside
        if may_pass and clock.waits_for_threads and self._jobs.in_progress():
            return self._wait_for_threads(clock.patience_s)
        if self._ready:
            return []
        while self._goals and self._goals[0][2].done():  # Somebody does not wait for it any more.
            heappop(self._goals)
        timer = None if timeout is None else clock.steady_now() + max(1, round(timeout * 1e6))
        if self._goals and (timer is None or self._goals[0][0] < timer):
            target, _, goal = heappop(self._goals)
            clock.jump(target)
            goal.set_result(None)
            return []
        if timer is not None and (self._goals or clock.moves_alone):
            clock.jump(timer)
            return []
        return self._wait_for_others()

    def _wait_for_threads(self, patience_s: float) -> list[Any]:
        events = self._idle.wait(patience_s)
        if not events:
            self._jobs.give_up()
            self._fail(
                f"time stands still, at {self.virtual_clock.now()}, while calls in threads are in progress; in "
                f"{patience_s:g} s of real time none has ended. A thread must not wait for virtual "
                f"time: let it wait for something that the test does. Threads at work:{busy_threads()}"
            )
        return events

    def _wait_for_others(self) -> list[Any]:
        """Wait for what the loop does not know: data of a socket, the thread of a test client."""
        clock = self.virtual_clock
        if clock.is_driven_from_outside:
            return self._idle.wait(None)
        patience_s = clock.patience_s if clock.is_paused else min(STUCK_S, clock.patience_s)
        events = self._idle.wait(patience_s)
        if not events:
            why = (
                "the clock is paused: move it with `await clock.advance(seconds)`, or leave the block"
                if clock.is_paused
                else "no timer is set, so nothing can ever happen"
            )
            waiting = _told(asyncio.all_tasks(self))
            self._fail(f"nothing has happened for {patience_s:g} s, and {why}. Tasks that wait:{waiting}")
        return events

    def _fail(self, text: str) -> None:
        """Raise in the ``advance()`` in progress, so that the test ends properly; if there is none, out of the loop."""
        failure = VirtualTimeError(text)
        goals = [goal for _, _, goal in self._goals if not goal.done()]
        self._goals.clear()
        for goal in goals:
            goal.set_exception(failure)
        if not goals:
            raise failure


def _told(tasks: Any) -> str:
    """Return the names of *tasks* and where they are."""
    named = sorted((each.get_name(), stack_of(each)) for each in tasks)
    more = "" if len(named) <= MOST_SHOWN else f"\n  and {len(named) - MOST_SHOWN} more"
    return "".join(f"\n {name}:{stack}" for name, stack in named[:MOST_SHOWN]) + more
