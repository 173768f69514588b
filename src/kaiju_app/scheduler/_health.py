"""Whether a scheduler does what it is there for, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import DISABLED, TaskEntry

if TYPE_CHECKING:
    from kaiju_app._cluster.cluster import Cluster

BEHIND = 10_000_000  # Planning that is this far behind its clock is no hiccup.


class ProblemKind(StrEnum):
    """What is wrong with a scheduler.

    Attributes:
        STOPPED: It is not started.
        STUCK: It makes no progress: something has been due for ten seconds and was not looked at.
        STORE: The store is unavailable: no further ticks of cluster tasks are claimed.
        OVERDUE: A task has not succeeded within its ``expect_success_within_s``.
    """

    STOPPED = "stopped"
    STUCK = "stuck"
    STORE = "store"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a scheduler is not healthy.

    Attributes:
        kind: What is wrong.
        text: The same in a sentence, for people.
        task: Name of the task that is concerned; None if it is no single one.
    """

    kind: ProblemKind
    text: str
    task: str | None = None

    def json_repr(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"kind": self.kind.value, "text": self.text, "task": self.task}


@dataclass(frozen=True, slots=True)
class SchedulerHealth:
    """How a scheduler is. It is healthy if there are no problems.

    Attributes:
        problems: What is wrong, the worst first.
        store_up: Whether the store answers; None without a store, and while the scheduler is stopped.
    """

    problems: tuple[Problem, ...]
    store_up: bool | None

    @property
    def healthy(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def json_repr(self) -> dict[str, object]:
        """Return it as JSON values."""
        problems = [each.json_repr() for each in self.problems]
        return {"healthy": self.healthy, "store_up": self.store_up, "problems": problems}


def health_of(engine: Engine, cluster: Cluster | None) -> SchedulerHealth:
    """Return what is wrong with a scheduler; safe in any thread."""
    if not engine.started:
        return SchedulerHealth((Problem(ProblemKind.STOPPED, "the scheduler is not started"),), None)
    problems = [*_stuck(engine)]
    state = None if cluster is None else cluster.state()
    if state is not None and state["state"] == "degraded":
        text = (
            f"store {state['name']}: unavailable for {state['degraded_s']:.3g} s: no further ticks of cluster tasks "
            "are claimed, and runs in progress go on while their lease lasts"
        )
        problems.append(Problem(ProblemKind.STORE, text))
    for event in engine.recorder.expectations.overdue():
        entry = engine.entries.get(event.task)
        problems.append(Problem(ProblemKind.OVERDUE, f"{event}{_why_not(engine, entry)}", event.task))
    return SchedulerHealth(tuple(problems), None if state is None else state["state"] == "ok")


def _stuck(engine: Engine) -> list[Problem]:
    if engine.loop is not None and engine.loop.is_closed():
        return [Problem(ProblemKind.STUCK, "the event loop of the scheduler is closed, and stop() was not called")]
    heap, now = engine.queue.heap, engine.now()
    first = next(iter(heap), None)  # Another thread may be asking.
    if first is None or now - first[0] <= BEHIND:
        return []
    _, place = engine.watch.owed()
    text = (
        f"the scheduler makes no progress: what was due {(now - first[0]) / 1e6:.3g} s ago was not looked at. The "
        "event loop is blocked, or has too much to do"
        f"{'' if place is None else f'. It is at {place}'}"
    )
    return [Problem(ProblemKind.STUCK, text)]


def _why_not(engine: Engine, entry: TaskEntry | None) -> str:
    if entry is None:
        return ""
    if entry.flags & DISABLED:
        return "; it is disabled"
    holds = [*(entry.holds or ()), *engine.holds]
    return f"; it is held by {', '.join(map(str, holds))}" if holds else ""
