"""Start and stop of one scheduler: which runs ``stop()`` cancels, which it waits for, and what it logs of the rest."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from weakref import WeakSet

from kaiju_app._core.clock import REAL, Clock, utc
from kaiju_app._core.model import ExecPolicy, Reason
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import ActiveRun
from kaiju_app._engine.events import facts_of_run, log
from kaiju_app._engine.listeners import settle
from kaiju_app._engine.runner import enclosing_run
from kaiju_app._engine.spawn import task_factory
from kaiju_app._engine.watchdog import where
from kaiju_app.errors import SelfWait, WrongState

from ._importing import check_may_start
from ._never_started import Reminder

if TYPE_CHECKING:
    from kaiju_app._cluster.cluster import Cluster


class Lifecycle:
    """Starts and stops the engine and the cluster of one scheduler, one call after the other.

    Args:
        clock: The clocks of the scheduler.

    Attributes:
        cluster: What the scheduler shares with other instances; None if nothing.
        reminder: Says at the end that the scheduler was never started, unless it was, or was not meant to be.
    """

    def __init__(self, engine: Engine, cluster: Cluster | None, clock: Clock) -> None:
        self.cluster = cluster
        self._clock = clock
        self.reminder = Reminder(engine.entries)
        self._engine = engine
        self._starting: asyncio.Future[None] | None = None
        self._stops: dict[asyncio.Future[None], ActiveRun | None] = {}
        """The calls of ``stop()`` in progress, by what ends with them: the run that each was called inside."""
        _lifecycles.add(self)

    async def start(self) -> None:
        """Start the engine, after every ``stop()`` in progress."""
        self.reminder.drop()
        check_may_start("scheduler.start()")
        self._check_loop("scheduler.start", "scheduler.stop()")  # It cannot be started in two loops: stop it there.
        own_run = self._enclosing_run()
        if self._stops and own_run is not None:
            raise SelfWait(own_run.entry.name, "start() during a stop()")
        loop = asyncio.get_running_loop()
        self._engine.notifier.instance = self._clock._join(loop, self._engine.instance, self._engine.queue)
        self._starting = starting = self._starting or loop.create_future()
        try:
            while self._stops:
                await asyncio.wait(self._stops)
            self._check_not_started(loop)
            if self.cluster is not None:
                await self.cluster.prepare()
                self._check_not_started(loop)  # Another start() may have finished meanwhile.
            self._engine.open(loop, task_factory(loop))
            if self.cluster is not None:
                self.cluster.open(loop)
        finally:
            self._starting = None
            if not starting.done():
                starting.set_result(None)

    def _check_not_started(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._engine.started:
            place = "in this loop" if self._engine.loop is loop else "in another loop"
            raise WrongState(f"start(): the scheduler is started already, {place}; await stop() first")

    def halt(self) -> None:
        """Start no more runs; ``stop()`` ends those in progress."""
        if self._engine.started:
            self._engine.halt()
            if self.cluster is not None:
                self.cluster.halt()

    async def stop(self, timeout_s: float | None) -> list[ActiveRun]:
        """Start no more runs and end those in progress; return the runs that did not end in time."""
        self._check_loop("scheduler.stop", "scheduler.stop()")
        self.reminder.drop()
        engine, own_run = self._engine, self._enclosing_run()
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        if self.cluster is not None:
            self.cluster.forget_closed_loop()
        if self._starting is not None and own_run is None:
            await asyncio.wait([self._starting], timeout=timeout_s)
        end = loop.create_future()
        self._stops[end] = own_run
        try:
            self.halt()
            # Not this run, nor one that waits in a stop() of its own: they would wait for each other for ever.
            runs = [run for run in cancel_all(engine, own_run) if run not in self._stops.values()]
            left = await wait_for_runs(engine, runs, until)
            if self.cluster is not None:
                await self.cluster.close(_rest_s(until))
            grace_s, rest_s = engine.settings.cancel_grace / 1e6, _rest_s(until)
            await settle(engine.notifier.subscriptions, grace_s if rest_s is None else min(grace_s, rest_s))
            return left
        finally:
            del self._stops[end]
            end.set_result(None)
            if not self._stops and not engine.started:
                engine.close()

    def _check_loop(self, call: str, coroutine: str) -> None:
        """Refuse to start or stop, or to wait for that, in another loop than the scheduler's."""
        self._engine.check_loop(call, coroutine, None if self._starting is None else self._starting.get_loop())

    def reset_after_fork(self) -> None:
        """Become, in the child, a scheduler that is not started, and another instance than the parent's."""
        self._stops.clear()
        self._starting = None
        self._engine.reset_after_fork()
        if self.cluster is not None:
            self.cluster.reset_after_fork()

    def _enclosing_run(self) -> ActiveRun | None:
        """Return the run of this scheduler that the caller is inside; None if it is inside none."""
        run = enclosing_run()
        return run if run is not None and self._engine.is_own(run) else None


