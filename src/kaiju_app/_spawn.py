"""How a run becomes an asyncio task: started eagerly where Python and the loop can."""

from __future__ import annotations

import asyncio
import sys
from contextvars import Context
from functools import partial

from ._events import log
from ._runs import Spawn


def spawner(loop: asyncio.AbstractEventLoop) -> Spawn:
    """Return the way to start a run in the running *loop*: the first of these that works.

    The loop's own task factory, if somebody has set one; eagerly; plainly. Tried, not looked up: some versions of
    uvloop take an eager factory and then raise TypeError for every task.
    """
    if loop.get_task_factory() is not None:
        if _works(loop.create_task):
            return loop.create_task
        log.warning("the loop's task factory %r cannot make tasks: runs start without it", loop.get_task_factory())
    if sys.version_info >= (3, 12):
        eager = partial(asyncio.Task, loop=loop, eager_start=True)
        if _works(eager):
            return eager
    return partial(asyncio.Task, loop=loop)


def _works(spawn: Spawn) -> bool:
    probe = _nothing()
    try:
        spawn(probe, name="kaiju_app: trying how tasks are started", context=Context())
    except TypeError:
        probe.close()
        return False
    return True


async def _nothing() -> None:
    pass
