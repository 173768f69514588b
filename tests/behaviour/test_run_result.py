"""What a function returned or raised is in the Run that run_now(), wait() and listeners get, and nowhere else."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import weakref
from collections.abc import Iterator

import pytest

from kaiju_app.scheduler import Outcome, Run, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.virtual import VirtualLoop


class Returned:
    """A result that can be referred to weakly."""


class Raised(Exception):
    """An exception of the application."""


async def raises() -> None:
    await asyncio.sleep(1)
    raise Raised("no route")


def raises_in_thread() -> None:
    raise Raised("no disk")


async def returns() -> Returned:
    await asyncio.sleep(1)
    return Returned()


def without_exception(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the cyclic collector, what is in a cycle is not freed. Pytest keeps log records; this empties them."""
    log = logging.getLogger("kaiju_app.scheduler")
    log.addFilter(without_exception)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    log.removeFilter(without_exception)


async def test_what_was_returned_is_in_the_run_but_not_in_the_history(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    task = scheduler.schedule_task(returns, 1e6)
    async with scheduler:
        await asyncio.sleep(0.5)
        waited = await task.wait()
        ran = await task.run_now()

    assert waited is not None
    assert isinstance(waited.result, Returned)
    assert isinstance(ran.result, Returned)
    assert [run.result for run in reported] == [waited.result, ran.result]
    assert [run.result for run in task.history()] == [None, None]
    assert task.last_run is not None
    assert task.last_run.result is None
    assert task.result is ran.result


async def test_what_was_raised_is_in_the_run_with_its_traceback_but_not_in_the_history(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    task = scheduler.schedule_task(raises, 1e6)
    async with scheduler:
        await asyncio.sleep(0.5)
        waited = await task.wait()
        ran = await task.run_now()

    assert waited is not None
    for run in (waited, ran):
        assert isinstance(run.exception, Raised)
        assert traceback.extract_tb(run.exception.__traceback__)[-1].name == "raises"
        assert (run.error, run.result) == ("Raised: no route", None)
    assert [run.exception for run in reported] == [waited.exception, ran.exception]
    assert [run.exception for run in task.history()] == [None, None]


async def test_a_success_after_a_failure_and_a_skip_have_neither_the_old_exception_nor_the_old_result(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    outcomes = iter([1, 0, 2])

    async def body() -> float:
        return 1 / next(outcomes)

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(25)
        async with task.suspend():
            await asyncio.sleep(10)

    told = [(run.outcome, run.result, type(run.exception).__name__) for run in reported]
    assert told == [
        (Outcome.SUCCEEDED, 1, "NoneType"),
        (Outcome.FAILED, None, "ZeroDivisionError"),
        (Outcome.SUCCEEDED, 0.5, "NoneType"),
        (Outcome.SKIPPED, None, "NoneType"),
    ]


async def test_neither_takes_part_in_comparison_or_text(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(returns, 1e6)
    failing = scheduler.schedule_task(raises, 1e6)
    async with scheduler:
        await asyncio.sleep(2)
        runs = [await task.run_now(), await failing.run_now()]

    for run, kept in zip(runs, [task.last_run, failing.last_run], strict=True):
        assert run == kept
        assert hash(run) == hash(kept)
        assert repr(run) == repr(kept)
        assert run.json_repr().keys().isdisjoint({"result", "exception"})


async def test_a_cancelled_run_tells_where_it_was(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 1e6, (1000,))
    async with scheduler:
        await asyncio.sleep(1)
        waiting = asyncio.ensure_future(task.wait())
        await asyncio.sleep(1)
        task.cancel("why")
        run = await waiting

    assert run is not None
    assert isinstance(run.exception, asyncio.CancelledError)
    assert traceback.extract_tb(run.exception.__traceback__)[-1].name == "sleep"


@pytest.mark.smoke
@pytest.mark.usefixtures("no_collector")
async def test_the_exception_is_freed_with_the_run(scheduler: Scheduler) -> None:
    seen: list[weakref.ref[BaseException]] = []

    def listener(run: Run) -> None:
        if run.exception is not None:
            seen.append(weakref.ref(run.exception))

    scheduler.subscribe(listener)
    attempts = scheduler.schedule_task(raises, 1e6, retries=2, retry_interval_s=1, name="attempts")
    in_thread = scheduler.schedule_task(raises_in_thread, 1e6, name="thread")
    async with scheduler:
        await asyncio.sleep(0.5)
        run = await attempts.wait()
        assert run is not None
        assert run.exception is not None
        assert seen[-1]() is run.exception
        del run
        ran = await in_thread.run_now()
        assert isinstance(ran.exception, Raised)
        del ran
        cut = asyncio.ensure_future(attempts.run_now())
        await asyncio.sleep(0.5)
        attempts.cancel("why")
        assert isinstance((await cut).exception, asyncio.CancelledError)
        del cut
        await asyncio.sleep(1)

    assert len(seen) >= 4
    assert {None} == {each() for each in seen}


@pytest.mark.usefixtures("no_collector")
async def test_the_exception_of_a_shared_run_is_freed_with_the_run(loop: VirtualLoop) -> None:
    seen: list[weakref.ref[BaseException]] = []
    scheduler = Scheduler(MemoryStore(loop.virtual_clock.wall), clock=loop.virtual_clock)
    scheduler.subscribe(lambda run: seen.append(weakref.ref(run.exception or Raised())))
    task = scheduler.schedule_task(raises, 1e6, name="shared", scope=Scope.CLUSTER)
    async with scheduler:
        await asyncio.sleep(3)

        assert task.counts[Outcome.FAILED] == 1
        assert [None] == [each() for each in seen]


@pytest.mark.usefixtures("no_collector")
async def test_only_the_task_keeps_the_last_result(scheduler: Scheduler, reported: list[Run]) -> None:
    task = scheduler.schedule_task(returns, 1e6)
    async with scheduler:
        run = await task.run_now()
        first = weakref.ref(run.result)
        del run
        reported.clear()
        assert first() is task.result
        await task.run_now()

        assert first() is None
