"""Simulated instances, and the real time and the store that they share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from kaiju_app.stores._record import LedgerRow, TaskRecord
from simulation.journal import Bounds, Entry, Event, violations
from simulation.loop import SimulatedLoop, discard, logging_disabled
from simulation.plan import MILLION, Ask, Block, Loss, Plan, inside, us
from simulation.wire import SharedStore, Wire, at_once
from support.virtual import EPOCH_US

STEP_US = 10  # The cost of a turn of a loop: even a loop that only spins makes time pass.
THAW_US = 1_000  # A turn that is later than this comes after a pause.


class Instance:
    """One lifetime of a process in a place: a machine with a clock of its own.

    Attributes:
        id: A letter for the place and the number of the lifetime, which grows with each crash.
        store: The connection to the store.
        complaints: The errors that its loop would have logged.
    """

    def __init__(self, simulation: Simulation, place: int, life: int, ends: int) -> None:
        self.simulation = simulation
        self.place = place
        self.id = f"{chr(ord('a') + place)}{life}"
        self.ends = ends
        self.is_alive = True
        self.complaints: list[dict[str, Any]] = []
        self._ppm = simulation.plan.rate_ppm(place)
        self._uptime = simulation.uptimes[place]
        self._pauses = simulation.plan.pauses(place)
        self._burned = 0
        self._free_at = 0
        self._due: int | None = None
        self._wanted = 0
        self._thaw = False
        self._remains: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = SimulatedLoop(self.steady, self._on_work)
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        rng = Random(f"wire {simulation.seed} {self.id}")
        self.store = Wire(self, simulation.store, simulation.plan, rng)

    # --- clocks ---

    def now(self) -> int:
        """Return the real time, which no instance can know."""
        return self.simulation.now + self._burned

    def steady(self) -> int:
        """Return microseconds since the machine was booted, by its own clock."""
        now = self.simulation.now + self._burned
        return self._uptime + now + now * self._ppm // MILLION

    def wall(self) -> int:
        """Return microseconds since the Unix epoch, by its own clock."""
        return EPOCH_US + self.steady() - self._uptime

    def _when(self, steady: int) -> int:
        return -((self._uptime - steady) * MILLION // (MILLION + self._ppm))

    def block(self, seconds: float) -> None:
        """Block the loop. A pause meanwhile prolongs it."""
        end = self.now() + us(seconds)
        for start, stop in self._pauses:
            if self.now() <= start < end:
                end += stop - start
        self._burned = end - self.simulation.now

    # --- what is seen of it ---

    @property
    def has_crashed(self) -> bool:
        """Whether it has crashed by now, be it in the middle of a long turn."""
        return not self.is_alive or self.now() >= self.ends

    def journal(self, event: Event, task: str, *, fence: int = 0, tick: int = 0, take: int = 0, note: str = "") -> None:
        """Write a line about a body to the journal."""
        if not self.has_crashed:
            thaw = self._thaw or self._burned > 0
            self.simulation.write(self.now(), self.id, event, task, fence, tick, take, note, thaw)

    # --- for the simulation ---

    def spawn(self, what: Callable[[], Awaitable[object]]) -> None:
        """Run *what* in the loop of the instance; an exception counts as a complaint."""

        async def run() -> None:
            try:
                await what()
            except Exception as exc:
                self.complaints.append({"message": f"{self.id}: {exc!r}", "exception": exc})

        task = self.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._on_work()

    def deliver(self, callback: Callable[..., object], *args: object) -> None:
        """Call *callback* in the next turn."""
        if self.is_alive:
            self.loop.call_soon(callback, *args)
            self._on_work()

    def crash(self) -> None:
        """Stop for ever. Keep all objects until ``discard()``: garbage collection would run their finally blocks."""
        self.is_alive = False
        self._remains = [*asyncio.all_tasks(self.loop), *self.loop._asyncgens]

    def discard(self) -> None:
        """Discard what is left."""
        if self.is_alive:
            self.crash()
        remains, self._remains = self._remains, []
        discard(self.loop, remains)
        self._tasks.clear()

    def _on_work(self) -> None:
        self._want(self.now())

    def _want(self, at: int) -> None:
        """Plan the next turn at *at*, or as soon as the loop is free and not paused."""
        due = max(at, self._free_at)
        pause = inside(self._pauses, due)
        if pause is not None:
            due = pause[1]
        if self._due is None or due < self._due:
            self._wanted = at if self._due is None else min(at, self._wanted)
            self._due = due
            self.simulation.at(due, self._step)
        else:
            self._wanted = min(at, self._wanted)

    def _step(self) -> None:
        now = self.simulation.now
        if now != self._due or self.has_crashed:  # An earlier turn was planned meanwhile, or it crashed.
            return
        self._thaw = now - self._wanted > THAW_US
        self._due = 0  # New work during this turn need not plan another one.
        self.loop.step()
        self._free_at = now + self._burned + STEP_US
        self._burned = 0
        self._thaw = False
        self._due = None
        next_turn_at = self.loop.next_turn_at()
        if next_turn_at is not None:
            self._want(self._free_at if next_turn_at == 0 else self._when(next_turn_at))


BootHook = Callable[[Instance], Awaitable[object]]
AskHook = Callable[[Instance, Ask], Awaitable[object]]


class Simulation:
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
        self.lives: list[Instance] = []
        self.steps = 0
        self.store = SharedStore(lambda: plan.store_us(self.now), self._changed)
        self._rng = Random(f"simulation {seed}")
        self.uptimes = [self._rng.randrange(5 * MILLION, 10**12) for _ in range(instances)]
        self._boot = boot
        self._events: list[tuple[int, float, int, Callable[[], None]]] = []
        self._at: dict[int, Instance] = {}
        for place in range(instances):
            for life, (start, end) in enumerate(plan.lives(place), 1):
                self.at(start, partial(self._begin, place, life, end))
                self.at(end, partial(self._end, place))
        for fault in plan.faults:
            if isinstance(fault, Block):
                self.at(us(fault.at_s), partial(self._block, fault))
            elif isinstance(fault, Ask) and ask is not None:
                self.at(us(fault.at_s), partial(self._ask, ask, fault))
            elif isinstance(fault, Loss):
                self.at(us(fault.at_s), self.store.lose)

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Call *what* at *when*. The order of simultaneous events is drawn."""
        self.steps += 1
        heappush(self._events, (max(when, self.now), self._rng.random(), self.steps, what))

    def run(self, until_s: float | None = None) -> list[Entry]:
        """Run until *until_s*; None for the end of the plan."""
        until = us(self.plan.for_s if until_s is None else until_s)
        events = self._events
        hooks = sys.get_asyncgen_hooks()
        try:
            while events and events[0][0] <= until:
                self.now, _, _, what = heappop(events)
                what()
        finally:
            sys.set_asyncgen_hooks(*hooks)
        self.now = until
        self.journal.sort(key=lambda entry: entry.at)  # A blocking turn writes lines ahead of time.
        return self.journal

    def close(self) -> None:
        """Discard everything."""
        with logging_disabled():
            self._events.clear()
            for life in self.lives:
                life.discard()

    def violations(self, bounds: Bounds | None = None) -> list[str]:
        """Return the broken promises, and the errors that loops would have logged."""
        complaints = [f"{life.id}: {each}" for life in self.lives for each in life.complaints]
        return complaints + violations(self.journal, self.plan, self.instances, bounds or Bounds(), self.rows())

    def rows(self) -> list[LedgerRow]:
        """Return all rows of the ledger."""
        names = [record.name for record in at_once(self.store.scan()).records]
        return [row for name in names for row in at_once(self.store.history(name, sys.maxsize))]

    def living(self, place: int) -> Instance | None:
        """Return the live instance of a place; None if there is none."""
        return self._at.get(place)

    def write(
        self, at: int, who: str, event: Event, task: str = "", fence: int = 0, tick: int = 0, take: int = 0,
        note: str = "", thaw: bool = False,
    ) -> None:  # fmt: skip
        """Add a line to the journal."""
        self.journal.append(Entry(at, who, event, task, fence, tick, take, note, self.plan.store_us(at), thaw))

    # --- what happens ---

    def _begin(self, place: int, life: int, end: int) -> None:
        instance = Instance(self, place, life, end)
        self.lives.append(instance)
        self._at[place] = instance
        self.write(self.now, instance.id, "boot")
        instance.spawn(lambda: self._boot(instance))

    def _end(self, place: int) -> None:
        instance = self._at.pop(place)
        self.write(self.now, instance.id, "crash")
        instance.crash()

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
