"""What the routes share: the scheduler, what is known of all tasks, and what can be done with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._hosting import state_of

from ._actions import Actions
from ._items import task_detail
from ._known import Known, Tasks
from ._models import TaskDetail
from ._problems import answers
from ._seen import Seen, Store

READING = answers(401, 403, 421, 422, 500)
"""What every GET may answer besides."""
OPERATING = answers(400, 401, 403, 408, 409, 413, 415, 421, 422, 500, 503)
"""What every POST may answer besides."""


@dataclass(frozen=True, slots=True)
class Me:
    """The instance that answers, and its process as host:pid."""

    instance: str
    process: str


class Api:
    """The parts of one endpoint."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.store = Store(scheduler)
        self.tasks = Tasks(scheduler, self.store)
        self.actions = Actions(scheduler, self.tasks, self.store)

    @property
    def state(self) -> dict[str, Any]:
        """What the scheduler says about itself."""
        return state_of(self.scheduler)

    @property
    def now(self) -> datetime:
        """The time by the clock of the scheduler."""
        return datetime.fromisoformat(self.state["time_utc"])

    @property
    def me(self) -> Me:
        """Who answers."""
        state = self.state
        return Me(str(state["instance"]), str(state["process"]))

    async def detail(self, task: Known, seen: Seen) -> TaskDetail:
        """Return everything that is known of a task."""
        histories = await self.tasks.histories([task])
        me = self.me
        return task_detail(task, histories.get(task.id), seen, me.instance, me.process)

    async def detail_now(self, task_id: str) -> TaskDetail:
        """Return everything that is known of a task at this moment."""
        return await self.detail(*await self.tasks.find(task_id))
