"""Arguments, methods and names that other schedulers have: the error tells what they are called here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from kaiju_app import Application
from kaiju_app.errors import InvalidArgument, UnknownTask, WrongCall, WrongState
from kaiju_app.scheduler import Cron, Every, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.virtual import VirtualLoop


async def job() -> None: ...


@pytest.fixture
def door() -> Scheduler:
    """A scheduler with one task."""
    scheduler = Scheduler()
    scheduler.schedule_task(job, 60, name="refresh")
    return scheduler


@pytest.mark.parametrize(
    ("argument", "value", "advice"),
    [
        ("seconds", 5, "write interval_s=5, in seconds"),
        ("minutes", 5, "write interval_s=300, in seconds"),
        ("hours", 1.5, "write interval_s=5400, in seconds"),
        ("days", "1", "write interval_s=, in seconds"),
        ("kwargs", {"a": 1}, "write kws={'a': 1}"),
        ("id", "x", "write name='x'"),
        ("max_instances", 1, "leave it out: a task never overlaps itself; policy="),
        ("coalesce", True, "write missed=Missed.ONCE"),
        ("misfire_grace_time", 30, "write grace_s=30"),
        ("timezone", "Europe/Berlin", "write trigger=Cron('0 6 * * *', tz='Europe/Berlin')"),
        ("hour", 6, "write trigger='0 6 * * mon-fri'"),
        ("cron", "0 6 * * *", "write trigger='0 6 * * *'"),
        ("retry", 3, "did you mean retry_on or retries?"),
        ("zzz", 3, "known: args, catchup_s"),
    ],
)
def test_an_argument_of_another_scheduler_is_refused_with_what_to_write_here(
    door: Scheduler, argument: str, value: object, advice: str
) -> None:
    with pytest.raises(WrongCall) as refused:
        door.schedule_task(job, **{argument: value})  # type: ignore[call-overload]

    assert isinstance(refused.value, TypeError)
    assert isinstance(refused.value, InvalidArgument)
    assert str(refused.value).startswith(f"{argument} is not an argument of schedule_task(): {advice}")
    assert str(refused.value).endswith(f", got {value!r}")
    assert refused.value.__context__ is None, "no TypeError of Python above it"
    assert list(door.tasks) == ["refresh"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda door: door.schedule_task(), "func must be given to schedule_task(), got nothing"),
        (lambda door: door.schedule_task(job, 1, interval_s=2), "interval_s is given twice to schedule_task()"),
        (lambda door: door.schedule_task(job, 1, (), {}, Cron("0 6 * * *")), "argument 5 is too much: schedule_task()"),
        (
            lambda door: Scheduler(timezone="UTC"),  # type: ignore[call-arg]
            "timezone is not an argument of Scheduler(): write tz='UTC'",
        ),
        (
            lambda door: Every(minutes=5),  # type: ignore[call-arg]
            "minutes is not an argument of Every(): write seconds=300",
        ),
        (
            lambda door: Application(),  # type: ignore[call-arg]
            "name must be given to Application(), got nothing",
        ),
    ],
)
def test_a_call_that_does_not_fit_names_the_argument(
    door: Scheduler, call: Callable[[Scheduler], object], text: str
) -> None:
    with pytest.raises(WrongCall) as refused:
        call(door)

    assert str(refused.value).startswith(text)


async def test_a_coroutine_that_is_called_wrongly_says_so_when_it_is_awaited(door: Scheduler) -> None:
    task = door.tasks["refresh"]

    with pytest.raises(WrongCall, match=r"seconds is not an argument of pause\(\): write for_s=60, in seconds, got 60"):
        await task.pause(seconds=60)  # type: ignore[call-arg]
    assert inspect.iscoroutinefunction(task.pause)


def test_a_type_error_of_the_function_itself_passes_unchanged() -> None:
    class Broken:
        def after(self, moment: object) -> None:
            raise TypeError("of the user")

        at_or_before = after

    with pytest.raises(InvalidArgument, match="TypeError: of the user"):
        Scheduler().schedule_task(job, trigger=Broken())


def test_signatures_and_help_are_those_of_the_functions() -> None:
    assert list(inspect.signature(Scheduler).parameters)[:2] == ["store", "app"]
    assert "others" not in str(inspect.signature(Scheduler.schedule_task))
    assert list(inspect.signature(Every).parameters) == ["seconds", "anchor"]


@pytest.mark.parametrize(
    ("method", "advice"),
    [
        ("add_job", "write schedule_task(func, interval_s=60)"),
        ("add_task", "write schedule_task(func, interval_s=60)"),
        ("remove_job", "write scheduler.tasks[name].remove()"),
        ("scheduled_job", "write @scheduler.every(60)"),
        ("shutdown", "write await scheduler.stop()"),
        ("get_jobs", "write scheduler.tasks"),
        ("schedule_tasks", "did you mean schedule_task?"),
        ("zzz", "known: cron, every"),
    ],
)
def test_a_method_of_another_scheduler_is_refused_with_what_it_is_called_here(
    door: Scheduler, method: str, advice: str
) -> None:
    with pytest.raises(AttributeError) as refused:
        getattr(door, method)

    assert str(refused.value).startswith(f"Scheduler has no {method}: {advice}")
    assert not hasattr(door, method)


def test_tasks_and_applications_tell_their_names_too(door: Scheduler) -> None:
    with pytest.raises(AttributeError, match=r"ScheduledTask has no stop: write task.cancel\(reason\) for the run"):
        door.tasks["refresh"].stop  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"Application has no run: write run_app\(app\)"):
        Application("shop").run  # type: ignore[attr-defined]  # noqa: B018


def test_what_python_itself_asks_for_is_answered_as_always(door: Scheduler) -> None:
    assert not hasattr(door, "__len__")
    assert copy.copy(door.tasks["refresh"]) == door.tasks["refresh"]


def test_the_error_of_a_property_is_not_hidden() -> None:
    class Odd(Scheduler):
        @property
        def zone(self) -> Any:
            return None.tz  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'tz'"):
        Odd().zone  # noqa: B018


# --- names of tasks ---


async def test_a_task_that_does_not_exist_is_refused_with_names_that_are_near(door: Scheduler) -> None:
    with pytest.raises(UnknownTask) as refused:
        door.tasks["refesh"]
    assert isinstance(refused.value, KeyError)
    assert str(refused.value) == "there is no task 'refesh': did you mean refresh?"

    with pytest.raises(UnknownTask, match=r"^there is no task 'zzz': known: refresh$"):
        await door.history("zzz")
    assert (door.tasks.get("zzz"), door.tasks.get("zzz", 1), "zzz" in door.tasks) == (None, 1, False)
    assert door.tasks.get("refresh") == door.tasks["refresh"]


async def test_a_store_that_does_not_know_a_task_says_so_as_well(loop: VirtualLoop) -> None:
    store = MemoryStore(loop.virtual_clock.wall)
    async with Scheduler(store, clock=loop.virtual_clock) as one, Scheduler(store, clock=loop.virtual_clock) as other:
        shared = one.schedule_task(job, 3_600, name="refresh", scope=Scope.CLUSTER)
        await shared.wait()
        await shared.pause()

        assert [run.task for run in await other.history("refresh")] in ([], ["refresh"])
        with pytest.raises(UnknownTask, match="did you mean refresh"):
            await other.history("refesh")


@pytest.mark.parametrize("removed", [True, False])
async def test_a_task_that_cannot_run_now_says_whether_it_was_removed_or_is_not_started(
    door: Scheduler, removed: bool
) -> None:
    task = door.tasks["refresh"]
    if removed:
        task.remove()

    with pytest.raises(WrongState, match="it was removed; schedule" if removed else "not started; await scheduler.sta"):
        await task.run_now()
