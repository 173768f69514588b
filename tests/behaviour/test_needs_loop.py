"""A plain function runs in a thread. If it needs the event loop, the error of its run says what to do."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kaiju_app.scheduler import Outcome, Scheduler, Scope, current_run
from kaiju_app.stores import MemoryStore
from support.reading import wait_until
from support.virtual import VirtualLoop

ADVICE = (
    ". A plain function runs in a thread, where there is no event loop: write it as `async def`, or pass this call to "
    "current_run().loop.call_soon_threadsafe()"
)


async def nothing() -> None: ...


def wraps() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError as exc:
        raise LookupError("there is no client") from exc


def await_in_another_loop(future: asyncio.Future[None]) -> None:
    async def wait() -> None:
        await future

    asyncio.run(wait())


NEED: dict[str, tuple[Callable[[Scheduler], object], str]] = {
    "get_running_loop": (lambda _: asyncio.get_running_loop(), "RuntimeError: no running event loop"),
    "current_task": (lambda _: asyncio.current_task(), "RuntimeError: no running event loop"),
    "get_event_loop": (lambda _: asyncio.get_event_loop(), "RuntimeError: There is no current event loop in thread "),
    "wrapped": (lambda _: wraps(), "LookupError: there is no client"),
    "run_until_complete": (
        lambda scheduler: running_loop(scheduler).run_until_complete(asyncio.sleep(0)),
        "RuntimeError: This event loop is already running",
    ),
    "a future of the loop": (
        lambda scheduler: await_in_another_loop(running_loop(scheduler).create_future()),
        "RuntimeError: Task <Task pending ",
    ),
    "remove": (lambda scheduler: scheduler.tasks["x"].remove(), "WrongThread: task.remove() was called in thread "),
    "reschedule": (
        lambda scheduler: scheduler.tasks["x"].reschedule(5),
        "WrongThread: task.reschedule() was called in ",
    ),
    "disable": (lambda scheduler: scheduler.tasks["x"].disable(), "WrongThread: task.disable() was called in thread "),
    "schedule_task": (
        lambda scheduler: scheduler.schedule_task(nothing, 5),
        "WrongThread: scheduler.schedule_task() was ",
    ),
}


def running_loop(scheduler: Scheduler) -> asyncio.AbstractEventLoop:
    loop = scheduler._engine.loop
    assert loop is not None
    return loop


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("case", NEED)
async def test_the_error_says_how_to_reach_the_loop(scheduler: Scheduler, case: str) -> None:
    needs, error = NEED[case]
    task = scheduler.schedule_task(lambda: needs(scheduler), 1000, name="x")
    async with scheduler:
        await wait_until(lambda: task.last_run)

    [run] = task.history()
    assert run.error is not None
    assert run.error.startswith(error)
    assert run.error.endswith(ADVICE)


@pytest.mark.parametrize("text", ["no connection", "no running event", "", None])
async def test_other_errors_of_a_plain_function_say_nothing_of_it(scheduler: Scheduler, text: str | None) -> None:
    def fails() -> None:
        raise RuntimeError(text)

    task = scheduler.schedule_task(fails, 1000)
    async with scheduler:
        await wait_until(lambda: task.last_run)

    assert "async def" not in str(task.history()[0].error)


async def test_the_error_of_a_coroutine_says_nothing_of_threads(scheduler: Scheduler) -> None:
    async def fails() -> None:
        await asyncio.to_thread(asyncio.get_running_loop)

    task = scheduler.schedule_task(fails, 1000)
    async with scheduler:
        await wait_until(lambda: task.last_run)

    assert task.history()[0].error == "RuntimeError: no running event loop"


async def test_the_way_out_works(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    """A plain function removes its own task, and awaits a coroutine."""

    def body() -> Any:
        loop = current_run().loop
        loop.call_soon_threadsafe(task.remove)
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 42), loop).result()

    task = scheduler.schedule_task(body, 1000)
    async with scheduler:
        await wait_until(lambda: task.last_run)
        assert (task.last_run.outcome, task.result) == (Outcome.SUCCEEDED, 42)  # type: ignore[union-attr]
        assert not scheduler.tasks
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("scope", Scope)
async def test_every_part_of_a_run_finds_its_loop(loop: VirtualLoop, scope: Scope) -> None:
    found: list[asyncio.AbstractEventLoop] = []

    def look() -> None:
        run = current_run()
        found.append(run.loop)
        other = threading.Thread(target=lambda: found.append(run.loop))
        other.start()
        other.join()

    async def in_the_loop() -> None:
        look()
        await asyncio.to_thread(look)
        await asyncio.create_task(asyncio.to_thread(look))

    scheduler = Scheduler(MemoryStore(loop.virtual_clock.wall), clock=loop.virtual_clock)
    tasks = [
        scheduler.schedule_task(in_the_loop, 1000, name="a", scope=scope),
        scheduler.schedule_task(look, 1000, name="b", scope=scope, overlap_on_loss=scope is Scope.CLUSTER),
    ]
    async with scheduler:
        await wait_until(lambda: all(task.last_run for task in tasks), 0.1)

    assert found == [loop] * 8
