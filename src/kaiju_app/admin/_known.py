"""Every task that can be shown: of this instance, in the store, or a local one of another instance."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from kaiju_app._core.clock import epoch_us
from kaiju_app.scheduler import Run, ScheduledTask, Scheduler, Scope, trigger_from_json
from kaiju_app.scheduler._glance import Glance, Glances
from kaiju_app.scheduler._hosting import state_of
from kaiju_app.scheduler._stored_ticks import stored_upcoming
from kaiju_app.triggers import Calendar, Cron

from ._ids import Ids, remote_id
from ._problems import Refused
from ._seen import Record, Seen, Store
from ._states import State, has_pause, state_of_record
from ._text import harmless

SLICE_S = 0.0005  # Seconds after which a search gives the loop back: no task may be late for it.
STEP = 32  # Tasks between two looks at the clock.


@dataclass(frozen=True, slots=True)
class Known:
    """A task.

    Attributes:
        face: The task in this scheduler; None if it does not have it.
        record: What the store says of it; None for a local task, or if the store was not read.
        home: The other instance whose local task it is; None otherwise.
    """

    id: str
    name: str
    face: ScheduledTask[Any] | None = None
    record: Record | None = None
    home: Record | None = None

    @property
    def home_name(self) -> str | None:
        """What people know that other instance by: its process, or its identity; None if there is none."""
        return None if self.home is None else str(self.home.get("process") or self.home["id"])

    @property
    def home_id(self) -> str:
        """The identity of that other instance; empty if there is none."""
        return "" if self.home is None else str(self.home["id"])

    @property
    def scope(self) -> Scope:
        """Which instances run it."""
        if self.face is not None:
            return self.face.scope
        return Scope.LOCAL if self.record is None else Scope.CLUSTER

    @property
    def state(self) -> State:
        """What it does."""
        if self.face is not None:
            return State(self.face.state)
        return State.UNKNOWN if self.record is None else state_of_record(self.record)

    @property
    def next_run_at(self) -> datetime | None:
        """When its next tick is due; None if none is planned or that is not known here."""
        if self.face is not None:
            return self.face.next_run_at
        text = None if self.record is None or self.record["holds"] else self.record["next_run_at"]
        return None if text is None else datetime.fromisoformat(text)

    def upcoming(self, n: int, until: datetime) -> list[datetime]:
        """Return when its next *n* ticks up to *until* are due, as far as that is known here."""
        if self.face is not None:
            return [each for each in self.face.upcoming(n) if each <= until]
        return [] if self.record is None else stored_upcoming(self.record, n, until)

    @property
    def rule(self) -> str:
        """Its rule in words."""
        if self.face is not None:
            trigger = self.face.trigger
            if isinstance(trigger, Cron | Calendar):  # They do not change.
                return calendar_in_words(trigger)
            interval = self.face.interval_s
            return harmless(str(trigger)) if interval is None else interval_in_words(interval)
        return "unknown here" if self.record is None else rule_in_words(self.record["rule"])


@lru_cache(maxsize=2_000)
def calendar_in_words(trigger: Cron | Calendar) -> str:
    """Return a rule in words, which takes some tenths of a millisecond to find."""
    return harmless(str(trigger))


def interval_in_words(seconds: float) -> str:
    """Return the rule of a plain interval in words."""
    for size, unit, word in ((86_400, "d", "day"), (3_600, "h", "hour"), (60, "min", "minute")):
        if seconds % size == 0:
            return f"every {word}" if seconds == size else f"every {seconds / size:.15g} {unit}"
    return f"every {seconds:.15g} s"


def rule_in_words(rule: object) -> str:
    """Return a rule from the store in words."""
    if isinstance(rule, dict) and isinstance(rule.get("interval_us"), int):
        return interval_in_words(rule["interval_us"] / 1e6)
    try:
        return harmless(str(trigger_from_json(rule["trigger"])))  # type: ignore[index]
    except Exception:  # A trigger of the application, which this process need not know.
        return harmless(json.dumps(rule) if not isinstance(rule, str) else rule)


class Tasks:
    """The tasks of one scheduler and of those that share its store.

    Attributes:
        ids: Their ids.
        glances: Those of this scheduler at a glance.
    """

    def __init__(self, scheduler: Scheduler, store: Store) -> None:
        self.ids = Ids()
        self.glances = Glances(scheduler)
        self._scheduler = scheduler
        self._store = store
        self._keys: list[tuple[str, str]] = []
        self._own: set[str] = set()
        self._stored: set[str] = set()
        self._others: list[tuple[str, str]] = []

    def keys(self, seen: Seen) -> list[tuple[str, str]]:
        """Return name and home of every task, in order: the home is empty, or the instance whose local task it is."""
        own, stored = self.glances.entries.keys(), seen.records.keys()
        elsewhere = [(name, each["id"]) for each, name in self._elsewhere(seen)]
        if own != self._own or stored != self._stored or elsewhere != self._others:
            here, was = own | stored, self._own | self._stored
            gone = {*self._others, *((name, "") for name in was - here)}
            new = [*((name, "") for name in here - was), *elsewhere]
            self._keys = sorted([*(key for key in self._keys if key not in gone), *new])  # They are mostly in order.
            self._own, self._stored, self._others = set(own), set(stored), elsewhere
            self.ids.keep(here)
        return self._keys

    def _elsewhere(self, seen: Seen) -> Iterator[tuple[Record, str]]:
        me = state_of(self._scheduler)["instance"]
        for each in seen.instances:
            names = each.get("local_tasks") if each["id"] != me else None
            for name in names if isinstance(names, list) else ():
                yield each, str(name)

    def glance(self, key: tuple[str, str], seen: Seen) -> Glance:
        """Return the task of a key at a glance, as it is at this moment. Call ``glances.begin()`` before many."""
        name, home = key
        found = None if home else self.glances.of(name)
        if found is not None:
            return found
        task = self.known(key, seen)
        moment = task.next_run_at
        next_at = None if moment is None else epoch_us(moment)
        is_paused = task.record is not None and has_pause(task.record)
        return Glance(task.state, task.scope is Scope.CLUSTER, next_at, None, None, is_paused)

    def known(self, key: tuple[str, str], seen: Seen) -> Known:
        """Return the task of a key."""
        name, home = key
        if home:
            instance = next(each for each in seen.instances if each["id"] == home)
            return Known(remote_id(name, home), name, home=instance)
        face = self._scheduler.tasks.get(name)
        record = None if face is not None and face.scope is Scope.LOCAL else seen.records.get(name)
        return Known(self.ids.of(name), name, face, record)

    async def find(self, task_id: str) -> tuple[Known, Seen]:
        """Return the task with this id.

        Raises:
            Refused: There is none.
        """
        seen = await self._store.seen()
        name = self.ids.name_of(task_id, self._scheduler.tasks)
        if name is None:
            name = self.ids.name_of(task_id, seen.records)
        if name is not None and (name in self._scheduler.tasks or name in seen.records):
            return self.known((name, ""), seen), seen
        for each, its_name in self._elsewhere(seen) if "~" in task_id else ():
            if remote_id(its_name, each["id"]) == task_id:
                return self.known((its_name, each["id"]), seen), seen
        raise Refused(404, "No such task", "No task has this id: GET api/tasks lists the tasks with their ids")

    async def histories(self, tasks: Sequence[Known]) -> dict[str, tuple[Run, ...]]:
        """Return the latest records of the cluster tasks among *tasks* by id, oldest first: those of all instances."""
        found = await self._store.histories([each.record for each in tasks if each.record is not None])
        return {each.id: found[each.name] for each in tasks if each.record is not None and each.name in found}

    async def lasts(self, names: Iterable[str], seen: Seen) -> Mapping[str, tuple[Run, ...]]:
        """Return the last record of each of some cluster tasks by name, in a tuple: that of any instance."""
        records = (seen.records.get(name) for name in names)
        return await self._store.histories((each for each in records if each is not None), last=True)


class Slices:
    """Gives the loop back again and again during a long search.

    Args:
        step: How often ``breathe()`` is called between two looks at the clock.
    """

    def __init__(self, step: int = STEP) -> None:
        self._step = step
        self._time = asyncio.get_running_loop().time
        self._until = self._time() + SLICE_S
        self._count = 0

    async def breathe(self) -> None:
        """Let others run, if this has taken long."""
        self._count += 1
        if self._count % self._step == 0 and self._time() >= self._until:
            await asyncio.sleep(0)
            self._until = self._time() + SLICE_S
