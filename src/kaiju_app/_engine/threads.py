"""The threads in which plain functions run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from functools import partial
from types import GeneratorType
from typing import Any

from kaiju_app._core.exceptions import chain, is_a
from kaiju_app._core.model import Reason
from kaiju_app._core.workers import Workers, awaitable
from kaiju_app.errors import WrongThread

from .entry import ActiveRun

NEEDS_LOOP = (
    "no running event loop",
    "There is no current event loop",
    "This event loop is already running",
    "Non-thread-safe operation",
    "attached to a different loop",
    "bound to a different event loop",
)
"""What asyncio says, among other words, where there is no loop or another one."""


class Threads:
    """The thread pool of one scheduler: its own, so that many slow calls cannot starve anybody else.

    Args:
        count: How many plain functions may run at a time.
        cancel: Cancels a run.
        why_cancelled: Returns why the current asyncio task is cancelled.
    """

    def __init__(
        self, count: int, cancel: Callable[[ActiveRun, Reason], None], why_cancelled: Callable[[], Reason]
    ) -> None:
        self._count = count
        self._cancel = cancel
        self._why_cancelled = why_cancelled
        self._pool: Workers | None = None

    async def call(self, run: ActiveRun) -> Any:
        """Call the plain function of *run* in a thread; if it returns an awaitable, await that in the loop."""
        entry = run.entry
        if run.context is None:
            # A copy: the loop could not step this asyncio task while a thread is inside the context of the task.
            run.context = copy_context()
        if self._pool is None:
            self._pool = Workers(self._count, "kaiju_app")
        job = self._pool.submit(partial(run.context.run, _returned_or_raised, entry.func, entry.args, entry.kws))
        over = awaitable(job)
        run.job = job
        try:
            while not over.done():
                try:
                    await asyncio.wait([over])
                except asyncio.CancelledError:
                    # Somebody cancelled the asyncio task. The thread cannot be stopped, so the run is still in
                    # progress, and no second copy may start.
                    self._cancel(run, self._why_cancelled())
            ending = over.result()
            result, failure = ending
            ending.clear()  # The traceback of the exception leads to a frame of the pool that holds it.
        finally:
            run.job = None
            del job, over  # They hold the exception, whose traceback holds this frame.
        if failure is not None:
            try:
                raise _fit_for_a_coroutine(failure, asked=run.cause is not None)
            finally:
                del failure
        if not _is_awaitable(result):
            return result
        if run.cause is None:
            return await result
        if inspect.iscoroutine(result):
            result.close()
        raise asyncio.CancelledError  # The run was cancelled: it is not begun.

    def close(self) -> None:
        """Let the threads end when their calls return."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def forget(self) -> None:
        """Drop the pool in a forked process, which has none of its threads."""
        self._pool = None


def _is_awaitable(value: object) -> bool:
    """As ``inspect.isawaitable()``, which asks the object itself for its class; a proxy may raise then."""
    kind = type(value)
    return issubclass(kind, Awaitable) or (kind is GeneratorType and inspect.isawaitable(value))


def _returned_or_raised(func: Callable[..., Any], args: tuple[Any, ...], kws: Mapping[str, Any]) -> list[Any]:
    """Call *func*; return its result and None, or None and what it raised: not every exception fits into a future."""
    try:
        return [func(*args, **kws), None]
    except BaseException as exc:
        return [None, exc]


def _fit_for_a_coroutine(exc: BaseException, *, asked: bool) -> BaseException:
    """Return *exc*, or a RuntimeError if a coroutine that raises it means something else by that.

    Args:
        asked: Whether the run was asked to end, so that a CancelledError may be due to that.
    """
    if is_a(exc, StopIteration):
        how = ", as next() does at the end of an iterator: catch it, or give next() a default"
    elif is_a(exc, asyncio.CancelledError) and not asked:
        how = " in its thread, although nobody had asked the run to end"
    else:
        return exc
    failure = RuntimeError(f"the function raised {type(exc).__name__}{how}")
    failure.__cause__ = exc
    return failure


def advice_for(exc: BaseException) -> str:
    """Return what to do if a plain function raised *exc* because it needs the event loop; "" if that is not why."""
    if not any(_needs_loop(each) for each in chain(exc)):
        return ""
    return (
        ". A plain function runs in a thread, where there is no event loop: write it as `async def`, or pass this call "
        "to current_run().loop.call_soon_threadsafe()"
    )


def _needs_loop(exc: BaseException) -> bool:
    if is_a(exc, WrongThread):
        return True
    text = exc.args[0] if type(exc) is RuntimeError and exc.args else None
    return type(text) is str and any(words in text for words in NEEDS_LOOP)
