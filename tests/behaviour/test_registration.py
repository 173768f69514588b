"""``schedule_task()``: which arguments it accepts and refuses, its messages, and that it never runs anything itself."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
import math
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._engine.options import SpecOptions, TaskOptions
from kaiju_app.errors import InvalidArgument, KaijuError, RunCancelled
from kaiju_app.scheduler import (
    AnyOf,
    At,
    Cron,
    Every,
    Except,
    ExecPolicy,
    FirstRun,
    Missed,
    Outcome,
    Reason,
    ScheduledTask,
    Scheduler,
    current_run,
)
from support.virtual import EPOCH_US, VirtualLoop

ZERO = datetime.fromtimestamp(EPOCH_US / 1e6 + 5, UTC)  # When a test in virtual time begins.


def at(moment: datetime | None) -> float | None:
    """Return the seconds from the beginning of the test to *moment*."""
    return None if moment is None else (moment - ZERO).total_seconds()


async def job(*args: Any, **kws: Any) -> tuple[Any, ...]:
    return (*args, kws)


HUGE = pytest.param(10**400, id="huge")  # More than a float can represent.


async def two(first: int, second: int = 2, *, third: int = 3) -> tuple[int, int, int]:
    return first, second, third


def plain(value: int = 0) -> tuple[int, str]:
    return value, threading.current_thread().name


def numbers() -> Iterator[int]:
    yield 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.fixture
def door() -> Scheduler:
    """A scheduler without a loop, since registration needs none."""
    return Scheduler()


def refused(scheduler: Scheduler, *args: Any, **kws: Any) -> InvalidArgument:
    """Return the error of a registration that must fail, after checking that it left no trace."""
    before = dict(scheduler.tasks)
    with pytest.raises(InvalidArgument) as caught:
        scheduler.schedule_task(*args, **kws)
    assert dict(scheduler.tasks) == before
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KaijuError)
    return caught.value


# --- it never runs anything itself ---


async def test_the_first_run_starts_in_a_later_turn_of_the_loop(scheduler: Scheduler, loop: VirtualLoop) -> None:
    called: list[float] = []

    async def body() -> None:
        called.append(loop.time())

    async with scheduler:
        scheduler.schedule_task(body, 10)
        assert called == []
        await asyncio.sleep(1)

    assert called == [5.0]


async def test_tasks_registered_before_start_run_in_a_later_turn_too(scheduler: Scheduler) -> None:
    called: list[str] = []

    async def body() -> None:
        called.append("body")

    scheduler.schedule_task(body, 10)
    await scheduler.start()
    assert called == []
    await asyncio.sleep(1)
    assert called == ["body"]
    await scheduler.stop()


async def test_a_suspension_entered_before_giving_the_loop_back_holds_the_first_run(scheduler: Scheduler) -> None:
    async with scheduler:
        task = scheduler.schedule_task(job, 10)
        async with task.suspend():
            await asyncio.sleep(3)
            assert task.last_run is None
        await asyncio.sleep(1)

        assert [at(run.started_at) for run in task.history()] == [3]


async def test_a_suspension_entered_before_start_holds_the_first_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with task.suspend(), scheduler:
        await asyncio.sleep(3)

        assert task.last_run is None


async def test_a_task_may_be_registered_from_inside_a_run(scheduler: Scheduler) -> None:
    order: list[str] = []

    async def inner() -> None:
        order.append("inner")

    async def outer() -> None:
        scheduler.schedule_task(inner, 100)
        order.append("outer")

    scheduler.schedule_task(outer, 100)
    async with scheduler:
        await asyncio.sleep(1)

    assert order == ["outer", "inner"]


async def test_a_task_may_be_registered_while_the_scheduler_is_stopping(scheduler: Scheduler) -> None:
    scheduler.schedule_task(asyncio.sleep, 100, args=(10,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(1)
    stopping = asyncio.create_task(scheduler.stop())
    await asyncio.sleep(1)
    task = scheduler.schedule_task(job, 1)
    await stopping
    await asyncio.sleep(5)
    assert task.last_run is None

    async with scheduler:
        await asyncio.sleep(0.5)

    assert [at(run.started_at) for run in task.history()] == [15]


async def test_a_task_registered_after_stop_runs_at_the_next_start(scheduler: Scheduler) -> None:
    async with scheduler:
        await asyncio.sleep(1)
    task = scheduler.schedule_task(job, 10)
    await asyncio.sleep(100)
    assert task.last_run is None

    async with scheduler:
        await asyncio.sleep(1)

    assert [at(run.started_at) for run in task.history()] == [101]


def test_registration_and_json_repr_need_no_loop() -> None:
    scheduler = Scheduler()
    task = scheduler.schedule_task(two, 60, (1,), {"third": 5}, policy=ExecPolicy.WAIT)

    assert (task.enabled, task.running, task.suspended) == (True, False, False)
    assert (task.next_run_at, task.result, task.last_run, task.history()) == (None, None, None, [])
    told = json.loads(json.dumps(scheduler.json_repr(), allow_nan=False))
    assert (told["started"], told["time"]) == (False, None)
    assert [(each["name"], each["started"], each["called_at"]) for each in told["tasks"]] == [
        ("scheduled:two", False, None)
    ]


async def test_registration_from_another_thread_is_refused(scheduler: Scheduler) -> None:
    async with scheduler:
        with pytest.raises(RuntimeError, match="call_soon_threadsafe") as caught:
            await asyncio.to_thread(scheduler.schedule_task, job, 10)

        assert isinstance(caught.value, KaijuError)
        assert "schedule_task" in str(caught.value)
        assert dict(scheduler.tasks) == {}


async def test_the_way_out_of_another_thread_works(scheduler: Scheduler, loop: VirtualLoop) -> None:
    async with scheduler:
        other = threading.Thread(target=loop.call_soon_threadsafe, args=(scheduler.schedule_task, job, 1000))
        other.start()
        other.join()
        await asyncio.sleep(1)

        assert [run.outcome for run in scheduler.tasks["scheduled:job"].history()] == [Outcome.SUCCEEDED]


# --- what is kept ---


async def test_dropping_the_task_and_the_function_changes_nothing(scheduler: Scheduler, loop: VirtualLoop) -> None:
    called: list[float] = []

    def register() -> None:
        async def body() -> None:
            called.append(loop.time())

        scheduler.schedule_task(body, 10)

    register()
    async with scheduler:
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(9)

    assert called == [5.0, 15.0, 25.0]


async def test_a_run_is_held_strongly_while_only_it_knows_what_it_waits_for(scheduler: Scheduler) -> None:
    """asyncio itself keeps only a weak reference to a task."""
    futures: weakref.WeakSet[asyncio.Future[None]] = weakref.WeakSet()

    async def body() -> str:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        futures.add(future)
        await future
        return "ended"

    task = scheduler.schedule_task(body, 3600)
    async with scheduler:
        await asyncio.sleep(1)
        gc.collect()
        (future,) = futures
        future.set_result(None)
        await asyncio.sleep(1)

        assert task.result == "ended"


async def test_the_same_task_is_found_by_its_name(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10, name="mine")

    assert scheduler.tasks["mine"] == task
    assert dict(scheduler.tasks) == {"mine": task}


def test_the_mapping_of_tasks_is_read_only_and_follows(door: Scheduler) -> None:
    tasks = door.tasks
    task = door.schedule_task(job, 10)

    assert list(tasks.items()) == [("scheduled:job", task)]
    with pytest.raises(TypeError):
        tasks["other"] = task  # type: ignore[index]
    with pytest.raises(TypeError):
        del tasks["scheduled:job"]  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        tasks["missing"]


async def test_arguments_are_copied_at_the_door(scheduler: Scheduler) -> None:
    args, kws = [1], {"third": 3}
    task = scheduler.schedule_task(two, 10, args, kws)
    args.append(7)
    kws["second"] = 7

    async with scheduler:
        await asyncio.sleep(1)

    assert task.result == (1, 2, 3)
    assert (task.args, dict(task.kws)) == ((1,), {"third": 3})


def test_tasks_with_equal_parameters_share_one_spec(door: Scheduler) -> None:
    """A million equal tasks need a million entries but only one set of parameters."""
    first, second = (
        door.schedule_task(func, 60, (1,), policy=ExecPolicy.WAIT, retries=3, trigger=None) for func in (job, two)
    )

    assert first._entry.spec is second._entry.spec


def test_first_runs_in_the_hour_that_comes_twice_are_not_confused(door: Scheduler) -> None:
    """Equal parameters are shared, but two datetimes of one zone that differ only in ``fold`` compare equal."""

    class Twice(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(hours=1 if moment is not None and moment.fold else 2)

        def dst(self, moment: datetime | None) -> timedelta:
            return timedelta()

    first = datetime(2027, 10, 31, 2, 30, tzinfo=Twice())

    async def main() -> list[datetime | None]:
        async with door:
            return [
                door.schedule_task(job, 3600, first_run=moment).next_run_at for moment in (first, first.replace(fold=1))
            ]

    loop = VirtualLoop()
    try:
        planned = loop.run_until_complete(main())
    finally:
        loop.close()
    assert planned == [datetime(2027, 10, 31, 0, 30, tzinfo=UTC), datetime(2027, 10, 31, 1, 30, tzinfo=UTC)]


def test_the_options_that_type_checkers_know_are_those_of_the_signature() -> None:
    hints = get_type_hints(Scheduler.schedule_task)
    parameters = inspect.signature(Scheduler.schedule_task).parameters.values()
    by_name_only = {each.name: hints[each.name] for each in parameters if each.kind is each.KEYWORD_ONLY}

    assert get_type_hints(TaskOptions) == by_name_only
    assert {name for name in SpecOptions._fields if name not in hints} == {"threaded", "safe_mod"}


def test_an_option_that_does_not_exist_is_refused_by_its_name(door: Scheduler) -> None:
    with pytest.raises(TypeError) as caught:
        door.schedule_task(job, 10, retry=3)  # type: ignore[call-overload]

    assert isinstance(caught.value, InvalidArgument)
    assert str(caught.value) == "retry is not an argument of schedule_task(): did you mean retry_on or retries?, got 3"


# --- functions ---


class Service:
    def __init__(self) -> None:
        self.calls = 0

    async def refresh(self) -> str:
        self.calls += 1
        return "refreshed"

    @classmethod
    async def of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    async def of_nobody() -> str:
        return "static"

    async def __call__(self) -> str:
        return "called"


@dataclass
class Unhashable:
    """A dataclass like most services: equal by value, so it has no hash."""

    seen: list[str] = field(default_factory=list)

    async def refresh(self) -> str:
        return "refreshed"

    async def __call__(self) -> str:
        return "called"


async def ticking(scheduler: Scheduler, func: Callable[..., Any], *args: Any, **kws: Any) -> ScheduledTask[Any]:
    """Register *func*, let it run once, and return its task. SHIELD: virtual time flies while a thread works."""
    task = scheduler.schedule_task(func, 1e6, args, kws, policy=ExecPolicy.SHIELD, first_run=FirstRun.NEXT)
    async with scheduler:
        await task.run_now()
    return task


@pytest.mark.parametrize(
    ("func", "result"),
    [
        (Service().refresh, "refreshed"),
        (Service().of_class, "Service"),
        (Service.of_class, "Service"),
        (Service.of_nobody, "static"),
        (Service(), "called"),
        (Unhashable().refresh, "refreshed"),
        (Unhashable(), "called"),
        (functools.partial(two, 7, third=8), (7, 2, 8)),
        (functools.partial(functools.partial(two, 7), second=9), (7, 9, 3)),
    ],
)
async def test_whatever_is_async_runs_in_the_loop(scheduler: Scheduler, func: Callable[..., Any], result: Any) -> None:
    task = await ticking(scheduler, func)

    assert (task.last_run and task.last_run.error, task.result) == (None, result)
    assert task.method == func


async def test_two_services_of_a_class_are_two_tasks_with_one_function(scheduler: Scheduler) -> None:
    one, other = Service(), Service()
    scheduler.schedule_task(one.refresh, 10)
    scheduler.schedule_task(other.refresh, 10)
    async with scheduler:
        await asyncio.sleep(15)

    assert (one.calls, other.calls) == (2, 2)


async def test_a_plain_function_runs_in_a_thread_of_the_scheduler(scheduler: Scheduler) -> None:
    task = await ticking(scheduler, plain, 7)

    value, thread = task.result
    assert value == 7
    assert thread.startswith("kaiju_app")


@pytest.mark.realtime
@pytest.mark.smoke
async def test_a_plain_function_does_not_block_the_loop(scheduler: Scheduler) -> None:
    gate = threading.Event()
    task = scheduler.schedule_task(gate.wait, 3600, (10,), first_run=FirstRun.NEXT)
    async with scheduler:
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(0)
        assert task.running
        gate.set()
        run = await asking

        assert run.outcome is Outcome.SUCCEEDED
        assert task.result is True


@pytest.mark.realtime
async def test_no_more_plain_functions_run_at_a_time_than_there_are_threads() -> None:
    two_at_a_time = threading.Barrier(2, timeout=10)
    lock = threading.Lock()
    active, most = 0, 0

    def body() -> None:
        nonlocal active, most
        with lock:
            active += 1
            most = max(active, most)
        two_at_a_time.wait()
        with lock:
            active -= 1

    scheduler = Scheduler(threads=2)
    tasks = [scheduler.schedule_task(body, 3600, first_run=FirstRun.NEXT) for _ in range(6)]
    async with scheduler:
        runs = await asyncio.gather(*(task.run_now() for task in tasks))

    assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * 6
    assert most == 2


def _decorated(func: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kws: Any) -> Awaitable[Any]:
        return func(*args, **kws)

    return wrapper


async def in_thread() -> tuple[str, str]:
    return threading.current_thread().name, current_run().task


@pytest.mark.parametrize(
    "func",
    [lambda: in_thread(), functools.partial(lambda func: func(), in_thread), _decorated(in_thread)],
    ids=["lambda", "partial", "decorator"],
)
async def test_an_awaitable_that_a_plain_function_returns_is_awaited_in_the_loop(
    scheduler: Scheduler, func: Callable[..., Any]
) -> None:
    task = await ticking(scheduler, func)

    assert task.result == (threading.main_thread().name, task.name)


async def test_a_future_that_a_plain_function_returns_is_awaited(scheduler: Scheduler, loop: VirtualLoop) -> None:
    future = loop.create_future()
    loop.call_later(1000, future.set_result, "late")

    task = await ticking(scheduler, lambda: future)

    assert task.result == "late"


async def test_what_a_plain_function_raises_is_the_error_of_the_run(scheduler: Scheduler) -> None:
    task = await ticking(scheduler, int, "seven")

    run = task.last_run
    assert run is not None
    assert (run.outcome, run.error) == (
        Outcome.FAILED,
        "ValueError: invalid literal for int() with base 10: 'seven'",
    )


async def test_a_deadline_cannot_stop_a_thread_but_marks_its_run(scheduler: Scheduler) -> None:
    """Virtual time flies while the thread works, so many ticks pass before it returns."""
    gate, copies, checked = threading.Event(), [], []

    def body() -> None:
        copies.append(threading.current_thread())
        run = current_run()
        gate.wait(10)
        try:
            run.check()
        except RunCancelled as cut:
            checked.append(cut.reason)
            raise

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.WAIT, max_timeout_s=25)
    async with scheduler:
        await asyncio.sleep(34)
        assert task.state == "hung"
        task.disable()
        over = asyncio.create_task(task.wait())
        await asyncio.sleep(0)
        gate.set()
        run = await over

    assert run is not None
    assert (run.outcome, run.reason) == (Outcome.TIMED_OUT, Reason.DEADLINE)
    assert (len(copies), checked) == (1, ["deadline"])


async def test_a_thread_that_returns_in_spite_of_its_deadline_has_succeeded(scheduler: Scheduler) -> None:
    gate = threading.Event()
    task = scheduler.schedule_task(gate.wait, 10, (10,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(31)
        assert task.running
        over = asyncio.create_task(task.wait())
        await asyncio.sleep(0)
        gate.set()
        run = await over

    assert run is not None
    assert (run.outcome, run.reason, run.error) == (Outcome.SUCCEEDED, Reason.DEADLINE, None)
    assert task.result is True


@pytest.mark.parametrize("func", [None, 7, "job", [job], NotImplemented])
def test_what_cannot_be_called_is_refused(door: Scheduler, func: Any) -> None:
    error = refused(door, func, 10)

    assert (error.argument, error.value) == ("func", func)
    assert str(error) == f"func must be callable: pass the function itself, not the result of calling it, got {func!r}"


def test_the_coroutine_of_a_function_already_called_is_refused(door: Scheduler) -> None:
    coroutine = job()

    error = refused(door, coroutine, 10)
    coroutine.close()

    assert error.argument == "func"
    assert "pass the function itself, not the result of calling it" in str(error)


class Numbers:
    def numbers(self) -> Generator[int]:
        yield 1

    def __call__(self) -> Generator[int]:
        yield 1


@pytest.mark.parametrize(
    "func",
    [
        numbers,
        async_numbers,
        Numbers().numbers,
        Numbers(),
        functools.partial(numbers),
        functools.partial(functools.partial(async_numbers)),
        lambda: (yield),
    ],
    ids=["generator", "async generator", "method", "object", "partial", "partial of a partial", "lambda"],
)
def test_a_generator_function_is_refused(door: Scheduler, func: Any) -> None:
    error = refused(door, func, 10)

    assert (error.argument, error.value) == ("func", func)
    assert "must not be a generator function, because calling it runs nothing" in str(error)


# --- arguments ---


@pytest.mark.parametrize(
    ("func", "args", "kws", "result"),
    [
        (two, (1,), {}, (1, 2, 3)),
        (two, [1, 7], {}, (1, 7, 3)),
        (two, (), {"first": 1, "third": 9}, (1, 2, 9)),
        (two, range(1, 3), {}, (1, 2, 3)),
        (job, (), {}, ({},)),
        (job, ("text",), {"more": 1}, ("text", {"more": 1})),
        (Service().refresh, (), {}, "refreshed"),
        (max, (3, 5), {}, 5),  # Some built-in functions have no signature.
    ],
)
async def test_arguments_that_fit_are_passed_on(
    scheduler: Scheduler, func: Callable[..., Any], args: Any, kws: Any, result: Any
) -> None:
    task = scheduler.schedule_task(func, 1e6, args, kws, policy=ExecPolicy.SHIELD, first_run=FirstRun.NEXT)
    async with scheduler:
        await task.run_now()

    assert task.result == result


@pytest.mark.parametrize(
    ("func", "args", "kws", "why"),
    [
        (two, (), {}, "missing a required argument: 'first'"),
        (two, (1, 2, 3), {}, "too many positional arguments"),
        (two, (1,), {"fourth": 4}, "got an unexpected keyword argument 'fourth'"),
        (two, (1,), {"first": 1}, "multiple values for argument 'first'"),
        (Service().refresh, (1,), {}, "too many positional arguments"),
        (Service.refresh, (), {}, "missing a required argument: 'self'"),
        (Service(), (1,), {}, "too many positional arguments"),
        (functools.partial(two, 1), (2, 3), {}, "too many positional arguments"),
        (plain, (), {"values": 1}, "got an unexpected keyword argument 'values'"),
        (lambda: None, (1,), {}, "too many positional arguments"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    door: Scheduler, func: Callable[..., Any], args: tuple[Any, ...], kws: dict[str, Any], why: str
) -> None:
    error = refused(door, func, 10, args, kws)

    assert error.argument == "args and kws"
    assert why in str(error)
    assert repr((*args, kws)) in str(error)


def test_the_refusal_of_arguments_names_function_and_signature(door: Scheduler) -> None:
    error = refused(door, plain, 10, (1, 2))

    assert str(error) == (
        "args and kws must fit plain(value: 'int' = 0) -> 'tuple[int, str]': too many positional arguments, "
        "got (1, 2, {})"
    )


def test_a_function_that_was_found_to_fit_is_still_checked_with_other_arguments(door: Scheduler) -> None:
    """The result of the check is cached by function and shape of the arguments."""
    door.schedule_task(two, 10, (1,))
    door.schedule_task(two, 10, (1,), {"third": 3})

    refused(door, two, 10, (1,), {"thrid": 3})
    refused(door, two, 10, (1, 2, 3))
    refused(door, two, 10)


def test_a_method_that_was_found_to_fit_when_bound_is_still_checked_when_not(door: Scheduler) -> None:
    door.schedule_task(Service().refresh, 10)
    refused(door, Service.refresh, 10)

    door.schedule_task(Service.refresh, 10, (Service(),))
    refused(door, Service().refresh, 10, (Service(),))


def test_a_decorator_that_supplies_an_argument_is_believed(door: Scheduler) -> None:
    """The wrapper is called, so its own signature counts, not that of the wrapped function."""

    def with_session(func: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[str]]:
        @functools.wraps(func)
        async def wrapper(*args: Any, **kws: Any) -> str:
            return await func("session", *args, **kws)

        return wrapper

    @with_session
    async def prune(session: str, table: str) -> str:
        return f"{session}: {table}"

    task = door.schedule_task(prune, 10, ("events",))

    assert task.args == ("events",)


@pytest.mark.parametrize("args", ["value", b"value", "", 7, None, {"first": 1}, {1}, iter([1])])
def test_args_that_are_no_sequence_or_a_text_are_refused(door: Scheduler, args: Any) -> None:
    error = refused(door, job, 10, args)

    assert (error.argument, error.value) == ("args", args)
    assert str(error) == f"args must be a sequence of arguments, such as args=(value,) for a single one, got {args!r}"


@pytest.mark.parametrize("kws", [None, 7, "first", [("first", 1)], {"first"}])
def test_kws_that_are_no_mapping_are_refused(door: Scheduler, kws: Any) -> None:
    error = refused(door, job, 10, (), kws)

    assert (error.argument, error.value) == ("kws", kws)
    assert str(error) == f"kws must be a mapping of argument names to values, got {kws!r}"


def test_names_of_arguments_that_are_no_text_are_refused(door: Scheduler) -> None:
    error = refused(door, job, 10, (), {1: 2})

    assert error.argument == "args and kws"
    assert "keywords must be strings" in str(error)


# --- names ---


def test_default_names_are_numbered(door: Scheduler) -> None:
    tasks = [door.schedule_task(func, 10) for func in (job, job, plain, job, Service().refresh)]

    assert [task.name for task in tasks] == [
        "scheduled:job",
        "scheduled:job#2",
        "scheduled:plain",
        "scheduled:job#3",
        "scheduled:Service.refresh",
    ]


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (Service.of_class, "scheduled:Service.of_class"),
        (functools.partial(two, 1), "scheduled:two"),
        (functools.partial(functools.partial(Service().refresh)), "scheduled:Service.refresh"),
        (Service(), "scheduled:Service"),
        (_decorated(job), "scheduled:job"),
        (print, "scheduled:print"),
    ],
)
def test_a_default_name_is_the_qualified_name_of_the_function(
    door: Scheduler, func: Callable[..., Any], name: str
) -> None:
    assert door.schedule_task(func, 10).name == name


def test_an_explicit_name_is_taken_as_it_is(door: Scheduler) -> None:
    assert door.schedule_task(job, 10, name="Nightly report: EU #1").name == "Nightly report: EU #1"


def test_an_explicit_name_taken_twice_is_refused(door: Scheduler) -> None:
    door.schedule_task(job, 10, name="mine")

    error = refused(door, two, 10, (1,), name="mine")

    assert (error.argument, error.value) == ("name", "mine")
    assert (
        str(error)
        == "name must be unique: a task has this name already; remove() it first, or say replace=True, got 'mine'"
    )


def test_an_explicit_name_may_not_be_a_default_name_in_use(door: Scheduler) -> None:
    door.schedule_task(job, 10)

    assert refused(door, job, 10, name="scheduled:job").argument == "name"


def test_a_default_name_gives_way_to_an_explicit_one(door: Scheduler) -> None:
    door.schedule_task(job, 10, name="scheduled:job")
    door.schedule_task(job, 10, name="scheduled:job#3")

    assert [door.schedule_task(job, 10).name for _ in range(2)] == ["scheduled:job#2", "scheduled:job#4"]


@pytest.mark.parametrize("name", ["", 7, b"mine", True, ("mine",)])
def test_a_name_that_is_no_text_is_refused(door: Scheduler, name: Any) -> None:
    error = refused(door, job, 10, name=name)

    assert (error.argument, error.value) == ("name", name)
    assert str(error) == f"name must be a non-empty string or None, got {name!r}"


def test_a_refused_registration_uses_no_name_up(door: Scheduler) -> None:
    refused(door, job, -1)
    refused(door, job, 10, policy="SOMETIMES")

    assert door.schedule_task(job, 10).name == "scheduled:job"
    refused(door, job, -1)
    assert door.schedule_task(job, 10).name == "scheduled:job#2"


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.sampled_from(["scheduled:job", "scheduled:job#2", "scheduled:job#3", "scheduled:job#10", "mine"]),
            st.integers(0, 9),
        ),
        max_size=30,
    )
)
def test_names_are_unique_whatever_comes_and_goes(steps: list[str | int | None]) -> None:
    """A step is None (a default name), a text (that name) or a number (remove that task)."""
    scheduler = Scheduler()
    there: list[ScheduledTask[Any]] = []
    for step in steps:
        if isinstance(step, int):
            if step < len(there):
                there.pop(step).remove()
        elif step in scheduler.tasks:
            refused(scheduler, job, 10, name=step)
        else:
            there.append(scheduler.schedule_task(job, 10, name=step))

        names = [task.name for task in there]
        assert len(set(names)) == len(names)
        assert {task.name: task for task in there} == dict(scheduler.tasks)


# --- when ---


@pytest.mark.parametrize(
    ("interval_s", "kept_s"),
    [
        (0.001, 0.001),
        (60, 60.0),
        (0.25, 0.25),
        (1 / 3, 0.333333),
        (timedelta(minutes=1), 60.0),
        (timedelta(microseconds=1500), 0.0015),
        (100 * 365.25 * 86_400, 3_155_760_000.0),
    ],
)
def test_an_interval_is_rounded_to_microseconds(door: Scheduler, interval_s: float | timedelta, kept_s: float) -> None:
    assert door.schedule_task(job, interval_s).interval_s == kept_s


@pytest.mark.parametrize(
    "interval_s",
    [0, -1, 0.0009, math.nan, math.inf, -math.inf, 1e300, HUGE, 200 * 366 * 86_400, timedelta(), timedelta.max],
)
def test_an_interval_out_of_range_is_refused(door: Scheduler, interval_s: Any) -> None:
    error = refused(door, job, interval_s)

    assert error.argument == "interval_s"
    assert error.value is interval_s
    assert str(error).startswith("interval_s must be at least 0.001 seconds and at most 100 years, got ")


@pytest.mark.parametrize("interval_s", [True, False, "60", b"60", 1j, [60], {}, Every(60)])
def test_an_interval_that_is_no_number_is_refused(door: Scheduler, interval_s: Any) -> None:
    door.schedule_task(job, 1)  # 1 == True, and parameters are cached.

    error = refused(door, job, interval_s)

    assert (error.argument, error.value) == ("interval_s", interval_s)
    assert str(error) == f"interval_s must be a number of seconds or a timedelta, got {interval_s!r}"


@pytest.mark.parametrize("both", [{}, {"interval_s": 60, "trigger": Every(60)}])
def test_exactly_one_of_interval_and_trigger_is_wanted(door: Scheduler, both: dict[str, Any]) -> None:
    error = refused(door, job, **both)

    assert str(error) == (
        "interval_s or trigger must be given, and not both: interval_s=60 or trigger=Every(60), "
        f"got {both.get('interval_s')!r}"
    )


@pytest.mark.parametrize("trigger", [60, b"0 6 * * *", [Every(60)], object, timedelta(minutes=1)])
def test_a_trigger_that_is_none_is_refused(door: Scheduler, trigger: Any) -> None:
    error = refused(door, job, trigger=trigger)

    assert (error.argument, error.value) == ("trigger", trigger)
    assert "must be a trigger such as Every(60)" in str(error)


def test_a_trigger_lends_the_task_its_gap(door: Scheduler) -> None:
    task = door.schedule_task(job, trigger=Every(90))

    assert (task.interval_s, task.trigger) == (90.0, Every(90))
    assert door.schedule_task(job, 90).trigger is None


def test_a_task_returns_the_very_trigger_that_it_was_given(door: Scheduler) -> None:
    given = Rule()

    assert door.schedule_task(job, trigger=given).trigger is given


@pytest.mark.parametrize(
    "first_run",
    ["NOW", "SOON", 0, 10.0, True, timedelta(seconds=1), [FirstRun.NOW], ExecPolicy.CANCEL],
)
def test_an_unknown_first_run_is_refused(door: Scheduler, first_run: Any) -> None:
    door.schedule_task(job, 10, first_run=FirstRun.NOW)  # FirstRun.NOW == "NOW", and parameters are cached.

    error = refused(door, job, 10, first_run=first_run)

    assert (error.argument, error.value) == ("first_run", first_run)
    advice = "; write FirstRun.NOW" if first_run == "NOW" else ""
    assert str(error) == f"first_run must be one of FirstRun.NOW, FirstRun.NEXT{advice}, got {first_run!r}"


def test_a_first_run_without_a_zone_is_refused(door: Scheduler) -> None:
    naive = ZERO.replace(tzinfo=None)

    error = refused(door, job, 10, first_run=naive)

    assert (error.argument, error.value) == ("first_run", naive)
    assert str(error) == f"first_run must be an aware datetime such as datetime.now(UTC), got {naive!r}"


@pytest.mark.parametrize("missed", ["ONCE", "TWICE", None, True, 0, [Missed.ALL], FirstRun.NOW])
def test_an_unknown_rule_for_missed_ticks_is_refused(door: Scheduler, missed: Any) -> None:
    door.schedule_task(job, 10, missed=Missed.ONCE)

    error = refused(door, job, 10, missed=missed)

    assert (error.argument, error.value) == ("missed", missed)
    advice = "; write Missed.ONCE" if missed == "ONCE" else ""
    assert str(error) == f"missed must be one of Missed.ONCE, Missed.SKIP, Missed.ALL{advice}, got {missed!r}"


def test_a_grace_beside_a_limit_of_its_own_is_refused(door: Scheduler) -> None:
    error = refused(door, job, 10, missed=Missed.ALL, grace_s=5)

    assert (error.argument, error.value) == ("grace_s", 5)
    assert str(error) == "grace_s does not apply to Missed.ALL, whose limit is catchup_s, got 5"


# --- rules, jitter, an end ---


class Rule:
    """A user's own trigger: every minute, unless it is told to return or raise something else."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def _answer(self, method: str, moment: datetime) -> Any:
        answer = self.answers.get(method, getattr(Every(60), method))
        if isinstance(answer, Exception):
            raise answer
        return answer(moment) if callable(answer) else answer

    def after(self, moment: datetime) -> Any:
        return self._answer("after", moment)

    def at_or_before(self, moment: datetime) -> Any:
        return self._answer("at_or_before", moment)

    def __repr__(self) -> str:
        return "<a rule>"


