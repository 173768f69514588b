"""Whatever a function raises or returns, its run ends and is recorded, its task goes on ticking, and ``stop()`` ends.

Python, asyncio and logging treat some exceptions and results specially, or ask them things that a class may refuse.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from kaiju_app._core.logs import for_log
from kaiju_app.scheduler import Every, Outcome, Scheduler
from support.reading import wait_until


def refusing(base: type[Any], *names: str, kind: type[BaseException] = ValueError) -> Any:
    """Return a subclass of *base* that raises *kind* when it is asked for any of *names*."""

    def refuse(*_: object, **__: object) -> Any:
        raise kind("refused")

    properties = ("__class__", "__traceback__", "__cause__", "__context__", "__notes__", "__suppress_context__")
    return type("Refusing", (base,), {name: property(refuse) if name in properties else refuse for name in names})


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Nothing can be set on it, not even a traceback, and it cannot be hashed together with its field."""

    what: list[int]


class Many(Exception):
    """Cannot be made again from its ``args``, as pickle and copy do."""

    def __init__(self, first: int, second: threading.Lock) -> None:
        super().__init__(f"{first} of many")
        self.lock = second


class Stopped(StopIteration):
    pass


def circle() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


NO_MESSAGE = "Refusing: no message, because __str__ raised "
STOP = (
    "RuntimeError: the function raised {}, as next() does at the end of an iterator: catch it, or give next() a default"
)
CUT = "RuntimeError: the function raised CancelledError in its thread, although nobody had asked the run to end"

RAISED: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    # What is raised, and the error that is recorded for a plain function and for a coroutine; "" for the same one.
    "StopIteration": (StopIteration, STOP.format("StopIteration"), "RuntimeError: coroutine raised StopIteration"),
    "StopIteration with a value": (
        lambda: StopIteration(4),
        STOP.format("StopIteration"),
        "RuntimeError: coroutine raised StopIteration",
    ),
    "a subclass of it": (Stopped, STOP.format("Stopped"), "RuntimeError: coroutine raised StopIteration"),
    "StopAsyncIteration": (StopAsyncIteration, "StopAsyncIteration", ""),
    "GeneratorExit": (GeneratorExit, "GeneratorExit", ""),
    "CancelledError": (asyncio.CancelledError, CUT, "CancelledError"),
    "CancelledError of a thread": (concurrent.futures.CancelledError, "CancelledError", ""),
    "InvalidStateError": (asyncio.InvalidStateError, "InvalidStateError", ""),
    "TimeoutError": (TimeoutError, "TimeoutError", ""),
    "BrokenExecutor": (concurrent.futures.BrokenExecutor, "BrokenExecutor", ""),
    "MemoryError": (MemoryError, "MemoryError", ""),
    "RecursionError": (RecursionError, "RecursionError", ""),
    "no Exception": (lambda: BaseException("bare"), "BaseException: bare", ""),
    "__str__": (refusing(Exception, "__str__"), NO_MESSAGE + "ValueError", ""),
    "__str__ with GeneratorExit": (
        refusing(Exception, "__str__", kind=GeneratorExit),
        NO_MESSAGE + "GeneratorExit",
        "",
    ),
    "__str__ with a cancellation": (
        refusing(Exception, "__str__", kind=asyncio.CancelledError),
        NO_MESSAGE + "CancelledError",
        "",
    ),
    "__str__ with SystemExit": (refusing(Exception, "__str__", kind=SystemExit), NO_MESSAGE + "SystemExit", ""),
    "__repr__": (refusing(Exception, "__repr__"), "Refusing", ""),
    "__bool__": (refusing(Exception, "__bool__"), "Refusing", ""),
    "__len__": (refusing(Exception, "__len__"), "Refusing", ""),
    "__eq__ and __hash__": (refusing(Exception, "__eq__", "__hash__"), "Refusing", ""),
    "__class__": (refusing(Exception, "__class__"), "Refusing", ""),
    "__class__ with SystemExit": (refusing(Exception, "__class__", kind=SystemExit), "Refusing", ""),
    "__traceback__": (refusing(Exception, "__traceback__"), "Refusing", ""),
    "__cause__ and __context__": (refusing(Exception, "__cause__", "__context__"), "Refusing", ""),
    "__notes__": (refusing(Exception, "__notes__"), "Refusing", ""),
    "__getattribute__": (refusing(Exception, "__getattribute__"), "Refusing", ""),
    "__setattr__": (refusing(Exception, "__setattr__"), "Refusing", ""),
    "with_traceback": (refusing(Exception, "with_traceback"), "Refusing", ""),
    "__reduce__": (refusing(Exception, "__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__"), "Refusing", ""),
    "frozen": (lambda: Frozen([1]), "Frozen: [1]", ""),
    "cannot be made again": (lambda: Many(1, threading.Lock()), "Many: 1 of many", ""),
    "its own cause": (circle, "ValueError: first", ""),
}


def check_log(caplog: pytest.LogCaptureFixture) -> None:
    """Check that each record can be formatted, with its traceback, and that the first failure has one."""
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == 1, [record.getMessage() for record in failures]
    text = logging.Formatter("%(message)s").format(failures[0])
    assert "task 'x', tick " in text
    assert "Traceback (most recent call last)" in text


def raising(make: Callable[[], BaseException]) -> Callable[[], Any]:
    def work() -> None:
        raise make()

    return work


