"""The tasks of one scheduler: their names and their public faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from kaiju_app._core.calls import near
from kaiju_app._core.ledger_query import LedgerQuery
from kaiju_app._core.model import OnLost, Run, RunPage, Scope
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import CLUSTER, Hold, TaskEntry
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.errors import InvalidArgument, UnknownTask, WrongState

from ._lifecycle import Lifecycle
from ._naming import Call, Names
from ._suspension import LocalStay, Stay, Suspension
from ._task import ScheduledTask

if TYPE_CHECKING:
    from kaiju_app._cluster.task import ClusterEntry
    from kaiju_app._core.explanation import Explanation
    from kaiju_app._engine.ledger_page import Span

    from ._remote_task import RemoteTask

D = TypeVar("D")

NEEDS_STORE = (
    "cannot be CLUSTER in a scheduler without a store, where every process would run the task: give the processes a "
    "common one, Scheduler(store='sqlite:///scheduler.db') on one host or store='postgresql://...' on several; or say "
    "store='memory://' if there is only this process (is store= None because a setting is missing?)"
)


class TaskRegistry:
    """Adds tasks to one scheduler, names them, and returns their public faces."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._names = Names(engine.entries)
        self._spans: dict[str, Span] = {}

    def add(
        self,
        name: str | None,
        label: str,
        call: Call,
        spec: TaskSpec,
        flags: int,
        pause_after: int | None,
        replace: bool,
    ) -> ScheduledTask[Any]:
        """Add a local task.

        Args:
            name: Its name; None for a default name that is free.
            label: Qualified name of the function, for the default name.
            flags: Bits of its entry that are set from the beginning.
            pause_after: It is paused after so many unsuccessful runs in a row; None for never.
            replace: Remove the task of this name first, if there is one.
        """
        name = self._names.default(label, call, spec) if name is None else self._names.checked(name)
        replaced = self._clear(name, replace)
        entry = TaskEntry(self._engine.recorder, name, *call, spec)
        entry.flags = flags
        if pause_after is not None:
            self._engine.recorder.failures.limit(entry, pause_after)
        if replaced is not None:
            self._engine.replacements.replace(replaced, entry)
        self._engine.add(entry)
        return ScheduledTask(self._engine, entry)

    def add_to_cluster(
        self,
        name: str | None,
        call: Call,
        spec: TaskSpec,
        on_lost: OnLost,
        overlap: bool,
        keep_result: bool,
        pause_after: int | None,
        replace: bool,
    ) -> ScheduledTask[Any]:
        """Add a cluster task.

        Raises:
            InvalidArgument: The task cannot be shared, or the scheduler has no store.
        """
        from kaiju_app._cluster.task import ClusterEntry, check_cluster_task

        from ._cluster_task import ClusterTask

        cluster = self._lifecycle.cluster
        if cluster is None:
            raise InvalidArgument("scope", Scope.CLUSTER, NEEDS_STORE)
        check_cluster_task(spec, name, overlap)
        name = self._names.checked(name)
        self._clear(name, replace, shared=True)
        entry = ClusterEntry(self._engine, name, *call, spec, on_lost)
        entry.pause_after = pause_after
        entry.keep_result = keep_result
        self._engine.add(entry.entry)
        cluster.add(entry)
        return ClusterTask(self._engine, cluster, entry)

    async def forget(self, name: str, *, history: bool) -> bool:
        """Delete a cluster task from the store, and its history if *history*; return whether the store had it."""
        if (cluster := self._lifecycle.cluster) is None:
            raise WrongState("the scheduler has no store to delete a task from: use task.remove()")
        return await cluster.forget(name, history=history)

    def remote(self, name: str) -> RemoteTask:
        """Return what other instances have as the cluster task *name*.

        Raises:
            WrongState: The scheduler has no store.
        """
        from ._remote_task import RemoteTask

        if (cluster := self._lifecycle.cluster) is None:
            raise WrongState(
                f"task {name!r}: the scheduler has no store, so it knows only the tasks in scheduler.tasks"
            )
        return RemoteTask(self._engine, cluster, name)

    async def history(self, name: str, limit: int) -> list[Run]:
        """Return the latest records of a task, oldest first.

        Raises:
            UnknownTask: There is no such task, neither here nor in the store.
        """
        entry, cluster = self._engine.entries.get(name), self._lifecycle.cluster
        if entry is not None and (cluster is None or not entry.flags & CLUSTER):
            return self.face_of(entry).history()[-limit:] if limit else []
        if cluster is None:
            raise UnknownTask(name, near(name, self._engine.entries))
        from kaiju_app._cluster.ledger_rows import run_of

        rows = await cluster.runs.coordinator.client.history(name, limit)
        if not rows and entry is None and limit:
            await self._check_known(name)
        return [run_of(row) for row in rows]

    async def runs(self, query: LedgerQuery) -> RunPage:
        """Return a page of the ledger.

        Raises:
            UnknownTask: There is no such task, neither here nor in the store.
        """
        from ._run_pages import page_of

        page = await page_of(self._engine, self._lifecycle.cluster, query, self._spans)
        if query.name is not None and page.newest is None:
            await self._check_known(query.name)
        return page

    async def explain(self, name: str, at: int) -> Explanation:
        """Return what became of the tick of a task at an instant, in wall-clock microseconds."""
        from ._explain import explain

        entry, cluster = self._engine.entries.get(name), self._lifecycle.cluster
        if entry is not None and (cluster is None or not entry.flags & CLUSTER):
            from ._local_evidence import local_evidence

            return explain(local_evidence(self._engine, entry, at))
        if cluster is not None:
            from ._cluster_evidence import cluster_evidence

            known = await cluster_evidence(self._engine, cluster, name, at)
            if known is not None:
                return explain(known)
        raise UnknownTask(name, near(name, self._engine.entries))

    async def _check_known(self, name: str) -> None:
        """Refuse to answer for a task of which nothing was recorded, if there is none of this name."""
        if name in self._engine.entries:
            return
        cluster, known = self._lifecycle.cluster, set(self._engine.entries)
        if cluster is not None:
            known |= {record.name for record in (await cluster.runs.coordinator.client.snapshot()).records}
        if name not in known:
            raise UnknownTask(name, near(name, known))

    def suspension(self, reason: str | None) -> Suspension:
        """Return what keeps all tasks from running, those added meanwhile too."""
        targets: list[Callable[[Hold], Stay]] = [partial(LocalStay, self._engine, None)]
        if (cluster := self._lifecycle.cluster) is not None:
            from ._cluster_suspension import ClusterStay

            targets.append(partial(ClusterStay, cluster, None))
        return Suspension(self._engine, "scheduler.suspend", targets, reason)

    def face_of(self, entry: TaskEntry) -> ScheduledTask[Any]:
        """Return the public face of *entry*."""
        cluster = self._lifecycle.cluster
        if entry.flags & CLUSTER and cluster is not None:
            from ._cluster_task import ClusterTask

            return ClusterTask(self._engine, cluster, cast("ClusterEntry", entry.host))
        return ScheduledTask(self._engine, entry)

    def _clear(self, name: str, replace: bool, *, shared: bool = False) -> TaskEntry | None:
        """Remove the task that has this *name* if there is one and *replace* allows it, and return it.

        Raises:
            InvalidArgument: There is one that must not be removed, or not now.
        """
        old = self._engine.entries.get(name)
        if old is None:
            return None
        if not replace:
            rule = "must be unique: a task has this name already; remove() it first, or say replace=True"
            raise InvalidArgument("name", name, rule)
        if (shared or old.flags & CLUSTER) and self._engine.is_running(old):
            raise InvalidArgument(
                "replace", replace,
                f"is refused while a run of task {name!r} is in progress, because one of the two tasks is a cluster "
                f"task: await scheduler.tasks[{name!r}].wait() first",
            )  # fmt: skip
        self.face_of(old).remove()
        return old


