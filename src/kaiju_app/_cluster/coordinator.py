"""The coordinator of an instance: it claims what is due, renews what it owns, and finishes what is over.

1. The duties run one after the other, each with one call at a time, so no answer is about a state that a later call
   has changed.
2. A lease counts from before its call was sent, on a clock that goes on while the machine sleeps. If anybody is late
   it is this instance and not the others.
3. A claim that the store knows and this instance does not is one whose answer was lost. It is handed back, and its
   fence is remembered until the store has answered: if the answer arrives late, nothing starts.
4. A run starts in one step of the loop, right after the last look at its deadline, its holds, and the store's clock.
5. No lease of another instance is removed while the store's clock is in doubt.
6. Every change is sent until it is accepted or refused. Sending it twice does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from kaiju_app._core.clock import NEVER
from kaiju_app.stores._base import Store
from kaiju_app.stores._record import TaskRecord

from .claim import Owned, OwnedHold
from .claims import Claims
from .endings import Endings
from .failure_pauses import FailurePauses
from .heartbeat import Heartbeat
from .holds import Holds
from .leases import Leases
from .neighbours import Neighbours
from .notes import Notes
from .outbox import Outbox
from .ports import Host, Registry
from .pruner import Pruner
from .registration import Registration
from .starter import Starter
from .store_client import RecordLost, StoreClient
from .successes import Successes
from .takeover import Takeover
from .timing import LeaseTiming

T = TypeVar("T")


class Duty(Protocol):
    """One thing that an instance does again and again."""

    @property
    def next_at(self) -> int:
        """Steady time at which there is something to do; NEVER if there is nothing."""

    async def run(self) -> None:
        """Do it."""


class Coordinator:
    """One instance's part in what several instances agree on.

    Its parts are handed to each other in the constructor. All share ``own``, the claims and holds of this instance;
    otherwise they change each other only by these calls:

    * ``outbox.put()``, ``put_return()`` and ``hand_back()`` from starter, holds, endings and leases: have the store
      changed.
    * ``starter.give_back()`` from claims, endings and leases: a claim will not start.
    * ``claims.on_finished()`` and ``claim_by()`` from endings: a tick is due earlier than the next poll.
    * ``holds.pause()`` from failures; ``lose()``, ``place_again()`` and ``end_unknown()`` from leases: what the answer
      to a renewal says about holds.
    * ``endings.hurry()`` from leases: somebody waits for a run that is over.
    * ``registration.restore()`` from claims and leases: the store has lost a record. ``seen_at`` from claims.
    * ``takeover.observe()`` from claims: leases have expired.
    * Against this order, assigned at the end of the constructor: the client restarts the starter's timers, claims have
      a new deadline watched, takeover has freed tasks and those of dead instances claimed.

    Args:
        me: Identity of the instance: random, and a new one after a fork.
        host: Runs the tasks.
        registry: Knows what this instance registers of them, and what the store has.
        steady: Microseconds on a clock that never steps and that goes on while the machine sleeps.
        neighbours: What the instance reports about itself, and what it makes of the others.
        notes: What has happened to the instance.
    """

    def __init__(
        self,
        store: Store,
        me: str,
        host: Host,
        registry: Registry,
        timing: LeaseTiming,
        steady: Callable[[], int],
        neighbours: Neighbours,
        notes: Notes,
    ) -> None:
        self._woken = asyncio.Event()
        self._host = host
        self.own = own = Owned()
        self.client = client = StoreClient(store, me, timing, steady)
        self.outbox = outbox = Outbox(client, self._wake)
        self.heartbeat = Heartbeat(client, neighbours, notes)
        self.registration = Registration(client, registry, own, self._wake)
        self.holds = Holds(client, outbox, own, host)
        takeover = Takeover(client)
        self.starter = starter = Starter(client, outbox, own, host)
        self.claims = Claims(
            client, outbox, own, host, self.heartbeat, takeover, self.registration, starter, self._wake
        )
        self.endings = Endings(client, outbox, own, host, self.claims, starter, self._wake)
        self.failures = FailurePauses(client, self.holds, registry)
        self.successes = Successes(client, self._wake)
        self.leases = Leases(client, outbox, own, host, self.registration, starter, self.holds, self.endings)
        # In the order in which they run, see rule 1. What is owned comes before what is wanted.
        self._last_duties: tuple[Duty, ...] = (self.leases, outbox, self.failures, self.endings)
        self._duties: tuple[Duty, ...] = (
            *self._last_duties, self.heartbeat, self.registration, Pruner(client), takeover, self.claims,
            self.successes,
        )  # fmt: skip
        # Calls against the order of the constructors, all of them:
        client.on_clock_moved = starter.restart_timers
        self.claims.on_accepted = self.leases.watch
        takeover.on_freed = self.claims.poll_now
        takeover.on_death = self.claims.poll_for_all

    # --- life ---

    async def run(self) -> None:
        """Do all duties until ``close()`` was called and the store has been told everything.

        However this ends, what has a lease is cancelled in time.
        """
        listener = asyncio.ensure_future(self.client.listen(self.claims.on_hint))
        try:
            while not self._is_done():
                self._woken.clear()
                await self._round()
                if not self._is_done():
                    await self._rest()
            await self.heartbeat.deregister()
        except (Exception, asyncio.CancelledError):  # Not GeneratorExit, after which nothing can be awaited.
            await _end(listener)
            raise
        await _end(listener)

    def close(self) -> None:
        """Claim nothing more, and give back what has not started; ``run()`` ends when the runs are over."""
        self.own.closing = True
        self.client.retry_at = 0
        for claim in list(self.own.unstarted):
            self.starter.give_back(claim)
        self.endings.hurry()
        self._wake()

    def reopen(self) -> None:
        """Claim again, after ``close()`` and the end of ``run()``."""
        self.own.closing = False

    def _is_done(self) -> bool:
        return self.own.closing and not (self.pending or self.own.claims or self.own.holds)

    async def _round(self) -> None:
        self.leases.check_deadlines()
        for duty in self._duties:
            if self.own.closing and duty not in self._last_duties:
                return
            if self.client.may_call() and self.client.steady() >= duty.next_at:
                await duty.run()

    async def _rest(self) -> None:
        """Wait until a duty has something to do, or until somebody calls ``_wake()``."""
        duties = self._last_duties if self.own.closing else self._duties
        next_at = max(self.client.retry_at, min(duty.next_at for duty in duties))
        now = self.client.steady()
        if next_at > now:
            with suppress(TimeoutError):
                async with asyncio.timeout((next_at - now) / 1e6):
                    await self._woken.wait()
            self._host.on_late(self.client.steady() - next_at, now)

    def _wake(self) -> None:
        self._woken.set()

    # --- what the store has to be told ---

    @property
    def pending(self) -> int:
        """How many changes and endings the store has not acknowledged yet."""
        return len(self.outbox.pending) + len(self.endings.pending)

    async def drain(self, timeout_s: float) -> None:
        """Wait until the store has acknowledged everything, but not for longer than *timeout_s*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.pending:
                    self.outbox.sent.clear()
                    await self.outbox.sent.wait()

    def forget_closed_loop(self) -> None:
        """Drop those who wait for something: their loop is closed."""
        self._woken, self.outbox.sent = asyncio.Event(), asyncio.Event()
        self.client.forget_closed_loop()

    # --- tasks ---

    def register(self, name: str) -> None:
        """Register a task in the store, and claim it from now on."""
        self.registration.register(name)
        self.claims.admit(name)

    async def hold(self, names: Sequence[str], holder: str, reason: str | None) -> list[tuple[OwnedHold, TaskRecord]]:
        """Keep tasks from being claimed by any instance; return their records, which tell of runs in progress.

        Raises:
            StoreUnavailable: Nobody knows whether the holds stand; they are taken back.
        """
        await self.registration.known(names)
        await self.heartbeat.ensure()  # The death of an instance that the store does not know is never noticed.
        await self.starter.give_back_unstarted(names)
        held = await self.with_records(names, lambda: self.holds.place(names, holder, reason))
        self.leases.watch(min((each.deadline for each, _ in held), default=NEVER))
        return held

    async def resume(self, name: str) -> TaskRecord:
        """End the pause of a task; return its record.

        Raises:
            StoreUnavailable: Nobody knows whether it is paused.
        """
        return await self.with_records([name], lambda: self.holds.resume(name))

    async def with_records(self, names: Sequence[str], ask: Callable[[], Awaitable[T]]) -> T:
        """Return what *ask* returns; if the store has lost records of these tasks, put them back and ask again."""
        try:
            return await ask()
        except RecordLost:
            self.registration.restore(names)
            await self.registration.known(names)
            return await ask()

    async def pause(self, name: str, holder: str, reason: str | None, length: int | None) -> TaskRecord:
        """Hold a task for *length* microseconds, or until ``resume()`` if that is None; return its record.

        Raises:
            StoreUnavailable: Nobody knows whether it is paused.
        """
        await self.starter.give_back_unstarted([name])
        record = await self.with_records([name], lambda: self.holds.pause(name, holder, reason, length))
        if length is not None:
            self.claims.on_pause(length)
        return record


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
