"""The cluster of a test: instances of an application in one thread, and the faults that the test calls for."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from kaiju_app._core.clock import Clock, epoch_us, substituted, utc
from kaiju_app._core.validate import aware, duration_us, integer
from kaiju_app.errors import InvalidArgument, VirtualTimeError, WrongState
from kaiju_app.testing._clock import START
from kaiju_app.testing._in_use import put_back, put_in_place

from .hosted import Factory, Hosts, Version
from .network import Network, as_code
from .plan import Plan
from .script import Script
from .shared_task import SharedTask
from .stage import LIFE_S, Stage
from .world import World

MOST_INSTANCES = 26  # Each is named by a letter.


class Cluster:
    """Instances of an application in one thread, each with an event loop and clocks of its own, and faults on call.

    The instances share a store in memory, behind a wire that delays, loses, duplicates and reorders messages. Time is
    virtual: it passes in ``advance()``, ``restart()`` and ``deploy()`` only. The same seed and the same calls give the
    same journal, byte for byte, on every Python. An exception that leaves the ``with`` block gets a note with a script
    that makes the same calls again.

    Call the methods in a plain function, outside of the instances. Instances are numbered from 0 on. A scheduler in an
    instance lives by the clocks of that instance. In an instance, threads and ``time.sleep()`` are refused.

    Args:
        app_factory: Makes the application of one ``Instance``: an Application or a Scheduler, not started, with the
            store ``instance.store``. It is called in the loop of the instance, and again at each restart.
        instances: How many there are, 1 to 26.
        seed: Decides what happens to messages, the uptime of machines, and the order of simultaneous events.
        start: Aware datetime that all clocks show at first.
        network: What can happen to messages; None for ``Network()``.

    Raises:
        InvalidArgument: An argument is out of range.
    """

    def __init__(
        self,
        app_factory: Factory,
        instances: int = 3,
        *,
        seed: int = 0,
        start: datetime = START,
        network: Network | None = None,
    ) -> None:
        if not callable(app_factory):
            raise InvalidArgument("app_factory", app_factory, "must be a function that makes an app for an Instance")
        if integer("instances", instances, at_least=1) > MOST_INSTANCES:
            raise InvalidArgument("instances", instances, f"must be at most {MOST_INSTANCES}")
        if network is not None and not isinstance(network, Network):
            raise InvalidArgument("network", network, "must be a Network, or None for Network()")
        self._count = instances
        self._seed = integer("seed", seed, at_least=0)
        hosts = Hosts(app_factory, instances)
        plan = Plan(network=network or Network(), for_s=LIFE_S, start_us=epoch_us(aware("start", start)))
        self._world = World(plan, instances, seed, hosts.boot)
        arguments = [f"instances={instances}", f"seed={seed}"]
        arguments += [] if start == START else ["start=start"]
        arguments += [] if network is None else [f"network={as_code(network)}"]
        self._script = Script(app_factory, arguments, None if start == START else start)
        self._stage = Stage(self._world, hosts, self._script)
        self._thread: int | None = None
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Cluster of {self._count} instances, seed {self._seed}>"

    def __enter__(self) -> Self:
        """Start all instances.

        Raises:
            VirtualTimeError: Another cluster or clock is in use, a scheduler is running, or this was entered before.
            InvalidArgument: The factory has returned something wrong.
        """
        _check_no_loop("with Cluster(...)")
        if self._thread is not None:
            raise VirtualTimeError(f"{self!r} has been used already: make a new one, which begins anew")
        used = substituted()
        if isinstance(used, _Outside):
            raise VirtualTimeError(f"there are two clusters: {used.cluster!r} is in use; leave its `with` block first")
        if used is not None:
            raise VirtualTimeError(
                f"a cluster has clocks of its own, and {used!r} is in use: leave the `with` block of that clock first, "
                "or do not ask for the fixtures `clock`, `scheduler` and `app` in this test"
            )
        put_in_place(_Outside(self, self._world))
        self._thread = threading.get_ident()
        try:
            self._stage.reach(0)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc is not None:
                exc.add_note(f"{self!r}: these calls led here, {self.now()}:\n\n{self._script}")
        finally:
            self._close()

    # --- what there is ---

    def now(self) -> datetime:
        """Return the real time, as an aware UTC datetime; the clocks of instances and of the store may differ."""
        return utc(self._world.plan.start_us + self._world.now)

    @property
    def journal(self) -> list[str]:
        """What has happened, a line each: starts and ends of instances, faults, changes in the store, ends of runs.

        A line begins with the seconds since the start, in real time, and with who it is about: the store, or a life of
        an instance. ``b2`` is the second life of instance 1. Lines of the same instant are in alphabetical order.
        """
        return [str(entry) for entry in sorted(self._world.journal)]

    def script(self) -> str:
        """Return a program of less than thirty lines that makes the same calls."""
        return str(self._script)

    def task(self, name: str) -> SharedTask:
        """Return the cluster task *name* for ``ran()`` and ``ledger()``; its ``owner`` is the instance that runs it.

        Raises:
            UnknownTask: No instance has registered such a task.
        """
        return SharedTask(self._world.store, name)

    # --- time ---

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass.

        Raises:
            InvalidArgument: *seconds* is negative.
            VirtualTimeError: An instance has started a thread, or has slept in real time.
            BaseException: What the application of an instance raised when it was made, started or stopped.
            SystemExit: A body has called ``sys.exit()``. Its instance has ended.
        """
        self._check("advance")
        passed = duration_us("seconds", seconds)
        self._script.advance(passed)
        self._stage.reach(self._world.now + passed)

    # --- faults ---

    def pause(self, instance: int, for_s: float | timedelta) -> None:
        """Stop *instance* for *for_s* seconds, as SIGSTOP and SIGCONT do: nothing is lost, but everything is late.

        Raises:
            WrongState: The instance is not running.
        """
        place = self._place("pause", instance, must_live=True)
        self._stage.pause(place, duration_us("for_s", for_s))

    def kill(self, instance: int) -> None:
        """End *instance* at once, as SIGKILL does.

        The ``finally`` blocks that it is in are run when the ``with`` block is left, without effect on the cluster.

        Raises:
            WrongState: The instance is not running.
        """
        self._stage.kill(self._place("kill", instance, must_live=True))

    def restart(self, instance: int) -> None:
        """Start *instance* again. One that is alive is first stopped in order. Time passes until it has started.

        One that needs more than 60 s to stop is killed, as a supervisor would do it: the journal says "crash".

        Raises:
            VirtualTimeError: It has not started within 60 s.
            BaseException: What the application raised when it was made, started or stopped.
        """
        place = self._place("restart", instance)
        self._stage.note(f"restart({place})", place)
        self._stage.restart(place)

    def partition(self, instance: int, for_s: float | timedelta) -> None:
        """Cut *instance* off from the store for *for_s* seconds. Messages that are under way still arrive."""
        place = self._place("partition", instance)
        self._stage.partition(place, duration_us("for_s", for_s))

    def skew(self, instance: int, seconds: float = 0.0, *, rate: float = 1.0) -> None:
        """Set the wall clock of *instance* forward by *seconds*, and let its clocks run *rate* times as fast as time.

        The clocks belong to the machine, and stay as they are when the instance is restarted.

        Raises:
            InvalidArgument: *rate* is not between 0.1 and 10.
        """
        place = self._place("skew", instance)
        if not 0.1 <= rate <= 10:
            raise InvalidArgument("rate", rate, "must be between 0.1 and 10")
        self._stage.skew(place, seconds, rate)

    def jump_store_clock(self, seconds: float) -> None:
        """Set the clock of the store forward by *seconds*, or back if they are negative."""
        self._check("jump_store_clock")
        self._stage.jump_store_clock(seconds)

    def deploy(self, version: Version) -> None:
        """Restart the instances one after the other, with *version*, as a rolling deployment does.

        Time passes: each is stopped in order and has started with *version* before the next one is stopped. One that
        needs more than 60 s to stop is killed.

        Raises:
            VirtualTimeError: An instance has not started within 60 s.
            BaseException: What the application of an instance raised when it was made, started or stopped.
        """
        self._check("deploy")
        self._stage.note(f"deploy({version!r})")
        for place in range(self._count):
            self._stage.restart(place, version)

    # --- whether a call is right ---

    def _place(self, call: str, instance: int, *, must_live: bool = False) -> int:
        self._check(call)
        if integer("instance", instance, at_least=0) >= self._count:
            raise InvalidArgument("instance", instance, f"must be less than {self._count}, the number of instances")
        if must_live and self._world.living(instance) is None:
            raise WrongState(f"cluster.{call}({instance}): the instance is not running; cluster.restart() starts it")
        return instance

    def _check(self, call: str) -> None:
        _check_no_loop(f"cluster.{call}()")
        if self._thread is None or self._is_over:
            when = "before" if self._thread is None else "after"
            raise VirtualTimeError(f"cluster.{call}() is called {when} the block of `with Cluster(...) as cluster:`")
        if self._thread != threading.get_ident():
            raise VirtualTimeError(f"cluster.{call}() is called in another thread than its `with` block: call it there")

    def _close(self) -> None:
        self._is_over = True
        try:
            self._world.close()
        finally:
            put_back()


def _check_no_loop(call: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise VirtualTimeError(
            f"{call} is called in a running event loop, but runs the loops of its instances itself: write the test as "
            "a plain `def`, and call it there, not in the code of an instance"
        )


class _Outside(Clock):
    """What the test itself reads: the real time of the cluster."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        super().__init__(lambda: world.now, lambda: world.plan.start_us + world.now)
        self.cluster = cluster

    def __repr__(self) -> str:
        return f"<clock of {self.cluster!r}>"

    def _join(self, loop: asyncio.AbstractEventLoop, identity: str, timer: object) -> str:
        raise VirtualTimeError(
            f"a scheduler starts outside of the instances of {self.cluster!r}: let the application factory make it, "
            "and the cluster start it"
        )
