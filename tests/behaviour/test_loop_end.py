"""The loop ends without ``stop()``: one line says what was forgotten, not one error for each run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import Any

import pytest

from kaiju_app.scheduler import ExecPolicy, Outcome, Reason, ScheduledTask, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.reading import wait_until
from support.virtual import VirtualLoop

FORGOTTEN = (
    "the event loop is ending, but scheduler.stop() was not called: the runs in progress are cancelled ({}), and "
    "nothing runs from now on. Write `async with scheduler:` around the program, or await scheduler.stop() before it "
    "ends"
)


def run(main: Any) -> None:
    """Do as a program does that calls ``asyncio.run()``."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


async def work() -> None:
    await asyncio.sleep(3600)


async def fails() -> None:
    raise ValueError("bad value")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert [] == [record for record in caplog.records if record.exc_info]
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def endings(*tasks: ScheduledTask[Any]) -> set[tuple[Outcome, Reason | None, str | None]]:
    return {(run.outcome, run.reason, run.error) for task in tasks for run in task.history()}


@pytest.mark.parametrize("how", ["returns", "raises", "is cancelled"])
def test_one_line_says_that_nobody_called_stop(caplog: pytest.LogCaptureFixture, how: str) -> None:
    tasks: list[ScheduledTask[Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        scheduler = Scheduler(clock=loop.virtual_clock)
        tasks.extend(
            scheduler.schedule_task(work, 3600, name=f"t{number}", policy=policy)
            for number, policy in enumerate(ExecPolicy)
        )
        await scheduler.start()
        await asyncio.sleep(10)
        if how == "raises":
            raise LookupError
        if how == "is cancelled":
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(1)

    expected = {"raises": LookupError, "is cancelled": asyncio.CancelledError}.get(how)
    with pytest.raises(expected) if expected else contextlib.nullcontext():
        run(main())

    assert told(caplog) == [FORGOTTEN.format("'t0', 't1', 't2' and 1 more")]
    assert endings(*tasks) == {(Outcome.CANCELLED, Reason.SHUTDOWN, None)}


def test_a_retry_pause_ends_likewise(caplog: pytest.LogCaptureFixture) -> None:
    tasks: list[ScheduledTask[Any]] = []

    async def main() -> None:
        scheduler = Scheduler(clock=asyncio.get_running_loop().virtual_clock)  # type: ignore[attr-defined]
        tasks.append(scheduler.schedule_task(fails, 3600, name="pause", retries=1, retry_interval_s=600))
        await scheduler.start()
        await asyncio.sleep(10)

    run(main())

    assert told(caplog) == [FORGOTTEN.format("'pause'")]
    assert endings(*tasks) == {(Outcome.CANCELLED, Reason.SHUTDOWN, None)}


@pytest.mark.realtime
def test_a_thread_is_awaited_and_ends_likewise(caplog: pytest.LogCaptureFixture) -> None:
    gate, begun = threading.Event(), threading.Event()
    tasks: list[ScheduledTask[Any]] = []

    def waits() -> None:
        begun.set()
        gate.wait(20)

    async def main() -> None:
        scheduler = Scheduler(cancel_grace_s=60)
        tasks.append(scheduler.schedule_task(waits, 3600, name="thread"))
        await scheduler.start()
        await asyncio.to_thread(begun.wait, 20)
        asyncio.get_running_loop().call_later(0.01, gate.set)

    asyncio.run(main())

    assert told(caplog) == [FORGOTTEN.format("'thread'")]
    assert endings(*tasks) == {(Outcome.SUCCEEDED, Reason.SHUTDOWN, None)}


def test_a_shared_task_ends_likewise(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        scheduler = Scheduler(MemoryStore(loop.virtual_clock.wall), clock=loop.virtual_clock)
        scheduler.schedule_task(work, 3600, name="shared", scope=Scope.CLUSTER)
        await scheduler.start()
        await asyncio.sleep(10)

    run(main())

    assert told(caplog) == [FORGOTTEN.format("'shared'")]


def test_each_loop_that_ends_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        scheduler = Scheduler(clock=asyncio.get_running_loop().virtual_clock)  # type: ignore[attr-defined]
        scheduler.schedule_task(work, 3600, name="x")
        await scheduler.start()
        await asyncio.sleep(1)

    run(main())
    run(main())

    assert told(caplog) == [FORGOTTEN.format("'x'")] * 2


async def test_one_run_that_somebody_cancels_is_not_the_end(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    task = scheduler.schedule_task(work, 10, name="x", policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(1)
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
        await wait_until(lambda: task.last_run)
        assert endings(task) == {(Outcome.CANCELLED, Reason.WITHIN, "CancelledError")}
        await asyncio.sleep(10)
        assert task.running
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
    assert len([record for record in caplog.records if "ending" in record.getMessage()]) == 0
