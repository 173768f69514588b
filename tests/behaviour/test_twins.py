"""The same task registered twice, and a task that replaces another one."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from behaviour.tasks import job, starts
from kaiju_app.errors import InvalidArgument, TaskSuspended
from kaiju_app.scheduler import Cron, ExecPolicy, FirstRun, Outcome, ScheduledTask, Scheduler, Scope
from support.reading import SuccessiveLoops, endings, warnings_of
from support.virtual import VirtualLoop

HERE = __file__


class Source:
    async def poll(self) -> None: ...

    @staticmethod
    async def fetch() -> None: ...


async def poll(*args: Any, **kws: Any) -> None: ...


def plain() -> None: ...


def line() -> int:
    """Return the number of the line that calls it."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


# --- registered twice ---


def test_the_same_task_registered_twice_is_told_with_both_places(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    first, place = scheduler.schedule_task(poll, 60), line()
    second = scheduler.schedule_task(poll, 60)

    assert (first.name, second.name) == ("scheduled:poll", "scheduled:poll#2")
    text = (
        f"task 'scheduled:poll#2' does the same as task 'scheduled:poll', so everything in it runs twice: "
        f"'scheduled:poll' was registered at {HERE}:{place}, and this one at {HERE}:{place + 1}. Remove one of the two "
        f"registrations. If the second is to replace the first, give both the same name, and this one replace=True; if "
        f"both are wanted, give each a name of its own"
    )
    assert warnings_of(caplog) == [text]
    (record,) = caplog.records
    assert record.__dict__["task"] == "scheduled:poll#2"


def test_it_is_told_once_for_each_function(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        scheduler.schedule_task(poll, 60)
        scheduler.schedule_task(plain, 60)

    assert len(warnings_of(caplog)) == 2


def test_a_function_that_is_decorated_and_scheduled_too_is_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    @scheduler.every(60)
    async def work() -> None: ...

    place = line() - 3  # Of the decorator.
    scheduler.schedule_task(work, 60)

    (told,) = warnings_of(caplog)
    assert f"was registered at {HERE}:{place}, and this one at {HERE}:{place + 4}." in told


def test_a_setup_that_is_called_twice_is_told(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        for city in ("Rome", "Bern"):
            scheduler.schedule_task(poll, 60, (city,))

    (told,) = warnings_of(caplog)
    assert told.startswith("task 'scheduled:poll#3' does the same as task 'scheduled:poll', ")


def test_the_latest_one_counts_as_well_as_the_first(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(poll, 60, ("Rome",))
    scheduler.schedule_task(poll, 60, ("Bern",))
    scheduler.schedule_task(poll, 60, ("Bern",))

    (told,) = warnings_of(caplog)
    assert "'scheduled:poll#3' does the same as task 'scheduled:poll#2'" in told
    assert "'scheduled:poll' was registered first at " in told


source = Source()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (plain, plain),
        (source.poll, source.poll),
        (Source.fetch, source.fetch),
        (partial(poll, 1, a=2), partial(partial(poll, 1), a=2)),
        (partial(poll), poll),
    ],
)
def test_the_same_function_in_another_form_is_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, first: Any, second: Any
) -> None:
    scheduler.schedule_task(first, 60)
    scheduler.schedule_task(second, 60)

    assert len(warnings_of(caplog)) == 1


def test_a_module_that_is_loaded_twice_is_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As ``jobs`` and as ``package.jobs``, or as ``__main__`` and by its name."""
    path = tmp_path / "jobs.py"
    path.write_text("async def refresh(): ...\n\nscheduler.schedule_task(refresh, 60)\n")
    for name in ("jobs", "package.jobs"):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        module.__dict__["scheduler"] = scheduler
        spec.loader.exec_module(module)

    (told,) = warnings_of(caplog)
    assert f"was registered at {path}:3, and this one at {path}:3." in told


class Odd:
    """Equal to everything, and not to be asked."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((poll, 60), (poll, 30)),
        ((poll, 60), (poll, 60, ("a",))),
        ((poll, 60, (1,)), (poll, 60, (True,))),
        ((poll, 60, (), {"a": 1}), (poll, 60, (), {"a": 2})),
        ((poll, 60, (Odd(),)), (poll, 60, (Odd(),))),
        ((Source().poll, 60), (Source().poll, 60)),
        ((partial(poll, 1), 60), (partial(poll, 2), 60)),
        ((lambda: 1, 60), (lambda: 2, 60)),
    ],
)
def test_different_tasks_are_not_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    scheduler.schedule_task(*first)
    scheduler.schedule_task(*second)

    assert len(scheduler.tasks) == 2
    assert [] == warnings_of(caplog)


