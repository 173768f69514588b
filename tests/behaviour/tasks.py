"""What the tests of a task share."""

from __future__ import annotations

import asyncio
from typing import Any

from kaiju_app.scheduler import ScheduledTask
from support.reading import at


def starts(task: ScheduledTask[Any]) -> list[float | None]:
    """Return the start times of the runs of *task*, in seconds from the beginning of the test."""
    return [at(run.started_at) for run in task.history() if run.started_at is not None]


async def job(*args: Any) -> int:
    return len(args)


async def counted(calls: list[int]) -> int:
    """Return the number of this call."""
    calls.append(0)
    return len(calls)


async def suspend(task: ScheduledTask[Any]) -> None:
    async with task.suspend():
        await asyncio.sleep(25)
