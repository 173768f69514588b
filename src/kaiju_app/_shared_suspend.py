"""Suspensions of shared tasks: held in the store, so that no instance runs them, and quiet everywhere when entered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType

from ._claims import OwnHold
from ._clock import utc
from ._driver import Driver
from ._entry import Hold
from ._events import log
from ._membership import Membership
from ._run import current_caller
from ._shared import Shared
from ._sharing import Sharing
from ._suspend import LONG_WAIT_S, Suspension
from .errors import StoreUnavailable, SuspendLost
from .stores._record import Record
from .stores._transitions import scheduler_of


class SharedSuspension(Suspension):
    """A suspension that holds on every instance.

    Entering it waits until no instance has a run of the task. Inside, its holds are renewed; if that fails for as long
    as a lease lasts, whoever is inside is cancelled, and SuspendLost is raised in place of the cancellation.
    """

    def __init__(self, driver: Driver, sharing: Sharing, entry: Shared | None, reason: str | None) -> None:
        super().__init__(driver, entry, reason)
        self._sharing = sharing
        self._stays: list[_Stay] = []

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, exc, traceback)
        task = asyncio.current_task()
        # Fixtures and the like come in by one task and out by another.
        mine = [stay for stay in self._stays if stay.task is task] or self._stays
        if mine:
            stay = mine[-1]
            self._stays.remove(stay)
            stay.end(exc)

    async def _quiet(self, hold: Hold) -> None:
        """Hold in the store, and wait until it is quiet here and elsewhere.

        Raises:
            StoreUnavailable: It is not known whether it holds; it is taken back.
            SuspendLost: The holds could not be renewed meanwhile.
        """
        if self._entry is None and not self._sharing.entries and self._sharing.life is None:
            await super()._quiet(hold)
            return
        stay = _Stay(self._sharing.member, hold)
        try:
            names = list(self._sharing.entries) if self._entry is None else [self._entry.name]
            records = await stay.hold_all(names)
            await super()._quiet(hold)
            await _quiet_elsewhere(stay, records)
            if self._entry is None:
                while names := [name for name in self._sharing.entries if name not in stay.names]:  # They are new.
                    await _quiet_elsewhere(stay, await stay.hold_all(names))
                self._sharing.wanted[stay] = stay.hold_too
        except BaseException as exc:
            stay.end(exc)
            raise
        self._stays.append(stay)


class _Stay:
    """One entry into a suspension: whoever is inside, and what is held for them in the store."""

    def __init__(self, life: Membership, hold: Hold) -> None:
        self.life = life
        self.hold = hold
        self.names: set[str] = set()
        self.task = asyncio.current_task()
        self._cancels = 0 if self.task is None else self.task.cancelling()
        self._held: list[tuple[Membership, OwnHold]] = []
        self._lost: OwnHold | None = None
        self._over = False
        self._later: set[asyncio.Task[None]] = set()

    async def hold_all(self, names: list[str], life: Membership | None = None) -> list[Record]:
        """Hold tasks; return their records, which tell of runs in progress."""
        life = life or self.life
        self.names.update(names)
        records = []
        for held, record in await life.coordinator.hold(names, self.hold.holder, self.hold.reason):
            records.append(record)
            life.heard(record)
            if self._over:
                life.unhold(held)
                continue
            self._held.append((life, held))
            life.holders[held] = lambda held=held: self._on_lost(held)  # type: ignore[misc]
        return records

    def hold_too(self, name: str, life: Membership) -> None:
        """Hold a task that is registered while all tasks are suspended; maybe in a later life of the scheduler."""
        if name not in self.names:
            task = asyncio.ensure_future(self._hold_too(name, life))
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def _hold_too(self, name: str, life: Membership) -> None:
        try:
            await self.hold_all([name], life)
        except StoreUnavailable as exc:
            log.warning("task %r was registered while %s, and other instances may run it: %s", name, self.hold, exc)

    def end(self, exc: BaseException | None) -> None:
        """Let go of everything.

        Raises:
            SuspendLost: A hold was lost; in place of *exc*, if that is the cancellation that was to tell it.
        """
        self._over = True
        self.life.wanted.pop(self, None)
        for life, held in self._held:
            life.unhold(held)
        if self._lost is None:
            return
        is_ours = (
            self.task is not None
            and self.task is asyncio.current_task()
            and self.task.uncancel() <= self._cancels
            and isinstance(exc, asyncio.CancelledError)
        )
        if exc is None or is_ours:
            raise SuspendLost(self._lost.name, str(self.hold)) from exc

    def _on_lost(self, held: OwnHold) -> None:
        if self._lost is None and not self._over:
            self._lost = held
            if self.task is None or self.task.done():
                log.error(
                    "%s: its hold of task %r could not be renewed, and others may run it from now on; whoever is "
                    "inside is not told before its end, as the asyncio task that entered it is over",
                    self.hold, held.name,
                )  # fmt: skip
            else:
                self.task.cancel()


async def _quiet_elsewhere(stay: _Stay, records: Iterable[Record]) -> None:
    """Wait until no instance has the runs in *records*, but for the one that the caller is inside of."""
    coordinator = stay.life.coordinator
    mine = current_caller()
    own = None if mine is None or mine.claim is None else mine.claim.key
    running = {(each.name, each.fence): each for each in records if each.holder and (each.name, each.fence) != own}
    loop = asyncio.get_running_loop()
    told = loop.time()
    while running:
        try:
            known = await coordinator.still_running(running)
        except StoreUnavailable:
            pass  # The holds stand, or whoever waits here is cancelled before they do not.
        else:
            running = {key: record for key, record in running.items() if key in known}
        if running:
            await coordinator.news()
            if loop.time() - told >= LONG_WAIT_S:
                told = loop.time()
                _complain(stay, running.values())


def _complain(stay: _Stay, records: Iterable[Record]) -> None:
    waited = (stay.life.driver.now() - stay.hold.since) / 1e6
    for record in records:
        log.warning(
            "%s has waited %.3g s for the run of task %r, tick %s, on instance %s",
            stay.hold, waited, record.name, utc(record.tick).isoformat(), scheduler_of(record.holder or ""),
        )  # fmt: skip
