"""The calls of one instance to its store: one timeout, one back-off, one opinion on whether the store is available."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Literal, TypeVar
from zlib import crc32

from kaiju_app._core.ledger_query import LedgerQuery
from kaiju_app._core.text import describe_exception
from kaiju_app._engine.events import log
from kaiju_app.errors import KaijuError, StoreRefused, StoreUnavailable
from kaiju_app.stores._answers import ChangeResult, LedgerPage, Snapshot
from kaiju_app.stores._base import Store
from kaiju_app.stores._cas import Transition, simply
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._recovery import RESTORED
from kaiju_app.stores._transitions import request_run

from .store_clock import StoreClock
from .timing import LeaseDurations, LeaseTiming

T = TypeVar("T")

Call = Literal[
    "claim",
    "renew",
    "finish",
    "heartbeat",
    "scan",
    "change_each",
    "history",
    "dead",
    "deregister",
    "forgettable",
    "delete_history",
    "runs",
    "lives",
    "instances",
]
"""The method of the store that is called."""

# These are repeated until they are answered. A failure of any other call is forgotten with the next heartbeat.
REPEATED: frozenset[Call] = frozenset({"claim", "renew", "finish", "heartbeat"})
FIRST_RETRY, LAST_RETRY = 200_000, 5_000_000  # Bounds of the pause after a failed call; it doubles in between.
MAX_PER_CALL = 500  # Tasks in one call: leases have to be renewed in between.
LOCKED_RETRY = 500_000  # A record that somebody has locked is tried again after this; other records do not wait.
REFUSED_RETRY = 60_000_000  # Of what the store does not accept: somebody has to change the store first.
SHOWN = 300  # Characters of why it does not: the answer of a database may quote what it was told.
MAX_CLOCK_ERROR = 1_000  # Timers that follow the store's clock are set again if they are off by more than this.
ANY_FENCE = -1  # Of a claim that the store may have lost.
RECHECK_S = 0.5  # Whoever waits for other instances looks this often, even without a hint from the store.


class RecordLost(StoreUnavailable):
    """The store has no record of a task that was registered."""


class StoreClient:
    """Calls the store for one instance; a call that is not answered in time is given up, and nobody knows its effect.

    Args:
        me: Identity of the instance: random, and a new one after a fork.
        steady: Microseconds on a clock that never steps and that goes on while the machine sleeps.

    Attributes:
        lease: The numbers of a lease in microseconds.
        clock: What is known of the store's clock.
        degraded_since: Steady time since which the store has not answered; None if it answers.
        answered_at: Steady time of the last answer; while the store is unavailable, of the last one before that.
        retry_at: Steady time before which the store is not called again after a failure.
        on_clock_moved: Called when the estimate of the store's clock changes noticeably.
        on_outage: Called when the store answers again, with the microseconds in which it did not.
    """

    def __init__(self, store: Store, me: str, timing: LeaseTiming, steady: Callable[[], int]) -> None:
        self.store = store
        self.me = me
        self.steady = steady
        self.lease = LeaseDurations.of(timing)
        self.clock = StoreClock(self.lease.ttl + self.lease.grace)
        self.degraded_since: int | None = None
        self.retry_at = 0
        self.on_clock_moved: Callable[[], None] = do_nothing
        self.on_outage: Callable[[int], None] = _not_noted
        self._failing: set[Call] = set()
        """Calls that failed when they were last made: a store may answer reads and refuse writes."""
        self._failures = 0
        self.answered_at = steady()
        self._changed = asyncio.Event()

    def may_call(self) -> bool:
        """Return whether the pause after a failure is over. A failing call may take as long as a renewal."""
        return self.steady() >= self.retry_at

    async def call(self, method: Call, question: Awaitable[T]) -> T | None:
        """Return the answer; None if nobody knows the effect of the call, or if the store does not accept it."""
        try:
            return await self.ask(method, question)
        except StoreRefused as exc:  # It would refuse it again at once.
            self._on_failure(method, exc)
            return None

    async def ask(self, method: Call, question: Awaitable[T]) -> T | None:
        """Return the answer; None if nobody knows the effect of the call.

        Raises:
            StoreRefused: The store does not accept it. It is not unavailable: it has answered.
        """
        sent = self.steady()
        try:
            async with asyncio.timeout(self.lease.renew / 1e6):
                answer = await question
        except StoreRefused:
            raise
        except Exception as exc:  # A bug in an engine is treated as an outage: the coordinator must go on.
            if not isinstance(exc, KaijuError | TimeoutError):
                log.exception("store %s: a bug in its %s()", self.store.name, method)
            self._on_failure(method, exc)
            return None
        self._failing.discard(method)
        self._read_clock(answer, sent)
        if self.degraded_since is None:
            self.answered_at = self.steady()
        if self.degraded_since is not None and not self._failing:
            away = max(0, self.steady() - self.degraded_since)
            log.warning("store %s: available again after %.3g s", self.store.name, away / 1e6)
            self.on_outage(self.steady() - self.answered_at)
            self._failures, self.degraded_since, self.retry_at = 0, None, 0
            self.answered_at = self.steady()
        return answer

    async def call_or_raise(self, method: Call, question: Awaitable[T], what: str) -> T:
        """Return the answer.

        Raises:
            StoreUnavailable: There is none.
        """
        answer = await self.call(method, question)
        if answer is None:
            raise StoreUnavailable(self.store.name, f"no answer to {what}")
        return answer

    def mark_degraded(self) -> None:
        """Report the store as unavailable until it answers again."""
        if self.degraded_since is None:
            self.degraded_since = self.steady()

    def report(self, failure: Exception) -> None:
        """Report the store as unavailable, and log it if that is news."""
        if self.degraded_since is not None:
            return
        self.mark_degraded()
        what = failure.what if isinstance(failure, StoreUnavailable) else describe_exception(failure)
        log.warning(
            "store %s: unavailable (%s): no further ticks of cluster tasks are claimed, and runs in progress go on "
            "while their lease lasts; retrying",
            self.store.name, what,
        )  # fmt: skip

    async def snapshot(self) -> Snapshot:
        """Return the records of all tasks.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        return await self.call_or_raise("scan", self.store.scan(), "the request for all records")

    async def record(self, name: str) -> TaskRecord:
        """Return the record of a task.

        Raises:
            StoreUnavailable: The store did not answer, or has no such record.
        """
        snapshot = await self.call_or_raise("scan", self.store.scan([name]), f"the request for task {name!r}")
        if not snapshot.records:
            raise RecordLost(self.store.name, f"it has no record of task {name!r}")
        return snapshot.records[0]

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        """Return the last rows of a task, newest last.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        question = self.store.history(name, limit)
        return await self.call_or_raise("history", question, f"the request for the history of task {name!r}")

    async def runs(self, query: LedgerQuery) -> LedgerPage:
        """Return the rows that *query* asks for.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        return await self.call_or_raise("runs", self.store.runs(query), "the request for a page of the ledger")

    async def still_running(self, keys: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of the claims, given by name and fence, that still stand in the store, or that it may have lost.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        question = self.store.scan({name for name, _ in keys})
        snapshot = await self.call_or_raise("scan", question, "whether runs are over")
        found = {record.name: record for record in snapshot.records}
        return {(name, fence) for name, fence in keys if _may_run(found.get(name), fence)}

    async def request_run(self, name: str) -> ChangeResult:
        """Request one extra run of a task; refused while it runs, is held, or has such a request already.

        Raises:
            StoreUnavailable: Nobody knows whether there will be one.
        """
        return await self.change_or_raise(name, simply(request_run), f"the request to run task {name!r} now")

    async def change(self, name: str, transition: Transition) -> ChangeResult | None:
        """Apply *transition* to one record; None if nobody knows its effect, or if somebody has locked the record."""
        changed = await self.call("change_each", self.store.change_each({name: transition}))
        return None if changed is None else changed.get(name)

    async def change_or_raise(self, name: str, transition: Transition, what: str) -> ChangeResult:
        """Apply *transition* to one record.

        Raises:
            StoreUnavailable: Nobody knows its effect, or somebody has locked the record, or there is none.
        """
        changed = await self.change(name, transition)
        if changed is None:
            raise StoreUnavailable(self.store.name, f"no answer to {what}")
        if changed.old is None and not changed.done:
            raise RecordLost(self.store.name, f"it has no record of task {name!r}")
        return changed

    async def listen(self, on_hint: Callable[[], None]) -> None:
        """Call *on_hint* whenever the store hints at a change, until it is cancelled."""
        pause_s = self.lease.poll / 1e6
        while True:
            try:
                await self.store.wait_for_change(pause_s)
            except Exception as exc:  # Whatever it is: due tasks are found by polling, without any hint.
                if not isinstance(exc, StoreUnavailable):
                    log.exception("store %s: a bug in its wait_for_change()", self.store.name)
                await asyncio.sleep(pause_s)
            else:
                on_hint()
                self._changed.set()
                self._changed = asyncio.Event()

    async def wait_for_change(self) -> None:
        """Return when something may have changed in the store, after half a second at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECHECK_S):
                await self._changed.wait()

    def forget_closed_loop(self) -> None:
        """Drop those who wait for a change: their loop is closed."""
        self._changed = asyncio.Event()

    def _read_clock(self, answer: object, sent: int) -> None:
        now: int | None = getattr(answer, "now", None)
        if now is None:
            return
        received = self.steady()
        before = self.clock.at_least(received)
        self.clock.observe(sent, received, now)
        after = self.clock.at_least(received)
        if before is None or after is None or abs(after - before) > MAX_CLOCK_ERROR:
            self.on_clock_moved()

    def _on_failure(self, method: Call, exc: Exception) -> None:
        self._failing.add(method if method in REPEATED else "heartbeat")
        self.report(exc)
        pause = min(LAST_RETRY, FIRST_RETRY << min(self._failures, 5))
        # Spread the instances that reconnect after a restart of the store.
        spread = crc32(f"{self.me} {self._failures}".encode()) % 1_000
        self._failures += 1
        self.retry_at = self.steady() + pause // 2 + pause * spread // 2_000


def _may_run(record: TaskRecord | None, fence: int) -> bool:
    if record is None or RESTORED in record.holds:
        return True
    return record.owner is not None and fence in (record.fence, ANY_FENCE)


def do_nothing(*_: object) -> None:
    """Stand in for a call that is assigned later."""


def _not_noted(away: int) -> None:
    """Stand in for a call that is assigned later."""
