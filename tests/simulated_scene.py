"""A kind of times that instances go through: how it is drawn, what they run in it, and what has to hold.

``Scene.found(seed)`` returns what was broken, in words; ``Scene.told(seed)`` the same, with the smallest plan that
breaks it as Python that replays it. The checks here look at what ``violations()`` does not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from simulated_hunt import script, shrunk
from simulated_journal import Bounds, Entry
from simulated_loop import hushed
from simulated_plan import MILLION, Ask, Plan, us
from simulated_worker import Work, Worker
from simulated_world import Asked, Boot, Instance, Simulation

from kaiju_app._model import Outcome
from kaiju_app._timing import USUAL
from kaiju_app.scheduler import LeaseTiming, OnLost


class Hard(Simulation):
    """A simulation that knows its programs."""

    def __init__(
        self, plan: Plan, instances: int, seed: int, boot: Boot, ask: Asked, workers: Mapping[str, Worker]
    ) -> None:
        super().__init__(plan, instances, seed, boot, ask)
        self.workers = workers


Check = Callable[[Hard, "Scene"], list[str]]
SAFETY = Bounds(failover_s=1e6, entry_s=1e6)  # Nothing is expected in time.


@dataclass(frozen=True)
class Scene:
    """A kind of times, and what has to be kept in them.

    Args:
        draw: The plan of a seed.
        bounds: For the promises that ``violations()`` knows.
        checks: What has to hold besides.
    """

    name: str
    draw: Callable[[Random], Plan]
    work: Work
    timing: LeaseTiming = USUAL
    instances: int = 3
    bounds: Bounds = SAFETY
    checks: tuple[Check, ...] = ()

    def plan(self, seed: int) -> Plan:
        return self.draw(Random(f"{self.name} {seed}"))

    def found(self, seed: int, plan: Plan | None = None) -> list[str]:
        """Return what was broken."""
        simulation = self.simulation(seed, plan)
        with hushed(), simulation:
            simulation.run()
            bounds = replace(self.bounds, may_skip=self.work.tasks)  # Ticks that nobody was there to run are skipped.
            checks = takes_count, never_busy, *self.checks
            return simulation.violations(bounds) + [each for check in checks for each in check(simulation, self)]

    def simulation(self, seed: int, plan: Plan | None = None) -> Hard:
        workers: dict[str, Worker] = {}

        async def boot(instance: Instance) -> None:
            workers[instance.id] = worker = Worker(instance, self.timing, self.work)
            await worker.run()

        async def ask(instance: Instance, asked: Ask) -> None:
            await workers[instance.id].asked(asked)

        return Hard(self.plan(seed) if plan is None else plan, self.instances, seed, boot, ask, workers)

    def told(self, seed: int) -> str:
        """Return what was broken, with the Python that replays the smallest plan that breaks the same thing."""
        kind = _kind(self.found(seed)[0])
        small = shrunk(self.plan(seed), lambda plan: any(_kind(each) == kind for each in self.found(seed, plan)))
        lines = script(small, self.instances, seed).splitlines()
        replay = "\n".join(lines[: next(place for place, line in enumerate(lines) if line.startswith("with"))])
        wrong = "\n\n".join(each for each in self.found(seed, small) if _kind(each) == kind)
        return f"{replay}\nfound = SCENES[{self.name!r}].found({seed}, plan)\n\n{wrong}"


def _kind(wrong: str) -> str:
    """Return what a violation says, without names and numbers."""
    return re.sub(r"[\d.]+|^\w+: |: .*", "", re.sub(r"\b[a-c]\d+", "", wrong.splitlines()[0]))


# --- what has to hold besides ---


def exactly_once(simulation: Hard, scene: Scene) -> list[str]:
    """Without faults every tick begins once, at its first claim, and in time; nothing is ever given back."""
    found = []
    begun: defaultdict[tuple[str, int], int] = defaultdict(int)
    for entry in simulation.journal:
        if entry.event == "begin":
            begun[entry.task, entry.tick] += 1
            late = entry.store - entry.tick
            if entry.take != 1:
                found.append(f"a tick begins at take {entry.take}: {entry}")
            if late > us(LATE_S) and entry.at > us(SETTLED_S):
                found.append(f"a tick begins {late / MILLION:.3f} s late: {entry}")
        elif entry.event in ("freed", "challenged"):
            found.append(f"a claim came to nothing: {entry}")
    found += [f"a tick begins {times} times: {key}" for key, times in begun.items() if times > 1]
    return found


LATE_S = 0.1
SETTLED_S = 15.0  # Until then instances do not know of each other, and of the clock of the store.


def takes_count(simulation: Hard, scene: Scene) -> list[str]:
    """A take counts the claims of a tick that have begun, or may have; no two that begin have the same one."""
    found = []
    claims: defaultdict[tuple[str, int, str], list[Entry]] = defaultdict(list)
    takes: dict[tuple[str, int], int] = {}
    before: dict[tuple[str, int], list[Entry]] = {}
    may_have_begun: set[tuple[str, int]] = set()
    for entry in simulation.journal:
        key = entry.task, entry.fence
        if entry.event == "claimed":
            earlier = claims[entry.task, entry.tick, entry.note]
            before[key] = list(earlier)
            earlier.append(entry)
        elif entry.event == "challenged":
            may_have_begun.add(key)
        elif entry.event == "begin":
            others = [(each.task, each.fence) for each in before[key]]
            if entry.take <= max((takes.get(each, 0) for each in others), default=0):
                found.append(f"a tick begins again with the same take: {entry}")
            if entry.take - 1 > sum(each in may_have_begun for each in others):
                found.append(f"claims that never began count as takes: {entry}")
            takes[key] = entry.take
            may_have_begun.add(key)
    return found


def never_busy(simulation: Hard, scene: Scene) -> list[str]:
    """Nobody keeps the store busy with nothing."""
    most = BUSY * simulation.plan.for_s
    return [
        f"{life.id} has called the store {calls} times"
        for life in simulation.lives
        if (calls := life.store.calls) > most
    ]


BUSY = 15  # Calls a second, by one instance, in any scene: more than twice what they come to.


def due_when_begun(simulation: Hard, scene: Scene) -> list[str]:
    """No run begins before its tick is due, which is later than the tick by its jitter."""
    dues = {key: due for worker in simulation.workers.values() for key, due in worker.dues.items()}
    return [
        f"a run begins before it is due, by {(due - entry.store) / MILLION:.3f} s: {entry}"
        for entry in simulation.journal
        if entry.event == "begin" and not entry.note and entry.store < (due := dues[entry.task, entry.fence])
    ]


def no_gaps(simulation: Hard, scene: Scene) -> list[str]:
    """Every tick of the grid is in the ledger: as a run, as lost for good, or among those that did not run."""
    every = us(scene.work.every_s[0])
    found = []
    for name in scene.work.tasks:
        rows = sorted(
            (row for row in simulation.rows() if row.name == name and not row.manual), key=lambda row: row.first
        )
        lost = {row.first for row in rows if row.outcome == Outcome.LOST.value}
        ended = [row for row in rows if row.outcome != Outcome.LOST.value]
        for one, other in pairwise(ended):
            missing = range(one.last + every, other.first, every)
            for_good = scene.work.on_lost is OnLost.SKIP and lost.issuperset(missing)
            if other.first != one.last + every and not for_good:
                found.append(f"{name}: ticks between two rows of the ledger are missing: {one}, {other}")
    return found
