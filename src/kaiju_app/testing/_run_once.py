"""One run of one task, as the scheduler does it: with its context, deadline and retries."""

from __future__ import annotations

from typing import TypeVar

from kaiju_app._engine.entry import DISABLED
from kaiju_app.scheduler import Run, ScheduledTask
from kaiju_app.scheduler._lifecycle import lifecycle_of

T = TypeVar("T")


async def run_once(task: ScheduledTask[T]) -> Run:
    """Run *task* once and return its Run, with its ``result`` and ``exception``.

    If its scheduler is not started, this starts it, runs no other task, and stops it again.

    Raises:
        TaskBusy, TaskSuspended, WrongState: As ``task.run_now()``.
    """
    engine = task._engine
    if engine.started:
        return await task.run_now()
    enabled = [entry for entry in engine.entries.values() if not entry.flags & DISABLED]
    for entry in enabled:
        engine.controls.disable(entry)
    lifecycle = lifecycle_of(engine)
    try:
        await lifecycle.start()
        try:
            return await task.run_now()
        finally:
            await lifecycle.stop(None)
    finally:
        for entry in enabled:
            engine.controls.enable(entry)
