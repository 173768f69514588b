"""Suspensions: counted reasons not to run, held from entry on, that wait until the run in progress is over."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from ._clock import utc
from ._driver import Driver
from ._entry import Entry, Hold
from ._events import log
from ._run import current_caller
from ._runs import where

LONG_WAIT_S = 30.0  # A suspension that waits longer than this says who waits for whom, and goes on saying so.


class Suspension(AbstractAsyncContextManager[None]):
    """Keeps one task, or all tasks of a scheduler, from running while somebody is inside.

    It may be entered any number of times, nested or side by side: each entry is a hold of its own.

    Args:
        entry: The task; None for all tasks, those added meanwhile too.
        reason: For the people who ask why nothing runs.
    """

    def __init__(self, driver: Driver, entry: Entry | None, reason: str | None) -> None:
        self._driver = driver
        self._entry = entry
        self._reason = reason
        self._holds: list[Hold] = []

    async def __aenter__(self) -> None:
        hold = Hold(_holder(), self._reason, self._driver.now())
        self._driver.hold(self._entry, hold)
        try:
            await self._quiet(hold)
        except BaseException:  # An error or a cancellation while it waits: it was never entered.
            self._driver.unhold(self._entry, hold)
            raise
        self._holds.append(hold)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._driver.unhold(self._entry, self._holds.pop())

    async def _quiet(self, hold: Hold) -> None:
        """Wait for the end of the runs in progress, but for the one that the caller is inside of."""
        driver, mine = self._driver, current_caller()
        loop = asyncio.get_running_loop()
        waiting = {}
        for entry in [self._entry] if self._entry is not None else list(driver.entries.values()):
            run = driver.alive(entry)
            if run is not None and run is not mine:
                ending = loop.create_future()
                driver.watch(entry, ending)
                waiting[ending] = entry
        while waiting:
            done, _ = await asyncio.wait(waiting, timeout=LONG_WAIT_S)
            for ending in done:
                del waiting[ending]
            for entry in waiting.values() if not done else ():
                self._complain(hold, entry)

    def _complain(self, hold: Hold, entry: Entry) -> None:
        run = entry.run
        if run is None:
            return
        now = self._driver.now()
        log.warning(
            "%s has waited %.3g s for the run of task %r, tick %s, which began %.3g s ago and is at:%s",
            hold, (now - hold.since) / 1e6, entry.name, utc(run.tick + entry.host.offset).isoformat(),
            (now - run.started) / 1e6, where(run),
        )  # fmt: skip


def _holder() -> str:
    """Return who suspends, in words."""
    run = current_caller()
    if run is not None:
        return f"suspend() in the run of task {run.entry.name!r}"
    task = asyncio.current_task()
    return "suspend()" if task is None else f"suspend() in {task.get_name()}"
