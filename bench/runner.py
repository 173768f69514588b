"""Starts workers, and lets candidates take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers import install

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0  # Registering a million tasks takes the slowest known scheduler a minute.
UNCLEAN = ("was destroyed but it is pending", "was never awaited", "was never retrieved", "Exception in callback")
SHARED = 0.03  # A worker that waits for its core for a larger share of the time shares it with another program.
SAID_LINES = 20  # Lines of a failed worker's output that are shown: the end, where the error is.

Figures = dict[str, float]
Rounds = dict[str, list[Figures]]  # By candidate, one entry a round.


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        workload: Its name.
        size: Its arguments.
        loop: The kind of loop, `asyncio` or `uvloop`.
        patience_s: The seconds after which it is given up.
        pinned: Whether it runs on one core; not, if it consists of several processes.
    """

    workload: str
    size: dict[str, Any]
    loop: str = "asyncio"
    patience_s: float = PATIENCE_S
    pinned: bool = True


# A plan yields the jobs of one round of one candidate, is sent their figures, and returns those of the round.
Plan = Generator[Job, Figures, Figures]


class WorkerFailed(Exception):
    """A measurement failed."""

    def __init__(self, who: str, job: Job, said: str) -> None:
        end = "\n".join(said.strip().splitlines()[-SAID_LINES:])
        super().__init__(f"{who}, {job.workload} {job.size} on {job.loop}: {end or 'no output'}")


class GivenUp(WorkerFailed):
    """A measurement did not end in time."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs workers."""

    path: str
    name: str
    version: tuple[int, int]

    @property
    def eager(self) -> bool:
        """Whether it has eager tasks."""
        return self.version >= (3, 12)


ASK = """
import json, platform, sys
print(json.dumps([platform.python_implementation(), platform.python_version(), sys.version_info[:2]]))
"""


def interpreter(path: str) -> Interpreter:
    """Return the implementation and version of the Python at *path*."""
    said = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    implementation, version, (major, minor) = json.loads(said)
    return Interpreter(path, f"{implementation} {version}", (major, minor))


def last_core() -> int | None:
    """Choose the core to pin workers to: the last one allowed; None where processes cannot be pinned.

    Interrupts tend to go to the first core.
    """
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


def environment() -> dict[str, str]:
    """Return an environment in which any interpreter finds this source tree; nothing else need be installed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Workers:
    """Runs jobs in fresh processes of one interpreter."""

    interpreter: Interpreter
    core: int | None
    peers: tuple[str, ...] = ()  # Candidates that have an environment of their own.

    def run(self, who: str, job: Job) -> Figures:
        """Measure *who*.

        Raises:
            GivenUp: It was not over after the job's patience.
            WorkerFailed: The worker failed, or left tasks behind.
        """
        argument = json.dumps({**vars(job), "who": who, "core": self.core if job.pinned else None})
        try:
            ended = subprocess.run(
                [self._python(who, job), "-m", "bench.worker", argument],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=job.patience_s,
            )
        except subprocess.TimeoutExpired as late:
            raise GivenUp(who, job, f"not over after {job.patience_s:.1f} s") from late
        if ended.returncode or any(sign in ended.stderr for sign in UNCLEAN):
            raise WorkerFailed(who, job, ended.stderr)
        answer = json.loads(ended.stdout)
        if job.pinned and answer["waited"] > SHARED:
            note = f"  {who}, {job.workload}: waited for its core {answer['waited']:.0%} of the time; others use it"
            print(note, file=sys.stderr, flush=True)
        figures: Figures = answer["figures"]
        return figures

    def _python(self, who: str, job: Job) -> str:
        if who not in self.peers:
            return self.interpreter.path
        try:
            return install(who, self.interpreter.path, self.interpreter.name.split()[-1])
        except (OSError, subprocess.SubprocessError) as error:
            raise WorkerFailed(who, job, f"its environment cannot be made: {error}") from error


def take_turns(plans: dict[str, Plan], run: Callable[[str, Job], Figures], failures: list[str]) -> dict[str, Figures]:
    """Carry out the plans of several candidates job by job, each in its turn.

    Returns:
        The figures of the candidates whose plan succeeded. The errors of the others are appended to *failures*.
    """
    figures: dict[str, Figures] = {}
    jobs = {who: next(plan) for who, plan in plans.items()}
    while jobs:
        for who, job in list(jobs.items()):
            try:
                jobs[who] = turn(plans[who], who, job, run)
            except StopIteration as end:
                figures[who] = end.value
                del jobs[who]
            except WorkerFailed as failure:
                failures.append(str(failure))
                del jobs[who]
    return figures


def turn(plan: Plan, who: str, job: Job, run: Callable[[str, Job], Figures]) -> Job:
    """Do one job and return the plan's next; a plan may have an answer to being too slow, but to no other failure."""
    try:
        figures = run(who, job)
    except GivenUp as too_slow:
        return plan.throw(too_slow)
    return plan.send(figures)


def rounds(
    plan: Callable[[], Plan], whos: list[str], run: Callable[[str, Job], Figures], count: int, failures: list[str]
) -> Rounds:
    """Let all of *whos* take turns for *count* rounds."""
    taken: Rounds = {}
    for number in range(count):
        print(f"  round {number + 1} of {count}: {', '.join(whos)}", file=sys.stderr, flush=True)
        for who, figures in take_turns({who: plan() for who in whos}, run, failures).items():
            taken.setdefault(who, []).append(figures)
    return taken