def cancel_all(engine: Engine, own_run: ActiveRun | None) -> list[ActiveRun]:
    """Cancel all runs in progress and return them; those under SHIELD and *own_run* only get no further attempt."""
    runs = [run for entry in list(engine.entries.values()) if (run := engine.watchdog.active_run(entry)) is not None]
    for run in runs:
        if run is own_run or run.spec.policy is ExecPolicy.SHIELD:
            run.allow_no_retry(Reason.SHUTDOWN)
        else:
            engine.watchdog.cancel(run, Reason.SHUTDOWN)
    return runs


def cancel_left(engine: Engine) -> None:
    """Cancel the runs that are left after ``stop()``, also under SHIELD: their loop is about to close."""
    for entry in list(engine.entries.values()):
        run = engine.watchdog.active_run(entry)
        if run is not None:
            engine.watchdog.cancel(run, Reason.SHUTDOWN)


async def wait_for_runs(engine: Engine, runs: list[ActiveRun], until: float | None) -> list[ActiveRun]:
    """Wait for the end of *runs*; log and return those that do not end in time.

    Args:
        until: End of the whole wait, on the loop's clock in seconds. None waits for cancelled runs as long as the
            cancel grace, and for the others without a limit.
    """
    loop = asyncio.get_running_loop()
    ends = {run: loop.create_future() for run in runs if run.entry.run is run}
    for run, end in ends.items():
        engine.recorder.add_waiter(run.entry, end)
    cancelled = [end for run, end in ends.items() if run.cause is not None]
    others = [end for run, end in ends.items() if run.cause is None]
    if cancelled:
        grace_s = engine.settings.cancel_grace / 1e6
        await asyncio.wait(cancelled, timeout=grace_s if until is None else _rest_s(until))
    if others:
        await asyncio.wait(others, timeout=_rest_s(until))
    left = [run for run, end in ends.items() if not end.done()]
    for run in left:
        _log_left(engine, run)
    return left


def _rest_s(until: float | None) -> float | None:
    """Return the seconds that are left until a time on the loop's clock; None if there is no limit."""
    return None if until is None else max(0.0, until - asyncio.get_running_loop().time())


def _log_left(engine: Engine, run: ActiveRun) -> None:
    log.error(
        "task %r, tick %s: the run is in progress after stop(), %.3g s after its start: %s. The task does not run "
        "again before it ends. The run is at:%s",
        run.entry.name, utc(run.tick + run.entry.host.offset).isoformat(), (engine.now() - run.started) / 1e6,
        "the time limit of stop() is over, and a SHIELD run is not cancelled" if run.cause is None
        else "it was cancelled and has not ended",
        where(run), extra=facts_of_run(run),
    )  # fmt: skip


_lifecycles: WeakSet[Lifecycle] = WeakSet()


def running_outside() -> list[str]:
    """Return the names of tasks of a scheduler that is running by the clock of the machine; none if there is none."""
    for lifecycle in list(_lifecycles):
        engine = lifecycle._engine
        if lifecycle._clock is REAL and engine.started and engine.loop is not None and not engine.loop.is_closed():
            return list(engine.entries)[:3] or ["(none)"]
    return []


def lifecycle_of(engine: Engine) -> Lifecycle:
    """Return what starts and stops *engine*.

    Raises:
        WrongState: The scheduler was collected as garbage.
    """
    for lifecycle in list(_lifecycles):
        if lifecycle._engine is engine:
            return lifecycle
    raise WrongState("the scheduler of the task is gone: keep it in a variable as long as the task is used")


def _after_fork() -> None:
    for lifecycle in list(_lifecycles):
        lifecycle.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
