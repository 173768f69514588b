"""What ``scheduler.explain()`` returns: what became of a tick, and why, as facts and as a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .model import Run


class Fate(StrEnum):
    """What became of a tick.

    Attributes:
        RAN: Its run is over; ``run`` has the outcome.
        RUNNING: Its run is in progress. The run of a cluster task begins with its claim; for a moment after that, its
            instance may still find that the tick comes too late, and skip it.
        WAITING: It is due and has not started: the run before it is in progress, or something holds the task.
        SKIPPED: It did not run.
        DISABLED: It did not run, because the task is disabled.
        PLANNED: It is due later.
        NOT_DUE: There was no tick then.
        FORGOTTEN: It is older than what is kept.
        UNKNOWN: Nothing that is kept tells what became of it.
    """

    RAN = "ran"
    RUNNING = "running"
    WAITING = "waiting"
    SKIPPED = "skipped"
    DISABLED = "disabled"
    PLANNED = "planned"
    NOT_DUE = "not due"
    FORGOTTEN = "not known any more"
    UNKNOWN = "unknown"


class CauseKind(StrEnum):
    """Why a tick started late or not at all.

    Attributes:
        OVERLAP: A run of the task was in progress; ``tick`` is its tick.
        HELD: A suspension or a pause held the task, or all tasks.
        DISABLED: The task was disabled.
        BLOCKED: The event loop was blocked, for at least a second.
        SLEPT: The machine slept.
        CLOCK: The wall clock was set: it showed ``since``, and then ``until``.
        STORE: The store did not answer.
        STOPPED: The scheduler was not started.
        ABSENT: Of a cluster task: no instance was heard of.
        LEFT: Of a cluster task: an instance was heard of for the last time, and the others divided the tasks anew.
        CAME: Of a cluster task: an instance was started, and the tasks were divided anew.
        LOST: A run of the same tick was lost, with its process or its lease.
        RESCHEDULED: The task got another rule.
    """

    OVERLAP = "overlap"
    HELD = "held"
    DISABLED = "disabled"
    BLOCKED = "loop blocked"
    SLEPT = "machine slept"
    CLOCK = "clock set"
    STORE = "store away"
    STOPPED = "stopped"
    ABSENT = "no instance"
    LEFT = "instance left"
    CAME = "instance came"
    LOST = "lost"
    RESCHEDULED = "rescheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason why a tick started late or not at all."""

    kind: CauseKind
    since: datetime | None
    """When it began; None if that is not known."""
    until: datetime | None
    """When it ended; None if it goes on, or if that is not known."""
    who: str | None
    """By whom or by what; None if nobody knows."""
    tick: datetime | None
    """The tick of the run that was in progress or lost; None for other causes."""
    instance: str | None = None
    """Of a cluster task, the other instance that it happened to; None if it was this one, or all of them."""

    def json_repr(self) -> dict[str, object]:
        """Return the cause as JSON values; instants as UTC ISO text."""
        return {
            "kind": self.kind.value,
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "who": self.who,
            "tick": self.tick and self.tick.isoformat(),
            "instance": self.instance,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What became of a tick, and why. Its text is one sentence for people."""

    task: str
    asked: datetime
    """The instant that was asked for, in UTC."""
    tick: datetime | None
    """The tick at that instant, within a second; None if there is none."""
    fate: Fate
    run: Run | None
    """The record of the tick; None if there is none."""
    causes: tuple[Cause, ...]
    """Why it started late or not at all, as far as that is known."""
    before: datetime | None
    """The tick before the instant; None if it is not known, or if there is none."""
    after: datetime | None
    """The tick after the instant; None if it is not known, or if there is none."""
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def json_repr(self) -> dict[str, object]:
        """Return the explanation as JSON values; instants as UTC ISO text."""
        return {
            "task": self.task,
            "asked": self.asked.isoformat(),
            "tick": self.tick and self.tick.isoformat(),
            "fate": self.fate.value,
            "run": self.run and self.run.json_repr(),
            "causes": [cause.json_repr() for cause in self.causes],
            "before": self.before and self.before.isoformat(),
            "after": self.after and self.after.isoformat(),
            "sentence": self.sentence,
        }
