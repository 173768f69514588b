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
        self._lasts: dict[str, tuple[int, tuple[Run, ...]]] = {}

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

    async def histories(self, records: Iterable[Record], *, last: bool = False) -> Mapping[str, tuple[Run, ...]]:
        """Return the latest records of cluster tasks by name, oldest first; without those that cannot be read.

        Args:
            last: Whether the last one of each is enough, which is read in a fraction of the time.
        """
        wanted = {each["name"]: int(each["rev"]) for each in records}
        sources = (self._lasts, self._histories) if last else (self._histories,)
        found: dict[str, tuple[Run, ...]] = {}
        stale = []
        for name, rev in wanted.items():
            known = next((each[1] for kept in sources if (each := kept.get(name)) and each[0] == rev), None)
            if known is None:
                stale.append(name)
            else:
                found[name] = known
        for start in range(0, len(stale), AT_ONCE):
            some = stale[start : start + AT_ONCE]
            try:
                read = await asyncio.gather(*(self._scheduler.history(name, 1 if last else RECENT) for name in some))
            except (StoreUnavailable, WrongState):
                break
            for name, runs in zip(some, read, strict=True):
                found[name] = tuple(runs)
                sources[0][name] = wanted[name], found[name]
        self._forget_the_gone(sources[0])
        return found

    def _forget_the_gone(self, kept: dict[str, tuple[int, tuple[Run, ...]]]) -> None:
        if len(kept) > 2 * len(self._seen.records) + 1_000:
            for name in kept.keys() - self._seen.records.keys():
                del kept[name]


def _itself(here: Record) -> Record:
    """Return the instance that answers, as ``inspect()`` tells of others."""
    return {"id": here["instance"], "process": here["process"], "heard_at": here["time_utc"], "version": [0]}
