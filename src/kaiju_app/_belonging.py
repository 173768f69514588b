"""DO, with others: what an instance says of itself and its tasks, and what it clears away for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Protocol
from zlib import crc32

from ._asking import HANDFUL
from ._claims import OwnHold
from ._events import log
from ._holding import Holding
from ._timing import LATE, LeaseTiming
from .errors import StoreUnavailable
from .stores._record import Record, Row
from .stores._store import Changed, Instance, Seen, Share, Store, Transition
from .stores._transitions import Definition, forget, put

HOUR = 3_600_000_000
FIRST_CLEARING = 300_000_000  # Not while everything else starts.
UNSEEN_FOR = 7 * 24 * HOUR
ROWS_KEPT = 100
ROWS_AGE = 30 * 24 * HOUR


Define = Callable[[Record | None, int], Definition]
"""From the record of a task, if there is one, and the store's time to what an instance says of the task."""


class Registry(Protocol):
    """Who knows the tasks."""

    def definer(self, name: str) -> Define | None:
        """Return what tells what this instance says of a task; None if it is gone.

        What is returned may be called in any thread.
        """

    def registered(self, name: str, changed: Changed) -> None:
        """Learn that the store has heard of a task for the first time from this instance, and what it had."""

    def doubtful(self) -> list[str]:
        """Return the tasks of which it was last heard that others run or hold them: that may be over."""

    def heard(self, record: Record) -> None:
        """Learn what the store has of a task."""

    def unheld(self, held: OwnHold) -> None:
        """Learn that a hold is lost: from now on the task may run."""


class Belonging(Holding):
    """One instance as a member of those that share a store."""

    def __init__(
        self,
        store: Store,
        me: str,
        registry: Registry,
        timing: LeaseTiming,
        steady: Callable[[], int],
        info: str,
    ) -> None:
        super().__init__(store, me, timing, steady)
        self._registry = registry
        self._info = info
        self._names: dict[str, None] = {}
        self._to_say: dict[str, bool] = {}
        """By name, whether that has been said before."""
        self._said = asyncio.Event()
        self._tidying: asyncio.Future[None] | None = None
        self._share: Share | None = None
        self._beat_at = 0
        self._say_again_at = steady() + HOUR
        self._clear_at = steady() + FIRST_CLEARING + crc32(me.encode()) % FIRST_CLEARING

    def register(self, name: str) -> None:
        """Say of a task that it is known here, and what its rule is."""
        self._names[name] = None
        self._to_say[name] = False
        self._wake.set()

    def forget(self, name: str) -> None:
        """Say no more that a task is known here."""
        self._names.pop(name, None)
        self._to_say.pop(name, None)

    async def known(self, names: Sequence[str]) -> None:
        """Wait until the store has been told of tasks, if it has not.

        Raises:
            StoreUnavailable: That takes longer than an answer may.
        """
        try:
            async with asyncio.timeout(self.every / 1e6):
                while any(name in self._to_say for name in names):
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError:
            raise StoreUnavailable(self._store.name, "it could not be told in time of a task that is new") from None

    async def hold(self, names: Sequence[str], holder: str, reason: str | None) -> list[tuple[OwnHold, Record]]:
        """Hold tasks that the store knows, as an instance that it knows: who dies with a hold has to be missed."""
        await self.known(names)
        if not self._beat_at:
            await self._beat()
        return await super().hold(names, holder, reason)

    async def everything(self) -> tuple[Seen, list[Instance]]:
        """Return what the store has of all tasks, and the instances that it has heard of lately.

        Raises:
            StoreUnavailable: It did not answer.
        """
        instances = await self._must(self._store.beat(self.me, self._info, 3 * self.poll), "who is there")
        return await self._must(self._store.scan(), "what it has"), instances

    async def _belong(self) -> None:
        """Say what there is to say, if it is time for it."""
        now = self._steady()
        if now >= self._beat_at:
            await self._beat()
            await self._look_again()
        if now >= self._say_again_at:  # The store deletes what nobody has known for long.
            self._say_again_at = now + HOUR
            self._to_say = dict.fromkeys(self._names, True) | self._to_say
        if self._to_say:
            await self._say_names()
        if now >= self._clear_at:
            self._clear_at = now + HOUR
            await self._clear_away()

    def _belongs_until(self) -> int:
        """Return when there is something to say again."""
        return self._steady() if self._to_say else min(self._beat_at, self._say_again_at, self._clear_at)

    async def _beat(self) -> None:
        self._beat_at = self._steady() + self.poll
        answered = await self._ask(self._store.beat(self.me, self._info, 3 * self.poll))
        if answered is not None:
            ids = [instance.id for instance in answered[0]]
            rank = ids.index(self.me) if self.me in ids else None
            patience = round(self.poll * (LATE - 0.5))
            self._share = None if rank is None or len(ids) < 2 else Share(len(ids), rank, patience)

    async def _leave(self) -> None:
        """Let nobody leave anything to this instance any more."""
        if self.degraded_since is None:
            await self._ask(answered(self._store.leave(self.me)))

    async def _look_again(self) -> None:
        """Look at the tasks of which it was last heard that others have them."""
        names = self._registry.doubtful()
        answered = await self._ask(self._store.scan(names)) if names else None
        for record in answered[0].records if answered else ():
            self._registry.heard(record)

    async def _say_names(self) -> None:
        transitions: dict[str, Transition] = {}
        saying = dict(islice(self._to_say.items(), HANDFUL))
        for name, again in saying.items():
            define = self._registry.definer(name)
            if define is None:
                self.forget(name)
            else:
                transitions[name] = _putting(define, again)
        answered = await self._ask(self._store.change_each(transitions))
        if answered is None:
            return
        for name, changed in answered[0].items():
            self._to_say.pop(name, None)
            record = changed.new or changed.old
            if not saying[name]:
                self._registry.registered(name, changed)
            elif record is not None:
                self._registry.heard(record)
        self._said.set()

    async def _clear_away(self) -> None:
        """Delete what nobody needs any more."""
        seen = await self._ask(self._store.scan())
        for record in seen[0].records if seen else ():
            if seen and forget(record, seen[0].now, UNSEEN_FOR):
                gone = await self._change(record.name, _forgetting)
                if gone is not None and gone.done:
                    log.info(
                        "task %r: no instance has known it for %d days; its record is deleted, its history is kept",
                        record.name, UNSEEN_FOR // (24 * HOUR),
                    )  # fmt: skip
        self._tidying = asyncio.ensure_future(self._tidy())  # Leases are renewed meanwhile.

    async def _tidy(self) -> None:
        try:
            await self._store.tidy(keep=ROWS_KEPT, age=ROWS_AGE)
        except StoreUnavailable as exc:
            log.info("old rows of the ledger are deleted an hour later: %s", exc)

    def _on_lost_hold(self, held: OwnHold) -> None:
        self._registry.unheld(held)


def _putting(define: Define, again: bool) -> Transition:
    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = put(old, now, define(old, now), again=again)
        return None if new is None else (new, ())

    return transition


def _forgetting(old: Record | None, now: int) -> tuple[None, Sequence[Row]] | None:
    return (None, ()) if old is not None and forget(old, now, UNSEEN_FOR) else None


async def answered(question: Awaitable[None]) -> bool:
    """Return True when *question* is answered, whose answer says nothing."""
    await question
    return True
