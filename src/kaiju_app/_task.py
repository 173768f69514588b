"""ScheduledTask: the public face of an entry of the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from . import _door
from ._arguments import duration_us, whole
from ._clock import utc
from ._driver import Driver
from ._entry import DISABLED, HUNG, OFF_GRID, Entry, Hold
from ._grid import END, FOREVER
from ._ledger import counts, records
from ._model import ExecPolicy, Outcome, Reason, Run
from ._record import NEVER
from ._run import current_running
from ._suspend import Suspension
from ._triggers import Trigger
from .errors import InvalidArgument, OwnRun, TaskBusy, TaskHeld, WrongState

T = TypeVar("T")


class ScheduledTask(Generic[T]):
    """A function and when to run it; made by ``Scheduler.schedule_task()``. Dropping it changes nothing."""

    __slots__ = ("_driver", "_entry")

    def __init__(self, driver: Driver, entry: Entry) -> None:
        self._driver = driver
        self._entry = entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduledTask) and other._entry is self._entry

    def __hash__(self) -> int:
        return hash(self._entry)

    def __repr__(self) -> str:
        rule = f"every {self.interval_s:g} s" if self.trigger is None else str(self.trigger)
        return f"<ScheduledTask {self.name!r} {self.policy} {rule}: {self.state}>"

    # --- what it is ---

    @property
    def name(self) -> str:
        """Unique name within the scheduler."""
        return self._entry.name

    @property
    def method(self) -> Callable[..., Any]:
        """The function that is called."""
        return self._entry.func

    @property
    def args(self) -> tuple[Any, ...]:
        """Arguments by position."""
        return self._entry.args

    @property
    def kws(self) -> Mapping[str, Any]:
        """Arguments by name, read-only."""
        return MappingProxyType(dict(self._entry.kws))

    @property
    def interval_s(self) -> float | None:
        """Seconds from a tick to the next one; None for a trigger whose ticks are not evenly spaced."""
        return None if self._entry.spec.rule is not None else self._entry.spec.gap / 1e6

    @property
    def trigger(self) -> Trigger | None:
        """The rule that was given instead of an interval."""
        return self._entry.spec.trigger

    @property
    def jitter_s(self) -> float:
        """Seconds by which its ticks may be due later than the rule says."""
        return self._entry.spec.jitter / 1e6

    @property
    def until(self) -> datetime | None:
        """When the last possible tick is, aware UTC; None: it has no end."""
        until = self._entry.spec.until
        return None if until is None else utc(until)

    @property
    def policy(self) -> ExecPolicy:
        """What a tick does to a run that is still going on."""
        return self._entry.spec.policy

    @property
    def max_timeout_s(self) -> float:
        """Seconds that a run may take, all attempts together; 0: only the policy's own limit."""
        return self._entry.spec.max_timeout / 1e6

    @property
    def retries(self) -> int:
        """Attempts that may follow the first one in a run."""
        return self._entry.spec.retries

    @property
    def retry_interval_s(self) -> float:
        """Seconds from a failed attempt to the next one; 0: the gap spread evenly over the attempts."""
        return self._entry.spec.retry_interval / 1e6

    # --- what it does ---

    @property
    def enabled(self) -> bool:
        """False between ``disable()`` and ``enable()``."""
        return not self._entry.flags & DISABLED

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._driver.alive(self._entry) is not None

    @property
    def suspended(self) -> bool:
        """Whether something holds it: a suspension of the task or of the scheduler, or a pause."""
        return self._driver.is_held(self._entry)

    @property
    def state(self) -> str:
        """The first that holds of: hung, running, disabled, paused, suspended, stopped, over, waiting.

        Over means that its rule has no further tick.
        """
        entry = self._entry
        running = self.running
        return (
            "hung" if running and entry.flags & HUNG
            else "running" if running
            else "disabled" if not self.enabled
            else "paused" if entry.pause is not None
            else "suspended" if self.suspended
            else "stopped" if not self._driver.planning or not self._is_known()
            else "over" if entry.due >= FOREVER and not entry.seq  # Not only unknown, because its trigger failed.
            else "waiting"
        )  # fmt: skip

    @property
    def next_run_at(self) -> datetime | None:
        """When the next tick is due, aware UTC; None if none is planned: disabled, held, stopped, removed, or over."""
        found = self.upcoming(1)
        return found[0] if found else None

    def upcoming(self, n: int) -> list[datetime]:
        """Return when the next *n* ticks are due, aware UTC; fewer if the rule has fewer, none if nothing is planned.

        Raises:
            InvalidArgument: *n* is negative or not a whole number.
        """
        whole("n", n, at_least=0)
        driver, entry = self._driver, self._entry
        if not driver.planning or not self.enabled or self.suspended or not self._is_known():
            return []
        grid = driver.grid(entry)
        tick = entry.due
        found: list[datetime] = []
        while len(found) < n and tick < FOREVER:
            found.append(utc(min(END, grid.due(tick) + driver.offset)))  # The clock may have been set meanwhile.
            tick = grid.after(tick) if entry.flags & OFF_GRID and len(found) == 1 else grid.following(tick)
        if entry.spec.rule is not None:
            entry.spec.rule.failure = None  # What matters is what it says when the tick is planned.
        return found

    @property
    def result(self) -> T | None:
        """What the function returned in its last run that succeeded; None before."""
        result: T | None = self._entry.result
        return result

    @property
    def last_run(self) -> Run | None:
        """The latest record: a run, or skips; None before the first."""
        found = self.history()
        return found[-1] if found else None

    def history(self) -> list[Run]:
        """Return the kept records, oldest first: as many as the scheduler's ``history``."""
        return [record.run(self.name, self._driver.instance) for record in records(self._entry)]

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many ticks ended in which way since the task was registered."""
        return counts(self._entry)

    # --- on and off ---

    def enable(self) -> None:
        """Let it run again: the grid goes on, nothing is caught up, and there is no new first run."""
        self._driver.check_thread("task.enable")
        self._driver.enable(self._entry)

    def disable(self) -> None:
        """Keep it from running, in this process, until ``enable()``.

        A run in progress goes on, with its retries; a tick that waits is dropped, with a record.
        """
        self._driver.check_thread("task.disable")
        self._driver.disable(self._entry)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context inside which the task is quiet: no run is going on and none starts.

        It holds from entry on, waits for the run in progress, may be nested, and restores what was. From inside the
        task's own run it holds the ticks that follow and does not wait. Ticks meanwhile are missed: ``Missed`` rules.

        Args:
            reason: For the people who ask why it does not run.
        """
        return Suspension(self._driver, self._entry, reason)

    async def pause(self, reason: str | None = None, for_s: float | timedelta | None = None) -> None:
        """Hold the task until ``resume()``, or for *for_s* seconds. A run in progress goes on.

        Pausing it again replaces reason and end. It stays paused when the scheduler is stopped and started.

        Raises:
            InvalidArgument: *for_s* is no positive number.
        """
        now = self._driver.now()
        until = None
        if for_s is not None:
            length = duration_us("for_s", for_s)
            if not length:
                raise InvalidArgument("for_s", for_s, "must be more than 0 seconds, or None for until resume()")
            until = now + length
        self._driver.pause(self._entry, Hold("pause()", reason, now, until))

    async def resume(self) -> None:
        """End the pause, if there is one; suspensions stay."""
        self._driver.pause(self._entry, None)

    def cancel(self, reason: str) -> bool:
        """Ask the run in progress to end; return whether there was one to ask.

        Args:
            reason: Kept as the error text of the run.

        Raises:
            WrongState: The policy is SHIELD: the scheduler never cancels such a run.
        """
        self._driver.check_thread("task.cancel")
        if self.policy is ExecPolicy.SHIELD:
            raise WrongState(f"task {self.name!r}: a SHIELD run is not cancelled; let it end, or use another policy")
        run = self._driver.alive(self._entry)
        if run is None or run.cause is not None:
            return False
        self._driver.cut(run, Reason.REQUESTED, reason)
        return True

    def reschedule(self, interval_s: float | timedelta | None = None, *, trigger: Trigger | None = None) -> None:
        """Change when it runs. The first tick is one new gap from now.

        A run in progress goes on with its old deadline; a tick that waits is dropped, with a record. Jitter and end
        stay what they are.

        Raises:
            InvalidArgument: Not exactly one of the two, or out of range, or a gap too short for the jitter.
            WrongState: The task was removed.
        """
        self._driver.check_thread("task.reschedule")
        if not self._is_known():
            raise WrongState(f"task {self.name!r} was removed: schedule it anew")
        self._driver.change(self._entry, _door.respec(self._entry.spec, interval_s, trigger))

    def remove(self) -> None:
        """Let no more ticks come. A run in progress goes on, and ``stop()`` awaits it; then the name is free."""
        self._driver.check_thread("task.remove")
        self._driver.remove(self._entry)

    # --- runs ---

    async def wait(self) -> Run | None:
        """Return the Run that is going on now, when it ends; None at once if there is none.

        Raises:
            OwnRun: Called from inside that run.
        """
        if self._driver.alive(self._entry) is None:
            return None
        if current_running(self._entry) is not None:
            raise OwnRun(self.name, "wait()")
        ending: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self._driver.watch(self._entry, ending)
        return await ending

    async def run_now(self) -> Run:
        """Run one extra tick now, whatever the grid says, and return its Run when it ends.

        The policy holds: under WAIT and SHIELD it comes after the run in progress, under CANCEL it replaces that.
        A disabled task runs too. Its Run may be a skip: it was still waiting when the scheduler was stopped.

        Raises:
            TaskHeld: The task is suspended or paused.
            TaskBusy: A run is going on and the policy is SKIP, or such an extra tick is waiting already.
            OwnRun: Called from inside a run of the task.
            WrongState: The scheduler is not started, or the task was removed.
        """
        driver, entry = self._driver, self._entry
        if not driver.planning or not self._is_known():
            raise WrongState(f"task {self.name!r} cannot run now: the scheduler is stopped or the task was removed")
        if self.suspended:
            raise TaskHeld(self.name, ", ".join(str(hold) for hold in self._holds()))
        if current_running(entry) is not None:
            raise OwnRun(self.name, "run_now()")
        if entry.asked is not None:
            raise TaskBusy(self.name, "another run_now() is waiting already")
        if driver.alive(entry) is not None and self.policy is ExecPolicy.SKIP:
            raise TaskBusy(self.name, "a run is going on and the policy is SKIP")
        ending: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        driver.ask(entry, ending)
        return await ending

    def json_repr(self) -> dict[str, object]:
        """Return what is known of the task as JSON values.

        ``called_at`` is in seconds of the loop's clock, null before the first run; instants are UTC ISO text.
        """
        entry = self._entry
        next_run_at = self.next_run_at
        return {
            "name": self.name,
            "policy": self.policy.value,
            "enabled": self.enabled,
            "started": self.running,
            "interval_s": self.interval_s,
            "max_timeout_s": self.max_timeout_s,
            "retries": self.retries,
            "retry_interval_s": self.retry_interval_s,
            "called_at": self._called_at(),
            "state": self.state,
            "trigger": None if self.trigger is None else str(self.trigger),
            "jitter_s": self.jitter_s,
            "until": None if self.until is None else self.until.isoformat(),
            "missed": entry.spec.missed.value,
            "next_run_at": None if next_run_at is None else next_run_at.isoformat(),
            "holds": self._told_holds(),
            "counts": {outcome.value: number for outcome, number in self.counts.items()},
            "runs": [run.json_repr() for run in self.history()],
        }

    def _holds(self) -> list[Hold]:
        return [*(self._entry.holds or ()), *self._driver.holds]

    def _told_holds(self) -> list[dict[str, object]]:
        offset = self._driver.offset
        return [
            {"holder": hold.holder, "reason": hold.reason, "since": utc(hold.since + offset).isoformat()}
            for hold in self._holds()
        ]

    def _is_known(self) -> bool:
        return self._driver.knows(self._entry)

    def _called_at(self) -> float | None:
        """Return the start of the latest run on the loop's clock."""
        entry, driver = self._entry, self._driver
        starts = [record.started for record in records(entry) if record.started != NEVER]
        started = entry.run.started if entry.run is not None else starts[-1] if starts else entry.called or None
        return None if started is None or driver.loop is None else driver.loop.time() - (driver.now() - started) / 1e6
