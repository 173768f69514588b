"""SharedTask: the public face of a task that several instances share."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TypeVar

from ._arguments import duration_us, whole
from ._clock import utc
from ._driver import Driver
from ._entry import DISABLED, HUNG
from ._following import is_unknown
from ._grid import FOREVER
from ._membership import Membership
from ._model import Run
from ._rows import run_of
from ._run import current_running
from ._shared import Shared
from ._shared_suspend import SharedSuspension
from ._sharing import Sharing
from ._task import ScheduledTask
from ._triggers import Trigger
from .errors import InvalidArgument, OwnRun, StoreUnavailable, TaskBusy, TaskHeld, WrongState
from .stores._record import Record
from .stores._transitions import scheduler_of

T = TypeVar("T")

LOOKED_AT = 100  # Rows in which the end of a run is looked for: more than come while somebody looks every half second.


class SharedTask(ScheduledTask[T]):
    """A task of ``Scope.CLUSTER``: one instance runs each of its ticks.

    What it tells without being awaited is what this instance last heard from the store. Its ``history()`` is what ran
    here; ``await scheduler.history(name)`` is everybody's.

    A lease promises that no two instances run it at once as long as a process that is frozen for longer than the lease
    and the grace does not act when it goes on, that what is cut ends within the grace, and that the store does not
    lose what it has confirmed. For everything beyond, there is ``current_run().fence``.
    """

    __slots__ = ("_shared", "_sharing")

    def __init__(self, driver: Driver, sharing: Sharing, entry: Shared) -> None:
        super().__init__(driver, entry)
        self._sharing = sharing
        self._shared = entry

    @property
    def running(self) -> bool:
        """Whether a run is going on, on any instance as far as was heard."""
        heard = self._shared.heard
        return super().running or (heard is not None and heard.holder is not None)

    @property
    def suspended(self) -> bool:
        """Whether something holds it: a suspension or a pause, of any instance as far as was heard."""
        heard = self._shared.heard
        return super().suspended or bool(heard is not None and heard.holds)

    @property
    def state(self) -> str:
        """The first that holds of: hung, running, disabled, paused, suspended, stopped, over, waiting."""
        entry, heard = self._shared, self._shared.heard
        return (
            "hung" if entry.flags & HUNG
            else "running" if self.running
            else "disabled" if entry.flags & DISABLED
            else "paused" if heard is not None and any(not held.leased for held in heard.holds.values())
            else "suspended" if self.suspended
            else "stopped" if not self._driver.planning or not self._is_known()
            else "over" if heard is not None and heard.next >= FOREVER
            else "waiting"
        )  # fmt: skip

    def upcoming(self, n: int) -> list[datetime]:
        """Return when the next *n* ticks are due, aware UTC, as far as was heard.

        Raises:
            InvalidArgument: *n* is negative or not a whole number.
        """
        whole("n", n, at_least=0)
        entry, heard = self._shared, self._shared.heard
        if heard is None or not self._driver.planning or not self.enabled or self.suspended or not self._is_known():
            return []
        grid = entry.ticks(entry.spec_of(heard) or entry.spec)
        if is_unknown(grid, heard.next, heard.due):
            return []
        tick, now = heard.next, self._driver.wall()
        if heard.holder is not None and not heard.manual:
            tick = grid.after(tick)
        if tick < FOREVER and grid.due(tick) <= now:  # Others have run it since: they do not tell each time.
            tick = grid.passed(tick, now).following
        found: list[datetime] = []
        while len(found) < n and tick < FOREVER:
            found.append(utc(grid.due(tick)))
            tick = grid.after(tick)
        return found

    # --- on and off ---

    def enable(self) -> None:
        """Let this instance run it again."""
        super().enable()
        self._sharing.reconsider(self._shared)

    def disable(self) -> None:
        """Let this instance claim no more of its ticks; others do. A run in progress goes on."""
        super().disable()
        self._sharing.reconsider(self._shared)

    def remove(self) -> None:
        """Let this instance claim no more of its ticks, and forget it here; its record stays for the others."""
        super().remove()
        self._sharing.reconsider(self._shared)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context inside which the task is quiet on every instance: no run is going on and none starts.

        Entering it raises StoreUnavailable if the store does not answer. Inside, SuspendLost is raised by way of a
        cancellation if the hold could not be renewed for as long as a lease lasts, since others may run the task then.
        """
        return SharedSuspension(self._driver, self._sharing, self._shared, reason)

    async def pause(self, reason: str | None = None, for_s: float | timedelta | None = None) -> None:
        """Hold the task on all instances until ``resume()``, or for *for_s* seconds; it outlives every process.

        Raises:
            InvalidArgument: *for_s* is no positive number.
            StoreUnavailable: The store did not answer; it may be paused or not.
            WrongState: The scheduler is not started.
        """
        length = None
        if for_s is not None:
            length = duration_us("for_s", for_s)
            if not length:
                raise InvalidArgument("for_s", for_s, "must be more than 0 seconds, or None for until resume()")
        coordinator = (await self._known()).coordinator
        self._shared.heard = await coordinator.pause(self.name, f"pause() on {self._driver.instance}", reason, length)

    async def resume(self) -> None:
        """End the pause, whoever made it; suspensions stay.

        Raises:
            StoreUnavailable: The store did not answer; it may be paused or not.
            WrongState: The scheduler is not started.
        """
        self._shared.heard = await (await self._known()).coordinator.resume(self.name)

    def reschedule(self, interval_s: float | timedelta | None = None, *, trigger: Trigger | None = None) -> None:
        """Refuse: the next start of any instance would undo it.

        Raises:
            WrongState: Always.
        """
        raise WrongState(
            f"task {self.name!r} is shared: change its rule in the code, and raise Scheduler(version=...): the next "
            "start of any instance would undo reschedule()"
        )

    # --- runs ---

    async def wait(self) -> Run | None:
        """Return the Run that is going on now, on whatever instance, when it ends; None at once if there is none.

        Raises:
            OwnRun: Called from inside that run.
            StoreUnavailable: The store did not answer.
            WrongState: The scheduler is not started.
        """
        if current_running(self._entry) is not None:
            raise OwnRun(self.name, "wait()")
        life = await self._known()
        record = await self._ask_record(life)
        while record.holder is not None:
            fence = record.fence
            while record.holder is not None and record.fence == fence:
                record = await self._later(life)
            rows = [row for row in await life.coordinator.history(self.name, LOOKED_AT) if row.fence == fence]
            if rows:
                return run_of(rows[-1])
        return None  # What was claimed was given back before it began.

    async def run_now(self) -> Run:
        """Have one extra tick run now, by any instance, whatever the grid says; return its Run when it ends.

        If the task is disabled here, it runs here all the same when no other instance has begun within two polls.

        Raises:
            TaskHeld: The task is suspended or paused.
            TaskBusy: A run is going on, or such an extra tick is waiting already.
            OwnRun: Called from inside a run of the task.
            StoreUnavailable: The store did not answer; the extra tick may run all the same.
            WrongState: The scheduler is not started, or it was stopped before the end.
        """
        life = await self._known()
        if not self._is_known():
            raise WrongState(f"task {self.name!r} cannot run now: it was removed")
        if current_running(self._entry) is not None:
            raise OwnRun(self.name, "run_now()")
        changed = await life.coordinator.ask(self.name)
        old, new = changed.old, changed.new
        if new is None:
            self._refuse(old)
        asked = None if new is None else new.asked
        coordinator = life.coordinator
        others_until = self._driver.now() + 2 * coordinator.poll
        try:
            while (await self._later(life)).asked == asked:
                if not self.enabled and self._driver.now() >= others_until:  # It may be disabled everywhere.
                    coordinator.extras.add(self.name)
                    coordinator.look()
        finally:
            coordinator.extras.discard(self.name)
        rows = await life.coordinator.history(self.name, LOOKED_AT)
        found = [row for row in rows if row.manual and row.first == asked]
        if not found:
            raise StoreUnavailable(self._sharing.store.name, f"it has no row of the extra run of task {self.name!r}")
        return run_of(found[-1])

    async def _known(self) -> Membership:
        """Return the life of the scheduler, when the store knows the task."""
        life = self._sharing.member
        await life.coordinator.known([self.name])
        return life

    def _refuse(self, record: Record | None) -> None:
        if record is not None and record.holds:
            holders = [each.holder + (f" ({each.reason})" if each.reason else "") for each in record.holds.values()]
            raise TaskHeld(self.name, ", ".join(holders))
        if record is not None and record.holder is not None:
            raise TaskBusy(self.name, f"instance {scheduler_of(record.holder)} runs it")
        raise TaskBusy(self.name, "another run_now() is waiting already")

    async def _ask_record(self, life: Membership) -> Record:
        record = await life.coordinator.record(self.name)
        self._shared.heard = record
        return record

    async def _later(self, life: Membership) -> Record:
        """Return the record when it may have changed."""
        while True:
            await life.coordinator.news()
            if self._sharing.life is not life:
                raise WrongState(f"task {self.name!r}: the scheduler was stopped before its run was over")
            try:
                return await self._ask_record(life)
            except StoreUnavailable:
                await asyncio.sleep(life.coordinator.every / 1e6)

    def json_repr(self) -> dict[str, object]:
        """Return what is known of the task as JSON values, as far as was heard."""
        entry, heard = self._shared, self._shared.heard
        here = super().json_repr()
        claimed = heard is not None and heard.holder is not None
        return here | {
            "scope": "CLUSTER",
            "on_lost": entry.on_lost.value,
            "runs_on": scheduler_of(heard.holder) if heard is not None and heard.holder is not None else None,
            "take": heard.takes if heard is not None and claimed else None,
            "fence": heard.fence if heard is not None and claimed else None,
        }

    def _told_holds(self) -> list[dict[str, object]]:
        heard = self._shared.heard
        elsewhere: list[dict[str, object]] = [
            {"holder": held.holder, "reason": held.reason, "until": held.until and utc(held.until).isoformat()}
            for held in (() if heard is None else heard.holds.values())
        ]
        return super()._told_holds() + elsewhere
