"""What happens to a scheduler and to its tasks besides runs, and why ticks start late or not at all."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class UpsetKind(StrEnum):
    """What has happened.

    Attributes:
        STOPPED: The scheduler was not started.
        BLOCKED: The event loop was blocked, for at least a second.
        SLEPT: The machine slept.
        CLOCK: The wall clock was set.
        STORE: The store did not answer.
        ABSENT: No instance was heard of that shares the store.
        LEFT: An instance was heard of for the last time, and the others divided the tasks anew.
        CAME: An instance was started, and the tasks were divided anew.
        HELD: A suspension or a pause held the task, or all tasks.
        DISABLED: The task was disabled.
        RESCHEDULED: The task got another rule.
    """

    STOPPED = "stopped"
    BLOCKED = "loop blocked"
    SLEPT = "machine slept"
    CLOCK = "clock set"
    STORE = "store away"
    ABSENT = "no instance"
    LEFT = "instance left"
    CAME = "instance came"
    HELD = "held"
    DISABLED = "disabled"
    RESCHEDULED = "rescheduled"


class Upset(NamedTuple):
    """One thing that has happened, in wall-clock microseconds.

    Attributes:
        since: None if it was so from the beginning. Of a clock that was set: what it showed before.
        until: None if it is still so. Of a clock that was set: what it showed after that.
        task: The task that it happened to; None for all tasks.
        who: By whom or by what, in words; None if nobody knows. Of another rule: the rule before.
        instance: The other instance that it happened to; None if it was this one, or all of them.
    """

    kind: UpsetKind
    since: int | None
    until: int | None
    task: str | None = None
    who: str | None = None
    instance: str | None = None

    def covers(self, moment: int) -> bool:
        """Return whether it was so at *moment*."""
        return self.meets(moment, moment)

    def meets(self, first: int, last: int) -> bool:
        """Return whether it was so at some time from *first* to *last*."""
        since, until = self.since, self.until
        if self.kind is UpsetKind.CLOCK and since is not None and until is not None:
            since, until = min(since, until), max(since, until)
        return (since is None or since <= last) and (until is None or until >= first)
