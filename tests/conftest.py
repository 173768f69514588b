"""Async tests run in virtual time. Those marked ``realtime`` run on a real clock instead, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from kaiju_app.scheduler import Run, Scheduler
from kaiju_app.scheduler._never_started import drop_all
from support.virtual import VirtualLoop, close_loop

pytest_plugins = ["processes.fixtures"]

# A shell starts background commands with SIGINT ignored, and so would the programs be that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each run of the suite looks at other examples; continuous integration looks at the same ones.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("suite"), derandomize=True, database=None)
settings.load_profile("same" if os.environ.get("EXAMPLES") == "same" else "suite")

DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))


def _uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


ON_UVLOOP = [pytest.mark.slow, pytest.mark.uvloop]  # A test that passes on asyncio's own loop rarely fails on uvloop.
REAL_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": _uvloop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    realtime = metafunc.definition.get_closest_marker("realtime") is not None
    if realtime and inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_kind")
        kinds = ["asyncio", pytest.param("uvloop", marks=ON_UVLOOP)]
        metafunc.parametrize("loop_kind", kinds, indirect=True)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # Keep the modules of the suite out of the collection after each test.


def pytest_runtest_teardown() -> None:
    drop_all()  # Many tests never start their scheduler; the log of another test must not say so.


@pytest.fixture
def loop_kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "virtual"))


@pytest.fixture
def loop(loop_kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of the test. An error that it would have logged fails the test."""
    loop = VirtualLoop() if loop_kind == "virtual" else REAL_LOOPS[loop_kind]()
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    loop.set_debug(DEBUG)
    yield loop
    close_loop(loop)
    gc.collect()  # asyncio reports "never retrieved" and "destroyed but pending" when the objects are collected.
    gc.freeze()  # What is alive now are modules and caches. To visit them after each test takes longer than the test.
    assert not complaints


@pytest.fixture
def scheduler(loop: asyncio.AbstractEventLoop) -> Scheduler:
    """A scheduler on the clock of the test, not started."""
    return Scheduler(clock=loop.virtual_clock if isinstance(loop, VirtualLoop) else None)


@pytest.fixture
def reported(scheduler: Scheduler) -> list[Run]:
    """Every Run that the scheduler reports to a listener."""
    runs: list[Run] = []
    scheduler.subscribe(runs.append)
    return runs


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    loop: asyncio.AbstractEventLoop = pyfuncitem._request.getfixturevalue("loop")
    names = inspect.signature(pyfuncitem.obj).parameters
    loop.run_until_complete(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
