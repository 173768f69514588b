"""How a run becomes an asyncio task: started eagerly where Python and the loop can."""

from __future__ import annotations

import asyncio
import sys
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
        if _works(by_factory := _by_factory(loop)):
            return by_factory
        log.warning("the loop's task factory %r cannot make tasks: runs start without it", loop.get_task_factory())
    if sys.version_info >= (3, 12) and _works(eager := _eager(loop)):
        return eager
    return _plain(loop)


def _by_factory(loop: asyncio.AbstractEventLoop) -> Spawn:
    return lambda coro, name, context: loop.create_task(coro, name=name, context=context)


def _eager(loop: asyncio.AbstractEventLoop) -> Spawn:
    task: Any = asyncio.Task  # Its eager_start is younger than the oldest Python that this is checked for.
    return lambda coro, name, context: task(coro, loop=loop, name=name, context=context, eager_start=True)


def _plain(loop: asyncio.AbstractEventLoop) -> Spawn:
    task = asyncio.Task  # Not loop.create_task(), which would ask for a factory again each time.
    return lambda coro, name, context: task(coro, loop=loop, name=name, context=context)


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
