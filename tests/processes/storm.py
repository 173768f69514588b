"""Random faults while processes share tasks, and figures about the ticks meanwhile."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from random import Random

from kaiju_app._core.clock import steady_us
from processes.group import Ledger, Process, Processes, failovers, longest_gap, seconds, us, violations


class Storm:
    """Random faults of three processes. A killed one is replaced by another under a new name.

    Args:
        processes: The group, with no process started yet.
        tasks: Names of the tasks.
        seed: The same seed gives the same faults.
        witness: Add a process without faults. It has watched the store's clock for long enough to take leases over at
            any time, and it is the only one that suspends.

    Attributes:
        faults: Number of faults by kind.
        kills: Time and name of each killed process.
    """

    def __init__(self, processes: Processes, tasks: Sequence[str], seed: int, *, witness: bool = False) -> None:
        self.processes = processes
        self.tasks = tasks
        self.witness = "w" if witness else ""
        self.rng = Random(seed)
        self.living: dict[str, Process] = {}
        self.faults: Counter[str] = Counter()
        self.kills: list[tuple[int, str]] = []
        self.began = self.over = 0
        self.ledger = Ledger((), (), 1)
        self._lives: Counter[str] = Counter()

    def of_kills(self, for_s: float) -> None:
        """Kill one process after another for *for_s*, check that all tasks still run, and stop all in order."""
        self.begin()
        while seconds(self.began, steady_us()) < for_s:
            self.pause(0.3, 0.7)
            place = self.rng.choice("abc")
            if self.rng.random() < 0.5:
                self.suspend(self.witness or place)
            self.pause(0.3, 0.7)
            self.kill(self.rng.choice("abc"))
        self.end()

    def begin(self) -> None:
        """Start the processes, and wait until their schedulers have started."""
        for place in "abc":
            self.boot(place)
        if self.witness:
            self.boot(self.witness)
            self.processes.start_settled()
        self.all_up()
        self.began = steady_us()

    def boot(self, place: str) -> None:
        """Start a process without waiting for it."""
        self._lives[place] += 1
        self.living[place] = self.processes.start(f"{place}{self._lives[place]}")

    def all_up(self, within_s: float = 20.0) -> None:
        """Wait until the schedulers of all live processes have started."""
        for process in self.living.values():
            self.processes.wait_for_line(
                lambda each, who=process.who: (each.who, each.event) == (who, "boot"), within_s=within_s
            )

    def pause(self, least_s: float, most_s: float) -> None:
        self.processes.wait_until(steady_us() + us(self.rng.uniform(least_s, most_s)))

    def suspend(self, place: str) -> None:
        self.living[place].tell("suspend", self.rng.choice(self.tasks), self.rng.uniform(0.1, 0.5))

    def kill(self, place: str) -> None:
        """Kill a process and start another in its place."""
        self.faults["kill"] += 1
        process = self.living[place]
        self.kills.append((process.kill(), process.who))
        self.boot(place)

    def end(self, within_s: float = 20.0) -> None:
        """Wait until all tasks have run again, and stop all processes in order."""
        self.over = steady_us()
        for task in self.tasks:
            self.processes.wait_for_line(
                lambda each, task=task: (each.event, each.task) == ("begin", task), self.over, within_s
            )
        self.all_up(within_s)
        self.ledger = self.processes.end()

    # --- results ---

    @cached_property
    def failovers(self) -> list[float]:
        """Seconds from each kill that cut a run to the next run of its task in another process."""
        return self.failovers_of(self.kills)

    def failovers_of(self, kills: Sequence[tuple[int, str]]) -> list[float]:
        entries = self.processes.entries
        return [
            took for task in self.tasks for took in failovers([each for each in entries if each.task == task], kills)
        ]

    @property
    def longest_silence_s(self) -> float:
        """The longest time in which some task did nothing, in seconds."""
        entries = self.processes.entries
        return max(
            longest_gap([each for each in entries if each.task == task], self.began, self.over) for task in self.tasks
        )

    def figures(self) -> dict[str, object]:
        """Return the figures for the report."""
        entries = self.processes.entries
        begun = [each for each in entries if each.event == "begin" and each.task in self.tasks]
        return {
            "faults": sum(self.faults.values()),
            "runs": len(begun),
            "ticks": len({(each.task, each.tick) for each in begun}),
            "skipped": sum(row.count for row in self.ledger.rows if row.outcome == "SKIPPED"),
            "runs_cut": len(self.failovers),
            "suspensions": sum(each.event == "suspended-begin" for each in entries),
            "violations": sum(len(violations(entries, task)) for task in self.tasks),
            "failover_p50_s": statistics.median(self.failovers) if self.failovers else 0.0,
            "failover_max_s": max(self.failovers, default=0.0),
            "longest_silence_s": self.longest_silence_s,
        }

    def check(self) -> None:
        """Fail if a promise was broken."""
        self.processes.check(self.ledger, tasks=self.tasks)
