"""What operators ask of a cluster task through the store, whether this scheduler has the task or not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from kaiju_app._cluster.cluster import Cluster
from kaiju_app._cluster.ledger_rows import run_of
from kaiju_app._cluster.runs import ClusterRuns
from kaiju_app._cluster.store_client import RecordLost
from kaiju_app._cluster.task import ClusterEntry
from kaiju_app._core.clock import utc
from kaiju_app._core.model import Run
from kaiju_app._core.text import shortened
from kaiju_app._core.validate import text
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import DISABLED
from kaiju_app.errors import StoreUnavailable, TaskBusy, TaskSuspended, UnknownTask, WrongState
from kaiju_app.stores._record import TaskRecord, end_key, scheduler_of, true_holds
from kaiju_app.stores._recovery import RESTORED

from ._requested import RequestedRun
from ._task_runs import check_loop_is_open
from ._task_state import pause_holder, pause_reason, pause_us

SEARCHED_ROWS = 100  # Rows searched for the end of a run: more than are added between two looks, half a second apart.


class StoreCalls:
    """The calls about one cluster task that the store answers.

    Each raises StoreUnavailable if it does not, WrongState if the scheduler is not started, and UnknownTask if neither
    this scheduler nor the store has the task.

    Args:
        entry: The task; None if only other instances have it.
    """

    def __init__(self, engine: Engine, cluster: Cluster, name: str, entry: ClusterEntry | None) -> None:
        self._engine = engine
        self._cluster = cluster
        self._name = name
        self._entry = entry

    async def registered(self) -> ClusterRuns:
        """Return the runs of this start of the scheduler, once the store knows the task."""
        runs = self._cluster.runs
        if self._entry is not None:
            check_loop_is_open(self._engine, self._entry.entry)
        await runs.coordinator.registration.known([self._name])
        return runs

    async def record(self, runs: ClusterRuns) -> TaskRecord:
        """Return the record of the task from the store."""
        coordinator = runs.coordinator
        try:
            record = await coordinator.with_records([self._name], lambda: coordinator.client.record(self._name))
        except RecordLost as exc:
            self._check_known(exc)
            raise
        self._learn(record)
        return record

    async def next_record(self, runs: ClusterRuns) -> TaskRecord:
        """Wait until the record may have changed; return it."""
        client = runs.coordinator.client
        while True:
            await client.wait_for_change()
            if self._cluster.runs_if_started is not runs:
                raise WrongState(f"task {self._name!r}: the scheduler was stopped before the end of the run was known")
            try:
                return await self.record(runs)
            except StoreUnavailable:
                await asyncio.sleep(client.lease.renew / 1e6)

    async def pause(self, reason: str | None, for_s: float | timedelta | None, holder: str | None) -> None:
        """Hold the task on all instances; see ``ScheduledTask.pause()``."""
        reason, length = pause_reason(reason), pause_us(for_s)
        holder = pause_holder(holder, self._engine.instance)
        coordinator = (await self.registered()).coordinator
        try:
            self._learn(await coordinator.pause(self._name, holder, reason, length))
        except RecordLost as exc:
            self._check_known(exc)
            raise

    async def resume(self) -> None:
        """End the pause, on whichever instance it was made; see ``ScheduledTask.resume()``."""
        coordinator = (await self.registered()).coordinator
        try:
            self._learn(await coordinator.resume(self._name))
        except RecordLost as exc:
            self._check_known(exc)
            raise

    async def cancel(self, reason: str, holder: str | None) -> bool:
        """Ask whoever runs the task to end the run; see ``RemoteTask.cancel()``."""
        reason = shortened(text("reason", reason, " that says why"))
        who = f"cancel() on {self._engine.instance}" if holder is None else pause_holder(holder)
        runs = await self.registered()
        coordinator = runs.coordinator
        try:
            record = await coordinator.with_records(
                [self._name], lambda: coordinator.holds.ask_for_end(self._name, who, reason)
            )
        except RecordLost as exc:
            self._check_known(exc)
            raise
        if record is None:
            return False
        fence, lease = record.fence, coordinator.client.lease
        until = self._engine.now() + 2 * (lease.renew + lease.poll)  # Longer than its owner takes to see it.
        while record.owner is not None and record.fence == fence and self._engine.now() < until:
            if end_key(fence) not in record.holds:
                raise WrongState(
                    f"task {self._name!r}: instance {coordinator.heartbeat.describe(scheduler_of(record.owner))} runs "
                    "it, where its policy is SHIELD: such a run cannot be cancelled; let it end, or use another policy"
                )
            record = await self.next_record(runs)
        return True

    async def request_run(self) -> RequestedRun:
        """Have the store request an extra run, which any instance may begin."""
        runs = await self.registered()
        client = runs.coordinator.client
        try:
            changed = await runs.coordinator.with_records([self._name], lambda: client.request_run(self._name))
        except RecordLost as exc:
            self._check_known(exc)
            raise
        while changed.old is not None and changed.old.holds.keys() == {RESTORED}:  # For the grace of a lease.
            await self.next_record(runs)
            changed = await client.request_run(self._name)
        if changed.new is None or changed.new.manual_at is None:
            raise _refusal(self._name, changed.old, runs)
        asked = changed.new.manual_at
        return RequestedRun(self._name, utc(asked), partial(self._end_of_requested, runs, asked))

    async def _end_of_requested(self, runs: ClusterRuns, asked: int) -> Run:
        client, claims = runs.coordinator.client, runs.coordinator.claims
        others_until = self._engine.now() + 2 * client.lease.poll
        try:
            while (await self.next_record(runs)).manual_at == asked:
                if self._is_disabled() and self._engine.now() >= others_until:  # It may be disabled everywhere.
                    claims.wanted_here.add(self._name)
                    claims.poll_now()
        finally:
            claims.wanted_here.discard(self._name)
        rows = await client.history(self._name, SEARCHED_ROWS)
        found = [row for row in rows if row.manual and row.first_tick == asked]
        if not found:
            raise StoreUnavailable(self._cluster.store.name, f"it has no row of the extra run of task {self._name!r}")
        return run_of(found[-1])

    def _is_disabled(self) -> bool:
        return self._entry is not None and bool(self._entry.entry.flags & DISABLED)

    def _learn(self, record: TaskRecord) -> None:
        if self._entry is not None:
            self._entry.last_record = record

    def _check_known(self, exc: RecordLost) -> None:
        """Tell a task that there never was from one whose record the store has lost."""
        if self._entry is None:
            raise UnknownTask(self._name, "no instance has registered it in the store") from exc


def _refusal(name: str, record: TaskRecord | None, runs: ClusterRuns) -> TaskSuspended | TaskBusy:
    """Return why the store refused an extra run of the task with this record."""
    holds = {} if record is None else true_holds(record.holds)
    if holds:
        holders = [each.holder + (f" ({each.reason})" if each.reason else "") for each in holds.values()]
        return TaskSuspended(name, ", ".join(holders))
    if record is not None and record.owner is not None:
        owner = runs.coordinator.heartbeat.describe(scheduler_of(record.owner))
        return TaskBusy(name, f"instance {owner} runs it")
    return TaskBusy(name, "a run that was requested before is waiting already")