@pytest.mark.parametrize(
    ("expression", "tz", "parts"),
    [
        ("61 * * * *", "UTC", ["expression", "minute", "'61'", "0-59"]),
        ("0 25 * * *", "UTC", ["expression", "hour", "'25'", "0-23"]),
        ("0 6 * * someday", "UTC", ["expression", "day-of-week", "'someday'", "SUN-SAT"]),
        ("* * * *", "UTC", ["expression", "has 4", "5 fields"]),
        ("0 0 30 2 *", "UTC", ["expression", "'0 0 30 2 *'"]),
        ("0 6 * * *", "Europe/Brelin", ["tz", "'Europe/Brelin'", "IANA"]),
        (60, "UTC", ["expression", "60", "string"]),
    ],
)
def test_a_calendar_that_is_wrong_is_refused_before_it_is_a_trigger(
    door: Scheduler, expression: Any, tz: str, parts: list[str]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        door.schedule_task(job, trigger=Cron(expression, tz))

    assert [part for part in parts if part not in str(caught.value)] == []
    assert dict(door.tasks) == {}


ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (Rule(after=ConnectionError("it is away")), ["failed: ConnectionError: it is away"]),
        (Rule(after=datetime(2030, 1, 1)), ["aware", "datetime(2030, 1, 1"]),  # noqa: DTZ001
        (Rule(after=lambda moment: moment), ["not later"]),
        (Rule(after=lambda moment: moment - timedelta(1)), ["not later"]),
        (Rule(after="tomorrow"), ["aware", "tomorrow"]),
        (Rule(after=5.0), ["aware"]),
        (Rule(at_or_before=ConnectionError("it is away")), ["failed: ConnectionError: it is away"]),
        (Rule(at_or_before=datetime(2000, 1, 1)), ["aware", "datetime(2000, 1, 1"]),  # noqa: DTZ001
        (Rule(at_or_before=lambda moment: moment + timedelta(1)), ["later"]),
        (Rule(after=None, at_or_before=None), ["must have at least one tick, but never has one"]),
        (
            Except(Every(60), Cron("* * * * *")),
            ["must have at least one tick", "none is left between 2000-01-01 and 2010-12-13"],
        ),
        (Except(Cron("0 6 * * *"), Cron("* 6 * * *")), ["must have at least one tick", "search stopped"]),
        (Except(Every(60), ALWAYS), ["must have at least one tick, but never has one"]),
        (Cron, ["must be a trigger such as"]),
        (Rule, ["must be a trigger such as"]),
        (Every, ["must be a trigger such as"]),
        ("every minute", ["must have 5 fields", "but has 2", "or be one of @hourly"]),
        (Cron("0 6 * * *").after, ["must be a trigger such as"]),
    ],
)
def test_a_rule_that_does_not_work_when_tried_is_refused(door: Scheduler, rule: Any, parts: list[str]) -> None:
    task = Scheduler().schedule_task(job, 60)

    error = refused(door, job, trigger=rule)
    with pytest.raises(InvalidArgument) as caught:
        task.reschedule(trigger=rule)

    assert (error.argument, error.value) == ("trigger", rule)
    assert [part for part in parts if part not in str(error)] == []
    assert str(caught.value) == str(error)
    assert (task.interval_s, task.trigger) == (60, None)


