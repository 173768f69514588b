"""What the store has of all instances, as it was read a moment ago: pages may ask for it as often as they like."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kaiju_app.errors import StoreUnavailable, WrongState
from kaiju_app.scheduler import Run, Scheduler
from kaiju_app.scheduler._hosting import is_onlooker, state_of

from ._text import harmless

LEAST_AGE_S = 0.2  # Seconds for which an answer is used again.
SHARE = 20  # It is used for so many times as long as it took: reading takes at most a twentieth of the time.
AT_ONCE = 16  # Histories that are read at the same time.
RECENT = 30

Record = Mapping[str, Any]
"""A task, or an instance, as ``inspect()`` tells of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What all instances do.

    Attributes:
        records: The cluster tasks in the store, by name.
        instances: Those that are alive; without a store, this one.
        partial: Why this may not be complete; None if it is.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    instances: tuple[Record, ...] = ()
    partial: str | None = None

    def process_of(self, instance: str) -> str | None:
        """Return the process of an instance as host:pid; None if that is not known."""
        return next((each.get("process") for each in self.instances if each["id"] == instance), None)


class Store:
    """Reads the store for those who ask over HTTP, and no more often than it costs little."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._seen = Seen()
        self._good_until = 0.0
        self._reading: asyncio.Task[Seen] | None = None
        self._histories: dict[str, tuple[int, tuple[Run, ...]]] = {}

    def forget(self) -> None:
        """Read again when somebody asks: something was changed. What is being read now may be from before that."""
        self._good_until = 0
        self._reading = None

    async def seen(self) -> Seen:
        """Return what all instances do."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._good_until:
            if self._reading is None or self._reading.done() or self._reading.get_loop() is not loop:
                self._reading = loop.create_task(self._read(), name="kaiju_app: admin reads the store")
            return await asyncio.shield(self._reading)
        return self._seen

    async def _read(self) -> Seen:
        time = asyncio.get_running_loop().time
        began = time()
        here = state_of(self._scheduler)
        alone = () if is_onlooker(self._scheduler) else (_itself(here),)
        try:
            found: Mapping[str, Any] = await self._scheduler.inspect()
        except (StoreUnavailable, WrongState) as exc:
            why = "" if isinstance(exc, WrongState) else f": {exc}"
            seen = Seen({}, alone, harmless(f"only what this instance knows{why}"))
        else:
            instances = tuple(found["instances"]) or alone
            seen = Seen({each["name"]: each for each in found["tasks"]}, instances)
        if self._reading is asyncio.current_task():
            self._seen = seen
            self._good_until = began + max(LEAST_AGE_S, SHARE * (time() - began))
        return seen

    async def histories(self, records: Iterable[Record]) -> Mapping[str, tuple[Run, ...]]:
        """Return the latest records of cluster tasks by name, oldest first; without those that cannot be read."""
        wanted = {each["name"]: int(each["rev"]) for each in records}
        stale = [name for name, rev in wanted.items() if self._histories.get(name, (-1,))[0] != rev]
        for start in range(0, len(stale), AT_ONCE):
            try:
                await asyncio.gather(
                    *(self._read_history(name, wanted[name]) for name in stale[start : start + AT_ONCE])
                )
            except (StoreUnavailable, WrongState):
                break
        if len(self._histories) > 2 * len(self._seen.records) + 1_000:
            self._histories = {name: each for name, each in self._histories.items() if name in self._seen.records}
        return {name: self._histories[name][1] for name in wanted if name in self._histories}

    async def _read_history(self, name: str, rev: int) -> None:
        self._histories[name] = rev, tuple(await self._scheduler.history(name, RECENT))


def _itself(here: Record) -> Record:
    """Return the instance that answers, as ``inspect()`` tells of others."""
    return {"id": here["instance"], "process": here["process"], "heard_at": here["time_utc"], "version": [0]}
