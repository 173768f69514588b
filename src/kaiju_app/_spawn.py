"""How a run becomes an asyncio task: started eagerly where Python and the loop can."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from ._events import log
from ._runs import Spawn


def spawner(loop: asyncio.AbstractEventLoop) -> Spawn:
    """Return the way to start a run in the running *loop*: the first of these that works.

    The loop's own task factory, if somebody has set one; eagerly; plainly. Tried, not looked up: some versions of
    uvloop take an eager factory and then raise TypeError for every task.
    """
    if loop.get_task_factory() is not None:
        if _works(lambda coro, name, context: loop.create_task(coro, name=name, context=context)):
            return lambda coro, name, context: loop.create_task(coro, name=name, context=context)
        log.warning("the loop's task factory %r cannot make tasks: runs start without it", loop.get_task_factory())
    if sys.version_info >= (3, 12):
        task_type: Any = asyncio.Task  # Its eager_start is younger than what is checked against.

        def eager(coro: Coroutine[Any, Any, None], name: str, context: Context) -> asyncio.Task[None]:
            task: asyncio.Task[None] = task_type(coro, loop=loop, name=name, context=context, eager_start=True)
            return task

        if _works(eager):
            return eager

    def plain(coro: Coroutine[Any, Any, None], name: str, context: Context) -> asyncio.Task[None]:
        return asyncio.Task(coro, loop=loop, name=name, context=context)

    return plain


def _works(spawn: Spawn) -> bool:
    probe = _nothing()
    try:
        spawn(probe, "kaiju_app: trying how tasks are started", Context())
    except TypeError:
        probe.close()
        return False
    return True


async def _nothing() -> None:
    pass
