"""What operators do over HTTP: run, pause, resume, cancel. Each action is logged with who did it, and from where."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from kaiju_app._core.logs import facts, logger
from kaiju_app.errors import KaijuError
from kaiju_app.scheduler import RemoteTask, RequestedRun, Run, ScheduledTask, Scheduler, Scope
from kaiju_app.scheduler._hosting import state_of

from ._access import Caller
from ._items import note_on
from ._known import Known, Tasks
from ._problems import Refused, refusal_of
from ._seen import Store
from ._text import name_of, one_line

log = logger("kaiju_app.admin")

MOST_WAITING = 100  # Requested runs whose end somebody here waits for.
AT_ONCE = 16  # Cluster tasks that are paused at the same time.
MOST_FAILED = 20

T = TypeVar("T")
Target = ScheduledTask[Any] | RemoteTask


class Actions:
    """Acts on tasks for the callers of the endpoint."""

    def __init__(self, scheduler: Scheduler, tasks: Tasks, store: Store) -> None:
        self._scheduler = scheduler
        self._tasks = tasks
        self._store = store
        self._waiting: set[asyncio.Task[Run]] = set()

    async def run(self, task: Known, wait_s: float, caller: Caller) -> Run | RequestedRun:
        """Run *task* now, and return its Run if it ends within *wait_s* seconds.

        Raises:
            Refused: It cannot run now, or too many requested runs have not ended.
        """
        target = self._target(task)
        if not state_of(self._scheduler)["started"]:
            raise Refused(409, "Stopped", "The scheduler of this process is stopped: its application has to start it")
        if len(self._waiting) >= MOST_WAITING:
            detail = f"{MOST_WAITING} requested runs have not ended: wait for some of them"
            raise Refused(429, "Too many runs", detail, {"Retry-After": "5"})
        requested = await self._do(caller, "a run of", task, target.request_run())
        waiter = asyncio.get_running_loop().create_task(
            requested.wait(), name=f"kaiju_app: admin waits for a run of {name_of(task.name)}"
        )
        self._waiting.add(waiter)
        waiter.add_done_callback(self._ended)
        await asyncio.wait([waiter], timeout=wait_s)
        if not waiter.done():
            return requested
        self._store.forget()
        try:
            return waiter.result()
        except KaijuError as exc:
            raise refusal_of(exc) from exc

    def _ended(self, waiter: asyncio.Task[Run]) -> None:
        self._waiting.discard(waiter)
        if not waiter.cancelled():
            waiter.exception()  # Whoever asked has been told, or did not wait: asyncio need not complain.

    async def pause(self, task: Known, reason: str, for_s: float | None, caller: Caller) -> None:
        """Pause *task*."""
        target = self._target(task)
        length = "until it is resumed" if for_s is None else f"for {for_s:g} s"
        await self._do(
            caller, f"a pause ({length}: {reason!r}) of", task, target.pause(reason, for_s, holder=str(caller))
        )

    async def resume(self, task: Known, caller: Caller) -> None:
        """End the pause of *task*."""
        await self._do(caller, "the end of the pause of", task, self._target(task).resume())

    async def cancel(self, task: Known, reason: str, caller: Caller) -> None:
        """Cancel the run of *task* that is in progress, in this process or through the store.

        Raises:
            Refused: There is none, it is a local one of another instance, or nothing may cancel it.
        """
        target = self._target(task)

        async def cancelled() -> None:
            if isinstance(target, ScheduledTask) and target.cancel(f"cancelled by {caller}: {reason}"):
                return
            if task.scope is Scope.CLUSTER and await self._scheduler.remote(task.name).cancel(
                reason, holder=str(caller)
            ):
                return
            raise Refused(409, "Nothing to cancel", "No run is in progress, or it was cancelled before and is ending")

        await self._do(caller, f"the end ({reason!r}) of the run of", task, cancelled())

    async def all(
        self, what: str, act: Callable[[Target], Awaitable[None]], caller: Caller
    ) -> tuple[int, list[str], list[str]]:
        """Act on every task that can be controlled here.

        Returns:
            On how many; the other instances that have local tasks; of which it is not known whether it worked.
        """
        seen = await self._store.seen()
        known = [self._tasks.known(key, seen) for key in self._tasks.keys(seen)]
        elsewhere = {each.home_name for each in known if each.home_name is not None}
        targets = [each for each in known if each.home is None]
        failed: list[str] = []
        done = 0

        async def one(task: Known) -> None:
            nonlocal done
            try:
                await act(self._target(task))
                done += 1
            except KaijuError as exc:
                failed.append(f"{name_of(task.name)}: {one_line(str(exc))}")

        for start in range(0, len(targets), AT_ONCE):
            part = targets[start : start + AT_ONCE]
            for task in part:
                if task.scope is Scope.LOCAL:
                    await one(task)
            await asyncio.gather(*(one(task) for task in part if task.scope is Scope.CLUSTER))
            await asyncio.sleep(0)
        self._store.forget()
        log.info("%s asked for %s all tasks: done for %d, failed for %d", caller, what, done, len(failed))
        return done, sorted(elsewhere), failed[:MOST_FAILED]

    def _target(self, task: Known) -> Target:
        """Return what can be done with *task*.

        Raises:
            Refused: Only another instance can do something with it.
        """
        if task.home is not None:
            raise Refused(409, "Not here", str(note_on(task)))
        return task.face if task.face is not None else self._scheduler.remote(task.name)

    async def _do(self, caller: Caller, what: str, task: Known, call: Coroutine[Any, Any, T]) -> T:
        """Return what *call* returns, and log who asked for it."""
        try:
            result = await call
        except (KaijuError, Refused) as exc:
            refusal = exc if isinstance(exc, Refused) else refusal_of(exc)
            log.info(
                "%s asked for %s task %r, and was refused: %s", caller, what, task.name, one_line(str(refusal.detail)),
                extra=facts(task.name),
            )  # fmt: skip
            raise refusal from None
        self._store.forget()
        log.info("%s asked for %s task %r", caller, what, task.name, extra=facts(task.name))
        return result