def test_a_jitter_has_a_rule_that_stands_still_refused(door: Scheduler) -> None:
    """Without a jitter it may take a year until the trigger is asked about its last tick."""
    forgetful = AnyOf(Rule(after=datetime(2030, 1, 1, tzinfo=UTC), at_or_before=None), Cron("0 0 1 1 *"))

    error = refused(door, job, trigger=forgetful, jitter_s=5)

    assert ("trigger", forgetful) == (error.argument, error.value)
    assert "after(2030-01-01T00:00:00+00:00) returned 2030-01-01T00:00:00+00:00, which is not later" in str(error)


@pytest.mark.parametrize("rule", [{"interval_s": 60}, {"trigger": Cron("0 6 * * *")}])
@pytest.mark.parametrize("argument", ["until", "first_run"])
@pytest.mark.parametrize("value", [datetime(2030, 1, 1), "2030-01-01", 5])  # noqa: DTZ001
def test_an_instant_that_is_none_or_naive_is_refused(
    door: Scheduler, rule: dict[str, Any], argument: str, value: Any
) -> None:
    error = refused(door, job, **rule, **{argument: value})

    assert (error.argument, error.value) == (argument, value)


@pytest.mark.parametrize(
    ("rule", "jitter_s", "gap"),
    [
        ({"interval_s": 60}, 60, "60 s"),
        ({"interval_s": 60}, 61, "60 s"),
        ({"interval_s": 0.001}, timedelta(milliseconds=1), "0.001 s"),
        ({"trigger": Every(60)}, 60, "60 s"),
        ({"trigger": Cron("0 * * * *")}, 3600, "3600 s"),
        ({"trigger": Cron("* * * * * *")}, 1.5, "1 s"),
        ({"trigger": Cron("0,10 6 * * *")}, 600, "600 s"),
        ({"trigger": Cron("0 6 * * mon-fri")}, 86_400, "86400 s"),
        ({"trigger": Cron("0 2 * * *", "Europe/Berlin")}, 86_400, "s"),
        ({"trigger": AnyOf(Cron("0 * * * *"), Cron("59 5 * * *"))}, 60, "60 s"),
    ],
)
def test_a_jitter_that_could_exchange_two_ticks_is_refused(
    door: Scheduler, rule: dict[str, Any], jitter_s: Any, gap: str
) -> None:
    error = refused(door, job, jitter_s=jitter_s, **rule)
    task = door.schedule_task(job, jitter_s=0.0005, **rule)  # A smaller one is accepted.

    assert error.argument == "jitter_s"
    assert str(error).startswith("jitter_s must be less than the gap")
    assert gap in str(error)
    assert task.jitter_s == 0.0005


