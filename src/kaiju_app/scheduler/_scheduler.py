"""Scheduler: registers tasks, starts and stops them. The object that an application holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kaiju_app._cluster.timing import DEFAULT_TIMING, LeaseTiming
from kaiju_app._core.calls import explain_calls
from kaiju_app._core.clock import Clock
from kaiju_app._core.validate import duration_us, flag, text
from kaiju_app._engine.engine import Engine

from ._arguments import clock_of, cluster_of, settings_of
from ._habits import SCHEDULER_CALLS
from ._lifecycle import Lifecycle
from ._registry import TaskRegistry, TasksView
from ._reports import SchedulerReports
from ._scheduling import TaskScheduling
from ._shown import scheduler_line
from ._task import ScheduledTask

if TYPE_CHECKING:
    from kaiju_app.stores import Store

    from ._remote_task import RemoteTask

T = TypeVar("T")


@explain_calls(SCHEDULER_CALLS)
class Scheduler(TaskScheduling, SchedulerReports):
    """Runs functions periodically inside the running event loop.

    ``async with Scheduler() as scheduler:`` starts it on entry and stops it on exit.
    Its methods raise WrongThread outside the loop that it was started in; properties may be read anywhere.

    Args:
        store: Where the instances of an application agree on which of them runs a task of ``Scope.CLUSTER``: a URL such
            as ``sqlite:///scheduler.db`` for the processes of one host, or a Store. Only a MemoryStore serves several
            started schedulers at a time. ``memory://`` if there is only this instance, as in tests. Without a store,
            tasks of ``Scope.CLUSTER`` are refused.
        app: Name of the set of instances that share the records of the store; each application that uses the same
            database needs its own. A Store has its own: give it there.
        lease: How long a claim in the store is valid, and how soon another instance takes over from one that died.
        version: Version of the application; the instances with the highest one decide the schedule of a cluster task.
            Raise it with each release that changes a schedule; old and new releases may run side by side.
        history: Records kept in memory for each local task, at least 1; newer ones push out older ones.
        store_history: Records that the store keeps of each cluster task, at least 100, by default 100. A Store has its
            own: give it there, as ``history``.
        store_history_age_s: Seconds after which the store deletes a record all the same, but for the newest one of its
            task; by default thirty days. Old records go once an hour; if instances differ, the least of them counts.
        cancel_grace_s: Seconds after which a run that was cancelled and has not ended counts as hung.
        threads: Most plain functions that run at a time, each in a thread of the scheduler.
        wait_task_timeout_safe_mod: Default deadline of runs under WAIT and SKIP, as a multiple of the gap.
        tz: Key of the IANA time zone of cron expressions that are given as text, without a zone of their own.
        watch_loop: False starts no thread that looks, while the loop is blocked, at which line of which task it is.
        clock: Source of the time; for tests.

    Raises:
        InvalidArgument: An argument is out of range.
    """

    def __init__(
        self,
        store: str | Store | None = None,
        *,
        app: str = "default",
        lease: LeaseTiming = DEFAULT_TIMING,
        version: int | tuple[int, ...] = 0,
        history: int = 20,
        store_history: int | None = None,
        store_history_age_s: float | timedelta | None = None,
        cancel_grace_s: float | timedelta = 5.0,
        threads: int = 8,
        wait_task_timeout_safe_mod: float = 3.0,
        tz: str = "UTC",
        watch_loop: bool = True,
        clock: Clock | None = None,
    ) -> None:
        settings = settings_of(history, cancel_grace_s, threads, wait_task_timeout_safe_mod, tz, watch_loop)
        clock = clock_of(clock)
        self._engine = engine = Engine(clock, settings)
        cluster = cluster_of(engine, store, app, lease, version, store_history, store_history_age_s)
        self._lifecycle = Lifecycle(engine, cluster, clock)
        self._registry = TaskRegistry(engine, self._lifecycle)

    def __repr__(self) -> str:
        return scheduler_line(self._engine, self._lifecycle.cluster)

    # --- start and stop ---

    @property
    def started(self) -> bool:
        """Whether ticks start runs."""
        return self._engine.started

    async def start(self) -> None:
        """Start to run the tasks, each from its first run on; wait for a ``stop()`` in progress first.

        Each run gets a copy of the context variables of this call.

        Raises:
            WrongState: The scheduler is started already; WrongThread: in another loop.
            SelfWait: Called inside a run that a ``stop()`` in progress waits for.
            InvalidArgument: The store can never be used, or another scheduler uses it. A store that is away is no
                error: it is asked again later.
        """
        await self._lifecycle.start()

    async def stop(self, timeout_s: float | timedelta | None = None) -> list[ScheduledTask[Any]]:
        """Start no more runs, end those in progress, and return the tasks whose runs did not end in time.

        Runs under CANCEL, WAIT and SKIP are cancelled at once, runs under SHIELD are awaited, and pauses between
        attempts are cut short. Called inside a run, it neither cancels nor awaits that run. A second call does no harm.
        A thread cannot be stopped: Python itself waits for it when the interpreter exits.

        Args:
            timeout_s: Limit of the whole wait in seconds. None waits ``cancel_grace_s`` for runs that were cancelled,
                and without a limit for those under SHIELD.

        Raises:
            InvalidArgument: *timeout_s* is negative or not a number.
        """
        limit_s = None if timeout_s is None else duration_us("timeout_s", timeout_s) / 1e6
        return [self._registry.face_of(run.entry) for run in await self._lifecycle.stop(limit_s)]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- all tasks ---

    @property
    def tasks(self) -> Mapping[str, ScheduledTask[Any]]:
        """The tasks by name, as a read-only view that stays up to date."""
        return TasksView(self._engine.entries, self._registry.face_of)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context manager inside which no task runs, including tasks that are added meanwhile.

        It does for all tasks what ``ScheduledTask.suspend()`` does for one.

        Args:
            reason: Shown to people who ask why nothing runs.
        """
        return self._registry.suspension(reason)

    def remote(self, name: str) -> RemoteTask:
        """Return the cluster task *name*, also if only other instances have it, to pause, resume, run or cancel it.

        Whether there is one is asked when one of its methods is called.

        Raises:
            InvalidArgument: *name* is not text.
            WrongState: The scheduler has no store.
            WrongThread: The scheduler is started in another thread or event loop.
        """
        self._engine.check_loop("scheduler.remote")
        return self._registry.remote(text("name", name))

    async def forget(self, name: str, *, history: bool = False) -> bool:
        """Delete a cluster task that no code has any more from the store; return whether the store had it.

        An instance whose code still has the task registers it again within a poll.

        Args:
            name: Name of the task; not one of this scheduler.
            history: Also delete its history, which otherwise stays until it is thirty days old.

        Raises:
            InvalidArgument: *name* is not text, or *history* is not a bool.
            StoreUnavailable: The store did not answer; the task may be deleted or not.
            WrongState: This scheduler has the task, an instance runs or holds it, or the scheduler is not started or
                has no store.
        """
        self._engine.check_loop("scheduler.forget", "scheduler.forget()")
        return await self._registry.forget(text("name", name), history=flag("history", history))
