"""Simulated instances, and the time and the store that they share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

from simulated_journal import Bounds, Entry, Event, violations
from simulated_loop import SimulatedLoop, bury, hushed
from simulated_plan import MILLION, Ask, Block, Plan, inside, us
from simulated_wire import SharedStore, Wire, at_once
from virtual import EPOCH_US

from kaiju_app.stores._record import Record, Row

STEP_US = 10  # What a turn of a loop costs: one that only spins gets somewhere, too.
THAW_US = 1_000  # A turn that comes so much later than it was wanted is one after a pause.


class Instance:
    """One life of a process in a place: a machine with a clock of its own.

    Attributes:
        id: A letter for the place and the number of the life: another one after each crash.
        store: The way to the store.
        complaints: What its loop would have logged.
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
        self.loop = SimulatedLoop(self.steady, self._stirred)
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        rng = Random(f"wire {simulation.seed} {self.id}")
        self.store = Wire(self, simulation.store, simulation.plan, rng)

    # --- clocks ---

    def now(self) -> int:
        """Return the real time, as no instance can know it."""
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
        """Do not give the loop back for so long; a pause meanwhile comes on top of it."""
        end = self.now() + us(seconds)
        for start, stop in self._pauses:
            if self.now() <= start < end:
                end += stop - start
        self._burned = end - self.simulation.now

    # --- what is seen of it ---

    @property
    def is_over(self) -> bool:
        """It has crashed by now: in the middle of a turn, if that took long enough."""
        return not self.is_alive or self.now() >= self.ends

    def journal(self, event: Event, task: str, *, fence: int = 0, tick: int = 0, take: int = 0, note: str = "") -> None:
        """Write down what a body does."""
        if not self.is_over:
            thaw = self._thaw or self._burned > 0
            self.simulation.write(self.now(), self.id, event, task, fence, tick, take, note, thaw)

    # --- for the simulation ---

    def spawn(self, what: Callable[[], Awaitable[object]]) -> None:
        """Run *what* in the loop of the instance; what it raises is a complaint."""

        async def run() -> None:
            try:
                await what()
            except Exception as exc:
                self.complaints.append({"message": f"{self.id}: {exc!r}", "exception": exc})

        task = self.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._stirred()

    def deliver(self, callback: Callable[..., object], *args: object) -> None:
        """Let *callback* be called in the next turn."""
        if self.is_alive:
            self.loop.call_soon(callback, *args)
            self._stirred()

    def crash(self) -> None:
        """Never be stepped again. All is kept until ``bury()``: what is collected would run its finally blocks."""
        self.is_alive = False
        self._remains = [*asyncio.all_tasks(self.loop), *self.loop._asyncgens]

    def bury(self) -> None:
        """Throw away what is left."""
        if self.is_alive:
            self.crash()
        remains, self._remains = self._remains, []
        bury(self.loop, remains)
        self._tasks.clear()

    def _stirred(self) -> None:
        self._want(self.now())

    def _want(self, at: int) -> None:
        """Be stepped at *at*, or as soon as nothing keeps it from that."""
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
        if now != self._due or self.is_over:  # An earlier turn has come between, or the end.
            return
        self._thaw = now - self._wanted > THAW_US
        self._due = 0  # Whoever stirs it in its own turn need not wake it.
        self.loop.step()
        self._free_at = now + self._burned + STEP_US
        self._burned = 0
        self._thaw = False
        self._due = None
        wants = self.loop.wants()
        if wants is not None:
            self._want(self._free_at if wants == 0 else self._when(wants))


Boot = Callable[[Instance], Awaitable[object]]
Asked = Callable[[Instance, Ask], Awaitable[object]]


class Simulation:
    """Real time, the store, and who is next.

    Args:
        instances: How many places there are.
        seed: Of what messages meet, how long machines have been up, and who comes first of two at the same time.
        boot: What an instance does.
        ask: What it does when the plan asks something of it.

    Attributes:
        now: Microseconds of real time since the beginning.
        journal: What was written so far; in the order of time as soon as ``run()`` has returned.
        store: The store itself, without a wire.
        lives: Every instance there was.
    """

    def __init__(self, plan: Plan, instances: int, seed: int, boot: Boot, ask: Asked | None = None) -> None:
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

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Do *what* at *when*; the order of what happens at one time is drawn."""
        self.steps += 1
        heappush(self._events, (max(when, self.now), self._rng.random(), self.steps, what))

    def run(self, until_s: float | None = None) -> list[Entry]:
        """Go on until *until_s*; None: to the end of the plan."""
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
        self.journal.sort(key=lambda entry: entry.at)  # One that blocked has written what comes later.
        return self.journal

    def close(self) -> None:
        """Throw everything away."""
        with hushed():
            self._events.clear()
            for life in self.lives:
                life.bury()

    def violations(self, bounds: Bounds | None = None) -> list[str]:
        """Return what was broken: promises, and what loops would have complained about."""
        complaints = [f"{life.id}: {each}" for life in self.lives for each in life.complaints]
        return complaints + violations(self.journal, self.plan, self.instances, bounds or Bounds(), self.rows())

    def rows(self) -> list[Row]:
        """Return all rows that were kept."""
        names = [record.name for record in at_once(self.store.scan()).records]
        return [row for name in names for row in at_once(self.store.history(name, sys.maxsize))]

    def living(self, place: int) -> Instance | None:
        """Return who lives in a place."""
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

    def _ask(self, ask: Asked, fault: Ask) -> None:
        instance = self.living(fault.place)
        if instance is not None:
            instance.spawn(lambda: ask(instance, fault))

    def _changed(self, old: Record | None, new: Record | None) -> None:
        for event, facts in _seen_at_the_store(old, new):
            self.write(self.now, "store", event, *facts)
        for instance in self._at.values():
            instance.store.hint()


def _seen_at_the_store(old: Record | None, new: Record | None) -> Iterator[tuple[Event, tuple[Any, ...]]]:
    """Return the lines of a change: event, and task, fence, tick, take, note."""
    if old is not None and old.holder and (new is None or new.holder is None):
        ended = new is not None and (new.asked is None if old.manual else new.floor > old.floor)
        yield "finished" if ended else "freed", (old.name, old.fence, old.tick, old.takes, _manual(old))
    if new is None:
        if old is not None:
            yield "forgotten", (old.name,)
        return
    if new.holder and (old is None or new.fence != old.fence):
        yield "claimed", (new.name, new.fence, new.tick, new.takes, _manual(new))
    if old is not None and new.suspect and not old.suspect:
        yield "challenged", (new.name, new.fence, new.tick, new.takes)
    if old is None or new.next != old.next:
        yield "next", (new.name, 0, new.next)
    before = {} if old is None else old.holds
    for key in [key for key in new.holds if key not in before]:
        yield "held", (new.name, 0, 0, 0, key)
    for key in [key for key in before if key not in new.holds]:
        yield "unheld", (new.name, 0, 0, 0, key)


def _manual(record: Record) -> str:
    return "manual" if record.manual else ""
