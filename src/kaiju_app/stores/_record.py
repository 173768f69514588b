"""What a store keeps: one record for each task, and a ledger row for each run and each series of skipped ticks.

Instants are integer microseconds since the epoch, by the store's clock. Records are plain data that any instance can
read; nothing in them can be executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, TypeVar

from kaiju_app._core.clock import epoch_us, utc
from kaiju_app._core.ledger_query import Ending, Place

T = TypeVar("T")

TIME = r"(\d{4}-\d\d-\d\dT[\d:.]+\+00:00)"
HELD = re.compile(rf"(.+?) from {TIME} to {TIME}(?:, |$)", re.DOTALL)
END = "#end of "  # The fence of a run follows. Like a pause it belongs to no instance.


def instance_of(key: str) -> str:
    """Return the instance that the hold *key* belongs to: its id comes before the first ``#``."""
    return key.partition("#")[0]


def end_key(fence: int) -> str:
    """Return the key under which the end of the run with *fence* is asked for.

    Such a request is kept among the holds, as older instances can read and keep those, and let it lapse.
    """
    return f"{END}{fence}"


def true_holds(holds: Mapping[str, T]) -> Mapping[str, T]:
    """Return *holds* without requests to end a run."""
    return {key: held for key, held in holds.items() if not key.startswith(END)} if holds else holds


def scheduler_of(instance: str) -> str:
    """Return the scheduler of which *instance* is a life: the ids of its later ones have a ``-`` and a number more."""
    return instance.partition("-")[0]


class NextTick(NamedTuple):
    """The next tick, and when it is due: later than the tick by its jitter. Both are ``1 << 62`` if it never comes.

    Attributes:
        unknown: The search for the tick was stopped. It goes on at ``due``; ``tick`` only keeps the place of the tick.
    """

    tick: int
    due: int
    unknown: bool = False


class StoredHold(NamedTuple):
    """A reason why no instance may run a task: a suspension or a pause.

    Attributes:
        holder: Who holds the task, as text for people.
        reason: Why, as text for people.
        until: When its lease expires or the pause ends; None if it lasts until it is ended.
        leased: Its instance must renew it, and is challenged if it does not. A pause is not leased: it outlives its
            process.
        challenged: The lease has expired, and its instance was asked to renew it.
        since: When it began; None if that is not known.
    """

    holder: str
    reason: str | None
    until: int | None
    leased: bool = True
    challenged: bool = False
    since: int | None = None

    def describe(self, key: str, until: int | None = None, most: int | None = None) -> str:
        """Return holder, instance and reason for people. A pause belongs to no instance, and says who made it.

        Args:
            until: When it ended, for from when to when it held the task if that is known.
            most: Characters: of a longer text, what is before these times is cut.
        """
        where = f" on {scheduler_of(instance_of(key))}" if self.leased else ""
        text = f"{self.holder}{where} ({self.reason})" if self.reason else f"{self.holder}{where}"
        if until is None or self.since is None:
            return text[:most]
        span = f" from {_shown(self.since)} to {_shown(until)}"
        return (text if most is None else text[: most - len(span)]) + span


def _shown(moment: int) -> str:
    return utc(moment).isoformat(timespec="milliseconds" if moment % 1_000_000 >= 1_000 else "seconds")


def holds_in(described: str) -> Iterator[tuple[str, int, int]]:
    """Yield who held a task, from when and until when, of holds *described* with when they ended, joined by commas."""
    for who, since, until in HELD.findall(described):
        with suppress(ValueError, OverflowError):
            yield who, epoch_us(datetime.fromisoformat(since)), epoch_us(datetime.fromisoformat(until))


NO_HOLDS: Mapping[str, StoredHold] = {}


