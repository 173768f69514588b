"""``@scheduler.every()``, ``@scheduler.cron()`` and ``@scheduler.task()``; cron rules as text."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument, WrongCall
from kaiju_app.scheduler import At, Cron, Every, ExecPolicy, FirstRun, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.virtual import VirtualLoop


async def test_a_decorated_function_runs_and_stays_a_function(scheduler: Scheduler) -> None:
    runs: list[int] = []

    @scheduler.every(10, name="count", args=(1,), retries=2)
    async def count(number: int) -> None:
        runs.append(number)

    assert inspect.iscoroutinefunction(count)
    await count(7)
    async with scheduler:
        await asyncio.sleep(25)

    task = scheduler.tasks["count"]
    assert runs == [7, 1, 1, 1]
    assert (task.method, task.interval_s, task.retries) == (count, 10, 2)


def test_decorators_take_the_options_of_schedule_task(scheduler: Scheduler) -> None:
    @scheduler.cron("0 6 * * mon-fri", tz="Europe/Berlin", policy=ExecPolicy.WAIT)
    @scheduler.task(trigger=Every(30), name="half minutes")
    @scheduler.every(timedelta(minutes=1), first_run=FirstRun.NEXT, jitter_s=3)
    async def report() -> None: ...

    tasks = list(scheduler.tasks.values())
    base = f"scheduled:{report.__qualname__}"
    assert [task.name for task in tasks] == [base, "half minutes", f"{base}#2"]
    assert [task.trigger for task in tasks] == [None, Every(30), Cron("0 6 * * mon-fri", "Europe/Berlin")]
    assert (tasks[0].jitter_s, tasks[2].policy) == (3, ExecPolicy.WAIT)
    assert {task.method for task in tasks} == {report}


@pytest.mark.parametrize(
    ("decorate", "text"),
    [
        (
            lambda door: door.every,
            "interval_s must be a number of seconds: write @every(60), not @every, got <function",
        ),
        (lambda door: door.cron, "expression must be text: write @cron('0 6 * * mon-fri'), not @cron, got <function"),
        (lambda door: door.task, "interval_s must be a number of seconds: write @task(60), not @task, got <function"),
        (lambda door: door.every(0), "interval_s must be at least 0.001 seconds"),
        (lambda door: door.cron("0 6 * *"), "expression must have 5 fields"),
        (lambda door: door.cron("0 6 * * *", tz="Berlin"), "tz must be the key of an IANA time zone"),
        (lambda door: door.task(), "interval_s or trigger must be given to task(), and not both"),
        (lambda door: door.task(60, trigger=Every(60)), "interval_s or trigger must be given to task(), and not both"),
        (lambda door: door.every(60, retry=1), "retry is not an argument of every(): did you mean retry_on or retries"),
        (lambda door: door.every(minutes=1), "minutes is not an argument of every(): write interval_s=60"),
        (lambda door: door.every(60, retries=-1), "retries must be an integer of at least 0"),
    ],
)
def test_a_decorator_that_is_used_wrongly_says_how_it_is_written(
    scheduler: Scheduler, decorate: Callable[[Scheduler], Any], text: str
) -> None:
    def job() -> None: ...

    def use() -> None:
        decorate(scheduler)(job)

    with pytest.raises(InvalidArgument) as refused:
        use()

    assert str(refused.value).startswith(text)
    assert list(scheduler.tasks) == []


def test_a_method_needs_an_object(scheduler: Scheduler) -> None:
    def use() -> None:
        class Cache:
            @scheduler.every(10)
            async def refresh(self) -> None: ...

    with pytest.raises(InvalidArgument, match=r"func must not be a method, .* in a Service, write @every of kaiju_app"):
        use()


# --- cron rules as text ---


async def job() -> None: ...


def test_a_text_is_a_cron_rule_in_the_zone_of_the_scheduler() -> None:
    scheduler = Scheduler(tz="Europe/Berlin")
    given: dict[str, Any] = {
        "daily": "@daily",
        "weekdays": "0 6 * * MON-FRI",
        "own": Cron("0 6 * * *", "Asia/Tokyo"),
        "utc": Cron("@hourly"),
    }
    for name, trigger in given.items():
        scheduler.schedule_task(job, trigger=trigger, name=name)
    scheduler.cron("0 7 * * *", name="decorated")(job)

    assert {name: task.trigger for name, task in scheduler.tasks.items()} == {
        "daily": Cron("0 0 * * *", "Europe/Berlin"),
        "weekdays": Cron("0 6 * * mon-fri", "Europe/Berlin"),
        "own": Cron("0 6 * * *", "Asia/Tokyo"),
        "utc": Cron("0 * * * *", "UTC"),
        "decorated": Cron("0 7 * * *", "Europe/Berlin"),
    }
    scheduler.tasks["own"].reschedule(trigger="@hourly")
    assert scheduler.tasks["own"].trigger == Cron("0 * * * *", "Europe/Berlin")


def test_an_h_in_a_text_is_a_hash_of_the_name_of_the_task() -> None:
    scheduler = Scheduler()
    rule = Cron("H H * * *", spread="report")
    task = scheduler.schedule_task(job, trigger="H H * * *", name="report")
    scheduler.task(trigger="H H * * *", name="other")(job)
    scheduler.cron("H H * * *", name="third")(job)
    scheduler.cron("H H * * *", "Asia/Tokyo", name="fourth")(job)

    assert rule == task.trigger
    assert scheduler.tasks["other"].trigger == Cron("H H * * *", spread="other") != rule
    assert scheduler.tasks["third"].trigger == Cron("H H * * *", spread="third")
    assert scheduler.tasks["fourth"].trigger == Cron("H H * * *", "Asia/Tokyo", spread="fourth")
    task.reschedule(trigger="H * * * *")
    assert task.trigger == Cron("H * * * *", spread="report")
    for unnamed in (lambda: scheduler.schedule_task(job, trigger="H 3 * * *"), lambda: scheduler.cron("H 3 * * *")):
        with pytest.raises(
            InvalidArgument, match=r"has an H, a hash of a name: .* or give a task with such text a name="
        ):
            unnamed()


def test_the_zone_is_utc_unless_told_otherwise() -> None:
    task = Scheduler().schedule_task(job, trigger="0 6 * * *")

    assert task.trigger == Cron("0 6 * * *", "UTC")
    assert Scheduler().schedule_task(job, trigger=At(datetime(2099, 1, 1, tzinfo=UTC))).trigger is not None


async def test_a_shared_task_keeps_its_zone_in_the_store(loop: VirtualLoop) -> None:
    store = MemoryStore(loop.virtual_clock.wall)
    async with Scheduler(store, tz="Europe/Berlin", clock=loop.virtual_clock) as scheduler:
        scheduler.schedule_task(job, trigger="0 6 * * *", name="report", scope=Scope.CLUSTER)
        await asyncio.sleep(5)

        [record] = (await store.scan()).records
        assert json.loads(record.schedule) == {"trigger": {"cron": "0 6 * * *", "tz": "Europe/Berlin"}}


@pytest.mark.parametrize("tz", ["Berlin", 2, None, b"UTC"])
def test_a_zone_that_does_not_exist_is_refused(tz: Any) -> None:
    with pytest.raises(InvalidArgument, match="tz must be the key of an IANA time zone, such as 'Europe/Berlin'"):
        Scheduler(tz=tz)


def test_a_text_that_is_no_rule_is_refused_as_the_trigger() -> None:
    with pytest.raises(InvalidArgument, match=r"^trigger must have 5 fields, .* got 'every 5 minutes'"):
        Scheduler().schedule_task(job, trigger="every 5 minutes")
    with pytest.raises(WrongCall):
        Scheduler().schedule_task(job, trigger="* * * * *", tz="UTC")  # type: ignore[call-overload]
