"""Fixtures for tests in virtual time: ``clock``, ``scheduler``, ``app``. pytest loads them if the package is installed.

A test that asks for none of them is not touched, and nothing of the package is imported for it. A fixture of your own
with the same name takes the place of one of these, as always in pytest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kaiju_app import Application, Scheduler

    from ._clock import VirtualClock

_CLOCK = pytest.StashKey[Any]()
_OWN = "kaiju_clock"  # The fixture that tells tests with this clock from those with a fixture `clock` of their own.


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark that gives arguments to the clock."""
    config.addinivalue_line(
        "markers", "virtual_time(start, **options): arguments for the VirtualClock of the fixture `clock`"
    )


@pytest.fixture
def kaiju_clock(request: pytest.FixtureRequest) -> VirtualClock:
    """The clock of this test. Ask for the fixture ``clock`` instead."""
    return _clock_of(request.node)


@pytest.fixture
def clock(kaiju_clock: VirtualClock) -> VirtualClock:
    """The time of this test, which every scheduler and the loop live by.

    Time passes by itself in an async test. In a plain one, as with a TestClient, it passes only by ``advance()`` and
    ``until()``. ``@pytest.mark.virtual_time(start, seed=7)`` gives arguments to the clock.
    """
    return kaiju_clock


@pytest.fixture
def scheduler(kaiju_clock: VirtualClock) -> Iterator[Scheduler]:
    """A scheduler, not started, that keeps the last 10,000 records of each task."""
    from kaiju_app import Scheduler

    scheduler = Scheduler(history=10_000)
    yield scheduler
    scheduler._lifecycle.reminder.drop()  # Not every test means to start it.


@pytest.fixture
def app(scheduler: Scheduler) -> Application:
    """An application without services, not started, that has the fixture ``scheduler``."""
    from kaiju_app import Application

    return Application("test", scheduler=scheduler)


def _clock_of(item: pytest.Item) -> VirtualClock:
    """Return the clock of a test; put it in place if the test has none yet, as its loop may be made before fixtures."""
    clock: VirtualClock | None = item.stash.get(_CLOCK, None)
    if clock is None:
        from ._clock import VirtualClock

        function = getattr(item, "obj", None)
        function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
        mark = item.get_closest_marker("virtual_time")
        options = {"moves_alone": inspect.iscoroutinefunction(function)} | (dict(mark.kwargs) if mark else {})
        clock = VirtualClock(*(mark.args if mark else ()), **options)
        clock.__enter__()
        item.stash[_CLOCK] = clock
    return clock


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Put the clocks of the machine back, after all fixtures of the test."""
    try:
        return (yield)
    finally:
        clock = item.stash.get(_CLOCK, None)
        if clock is not None:
            del item.stash[_CLOCK]
            clock.__exit__(None, None, None)


# --- pytest-asyncio gets the loop of the clock, for the tests that have one ---


class _LoopFactory:
    """What pytest-asyncio asks for, while it looks at one test; for all others it has its own way.

    Args:
        current: Returns the test that is running.
    """

    def __init__(self, current: Callable[[], pytest.Item]) -> None:
        self._current = current

    @pytest.hookimpl(tryfirst=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], Any]]:
        """Return the one factory, which is called when the test is set up."""
        return {"virtual_time": lambda: _clock_of(self._current()).new_loop()}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, Any, Any]:
    """Let pytest-asyncio make the loop of a test with a clock from that clock."""
    config = metafunc.config
    if _OWN not in metafunc.fixturenames or not hasattr(config.hook, "pytest_asyncio_loop_factories"):
        return (yield)
    factory = _LoopFactory(lambda: config.stash[_RUNNING])
    config.pluginmanager.register(factory)
    try:
        return (yield)
    finally:
        config.pluginmanager.unregister(factory)


_RUNNING = pytest.StashKey[pytest.Item]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test is running."""
    item.config.stash[_RUNNING] = item