@pytest.mark.parametrize("rule", [{"interval_s": 60}, {"trigger": Cron("0 * * * *")}])
@pytest.mark.parametrize("jitter_s", [-1, -0.001, True, False, math.nan, math.inf, "1", None, timedelta(seconds=-1)])
def test_a_jitter_that_is_no_duration_is_refused(door: Scheduler, rule: dict[str, Any], jitter_s: Any) -> None:
    error = refused(door, job, jitter_s=jitter_s, **rule)

    assert (error.argument, str(error.value)) == ("jitter_s", str(jitter_s))


@pytest.mark.parametrize("shorter", [{"interval_s": 30}, {"trigger": Every(30)}, {"trigger": Cron("* * * * * *")}])
def test_a_reschedule_to_a_gap_shorter_than_the_jitter_is_refused(door: Scheduler, shorter: dict[str, Any]) -> None:
    task = door.schedule_task(job, 60, jitter_s=45)

    with pytest.raises(InvalidArgument) as caught:
        task.reschedule(**shorter)

    assert (caught.value.argument, caught.value.value) == ("jitter_s", 45)
    assert (task.interval_s, task.trigger, task.jitter_s) == (60, None, 45)


@pytest.mark.parametrize(
    "rule",
    [
        At(datetime(1990, 1, 1, tzinfo=UTC)),
        At(datetime(2990, 1, 1, tzinfo=UTC)),
        Cron("0 0 29 2 *"),
        Except(Every(60), Cron("* * 25 12 *")),
        AnyOf(Every(60), At(ZERO)),
    ],
)
def test_a_rule_with_a_tick_some_day_is_taken(door: Scheduler, rule: Any) -> None:
    task = door.schedule_task(job, trigger=rule, until=ZERO)

    assert (task.trigger, task.until) == (rule, ZERO)
    assert json.loads(json.dumps(task.json_repr()))["trigger"] == str(rule)


