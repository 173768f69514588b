"""The parameters of a task and of a scheduler, validated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

from kaiju_app._core.model import ExecPolicy, FirstRun, Missed
from kaiju_app.triggers._adapter import TriggerAdapter
from kaiju_app.triggers._base import Trigger

from .backoff import Backoff


class Kind(Enum):
    """Where the tick of a run comes from."""

    LIVE = auto()
    """A tick of the rule, on time or late."""
    CAUGHT_UP = auto()
    """One of several missed ticks that are caught up: its run has one gap of time, and later ticks wait behind it."""
    MANUAL = auto()
    """``run_now()``."""


# Members that each run looks for, as globals: to find one in its class takes CPython 3.11 a tenth of a microsecond.
LIVE: Final = Kind.LIVE
MANUAL: Final = Kind.MANUAL


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """The parameters of a task; tasks with equal ones share one object.

    Durations are microseconds. The second half is computed from the first and from the gap: if the gaps of a rule vary,
    there is one spec for each gap.
    """

    trigger: Trigger | None
    rule: TriggerAdapter | None
    """The trigger, if its gaps vary; None if the gap is always the same."""
    policy: ExecPolicy
    max_timeout: int
    safe_mod: float
    retries: int
    retry_interval: int
    backoff: Backoff | None
    """Pauses between attempts that grow, instead of ``retry_interval``."""
    retry_on: tuple[type[Exception], ...]
    first_run: FirstRun | datetime
    missed: Missed
    given_grace: int | None
    catchup: int
    jitter: int
    until: int | None
    """Wall-clock microseconds after which there is no tick; None if there is no end."""
    threaded: bool

    gap: int = 0
    computed_ticks: bool = False
    """Whether each tick has to be computed: the gaps vary, or there is jitter or an end."""
    limit: int = 0
    """The deadline of a run, from its start; 0 if it has none of its own."""
    retry_pause: int = 0
    grace: int | None = None
    on_time_below: int = 0
    """Lateness below which a tick is certainly on time: no later one is due, and the grace is not exceeded."""
    early: int = 0
    """How long before a tick it counts as due."""
    limit_before_next: bool = False
    """Whether ``limit`` ends before the next tick: then the next tick is too late to enforce it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of a scheduler.

    Attributes:
        cancel_grace: Microseconds after which a cancelled run that has not ended counts as hung.
        history: Records kept for each task, at least 1.
        threads: How many plain functions run at a time, at most.
        safe_mod: How many gaps a run under WAIT or SKIP may take, unless it has a deadline of its own.
        instance: Identity of the scheduler, for the records.
        watch_loop: Whether a thread looks where the loop is while it is blocked.
        tz: Key of the time zone of cron expressions that have none.
    """

    cancel_grace: int
    history: int
    threads: int
    safe_mod: float
    instance: str
    tz: str = "UTC"
    watch_loop: bool = True
