"""What is measured: the scheduler, the floors and other schedulers behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from bench import floors, timers
from bench.clocks import wall_time
from bench.floors import NEXT, NOW, Body
from bench.peers import Digonio

CANDIDATE = "kaiju"
PEER = "digonio"
POLICIES = ("CANCEL", "WAIT", "SKIP", "SHIELD")

FLOORS: dict[str, Callable[[], Candidate]] = {
    "F2": timers.F2,
    "F3": timers.F3,
    "F4": floors.F4,
    "F4y": floors.F4y,
    "F5": floors.F5,
    "F4e": floors.F4e,
    "F5e": floors.F5e,
}
PEERS: dict[str, Callable[[], Candidate]] = {PEER: Digonio}
EAGER_FLOORS = ("F4e", "F5e")

KEPT_ENDINGS = 1_000  # Enough for every ending of a task in W6, so that none is pushed out before it is counted.


class Candidate(Protocol):
    """Something that runs functions periodically in the running loop."""

    @property
    def synchronous(self) -> bool:
        """Whether it calls plain functions instead of making a task per run."""

    @property
    def runs_every_tick(self) -> bool:
        """Whether a late tick is run all the same, or left out for the latest one."""

    @property
    def gives_way(self) -> bool:
        """Whether the rest of the loop gets a turn while much is due."""

    def add(self, func: Body, interval_s: float, first_due_s: float) -> Any:
        """Register *func*; return a handle for `remove`.

        Args:
            func: Called without arguments.
            interval_s: Seconds from one due time to the next.
            first_due_s: First due time by `time.monotonic`; NOW; or NEXT, one interval from now.
        """

    def remove(self, handle: Any) -> None:
        """Let no further tick of this task come due."""

    async def start(self) -> None:
        """Begin to run what is registered."""

    async def stop(self) -> None:
        """Run nothing more, and end what is running."""


class Kaiju:
    """`kaiju_app.scheduler.Scheduler`, as a user would use it."""

    synchronous = False
    runs_every_tick = False
    gives_way = True

    def __init__(self, policy: str = "CANCEL", **options: Any) -> None:
        # Imported here: workers measure floors also where the package or its dependencies are missing.
        from kaiju_app.scheduler import ExecPolicy, FirstRun, Scheduler

        self._scheduler = Scheduler(**options)
        self._policy = ExecPolicy[policy]
        self._first_runs: dict[float, Any] = {NOW: FirstRun.NOW, NEXT: FirstRun.NEXT}

    def add(self, func: Body, interval_s: float, first_due_s: float) -> Any:
        named = self._first_runs.get(first_due_s)
        first_run = wall_time(first_due_s) if named is None else named
        return self._scheduler.schedule_task(func, interval_s=interval_s, policy=self._policy, first_run=first_run)

    def remove(self, handle: Any) -> None:
        handle.remove()

    async def start(self) -> None:
        await self._scheduler.start()

    async def stop(self) -> None:
        await self._scheduler.stop()

    def ticks_ended(self, handle: Any) -> int:
        """Count the ticks of a task that have an ending, be it a run or a skip."""
        return sum(run.count for run in handle.history())  # Consecutive skips for one cause are one record.


def maker(who: str) -> Callable[[], Candidate]:
    """Return what makes the candidate called *who*: a floor's or a peer's name, `kaiju`, or `kaiju:` and a policy.

    Raises:
        ValueError: There is no such candidate.
    """
    name, _, policy = who.partition(":")
    others = FLOORS | PEERS
    if name in others and not policy:
        return others[name]
    if name == CANDIDATE and policy in ("", *POLICIES):
        return partial(Kaiju, policy, history=KEPT_ENDINGS) if policy else Kaiju
    raise ValueError(f"a candidate is one of {', '.join(names())}, got {who!r}")


def names() -> tuple[str, ...]:
    """List every candidate."""
    return (CANDIDATE, *(f"{CANDIDATE}:{policy}" for policy in POLICIES), *FLOORS, *PEERS)
