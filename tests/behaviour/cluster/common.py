"""What the tests of cluster tasks share: several schedulers on one memory store, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from kaiju_app.errors import StoreUnavailable
from kaiju_app.scheduler import Run, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.reading import at
from support.virtual import VirtualLoop

Made = Callable[..., Scheduler]
Line = tuple[str, float]


class Fragile(MemoryStore):
    """A store that can be unavailable to some of its users."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop.virtual_clock.wall)
        self.is_away = False
        self.is_full = False

    def __getattribute__(self, name: str) -> Any:
        if (name in ("scan", "swap", "heartbeat", "history") and self.is_away) or (
            name in ("swap", "heartbeat") and self.is_full
        ):
            return super().__getattribute__("_unavailable")
        return super().__getattribute__(name)

    async def _unavailable(self, *_: object, **__: object) -> Any:
        raise StoreUnavailable(self.name, "it is away")


class Journal:
    """What bodies did: (who, second)."""

    def __init__(self, takes_s: float = 1.0) -> None:
        self.lines: list[Line] = []
        self.takes_s = takes_s
        self.going_on = 0

    def body(self, who: str) -> Callable[[], Awaitable[None]]:
        async def body() -> None:
            assert not self.going_on, "two at once"
            self.going_on += 1
            try:
                self.lines.append((who, now()))
                await asyncio.sleep(self.takes_s)
            finally:
                self.going_on -= 1

        return body

    @property
    def seconds(self) -> list[float]:
        return [second for _, second in self.lines]


def now() -> float:
    return round(asyncio.get_running_loop().time() - 5, 3)


def share(scheduler: Scheduler, func: Any, every_s: float | None = 10, name: str = "job", **options: Any) -> Any:
    return scheduler.schedule_task(func, every_s, name=name, scope=Scope.CLUSTER, **options)


@contextlib.asynccontextmanager
async def started(*schedulers: Scheduler) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for each in schedulers:
            await stack.enter_async_context(each)
        yield


async def nothing() -> None:
    pass


def told(runs: list[Run]) -> list[tuple[Any, ...]]:
    return [
        (run.outcome.value, run.reason and run.reason.value, at(run.scheduled_at), run.count, run.delivery)
        for run in runs
    ]
