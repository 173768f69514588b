"""What the endpoint answers about a window of time."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import ConfigDict, Field

from kaiju_app.scheduler import Outcome, Reason

from ._models import Answer
from ._states import State

MOST_UPCOMING = 20


class BandKind(StrEnum):
    """What kept a task from running."""

    HELD = "held"
    DISABLED = "disabled"


class LineKind(StrEnum):
    """What happened to all tasks, or to the clocks that they follow."""

    DAYLIGHT_SAVING = "daylight saving"
    CLOCK = "clock set"
    BLOCKED = "loop blocked"
    SLEPT = "machine slept"
    STORE = "store away"
    STOPPED = "stopped"
    STARTED = "started"
    JOINED = "instance joined"
    LEFT = "instance left"


class BarItem(Answer):
    """A run, or several that are near to each other: then the worst outcome counts."""

    start: datetime
    end: datetime | None = Field(description="Null: it is in progress. Of several, the latest end.")
    tick: datetime | None = Field(
        description="Of several runs, that of the latest with this outcome. Null if it is not known."
    )
    outcome: Outcome | None = Field(
        description="Null: it is in progress. Of several runs the worst, from SUCCEEDED over CANCELLED, TIMED_OUT and "
        "FAILED to LOST."
    )
    reason: Reason | None = Field(description="Of several runs, that of the latest with this outcome.")
    count: int = Field(description="How many runs it stands for.")
    worst: int = Field(description="How many of them have this outcome.")
    run_id: str | None = Field(description="Of several runs, that of the latest with this outcome.")


class MarkItem(Answer):
    """Ticks that did not run, for one reason. Some of several may be inside a bar: that one ran in between."""

    at: datetime = Field(description="The first tick.")
    until: datetime = Field(description="The last tick.")
    count: int
    reason: Reason | None


class BandItem(Answer):
    """A time in which something kept the task from running."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    from_: datetime | None = Field(serialization_alias="from", description="Null: nobody knows since when.")
    to: datetime | None = Field(description="Null: it goes on. In the future: it ends then.")
    kind: BandKind
    holder: str = Field(description="Of a past hold, with the reason.")
    reason: str | None
    count: int = Field(description="How many holds it stands for: holder and reason are those of the last one.")


class TimelineTask(Answer):
    """A task in a window of time: everything in the order of time."""

    task: str
    task_id: str
    state: State
    bars: list[BarItem] = Field(description="Runs.")
    marks: list[MarkItem] = Field(description="Ticks that did not run.")
    bands: list[BandItem] = Field(description="Pauses, suspensions and disables: those of now, and what is known.")
    kept_since: datetime | None = Field(
        description="Of a local task: runs before this instant are not kept any more; null if all are kept."
    )
    upcoming: list[datetime] = Field(
        description=f"The ticks in the window that are to come, at most the next {MOST_UPCOMING}."
    )


class Line(Answer):
    """Something that concerns all tasks."""

    at: datetime
    until: datetime | None = Field(description="Null: it is an instant, or it goes on.")
    kind: LineKind
    text: str
    count: int = Field(description="How many times it happened, at short intervals.")


class Timeline(Answer):
    """What happened in a window of time. What is near in time may be united, so that the answer is not too large."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    from_: datetime = Field(serialization_alias="from")
    to: datetime
    now: datetime
    tasks: list[TimelineTask] = Field(description="Ordered by name.")
    lines: list[Line] = Field(
        description="Daylight saving changes in the zones of these tasks, in windows of at most 800 days; and what "
        "this process and the store know of clocks, blocked loops, sleeps, outages and instances."
    )
    next: str | None = Field(description="The cursor of the next tasks; null if there are none.")
    partial: str | None = Field(description="Why something may be left out; null if nothing is.")
    thinned: bool = Field(description="Whether runs, ticks or holds are united that are near to each other in time.")