# --- the rest ---


@pytest.mark.parametrize("policy", ["CANCEL", "SOMETIMES", True, 0, [ExecPolicy.WAIT], Missed.SKIP, ExecPolicy])
def test_an_unknown_policy_is_refused(door: Scheduler, policy: Any) -> None:
    door.schedule_task(job, 10, policy=ExecPolicy.CANCEL)  # ExecPolicy.CANCEL == "CANCEL", and parameters are cached.

    error = refused(door, job, 10, policy=policy)

    assert (error.argument, error.value) == ("policy", policy)
    advice = f"; write ExecPolicy.{policy}" if policy in ("CANCEL", "SKIP") else ""
    assert str(error) == (
        "policy must be one of ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP, ExecPolicy.SHIELD"
        f"{advice}, got {policy!r}"
    )


DURATIONS = ["max_timeout_s", "retry_interval_s", "grace_s", "catchup_s"]


@pytest.mark.parametrize("argument", DURATIONS)
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf, HUGE, timedelta(seconds=-1)])
def test_a_duration_out_of_range_is_refused(door: Scheduler, argument: str, value: Any) -> None:
    error = refused(door, job, 10, **{argument: value})

    assert error.argument == argument
    assert error.value is value
    assert str(error).startswith(f"{argument} must be ")