def test_a_lambda_for_each_of_several_things_is_not_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    for city in ("Rome", "Bern"):
        scheduler.schedule_task(lambda city=city: poll(city), 60)

    assert [] == warnings_of(caplog)


def test_other_rules_other_names_and_a_task_that_was_removed_are_not_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(poll, trigger=Cron("0 6 * * *"))
    scheduler.schedule_task(poll, trigger=Cron("0 18 * * sat"))
    scheduler.schedule_task(plain, 60, name="a")
    scheduler.schedule_task(plain, 60, name="b")
    scheduler.schedule_task(job, 60).remove()
    scheduler.schedule_task(job, 60)

    assert [] == warnings_of(caplog)


# --- replace ---


async def test_a_task_takes_the_place_of_an_idle_one(scheduler: Scheduler) -> None:
    old = scheduler.schedule_task(job, 10, name="a")
    async with scheduler:
        await asyncio.sleep(15)
        new = scheduler.schedule_task(job, 20, name="a", replace=True)
        await asyncio.sleep(30)

        assert list(scheduler.tasks) == ["a"]
        assert (starts(old), starts(new)) == ([0, 10], [15, 35])


def test_without_a_task_to_replace_it_is_registered(scheduler: Scheduler) -> None:
    assert list(scheduler.tasks) == []
    assert scheduler.schedule_task(job, 10, name="a", replace=True).name == "a"


def test_a_wrong_option_replaces_nothing(scheduler: Scheduler) -> None:
    old = scheduler.schedule_task(job, 10, name="a")
    with pytest.raises(InvalidArgument):
        scheduler.schedule_task(job, -1, name="a", replace=True)
    with pytest.raises(InvalidArgument, match=r"^replace needs a name: .*, got True$"):
        scheduler.schedule_task(job, 10, replace=True)
    with pytest.raises(InvalidArgument, match="replace must be True or False"):
        scheduler.schedule_task(job, 10, name="a", replace=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"already; remove[(][)] it first, or say replace=True"):
        scheduler.schedule_task(job, 10, name="a")

    assert scheduler.tasks["a"].method is old.method
    assert scheduler.tasks["a"].interval_s == 10


async def busy(scheduler: Scheduler, takes_s: float = 20, **options: Any) -> ScheduledTask[Any]:
    """Return a task "a" whose run is in progress."""
    options = {"policy": ExecPolicy.SHIELD, "first_run": FirstRun.NOW, **options}
    task = scheduler.schedule_task(asyncio.sleep, 100, (takes_s,), name="a", **options)
    await asyncio.sleep(5)
    assert task.running
    return task


async def test_the_new_task_runs_when_the_run_of_the_old_one_has_ended(scheduler: Scheduler) -> None:
    async with scheduler:
        old = await busy(scheduler)
        new = scheduler.schedule_task(job, 100, name="a", replace=True)
        await asyncio.sleep(1)

        assert {name: task.state for name, task in scheduler.tasks.items()} == {
            "a": "suspended",
            "a (replaced)": "running",
        }
        assert old.name == "a (replaced)"
        with pytest.raises(TaskSuspended, match=r"the run of task 'a [(]replaced[)]'"):
            await new.run_now()
        await asyncio.sleep(30)

        assert list(scheduler.tasks) == ["a"]
        assert endings(old.history()) == [("SUCCEEDED", None, 1)]
        assert starts(new) == [20]


async def test_a_suspension_of_the_new_task_waits_for_the_run_of_the_old_one(
    scheduler: Scheduler, loop: asyncio.AbstractEventLoop
) -> None:
    async with scheduler:
        old = await busy(scheduler)
        new = scheduler.schedule_task(job, 100, name="a", replace=True)
        async with new.suspend():
            assert not old.running
            await asyncio.sleep(10)
            assert [] == starts(new)
        await asyncio.sleep(1)

        assert starts(new) == [30]


