"""A started scheduler is used in its own event loop only: everything else is refused at once, with the way out."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from kaiju_app.errors import KaijuError, WrongThread
from kaiju_app.scheduler import ClusterTask, ExecPolicy, ScheduledTask, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.reading import ZERO
from support.virtual import VirtualLoop, close_loop

Call = Callable[[Scheduler, ScheduledTask[Any]], object]

# Every public method, with what its error names as the way out. A method that is missing here fails a test below.
PLAIN, AWAITED = "loop.call_soon_threadsafe({call}, ...)", "asyncio.run_coroutine_threadsafe({call}(), loop)"
ENTERED = "asyncio.run_coroutine_threadsafe(coroutine, loop)"
METHODS: dict[str, tuple[Call, str]] = {
    "scheduler.schedule_task": (lambda scheduler, _: scheduler.schedule_task(hour_long, 10), PLAIN),
    "scheduler.every": (lambda scheduler, _: scheduler.every(10)(hour_long), PLAIN),
    "scheduler.cron": (lambda scheduler, _: scheduler.cron("@daily")(hour_long), PLAIN),
    "scheduler.task": (lambda scheduler, _: scheduler.task(10)(hour_long), PLAIN),
    "scheduler.start": (lambda scheduler, _: scheduler.start(), "asyncio.run_coroutine_threadsafe(scheduler.stop(), "),
    "scheduler.stop": (lambda scheduler, _: scheduler.stop(), AWAITED),
    "scheduler.suspend": (lambda scheduler, _: scheduler.suspend(), ENTERED),
    "scheduler.history": (lambda scheduler, task: scheduler.history(task.name), AWAITED),
    "scheduler.runs": (lambda scheduler, _: scheduler.runs(), AWAITED),
    "scheduler.explain": (lambda scheduler, task: scheduler.explain(task, ZERO), AWAITED),
    "scheduler.remote": (lambda scheduler, _: scheduler.remote("feed"), PLAIN),
    "scheduler.forget": (lambda scheduler, _: scheduler.forget("gone"), AWAITED),
    "scheduler.inspect": (lambda scheduler, _: scheduler.inspect(), AWAITED),
    "scheduler.subscribe": (lambda scheduler, _: scheduler.subscribe(print), PLAIN),
    "scheduler.subscribe_starts": (lambda scheduler, _: scheduler.subscribe_starts(print), PLAIN),
    "scheduler.subscribe_overdue": (lambda scheduler, _: scheduler.subscribe_overdue(print), PLAIN),
    "scheduler.json_repr": (lambda scheduler, _: scheduler.json_repr(), PLAIN),
    "task.enable": (lambda _, task: task.enable(), PLAIN),
    "task.disable": (lambda _, task: task.disable(), PLAIN),
    "task.suspend": (lambda _, task: task.suspend(), ENTERED),
    "task.pause": (lambda _, task: task.pause(), AWAITED),
    "task.resume": (lambda _, task: task.resume(), AWAITED),
    "task.cancel": (lambda _, task: task.cancel("why"), PLAIN),
    "task.reschedule": (lambda _, task: task.reschedule(5), PLAIN),
    "task.remove": (lambda _, task: task.remove(), PLAIN),
    "task.wait": (lambda _, task: task.wait(), AWAITED),
    "task.run_now": (lambda _, task: task.run_now(), AWAITED),
    "task.request_run": (lambda _, task: task.request_run(), AWAITED),
    "task.history": (lambda _, task: task.history(), PLAIN),
    "task.upcoming": (lambda _, task: task.upcoming(1), PLAIN),
    "task.json_repr": (lambda _, task: task.json_repr(), PLAIN),
}
ANYWHERE = {"scheduler.health"}  # While the loop is blocked, only another thread can ask how the scheduler is.
REFUSED_OTHERWISE = {
    "scheduler.start",
    "scheduler.forget",
    "scheduler.remote",
    "task.run_now",
    "task.request_run",
    "task.remove",
}  # By a scheduler that is stopped, or has no store.
DECORATORS = ("scheduler.every", "scheduler.cron", "scheduler.task")


async def hour_long() -> None:
    await asyncio.sleep(3600)


class Started:
    """A started scheduler in a loop that does not run at the moment, with a run of its task in progress."""

    def __init__(self, scope: Scope) -> None:
        self.loop = VirtualLoop()
        store = MemoryStore(self.loop.virtual_clock.wall) if scope is Scope.CLUSTER else None
        self.scheduler = Scheduler(store, clock=self.loop.virtual_clock)
        self.task = self.scheduler.schedule_task(hour_long, 7200, name="feed", scope=scope, policy=ExecPolicy.WAIT)
        self.loop.run_until_complete(self.scheduler.start())
        self.loop.run_until_complete(asyncio.sleep(30))
        assert self.task.running

    def close(self) -> None:
        self.loop.run_until_complete(self.scheduler.stop())
        close_loop(self.loop)
        assert [] == self.loop.complaints


@pytest.fixture(params=Scope)
def started(request: pytest.FixtureRequest) -> Iterator[Started]:
    started = Started(request.param)
    yield started
    started.close()


async def carry_out(call: Callable[[], object]) -> None:
    """Make a call as a user would: await a coroutine, enter a context manager."""
    result = call()
    if isinstance(result, Awaitable):
        await asyncio.wait_for(result, 1)  # What hangs for ever, hangs for a second here.
    elif isinstance(result, AbstractAsyncContextManager):
        await asyncio.wait_for(result.__aenter__(), 1)


def raised_in_thread(call: Callable[[], object]) -> BaseException | None:
    """Return what *call* raises in another thread, in a loop of its own."""
    found: list[BaseException] = []

    def target() -> None:
        try:
            asyncio.run(carry_out(call))
        except BaseException as exc:
            found.append(exc)

    thread = threading.Thread(target=target, name="other")
    thread.start()
    thread.join()
    return found[0] if found else None


def raised_in_loop(call: Callable[[], object]) -> BaseException | None:
    """Return what *call* raises in another loop of this thread."""
    other = VirtualLoop()
    try:
        other.run_until_complete(carry_out(call))
    except BaseException as exc:
        return exc
    finally:
        close_loop(other)
    return None


def public_methods(kind: type, name: str) -> set[str]:
    return {f"{name}.{each}" for each, _ in inspect.getmembers(kind, inspect.isfunction) if not each.startswith("_")}


def test_the_table_has_every_public_method() -> None:
    methods = public_methods(Scheduler, "scheduler") | public_methods(ScheduledTask, "task")

    assert methods | public_methods(ClusterTask, "task") == METHODS.keys() | ANYWHERE


def test_the_health_may_be_asked_for_in_any_thread(started: Started) -> None:
    told: list[bool] = []

    assert raised_in_thread(lambda: told.append(started.scheduler.health().healthy)) is None
    assert told == [True]


@pytest.mark.parametrize(
    ("raised", "where"), [(raised_in_thread, "thread 'other'"), (raised_in_loop, "another event loop of this thread")]
)
@pytest.mark.parametrize("name", METHODS)
def test_every_public_method_refuses_another_thread_and_another_loop(
    started: Started, name: str, raised: Callable[[Callable[[], object]], BaseException | None], where: str
) -> None:
    call, way_out = METHODS[name]
    name = "scheduler.schedule_task" if name in DECORATORS else name
    before = repr(started.task)

    error = raised(lambda: call(started.scheduler, started.task))

    assert isinstance(error, WrongThread), error
    assert isinstance(error, KaijuError)
    assert isinstance(error, RuntimeError)
    assert f"{name}()" in str(error)
    assert where in str(error)
    assert way_out.format(call=name) in str(error)
    assert before == repr(started.task)
    assert list(started.scheduler.tasks) == ["feed"]
    started.loop.run_until_complete(asyncio.sleep(60))
    assert started.task.running


@pytest.mark.parametrize("raised", [raised_in_thread, raised_in_loop])
def test_what_was_entered_in_the_loop_is_not_left_elsewhere(
    started: Started, raised: Callable[[Callable[[], object]], BaseException | None]
) -> None:
    started.loop.run_until_complete(asyncio.sleep(3600))  # The run ends.
    suspension = started.task.suspend("migration")
    started.loop.run_until_complete(suspension.__aenter__())

    error = raised(lambda: suspension.__aexit__(None, None, None))

    assert isinstance(error, WrongThread)
    assert started.task.suspended
    started.loop.run_until_complete(suspension.__aexit__(None, None, None))
    assert not started.task.suspended


@pytest.mark.parametrize("raised", [raised_in_thread, raised_in_loop])
def test_a_subscription_is_not_ended_elsewhere(
    started: Started, raised: Callable[[Callable[[], object]], BaseException | None]
) -> None:
    unsubscribe = started.scheduler.subscribe(print)

    assert isinstance(raised(unsubscribe), WrongThread)
    unsubscribe()


def test_a_plain_call_needs_no_running_loop_in_the_thread_of_the_loop(started: Started) -> None:
    started.task.disable()
    assert not started.task.enabled
    started.task.enable()


def test_properties_may_be_read_in_any_thread(started: Started) -> None:
    names = [name for name, value in inspect.getmembers(type(started.task)) if isinstance(value, property)]
    read: dict[str, object] = {}

    def look() -> None:
        read.update({name: getattr(started.task, name) for name in names})
        read["repr"], read["started"], read["tasks"] = (
            repr(started.task),
            started.scheduler.started,
            list(started.scheduler.tasks),
        )

    assert raised_in_thread(look) is None
    assert read == {
        **{name: getattr(started.task, name) for name in names},
        "repr": repr(started.task),
        "started": True,
        "tasks": ["feed"],
    }


async def test_the_way_out_for_coroutines_works(scheduler: Scheduler, loop: VirtualLoop) -> None:
    async def answer() -> int:
        return 42

    task = scheduler.schedule_task(answer, 1e6)
    async with scheduler:
        await asyncio.sleep(1)

        def other_thread() -> object:
            return asyncio.run_coroutine_threadsafe(task.run_now(), loop).result(5).outcome

        assert await asyncio.to_thread(other_thread) == "SUCCEEDED"


async def test_a_run_that_outlived_stop_is_not_awaited_in_another_thread(scheduler: Scheduler) -> None:
    may_end = asyncio.Event()

    async def stubborn() -> None:
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    task = scheduler.schedule_task(stubborn, 1000)
    async with scheduler:
        await asyncio.sleep(1)
        assert [task] == await scheduler.stop(1)

        assert isinstance(await asyncio.to_thread(raised_in_thread, task.wait), WrongThread)
        assert isinstance(await asyncio.to_thread(raised_in_thread, task.suspend), WrongThread)
        may_end.set()
        await task.wait()


@pytest.mark.parametrize("scope", Scope)
def test_nothing_is_started_or_awaited_in_a_loop_that_was_closed_without_stop(scope: Scope) -> None:
    started = Started(scope)
    close_loop(started.loop)

    error = raised_in_loop(started.task.run_now)

    assert str(error) == (
        "task 'feed': the event loop in which the scheduler was started is closed: await scheduler.stop(), then "
        "start() it in this one"
    )


def test_a_stopped_scheduler_belongs_to_no_thread() -> None:
    scheduler = Scheduler()
    task = scheduler.schedule_task(hour_long, 10)

    for name, (call, _) in METHODS.items():
        if name not in REFUSED_OTHERWISE:
            assert raised_in_thread(lambda call=call: call(scheduler, task)) is None, name  # type: ignore[misc]
