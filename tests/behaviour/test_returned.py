"""A body that returns has succeeded, whatever it was asked meanwhile; only one that ends because of that is cut."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kaiju_app.scheduler import ExecPolicy, Outcome, Reason, Run, ScheduledTask, Scheduler, Scope, current_run
from kaiju_app.stores import MemoryStore
from support.reading import wait_until
from support.virtual import VirtualLoop

Ending = tuple[Outcome, Reason | None]


def ending(task: ScheduledTask[Any]) -> Ending:
    run = next(run for run in task.history() if run.outcome is not Outcome.SKIPPED)
    return run.outcome, run.reason


def test_the_policy_of_a_plain_function_is_skip_unless_told_otherwise(scheduler: Scheduler) -> None:
    async def in_the_loop() -> None: ...

    def plain() -> None: ...

    policies = [
        scheduler.schedule_task(plain, 10).policy,
        scheduler.schedule_task(lambda: 1, 10).policy,
        scheduler.schedule_task(in_the_loop, 10).policy,
        scheduler.schedule_task(plain, 10, policy=None).policy,
        scheduler.schedule_task(plain, 10, policy=ExecPolicy.CANCEL).policy,
    ]

    assert policies == ["SKIP", "SKIP", "CANCEL", "SKIP", "CANCEL"]


async def test_a_plain_function_that_overruns_by_default_succeeds_and_later_ticks_are_skipped(
    scheduler: Scheduler, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def slow() -> int:
        gate.wait()
        return 42

    task = scheduler.schedule_task(slow, 10)
    async with scheduler:
        await asyncio.sleep(25)
        gate.set()
        await wait_until(lambda: not task.running)
        task.disable()

        first, second = task.history()
        assert [(run.outcome, run.reason, run.count) for run in (first, second)] == [
            (Outcome.SKIPPED, Reason.OVERLAP, 2),
            (Outcome.SUCCEEDED, None, 1),
        ]
        assert task.result == 42
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


ASKED: dict[Reason, dict[str, Any]] = {
    Reason.REPLACED: {"policy": ExecPolicy.CANCEL},
    Reason.DEADLINE: {"policy": ExecPolicy.SKIP, "max_timeout_s": 12},
    Reason.REQUESTED: {"policy": ExecPolicy.WAIT},
    Reason.SHUTDOWN: {"policy": ExecPolicy.WAIT},
}


async def ask(scheduler: Scheduler, task: ScheduledTask[Any], reason: Reason) -> list[asyncio.Future[Any]]:
    """Have the run in progress asked to end for *reason*; return what must be awaited later."""
    await asyncio.sleep(14)
    if reason is Reason.REQUESTED:
        task.cancel("no need for it any more")
    return [asyncio.ensure_future(scheduler.stop(1000))] if reason is Reason.SHUTDOWN else []


@pytest.mark.parametrize("reason", ASKED)
async def test_a_plain_function_that_returns_has_succeeded_whatever_it_was_asked(
    scheduler: Scheduler, gate: threading.Event, reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    def slow() -> int:
        gate.wait()
        return 42

    task = scheduler.schedule_task(slow, 10, **ASKED[reason])
    await scheduler.start()
    pending = await ask(scheduler, task, reason)
    await asyncio.sleep(0.1)
    gate.set()
    await wait_until(lambda: not task.running)

    assert ending(task) == (Outcome.SUCCEEDED, reason)
    assert (task.history()[-1].error, task.result) == (None, 42)
    assert task.counts[Outcome.SUCCEEDED] == 1
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]
    await asyncio.gather(*pending, scheduler.stop())


@pytest.mark.parametrize("reason", ASKED)
async def test_a_coroutine_that_swallows_its_cancellation_and_returns_has_succeeded(
    scheduler: Scheduler, reason: Reason
) -> None:
    async def stubborn() -> int:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return 42
        return 0

    task = scheduler.schedule_task(stubborn, 10, **ASKED[reason])
    await scheduler.start()
    pending = await ask(scheduler, task, reason)
    await asyncio.sleep(0.1)

    assert ending(task) == (Outcome.SUCCEEDED, reason)
    assert task.result == 42
    await asyncio.gather(*pending, scheduler.stop())


@pytest.mark.parametrize(
    ("raises", "expected"),
    [
        (lambda: current_run().check(), (Outcome.TIMED_OUT, Reason.DEADLINE)),
        (lambda: wrapped(), (Outcome.TIMED_OUT, Reason.DEADLINE)),
        (lambda: int("x"), (Outcome.FAILED, Reason.DEADLINE)),
    ],
    ids=["check", "an error because of check", "an error of its own"],
)
async def test_a_plain_function_is_cut_only_if_it_raises_because_of_check(
    scheduler: Scheduler, gate: threading.Event, raises: Callable[[], object], expected: Ending
) -> None:
    def slow() -> None:
        gate.wait()
        raises()

    task = scheduler.schedule_task(slow, 100, max_timeout_s=10, retries=3)
    async with scheduler:
        await asyncio.sleep(11)
        gate.set()
        await wait_until(lambda: not task.running)

        assert ending(task) == expected
        assert task.result is None
        if expected[0] is Outcome.FAILED:
            assert task.history()[-1].error == (
                "ValueError: invalid literal for int() with base 10: 'x' "
                "(attempt 1 of 4, not retried: it was asked to end (deadline))"
            )


def wrapped() -> None:
    try:
        current_run().check()
    except Exception as exc:
        raise RuntimeError("the report is incomplete") from exc


async def test_a_failure_before_the_shutdown_that_cuts_the_retry_pause_stays_cut(scheduler: Scheduler) -> None:
    def broken() -> None:
        raise ValueError

    task = scheduler.schedule_task(broken, 1000, retries=1, retry_interval_s=500)
    async with scheduler:
        await wait_until(lambda: task._entry.run is not None and task._entry.run.wake is not None)

    assert ending(task) == (Outcome.CANCELLED, Reason.SHUTDOWN)
    assert task.history()[-1].error == "ValueError"


async def test_an_awaitable_that_a_cut_plain_function_returns_is_not_begun(
    scheduler: Scheduler, gate: threading.Event
) -> None:
    begun: list[int] = []

    async def inner() -> None:
        begun.append(1)

    def outer() -> Any:
        gate.wait()
        return inner()

    task = scheduler.schedule_task(outer, 10, policy=ExecPolicy.CANCEL)
    async with scheduler:
        await asyncio.sleep(14)
        gate.set()
        await wait_until(lambda: any(run.outcome is not Outcome.SKIPPED for run in task.history()))

        assert ending(task) == (Outcome.CANCELLED, Reason.REPLACED)


async def test_a_shared_run_that_returns_at_shutdown_ends_its_tick(loop: VirtualLoop) -> None:
    store = MemoryStore(loop.virtual_clock.wall)
    reported: list[Run] = []

    async def stubborn() -> int:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return 42
        return 0

    first = Scheduler(store, clock=loop.virtual_clock)
    first.subscribe(reported.append)
    first.schedule_task(stubborn, 1000, name="shared", scope=Scope.CLUSTER)
    async with first:
        await asyncio.sleep(10)
    second = Scheduler(store, clock=loop.virtual_clock)
    async with second:
        rows = await second.history("shared")

    assert [(run.outcome, run.reason) for run in rows] == [(Outcome.SUCCEEDED, Reason.SHUTDOWN)]
    assert [(run.outcome, run.reason) for run in reported] == [(Outcome.SUCCEEDED, Reason.SHUTDOWN)]
