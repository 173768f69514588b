"""What a function may know of the run that it is called for, and do about it."""

from __future__ import annotations

import asyncio
from datetime import datetime

from ._clock import utc
from ._run import Running, running
from .errors import LeaseLost, RunCut, WrongState


class CurrentRun:
    """What a function may know of the run that it is called for."""

    __slots__ = ("_run",)

    def __init__(self, run: Running) -> None:
        self._run = run

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._run.entry.name

    @property
    def scheduled_at(self) -> datetime:
        """Nominal time of the tick, aware UTC: what to use for file names and idempotency keys, not ``now()``."""
        return utc(self._run.tick + self._run.entry.host.offset)

    @property
    def attempt(self) -> int:
        """Number of this call of the function within the run; the first is 1."""
        return self._run.attempt

    @property
    def take(self) -> int:
        """Number of the claim of this tick; always 1 for a task that is not shared with other instances."""
        return 1 if self._run.claim is None else self._run.claim.record.takes

    @property
    def fence(self) -> int | None:
        """Number that grows with every claim; None for a task that is not shared with other instances.

        No lease keeps a process that was frozen from acting once more when it goes on. Let what is written carry the
        fence, and refuse there what comes with a lower one than was seen: ``UPDATE ... WHERE fence <= :fence``.
        """
        return None if self._run.claim is None else self._run.claim.fence

    @property
    def deadline(self) -> datetime | None:
        """When the run is cut, aware UTC; None: never."""
        end = self._run.deadline()
        return None if end is None else utc(end[0] + self._run.entry.host.offset)

    @property
    def lost(self) -> asyncio.Event:
        """Set while another instance may run the tick; never, for a task that is not shared."""
        if self._run.lost is None:
            self._run.lost = asyncio.Event()
            if self._run.is_lost():
                self._run.lost.set()
        return self._run.lost

    def check(self) -> None:
        """Return if the run may go on; safe in any thread, which is where it is needed.

        Raises:
            LeaseLost: Another instance may run the tick by now.
            RunCut: The run was asked to end: its deadline is over, the scheduler stops, or somebody cancelled it.
        """
        if self._run.is_lost():
            raise LeaseLost(self._run.entry.name)
        if self._run.cause is not None:
            raise RunCut(self._run.entry.name, self._run.cause.value)

    async def guard(self, connection: object) -> None:
        """Keep every other instance from running the tick until the transaction of *connection* is over.

        Call it last, just before the commit: what the transaction has written then counts if this run has not been
        replaced, and otherwise never was. Until the commit nobody can take the tick over, however late it comes; and
        this run's lease cannot be renewed, so let it come soon. Who dies in between keeps the tick until the server
        misses the session: see to its ``tcp_keepalives_idle`` and ``idle_in_transaction_session_timeout``.

        Args:
            connection: Of asyncpg, in a transaction of the database in which the scheduler's store is; of the isolation
                level READ COMMITTED, as one that reads what was there at its begin cannot see a later renewal.

        Raises:
            InvalidArgument: It is no such connection, or not in a transaction.
            LeaseLost: Another instance may run the tick by now; leave the transaction without a commit.
            RunCut: The run was asked to end.
            WrongState: The task is not shared, or its store is no database: see ``fence``. Or the transaction is
                REPEATABLE READ or SERIALIZABLE, and older than the last renewal.
        """
        claim = self._run.claim
        if claim is None:
            raise WrongState(f"task {self.task!r}: guard() is for tasks of Scope.CLUSTER; nobody else runs this one")
        self.check()
        if not await claim.store.guard(connection, claim.record):
            raise LeaseLost(self.task)


def current_run() -> CurrentRun:
    """Return the run that the caller is inside of, child tasks and threads included.

    Raises:
        LookupError: The caller is not inside a run, or that run is over.
    """
    run = running.get()
    if run is None:
        raise LookupError("current_run() was called outside a run: only a scheduled function has one")
    if run.entry.run is not run:
        raise LookupError(f"current_run(): the run of task {run.entry.name!r} that this code belongs to is over")
    return CurrentRun(run)
