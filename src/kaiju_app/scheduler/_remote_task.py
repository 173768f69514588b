"""RemoteTask: a cluster task that only other instances have, as far as the store lets this one control it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kaiju_app._engine.engine import Engine

from ._requested import RequestedRun

if TYPE_CHECKING:
    from kaiju_app._cluster.cluster import Cluster

    from ._store_calls import StoreCalls


class RemoteTask:
    """A cluster task that this scheduler need not have; made by ``Scheduler.remote()``.

    Its methods do what those of ``ScheduledTask`` do, through the store. They raise UnknownTask if no instance has
    registered the task, StoreUnavailable if the store does not answer, and WrongState if the scheduler is not started.
    """

    __slots__ = ("_cluster", "_engine", "name")

    def __init__(self, engine: Engine, cluster: Cluster, name: str) -> None:
        self.name = name
        self._engine = engine
        self._cluster = cluster

    def __repr__(self) -> str:
        return f"<RemoteTask {self.name!r} in {self._cluster.store.name}>"

    async def pause(
        self, reason: str | None = None, for_s: float | timedelta | None = None, *, holder: str | None = None
    ) -> None:
        """Start no more runs on any instance until ``resume()``, or for *for_s* seconds."""
        self._engine.check_loop("task.pause", "task.pause()")
        await self._calls().pause(reason, for_s, holder)

    async def resume(self) -> None:
        """End the pause, on whichever instance it was made."""
        self._engine.check_loop("task.resume", "task.resume()")
        await self._calls().resume()

    async def request_run(self) -> RequestedRun:
        """Request one extra tick now, of an instance that has the task."""
        self._engine.check_loop("task.request_run", "task.request_run()")
        return await self._calls().request_run()

    async def cancel(self, reason: str, *, holder: str | None = None) -> bool:
        """Cancel the run in progress, on whichever instance; return whether there was one.

        Its owner sees the request when it renews its lease, ``renew_s`` seconds later at most. This returns when the
        run is over, or a few seconds later if it does not end; ``run.error`` names *holder* and *reason*. An instance
        with an older version ignores it.

        Args:
            reason: Kept as the error text of the run.
            holder: Who cancels it; by default this call.

        Raises:
            WrongState: The policy is SHIELD, where it runs: nobody cancels such a run.
        """
        self._engine.check_loop("task.cancel", "task.cancel()")
        return await self._calls().cancel(reason, holder)

    def _calls(self) -> StoreCalls:
        from ._store_calls import StoreCalls

        return StoreCalls(self._engine, self._cluster, self.name, None)
