"""A function that only prepares its work has not succeeded: what it returns says so, and the error how to do it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from kaiju_app._core.unbegun import LOOKED_AT, check_result
from kaiju_app.scheduler import Outcome, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.reading import wait_until
from support.virtual import VirtualLoop


async def work(number: int = 0) -> int:
    return number


def generate() -> Iterator[int]:
    yield 1


async def generate_async() -> AsyncIterator[int]:
    yield 1


@functools.wraps(generate)
def wrapped() -> Any:
    return generate()


managed = contextlib.contextmanager(generate)
managed_async = contextlib.asynccontextmanager(generate_async)


def begun() -> Iterator[int]:
    generator = generate()
    next(generator)
    return generator


def over() -> Iterator[int]:
    generator = generate()
    list(generator)
    return generator


def entered() -> Any:
    manager = managed()
    manager.__enter__()
    return manager


CALL = "call it in the function, as in `lambda: work()` instead of `lambda: work`, or schedule it itself"
ITERATE = "iterate over it in the function, as in `for _ in work(): pass`"
GATHER = "await them in an `async def`, as in `await asyncio.gather(*works)`"

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a generator": (lambda: generate(), "a generator", ITERATE),
    "a generator of a wrapper": (wrapped, "a generator", ITERATE),
    "a generator expression": (lambda: (print(each) for each in "abc"), "a generator", ITERATE),
    "an async generator": (
        lambda: generate_async(),
        "an async generator",
        "iterate over it in an `async def`, as in `async for _ in work(): pass`",
    ),
    "a context manager": (managed, "a context manager", "enter it in the function, as in `with work(): pass`"),
    "an async context manager": (
        managed_async,
        "an async context manager",
        "enter it in an `async def`, as in `async with work(): pass`",
    ),
    "a map": (lambda: map(print, "abc"), "a map", ITERATE),
    "a filter": (lambda: filter(print, "abc"), "a filter", ITERATE),
    "a partial": (lambda: functools.partial(print, 1), "a partial", CALL),
    "a function": (lambda: work, "a function", CALL),
    "a method": (lambda: Scheduler().json_repr, "a method", CALL),
    "a method of a built-in class": (lambda: {}.clear, "a built-in function", CALL),
    "a list of coroutines": (lambda: [work(each) for each in range(20)], "a list of coroutines", GATHER),
    "a tuple of coroutines": (lambda: (None, work()), "a tuple of coroutines", GATHER),
    "a set of coroutines": (lambda: {work(), work()}, "a set of coroutines", GATHER),
    "a dict of coroutines": (lambda: {"a": work(1), "b": work(2)}, "a dict of coroutines", GATHER),
    "a list of generators": (lambda: [generate()], "a list of generators", "iterate over each in the function"),
    "a list of async generators": (
        lambda: [generate_async()],
        "a list of async generators",
        "iterate over each in an `async def`",
    ),
}
COROUTINE = (work, "a coroutine", "await it in the function, as in `return await work()`")


@pytest.mark.parametrize("way", ["plain", "awaited", "async"])
@pytest.mark.parametrize("case", [*REFUSED, "a coroutine"])
async def test_a_result_that_shows_that_nothing_ran_is_a_failure(scheduler: Scheduler, case: str, way: str) -> None:
    make, what, advice = COROUTINE if case == "a coroutine" else REFUSED[case]

    async def returns() -> Any:
        return make()

    if case == "a coroutine" and way == "plain":
        pytest.skip("it is awaited")
    func = {"plain": make, "awaited": lambda: returns(), "async": returns}[way]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = scheduler.schedule_task(func, 1000, name="x")
        async with scheduler:
            await wait_until(lambda: task.last_run)
        gc.collect()

    [run] = task.history()
    assert run.outcome is Outcome.FAILED
    assert run.error == f"NothingRan: the function returned {what}, so nothing ran: {advice}"
    assert task.result is None
    assert [str(each.message) for each in caught] == []


ACCEPTED: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "an empty list": list,
    "a list": lambda: [1, "a", None, [work]],
    "a list of functions": lambda: [work, print],
    "a dict": lambda: {"a": 1},
    "a class": lambda: Scheduler,
    "a generator that has begun": begun,
    "a generator that is over": over,
    "a context manager that was entered": entered,
    "a lock": asyncio.Lock,
    "a range": lambda: range(3),
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("case", ACCEPTED)
async def test_every_other_result_is_one(scheduler: Scheduler, case: str, is_async: bool) -> None:
    made: list[Any] = []

    def plain() -> Any:
        made.append(ACCEPTED[case]())
        return made[-1]

    async def in_the_loop() -> Any:
        return plain()

    task = scheduler.schedule_task(in_the_loop if is_async else plain, 1000)
    async with scheduler:
        await wait_until(lambda: task.last_run)

    assert [run.outcome for run in task.history()] == [Outcome.SUCCEEDED]
    assert task.result is made[0]


async def test_coroutines_that_run_elsewhere_are_left_alone(scheduler: Scheduler) -> None:
    async def returns() -> Any:
        coroutines = [work(1), work(2)]
        tasks = [asyncio.ensure_future(each) for each in coroutines]
        await asyncio.wait(tasks)
        return coroutines

    task = scheduler.schedule_task(returns, 1000)
    async with scheduler:
        await asyncio.sleep(1)

    assert [run.outcome for run in task.history()] == [Outcome.SUCCEEDED]


async def test_a_shared_task_fails_likewise(loop: VirtualLoop) -> None:
    scheduler = Scheduler(MemoryStore(loop.virtual_clock.wall), clock=loop.virtual_clock)
    task = scheduler.schedule_task(lambda: generate(), 1000, name="x", scope=Scope.CLUSTER, overlap_on_loss=True)
    async with scheduler:
        await wait_until(lambda: task.last_run, 0.1)
        await asyncio.sleep(0.2)  # The store hears of it a tenth of a second later, at most.
        [run] = await scheduler.history("x")

    assert run.outcome is Outcome.FAILED
    assert run.error is not None
    assert run.error.startswith("NothingRan: the function returned a generator")


async def test_a_result_that_shows_that_nothing_ran_is_retried_as_any_failure(scheduler: Scheduler) -> None:
    results = iter([generate(), 42])

    async def returns() -> Any:
        return next(results)

    task = scheduler.schedule_task(returns, 1000, retries=1, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(10)

    assert [(run.outcome, run.attempts) for run in task.history()] == [(Outcome.SUCCEEDED, 2)]


def test_a_long_list_is_not_looked_through() -> None:
    last = work()
    check_result([*range(LOOKED_AT), last])
    last.close()
