"""What the endpoint answers. Instants are UTC, durations are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from kaiju_app._core.explanation import CauseKind, Fate
from kaiju_app.scheduler import ExecPolicy, Missed, OnLost, Outcome, Reason, Scope

from ._access import Right
from ._states import State

I = TypeVar("I")  # noqa: E741  An item of a page.


class Answer(BaseModel):
    """An answer: it has exactly these fields."""

    model_config = ConfigDict(extra="forbid")


# --- runs ---


class RunHead(Answer):
    """The end of a tick in short."""

    outcome: Outcome
    reason: Reason | None
    scheduled_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    lateness_s: float | None
    duration_s: float | None
    error: str | None = Field(description="The first line of the error.")


class RunItem(Answer):
    """What became of a tick: a run with its outcome, or skipped ticks with the reason."""

    task: str
    task_id: str
    run_id: str | None
    scheduled_at: datetime
    last_scheduled_at: datetime = Field(description="Of the last tick that this record of skips covers.")
    count: int
    more: bool = Field(description="Whether there were more ticks than were counted.")
    due: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: Outcome
    reason: Reason | None
    error: str | None
    attempts: int
    delivery: int
    instance: str
    fence: int | None
    manual: bool
    lateness_s: float | None
    duration_s: float | None


# --- tasks ---


class Hold(Answer):
    """What keeps a task from running."""

    holder: str
    reason: str | None
    since: datetime | None
    until: datetime | None


class TaskItem(Answer):
    """A task: of this instance, or of all that share the store."""

    id: str
    name: str
    scope: Scope
    rule: str = Field(description="The rule in words.")
    state: State
    running: bool
    overdue: bool = Field(description="Whether it has not succeeded within expect_success_within_s.")
    next_run_at: datetime | None
    last_run: RunHead | None
    recent: list[Outcome] = Field(description="The outcomes of the last 30 records that are kept, the oldest first.")
    holds: list[Hold]
    counts: dict[Outcome, int] = Field(description="Ticks by outcome, in this process since the task was registered.")
    runs_on: str | None = Field(description="The instance that has a run in progress.")
    runs_in: str | None = Field(description="Its process, as host:pid.")
    instance: str | None = Field(description="The instance that a local task belongs to; null for a cluster task.")
    process: str | None = Field(description="Its process, as host:pid.")
    controlled_here: bool = Field(description="Whether this instance can run, pause, resume and cancel it.")


class TaskDetail(TaskItem):
    """Everything that is known of a task. Fields of its code are null if only other instances have it."""

    policy: ExecPolicy | None
    interval_s: float | None
    max_timeout_s: float | None
    retries: int | None
    retry_interval_s: float | dict[str, float] | None
    jitter_s: float | None
    until: datetime | None
    expect_success_within_s: float | None
    missed: Missed | None
    on_lost: OnLost | None
    function: str | None
    defined_at: str | None = Field(description="File and line of the function.")
    doc: str | None = Field(description="The docstring of the function.")
    args: list[str] | None = Field(description="Its positional arguments; null unless registered with show=True.")
    kwargs: dict[str, str] | None = Field(description="Its keyword arguments; null unless registered with show=True.")
    result: str | None = Field(
        description="What the last success in this process returned; null if that was None, or if the task was "
        "not registered with show=True."
    )
    note: str | None = Field(description="What is special about this task, such as where it can be acted on.")


class Page(Answer, Generic[I]):
    """A part of a list."""

    items: list[I]
    next: str | None = Field(description="The cursor of the next page; null if there is none.")
    partial: str | None = Field(None, description="Why the list may not be complete; null if it is.")


class RunsPage(Page[RunItem]):
    """A part of the ledger, the newest first."""

    oldest: datetime | None = Field(description="The oldest tick that is kept: what was before is not known any more.")
    newest: datetime | None


# --- what comes ---


class Remark(Answer):
    """What the linter has to say about a rule."""

    level: str
    text: str


class UpcomingItem(Answer):
    """A tick that is planned."""

    task: str
    task_id: str
    due: datetime


class Upcoming(Answer):
    """Ticks that are planned, the soonest first."""

    items: list[UpcomingItem]
    truncated: bool = Field(description="Whether more come in the same time than were asked for.")


class TaskUpcoming(Answer):
    """The next ticks of a task."""

    items: list[UpcomingItem]
    remarks: list[Remark] = Field(description="Remarks of the linter about its rule, such as daylight saving.")


# --- the scheduler ---


class StoreItem(Answer):
    """The store that instances share."""

    name: str
    state: str
    degraded_s: float | None
    clock_offset_s: float | None = Field(description="How far its clock is ahead of that of this process, if known.")
    clock_doubt_s: float | None = Field(description="By how much that may be wrong, in either direction.")


class Lag(Answer):
    """How late the event loop got round to the scheduler in the last minute."""

    p50_s: float
    p99_s: float
    max_s: float
    cause: str | None = Field(description="What kept the loop at the worst moment: the task, file and line.")


class Health(Answer):
    """Whether the scheduler works."""

    healthy: bool
    reasons: list[str]


class SchedulerItem(Answer):
    """The scheduler that answers, and the sum of what it knows."""

    started: bool
    time: datetime
    instance: str
    process: str
    version: str = Field(description="Of kaiju_app.")
    onlooker: bool = Field(description="Whether it only looks at the store: it is no instance and runs no task.")
    store: StoreItem | None
    instances: int = Field(description="Instances that are alive.")
    health: Health = Field(description="As at health/ready.")
    holds: list[str] = Field(description="What keeps all tasks of this instance from running.")
    tasks: int
    states: dict[State, int]
    outcomes: dict[Outcome, int] = Field(description="Tasks by the outcome of their last run.")
    loop_lag: Lag | None = Field(description="Null if nothing was due in the last minute.")
    controlled_here: int = Field(description="Tasks that can be acted on here: not the local ones of other instances.")
    paused: int = Field(description="Of these, tasks that are paused; a run that began before may go on.")
    may: list[Right] = Field(description="What the caller may do.")
    partial: str | None = Field(description="Why this may not be complete; null if it is.")


class InstanceItem(Answer):
    """An instance: one Scheduler in one process."""

    id: str
    process: str | None
    host: str | None
    pid: int | None
    version: list[int]
    since: datetime | None
    heard_at: datetime
    tasks: int | None = Field(description="How many tasks it has; null if it does not say.")
    answers: bool = Field(description="Whether it is the one that answers.")


# --- why ---


class CauseItem(Answer):
    """One reason why a tick started late or not at all."""

    kind: CauseKind
    since: datetime | None
    until: datetime | None = Field(description="Null if it goes on, or if that is not known.")
    who: str | None = Field(description="By whom or by what; null if nobody knows.")
    tick: datetime | None = Field(description="Of the run that was in progress or lost.")
    instance: str | None = Field(
        description="Of a cluster task, the other instance that it happened to; null: this one, or all of them."
    )


class ExplanationItem(Answer):
    """What became of a tick, and why."""

    task: str
    task_id: str
    asked: datetime
    tick: datetime | None = Field(description="The tick at that instant, within a second; null if there is none.")
    fate: Fate
    sentence: str
    run: RunItem | None
    causes: list[CauseItem]
    before: datetime | None = Field(description="The tick before the instant, if it is known.")
    after: datetime | None = Field(description="The tick after the instant, if it is known.")


# --- what was done ---


class Asked(Answer):
    """A run that was requested and has not ended yet."""

    task: str
    task_id: str
    tick: datetime = Field(description="The scheduled_at of its run.")


class AllTasks(Answer):
    """How many tasks were paused or resumed."""

    tasks: int
    elsewhere: list[str] = Field(description="Instances whose local tasks only they themselves can pause or resume.")
    failed: list[str] = Field(description="Tasks of which it is not known, and why.")
