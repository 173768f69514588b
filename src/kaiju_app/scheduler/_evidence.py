"""All that is known of a task around an instant: what ``explain()`` is a function of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaiju_app._core.model import Run
from kaiju_app._core.upset import Upset


@dataclass(frozen=True, slots=True)
class Ticks:
    """The ticks of the rule around an instant, in wall-clock microseconds.

    Attributes:
        at: The one within a second; None if there is none.
        before: The last one before that, or before the instant; None if there is none.
        after: The first one after it; None if there is none.
        gap: The gap, if it is always the same; None otherwise.
        since: When the rule, or the grid of its interval, began to count; before that it tells nothing.
        due: When ``at`` is due: later by its jitter.
        remark: What moved or left out a tick there, in words; None if nothing did.
    """

    at: int | None
    before: int | None
    after: int | None
    gap: int | None
    since: int | None
    due: int | None = None
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class InProgress:
    """A run in progress: its tick, when it is due and when it began, in wall-clock microseconds, and where it is.

    Attributes:
        manual: Its tick was requested.
        delivery: How many times its tick has been claimed.
        instance: Of a cluster task, the instance that runs it.
    """

    tick: int
    due: int
    started: int
    where: str | None
    manual: bool = False
    delivery: int = 1
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a task around an instant, in wall-clock microseconds.

    Attributes:
        at: The instant.
        runs: What is kept of its ticks.
        oldest: The first tick of the oldest record that is kept; None if there is none.
        complete: Nothing was dropped from what is kept.
        running: The run in progress; None if there is none.
        waiting: Ticks that wait for that run, or for their turn.
        undecided: The first tick that is not decided; None if there is none.
        due: When that one is due.
        upsets: What has happened to the task and to all tasks.
        jitter: By how much a tick may be due later than its time, in microseconds.
        shared: It is a cluster task.
        instance: Of a cluster task, the instance that explains: it has seen what its loop, machine and store did.
        instances: How many are alive.
        settling: For how long ticks may be late after instances have left or come, or have found the store again.
    """

    task: str
    at: int
    now: int
    ticks: Ticks
    runs: Sequence[Run]
    oldest: int | None
    complete: bool
    running: InProgress | None
    waiting: Sequence[int]
    undecided: int | None
    upsets: Sequence[Upset]
    jitter: int = 0
    shared: bool = False
    instance: str | None = None
    instances: int = 1
    settling: int = 0