@pytest.mark.parametrize("argument", DURATIONS)
@pytest.mark.parametrize("value", [True, "5", 1j, [5], ZERO])
def test_a_duration_that_is_no_number_is_refused(door: Scheduler, argument: str, value: Any) -> None:
    door.schedule_task(job, 10, **{argument: 1})  # type: ignore[arg-type]  # 1 == True, and parameters are cached.

    error = refused(door, job, 10, **{argument: value})

    assert (error.argument, error.value) == (argument, value)
    assert str(error).startswith(f"{argument} must be a number of seconds")
    assert str(error).endswith(f", got {value!r}")


@pytest.mark.parametrize("argument", ["max_timeout_s", "retry_interval_s", "catchup_s"])
def test_a_duration_is_not_none(door: Scheduler, argument: str) -> None:
    assert refused(door, job, 10, **{argument: None}).argument == argument


def test_durations_may_be_timedeltas(door: Scheduler) -> None:
    minute = timedelta(minutes=1)
    task = door.schedule_task(
        job, minute, max_timeout_s=minute, retry_interval_s=minute / 2, grace_s=minute, catchup_s=minute
    )

    assert (task.interval_s, task.max_timeout_s, task.retry_interval_s) == (60.0, 60.0, 30.0)


@pytest.mark.parametrize("retries", [-1, 1.0, 1.5, True, "1", None, math.nan, [1]])
def test_retries_that_are_no_count_are_refused(door: Scheduler, retries: Any) -> None:
    door.schedule_task(job, 10, retries=1)

    error = refused(door, job, 10, retries=retries)

    assert error.argument == "retries"
    assert str(error) == f"retries must be an integer of at least 0, got {retries!r}"


