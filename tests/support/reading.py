"""Helpers that describe runs and moments, and wait for them, in terms that tests can compare."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import Any

import pytest

from kaiju_app._core.clock import utc
from kaiju_app.application._signals import ECHO_US
from kaiju_app.scheduler import Clock, Outcome, Run, ScheduledTask, Scheduler
from support.virtual import EPOCH_US, VirtualLoop, close_loop

ZERO = datetime.fromtimestamp(EPOCH_US / 1e6 + 5, UTC)  # When a test in virtual time begins.

ENDING = tuple[str, str | None, int]


def endings(runs: list[Run]) -> list[ENDING]:
    return [(run.outcome.value, run.reason and run.reason.value, run.count) for run in runs]


def at(moment: datetime | None) -> float | None:
    """Return the seconds from the beginning of the test to *moment*."""
    return None if moment is None else (moment - ZERO).total_seconds()


def now_s() -> float:
    """Return the seconds since the beginning of the test."""
    return asyncio.get_running_loop().time() - 5


def starts_s(task: ScheduledTask[Any]) -> list[float]:
    """Return the ticks of the runs of *task*, in seconds since the beginning of the test."""
    origin = EPOCH_US / 1e6 + 5
    return [round(run.scheduled_at.timestamp() - origin, 6) for run in task.history() if run.started_at is not None]


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

History = list[tuple[Any, ...]]


def moment(text: str, since: datetime = ZERO) -> datetime:
    """Return the first moment from *since* on at which a UTC clock shows *text*. A test begins on Fri 08:00:05."""
    weekday, clock = text.split()
    ahead = timedelta((WEEKDAYS.index(weekday) - since.weekday()) % 7)
    found = datetime.combine(since.date() + ahead, clock_time.fromisoformat(clock), UTC)
    return found if found >= since else found + timedelta(7)


def shown(moment: datetime | None) -> str | None:
    """Return weekday and time of *moment* in the format of ``moment()``."""
    return None if moment is None else f"{moment:%a} {moment.time().isoformat('auto').removesuffix(':00')}"


def wall(loop: VirtualLoop) -> datetime:
    """Return what the wall clock shows."""
    return utc(loop.virtual_clock.wall())


async def sleep_until(loop: VirtualLoop, text: str) -> None:
    """Sleep until the wall clock shows *text*, provided that it is not set meanwhile."""
    await asyncio.sleep((moment(text, wall(loop)) - wall(loop)).total_seconds())


def history_of(task: ScheduledTask[Any], show: Callable[[datetime | None], Any] = shown) -> History:
    """Return each run as (outcome, tick, start), and each skip record as (reason, count, first, last)."""
    return [
        (str(run.reason), run.count, show(run.scheduled_at), show(run.last_scheduled_at))
        if run.outcome is Outcome.SKIPPED
        else (run.outcome.value, show(run.scheduled_at), show(run.started_at))
        for run in task.history()
    ]


def ran(*hours: str) -> History:
    """Return the ``history_of()`` successful runs that began exactly at these ticks."""
    return [("SUCCEEDED", hour, hour) for hour in hours]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings in the log."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def nothing() -> None:
    pass


async def stubborn(seconds: float) -> None:
    """Run for *seconds* and ignore every cancellation."""
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)


async def wait_until(condition: Callable[[], object], step_s: float = 0, limit_ms: int = 5_000) -> None:
    """Wait in real time for something that a thread does; *step_s* of virtual time passes with every millisecond."""
    for _ in range(limit_ms):
        if condition():
            return
        await asyncio.sleep(step_s)
        time.sleep(0.001)  # noqa: ASYNC251
    raise AssertionError(f"the condition is still false after {limit_ms} ms")


def wait_past_signal_echo(asked: float) -> None:
    """Wait until a signal counts as a second one, not as an echo of the one sent at *asked* (monotonic seconds)."""
    time.sleep(max(0.0, asked + 1.5 * ECHO_US / 1e6 - time.monotonic()))


class SuccessiveLoops:
    """A scheduler that is started in one loop after another, on a clock that outlives the loops."""

    def __init__(self) -> None:
        self.now_us = 5_000_000
        self.loop: VirtualLoop | None = None
        self.scheduler = Scheduler(clock=Clock(steady=self._now, wall=lambda: EPOCH_US + self._now()))

    def _now(self) -> int:
        return self.now_us if self.loop is None else self.loop.virtual_clock.steady()

    @contextlib.contextmanager
    def life(self) -> Iterator[VirtualLoop]:
        self.loop = loop = VirtualLoop()
        loop.virtual_clock.jump(self.now_us)
        try:
            yield loop
        finally:
            if not loop.is_closed():
                close_loop(loop)
            self.now_us = loop.virtual_clock.steady()
            self.loop = None
            assert [] == loop.complaints
