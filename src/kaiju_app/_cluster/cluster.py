"""What one scheduler shares with other instances: its cluster tasks, its store, and its sessions."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from kaiju_app._core.clock import utc
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import DISABLED, REMOVED
from kaiju_app.errors import StoreUnavailable, WrongState
from kaiju_app.stores._base import Store

from .forgetting import forget
from .neighbours import Neighbours
from .report import report
from .runs import ClusterRuns, SchedulerHolds
from .session import Session
from .store_handle import StoreHandle
from .task import ClusterEntry
from .timing import LeaseTiming, two_calls_s


class Cluster:
    """The part of one scheduler that other instances share.

    Args:
        store: Where the instances agree; opened by ``prepare()``, closed when nothing needs it any more.
        version: Version of the rules of the tasks; the highest one of all instances counts.

    Attributes:
        entries: The cluster tasks by name.
        wanted: The suspensions of all tasks, which hold tasks that are registered later, too.
        more: What else this instance says about itself in its heartbeat, as JSON values.
    """

    def __init__(self, engine: Engine, store: Store, timing: LeaseTiming, version: tuple[int, ...]) -> None:
        self.store = store
        self.timing = timing
        self.entries: dict[str, ClusterEntry] = {}
        self.wanted: SchedulerHolds = {}
        self.more: Callable[[], Mapping[str, object]] = dict
        self._engine = engine
        self._version = version
        self._handle = StoreHandle(store, timing, self._needs_store)
        self._session: Session | None = None
        self._sessions: dict[Session, None] = {}
        """All that are running: the current one, and those with runs that have outlived ``stop()``."""
        self._starts = 0
        self._unavailable: StoreUnavailable | None = None

    @property
    def runs_if_started(self) -> ClusterRuns | None:
        """The runs of the current session; None if the scheduler is not started."""
        return None if self._session is None else self._session.runs

    @property
    def runs(self) -> ClusterRuns:
        """The runs of the current session.

        Raises:
            WrongState: The scheduler is not started.
        """
        if self._session is None:
            raise WrongState("the scheduler is not started, so it cannot reach its store: call start() first")
        return self._session.runs

    async def prepare(self) -> None:
        """Open the store; one that is unavailable is tried again later.

        Raises:
            InvalidArgument: It can never be used, or another scheduler uses it.
        """
        self._unavailable = await self._handle.open()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a session; the engine is open."""
        engine = self._engine
        self._starts += 1
        # Runs that outlive stop() belong to the session before, which renews their leases under its own identity.
        me = engine.instance if self._starts == 1 else f"{engine.instance}-{self._starts}"
        info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": list(self._version),
            "since": utc(engine.wall()).isoformat(),
        }
        runs = ClusterRuns(
            engine, self.store, self.entries, self.timing, self._version, me,
            Neighbours(self.store.name, self.store.app, self.entries, info, lambda: self.more()), self.wanted,
        )  # fmt: skip
        for name in self.entries:
            runs.coordinator.register(name)
        self._session = Session(runs, self._handle, self.timing)
        if self._unavailable is not None:
            runs.coordinator.client.report(self._unavailable)
        self._start(self._session, loop)

    def _start(self, session: Session, loop: asyncio.AbstractEventLoop, *, again: bool = False) -> None:
        self._sessions[session] = None
        session.start(loop, again=again)

    def _needs_store(self) -> bool:
        running = any(session.is_running for session in self._sessions)
        return running or any(entry.claim is not None for entry in self.entries.values())

    def halt(self) -> None:
        """Claim nothing more, and give back what has not begun."""
        if self._session is not None:
            self._session.coordinator.close()

    async def close(self, timeout_s: float | None) -> None:
        """End the session, and close the store if nothing needs it any more.

        Args:
            timeout_s: Bounds the wait in seconds; None: as long as two calls to the store may take.
        """
        loop = asyncio.get_running_loop()
        limit_s = two_calls_s(self.timing)
        until = loop.time() + (limit_s if timeout_s is None else min(timeout_s, limit_s))
        session, self._session = self._session, None
        self._handle.let_go()
        if session is not None:
            session.is_current = False
        if session is not None and not session.is_running and session.coordinator.own.claims:
            self._start(session, loop, again=True)  # It was cancelled a moment ago.
        await asyncio.gather(*(each.stop(until) for each in self._sessions))
        self._sessions = {each: None for each in self._sessions if each.is_running}
        await self._handle.close_if_unused(until)

    def forget_closed_loop(self) -> None:
        """Forget the sessions whose loop is closed: nothing of them is running."""
        self._sessions = {each: None for each in self._sessions if not each.forget_closed_loop()}

    def reset_after_fork(self) -> None:
        """Leave claims and holds to the process that this one was forked from."""
        for session in self._sessions:
            session.is_current = False
        self._session = None
        self._sessions.clear()
        self.wanted.clear()
        self._starts = 0
        self._handle.reset_after_fork()
        for entry in self.entries.values():
            entry.reset_after_fork()

    # --- tasks ---

    def add(self, entry: ClusterEntry) -> None:
        """Share *entry* from now on."""
        self.entries[entry.name] = entry
        if self._session is not None:
            self._session.coordinator.register(entry.name)

    def reconsider(self, entry: ClusterEntry) -> None:
        """Learn that *entry* was enabled, disabled or removed."""
        flags = entry.entry.flags
        if flags & REMOVED and self.entries.get(entry.name) is entry:
            del self.entries[entry.name]
        if self._session is not None:
            self._session.coordinator.claims.reconsider(entry.name, give_up=bool(flags & (REMOVED | DISABLED)))

    async def forget(self, name: str, *, history: bool) -> bool:
        """Delete a task from the store, with its history if *history*; return whether the store had it.

        Raises:
            StoreUnavailable: The store did not answer; the task may be deleted or not.
            WrongState: The scheduler is not started or has the task, or an instance runs or holds it.
        """
        client = self.runs.coordinator.client
        if name in self.entries:
            raise WrongState(f"task {name!r} cannot be forgotten: this scheduler has it; call task.remove() first")
        return await forget(client, name, history=history)

    # --- what is shown ---

    async def inspect(self) -> dict[str, object]:
        """Return the content of the store as JSON values: instances, and tasks with their owners and holds.

        Raises:
            StoreUnavailable: The store did not answer.
            WrongState: The scheduler is not started.
        """
        runs = self.runs
        instances = await runs.coordinator.heartbeat.instances()
        snapshot = await runs.coordinator.client.snapshot()
        for record in snapshot.records:
            runs.known.on_record(record)
        return report(self.store.name, snapshot, instances)

    def state(self) -> dict[str, object]:
        """Return whether the store is available, as JSON values."""
        client = None if self._session is None else self._session.coordinator.client
        since = None if client is None else client.degraded_since
        ahead = None if client is None else client.clock.ahead_of(self._engine.now())
        offset = None if ahead is None else sum(ahead) / 2 - self._engine.offset
        return {
            "name": self.store.name,
            "state": "closed" if self._session is None else "ok" if since is None else "degraded",
            "degraded_s": None if since is None else (self._engine.now() - since) / 1e6,
            "clock_offset_s": None if offset is None else offset / 1e6,
            "clock_doubt_s": None if ahead is None else (ahead[1] - ahead[0]) / 2e6,
        }
