"""What the store has of the tasks of this instance, and what the instance registers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kaiju_app._core.clock import NEVER, utc
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.events import never_runs
from kaiju_app.stores._answers import ChangeResult
from kaiju_app.stores._record import TaskRecord
from kaiju_app.triggers._timeline import describe

from .ports import DefinitionMaker, Restorer
from .rule_log import log_two_rules
from .task import ClusterEntry


class KnownTasks:
    """The registry of a coordinator.

    Args:
        tasks: The cluster tasks by name, as they come and go.
        version: Version of the rules of these tasks; the highest one of all instances counts.
        on_known: Called with the name of a task that the store has from now on.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: Mapping[str, ClusterEntry],
        version: tuple[int, ...],
        on_known: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._version = version
        self._on_known = on_known

    def definition_maker(self, name: str) -> DefinitionMaker | None:
        """Return what makes the definition of a task; None if the task is gone."""
        task = self._tasks.get(name)
        return None if task is None else task.definition_maker(self._version)

    def restorer(self, name: str, seen_at: int, grace: int) -> Restorer | None:
        """Return what puts the lost record of a task back; None if the task is gone or was never registered."""
        task = self._tasks.get(name)
        return None if task is None else task.restorer(seen_at, grace)

    def on_registered(self, name: str, changed: ChangeResult) -> None:
        """Learn that the store has a task that this instance has registered, and what it had before."""
        task, old = self._tasks.get(name), changed.old
        if task is None:
            return
        is_first = task.last_record is None  # Tasks are registered again and again, so that the store keeps them.
        task.last_record = changed.new if changed.done else old
        if old is not None and old.schedule != task.text:
            log_two_rules(task, old, self._version)
        elif is_first and task.last_record is not None and task.last_record.next_tick >= NEVER:
            never_runs(task.entry, describe(task.code), utc(self._engine.now() + self._engine.offset))
        self._on_known(name)

    def on_record(self, record: TaskRecord) -> None:
        """Learn what the store has of a task."""
        task = self._tasks.get(record.name)
        if task is not None:
            task.last_record = record

    def maybe_outdated(self) -> list[str]:
        """Return the tasks that somebody ran or held when the store was last read: that may be over."""
        return [name for name, task in self._tasks.items() if task.maybe_active]
