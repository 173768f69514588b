"""DO, with others: the claims of an instance, from the answer that brings one to the answer to its ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from ._asking import Key, simply
from ._belonging import Belonging, Registry
from ._claims import Claim, State
from ._events import log
from ._timing import LeaseTiming
from .errors import StoreUnavailable
from .stores._record import Record, Row
from .stores._store import Ending, Store, ahead_of, claim_at
from .stores._transitions import Refusal, hand_back, release

LINGER = 50_000  # Endings wait so long for company; half the statements, above some twenty runs a second.
SKIPPED_FOR = 60_000_000  # A task that is not known here may be registered later.


class Host(Registry, Protocol):
    """What a coordinator needs of its instance."""

    def knows(self, record: Record) -> bool:
        """Return whether the task may run here at all, by the rule that it has."""

    def may_start(self, record: Record) -> bool:
        """Return whether nothing here keeps the task from running at this moment."""

    def is_punctual(self, name: str) -> bool:
        """Return whether the task is not to be claimed before its tick."""

    def start(self, claim: Claim) -> None:
        """Begin the run, now. Later, ``ended()`` or ``released()`` has to be called, once its body is really over."""

    def lose(self, claim: Claim) -> None:
        """Cut the run, whose lease is over: from now on somebody else may run it."""

    def regain(self, claim: Claim) -> None:
        """Learn that the lease was renewed after all, and nobody else has run it."""

    def follow(self, claim: Claim, record: Record) -> Ending | None:
        """Return the ending of a run again, by the rule that the *record* has meanwhile; None: it has not begun."""

    def settled(self, claim: Claim, ending: Ending) -> None:
        """Learn that the store has answered to the *ending* of a run."""


class Claiming(Belonging):
    """What one instance has claimed."""

    def __init__(
        self, store: Store, me: str, host: Host, timing: LeaseTiming, steady: Callable[[], int], info: str
    ) -> None:
        super().__init__(store, me, host, timing, steady, info)
        self._host = host
        self.claims: dict[str, Claim] = {}
        self.extras: set[str] = set()
        """Tasks whose extra run is claimed here, whatever else is due: nobody else may want it."""
        self._outbox: dict[Key, Ending] = {}
        self._skip: dict[str, int] = {}
        self._pauses: set[int] = set()
        """When those end that were made here: then there is something to claim again."""
        self._punctual: set[str] = set()
        self._claim_at = self._send_at = 0
        self._closing = False

    @property
    def untold(self) -> int:
        """How many things the store has not been told yet."""
        return super().untold + len(self._outbox)

    @property
    def is_needed(self) -> bool:
        """Whether runs or suspensions go on that have to be spoken for."""
        return bool(self.holds) or any(claim.state is State.STARTED for claim in self.claims.values())

    # --- claims ---

    def register(self, name: str) -> None:
        """Say of a task that it is known here, and claim it from now on."""
        super().register(name)
        self._skip.pop(name, None)
        (self._punctual.add if self._host.is_punctual(name) else self._punctual.discard)(name)

    def reconsider(self, name: str, *, give_up: bool) -> None:
        """Claim a task again, though it could not run here before; or give it up, and what was claimed of it."""
        self._skip.pop(name, None)
        claim = self.claims.get(name)
        if give_up and claim is not None and claim.state is State.CLAIMED:
            self._give_back(claim)
        self.look()

    async def pause(self, name: str, holder: str, reason: str | None, length: int | None) -> Record:
        """Hold a task for *length* microseconds, or until ``resume()``; return its record.

        Raises:
            StoreUnavailable: It is not known whether it is paused.
        """
        record = await super().pause(name, holder, reason, length)
        if length is not None:
            end = self._steady() + length + 1_000
            self._pauses.add(end)
            self._claim_by(end)
            self._wake.set()
        return record

    def look(self) -> None:
        """Ask for what is due without waiting for the next poll."""
        self._claim_by(0)
        self._wake.set()

    def _claim_by(self, steady: int) -> None:
        self._claim_at = min(self._claim_at, steady)

    def _take(self, record: Record, sent: int) -> None:
        """Keep a claim until its tick, or give it back where it cannot run."""
        claim = Claim(record, sent + self.ttl, self._store)
        if not self._host.knows(record):
            self._skip[record.name] = self._steady() + SKIPPED_FOR
        elif (
            not self._closing
            and claim.key not in self._poison
            and record.name not in self.claims  # A body that has lost its lease and is not over yet.
            and self._host.may_start(record)
            and not any(held.name == record.name for held in self.holds.values())
            and self._steady() < claim.deadline - self.every
        ):
            self._host.heard(record)
            self.claims[record.name] = claim
            self._watch_deadlines()
            self._arm(claim)
            return
        else:
            self._skip[record.name] = self._steady() + self.poll  # Not again at once: it would be so for ever.
        self._give_back(claim)

    def _arm(self, claim: Claim) -> None:
        """Start the run of *claim* when the store's clock surely shows that its tick is due."""
        if claim.state is not State.CLAIMED:
            return
        claim.stop_timer()
        now = self._steady()
        due = self.clock.when(claim.record.tick_due, now)
        loop = asyncio.get_running_loop()
        if due is not None and due <= now:
            claim.timer = loop.call_soon(self._start, claim)
        elif due is not None and due - now <= 2 * self.ahead + 1_000_000:
            claim.timer = loop.call_later((due - now) / 1e6, self._start, claim)
        else:
            self._give_back(claim)  # The clock was set back: others may know better.

    def _on_answer(self) -> None:
        for claim in list(self.claims.values()):
            self._arm(claim)

    def _start(self, claim: Claim) -> None:
        if claim.state is not State.CLAIMED:
            return
        now = self._steady()
        shown = self.clock.at_least(now)
        may = not claim.held and self._host.may_start(claim.record)
        if now >= claim.deadline - self.every or not may:
            self._give_back(claim)
        elif shown is None or shown < claim.record.tick_due:
            self._arm(claim)
        else:
            claim.state = State.STARTED
            claim.stop_timer()
            self._host.start(claim)

    def _give_back(self, claim: Claim) -> None:
        """Return a claim whose run has not begun, and never will."""
        claim.state = State.RETURNED
        claim.stop_timer()
        if self.claims.get(claim.name) is claim:
            del self.claims[claim.name]
        self._hand_back(claim.key)

    def _hand_back(self, key: Key) -> None:
        self._poison.add(key)
        self._say(key, simply(lambda old, now: hand_back(old, now, self.me, key[1])))

    async def _let_go(self, names: Sequence[str]) -> None:
        returned = [claim for name in names if (claim := self.claims.get(name)) and claim.state is State.CLAIMED]
        for claim in returned:
            self._give_back(claim)
        try:
            async with asyncio.timeout(2 * self.every / 1e6):
                for claim in returned:
                    await self._until_sent(claim.key)
        except TimeoutError:
            what = f"it did not answer when claims of {names[0]!r} were to be given back"
            raise StoreUnavailable(self._store.name, what) from None

    # --- endings ---

    def ended(self, claim: Claim, ending: Ending) -> None:
        """Learn that the run of *claim* is over, and how its tick ends."""
        claim.state = State.ENDING
        if not self._outbox:
            self._send_at = self._steady() + LINGER
        self._outbox[claim.key] = ending
        if claim.held:
            self._send_at = 0
        self._wake.set()

    def released(self, claim: Claim, rows: Sequence[Row]) -> None:
        """Learn that the run of *claim* is over, and its tick is not: somebody has to run it again."""
        claim.state = State.RETURNED
        if self.claims.get(claim.name) is claim:
            del self.claims[claim.name]

        def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
            new = None if old is None else release(old, now, self.me, claim.fence)
            return None if new is None else (new, rows)

        self._poison.add(claim.key)
        self._say(claim.key, transition)

    async def _send_endings(self) -> None:
        endings = sorted(self._outbox.values(), key=lambda each: each.name)
        answered = await self._ask(self._store.finish(self.me, endings))
        if answered is None:
            return
        for ending, refusal in zip(endings, answered[0], strict=True):
            claim = self.claims.get(ending.name)
            if refusal is Refusal.BUSY:
                continue
            if refusal is Refusal.CHANGED and claim is not None:
                await self._follow(claim)
                continue
            if refusal is Refusal.LOST:
                log.warning(
                    "task %r: its run with fence %d is over and does not count: its lease was lost meanwhile, and "
                    "another instance runs the tick or did", ending.name, ending.fence,
                )  # fmt: skip
            del self._outbox[ending.name, ending.fence]
            if claim is not None and claim.fence == ending.fence:
                del self.claims[ending.name]
                self._host.settled(claim, ending)
            self._expect(ending)
        self._sent.set()
        self._send_at = self._steady() + LINGER

    def _expect(self, ending: Ending) -> None:
        """Claim in time what follows a run that is over."""
        coming = ending.following
        ahead = ahead_of(ending.name, self.ahead, self._punctual)
        due = 0 if coming is None else claim_at(ending.name, coming.due, ahead, self._share)
        self._claim_by(self.clock.when(due, self._steady()) or 0)

    async def _follow(self, claim: Claim) -> None:
        """Find out again what follows, by the rule that another instance has given the task meanwhile."""
        answered = await self._ask(self._store.scan([claim.name]))
        if answered is None or not answered[0].records:
            return
        ending = self._host.follow(claim, answered[0].records[0])
        if ending is not None:
            self._outbox[claim.key] = ending
        else:  # Whether its tick was to be skipped is for the new rule to say, and whoever claims it next.
            del self._outbox[claim.key]
            self._give_back(claim)
            self._claim_by(0)
