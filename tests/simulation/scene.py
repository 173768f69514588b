"""A scene: how its plans are drawn, what its instances run, and what has to hold.

``Scene.violations(seed)`` returns what was broken, in words. ``Scene.report(seed)`` adds the Python code that replays
the smallest plan that breaks it. The checks here cover what ``journal.violations()`` does not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from kaiju_app._cluster.timing import DEFAULT_TIMING
from kaiju_app._core.model import Outcome
from kaiju_app.scheduler import LeaseTiming, OnLost
from kaiju_app.testing._cluster.journal import Entry
from kaiju_app.testing._cluster.loop import logging_disabled
from kaiju_app.testing._cluster.plan import MILLION, Ask, Plan, us
from kaiju_app.testing._cluster.process import Process
from kaiju_app.testing._cluster.world import AskHook, BootHook
from simulation.checked import Simulation
from simulation.hunt import script, shrink
from simulation.promises import Bounds
from simulation.worker import Work, Worker


class SceneSimulation(Simulation):
    """A simulation that knows its workers."""

    def __init__(
        self, plan: Plan, instances: int, seed: int, boot: BootHook, ask: AskHook, workers: Mapping[str, Worker]
    ) -> None:
        super().__init__(plan, instances, seed, boot, ask)
        self.workers = workers


Check = Callable[[SceneSimulation, "Scene"], list[str]]
SAFETY = Bounds(failover_s=1e6, entry_s=1e6)  # No time limits.


@dataclass(frozen=True)
class Scene:
    """A kind of faults, and the promises that have to hold under them.

    Args:
        draw: Draws a plan.
        bounds: For the promises that ``journal.violations()`` checks.
        checks: What has to hold besides.
    """

    name: str
    draw: Callable[[Random], Plan]
    work: Work
    timing: LeaseTiming = DEFAULT_TIMING
    instances: int = 3
    bounds: Bounds = SAFETY
    checks: tuple[Check, ...] = ()

    def plan(self, seed: int) -> Plan:
        return self.draw(Random(f"{self.name} {seed}"))

    def violations(self, seed: int, plan: Plan | None = None) -> list[str]:
        """Run the simulation and return what was broken."""
        simulation = self.simulation(seed, plan)
        with logging_disabled(), simulation:
            simulation.run()
            bounds = replace(self.bounds, may_skip=self.work.tasks)  # Nobody may be there to run a tick.
            checks = takes_count, never_busy, *self.checks
            return simulation.violations(bounds) + [each for check in checks for each in check(simulation, self)]

    def simulation(self, seed: int, plan: Plan | None = None) -> SceneSimulation:
        workers: dict[str, Worker] = {}

        async def boot(instance: Process) -> None:
            workers[instance.id] = worker = Worker(instance, self.timing, self.work)
            await worker.run()

        async def ask(instance: Process, asked: Ask) -> None:
            await workers[instance.id].on_ask(asked)

        return SceneSimulation(self.plan(seed) if plan is None else plan, self.instances, seed, boot, ask, workers)

    def report(self, seed: int) -> str:
        """Return what was broken, with the Python code that replays the smallest plan that breaks the same thing."""
        kind = _kind(self.violations(seed)[0])
        small = shrink(self.plan(seed), lambda plan: any(_kind(each) == kind for each in self.violations(seed, plan)))
        lines = script(small, self.instances, seed).splitlines()
        replay = "\n".join(lines[: next(place for place, line in enumerate(lines) if line.startswith("with"))])
        wrong = "\n\n".join(each for each in self.violations(seed, small) if _kind(each) == kind)
        return f"{replay}\nfound = SCENES[{self.name!r}].violations({seed}, plan)\n\n{wrong}"


def _kind(wrong: str) -> str:
    """Return the text of a violation without names and numbers."""
    return re.sub(r"[\d.]+|^\w+: |: .*", "", re.sub(r"\b[a-c]\d+", "", wrong.splitlines()[0]))


# --- what has to hold besides ---


def exactly_once(simulation: SceneSimulation, scene: Scene) -> list[str]:
    """Without faults every tick begins once, at its first claim and in time, and no claim is given back."""
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
            found.append(f"a claim was given back or challenged: {entry}")
    found += [f"a tick begins {times} times: {key}" for key, times in begun.items() if times > 1]
    return found


LATE_S = 0.1
SETTLED_S = 15.0  # By then the instances know each other and the store's clock.


def takes_count(simulation: SceneSimulation, scene: Scene) -> list[str]:
    """A take counts the claims of a tick that have begun or may have begun; no two that begin have the same take."""
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


def never_busy(simulation: SceneSimulation, scene: Scene) -> list[str]:
    """No instance floods the store with calls."""
    most = BUSY * simulation.plan.for_s
    return [
        f"{life.id} called the store {calls} times" for life in simulation.lives if (calls := life.store.calls) > most
    ]


BUSY = 15  # Calls a second by one instance: more than twice as many as in any scene.


def due_when_begun(simulation: SceneSimulation, scene: Scene) -> list[str]:
    """No run begins before its tick is due, which is the tick plus its jitter."""
    dues = {key: due for worker in simulation.workers.values() for key, due in worker.dues.items()}
    return [
        f"a run begins before it is due, by {(due - entry.store) / MILLION:.3f} s: {entry}"
        for entry in simulation.journal
        if entry.event == "begin" and not entry.note and entry.store < (due := dues[entry.task, entry.fence])
    ]


def no_gaps(simulation: SceneSimulation, scene: Scene) -> list[str]:
    """Every tick of the grid is in the ledger: as a run, as lost for good, or as skipped."""
    every = us(scene.work.every_s[0])
    found = []
    for name in scene.work.tasks:
        rows = sorted(
            (row for row in simulation.rows() if row.name == name and not row.manual), key=lambda row: row.first_tick
        )
        lost = {row.first_tick for row in rows if row.outcome == Outcome.LOST.value}
        ended = [row for row in rows if row.outcome != Outcome.LOST.value]
        for one, other in pairwise(ended):
            missing = range(one.last_tick + every, other.first_tick, every)
            for_good = scene.work.on_lost is OnLost.SKIP and lost.issuperset(missing)
            if other.first_tick != one.last_tick + every and not for_good:
                found.append(f"{name}: the ledger misses the ticks between two rows: {one}, {other}")
    return found
