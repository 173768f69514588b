"""RequestedRun: an extra run that was requested and may not have begun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from kaiju_app._core.model import Run


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """An extra run of a task, which goes on whether anybody waits for it or not.

    Attributes:
        task: Name of the task.
        tick: When the run was requested, aware UTC: the ``scheduled_at`` of its Run.
    """

    task: str
    tick: datetime
    _end: Callable[[], Awaitable[Run]] = field(repr=False, compare=False)

    async def wait(self) -> Run:
        """Wait for the end of the run, and return its Run; ``ScheduledTask.run_now()`` says what that raises."""
        return await self._end()
