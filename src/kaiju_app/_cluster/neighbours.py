"""What instances say about themselves, and a warning if two applications share records without knowing each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest

from kaiju_app._core.callables import full_name
from kaiju_app._core.text import listed
from kaiju_app._engine.events import log
from kaiju_app.stores._answers import Instance
from kaiju_app.stores._record import scheduler_of
from kaiju_app.stores._selection import partition_hash

from .task import ClusterEntry

SAMPLE = 5  # Tasks named in each heartbeat. All instances name the same ones of those that they have.
MOST_CHARACTERS = 100  # Of what is named; a heartbeat is read by every instance.
CERTAIN_AFTER = 3  # Heartbeats in a row: a program that has just started may not have registered all its tasks.
MOST_SHOWN = 3

Tasks = Mapping[str, str]
"""Functions by the names of their tasks."""


class Neighbours:
    """What this instance says about itself in its heartbeat, and what it makes of those of others.

    Args:
        store: Name of the store.
        app: The set of instances that share its records.
        tasks: The cluster tasks of this instance by name, as they come and go.
        info: Host, process, version and start.
        more: What else it says, as it is when it says it.
    """

    def __init__(
        self,
        store: str,
        app: str,
        tasks: Mapping[str, ClusterEntry],
        info: Mapping[str, object],
        more: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._store = store
        self._app = app
        self._tasks = tasks
        self._info = info
        self._more = more
        self._sample: dict[str, ClusterEntry] = {}
        self._sampled = 0
        """How many tasks there were when the sample was taken."""
        self._strange: dict[str, int] = {}
        """How often in a row an instance has named no task that is known here."""
        self._is_told = False

    def introduction(self) -> str:
        """Return what this instance says about itself, as JSON text."""
        return json.dumps({**self._info, **self._more(), "tasks": self._own()}, sort_keys=True)

    def heard(self, me: str, instances: Sequence[Instance]) -> None:
        """Warn, once, of instances that have tasks and none of those of this one.

        Args:
            me: Identity of this instance, which is one of them.
        """
        if self._is_told or not self._tasks:
            return
        others = {each.id: each for each in instances if scheduler_of(each.id) != scheduler_of(me)}
        strange = {id_: tasks for id_, each in others.items() if (tasks := tasks_of(each)) and not self._knows(tasks)}
        self._strange = {id_: self._strange.get(id_, 0) + 1 for id_ in strange}
        certain = [id_ for id_, times in self._strange.items() if times >= CERTAIN_AFTER]
        if not certain:
            return
        self._is_told = True
        processes = dict.fromkeys(process_of(others[id_]) or id_ for id_ in certain)
        log.warning(
            "store %r, app %r: this instance (%s) and %s have no task in common. Here: %s. There: %s. If they are two "
            "applications, their tasks start late, and of two tasks with the same name only one runs: give each "
            "application its own name, as Scheduler(app='...') or as app='...' of its Store",
            self._store, self._app, f"{self._info.get('host')}:{self._info.get('pid')}", listed(processes, MOST_SHOWN),
            _shown(self._own()), _shown(strange[certain[0]]),
        )  # fmt: skip

    def _knows(self, tasks: Tasks) -> bool:
        """Return whether one of *tasks* is known here, with the same function."""
        return any(
            name in self._tasks and is_same_function(_function(self._tasks[name]), function)
            for name, function in tasks.items()
        )

    def _own(self) -> dict[str, str]:
        tasks = self._tasks
        if len(tasks) != self._sampled or any(tasks.get(name) is not each for name, each in self._sample.items()):
            self._sampled = len(tasks)
            names = [name for name in tasks if len(name) <= MOST_CHARACTERS]
            self._sample = {name: tasks[name] for name in nsmallest(SAMPLE, names, key=partition_hash)}
        return {name: _function(each) for name, each in self._sample.items()}


def _function(task: ClusterEntry) -> str:
    return full_name(task.entry.func)[-MOST_CHARACTERS:]


def is_same_function(name: str, other: str) -> bool:
    """Return whether both full names may mean the same function: a program may be run as ``main`` or ``shop.main``."""
    return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")


def process_of(instance: Instance) -> str | None:
    """Return the process of *instance* as ``host:pid``; None if it does not say."""
    info = json.loads(instance.info)
    return f"{info['host']}:{info['pid']}" if {"host", "pid"} <= info.keys() else None


def tasks_of(instance: Instance) -> Tasks:
    """Return some tasks of *instance*, with their functions; none if it does not say."""
    tasks = json.loads(instance.info).get("tasks")
    return tasks if isinstance(tasks, dict) else {}


def _shown(tasks: Tasks) -> str:
    return listed([f"{name!r} ({function})" for name, function in tasks.items()], MOST_SHOWN)