@pytest.mark.parametrize(
    ("retry_on", "culprit"),
    [
        ((OSError, asyncio.CancelledError), asyncio.CancelledError),
        (KeyboardInterrupt, KeyboardInterrupt),
        (BaseException, BaseException),
        (int, int),
        ("OSError", "OSError"),
        (OSError(), None),
        ([OSError], [OSError]),
        (None, None),
        ((OSError, (TimeoutError,)), (TimeoutError,)),
    ],
)
def test_only_exceptions_are_worth_another_attempt(door: Scheduler, retry_on: Any, culprit: Any) -> None:
    error = refused(door, job, 10, retry_on=retry_on)

    assert error.argument == "retry_on"
    assert error.value == (retry_on if culprit is None else culprit)
    assert "must be a subclass of Exception or a tuple of them, such as (OSError, TimeoutError), got " in str(error)


@pytest.mark.parametrize("retry_on", [ValueError, (), (ValueError,), (OSError, ValueError)])
def test_what_is_worth_another_attempt_may_be_one_exception_or_several(door: Scheduler, retry_on: Any) -> None:
    assert door.schedule_task(job, 10, retries=1, retry_on=retry_on).retries == 1


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"history": 0}, "history"),
        ({"history": True}, "history"),
        ({"history": 1.5}, "history"),
        ({"threads": 0}, "threads"),
        ({"threads": "8"}, "threads"),
        ({"cancel_grace_s": -1}, "cancel_grace_s"),
        ({"cancel_grace_s": math.nan}, "cancel_grace_s"),
        ({"cancel_grace_s": True}, "cancel_grace_s"),
        ({"wait_task_timeout_safe_mod": 0.5}, "wait_task_timeout_safe_mod"),
        ({"wait_task_timeout_safe_mod": math.nan}, "wait_task_timeout_safe_mod"),
        ({"wait_task_timeout_safe_mod": True}, "wait_task_timeout_safe_mod"),
    ],
)
def test_a_scheduler_refuses_parameters_out_of_range(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Scheduler(**arguments)

    assert (caught.value.argument, caught.value.value) == (argument, arguments[argument])
    assert str(caught.value).startswith(f"{argument} must be ")


@pytest.mark.parametrize("value", [[0] * 1000, "x" * 1000])
def test_a_long_value_is_cut_in_the_message(door: Scheduler, value: Any) -> None:
    error = refused(door, job, value)

    assert str(error) == f"interval_s must be a number of seconds or a timedelta, got {repr(value)[:117]}..."


def test_a_value_that_cannot_be_shown_does_not_hide_what_is_wrong(door: Scheduler) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("not today")

    error = refused(door, job, Broken())

    assert str(error).endswith("got <Broken whose repr() raises RuntimeError>")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.timedeltas(),
    st.sampled_from([*ExecPolicy, *FirstRun, *Missed, Every(60), ZERO, OSError, [], {}, 10**400]),
)


@given(
    st.dictionaries(st.sampled_from([*DURATIONS, "policy", "retries", "first_run", "missed", "name"]), scalars), scalars
)
def test_a_registration_is_taken_or_refused_by_name_and_nothing_else(given_: dict[str, Any], interval_s: Any) -> None:
    scheduler = Scheduler()
    try:
        task = scheduler.schedule_task(job, interval_s, **given_)
    except InvalidArgument as error:
        culprit = error.argument
        assert culprit in {"interval_s", *given_}
        assert dict(scheduler.tasks) == {}
    else:
        assert dict(scheduler.tasks) == {task.name: task}
        json.dumps(scheduler.json_repr(), allow_nan=False)