class TasksView(Mapping[str, ScheduledTask[Any]]):
    """A read-only view of the tasks of a scheduler, by name, for any thread.

    An iteration goes over the tasks that there were when it began. Until it ends, it finds also those that are removed
    meanwhile. In another thread say ``dict(scheduler.tasks.items())``, which is one iteration.
    ``dict(scheduler.tasks)`` asks for all names, then for each task: ``UnknownTask`` if one is removed between.
    """

    __slots__ = ("_entries", "_face_of", "_iterations")

    def __init__(self, entries: dict[str, TaskEntry], face_of: Callable[[TaskEntry], ScheduledTask[Any]]) -> None:
        self._entries = entries
        self._face_of = face_of
        self._iterations: dict[object, dict[str, TaskEntry]] = {}

    def __getitem__(self, name: str) -> ScheduledTask[Any]:
        entry = self._entries.get(name)
        for earlier in list(self._iterations.values()) if entry is None else ():
            entry = entry or earlier.get(name)
        if entry is None:
            raise UnknownTask(name, near(str(name), list(self._entries)))
        return self._face_of(entry)

    def __contains__(self, name: object) -> bool:  # Mapping would look for names that are near.
        return name in self._entries

    @overload
    def get(self, name: str, default: None = None, /) -> ScheduledTask[Any] | None: ...

    @overload
    def get(self, name: str, default: D, /) -> ScheduledTask[Any] | D: ...

    def get(self, name: str, default: object = None, /) -> object:
        """Return the task of this name; *default* if there is none."""
        entry = self._entries.get(name)
        return default if entry is None else self._face_of(entry)

    def __iter__(self) -> Iterator[str]:
        iteration, entries = object(), self._entries.copy()
        self._iterations[iteration] = entries
        try:
            yield from entries
        finally:
            del self._iterations[iteration]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"
