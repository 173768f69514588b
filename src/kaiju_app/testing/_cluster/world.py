"""The world of simulated instances: real time, and the store that they share."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any, Self

from kaiju_app.stores._record import LedgerRow, TaskRecord

from .journal import Entry, Event
from .loop import logging_disabled
from .machine import Machine
from .plan import MILLION, Ask, Block, Cut, Jump, Loss, Pause, Plan, us
from .process import Process
from .store import SharedStore, at_once

BootHook = Callable[[Process], Awaitable[object]]
AskHook = Callable[[Process, Ask], Awaitable[object]]


class World:
    """Real time, the store, and the queue of events.

    Args:
        instances: Number of places.
        seed: Decides the fate of messages, the uptime of machines, and the order of simultaneous events.
        boot: What an instance does.
        ask: What it does for an ``Ask`` of the plan.

    Attributes:
        now: Microseconds of real time since the beginning.
        journal: The lines written so far; ordered by time once ``run()`` has returned.
        store: The store itself, without a wire.
        lives: Every instance so far, dead ones included.
    """

    def __init__(self, plan: Plan, instances: int, seed: int, boot: BootHook, ask: AskHook | None = None) -> None:
        self.plan = plan
        self.instances = instances
        self.seed = seed
        self.now = 0
        self.journal: list[Entry] = []
        self.lives: list[Process] = []
        self.steps = 0
        self.store = SharedStore(lambda: self.plan.store_us(self.now), self._changed)
        self._rng = Random(f"simulation {seed}")
        uptimes = [self._rng.randrange(5 * MILLION, 10**12) for _ in range(instances)]
        self.machines = [Machine(each, plan.rate_ppm(place), plan.start_us) for place, each in enumerate(uptimes)]
        self._boot = boot
        self._events: list[tuple[int, float, int, Callable[[], object]]] = []
        self._at: dict[int, Process] = {}
        self._begun = [0] * instances
        for place in range(instances):
            for start, end in plan.lives(place):
                self.at(start, partial(self.begin, place, end))
                self.at(end, partial(self.end, place))
        for fault in plan.faults:
            if isinstance(fault, Block):
                self.at(us(fault.at_s), partial(self._block, fault))
            elif isinstance(fault, Ask) and ask is not None:
                self.at(us(fault.at_s), partial(self._ask, ask, fault))
            elif isinstance(fault, Loss):
                self.at(us(fault.at_s), self.store.lose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def at(self, when: int, what: Callable[[], object], tie: float | None = None) -> None:
        """Call *what* at *when*. Of simultaneous events that with the least *tie* comes first; None: it is drawn."""
        self.steps += 1
        tie = self._rng.random() if tie is None else tie
        heappush(self._events, (max(when, self.now), tie, self.steps, what))

    def run(self, until_s: float | None = None) -> list[Entry]:
        """Run until *until_s*; None for the end of the plan."""
        self.reach(us(self.plan.for_s if until_s is None else until_s))
        self.journal.sort(key=lambda entry: entry.at)  # A blocking turn writes lines ahead of time.
        return self.journal

    def reach(self, until: int, is_over: Callable[[], object] = bool) -> None:
        """Let time pass until *until*, or until *is_over* returns something true."""
        events = self._events
        hooks = sys.get_asyncgen_hooks()
        try:
            while events and events[0][0] <= until:
                self.now, _, _, what = heappop(events)
                what()
                if is_over():
                    return
        finally:
            sys.set_asyncgen_hooks(*hooks)
        self.now = until

    def close(self) -> None:
        """Discard everything."""
        with logging_disabled():
            self._events.clear()
            for life in self.lives:
                life.discard()

    def rows(self) -> list[LedgerRow]:
        """Return all rows of the ledger."""
        names = [record.name for record in at_once(self.store.scan()).records]
        return [row for name in names for row in at_once(self.store.history(name, sys.maxsize))]

    def living(self, place: int) -> Process | None:
        """Return the live instance of a place; None if there is none."""
        return self._at.get(place)

    def write(
        self, at: int, who: str, event: Event, task: str = "", fence: int = 0, tick: int = 0, take: int = 0,
        note: str = "", thaw: bool = False,
    ) -> None:  # fmt: skip
        """Add a line to the journal."""
        self.journal.append(Entry(at, who, event, task, fence, tick, take, note, self.plan.store_us(at), thaw))

    # --- what happens ---

    def begin(self, place: int, ends: int) -> Process:
        """Start a process in *place*, which is free, for a life until *ends*, and return it."""
        self._begun[place] += 1
        instance = Process(self, place, self._begun[place], ends)
        self.lives.append(instance)
        self._at[place] = instance
        self.write(self.now, instance.id, "boot")
        instance.spawn(lambda: self._boot(instance))
        return instance

    def end(self, place: int, event: Event = "crash") -> None:
        """End the process in *place* at once."""
        instance = self._at.pop(place)
        self.write(self.now, instance.id, event)
        instance.crash()

    def add(self, fault: Pause | Cut | Jump) -> None:
        """Add *fault*, which begins now, to the plan."""
        self.plan = replace(self.plan, faults=(*self.plan.faults, fault))
        for instance in self._at.values():
            instance.adapt()

    def _block(self, fault: Block) -> None:
        instance = self.living(fault.place)
        if instance is not None:
            instance.deliver(instance.block, fault.for_s)

    def _ask(self, ask: AskHook, fault: Ask) -> None:
        instance = self.living(fault.place)
        if instance is not None:
            instance.spawn(lambda: ask(instance, fault))

    def _changed(self, old: TaskRecord | None, new: TaskRecord | None) -> None:
        for event, facts in _seen_at_the_store(old, new):
            self.write(self.now, "store", event, *facts)
        for instance in self._at.values():
            instance.store.hint()


def _seen_at_the_store(old: TaskRecord | None, new: TaskRecord | None) -> Iterator[tuple[Event, tuple[Any, ...]]]:
    """Return the journal lines of a change: the event, then (task, fence, tick, take, note)."""
    if old is not None and old.owner and (new is None or new.owner is None):
        ended = new is not None and (new.manual_at is None if old.manual else new.last_done > old.last_done)
        yield "finished" if ended else "freed", (old.name, old.fence, old.tick, old.delivery, _manual(old))
    if new is None:
        if old is not None:
            yield "forgotten", (old.name,)
        return
    if new.owner and new.fence == new.rev and (old is None or new.fence != old.fence):  # Or it is put back.
        yield "claimed", (new.name, new.fence, new.tick, new.delivery, _manual(new))
    if old is not None and new.challenged and not old.challenged:
        yield "challenged", (new.name, new.fence, new.tick, new.delivery)
    if old is None or new.next_tick != old.next_tick:
        yield "next", (new.name, 0, new.next_tick)
    before = {} if old is None else old.holds
    for key in [key for key in new.holds if key not in before]:
        yield "held", (new.name, 0, 0, 0, key)
    for key in [key for key in before if key not in new.holds]:
        yield "unheld", (new.name, 0, 0, 0, key)


def _manual(record: TaskRecord) -> str:
    return "manual" if record.manual else ""
