"""Duty: register the tasks of this instance in the store, and keep what is known of their records up to date."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from kaiju_app._core.clock import NEVER
from kaiju_app._core.text import listed
from kaiju_app._engine.events import log
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores._cas import Transition, anew
from kaiju_app.stores._record import TaskRecord
from kaiju_app.stores._transitions import define

from .claim import Owned
from .ports import DefinitionMaker, Registry, Restorer
from .store_client import LOCKED_RETRY, MAX_PER_CALL, StoreClient

NAMED = 5  # Tasks named in one line of the log.
REPEAT_AFTER = 3_600_000_000  # One hour. The store deletes tasks that no instance has registered for long.


class Registration:
    """The tasks that this instance knows, as far as the store has to be told.

    Attributes:
        seen_at: The store's time when it last had the records of these tasks, but for those that are known to be lost.
    """

    def __init__(self, client: StoreClient, registry: Registry, own: Owned, wake: Callable[[], None]) -> None:
        self._client = client
        self._registry = registry
        self._own = own
        self._wake = wake
        self.seen_at = 0
        self._names: dict[str, None] = {}
        self._pending: dict[str, int | None] = {}
        """By name, when the store was last seen to have the record; NEVER if it has it, None if the task is new."""
        self._retry_at = 0
        self._registered = asyncio.Event()
        self._refresh_at = 0
        self._read_to = ""
        self._repeat_at = client.steady() + REPEAT_AFTER

    def register(self, name: str) -> None:
        """Tell the store that this instance knows a task, and what its rule is."""
        self._names[name] = None
        self._pending[name] = None
        self._retry_at = 0
        self._wake()

    def restore(self, names: Iterable[str]) -> bool:
        """Put back what the store has lost of tasks that were registered before; return whether there is any."""
        lost = [name for name in names if name in self._names and self._pending.get(name, NEVER) == NEVER]
        if lost:
            self._pending |= dict.fromkeys(lost, self.seen_at)
            self._retry_at = 0
            self._wake()
        return bool(lost)

    def on_record(self, record: TaskRecord) -> None:
        """Learn what the store has of a task."""
        self._registry.on_record(record)

    async def known(self, names: Sequence[str]) -> None:
        """Wait until the store knows the tasks.

        Raises:
            StoreUnavailable: That takes longer than an answer may.
        """
        try:
            async with asyncio.timeout(self._client.lease.renew / 1e6):
                while any(name in self._pending for name in names):
                    self._registered.clear()
                    await self._registered.wait()
        except TimeoutError:
            raise StoreUnavailable(self._client.store.name, "a new task could not be registered in time") from None

    @property
    def next_at(self) -> int:
        """Steady time at which there is something to do."""
        return min(self._retry_at if self._pending else NEVER, self._refresh_at, self._repeat_at)

    async def run(self) -> None:
        """Read again what may be outdated, and register what is new or was not registered for long."""
        now = self._client.steady()
        if now >= self._refresh_at:
            self._refresh_at = now + self._client.lease.poll
            await self._refresh()
        if now >= self._repeat_at:
            self._repeat_at = now + REPEAT_AFTER
            self._pending = {**dict.fromkeys(self._names, NEVER), **self._pending}
        if self._pending and now >= self._retry_at:
            await self._register()

    async def _refresh(self) -> None:
        outdated = sorted(name for name in self._registry.maybe_outdated() if name not in self._own.claims)
        begin = bisect_right(outdated, self._read_to)
        names = (outdated[begin:] + outdated[:begin])[:MAX_PER_CALL]  # The others in turn: they may be thousands.
        seen = await self._client.call("scan", self._client.store.scan(names)) if names else None
        self._read_to = names[-1] if names else ""
        for record in seen.records if seen else ():
            self._registry.on_record(record)

    async def _register(self) -> None:
        transitions: dict[str, Transition] = {}
        pending = dict(islice(self._pending.items(), MAX_PER_CALL))
        for name, seen_at in pending.items():
            make = self._registry.definition_maker(name)
            if make is None:
                del self._names[name], self._pending[name]
                continue
            restore = None
            if seen_at is not None:
                restore = self._registry.restorer(name, min(seen_at, self.seen_at), self._client.lease.grace)
            transitions[name] = _putting(make, restore)
        answered = await self._client.call("change_each", self._client.store.change_each(transitions))
        if answered is None:
            return
        if len(answered) < len(transitions):  # Somebody has locked the other records.
            self._retry_at = self._client.steady() + LOCKED_RETRY
        known = {name: changed for name, changed in answered.items() if pending[name] is not None}
        lost = [name for name, changed in known.items() if changed.old is None and changed.done]
        if lost:
            log_lost(self._client.store.name, lost)
        for name, changed in answered.items():
            self._pending.pop(name, None)
            record = changed.new or changed.old
            if name not in known:
                self._registry.on_registered(name, changed)
            elif record is not None:
                self._registry.on_record(record)
        self._registered.set()


def _putting(make: DefinitionMaker, restore: Restorer | None) -> Transition:
    """Return the transition that registers a task; *restore*: it was registered before."""

    def put(old: TaskRecord | None, now: int) -> TaskRecord | None:
        back = None if restore is None else restore(old, now)
        base = old if back is None else back
        return define(base, now, make(base, now), again=restore is not None) or back

    return anew(put)


def log_lost(store: str, names: Sequence[str]) -> None:
    """Say that a store has lost records."""
    log.warning(
        "store %s: has lost the records of %d task(s): %s. They are registered again, and go on with their next ticks; "
        "what was paused may have to be paused again",
        store, len(names), listed([repr(name) for name in names], NAMED),
    )  # fmt: skip
