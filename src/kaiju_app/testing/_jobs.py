"""The calls in threads that virtual time waits for: while one is in progress, no time passes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

IDLE_IN = ("threading.py", "queue.py", "selectors.py", "thread.py", "_core/workers.py", "_backends/_asyncio.py")
"""Where a thread is that waits for something to do."""

LIBRARIES = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[1]))


class Jobs:
    """The calls in threads that one loop has made and that have not ended, or whose end the loop does not know yet.

    Args:
        loop: The loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._given_up = False
        self._jobs: dict[concurrent.futures.Future[Any], asyncio.Future[Any]] = {}
        self._limiter: Any = None

    def watch(self, job: concurrent.futures.Future[Any], over: asyncio.Future[Any]) -> None:
        """Wait for *job*, and for *over* to tell the loop of its end. A cancelled *over* does not end the thread."""
        self._jobs[job] = over
        job.add_done_callback(self._rouse)

    def in_progress(self) -> bool:
        """Return whether a call is in progress."""
        if self._jobs:
            self._jobs = {job: over for job, over in self._jobs.items() if not (job.done() and over.done())}
        return not self._given_up and bool(self._jobs or self._in_anyio())

    def give_up(self) -> None:
        """Wait for no thread any more: the test has failed, and is to end."""
        self._given_up = True

    def _rouse(self, _: object) -> None:
        with suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(_nothing)

    def _in_anyio(self) -> bool:
        """Return whether a thread of anyio is at work, as for the plain functions of FastAPI and Starlette."""
        anyio = sys.modules.get("anyio.to_thread")
        if anyio is None:
            return False
        if self._limiter is None:  # It can be asked for in a task only.
            self._limiter = self._loop.create_task(_limiter(anyio.current_default_thread_limiter))
            return False
        if isinstance(self._limiter, asyncio.Task):
            if not self._limiter.done():
                return False
            self._limiter = self._limiter.result()
        return bool(self._limiter.borrowed_tokens)


class WatchedExecutor(concurrent.futures.Executor):
    """Submits to another executor, and keeps what was submitted last."""

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self._executor = executor
        self.job: concurrent.futures.Future[Any] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Submit *fn* to the other executor."""
        self.job = self._executor.submit(fn, *args, **kwargs)
        return self.job


def busy_threads() -> str:
    """Return where each thread is that does something, one a line; without this thread."""
    lines = []
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = None if thread is threading.current_thread() else frames.get(thread.ident or 0)
        if frame is None or frame.f_code.co_filename.replace("\\", "/").endswith(IDLE_IN):
            continue
        lines.append(f"\n  thread {thread.name!r} at {code_in(frame)}")
    return "".join(lines) or " (none)"


def code_in(frame: FrameType) -> str:
    """Return file and line of the application's code in *frame*: it says more than the library that it has called."""
    calls = (each for each, _ in traceback.walk_stack(frame))
    shown = next((each for each in calls if not each.f_code.co_filename.startswith(LIBRARIES)), frame)
    return f"{shown.f_code.co_filename}:{shown.f_lineno}"


async def _limiter(limiter: Callable[[], Any]) -> Any:
    return limiter()


def _nothing() -> None:
    pass
