"""What a scheduler tells: the history of its tasks and why it is so, its state, and every ending as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kaiju_app._core.calls import explain_calls
from kaiju_app._core.clock import epoch_us
from kaiju_app._core.model import Outcome, Reason, Run, RunPage
from kaiju_app._core.validate import aware, integer, text
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.lag import LoopLag
from kaiju_app._engine.listeners import Listener, OverdueListener, Subscription
from kaiju_app._engine.runner import home
from kaiju_app.errors import InvalidArgument

from ._current_run import CurrentRun
from ._habits import SCHEDULER_CALLS
from ._health import SchedulerHealth, health_of
from ._lifecycle import Lifecycle
from ._listening import name_of, names_of, outcomes_of
from ._registry import TaskRegistry
from ._shown import inspect_alone, scheduler_json
from ._task import ScheduledTask

if TYPE_CHECKING:
    from kaiju_app._core.explanation import Explanation


@explain_calls(SCHEDULER_CALLS)
class SchedulerReports:
    """The part of a scheduler that answers questions and calls listeners."""

    _engine: Engine
    _lifecycle: Lifecycle
    _registry: TaskRegistry

    async def history(self, name: str, limit: int = 100) -> list[Run]:
        """Return the latest records of a task, oldest first; for a cluster task those of all instances.

        The store keeps the newest records of a cluster task, by default 100, also after its processes end and the task
        is removed. ``runs()`` finds records by outcome, reason and time, page by page.

        Args:
            name: Name of the task. With a store, it need not be a task of this scheduler.
            limit: Most records to return.

        Raises:
            InvalidArgument: *name* is not text, or *limit* is negative or not an integer.
            UnknownTask: There is no such task, neither here nor in the store. It is a KeyError.
            StoreUnavailable: The store did not answer.
            WrongState: Only the store can know the task, and the scheduler is not started.
        """
        self._engine.check_loop("scheduler.history", "scheduler.history()")
        return await self._registry.history(text("name", name), integer("limit", limit, at_least=0))

    async def runs(
        self,
        task: str | ScheduledTask[Any] | None = None,
        *,
        outcomes: Outcome | Iterable[Outcome] | None = None,
        reasons: Reason | Iterable[Reason] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of what became of ticks, the newest tick first: Runs and skips, of one task or all tasks.

        What is known of local tasks is in the memory of this process, what is known of cluster tasks in the store. A
        record of several skips is placed at its first tick. Records that come in meanwhile neither repeat nor hide
        those of the pages that follow.

        Args:
            task: A task or its name; None for all. With a store, it need not be a task of this scheduler.
            outcomes: What is wanted, such as ``Outcome.FAILED`` or several; by default every outcome.
            reasons: Why it ended so, such as ``Reason.OVERLAP`` or several; by default any reason, and none.
            since: Aware datetime; ticks before it are left out.
            until: Aware datetime; ticks after it are left out.
            limit: Most records on the page, at most 1,000.
            cursor: The ``next`` of the page before; None for the first page. The other arguments must be the same.

        Raises:
            InvalidArgument: An argument is wrong.
            UnknownTask: There is no such task, neither here nor in the store. It is a KeyError.
            StoreUnavailable: The store did not answer.
            WrongState: The store has to be asked, and the scheduler is not started.
        """
        self._engine.check_loop("scheduler.runs", "scheduler.runs()")
        from ._run_pages import query_of

        query = query_of(name_of(task), outcomes, reasons, since, until, limit, cursor)
        return await self._registry.runs(query)

    async def explain(self, task: str | ScheduledTask[Any], at: datetime) -> Explanation:
        """Return what became of the tick of a task at an instant, and why: as facts, and as one sentence, its text.

        Nothing is guessed: what the records do not tell is said to be unknown, or not known any more.

        Args:
            task: A task or its name.
            at: Aware datetime. A tick within a second of it is the one that is meant.

        Raises:
            InvalidArgument: *at* is not an aware datetime.
            UnknownTask: There is no such task, neither here nor in the store. It is a KeyError.
            StoreUnavailable: The store did not answer.
            WrongState: The store has to be asked, and the scheduler is not started.
        """
        self._engine.check_loop("scheduler.explain", "scheduler.explain()")
        name = name_of(task)
        if name is None:
            raise InvalidArgument("task", task, "must be a task or its name")
        return await self._registry.explain(name, epoch_us(aware("at", at)))

    async def inspect(self) -> dict[str, object]:
        """Return what all instances are doing, as JSON values; any instance may be asked.

        ``store`` is the name of the store and ``time`` its clock. ``instances`` are those with a recent heartbeat, with
        host, process and version. ``tasks`` are all cluster tasks, with their rule, their next tick, the instance that
        runs them and their holds. Instants are UTC ISO text. Without a store both lists are empty.

        Raises:
            StoreUnavailable: The store did not answer.
            WrongState: The scheduler is not started.
        """
        self._engine.check_loop("scheduler.inspect", "scheduler.inspect()")
        cluster = self._lifecycle.cluster
        return inspect_alone(self._engine) if cluster is None else await cluster.inspect()

    def subscribe(
        self,
        listener: Listener,
        *,
        outcomes: Outcome | Iterable[Outcome] | None = None,
        tasks: str | ScheduledTask[Any] | Iterable[str | ScheduledTask[Any]] | None = None,
    ) -> Subscription:
        """Call *listener* with the Run of every tick that ends; return the Subscription, which ends when it is called.

        A plain function is called in the loop, after the record is kept. An async one is called soon, with one Run
        after the other; while it is too slow, 256 Runs wait and the oldest are dropped, with a count. ``stop()`` gives
        it ``cancel_grace_s`` to finish. Of consecutive skips a listener gets the first state of their common record and
        the last. An exception in it is logged and has no other effect.

        Args:
            listener: A function, plain or async.
            outcomes: What it hears of, such as ``Outcome.FAILED`` or several; by default every outcome.
            tasks: Names or tasks that it hears of, also of names that are registered later; by default all tasks.

        Raises:
            InvalidArgument: An argument is wrong.
        """
        return self._engine.subscribe(listener, outcomes_of(outcomes), names_of(tasks))

    def subscribe_starts(self, listener: Callable[[CurrentRun], object]) -> Callable[[], None]:
        """Call *listener* with the CurrentRun of each run that begins; return a function that ends this.

        It is called inside the run, before the function of the task: what it sets in context variables, the function
        sees. A run that is cancelled before it begins is not told. An exception in *listener* is logged, and the run
        begins all the same.

        Args:
            listener: A plain function; it delays the run.

        Raises:
            InvalidArgument: It is not a plain function.
        """
        self._engine.check_loop("scheduler.subscribe_starts")
        return self._engine.starts.subscribe(listener, lambda run: listener(CurrentRun(run, home.get())))

    def subscribe_overdue(
        self,
        listener: OverdueListener,
        *,
        tasks: str | ScheduledTask[Any] | Iterable[str | ScheduledTask[Any]] | None = None,
    ) -> Subscription:
        """Call *listener* with an Overdue when a task becomes overdue, and when it succeeds after that.

        Otherwise it is like ``subscribe()``. A task without ``expect_success_within_s`` is never overdue.

        Args:
            listener: A function, plain or async.
            tasks: Names or tasks that it hears of; by default all tasks.

        Raises:
            InvalidArgument: An argument is wrong.
        """
        return self._engine.subscribe_overdue(listener, names_of(tasks))

    def health(self) -> SchedulerHealth:
        """Return what is wrong, if something is: a task is overdue, the store is away, planning makes no progress.

        It may be called in any thread: in that of the loop nobody can ask while the loop is blocked.
        """
        return health_of(self._engine, self._lifecycle.cluster)

    @property
    def loop_lag(self) -> LoopLag | None:
        """How late the loop got round to the tasks in the last minute; None if nothing was due in it."""
        return self._engine.loop_lag()

    def json_repr(self) -> dict[str, object]:
        """Return what is known of the scheduler and its tasks, as JSON values.

        ``time`` is the loop's clock in seconds, null while it is stopped; ``process`` is ``host:pid`` of this instance.
        """
        self._engine.check_loop("scheduler.json_repr")
        state = scheduler_json(self._engine, self._lifecycle.cluster)
        entries = list(self._engine.entries.values())
        return state | {"tasks": [self._registry.face_of(each).json_repr() for each in entries]}
