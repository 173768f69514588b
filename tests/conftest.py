"""Async tests run in virtual time, but for those marked ``realtime``, which run on every kind of loop there is."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from virtual import VirtualLoop, finish

from kaiju_app.scheduler import Run, Scheduler

pytest_plugins = ["cluster_fixtures"]

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))


def _uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


REAL_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": _uvloop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    realtime = metafunc.definition.get_closest_marker("realtime") is not None
    if realtime and inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", list(REAL_LOOPS), indirect=True)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # The suite itself is not to be collected again after every test.


@pytest.fixture
def loop_kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "virtual"))


@pytest.fixture
def loop(loop_kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of the test; whatever it would have logged as an error fails the test."""
    loop = VirtualLoop() if loop_kind == "virtual" else REAL_LOOPS[loop_kind]()
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    loop.set_debug(DEBUG)
    yield loop
    finish(loop)
    gc.collect()  # "never retrieved" and "destroyed but pending" are said when the objects go.
    assert not complaints


@pytest.fixture
def scheduler(loop: asyncio.AbstractEventLoop) -> Scheduler:
    """A scheduler on the clock of the test, not started."""
    return Scheduler(clock=loop.clock if isinstance(loop, VirtualLoop) else None)


@pytest.fixture
def heard(scheduler: Scheduler) -> list[Run]:
    """Every Run that a listener of the scheduler hears of."""
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
