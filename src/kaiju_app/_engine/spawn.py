"""How a run becomes an asyncio task: started eagerly where Python and the loop can do that."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol

from .events import log


class TaskFactory(Protocol):
    """A way to create an asyncio task."""

    def __call__(self, coro: Coroutine[Any, Any, None], name: str, context: Context, /) -> asyncio.Task[None]: ...


def task_factory(loop: asyncio.AbstractEventLoop) -> TaskFactory:
    """Return the first way that works to start a run in the running *loop*.

    They are: the loop's own task factory, if one was set; eagerly, unless it is in debug mode; plainly. Each is tried
    rather than looked up, because some versions of uvloop accept an eager factory and then raise TypeError for every
    task.
    """
    if loop.get_task_factory() is not None:
        if _works(by_factory := _by_factory(loop)):
            return by_factory
        log.warning("the loop's task factory %r cannot create tasks; runs start without it", loop.get_task_factory())
    # In debug mode asyncio names the task whose step was slow, but not one that runs inside the step of something else.
    if sys.version_info >= (3, 12) and not loop.get_debug() and _works(eager := _eager(loop)):
        return eager
    return _plain(loop)


def _by_factory(loop: asyncio.AbstractEventLoop) -> TaskFactory:
    return lambda coro, name, context: loop.create_task(coro, name=name, context=context)


def _eager(loop: asyncio.AbstractEventLoop) -> TaskFactory:
    task: Any = asyncio.Task  # Typed as Any: the oldest Python that mypy checks for has no eager_start.
    return lambda coro, name, context: task(coro, loop=loop, name=name, context=context, eager_start=True)


def _plain(loop: asyncio.AbstractEventLoop) -> TaskFactory:
    task = asyncio.Task  # Not loop.create_task(), which would look for a factory each time.
    return lambda coro, name, context: task(coro, loop=loop, name=name, context=context)


def _works(factory: TaskFactory) -> bool:
    probe = _nothing()
    try:
        factory(probe, "kaiju_app: probe of the task factory", Context())
    except TypeError:
        probe.close()
        return False
    return True


async def _nothing() -> None:
    pass
