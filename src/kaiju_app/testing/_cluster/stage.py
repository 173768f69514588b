"""What happens in a cluster when a test calls for it: time passes, and faults begin."""

from __future__ import annotations

from collections.abc import Callable

from kaiju_app.errors import VirtualTimeError
from kaiju_app.testing._watchdog import Watchdog

from .hosted import Hosts, Version
from .plan import MILLION, Cut, Jump, Pause, us
from .script import Script, in_seconds
from .world import World

LIFE_S = 3e9  # Of a cluster: 95 years.
LIMIT = 60 * MILLION  # What the start and the orderly stop of an instance may take; a supervisor would kill it then.
PATIENCE_S = 20.0  # Real seconds for which a body may keep its loop before it counts as one that never awaits.


class Stage:
    """The world of a cluster. What happens in it is noted in a script and in the journal."""

    def __init__(self, world: World, hosts: Hosts, script: Script) -> None:
        self._world = world
        self._hosts = hosts
        self._script = script

    def reach(self, until: int, is_over: Callable[[], object] = bool) -> None:
        """Let time pass until *until*, or until *is_over*; raise what went wrong in an instance."""
        failures, world = self._hosts.failures, self._world
        with Watchdog(lambda: world.steps, PATIENCE_S, "Let it await, or do less between two awaits"):
            world.reach(until, lambda: failures or is_over())
        if failures:
            raise failures.pop(0)

    def note(self, call: str, place: int | None = None) -> None:
        """Note *call* in the script and in the journal."""
        self._script.note(call)
        who = "" if place is None else chr(ord("a") + place)
        self._world.write(self._world.now, who, "fault", note=call)

    def pause(self, place: int, for_us: int) -> None:
        """Do not step the process in *place*."""
        self.note(f"pause({place}, {in_seconds(for_us)})", place)
        self._world.add(Pause(self._world.now / 1e6, place, for_us / 1e6))

    def partition(self, place: int, for_us: int) -> None:
        """Let no message to or from *place* through."""
        self.note(f"partition({place}, {in_seconds(for_us)})", place)
        self._world.add(Cut(self._world.now / 1e6, place, for_us / 1e6))

    def jump_store_clock(self, by_s: float) -> None:
        """Set the clock of the store."""
        self.note(f"jump_store_clock({by_s!r})")
        self._world.add(Jump(self._world.now / 1e6, by_s))

    def skew(self, place: int, by_s: float, rate: float) -> None:
        """Set the wall clock of the machine in *place*, and how fast its clocks run."""
        self.note(f"skew({place}, {by_s!r}{'' if rate == 1 else f', rate={rate!r}'})", place)
        self._world.machines[place].skew(self._world.now, us(by_s), us(rate) - MILLION)
        process = self._world.living(place)
        if process is not None:
            process.adapt()

    def kill(self, place: int) -> None:
        """End the process in *place*."""
        self.note(f"kill({place})", place)
        self._world.end(place)

    def restart(self, place: int, version: Version | None = None) -> None:
        """Stop the process in *place* in order, if there is one, and start another one, with *version* if given."""
        world, hosts = self._world, self._hosts
        old = world.living(place)
        if old is not None:
            old.spawn(lambda: hosts.stop(old))
            self.reach(world.now + LIMIT, lambda: old in hosts.stopped)
            world.end(place, "stop" if old in hosts.stopped else "crash")
        if version is not None:
            hosts.versions[place] = version
        new = world.begin(place, us(LIFE_S))
        self.reach(world.now + LIMIT, lambda: new in hosts.started)
        if new not in hosts.started:
            raise VirtualTimeError(
                f"instance {place} has not started within {in_seconds(LIMIT)} s: is it paused, or does its app wait "
                "for something at the start? To restart it during a long pause, call advance() until the pause is over"
            )
