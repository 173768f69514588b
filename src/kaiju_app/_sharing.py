"""DO, with others: what one scheduler shares, from its first start to its last stop, and its store."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from contextvars import Context

from ._clock import utc
from ._driver import Driver
from ._entry import DISABLED, REMOVED
from ._events import log
from ._grid import FOREVER
from ._membership import Membership, Wanted
from ._shared import Shared
from ._timing import LeaseTiming
from .errors import InvalidArgument, StoreUnavailable, WrongState
from .stores._record import Record
from .stores._store import Store
from .stores._transitions import scheduler_of

GO_ON_S = 1.0  # A coordinator that was cancelled, or fails by a bug, goes on so much later; its leases are watched.


class Sharing:
    """What one scheduler shares with other instances.

    Args:
        store: Where they agree; opened by ``prepare()``, closed when nothing goes on any more.
        version: Who may change the rules of tasks: the highest one.
    """

    def __init__(self, driver: Driver, store: Store, timing: LeaseTiming, version: tuple[int, ...]) -> None:
        self.store = store
        self.timing = timing
        self.entries: dict[str, Shared] = {}
        self.life: Membership | None = None
        self.wanted: Wanted = {}
        self._driver = driver
        self._version = version
        self._going: dict[asyncio.Task[None], Membership] = {}
        """The lives that speak with the store: the one that goes on, and those with runs that outlived stop()."""
        self._dismissed: set[asyncio.Task[None]] = set()
        self._lives = 0
        self._in_use = False
        self._closing: asyncio.Future[None] | None = None

    @property
    def member(self) -> Membership:
        """The life that goes on.

        Raises:
            WrongState: The scheduler is not started.
        """
        if self.life is None:
            raise WrongState(
                "the scheduler is not started: what concerns all instances can only be said to its store; start() first"
            )
        return self.life

    async def prepare(self) -> None:
        """Open the store; one that is away is asked again later.

        Raises:
            InvalidArgument: It can never be used, or another scheduler uses it.
        """
        self._in_use = True
        if self._closing is not None and self._closing.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([self._closing])
        try:
            await self._open_store()
            self.store.lend(self)
        except InvalidArgument:
            self._in_use = False
            raise

    async def _open_store(self) -> None:
        try:
            async with asyncio.timeout(self.timing.renew_s):
                await self.store.open()
        except StoreUnavailable as exc:
            log.warning("%s", exc)
        except TimeoutError:
            log.warning("%s", StoreUnavailable(self.store.name, f"no answer within {self.timing.renew_s:g} s"))

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take part, from now on; the driver is open."""
        driver = self._driver
        self._lives += 1
        # Runs that outlived stop() are the life's before, which still speaks for them by its own name.
        me = driver.instance if self._lives == 1 else f"{driver.instance}-{self._lives}"
        info = {"host": socket.gethostname(), "pid": os.getpid(), "version": list(self._version)}
        self.life = life = Membership(
            driver, self.store, self.entries, self.timing, self._version, me, json.dumps(info, sort_keys=True),
            self.wanted,
        )  # fmt: skip
        for name in self.entries:
            life.coordinator.register(name)
        self._go_on(life, loop)

    def halt(self) -> None:
        """Claim nothing more, and give back what has not begun."""
        if self.life is not None:
            self.life.coordinator.close()

    async def close(self, timeout_s: float | None) -> None:
        """Tell the store what is over, and let go of it if nothing goes on any more.

        Args:
            timeout_s: Bounds the wait, in seconds; None: as long as two questions to the store may take.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + (self._patience_s if timeout_s is None else min(timeout_s, self._patience_s))
        life, self.life = self.life, None
        self._in_use = False
        if life is not None and life not in self._going.values() and life.coordinator.claims:
            self._go_on(life, loop, again=True)  # It was cancelled a moment ago.
        await asyncio.gather(*(self._farewell(*each, until) for each in list(self._going.items())))
        await self._close_store(until)

    @property
    def _patience_s(self) -> float:
        """How long two questions to the store may take."""
        return 2 * self.timing.renew_s + 0.5

    async def _farewell(self, task: asyncio.Task[None], life: Membership, until: float) -> None:
        """Wait until the store has heard the last word of a life; one with runs that outlive it speaks on for them."""
        coordinator, loop = life.coordinator, asyncio.get_running_loop()
        await coordinator.until_told(until - loop.time())
        if coordinator.untold:
            log.warning(
                "store %s: it could not be told of the last %d ending(s) before the scheduler stopped; other "
                "instances take those ticks over within %.3g s",
                self.store.name, coordinator.untold, self.timing.failover_s,
            )  # fmt: skip
        if coordinator.is_needed:
            return  # What goes on keeps its leases, so that the tasks run nowhere else.
        await asyncio.wait([task], timeout=max(0.0, until - loop.time()))
        if self._going.pop(task, None) is not None:
            self._dismissed.add(task)
            task.add_done_callback(self._dismissed.discard)
            task.cancel()

    async def inspect(self) -> dict[str, object]:
        """Return what the store has, as JSON values: instances, and tasks with their holders and holds.

        Raises:
            StoreUnavailable: It did not answer.
            WrongState: The scheduler is not started.
        """
        life = self.member
        seen, instances = await life.coordinator.everything()
        for record in seen.records:
            life.heard(record)
        return {
            "store": self.store.name,
            "time": utc(seen.now).isoformat(),
            "instances": [
                {"id": scheduler_of(each.id), "heard_at": utc(each.seen).isoformat(), **json.loads(each.info)}
                for each in instances
            ],
            "tasks": [_told(record) for record in seen.records],
        }

    def state(self) -> dict[str, object]:
        """Return how it stands with the store, as JSON values."""
        since = None if self.life is None else self.life.coordinator.degraded_since
        return {
            "name": self.store.name,
            "state": "closed" if self.life is None else "ok" if since is None else "degraded",
            "degraded_s": None if since is None else (self._driver.now() - since) / 1e6,
        }

    def abandon(self) -> None:
        """Be another process: what was claimed and held is the one's that this was forked from."""
        self.life = None
        self._going.clear()
        self._dismissed.clear()
        self.wanted.clear()
        self._lives, self._in_use, self._closing = 0, False, None
        self.store.take_back(self)
        for entry in self.entries.values():
            entry.claim = entry.crew = None

    # --- lives ---

    def _go_on(self, life: Membership, loop: asyncio.AbstractEventLoop, *, again: bool = False) -> None:
        task = loop.create_task(self._live(life, again), name="kaiju_app: coordinator", context=Context())
        self._going[task] = life

    async def _live(self, life: Membership, again: bool) -> None:
        """Keep a coordinator going until its work is done, whatever bug it may have; the last one closes the store."""
        me = asyncio.current_task()
        assert me is not None
        try:
            await self._speak(life, again)
        except asyncio.CancelledError:
            try:
                if me not in self._dismissed:
                    await self._break_off(life)
            except asyncio.CancelledError:  # Again: it is in a hurry.
                pass
            await self._gone(me)
            raise
        await self._gone(me)

    async def _gone(self, task: asyncio.Task[None]) -> None:
        self._going.pop(task, None)
        await self._close_store()

    async def _speak(self, life: Membership, again: bool) -> None:
        while True:
            try:
                if again:
                    await self.prepare()
                await life.coordinator.run()
                return
            except Exception:
                life.coordinator.fell_ill()
                log.exception("the coordinator failed, which is a bug: it goes on in %g s", GO_ON_S)
            await asyncio.sleep(GO_ON_S)

    async def _break_off(self, life: Membership) -> None:
        """Say to the store what can still be said: somebody has cancelled all tasks, as at the end of a loop.

        If the loop goes on, so does the schedule. A timer sees to that: it ends without a word if its loop does.
        """
        coordinator, loop = life.coordinator, asyncio.get_running_loop()
        if self.life is life:
            self._in_use = False
            loop.call_later(GO_ON_S, self._revive, life, loop)
        coordinator.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._speak(life, again=False)

    def _revive(self, life: Membership, loop: asyncio.AbstractEventLoop) -> None:
        if self.life is not life:
            return
        if life in self._going.values():  # It still says goodbye.
            loop.call_later(GO_ON_S, self._revive, life, loop)
            return
        log.error(
            "the coordinator of shared tasks was cancelled from outside, and goes on; leave asyncio tasks alone whose "
            "names begin with 'kaiju_app'"
        )
        life.coordinator.reopen()
        self._go_on(life, loop, again=True)

    async def _close_store(self, until: float | None = None) -> None:
        if self._in_use or self._going or any(each.claim is not None for each in self.entries.values()):
            return
        loop = asyncio.get_running_loop()
        if self._closing is None or self._closing.done() or self._closing.get_loop() is not loop:
            self.store.take_back(self)
            self._closing = loop.create_task(self._let_go_of_store())
        await asyncio.wait([self._closing], timeout=None if until is None else max(0.0, until - loop.time()))

    async def _let_go_of_store(self) -> None:
        try:
            await self.store.close()
        except StoreUnavailable as exc:
            log.info("%s", exc)

    def bury(self) -> None:
        """Forget the lives whose loop is closed: nothing of them goes on."""
        for task in [each for each in self._going if each.get_loop().is_closed()]:
            life = self._going.pop(task)
            life.coordinator.bury()

    def add(self, entry: Shared) -> None:
        """Share *entry* from now on."""
        self.entries[entry.name] = entry
        if self.life is not None:
            self.life.coordinator.register(entry.name)

    def reconsider(self, entry: Shared) -> None:
        """Learn that *entry* was enabled, disabled or removed."""
        if entry.flags & REMOVED and self.entries.get(entry.name) is entry:
            del self.entries[entry.name]
        if self.life is not None:
            self.life.coordinator.reconsider(entry.name, give_up=bool(entry.flags & (REMOVED | DISABLED)))


def _rule(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # Somebody else has written it.
        return text


def _told(record: Record) -> dict[str, object]:
    claimed = record.holder is not None
    return {
        "name": record.name,
        "rule": _rule(record.spec),
        "version": list(record.version),
        "next_run_at": None if record.due >= FOREVER else utc(record.due).isoformat(),
        "asked_for_at": record.asked and utc(record.asked).isoformat(),
        "runs_on": record.holder and scheduler_of(record.holder),
        "since": utc(record.started).isoformat() if claimed and record.started is not None else None,
        "fence": record.fence if claimed else None,
        "take": record.takes if claimed else None,
        "holds": [
            {"holder": held.holder, "reason": held.reason, "until": held.until and utc(held.until).isoformat()}
            for held in record.holds.values()
        ],
    }
