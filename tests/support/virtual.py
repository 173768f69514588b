"""The loop of ``kaiju_app.testing``, as this suite uses it: it collects what it would have logged."""

from __future__ import annotations

import asyncio
from typing import Any

from kaiju_app import testing
from kaiju_app._core.clock import utc
from kaiju_app.testing._cluster.plan import EPOCH_US

BOOTED_US = 5_000_000  # The steady clock when a test begins.


class VirtualLoop(testing.VirtualLoop):
    """An event loop in virtual time. ``complaints`` collects the errors that it would have logged.

    Many tests are about threads that outlive a deadline, so that time has to pass while they are at work.
    """

    def __init__(self) -> None:
        super().__init__(testing.VirtualClock(utc(EPOCH_US + BOOTED_US), waits_for_threads=False))
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close *loop* as ``asyncio.run`` does."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
