"""Cluster tasks: what registration refuses."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from behaviour.cluster.common import Journal, Made, nothing, share, started
from kaiju_app.errors import InvalidArgument, WrongState
from kaiju_app.scheduler import ExecPolicy, ScheduledTask, Scheduler, Scope
from kaiju_app.stores import MemoryStore, SqliteStore, Store
from support.virtual import VirtualLoop


def test_what_cannot_be_shared_is_refused_at_the_door() -> None:
    scheduler = Scheduler("memory://")

    class Mine:
        def after(self, moment: Any) -> Any:
            return moment + timedelta(hours=1)

        def at_or_before(self, moment: Any) -> Any:
            return moment

    for wrong, argument in [
        ({"name": None}, "name"),
        ({"name": "job\0"}, "name"),
        ({"name": "job\ud83d"}, "name"),
        ({"name": "ö" * 501}, "name"),
        ({"policy": ExecPolicy.SHIELD}, "overlap_on_loss"),
        ({"interval_s": None, "trigger": Mine()}, "trigger"),
        ({"scope": "everywhere"}, "scope"),
        ({"on_lost": "again"}, "on_lost"),
        ({"overlap_on_loss": 7}, "overlap_on_loss"),
    ]:
        given: dict[str, Any] = {"interval_s": 60, "name": "job", "scope": Scope.CLUSTER} | wrong
        with pytest.raises(InvalidArgument) as caught:
            scheduler.schedule_task(nothing, **given)
        assert caught.value.argument == argument
    with pytest.raises(InvalidArgument, match="thread"):
        scheduler.schedule_task(lambda: None, 60, name="plain", scope=Scope.CLUSTER)
    assert len(scheduler.tasks) == 0


@pytest.mark.parametrize("is_started", [False, True])
async def test_a_shared_task_without_a_store_is_refused_as_every_process_would_run_it(
    scheduler: Scheduler, is_started: bool
) -> None:
    if is_started:
        await scheduler.start()
    with pytest.raises(InvalidArgument) as caught:
        share(scheduler, nothing)
    await scheduler.stop()

    assert len(scheduler.tasks) == 0
    assert (caught.value.argument, caught.value.value) == ("scope", Scope.CLUSTER)
    assert str(caught.value) == (
        "scope cannot be CLUSTER in a scheduler without a store, where every process would run the task: give the "
        "processes a common one, Scheduler(store='sqlite:///scheduler.db') on one host or store='postgresql://...' on "
        "several; or say store='memory://' if there is only this process (is store= None because a setting is "
        "missing?), got <Scope.CLUSTER: 'CLUSTER'>"
    )


def test_what_is_missing_first_is_the_store() -> None:
    with pytest.raises(InvalidArgument, match="scope cannot be CLUSTER in a scheduler without a store"):
        Scheduler().schedule_task(lambda: None, 60, scope=Scope.CLUSTER)  # A plain function, without a name.


async def test_a_store_in_memory_is_for_one_process_on_purpose(loop: VirtualLoop) -> None:
    journal = Journal()
    alone = Scheduler("memory://", app="shop", clock=loop.virtual_clock)
    other = Scheduler(store="memory://", clock=loop.virtual_clock)
    share(alone, journal.body("alone"))
    async with started(alone, other):
        await asyncio.sleep(25)
        seen: Any = await other.inspect()

    assert [who for who, _ in journal.lines] == ["alone"] * 3
    assert (seen["store"], seen["tasks"]) == ("memory", [])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("store", "memory://shared"),
        ("store", "memory:"),
        ("store", "mysql://somewhere"),
        ("store", "scheduler.db"),
        ("store", 7),
        ("app", ""),
        ("app", "a\0b"),
        ("app", "ö" * 501),
        ("version", -1),
        ("version", ()),
        ("version", "1"),
        ("lease", 10),
    ],
)
def test_wrong_parameters_of_a_scheduler_are_refused(argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Scheduler(**{argument: value})

    assert caught.value.argument == argument


@pytest.mark.parametrize(
    "store", [MemoryStore(), SqliteStore("x.db"), SqliteStore("x.db", app="other")], ids=["memory", "sqlite", "other"]
)
def test_an_application_that_is_not_the_one_of_the_store_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="give it to the store") as caught:
        Scheduler(store, app="shop")

    assert caught.value.argument == "app"


def test_an_application_that_is_the_one_of_the_store_is_fine() -> None:
    Scheduler(SqliteStore("x.db", app="shop"), app="shop")
    Scheduler(SqliteStore("x.db", app="shop"))
    Scheduler("sqlite:///x.db", app="shop")


async def test_what_needs_the_store_needs_a_started_scheduler(made: Made) -> None:
    a = made()
    task: ScheduledTask[Any] = share(a, nothing)

    for call in (task.pause, task.resume, task.wait, task.run_now, a.inspect):
        with pytest.raises(WrongState, match="start"):
            await call()
    with pytest.raises(WrongState, match="start"):
        async with task.suspend():
            raise AssertionError
    with pytest.raises(WrongState, match="version"):
        task.reschedule(5)
