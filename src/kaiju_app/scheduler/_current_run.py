"""``current_run()``: what a scheduled function can learn about its own run, and do about it."""

from __future__ import annotations

import asyncio
from contextvars import Context
from datetime import datetime

from kaiju_app._core.clock import utc
from kaiju_app._engine.entry import ActiveRun
from kaiju_app._engine.runner import current, home
from kaiju_app.errors import LeaseLost, RunCancelled, WrongState


class CurrentRun:
    """The run that the calling code belongs to."""

    __slots__ = ("_loop", "_run")

    def __init__(self, run: ActiveRun, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._run.entry.name

    @property
    def scheduled_at(self) -> datetime:
        """Nominal time of the tick, aware UTC. Use it, not ``now()``, in file names and idempotency keys."""
        return utc(self._run.tick + self._run.entry.host.offset)

    @property
    def run_id(self) -> str:
        """Identity of the run, the same for all its attempts: log records and ``Run.run_id`` have it, too."""
        return self._run.run_id

    @property
    def attempt(self) -> int:
        """Number of this attempt within the run; the first is 1."""
        return self._run.attempt

    @property
    def delivery(self) -> int:
        """Number of this claim of the tick; the first is 1, and the only one of a local task."""
        return 1 if self._run.claim is None else self._run.claim.delivery

    @property
    def fence(self) -> int | None:
        """Fencing token: a number that grows with every claim of the task; None for a local task.

        No lease keeps a process that was frozen from acting once more when it continues. Store the fence with what is
        written, and refuse a write with a lower fence than the stored one: ``UPDATE ... WHERE fence <= :fence``.
        """
        return None if self._run.claim is None else self._run.claim.fence

    @property
    def deadline(self) -> datetime | None:
        """When the run is cancelled by itself, aware UTC; None if it has no deadline."""
        end = self._run.deadline()
        return None if end is None else utc(end[0] + self._run.entry.host.offset)

    @property
    def asked_in(self) -> Context | None:
        """Context of the code that has asked for this run by ``run_now()``; None for a tick, and for a cluster task.

        ``asked_in.run(variable.get)`` reads a context variable of that code.
        """
        return self._run.asked_in

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the scheduler. A plain function, which runs in a thread, has no other way to reach it.

        Use ``loop.call_soon_threadsafe(task.remove)``, or for what is awaited
        ``asyncio.run_coroutine_threadsafe(coroutine, loop).result()``.
        """
        return self._loop

    @property
    def lost(self) -> asyncio.Event:
        """Event that is set while another instance may run the tick; never set for a local task."""
        if self._run.lost is None:
            self._run.lost = asyncio.Event()
            if self._run.is_lost():
                self._run.lost.set()
        return self._run.lost

    def check(self) -> None:
        """Raise if the run must not continue. Safe in any thread; a plain function has no other way to be cancelled.

        Raises:
            LeaseLost: Another instance may run the tick.
            RunCancelled: The run was cancelled: its deadline is over, the scheduler stops, or somebody cancelled it.
        """
        if self._run.is_lost():
            raise LeaseLost(self._run.entry.name)
        if self._run.cause is not None:
            raise RunCancelled(self._run.entry.name, self._run.cause.value)

    async def guard(self, connection: object) -> None:
        """Keep other instances from running the tick until the transaction of *connection* ends.

        Call it last, just before the commit. If another instance may have taken the tick over, it raises, and what the
        transaction has written is discarded. Otherwise no instance can take the tick over before the commit, however
        late it comes. Commit soon: until then the lease of this run cannot be renewed. If the process dies before it,
        the tick is blocked until the server notices the lost session: set ``tcp_keepalives_idle`` and
        ``idle_in_transaction_session_timeout``.

        Args:
            connection: A connection of asyncpg, in a transaction of the database that holds the scheduler's store. The
                isolation level is READ COMMITTED: another one reads an old snapshot, and misses a later renewal.

        Raises:
            InvalidArgument: It is not such a connection, or it is not in a transaction.
            LeaseLost: Another instance may run the tick; leave the transaction without a commit.
            RunCancelled: The run was cancelled.
            WrongState: The task is local, or its store is not a database: use ``fence``. Or the transaction is
                REPEATABLE READ or SERIALIZABLE, and began before the last renewal.
        """
        claim = self._run.claim
        if claim is None:
            raise WrongState(f"task {self.task!r}: guard() needs Scope.CLUSTER; no other instance runs this task")
        self.check()
        if not await claim.guard(connection):
            raise LeaseLost(self.task)


def current_run() -> CurrentRun:
    """Return the run that the caller is inside; works in its child tasks and threads, too.

    Raises:
        LookupError: The caller is not inside a run, or that run is over.
    """
    run = current.get()
    if run is None:
        raise LookupError("current_run() was called outside a run; call it in a scheduled function")
    if run.entry.run is not run:
        raise LookupError(f"current_run(): the run of task {run.entry.name!r} that this code belongs to is over")
    return CurrentRun(run, home.get())
