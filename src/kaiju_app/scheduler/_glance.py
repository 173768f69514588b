"""What a list of ten thousand tasks shows of each: read again only of those that have changed.

Nothing tells of changes, since that would cost the scheduler at every tick. Instead each task is looked at: comparing
some fields takes a tenth of the time that describing the task takes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kaiju_app._core.clock import NEVER, epoch_us
from kaiju_app._core.model import Outcome, Run
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import CLUSTER, DISABLED, HELD, OPEN_SKIP_RECORD, TaskEntry
from kaiju_app._engine.ledger_page import latest_outcomes, latest_record

from ._scheduler import Scheduler

QUIET = ~OPEN_SKIP_RECORD  # The bits of flags that a glance depends on.


class Glance(NamedTuple):
    """A task at a glance; instants are wall-clock microseconds.

    Attributes:
        next_at: When the next tick is due; None if none is planned.
        ran_at: The tick of the last record, which ended with *outcome*; None if there is none.
        is_paused: Whether an operator's hold keeps it from running, also while a run that began before goes on.
    """

    state: str
    is_shared: bool
    next_at: int | None
    outcome: Outcome | None
    ran_at: int | None
    is_paused: bool


class Glances:
    """The tasks of a scheduler at a glance. What it returns is as the task is at that moment."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._engine: Engine = scheduler._engine
        self._kept: dict[str, tuple[Any, Glance]] = {}
        self._of_all: tuple[object, ...] = ()
        self._is_started = False

    @property
    def entries(self) -> dict[str, TaskEntry]:
        """The tasks by name."""
        return self._engine.entries

    def begin(self) -> None:
        """Begin to look at many tasks."""
        engine = self._engine
        self._is_started = engine.started
        of_all = engine.started, engine.offset, tuple(engine.holds)
        if of_all != self._of_all or len(self._kept) > 2 * len(engine.entries) + 1_000:
            self._kept.clear()
        self._of_all = of_all

    def of(self, name: str) -> Glance | None:
        """Return the task of this name at a glance; None if there is none."""
        engine = self._engine
        entry = engine.entries.get(name)
        if entry is None:
            return None
        flags = entry.flags
        if entry.run is not None or not self._is_started:
            return self._looked_at(entry)
        record = getattr(entry.host, "last_record", None) if flags & CLUSTER else None
        stamp = entry, entry.kept, entry.due, flags & QUIET, entry.pause, entry.overtaken, not entry.seq, record
        kept = self._kept.get(name)
        if kept is not None and kept[0] == stamp:
            next_at = kept[1].next_at
            if record is None or next_at is None or next_at > engine.wall():  # Others run ticks without a word.
                return kept[1]
        found = self._looked_at(entry)
        self._kept[name] = stamp, found
        return found

    def is_overdue(self, name: str) -> bool:
        """Return whether a task has not succeeded in time; of another instance's task nobody knows."""
        entry = self._engine.entries.get(name)
        return entry is not None and self._engine.recorder.expectations.is_overdue(entry)

    def _looked_at(self, entry: TaskEntry) -> Glance:
        engine = self._engine
        face = self._scheduler._registry.face_of(entry)
        last = latest_record(entry)
        if entry.flags & CLUSTER:
            moment = face.next_run_at
            next_at = None if moment is None else epoch_us(moment)
        elif not engine.started or entry.flags & (DISABLED | HELD) or engine.holds or not engine.has(entry):
            next_at = None
        else:
            next_at = None if entry.due >= NEVER else _due(entry) + engine.offset
        return Glance(
            face.state,
            bool(entry.flags & CLUSTER),
            next_at,
            None if last is None else last.outcome,
            None if last is None else last.first + last.offset,
            face._is_paused,
        )


def _due(entry: TaskEntry) -> int:
    return entry.host.timeline(entry, entry.spec).due(entry.due) if entry.spec.jitter else entry.due


def recent_of(task: Any, most: int) -> tuple[list[Outcome], Run | None]:
    """Return the outcomes of the last records of *task* that this process keeps, oldest first, and the last one."""
    entry = task._entry
    last = latest_record(entry)
    return latest_outcomes(entry, most), None if last is None else last.run(task.name, task._engine.instance)