@pytest.mark.realtime
@pytest.mark.parametrize("case", RAISED)
async def test_whatever_a_plain_function_raises(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    make, error, _ = RAISED[case]
    task = scheduler.schedule_task(raising(make), 0.01, name="x")
    await scheduler.start()
    await wait_until(lambda: task.counts[Outcome.FAILED] > 2, 0.001)
    assert await asyncio.wait_for(scheduler.stop(), 20) == []

    assert not task.running
    assert {(run.outcome, run.error) for run in task.history() if run.outcome is not Outcome.SKIPPED} == {
        (Outcome.FAILED, error)
    }
    check_log(caplog)


@pytest.mark.parametrize("case", RAISED)
async def test_whatever_a_coroutine_raises(scheduler: Scheduler, caplog: pytest.LogCaptureFixture, case: str) -> None:
    make, threaded, error = RAISED[case]

    async def work() -> None:
        raising(make)()

    task = scheduler.schedule_task(work, 10, name="x")
    async with scheduler:
        await asyncio.sleep(25)

    expected = Outcome.CANCELLED if case == "CancelledError" else Outcome.FAILED
    assert [(run.outcome, run.error) for run in task.history()] == [(expected, error or threaded)] * 3
    check_log(caplog)


@pytest.mark.parametrize("case", RAISED)
async def test_whatever_a_listener_raises(scheduler: Scheduler, caplog: pytest.LogCaptureFixture, case: str) -> None:
    make = RAISED[case][0]

    async def work() -> None: ...

    def listen(_: object) -> None:
        raise make()

    scheduler.subscribe(listen)
    task = scheduler.schedule_task(work, 10, name="x")
    async with scheduler:
        await asyncio.sleep(15)

    assert task.counts[Outcome.SUCCEEDED] == 2
    [record] = caplog.records
    assert "raised for task 'x'" in logging.Formatter("%(message)s").format(record)


@pytest.mark.parametrize("case", RAISED)
def test_whatever_is_raised_can_be_logged(case: str) -> None:
    try:
        raising(RAISED[case][0])()
    except BaseException as exc:
        info = for_log(exc)
        assert info is not None
        text = logging.Formatter().formatException(info)
    assert "in work" in text
    assert "raise make()" in text


class Broken:
    """A rule of every 10 seconds that raises once it is *broken*."""

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.make = make
        self.broken = False

    def after(self, moment: datetime) -> datetime | None:
        if self.broken:
            raise self.make()
        return Every(10).after(moment)

    def at_or_before(self, moment: datetime) -> datetime | None:
        if self.broken:
            raise self.make()
        return Every(10).at_or_before(moment)


@pytest.mark.parametrize("case", RAISED)
async def test_whatever_a_trigger_raises(scheduler: Scheduler, caplog: pytest.LogCaptureFixture, case: str) -> None:
    async def work() -> None: ...

    rule = Broken(RAISED[case][0])
    task = scheduler.schedule_task(work, trigger=rule, name="x")
    other = scheduler.schedule_task(work, 10)
    async with scheduler:
        await asyncio.sleep(25)
        rule.broken = True
        await asyncio.sleep(50)
        rule.broken = False
        before = task.counts[Outcome.SUCCEEDED]
        await asyncio.sleep(100)
        assert task.counts[Outcome.SUCCEEDED] > before + 2
    assert other.counts[Outcome.SUCCEEDED] == 18

    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == 1
    assert "task 'x': its trigger " in logging.Formatter("%(message)s").format(failures[0])


RETURNED: dict[str, Callable[[], Any]] = {
    "__eq__ and __hash__": refusing(object, "__eq__", "__hash__"),
    "__repr__ and __str__": refusing(object, "__repr__", "__str__"),
    "__bool__ and __len__": refusing(object, "__bool__", "__len__"),
    "__class__": refusing(object, "__class__"),
    "__getattribute__": refusing(object, "__getattribute__"),
    "__iter__": refusing(object, "__iter__", "__next__", "__getitem__"),
    "an unhashable list": lambda: refusing(list, "__iter__", "__len__", "__getitem__")([1]),
    "cannot be pickled": threading.Lock,
    "an exception": lambda: StopIteration(1),
    "a class": lambda: StopIteration,
    "a finished future": concurrent.futures.Future,
}


@pytest.mark.realtime
@pytest.mark.parametrize("case", RETURNED)
async def test_whatever_a_plain_function_returns(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    task = scheduler.schedule_task(lambda: RETURNED[case](), 0.01)
    async with scheduler:
        await wait_until(lambda: task.counts[Outcome.SUCCEEDED] > 2, 0.001)

    assert {run.outcome for run in task.history()} <= {Outcome.SUCCEEDED, Outcome.SKIPPED}
    assert task.json_repr()["counts"]
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("case", RETURNED)
async def test_whatever_a_coroutine_returns(scheduler: Scheduler, case: str) -> None:
    async def work() -> Any:
        return RETURNED[case]()

    heard: list[object] = []
    scheduler.subscribe(heard.append)
    task = scheduler.schedule_task(work, 10)
    async with scheduler:
        await asyncio.sleep(25)

    assert [run.outcome for run in task.history()] == [Outcome.SUCCEEDED] * 3
    assert len(heard) == 3
    assert len(repr(heard)) > 0


@pytest.mark.parametrize("raised", [ValueError, StopIteration, GeneratorExit, asyncio.CancelledError])
async def test_an_awaitable_that_cannot_be_awaited(scheduler: Scheduler, raised: type[BaseException]) -> None:
    task = scheduler.schedule_task(lambda: refusing(object, "__await__", kind=raised)(), 10)
    async with scheduler:
        await wait_until(lambda: task.last_run is not None, 0.001)

    run = task.last_run
    assert run is not None
    if raised is asyncio.CancelledError:
        assert (run.outcome, run.error) == (Outcome.CANCELLED, "CancelledError: refused")
    elif raised is StopIteration:
        assert (run.outcome, run.error) == (Outcome.FAILED, "RuntimeError: coroutine raised StopIteration")
    else:
        assert (run.outcome, run.error) == (Outcome.FAILED, f"{raised.__name__}: refused")
