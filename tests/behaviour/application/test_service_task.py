"""``init()``, ``health()`` and ``close()`` of a service share one asyncio task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from behaviour.application.common import CLOSED, CLOSING, READY, Actor, cleans_up, messages, records, takes
from kaiju_app import Application, ExecPolicy, Health, Scheduler
from support.reading import now_s

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.mark.smoke
async def test_init_health_and_close_of_a_service_are_in_one_task_that_no_other_service_has(
    scheduler: Scheduler,
) -> None:
    seen: dict[str, list[asyncio.Task[Any] | None]] = {"a": [], "b": []}

    async def note(me: Actor) -> Health:
        seen[me.name].append(asyncio.current_task())
        return Health()

    async with Application(
        "shop", [Actor([], note, note, None, note, name=name) for name in "ab"], scheduler=scheduler
    ):
        await asyncio.sleep(10)
    assert [len(set(tasks)) for tasks in seen.values()] == [1, 1]
    assert [len(tasks) for tasks in seen.values()] == [3, 3]
    assert seen["a"][0] is not seen["b"][0]


@pytest.mark.smoke
async def test_a_task_group_entered_in_init_is_left_in_close(scheduler: Scheduler) -> None:
    group = asyncio.TaskGroup()
    done: list[float] = []

    async def child() -> None:
        await asyncio.sleep(7)
        done.append(now_s())

    async def enter(_: Actor) -> None:
        await group.__aenter__()
        group.create_task(child())

    app = Application(
        "shop", [Actor([], enter, close_=lambda _: group.__aexit__(None, None, None))], scheduler=scheduler
    )
    await app.start()
    await asyncio.sleep(5)
    assert await app.stop() == []
    assert done == [7]


@dataclass(eq=False)
class Grouped(Actor):
    """Its children run in a task group, from ``init()`` to ``close()``, as with a task group of anyio."""

    async def init(self) -> None:
        self.task = asyncio.current_task()
        tenant.set("acme")
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()

    async def close(self) -> None:
        self.journal.append("same task" if asyncio.current_task() is self.task else "another task")
        self.journal.append(tenant.get())
        await self.group.__aexit__(None, None, None)


@pytest.mark.smoke
async def test_a_task_group_whose_child_fails_while_ready_ends_the_task_of_its_service_and_close_gets_another_one(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A task group cancels the task that entered it when a child fails; so does a program that cancels all tasks."""

    async def child() -> None:
        raise OSError("child failed")

    one = Grouped(journal, name="one")
    app = Application("shop", [one], scheduler=scheduler)
    await app.start()
    one.group.create_task(child())
    await asyncio.sleep(5)
    journal.clear()
    assert await app.stop() == ["service 'one' did not close cleanly"]
    assert journal == ["another task", "acme"]
    assert "its task was cancelled between init() and close()" in messages(caplog, logging.WARNING)[0]
    [error] = records(caplog, logging.ERROR)
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], ExceptionGroup)


