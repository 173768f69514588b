"""Start and stop, one after the other: whom ``stop()`` cuts, whom it awaits, what it says of those that do not end."""

from __future__ import annotations

import asyncio
import os
from weakref import WeakSet

from ._clock import utc
from ._driver import Driver
from ._events import log
from ._model import ExecPolicy, Reason
from ._run import Running, current_caller
from ._runs import where
from ._sharing import Sharing
from ._spawn import spawner
from .errors import OwnRun, WrongState


class Life:
    """The life cycle of one driver, in the order in which ``start()`` and ``stop()`` are called.

    Attributes:
        sharing: What it shares with other instances; None: nothing.
    """

    def __init__(self, driver: Driver, sharing: Sharing | None = None) -> None:
        self._driver = driver
        self.sharing = sharing
        _all.add(self)
        self._stops: dict[asyncio.Future[None], Running | None] = {}
        self._starting: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Begin to plan, after every ``stop()`` that is under way."""
        mine = self._caller()
        if self._stops and mine is not None:
            raise OwnRun(mine.entry.name, "start() during a stop()")
        loop = asyncio.get_running_loop()
        self._starting = starting = self._starting or loop.create_future()
        try:
            while self._stops:
                await asyncio.wait(self._stops)
            self._check_not_started(loop)
            if self.sharing is not None:
                await self.sharing.prepare()
                self._check_not_started(loop)  # By somebody who prepared at the same time.
            self._open(loop)
        finally:
            self._starting = None
            if not starting.done():
                starting.set_result(None)

    def _check_not_started(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._driver.planning:
            where = "in this loop" if self._driver.loop is loop else "in another loop"
            raise WrongState(f"start(): the scheduler is started already, {where}; await stop() first")

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._driver.open(loop, spawner(loop))
        if self.sharing is not None:
            self.sharing.open(loop)

    def halt(self) -> None:
        """Plan nothing more from this moment on; ``stop()`` ends what is going on."""
        if self._driver.planning:
            self._driver.halt()
            if self.sharing is not None:
                self.sharing.halt()

    async def stop(self, timeout_s: float | None) -> list[Running]:
        """Plan nothing more and end what is going on; return the runs that did not end in time."""
        driver, mine = self._driver, self._caller()
        loop = asyncio.get_running_loop()
        if driver.loop is not None and driver.loop is not loop and not driver.loop.is_closed():
            raise WrongState("stop(): the scheduler was started in another loop; stop it there")
        began = loop.time()
        if self.sharing is not None:
            self.sharing.bury()
        if self._starting is not None and mine is None:
            await asyncio.wait([self._starting], timeout=timeout_s)
        over = loop.create_future()
        self._stops[over] = mine
        try:
            self.halt()
            # Neither itself nor a run that waits in a stop() of its own: they would wait for each other for ever.
            runs = [run for run in cut_all(driver, mine) if run not in self._stops.values()]
            rest = None if timeout_s is None else max(0.0, timeout_s - (loop.time() - began))
            left = await wait_for_ends(driver, runs, rest)
            if self.sharing is not None:
                await self.sharing.close(None if timeout_s is None else max(0.0, timeout_s - (loop.time() - began)))
            return left
        finally:
            del self._stops[over]
            over.set_result(None)
            if not self._stops and not driver.planning:
                driver.close()

    def forked(self) -> None:
        """Be another process than the one that this scheduler was started in: not started, and another instance."""
        self._stops.clear()
        self._starting = None
        self._driver.abandon()
        if self.sharing is not None:
            self.sharing.abandon()

    def _caller(self) -> Running | None:
        """Return the run of this driver that the caller is inside of."""
        run = current_caller()
        return run if run is not None and self._driver.is_own(run) else None


def cut_all(driver: Driver, mine: Running | None) -> list[Running]:
    """Ask every run to end, those under SHIELD in their own time; return them. *mine* only may not try again."""
    runs = [run for entry in list(driver.entries.values()) if (run := driver.alive(entry)) is not None]
    for run in runs:
        if run is mine or run.spec.policy is ExecPolicy.SHIELD:
            run.finish_up(Reason.SHUTDOWN)
        else:
            driver.cut(run, Reason.SHUTDOWN)
    return runs


def cut_left(driver: Driver) -> None:
    """Cancel the runs that ``stop()`` has left, those under SHIELD too: their loop is about to end."""
    for entry in list(driver.entries.values()):
        run = driver.alive(entry)
        if run is not None:
            driver.cut(run, Reason.SHUTDOWN)


async def wait_for_ends(driver: Driver, runs: list[Running], timeout_s: float | None) -> list[Running]:
    """Wait until *runs* are over; return those that are not.

    Args:
        timeout_s: Bounds the whole wait, in seconds; None: no bound for SHIELD, the cancel grace for the others.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    endings = {run: loop.create_future() for run in runs if run.entry.run is run}
    for run, ending in endings.items():
        driver.watch(run.entry, ending)
    asked = [ending for run, ending in endings.items() if run.cause is not None]
    awaited = [ending for run, ending in endings.items() if run.cause is None]
    if asked:
        await asyncio.wait(asked, timeout=driver.settings.cancel_grace / 1e6 if timeout_s is None else timeout_s)
    if awaited:
        rest = None if timeout_s is None else max(0.0, timeout_s - (loop.time() - began))
        await asyncio.wait(awaited, timeout=rest)
    left = [run for run, ending in endings.items() if not ending.done()]
    for run in left:
        _report(driver, run)
    return left


def _report(driver: Driver, run: Running) -> None:
    log.error(
        "task %r, tick %s: still going on after stop(), %.3g s after its start; %s. Its task does not run again "
        "before it ends. It is at:%s",
        run.entry.name, utc(run.tick + run.entry.host.offset).isoformat(), (driver.now() - run.started) / 1e6,
        "it is shielded, and the time limit of stop() is over" if run.cause is None else "it does not give way",
        where(run),
    )  # fmt: skip


_all: WeakSet[Life] = WeakSet()


def _after_fork() -> None:
    for life in list(_all):
        life.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
