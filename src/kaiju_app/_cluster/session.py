"""One scheduler among the other instances, from a start to the stop, and longer while runs outlive the stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context

from kaiju_app._engine.events import log

from .runs import ClusterRuns
from .store_handle import StoreHandle
from .timing import LeaseTiming, two_calls_s

RESTART_S = 1.0  # A coordinator that fails by a bug or was cancelled goes on after this; its leases are watched.


class Session:
    """Keeps a coordinator running until its work is done, whatever bug it may have and whoever cancels it.

    Attributes:
        is_current: This is the session of the started scheduler: it claims, and has to go on.
    """

    def __init__(self, runs: ClusterRuns, handle: StoreHandle, timing: LeaseTiming) -> None:
        self.is_current = True
        self.runs = runs
        self.coordinator = runs.coordinator
        self._handle = handle
        self._timing = timing
        self._task: asyncio.Task[None] | None = None
        self._dismissed = False

    @property
    def is_running(self) -> bool:
        """Whether the coordinator is running, or was when its loop was closed."""
        return self._task is not None

    def start(self, loop: asyncio.AbstractEventLoop, *, again: bool = False) -> None:
        """Run the coordinator; *again*: after it was cancelled, which may have closed the store."""
        self._task = loop.create_task(self._run(again), name="kaiju_app: coordinator", context=Context())

    async def _run(self, again: bool) -> None:
        """Run the coordinator to its end; the last session to end closes the store."""
        try:
            await self._run_with_restarts(again)
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):  # Cancelled again: somebody is in a hurry.
                if not self._dismissed:
                    await self._finish_after_cancel()
            await self._end()
            raise
        await self._end()

    async def _end(self) -> None:
        if self._task is asyncio.current_task():
            self._task = None
        await self._handle.close_if_unused()

    async def _run_with_restarts(self, again: bool) -> None:
        while True:
            try:
                if again and (failure := await self._handle.open()):
                    self.coordinator.client.report(failure)
                await self.coordinator.run()
                return
            except Exception:
                self.coordinator.client.mark_degraded()
                log.exception("the coordinator failed, which is a bug; it restarts in %g s", RESTART_S)
            await asyncio.sleep(RESTART_S)

    async def _finish_after_cancel(self) -> None:
        """Tell the store what can still be told: somebody has cancelled all tasks, as at the end of a loop.

        If the loop goes on, the schedule does, too. A timer sees to that; without its loop it never fires.
        """
        loop = asyncio.get_running_loop()
        if self.is_current:
            self._handle.let_go()
            loop.call_later(RESTART_S, self._resume, loop)
        self.coordinator.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(two_calls_s(self._timing)):
                await self._run_with_restarts(again=False)

    def _resume(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.is_current:
            return
        if self.is_running:  # It is still finishing.
            loop.call_later(RESTART_S, self._resume, loop)
            return
        log.error(
            "the coordinator of cluster tasks was cancelled from outside and restarts; do not cancel asyncio tasks "
            "whose names begin with 'kaiju_app'"
        )
        self.coordinator.reopen()
        self.start(loop, again=True)

    async def stop(self, until: float) -> None:
        """Wait until the store has been told everything, at most until the loop's time *until*.

        With runs that outlive the stop the session goes on, to renew their leases.
        """
        task, coordinator, loop = self._task, self.coordinator, asyncio.get_running_loop()
        if task is None:
            return
        await coordinator.drain(until - loop.time())
        if coordinator.pending:
            log.warning(
                "store %s: the last %d ending(s) could not be stored before the scheduler stopped; other instances "
                "take over those ticks within %.3g s",
                self._handle.store.name, coordinator.pending, self._timing.failover_s,
            )  # fmt: skip
        if coordinator.own.is_in_use():
            return  # Its leases are renewed, so that the tasks run nowhere else.
        await asyncio.wait([task], timeout=max(0.0, until - loop.time()))
        if self._task is task:
            self._task, self._dismissed = None, True
            task.cancel()

    def forget_closed_loop(self) -> bool:
        """Return whether the loop of the coordinator is closed; if so, forget what belonged to the loop."""
        if self._task is None or not self._task.get_loop().is_closed():
            return False
        self._task = None
        self.coordinator.forget_closed_loop()
        return True
