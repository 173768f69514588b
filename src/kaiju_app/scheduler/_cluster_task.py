"""ClusterTask: the public face of a task that several instances share."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from kaiju_app._cluster.cluster import Cluster
from kaiju_app._cluster.ledger_rows import run_of
from kaiju_app._cluster.task import ClusterEntry
from kaiju_app._core.calls import explain_calls
from kaiju_app._core.clock import END, NEVER, utc
from kaiju_app._core.model import Run
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.runner import enclosing_run_of
from kaiju_app.errors import SelfWait, WrongState
from kaiju_app.stores._record import scheduler_of, true_holds
from kaiju_app.stores._recovery import RESTORED
from kaiju_app.triggers._base import Trigger

from ._cluster_suspension import ClusterStay
from ._habits import TASK_CALLS
from ._requested import RequestedRun
from ._store_calls import SEARCHED_ROWS, StoreCalls
from ._suspension import LocalStay, Suspension
from ._task import ScheduledTask
from ._task_state import holds_json, state_of

T = TypeVar("T")


@explain_calls(TASK_CALLS)
class ClusterTask(ScheduledTask[T]):
    """A task of ``Scope.CLUSTER``: one instance runs each of its ticks.

    Properties and ``json_repr()`` show what this instance last heard from the store. ``history()`` has the runs of this
    instance; ``await scheduler.history(name)`` has those of all instances.

    A lease keeps two instances from running the task at once under three conditions: a process that was frozen for
    longer than the lease and the grace does not act when it continues; a run that is cancelled ends within the grace;
    the store does not lose what it has confirmed. Where they may fail, use ``current_run().fence``.
    """

    __slots__ = ("_cluster", "_cluster_entry")

    def __init__(self, engine: Engine, cluster: Cluster, entry: ClusterEntry) -> None:
        super().__init__(engine, entry.entry)
        self._cluster = cluster
        self._cluster_entry = entry

    @property
    def running(self) -> bool:
        """Whether a run is in progress, on any instance."""
        record = self._cluster_entry.last_record
        return super().running or (record is not None and record.owner is not None)

    @property
    def suspended(self) -> bool:
        """Whether a suspension or a pause, of any instance, holds it."""
        record = self._cluster_entry.last_record
        return super().suspended or bool(record is not None and true_holds(record.holds))

    @property
    def state(self) -> str:
        """The first that applies of: hung, running, disabled, paused, suspended, stopped, over, waiting."""
        record, paused, suspended = self._cluster_entry.last_record, self._is_paused, self.suspended
        over = record is not None and record.next_tick >= NEVER
        return state_of(self._engine, self._entry, running=self.running, paused=paused, suspended=suspended, over=over)

    @property
    def _is_paused(self) -> bool:
        record = self._cluster_entry.last_record
        holds = {} if record is None else true_holds(record.holds)
        return any(not hold.leased for key, hold in holds.items() if key != RESTORED)

    def _upcoming(self, n: int, until: int = END) -> list[datetime]:
        engine, entry, record = self._engine, self._cluster_entry, self._cluster_entry.last_record
        if record is None or not engine.started or not self.enabled or self.suspended or not engine.has(entry.entry):
            return []
        timeline = entry.ticks(entry.spec_of(record) or entry.entry.spec)
        if record.next_unknown:
            return []
        tick, now = record.next_tick, engine.wall()
        if record.owner is not None and not record.manual:
            tick = timeline.next_after(tick).tick
        if tick < NEVER and timeline.due(tick) <= now:  # Another instance has run it since, and reports no single run.
            tick = timeline.due_ticks(tick, now).next.tick
        found: list[datetime] = []
        while len(found) < n and tick < NEVER and (due := timeline.due(tick)) <= until:
            found.append(utc(due))
            if len(found) == n:
                break
            tick = timeline.next_after(tick).tick
        return found

    # --- on and off ---

    def enable(self) -> None:
        """End ``disable()``: this instance runs ticks again."""
        super().enable()
        self._cluster.reconsider(self._cluster_entry)

    def disable(self) -> None:
        """Start no more runs on this instance until ``enable()``; other instances run the ticks.

        The run in progress continues, with its retries. ``run_now()`` still works.
        """
        super().disable()
        self._cluster.reconsider(self._cluster_entry)

    def remove(self) -> None:
        """Start no more runs on this instance, for good; its record stays in the store for other instances.

        The run in progress continues, with its retries, and ``stop()`` awaits it. ``run_now()`` raises WrongState.
        """
        super().remove()
        self._cluster.reconsider(self._cluster_entry)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context manager inside which, on all instances, no run starts and none is in progress.

        Entering it starts no more runs from then on, and waits for the run in progress, unless it is entered inside
        that run. Ticks in between are missed: ``missed`` decides which of them run afterwards. ``run_now()`` raises
        TaskSuspended. If this process dies, the suspension ends with its leases.

        Entering it raises StoreUnavailable if the store does not answer, and WrongState if the scheduler is not
        started. If the store cannot be reached inside for as long as a lease lasts, other instances may run the task:
        then the asyncio task that entered is cancelled, and leaving raises SuspensionLost.

        Args:
            reason: Shown to people who ask why the task does not run.
        """
        here = partial(LocalStay, self._engine, self._entry)
        everywhere = partial(ClusterStay, self._cluster, self._cluster_entry)
        return Suspension(self._engine, "task.suspend", [here, everywhere], reason)

    async def pause(
        self, reason: str | None = None, for_s: float | timedelta | None = None, *, holder: str | None = None
    ) -> None:
        """Start no more runs on all instances until ``resume()``, or for *for_s* seconds.

        The run in progress continues, with its retries. Ticks in between are missed: ``missed`` decides which of them
        run afterwards. ``run_now()`` raises TaskSuspended. A second call replaces *reason* and *for_s*. The pause is
        kept in the store and survives all processes.

        Args:
            reason: Shown to people who ask why the task does not run.
            for_s: Seconds until the pause ends by itself; None if only ``resume()`` ends it.
            holder: Who pauses it, shown beside the reason; by default this call.

        Raises:
            InvalidArgument: *reason* or *holder* is not text, or *for_s* is not a positive number of seconds.
            StoreUnavailable: The store did not answer; the task may be paused or not.
            WrongState: The scheduler is not started.
        """
        self._engine.check_loop("task.pause", "task.pause()")
        await self._calls().pause(reason, for_s, holder)

    async def resume(self) -> None:
        """End the pause, on whichever instance it was made; suspensions remain.

        Raises:
            StoreUnavailable: The store did not answer; the task may be paused or not.
            WrongState: The scheduler is not started.
        """
        self._engine.check_loop("task.resume", "task.resume()")
        await self._calls().resume()

    def reschedule(self, interval_s: float | timedelta | None = None, *, trigger: Trigger | str | None = None) -> None:
        """Raise WrongState: the next start of any instance would undo it.

        Raises:
            WrongState: Always.
        """
        self._engine.check_loop("task.reschedule")
        raise WrongState(
            f"task {self.name!r} is shared by several instances, and the next start of any of them would undo "
            "reschedule(): change its rule in the code, and raise Scheduler(version=...)"
        )

    # --- runs ---

    async def wait(self) -> Run | None:
        """Wait for the end of the run in progress, on whichever instance; return its Run, or None if there is none.

        Raises:
            SelfWait: Called inside that run.
            StoreUnavailable: The store did not answer.
            WrongState: The scheduler is not started.
        """
        self._engine.check_loop("task.wait", "task.wait()")
        if enclosing_run_of(self._entry) is not None:
            raise SelfWait(self.name, "wait()")
        calls = self._calls()
        runs = await calls.registered()
        record = await calls.record(runs)
        while record.owner is not None:
            fence = record.fence
            while (record.owner is not None and record.fence == fence) or RESTORED in record.holds:
                record = await calls.next_record(runs)
            rows = [
                row for row in await runs.coordinator.client.history(self.name, SEARCHED_ROWS) if row.fence == fence
            ]
            if rows:
                return run_of(rows[-1])
        return None  # The claim was returned before its run began.

    async def run_now(self) -> Run:
        """Run one extra tick now, on any instance, and return its Run when it ends; the rule's ticks stay.

        If the task is disabled here and no other instance has started the run within two polls, this one runs it.

        Raises:
            TaskSuspended: The task is suspended or paused.
            TaskBusy: A run is in progress, or another extra tick waits already.
            SelfWait: Called inside a run of the task.
            StoreUnavailable: The store did not answer; the extra tick may still run.
            WrongState: The scheduler is not started or was stopped before the end, or the task was removed.
        """
        return await (await self._request_run("run_now")).wait()

    async def request_run(self) -> RequestedRun:
        """Request one extra tick now, of any instance, and do not wait for its end; otherwise like ``run_now()``.

        If the task is disabled everywhere, it only runs while somebody waits for it.
        """
        return await self._request_run("request_run")

    async def _request_run(self, call: str) -> RequestedRun:
        self._engine.check_loop(f"task.{call}", f"task.{call}()")
        await self._calls().registered()
        if not self._engine.has(self._entry):
            raise WrongState(f"task {self.name!r} cannot run now: it was removed")
        if enclosing_run_of(self._entry) is not None:
            raise SelfWait(self.name, f"{call}()")
        return await self._calls().request_run()

    def _calls(self) -> StoreCalls:
        return StoreCalls(self._engine, self._cluster, self.name, self._cluster_entry)

    def json_repr(self) -> dict[str, object]:
        """Return what is known of the task, as JSON values."""
        self._engine.check_loop("task.json_repr")
        record = self._cluster_entry.last_record
        claimed = record if record is not None and record.owner is not None else None
        owner = None if claimed is None else scheduler_of(claimed.owner or "")
        runs = self._cluster.runs_if_started
        holds = [
            {"holder": hold.holder, "reason": hold.reason, "until": hold.until and utc(hold.until).isoformat()}
            for hold in ({} if record is None else true_holds(record.holds)).values()
        ]
        return super().json_repr() | {
            "holds": [*holds_json(self._engine, self._entry), *holds],
            "scope": self.scope.value,
            "on_lost": self._cluster_entry.on_lost.value,
            "runs_on": owner,
            "runs_in": owner and runs and runs.coordinator.heartbeat.process_of(owner),
            "delivery": None if claimed is None else claimed.delivery,
            "fence": None if claimed is None else claimed.fence,
        }
