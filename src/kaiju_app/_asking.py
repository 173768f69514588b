"""DO, with others: questions to a store, one by one, and what has to be said to it until it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import TypeVar
from zlib import crc32

from ._events import log
from ._store_clock import StoreClock
from ._timing import LeaseTiming
from .errors import KaijuError, StoreUnavailable
from .stores._record import Record, Row
from .stores._store import Changed, Store, Transition
from .stores._transitions import ask

T = TypeVar("T")

Key = tuple[str, int]  # Name and fence of a claim: fences are compared within a task, and may be equal in two.

FIRST_RETRY, LAST_RETRY = 200_000, 5_000_000
ASKED_ALWAYS = ("claim", "renew", "finish", "beat")  # Again until answered. Other failures are over at the next beat.
HANDFUL = 500  # Tasks in one question: leases have to be renewed in between.
LOCKED = 500_000  # A record that somebody has locked is tried again after that time, and holds up no other.
NOTABLE = 1_000  # What waits for the clock of the store is looked at again if that is so much off.
LOOK_S = 0.5  # Who waits for others looks so often, whether the store hints at a change or not.


class Asking:
    """What an instance knows of its store, and has to tell it.

    Args:
        me: Identity of the instance: random, and another one after a fork.
        steady: Microseconds on a clock that never steps and counts the machine's sleep.
    """

    def __init__(self, store: Store, me: str, timing: LeaseTiming, steady: Callable[[], int]) -> None:
        self._store = store
        self._steady = steady
        self.me = me
        self.ttl, self.every, self.grace, self.poll, self.ahead = (
            round(each * 1e6) for each in (timing.ttl_s, timing.renew_s, timing.grace_s, timing.poll_s, timing.ahead_s)
        )
        self.clock = StoreClock(self.ttl + self.grace)
        self.degraded_since: int | None = None
        self._returns: dict[Key, Transition] = {}
        self._poison: set[Key] = set()
        self._failing: set[str] = set()
        """What it did not answer when it was last asked: it may read, and not write."""
        self._failures = 0
        self._retry_at = self._send_back_at = 0
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._news = asyncio.Event()

    async def _ask(self, question: Awaitable[T]) -> tuple[T, int] | None:
        """Return the answer and when the question was sent; None: nobody knows what became of it."""
        sent = self._steady()
        kind = getattr(question, "__name__", "")
        try:
            async with asyncio.timeout(self.every / 1e6):
                answer = await question
        except Exception as exc:  # An engine that has a bug is no better than one that is away, and no reason to end.
            if not isinstance(exc, KaijuError | TimeoutError):
                log.exception("store %s: a bug in its %s()", self._store.name, kind)
            self._failing.add(kind if kind in ASKED_ALWAYS else "beat")
            self._on_failure(exc)
            return None
        self._failing.discard(kind)
        now = getattr(answer, "now", None)
        if now is not None:
            received = self._steady()
            before = self.clock.at_least(received)
            self.clock.heard(sent, received, now)
            shown = self.clock.at_least(received)
            if before is None or shown is None or abs(shown - before) > NOTABLE:
                self._on_answer()
        if self.degraded_since is not None and not self._failing:
            away = max(0, self._steady() - self.degraded_since)
            log.warning("store %s: answers again after %.3g s", self._store.name, away / 1e6)
            self._failures, self.degraded_since, self._retry_at = 0, None, 0
        return answer, sent

    async def _must(self, question: Awaitable[T], what: str) -> T:
        """Return the answer.

        Raises:
            StoreUnavailable: There is none.
        """
        answered = await self._ask(question)
        if answered is None:
            raise StoreUnavailable(self._store.name, f"it did not answer {what}")
        return answered[0]

    async def record(self, name: str) -> Record:
        """Return what the store has of a task.

        Raises:
            StoreUnavailable: It did not answer, or has nothing.
        """
        seen = await self._must(self._store.scan([name]), f"what it has of task {name!r}")
        if not seen.records:
            raise StoreUnavailable(self._store.name, f"it has no record of task {name!r}")
        return seen.records[0]

    async def history(self, name: str, limit: int) -> list[Row]:
        """Return the last rows of a task, newest last.

        Raises:
            StoreUnavailable: It did not answer.
        """
        return await self._must(self._store.history(name, limit), f"what became of task {name!r}")

    async def still_running(self, keys: Collection[Key]) -> set[Key]:
        """Return those claims that the store still knows.

        Raises:
            StoreUnavailable: It did not answer.
        """
        seen = await self._must(self._store.scan({name for name, _ in keys}), "whether runs are over")
        return {(each.name, each.fence) for each in seen.records if each.holder is not None}.intersection(keys)

    async def ask(self, name: str) -> Changed:
        """Have one extra run of a task; refused while it runs, is held, or has been asked for already.

        Raises:
            StoreUnavailable: It is not known whether there will be one.
        """
        changed = await self._change(name, simply(ask))
        if changed is None:
            raise StoreUnavailable(self._store.name, f"it did not answer when task {name!r} was to run now")
        return changed

    async def _change(self, name: str, transition: Transition) -> Changed | None:
        """Return what became of *transition*; None: nobody knows, or somebody has locked the record."""
        answered = await self._ask(self._store.change_each({name: transition}))
        return None if answered is None else answered[0].get(name)

    async def news(self) -> None:
        """Return when something may have changed in the store, after half a second at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()

    @property
    def untold(self) -> int:
        """How many things the store has not been told yet."""
        return len(self._returns)

    def fell_ill(self) -> None:
        """Show that what is shared cannot be relied on, until the store answers again."""
        if self.degraded_since is None:
            self.degraded_since = self._steady()

    def bury(self) -> None:
        """Forget who waits for something: their loop is closed."""
        self._wake, self._sent, self._news = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def until_told(self, timeout_s: float) -> None:
        """Wait until the store has been told everything, but not for longer than *timeout_s*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.untold:
                    self._sent.clear()
                    await self._sent.wait()

    def _on_failure(self, exc: Exception) -> None:
        now = self._steady()
        if self.degraded_since is None:
            self.degraded_since = now
            log.warning(
                "store %s: does not answer (%s); tasks that are shared with other instances do not start, and those "
                "that run are cut when their lease is over; it is asked again",
                self._store.name, str(exc) or type(exc).__name__,
            )  # fmt: skip
        pause = min(LAST_RETRY, FIRST_RETRY << min(self._failures, 5))
        # Who reconnects after a restart comes one after the other.
        spread = crc32(f"{self.me} {self._failures}".encode()) % 1_000
        self._failures += 1
        self._retry_at = now + pause // 2 + pause * spread // 2_000

    def _on_answer(self) -> None:
        """Look again at what waits for the clock of the store."""
        raise NotImplementedError

    def _say(self, key: Key, transition: Transition) -> None:
        """Have *transition* applied, again and again until the store has answered; *key* tells what it is about."""
        self._returns[key] = transition
        self._send_back_at = 0
        self._wake.set()

    async def _send_back(self) -> None:
        while self._returns and self._steady() >= self._send_back_at:
            first: dict[str, Key] = {}  # Of each task: what is said of one is said in its order.
            for key in self._returns:
                if len(first) < HANDFUL:
                    first.setdefault(key[0], key)
            transitions = {name: self._returns[key] for name, key in first.items()}
            answered = await self._ask(self._store.change_each(transitions))
            if answered is None:
                return
            for name in answered[0]:
                del self._returns[first[name]]
                self._poison.discard(first[name])
            if len(answered[0]) < len(first):
                self._send_back_at = self._steady() + LOCKED
            self._sent.set()

    async def _until_sent(self, key: Key) -> None:
        """Wait until what was to be said about *key* has been heard."""
        while key in self._returns:
            self._sent.clear()
            await self._sent.wait()


def simply(change: Callable[[Record, int], Record | None]) -> Transition:
    """Return a transition without rows, of a record that exists."""

    def transition(old: Record | None, now: int) -> tuple[Record, Sequence[Row]] | None:
        new = None if old is None else change(old, now)
        return None if new is None else (new, ())

    return transition