class TaskRecord(NamedTuple):
    """Everything that decides about one task. It is changed only by compare-and-set on its ``rev``.

    A tuple, as each run needs several: to make or to change a frozen object of so many fields takes five times as long.

    Attributes:
        rev: Revision; grows with every write and is never below the store's clock at that write. So it keeps growing
            even if the record is lost or made again.
        schedule: The schedule as JSON text; opaque here.
        version: The highest application version that has registered the task; only it or a later one may change the
            schedule.
        next_tick: The tick that is due next or is being run. Every instance counts an interval from it.
        next_due: When that tick is due.
        next_unknown: The search for the next tick was stopped. It goes on at ``next_due``; ``next_tick`` only keeps the
            place of the tick.
        last_done: The last tick that ended; neither it nor an earlier one ever runs again.
        claims: How many claims of ``next_tick`` may have started a run.
        manual_at: When an extra run was requested that has not ended; None if there is none.
        manual_claims: How many claims of that extra run were made.
        manual: The current claim is for that extra run.
        owner: The instance that has claimed the task; None if it is free.
        fence: The fencing token: the rev of the last claim.
        lease_until: When the owner's lease expires.
        challenged: The lease has expired, and the owner was asked to renew it.
        claimed_at: When the claim was made.
        holds: What forbids claims, by key: the instance, ``#``, and a number unique within the instance. A request to
            end the run in progress is among them, until that is over.
        held_back_by: Who delayed the due tick until the last hold ended, as text for people; None if nobody did.
        known_at: When an instance last registered the task or finished a run of it.
    """

    name: str
    rev: int
    schedule: str
    version: tuple[int, ...]
    next_tick: int
    next_due: int
    last_done: int
    known_at: int
    next_unknown: bool = False
    claims: int = 0
    manual_at: int | None = None
    manual_claims: int = 0
    manual: bool = False
    owner: str | None = None
    fence: int = 0
    lease_until: int | None = None
    challenged: bool = False
    claimed_at: int | None = None
    holds: Mapping[str, StoredHold] = NO_HOLDS
    held_back_by: str | None = None

    @property
    def tick(self) -> int:
        """The tick of the current claim, or of the next one."""
        return self.manual_at if self.manual and self.manual_at is not None else self.next_tick

    @property
    def tick_due(self) -> int:
        """When that tick is due."""
        return self.manual_at if self.manual and self.manual_at is not None else self.next_due

    @property
    def delayed_by(self) -> str | None:
        """Who held the task when the tick of the claim was due; None if nobody did."""
        return None if self.manual else self.held_back_by

    @property
    def delivery(self) -> int:
        """How many times the tick of the claim has been claimed, this time included."""
        return self.manual_claims if self.manual else self.claims


class LedgerRow(NamedTuple):
    """How a run ended, or why ticks were skipped. The key is (name, first_tick, manual, delivery).

    Attributes:
        first_tick: The tick of a run, or the first of the skipped ticks.
        last_tick: The last of the skipped ticks.
        count: The number of ticks; ``more`` if there were more than were counted.
        jitter: How much later than ``first_tick`` it was due.
        outcome: The value of an ``Outcome``; ``reason`` is the value of a ``Reason``.
        started_at: None for skipped ticks.
        result: What the function returned, as JSON text; None if that is not kept.
        held_by: Of a run, who held the task when its tick was due, as ``TaskRecord.held_back_by``.
    """

    name: str
    first_tick: int
    delivery: int
    last_tick: int
    count: int  # type: ignore[assignment]  # A tuple has a method of this name, which nobody needs here.
    outcome: str
    reason: str | None
    finished_at: int
    started_at: int | None = None
    more: bool = False
    error: str | None = None
    manual: bool = False
    attempts: int = 0
    fence: int | None = None
    instance: str | None = None
    jitter: int = 0
    result: str | None = None
    held_by: str | None = None

    @property
    def place(self) -> Place:
        """Its place in the order of the ledger."""
        return Place(self.first_tick, self.name, self.manual, self.delivery)

    @property
    def ending(self) -> Ending:
        """Outcome and reason."""
        return Ending(self.outcome, self.reason)
