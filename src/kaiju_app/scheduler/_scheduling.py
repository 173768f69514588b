"""How a scheduler is given tasks: ``schedule_task()`` and the decorators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, Unpack, overload

from kaiju_app._core.callables import check_args, function_info
from kaiju_app._core.calls import explain_calls
from kaiju_app._core.model import ExecPolicy, FirstRun, Missed, OnLost, Scope
from kaiju_app._core.validate import aware, flag
from kaiju_app._engine.backoff import Backoff
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.options import DEFAULT_CATCHUP_S, NO_KWS, TaskOptions, make_spec, trigger_of
from kaiju_app.triggers._base import Trigger

from ._arguments import check_replace, expectation_of, failures_of, flags_of
from ._decorators import TaskDecorators
from ._habits import SCHEDULER_CALLS
from ._registry import TaskRegistry
from ._task import ScheduledTask

T = TypeVar("T")


@explain_calls(SCHEDULER_CALLS)
class TaskScheduling(TaskDecorators):
    """The part of a scheduler that checks what users register."""

    _engine: Engine
    _registry: TaskRegistry

    @overload
    def schedule_task(
        self,
        func: Callable[..., Awaitable[T]],
        interval_s: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kws: Mapping[str, Any] = ...,
        **options: Unpack[TaskOptions],
    ) -> ScheduledTask[T]: ...

    @overload
    def schedule_task(
        self,
        func: Callable[..., T],
        interval_s: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kws: Mapping[str, Any] = ...,
        **options: Unpack[TaskOptions],
    ) -> ScheduledTask[T]: ...

    # Written out here, not as TaskOptions: help() shows each option with its default, and Python refuses others.
    def schedule_task(
        self,
        func: Callable[..., Any],
        interval_s: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kws: Mapping[str, Any] = NO_KWS,
        *,
        trigger: Trigger | str | None = None,
        policy: ExecPolicy | None = None,
        max_timeout_s: float | timedelta = 0,
        retries: int = 0,
        retry_interval_s: float | timedelta | Backoff = 0,
        name: str | None = None,
        retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
        first_run: FirstRun | datetime | None = None,
        missed: Missed = Missed.ONCE,
        grace_s: float | timedelta | None = None,
        catchup_s: float | timedelta = DEFAULT_CATCHUP_S,
        jitter_s: float | timedelta = 0,
        until: datetime | None = None,
        scope: Scope = Scope.LOCAL,
        on_lost: OnLost = OnLost.RETRY,
        overlap_on_loss: bool = False,
        keep_result: bool = False,
        remove_when_over: bool = False,
        pause_after_failures: int | None = None,
        expect_success_within_s: float | timedelta | None = None,
        show: bool = False,
        replace: bool = False,
    ) -> ScheduledTask[Any]:
        """Run *func* periodically; return its task. Needs no loop, and never calls *func* itself.

        Args:
            func: An ``async def``, which runs in the loop, or a plain function, which runs in a thread.
            interval_s: Seconds from one tick to the next, or a ``timedelta``: from 1 ms to 100 years.
            args: Positional arguments of *func*.
            kws: Keyword arguments of *func*.
            trigger: A rule instead of an interval: ``Cron``, ``Calendar``, ``Every``, ``At``, ``AnyOf``, ``Except``,
                any object like a ``Trigger``, or the text of a Cron. It follows the wall clock; an interval does not.
            policy: What a tick does if the run before it is in progress; by default CANCEL, for plain functions SKIP.
            max_timeout_s: Seconds for all attempts of a run together; 0 for the default deadline of the policy.
            retries: Attempts that may follow the first one.
            retry_interval_s: Seconds from a failed attempt to the next, or a ``Backoff``, whose pauses grow; 0 divides
                the gap evenly between the attempts, with pauses of at most 30 s.
            name: Unique name of at most 1,000 characters; by default ``scheduled:`` and the qualified name of *func*.
            retry_on: Exceptions that another attempt may follow, and groups of only such; by default any Exception.
            first_run: When the first run starts; by default NOW for an interval and NEXT for a trigger. An aware
                datetime in the future is the first tick, even if the wall clock is set after the start of the
                scheduler. One in the past anchors the ticks of an interval, and does nothing for a trigger.
            missed: Which of the ticks that could not start in time run later.
            grace_s: Seconds by which a tick may start late. By default there is no limit, except for Missed.SKIP: 1 s
                or a tenth of the gap, whichever is longer. A moment of ``At`` that has passed when the task is
                registered, or when the scheduler starts, runs if that was less than *grace_s* ago, by default 1 s.
            catchup_s: Seconds after which Missed.ALL drops a missed tick.
            jitter_s: Upper limit of a delay in seconds, shorter than the gap. It differs between tasks and ticks, and
                for local tasks between processes, so that not all of them start at once.
            until: Aware datetime of the last possible tick.
            scope: Which instances run the task: LOCAL, each one for itself; CLUSTER, one of them for each tick (see
                ClusterTask). A cluster task needs a *name*. NOW then means when the store first hears of the task,
                once for all instances.
            on_lost: With Scope.CLUSTER, what becomes of a tick whose run was lost with its process or its lease, or
                was ended by ``stop()``.
            overlap_on_loss: With Scope.CLUSTER, True accepts that a SHIELD run or a plain function, which nothing can
                cancel when its lease is lost, overlaps the run of another instance.
            keep_result: With Scope.CLUSTER, True has the store keep what a run returns, as at most 64 KB of JSON, for
                the Run that ``run_now()`` and ``wait()`` return in any process. A result that is no JSON or too large
                is dropped: the run has succeeded, and its ``error`` says why there is no result.
            remove_when_over: Remove the task when its last run has ended and its rule has no further tick. Otherwise it
                stays, with the state ``over``. Not for Scope.CLUSTER.
            pause_after_failures: Pause the task, until ``resume()``, when this number of runs in a row were FAILED,
                TIMED_OUT, or CANCELLED by the next tick or from within. Only a success ends the row: other endings do
                not count, and after a pause the next failure pauses again. With Scope.CLUSTER, at most 50; the runs of
                all instances count.
            expect_success_within_s: Seconds after a success, or after the start, within which the next one is expected;
                longer than the gap. Otherwise the task is *overdue*: that is logged, once, ``health()`` tells it, and
                so do ``subscribe_overdue()`` and ``task.overdue``. With Scope.CLUSTER, the successes of all instances
                count, also those before the start.
            show: True lets the endpoint of ``kaiju_app.admin`` show *args*, *kws* and the last result in this process,
                as short texts. A value is hidden if its name says that it is a secret, and so are user and password in
                an address (URL). By default neither arguments nor results are shown.
            replace: True removes the task that has this *name*, if there is one. Its run in progress goes on and
                ``stop()`` awaits it, as that of the task ``<name> (replaced)``; the new task runs when it has ended.

        Raises:
            InvalidArgument: An argument is wrong; nothing was registered.
        """
        self._engine.check_loop("scheduler.schedule_task")
        known, settings = function_info(func), self._engine.settings
        check_args(func, known, args, kws)
        trigger = trigger_of(trigger, settings.tz, name)
        if isinstance(first_run, datetime):
            first_run = aware("first_run", first_run)
        if isinstance(until, datetime):
            until = aware("until", until)
        spec = make_spec(
            interval_s, trigger, policy, max_timeout_s, retries, retry_interval_s, retry_on, first_run, missed,
            grace_s, catchup_s, jitter_s, until, known.threaded, settings.safe_mod,
        )  # fmt: skip
        flags = flags_of(scope, on_lost, overlap_on_loss, keep_result, remove_when_over)
        failures = failures_of(scope, pause_after_failures)
        within = expectation_of(spec, expect_success_within_s)
        shown = flag("show", show)
        check_replace(replace, name)
        call = func, tuple(args), dict(kws) if kws else NO_KWS
        if scope is Scope.CLUSTER:
            task = self._registry.add_to_cluster(
                name, call, spec, on_lost, overlap_on_loss, keep_result, failures, replace
            )
        else:
            task = self._registry.add(name, known.label, call, spec, flags, failures, replace)
        if within is not None:
            self._engine.recorder.expectations.add(task._entry, within)
        if shown:
            self._engine.recorder.shown.add(task._entry)
        return task
