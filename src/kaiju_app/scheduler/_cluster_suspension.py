"""The part of a suspension that holds cluster tasks: in the store, so that no instance runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from kaiju_app._cluster.claim import OwnedHold
from kaiju_app._cluster.cluster import Cluster
from kaiju_app._cluster.runs import ClusterRuns
from kaiju_app._cluster.store_client import ANY_FENCE
from kaiju_app._cluster.task import ClusterEntry
from kaiju_app._core.clock import utc
from kaiju_app._core.logs import facts
from kaiju_app._engine.entry import Hold
from kaiju_app._engine.events import log
from kaiju_app._engine.runner import enclosing_run
from kaiju_app.errors import StoreUnavailable, SuspensionLost
from kaiju_app.stores._record import TaskRecord, scheduler_of
from kaiju_app.stores._recovery import RESTORED

from ._suspension import LONG_WAIT_S


class ClusterStay:
    """Holds one cluster task on all instances, or all cluster tasks of this scheduler.

    The holds are renewed like leases. If that fails for as long as a lease lasts, the asyncio task that entered is
    cancelled, and SuspensionLost is raised in place of the cancellation.

    Args:
        entry: The task; None for all cluster tasks of the scheduler, including those added later.
    """

    def __init__(self, cluster: Cluster, entry: ClusterEntry | None, hold: Hold) -> None:
        self._cluster = cluster
        self._entry = entry
        self._hold = hold
        self._runs: ClusterRuns | None = None  # None until there is something to hold.
        self._names: set[str] = set()
        self._held: list[tuple[ClusterRuns, OwnedHold]] = []
        self._records: list[TaskRecord] = []  # Of the tasks when they were held: who was running them.
        self._lost: OwnedHold | None = None
        self._is_released = False
        self._holding_new: set[asyncio.Task[None]] = set()
        self._task = asyncio.current_task()
        self._cancels = 0 if self._task is None else self._task.cancelling()

    async def hold(self) -> None:
        """Hold the tasks in the store.

        Raises:
            StoreUnavailable: The store did not answer; it may hold them or not.
            WrongState: The scheduler is not started.
        """
        if self._entry is None and not self._cluster.entries and self._cluster.runs_if_started is None:
            return
        self._runs = self._cluster.runs
        self._records = await self._hold_in_store(
            list(self._cluster.entries) if self._entry is None else [self._entry.name], self._runs
        )

    async def wait_until_idle(self) -> None:
        """Wait for the runs of the tasks on other instances, and hold tasks that were added meanwhile.

        Raises:
            StoreUnavailable: The store did not answer when an added task was to be held.
        """
        if self._runs is None:
            return
        await self._wait_for_runs(self._runs, self._records)
        if self._entry is None:
            while names := [name for name in self._cluster.entries if name not in self._names]:
                await self._wait_for_runs(self._runs, await self._hold_in_store(names, self._runs))
            self._cluster.wanted[self] = self._hold_new

    def release(self, exc: BaseException | None) -> None:
        """Release the tasks in the store.

        Raises:
            SuspensionLost: A hold was lost. It replaces *exc* if that is the cancellation that reported the loss.
        """
        self._is_released = True
        self._cluster.wanted.pop(self, None)
        for runs, held in self._held:
            runs.unhold(held)
        if self._lost is None:
            return
        is_own_cancellation = (
            self._task is not None
            and self._task is asyncio.current_task()
            and self._task.uncancel() <= self._cancels
            and isinstance(exc, asyncio.CancelledError)
        )
        if exc is None or is_own_cancellation:
            raise SuspensionLost(self._lost.name, str(self._hold)) from exc

    async def _hold_in_store(self, names: list[str], runs: ClusterRuns) -> list[TaskRecord]:
        """Hold tasks; return their records, which tell who is running them."""
        self._names.update(names)
        records = []
        for held, record in await runs.coordinator.hold(names, self._hold.holder, self._hold.reason):
            records.append(record)
            runs.known.on_record(record)
            if self._is_released:
                runs.unhold(held)
                continue
            self._held.append((runs, held))
            runs.hold_listeners[held] = partial(self._on_lost, held)
        return records

    def _hold_new(self, name: str, runs: ClusterRuns) -> None:
        """Hold a task that was added inside, possibly after the scheduler was stopped and started again."""
        if name not in self._names:
            task = asyncio.ensure_future(self._try_to_hold(name, runs))
            self._holding_new.add(task)
            task.add_done_callback(self._holding_new.discard)

    async def _try_to_hold(self, name: str, runs: ClusterRuns) -> None:
        try:
            await self._hold_in_store([name], runs)
        except StoreUnavailable as exc:
            log.warning(
                "task %r was registered during %s and could not be held in the store; other instances may run it: %s",
                name, self._hold, exc, extra=facts(name),
            )  # fmt: skip

    def _on_lost(self, held: OwnedHold) -> None:
        if self._lost is not None or self._is_released:
            return
        self._lost = held
        if self._task is not None and not self._task.done():
            self._task.cancel()
            return
        log.error(
            "%s: its hold of task %r could not be renewed, so other instances may run the task now; the code inside "
            "cannot be cancelled, because the asyncio task that entered has ended: SuspensionLost is raised when it "
            "leaves",
            self._hold, held.name, extra=facts(held.name),
        )  # fmt: skip

    async def _wait_for_runs(self, runs: ClusterRuns, records: Iterable[TaskRecord]) -> None:
        """Wait until no instance has the runs in *records*, except the one that the caller is inside."""
        client = runs.coordinator.client
        run = enclosing_run()
        own = None if run is None or run.claim is None else (run.entry.name, run.claim.fence)
        running = {(each.name, each.fence): each for each in records if each.owner and (each.name, each.fence) != own}
        in_doubt = [each for each in records if RESTORED in each.holds and (own is None or each.name != own[0])]
        running |= {(each.name, ANY_FENCE): each for each in in_doubt}
        loop = asyncio.get_running_loop()
        logged_at = loop.time()
        while running:
            try:
                known = await client.still_running(running)
            except StoreUnavailable:
                pass  # The holds still stand; if they expire, the caller is cancelled.
            else:
                running = {key: record for key, record in running.items() if key in known}
            if running:
                await client.wait_for_change()
                if loop.time() - logged_at >= LONG_WAIT_S:
                    logged_at = loop.time()
                    self._log_wait_for(runs, running.values())

    def _log_wait_for(self, runs: ClusterRuns, records: Iterable[TaskRecord]) -> None:
        describe = runs.coordinator.heartbeat.describe
        waited_s = (runs.engine.now() - self._hold.since) / 1e6
        for record in records:
            log.warning(
                "%s has waited %.3g s for the run of task %r, tick %s, on instance %s",
                self._hold, waited_s, record.name, utc(record.tick).isoformat(),
                describe(scheduler_of(record.owner or "")),
                extra=facts(record.name, record.tick, fence=record.fence),
            )  # fmt: skip
