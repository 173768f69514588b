"""What several test modules say of runs and of time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import Any

from virtual import EPOCH_US, VirtualLoop, finish

from kaiju_app._clock import utc
from kaiju_app._signals import ECHO_US
from kaiju_app.scheduler import Clock, Outcome, Run, ScheduledTask, Scheduler

ZERO = datetime.fromtimestamp(EPOCH_US / 1e6 + 5, UTC)  # When a test in virtual time begins.

ENDING = tuple[str, str | None, int]


def endings(runs: list[Run]) -> list[ENDING]:
    return [(run.outcome.value, run.reason and run.reason.value, run.count) for run in runs]


def at(moment: datetime | None) -> float | None:
    """Return the seconds from the beginning of the test to *moment*."""
    return None if moment is None else (moment - ZERO).total_seconds()


def now_s() -> float:
    """Return the seconds since the loop was made."""
    return asyncio.get_running_loop().time() - 5


def starts_s(task: ScheduledTask[Any]) -> list[float]:
    """Return the ticks of the runs of *task*, in seconds since the loop was made."""
    origin = EPOCH_US / 1e6 + 5
    return [round(run.scheduled_at.timestamp() - origin, 6) for run in task.history() if run.started_at is not None]


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

Book = list[tuple[Any, ...]]


def moment(text: str, since: datetime = ZERO) -> datetime:
    """Return the first moment from *since* on at which a clock in UTC shows *text*; a test begins on Fri 08:00:05."""
    weekday, clock = text.split()
    ahead = timedelta((WEEKDAYS.index(weekday) - since.weekday()) % 7)
    found = datetime.combine(since.date() + ahead, clock_time.fromisoformat(clock), UTC)
    return found if found >= since else found + timedelta(7)


def shown(moment: datetime | None) -> str | None:
    """Return the weekday and the time of *moment*, as ``moment()`` takes it."""
    return None if moment is None else f"{moment:%a} {moment.time().isoformat('auto').removesuffix(':00')}"


def wall(loop: VirtualLoop) -> datetime:
    """Return what the clock on the wall shows."""
    return utc(loop.wall_us())


async def reach(loop: VirtualLoop, text: str) -> None:
    """Wait until the clock on the wall shows *text*, if nobody sets it meanwhile."""
    await asyncio.sleep((moment(text, wall(loop)) - wall(loop)).total_seconds())


def book(task: ScheduledTask[Any], told: Callable[[datetime | None], Any] = shown) -> Book:
    """Return each run as (outcome, tick, start), each record of skips as (reason, count, first, last)."""
    return [
        (str(run.reason), run.count, told(run.scheduled_at), told(run.last_scheduled_at))
        if run.outcome is Outcome.SKIPPED
        else (run.outcome.value, told(run.scheduled_at), told(run.started_at))
        for run in task.history()
    ]


def ran(*hours: str) -> Book:
    """Return what ``book()`` tells of runs that began with their ticks."""
    return [("SUCCEEDED", hour, hour) for hour in hours]


async def nothing() -> None:
    pass


async def stubborn(seconds: float) -> None:
    """Go on for *seconds*, whoever asks to end."""
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)


async def reached(condition: Callable[[], object], step_s: float = 0, limit_ms: int = 5_000) -> None:
    """Give threads the real time they need; meanwhile *step_s* of virtual time passes every millisecond."""
    for _ in range(limit_ms):
        if condition():
            return
        await asyncio.sleep(step_s)
        time.sleep(0.001)  # noqa: ASYNC251
    raise AssertionError(f"not reached in {limit_ms} ms")


def wait_out_the_echo(asked: float) -> None:
    """Let so much time pass since *asked* (monotonic) that the same signal again is a second one, not an echo."""
    time.sleep(max(0.0, asked + 1.5 * ECHO_US / 1e6 - time.monotonic()))


class Lives:
    """A scheduler that lives in one loop after the other, on a clock that outlives them."""

    def __init__(self) -> None:
        self.now_us = 5_000_000
        self.loop: VirtualLoop | None = None
        self.scheduler = Scheduler(clock=Clock(steady=self._now, wall=lambda: EPOCH_US + self._now()))

    def _now(self) -> int:
        return self.now_us if self.loop is None else self.loop.now_us

    @contextlib.contextmanager
    def life(self) -> Iterator[VirtualLoop]:
        self.loop = loop = VirtualLoop()
        loop.now_us = self.now_us
        try:
            yield loop
        finally:
            if not loop.is_closed():
                finish(loop)
            self.now_us = loop.now_us
            self.loop = None
            assert [] == loop.complaints
