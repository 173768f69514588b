"""A simulated instance: one lifetime of a process, with a loop and clocks of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from kaiju_app._core.clock import Clock, Timer, substitute, substituted
from kaiju_app.errors import VirtualTimeError

from .journal import Event
from .loop import SimulatedLoop, discard
from .plan import inside, us
from .wire import Wire

if TYPE_CHECKING:
    from .world import World

FREE_TURNS = 100
SPIN_US = 1_000
"""So many turns of a loop take no time: how many there are differs from one version of Python to another, and so would
the journal. So many more at the same instant take so much time: even a loop that only spins makes time pass.
"""
MASK = (1 << 64) - 1
THAW_US = 1_000  # A turn that is later than this comes after a pause.


class Process:
    """One lifetime of a process in a place: a machine with a clock of its own.

    Attributes:
        id: A letter for the place and the number of the lifetime, which grows with each crash.
        store: The connection to the store.
        complaints: The errors that its loop would have logged.
    """

    def __init__(self, world: World, place: int, life: int, ends: int) -> None:
        self.world = world
        self.place = place
        self.id = f"{chr(ord('a') + place)}{life}"
        self.ends = ends
        self.is_alive = True
        self.complaints: list[dict[str, Any]] = []
        self._machine = world.machines[place]
        self._pauses = world.plan.pauses(place)
        self._burned = 0
        self._free_at = 0
        self._due: int | None = None
        self._wanted = 0
        self._turns = 0
        self._turned_at = -1
        self._salt = Random(f"turns {world.seed} {self.id}").getrandbits(64)
        self._thaw = False
        self._remains: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = SimulatedLoop(self.steady, self._on_work)
        self.clock = ProcessClock(self)
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.store = Wire(self, world.store, world.plan)

    # --- clocks ---

    def now(self) -> int:
        """Return the real time, which no instance can know."""
        return self.world.now + self._burned

    def steady(self) -> int:
        """Return microseconds since the machine was booted, by its own clock."""
        return self._machine.steady(self.now())

    def wall(self) -> int:
        """Return microseconds since the Unix epoch, by its own clock."""
        return self._machine.wall(self.now())

    def block(self, seconds: float) -> None:
        """Block the loop. A pause meanwhile prolongs it."""
        end = self.now() + us(seconds)
        for start, stop in self._pauses:
            if self.now() <= start < end:
                end += stop - start
        self._burned = end - self.world.now

    # --- what is seen of it ---

    @property
    def has_crashed(self) -> bool:
        """Whether it has crashed by now, be it in the middle of a long turn."""
        return not self.is_alive or self.now() >= self.ends

    def journal(self, event: Event, task: str, *, fence: int = 0, tick: int = 0, take: int = 0, note: str = "") -> None:
        """Write a line about a body to the journal."""
        if not self.has_crashed:
            thaw = self._thaw or self._burned > 0
            self.world.write(self.now(), self.id, event, task, fence, tick, take, note, thaw)

    # --- for the world ---

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

    def adapt(self) -> None:
        """Take over what has changed in the plan of the world, and at the clocks of the machine."""
        self._pauses = self.world.plan.pauses(self.place)
        self.store.adapt(self.world.plan)
        next_turn_at = self.loop.next_turn_at()
        if next_turn_at:
            self._want(max(self.world.now, self._machine.when(next_turn_at)))

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
            self.world.at(due, self._step, self._tie(due))
        else:
            self._wanted = min(at, self._wanted)

    def _tie(self, at: int) -> float:
        """Return the place of its turns among the simultaneous events at *at*, however many turns there are."""
        mixed = (at ^ self._salt) * 0x9E3779B97F4A7C15 & MASK
        return (mixed ^ mixed >> 32) / (MASK + 1)

    def _step(self) -> None:
        now = self.world.now
        if now != self._due or self.has_crashed:  # An earlier turn was planned meanwhile, or it crashed.
            return
        pause = inside(self._pauses, now)
        if pause is not None:  # It began after this turn was planned.
            self._due = pause[1]
            self.world.at(self._due, self._step, self._tie(self._due))
            return
        self._thaw = now - self._wanted > THAW_US
        self._due = 0  # New work during this turn need not plan another one.
        before = substituted()
        substitute(self.clock)
        try:
            self.loop.step()
        except BaseException:  # What leaves a loop, as SystemExit does, ends its process.
            self.world.end(self.place)
            raise
        finally:
            substitute(before)
        self._turns = self._turns + 1 if now == self._turned_at else 1
        self._turned_at = now
        self._free_at = now + self._burned + (SPIN_US if self._turns >= FREE_TURNS else 0)
        self._burned = 0
        self._thaw = False
        self._due = None
        next_turn_at = self.loop.next_turn_at()
        if next_turn_at is not None:
            self._want(self._free_at if next_turn_at == 0 else self._machine.when(next_turn_at))


class ProcessClock(Clock):
    """The clocks of a process, for every scheduler in it that has no clock of its own."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.steady, process.wall)
        self._process = process
        self._identities: list[str] = []

    def __repr__(self) -> str:
        return f"<clock of {self._process.id}>"

    def _join(self, loop: asyncio.AbstractEventLoop, identity: str, timer: Timer) -> str:
        """Return the name of the process as the identity of its scheduler; a second one needs another name."""
        if loop is not self._process.loop:
            raise VirtualTimeError(f"a scheduler of instance {self._process.place} starts in another loop than its own")
        if identity not in self._identities:
            identity = f"{self._process.id}{'.' * len(self._identities)}"
            self._identities.append(identity)
        return identity
