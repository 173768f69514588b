"""What may be read in any thread is read while the loop changes it: no error, and nothing that never was."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from kaiju_app.errors import UnknownTask, WrongThread
from kaiju_app.scheduler import Outcome, ScheduledTask, Scheduler, Scope
from support.virtual import VirtualLoop

ROUNDS = 1_500
PROPERTIES = [name for name, value in inspect.getmembers(ScheduledTask) if isinstance(value, property)]


@pytest.fixture
def hasty() -> Iterator[None]:
    """Have the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def read(scheduler: Scheduler) -> None:
    """Read everything that may be read in any thread."""
    tasks = scheduler.tasks
    assert "never" not in tasks
    assert all(name == task.name for name, task in dict(tasks.items()).items())
    assert all(isinstance(task, ScheduledTask) for task in [*tasks.values(), *(task for _, task in tasks.items())])
    assert set(tasks) <= {f"job {number}" for number in range(100)}
    repr(tasks), repr(scheduler), len(tasks), tasks.get("never"), scheduler.started
    for task in tasks.values():
        for name in PROPERTIES:
            getattr(task, name)
        repr(task)
        counts = task.counts
        assert set(counts) == set(Outcome)
        last = task.last_run
        assert last is None or last.task == task.name
    with pytest.raises(UnknownTask):
        tasks["never"]


def report(found: list[BaseException], call: Callable[[], object]) -> None:
    try:
        call()
    except BaseException as exc:
        found.append(exc)


async def fine() -> None:
    await asyncio.sleep(0)


async def fail() -> None:
    raise ValueError("no")


def come_and_go(scheduler: Scheduler, number: int, scope: Scope) -> None:
    """Register a task, remove another one."""
    name = f"job {number % 100}"
    if name in scheduler.tasks:
        scheduler.tasks[name].remove()
    if name not in scheduler.tasks:  # Its run may still be in progress.
        func: Callable[..., Any] = fail if number % 3 else fine
        scheduler.schedule_task(func, 0.001, name=name, scope=scope)


@pytest.mark.realtime
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("scope", Scope)
def test_tasks_and_their_properties_are_read_while_tasks_come_and_go(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaiju_app._engine.events.log.disabled", True)
    found: list[BaseException] = []
    scheduler = Scheduler("memory://")
    begun, over = threading.Event(), threading.Event()

    async def main() -> None:
        async with scheduler:
            begun.set()
            number = 0
            while not over.is_set():
                come_and_go(scheduler, number, scope)
                number += 1
                if not number % 20:
                    await asyncio.sleep(0)
        come_and_go(scheduler, 0, scope)

    thread = threading.Thread(target=lambda: report(found, lambda: asyncio.run(main())))
    thread.start()
    begun.wait()
    for _ in range(ROUNDS // 50):
        report(found, lambda: read(scheduler))
        with pytest.raises(WrongThread):
            scheduler.json_repr()
    over.set()
    thread.join()
    report(found, lambda: read(scheduler))  # After the end it belongs to no thread.
    scheduler.json_repr()

    assert found == []


@pytest.mark.realtime
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("hasty")
def test_a_scheduler_that_is_not_started_is_read_while_tasks_come_and_go() -> None:
    found: list[BaseException] = []
    scheduler, over = Scheduler(), threading.Event()
    for number in range(100):
        come_and_go(scheduler, number, Scope.LOCAL)

    def reads() -> None:
        while not over.is_set():
            read(scheduler)
            scheduler.json_repr()

    thread = threading.Thread(target=lambda: report(found, reads))
    thread.start()
    for number in range(ROUNDS):
        come_and_go(scheduler, number, Scope.LOCAL)
    over.set()
    thread.join()

    assert found == []


@pytest.mark.realtime
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("hasty")
def test_a_pause_that_is_over_ends_once_for_all_who_look() -> None:
    found: list[BaseException] = []
    scheduler = Scheduler()
    task = scheduler.schedule_task(fine, 10)
    for _ in range(50):
        asyncio.run(task.pause(for_s=timedelta(microseconds=1)))
        together = threading.Barrier(4)

        def look(together: threading.Barrier = together) -> None:
            together.wait()
            assert not task.suspended

        threads = [threading.Thread(target=lambda look=look: report(found, look)) for _ in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == []


def test_a_pause_that_is_over_is_no_state() -> None:
    task = Scheduler().schedule_task(fine, 10)
    asyncio.run(task.pause(for_s=timedelta(microseconds=1)))

    assert task.state == "stopped"


@pytest.mark.parametrize(
    "iteration",
    [lambda tasks: ((name, tasks[name]) for name in tasks), lambda tasks: iter(tasks.items())],
    ids=["names", "items"],
)
def test_an_iteration_finds_the_tasks_that_there_were_when_it_began(
    scheduler: Scheduler, iteration: Callable[[Mapping[str, ScheduledTask]], Iterator[tuple[str, ScheduledTask]]]
) -> None:
    first, second = (scheduler.schedule_task(fine, 10, name=name) for name in ("first", "second"))
    tasks = scheduler.tasks
    found = []
    for name, task in iteration(tasks):
        second.remove() if name == "first" else None
        found.append(task)
    scheduler.schedule_task(fine, 10, name="third")

    assert found == [first, second]
    with pytest.raises(UnknownTask):
        tasks["second"]
    assert "second" not in tasks
    assert tasks.get("second") is None
    assert list(tasks) == ["first", "third"]


async def test_the_latest_record_is_never_an_old_one(scheduler: Scheduler, loop: VirtualLoop) -> None:
    """The place of a record is written before it counts as the latest one."""
    task = scheduler.schedule_task(fine, 10)
    async with scheduler:
        await asyncio.sleep(1_000)

        last = task.last_run
        assert last is not None
        assert last == task.history()[-1]