async def test_a_time_limit_entered_in_init_that_is_over_while_ready_is_left_in_the_task_that_entered_it(
    scheduler: Scheduler, journal: list[str]
) -> None:
    limit = asyncio.timeout(20)

    async def enter(_: Actor) -> None:
        tenant.set("acme")
        await limit.__aenter__()

    async def leave(me: Actor) -> None:
        me.journal.append(tenant.get())
        with contextlib.suppress(TimeoutError):
            await limit.__aexit__(None, None, None)
        me.journal.append(f"left, expired: {limit.expired()}")

    app = Application("shop", [Actor(journal, enter, close_=leave)], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(30)
    assert await app.stop() == []
    assert journal[-2:] == ["acme", "left, expired: True"]


async def test_what_init_sets_in_context_variables_is_there_in_health_and_close_and_nowhere_else(
    scheduler: Scheduler,
) -> None:
    seen: list[str] = []

    async def enter(_: Actor) -> None:
        seen.append(tenant.get())
        tenant.set("acme")

    async def look(_: Actor) -> Health:
        seen.append(tenant.get())
        return Health()

    tenant.set("caller")
    app = Application("shop", [Actor([], enter, look, None, look), Actor([], look)], scheduler=scheduler)
    await app.start()
    assert seen == ["caller", "acme", "caller"]
    assert tenant.get() == "caller"
    await app.stop()
    assert seen[3:] == ["acme"]


async def test_a_generator_as_context_manager_may_span_a_life(scheduler: Scheduler, journal: list[str]) -> None:
    @contextlib.asynccontextmanager
    async def pool() -> AsyncIterator[None]:
        async with asyncio.timeout(None), asyncio.TaskGroup() as group:
            ticking = group.create_task(asyncio.sleep(1e6))
            yield
            ticking.cancel()
        journal.append("pool closed")

    stack = contextlib.AsyncExitStack()

    async def enter(_: Actor) -> None:
        await stack.enter_async_context(pool())

    async def leave(_: Actor) -> None:
        await stack.aclose()

    async with Application("shop", [Actor(init_=enter, close_=leave)], scheduler=scheduler):
        await asyncio.sleep(100)
    assert journal == ["pool closed"]


@pytest.mark.parametrize("phase", ["init_", "health_"])
@pytest.mark.parametrize("first", ["the end", "the cancellation"])
@pytest.mark.parametrize("turns", range(4))
async def test_a_start_cancelled_about_the_turn_in_which_a_phase_ends_closes_in_the_same_task(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, phase: str, turns: int, first: str
) -> None:
    async def note(_: Actor) -> None:
        seen.append(asyncio.current_task())

    async def wait(me: Actor) -> Health:
        await note(me)
        with contextlib.suppress(asyncio.CancelledError):
            await gate.wait()
        return Health()

    seen: list[asyncio.Task[Any] | None] = []
    gate = asyncio.Event()
    app = Application("shop", [Actor(**{phase: wait, "close_": note})], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    steps = [gate.set, starting.cancel] if first == "the end" else [starting.cancel, gate.set]
    steps[0]()
    for _ in range(turns):
        await asyncio.sleep(0)
    steps[1]()
    await asyncio.wait([starting])
    await app.stop()
    assert app.state is CLOSED
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert messages(caplog, logging.WARNING) == messages(caplog, logging.ERROR) == []


async def test_context_variables_of_init_are_there_when_it_is_asked_how_it_is(scheduler: Scheduler) -> None:
    """``health()`` sees the context variables that ``init()`` has set, even if another task calls ``inspect()``."""
    seen: list[str] = []

    async def enter(_: Actor) -> None:
        tenant.set("acme")

    async def look(_: Actor) -> Health:
        seen.append(tenant.get())
        return Health()

    async with Application("shop", [Actor([], enter, look)], scheduler=scheduler) as app:
        await app.inspect()
    assert seen == ["acme", "acme"]


@pytest.mark.smoke
@pytest.mark.parametrize("turns", range(6))
async def test_no_tick_that_is_due_while_the_stop_begins_starts_a_run(scheduler: Scheduler, turns: int) -> None:
    starts: list[str] = []

    async def run() -> None:
        starts.append(app.state)

    app = Application("shop", scheduler=scheduler)
    async with app:
        scheduler.schedule_task(run, 8)
        await asyncio.sleep(7.999)
        stopping = asyncio.create_task(app.stop())
        for _ in range(turns):
            await asyncio.sleep(0)
        asyncio.get_running_loop().virtual_clock.block(0.001)  # type: ignore[attr-defined]  # Whatever there is to do takes time.
        await stopping
    assert starts[1:] in ([], [READY]), "it may still come before the stop has begun"
    assert CLOSING not in starts


async def test_what_the_end_waits_for_is_said_after_a_second(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kaiju_app.app")
    parts = [Actor(journal, close_=takes(0.9), name="quick"), Actor(journal, close_=takes(3), name="slow")]
    async with Application("shop", parts, scheduler=scheduler):
        scheduler.schedule_task(asyncio.sleep, 10, (4,), policy=ExecPolicy.SHIELD)
        await asyncio.sleep(1)
    assert [each for each in messages(caplog, logging.INFO) if "still" in each] == [
        "application 'shop': the scheduler: still stopping after 1 s (no limit)",
        "application 'shop': service 'slow': still stopping after 1 s (limit 10 s)",
    ]


async def test_a_task_may_end_the_application_that_run_app_runs(journal: list[str]) -> None:
    """``run_app()`` waits for ``wait_closed()``; test_run_app runs the whole program."""
    app = Application("shop", [Actor(journal)])
    await app.start()
    waiting = asyncio.create_task(app.wait_closed())
    await asyncio.sleep(1)
    assert not waiting.done()
    await app.stop()
    await waiting
    await app.wait_closed()
    assert app.state is CLOSED


@pytest.mark.smoke
async def test_services_are_closed_once_and_in_order_after_somebody_cancelled_all_tasks(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [Actor(journal, post_init_=cleans_up(0), close_=takes(1), name=name) for name in "abc"]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(1)
    assert app.state is READY
    assert await app.stop() == []
    assert [each for each in journal if "close" in each] == ["close c", "close b", "close a"]


async def test_who_cancels_all_tasks_and_waits_for_them_does_not_wait_for_ever(
    scheduler: Scheduler, journal: list[str]
) -> None:
    """Many programs end like this: cancel all other tasks, wait for them, then close."""
    app = Application("shop", [Actor(journal, name=name) for name in "ab"], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    _, pending = await asyncio.wait(others, timeout=100)
    assert not pending
    assert await app.stop() == []
    assert journal[-2:] == ["close b", "close a"]


@pytest.mark.smoke
@pytest.mark.parametrize("turns", range(14))
@pytest.mark.parametrize("spared", ["the one that stops", "nobody"])
async def test_services_are_closed_though_all_tasks_are_cancelled_at_any_turn_of_the_stop(
    scheduler: Scheduler, journal: list[str], turns: int, spared: str
) -> None:
    """Some programs end like this. Every ``close()`` is called once, after the scheduler has stopped."""

    async def look(me: Actor) -> None:
        assert not me.app.scheduler.started
        me.journal.append(f"closed {me.name}")

    app = Application("shop", [Actor(journal, close_=look, name=name) for name in "ab"], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    stopping = asyncio.create_task(app.stop())
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if spared == "nobody" or task is not stopping:
            task.cancel()
    await asyncio.wait([stopping], timeout=100)
    ended = stopping.done()
    if not ended:
        stopping.cancel()
        await asyncio.wait([stopping])
    assert ended
    if app.state is not CLOSED:  # It was cancelled before its first step, so stop() never ran.
        assert turns == 0
        await app.stop()
    assert app.state is CLOSED
    assert not scheduler.started
    assert [each for each in journal if "close " in each] == ["close b", "close a"]
    assert [each for each in journal if "closed" in each] == ["closed b", "closed a"]


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_ends_though_all_tasks_are_cancelled_at_any_turn_of_it(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    app = Application("shop", [Actor(journal, name=name) for name in "ab"], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.wait([starting])
    await app.stop()
    assert app.state is CLOSED
    assert "abandoned" not in "".join(messages(caplog, logging.ERROR))
    assert now_s() == 0
    inits = [each.removeprefix("init ") for each in journal if each.startswith("init")]
    closes = [each.removeprefix("close ") for each in journal if each.startswith("close")]
    assert closes == list(reversed(inits))
