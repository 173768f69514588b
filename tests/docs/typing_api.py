"""What type checkers must find in the public API; mypy and pyright check this file, and nothing runs it."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, assert_type

from kaiju_app import Service, cron, every, task
from kaiju_app.scheduler import (
    Backoff,
    Calendar,
    Cron,
    ExecPolicy,
    Explanation,
    FirstRun,
    LeaseTiming,
    Missed,
    OnLost,
    Outcome,
    Run,
    RunPage,
    ScheduledTask,
    Scheduler,
    Scope,
    Subscription,
    current_run,
    register_trigger,
)


async def count(first: int, second: int = 2) -> int:
    return first + second


def name(value: object) -> str:
    return str(value)


def results_are_those_of_the_function(scheduler: Scheduler) -> None:
    assert_type(scheduler.schedule_task(count, 60, (1,)), ScheduledTask[int])
    assert_type(scheduler.schedule_task(name, 60, (1,), {}), ScheduledTask[str])
    assert_type(scheduler.schedule_task(lambda: 1.5, timedelta(minutes=1)), ScheduledTask[float])
    assert_type(scheduler.schedule_task(count, 60, (1,)).result, int | None)


def every_option_has_its_type(scheduler: Scheduler) -> None:
    scheduler.schedule_task(
        count,
        args=[1],
        kws={"second": 3},
        trigger=Cron("0 6 * * *"),
        policy=ExecPolicy.WAIT,
        max_timeout_s=60,
        retries=3,
        retry_interval_s=timedelta(seconds=5),
        name="count",
        retry_on=(OSError, ValueError),
        first_run=FirstRun.NEXT,
        missed=Missed.SKIP,
        grace_s=None,
        catchup_s=3600,
        jitter_s=0.5,
        until=None,
        scope=Scope.CLUSTER,
        on_lost=OnLost.SKIP,
        overlap_on_loss=False,
        keep_result=True,
        remove_when_over=True,
        show=True,
        replace=True,
        pause_after_failures=3,
    )
    scheduler.schedule_task(count, 60, (1,), retries=3, retry_interval_s=Backoff(max_s=timedelta(minutes=1)))
    scheduler.schedule_task(count, 60, (1,), policy="WAIT")  # type: ignore[call-overload]
    scheduler.schedule_task(count, 60, (1,), retry=3)  # type: ignore[call-overload]
    scheduler.schedule_task(count, 60, (1,), {}, Cron("0 6 * * *"))  # type: ignore[call-overload]


def a_calendar_takes_text_or_values() -> None:
    rule = Calendar("2 weeks", on="wed", at="14:00", tz="Europe/Berlin", start="2026-01-07")
    assert_type(rule.start, date | None)
    assert_type(Calendar("day", at=time(14), start=date(2026, 1, 7)).at, time)
    Calendar("2 weeks", "wed")  # type: ignore[call-arg]
    Cron("H 3 * * *", "UTC", spread="count")


class Fiscal:
    def after(self, moment: datetime, /) -> datetime | None: ...
    def at_or_before(self, moment: datetime, /) -> datetime | None: ...
    def to_json(self) -> dict[str, int]:
        return {}

    @classmethod
    def from_json(cls, values: Any, /) -> Fiscal:
        return cls()


def a_trigger_of_ones_own_has_a_name() -> None:
    register_trigger("fiscal", Fiscal)
    register_trigger("count", Cron)  # type: ignore[arg-type]


def the_numbers_of_a_lease_are_floats() -> None:
    assert_type(LeaseTiming(ttl_s=timedelta(seconds=20)).ttl_s, float)
    assert_type(LeaseTiming.for_failover(5), LeaseTiming)


async def what_a_task_returns(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(count, 60, (1,))
    assert_type(await task.run_now(), Run)
    assert_type(await task.wait(), Run | None)
    assert_type((await task.run_now()).exception, BaseException | None)
    assert_type(task.suspend("migration"), AbstractAsyncContextManager[None])
    assert_type(task.scope, Scope)
    assert_type(await scheduler.stop(), list[ScheduledTask[Any]])
    assert_type(await scheduler.forget("gone", history=True), bool)
    assert_type(await scheduler.runs("job", limit=5), RunPage)
    assert_type(await scheduler.explain("job", datetime.now(UTC)), Explanation)
    assert_type(current_run().fence, int | None)
    assert_type(current_run().loop, AbstractEventLoop)


async def alert(run: Run) -> None:
    assert_type(run.outcome, Outcome)


def listeners_hear_of_runs(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(count, 60, (1,))
    assert_type(scheduler.subscribe(alert, outcomes=Outcome.FAILED, tasks=task), Subscription)
    assert_type(scheduler.subscribe(print, outcomes=[Outcome.FAILED], tasks=["count", task]).dropped, int)
    scheduler.subscribe(alert, outcomes="FAILED")  # type: ignore[arg-type]
    scheduler.subscribe(count)  # type: ignore[arg-type]


def decorators_keep_the_type_of_what_they_decorate(scheduler: Scheduler) -> None:
    assert_type(scheduler.every(60, retries=1)(hello), Callable[[int], str])
    assert_type(scheduler.cron("@daily", tz="Europe/Berlin")(hello), Callable[[int], str])
    assert_type(scheduler.task(trigger="@daily", args=[1])(hello), Callable[[int], str])
    scheduler.every(60, retry=1)  # type: ignore[call-arg]
    scheduler.every("60")  # type: ignore[arg-type]


class Cache(Service):
    @every(60, scope=Scope.CLUSTER)
    @cron("0 6 * * *")
    @task(trigger=Cron("0 6 * * *"))
    async def refresh(self, deep: bool = False) -> int:
        return 1


async def a_decorated_method_keeps_its_type(cache: Cache) -> None:
    assert_type(await cache.refresh(deep=True), int)


hello: Callable[[int], str] = str
