"""Threads that execute calls, also after the main thread of the program has ended."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_Call = tuple[Future[object], Callable[[], object]]

LOOK_S = 0.25  # An idle thread looks this often whether the program is about to end, which waits for it.
MOST_LOOKS = 20  # After so many it ends, unless Python might start no other.


class NoThread(RuntimeError):
    """No thread could be started; the text says why and what to do."""


class Workers:
    """Threads that share a queue of calls, each started when it is needed.

    The pool of ``concurrent.futures`` refuses all calls once the main thread has ended, even while a loop goes on in
    another thread. These threads go on as long as that one does. As there, the program ends when their calls have
    returned; only a loop in a daemon thread, which ends with the program, gets daemon threads from then on.

    Args:
        count: How many calls are executed at a time.
        name: Of the threads.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._caller = threading.current_thread()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have *call* executed; return the future of its result.

        Raises:
            NoThread: There is no thread for it, and none could be started.
        """
        future: Future[T] = Future()
        waiting: _Call = (future, call)  # type: ignore[assignment]
        with self._changed:
            self._caller = threading.current_thread()
            if self._idle <= len(self._calls) and self._threads < self._count:
                try:
                    self._start(waiting)
                    return future
                except RuntimeError as exc:  # The system has no more threads, or Python starts none at its end.
                    if not self._threads:
                        raise NoThread(why_no_thread(exc)) from exc
            self._calls.append(waiting)
            self._changed.notify()
        return future

    def close(self) -> None:
        """Let the threads end when they have executed the calls that were submitted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self, waiting: _Call) -> None:
        """Start a thread, whose first call this is: it begins without the lock, which the caller has."""
        daemon = threading.current_thread().daemon and not threading.main_thread().is_alive()
        threading.Thread(target=self._work, args=([waiting],), name=self._name, daemon=daemon).start()
        self._threads += 1

    def _work(self, first: list[_Call]) -> None:
        waiting: _Call | None = first.pop()  # The thread keeps its arguments.
        while waiting is not None:
            future, call = waiting
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as exc:
                    future.set_exception(exc)
                else:
                    future.set_result(result)
                    del result
            del waiting, future, call  # An idle thread keeps nothing alive.
            waiting = self._next()

    def _next(self) -> _Call | None:
        """Wait for the next call; None if the thread is not needed any more."""
        looks = 0
        with self._changed:
            while not self._calls:
                if not self._is_needed(looks):
                    self._threads -= 1
                    return None
                self._idle += 1
                self._changed.wait(LOOK_S)
                self._idle -= 1
                looks += 1
            return self._calls.popleft()

    def _is_needed(self, looks: int) -> bool:
        """Return whether a thread that has been idle for some *looks* goes on waiting for calls."""
        if self._closed or not self._caller.is_alive():
            return False
        return looks < MOST_LOOKS if threading.main_thread().is_alive() else not self._caller.daemon


def awaitable(job: Future[T]) -> asyncio.Future[T]:
    """Return ``asyncio.wrap_future(job)``; a loop in virtual time stands still until both have ended."""
    over = asyncio.wrap_future(job)
    watch = getattr(over.get_loop(), "watch_job", None)
    if watch is not None:
        watch(job, over)
    return over


def why_no_thread(exc: RuntimeError) -> str:
    """Return why no thread could be started, and what to do."""
    if threading.main_thread().is_alive():
        return f"no thread can be started ({exc}): end some threads of this process, or raise the limit of the system"
    return (
        f"no thread can be started, as the main thread has ended ({exc}): let it wait for the end of the thread in "
        "which the event loop runs, with thread.join()"
    )