async def test_a_task_that_waits_can_be_replaced_and_the_next_one_waits_too(scheduler: Scheduler) -> None:
    async with scheduler:
        await busy(scheduler)
        second = scheduler.schedule_task(job, 100, name="a", replace=True)
        await asyncio.sleep(1)
        third = scheduler.schedule_task(job, 100, name="a", replace=True)
        await asyncio.sleep(100)

        assert (starts(second), starts(third)) == ([], [20])


@pytest.mark.parametrize(
    ("policy", "outcome"), [(ExecPolicy.SHIELD, Outcome.SUCCEEDED), (ExecPolicy.WAIT, Outcome.CANCELLED)]
)
async def test_stop_awaits_the_run_of_the_old_task(scheduler: Scheduler, policy: ExecPolicy, outcome: Outcome) -> None:
    async with scheduler:
        old = await busy(scheduler, policy=policy)
        new = scheduler.schedule_task(job, 100, name="a", replace=True)

    assert [run.outcome for run in old.history()] == [outcome]
    assert starts(new) == []


async def test_a_task_replaces_itself_in_its_own_run(scheduler: Scheduler) -> None:
    tasks = []

    async def replace() -> None:
        tasks.append(scheduler.schedule_task(job, 10, name="a", replace=True))
        await asyncio.sleep(3)
        await scheduler.stop() if len(tasks) > 1 else None

    old = scheduler.schedule_task(replace, 10, name="a")
    async with scheduler:
        await asyncio.sleep(15)

        assert (starts(old), starts(tasks[0])) == ([0], [3, 10])


async def test_a_run_of_the_old_task_that_outlives_stop_is_waited_for_after_the_next_start(
    scheduler: Scheduler,
) -> None:
    await scheduler.start()
    await busy(scheduler)
    new = scheduler.schedule_task(job, 100, name="a", replace=True)
    assert [task.name for task in await scheduler.stop(1)] == ["a (replaced)"]
    async with scheduler:
        await asyncio.sleep(100)

        assert starts(new) == [20]
        assert list(scheduler.tasks) == ["a"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_a_run_that_ended_with_its_loop_keeps_nothing_waiting() -> None:
    lives = SuccessiveLoops()
    scheduler = lives.scheduler

    async def begin() -> ScheduledTask[Any]:
        await scheduler.start()
        await busy(scheduler)
        return scheduler.schedule_task(job, 100, name="a", replace=True)

    async def go_on() -> None:
        await scheduler.stop(0)
        async with scheduler:
            await asyncio.sleep(1)

    with lives.life() as loop:
        new = loop.run_until_complete(begin())
        loop.close()
    with lives.life() as loop:
        loop.run_until_complete(go_on())

    assert list(scheduler.tasks) == ["a"]
    assert len(starts(new)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_forked_process_has_only_the_new_task(scheduler: Scheduler) -> None:
    async with scheduler:
        await busy(scheduler)
        scheduler.schedule_task(job, 100, name="a", replace=True)
        child = os.fork()
        if not child:
            states = {name: task.state for name, task in scheduler.tasks.items()}
            os._exit(0 if states == {"a": "stopped"} else 1)
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - virtual time


@pytest.mark.parametrize("before", Scope)
@pytest.mark.parametrize("after", Scope)
async def test_a_cluster_task_is_replaced_when_it_is_idle(loop: VirtualLoop, before: Scope, after: Scope) -> None:
    if Scope.CLUSTER not in (before, after):
        return
    options = {"overlap_on_loss": True} if before is Scope.CLUSTER else {}
    async with Scheduler("memory://", clock=loop.virtual_clock) as scheduler:
        old = await busy(scheduler, scope=before, **options)
        with pytest.raises(InvalidArgument, match=r"^replace is refused while a run of task 'a' is .*wait"):
            scheduler.schedule_task(job, 10, name="a", scope=after, replace=True)
        await old.wait()
        await asyncio.sleep(1)
        new = scheduler.schedule_task(job, 10, name="a", scope=after, replace=True)
        await asyncio.sleep(200)

        assert len(new.history()) > 5
        assert list(scheduler.tasks) == ["a"]
