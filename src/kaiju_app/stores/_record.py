"""What a store keeps: a record for each task, and a row for each run and each row of skips.

Instants are integer microseconds since the epoch, of the store's clock. What is kept is data: any instance can read it,
and nothing in it can run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Coming:
    """A tick to come, and when it is due: later by its jitter. Of one that never comes, both are ``1 << 62``."""

    tick: int
    due: int


@dataclass(frozen=True, slots=True)
class StoredHold:
    """A reason, kept in a store, why no instance runs a task.

    Attributes:
        holder: Who holds it, in words.
        reason: Why, in words.
        until: When its lease, or the pause, is over; None: it has to be ended.
        leased: Its instance has to renew it, and is challenged when it does not. A pause outlives its process.
        suspect: It was challenged.
    """

    holder: str
    reason: str | None
    until: int | None
    leased: bool = True
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """All that decides about one task. Whoever changes it replaces it, if it is still the one that they saw.

    Attributes:
        rev: Grows with every write, and is never below the clock of the store at that write: so it goes on growing when
            the record was lost, or made anew.
        spec: The rule as JSON text; opaque here.
        version: Who may change the rule: the highest one so far.
        next: The tick that is due next, or is being run: an interval is counted on from it, by everyone.
        due: When it is due.
        floor: The last tick that ended: nothing brings it or an earlier one back.
        take: Claims of ``next`` so far that may have started.
        asked: When somebody asked for an extra run that has not ended; None: nobody did.
        asked_take: Claims of that extra run so far.
        manual: The claim is for that extra run.
        holder: The instance that has claimed it.
        fence: The rev of the last claim.
        until: End of the lease.
        suspect: The lease was challenged.
        started: When the claim was made.
        holds: Why no claim may be made, by key: the instance, ``#``, and what it is told apart by from its others.
        kept_back: Who kept the tick back that is due until the last hold ended, in words; None: nobody did.
        seen: When an instance that knows the task last said so.
    """

    name: str
    rev: int
    spec: str
    version: tuple[int, ...]
    next: int
    due: int
    floor: int
    seen: int
    take: int = 0
    asked: int | None = None
    asked_take: int = 0
    manual: bool = False
    holder: str | None = None
    fence: int = 0
    until: int | None = None
    suspect: bool = False
    started: int | None = None
    holds: Mapping[str, StoredHold] = field(default_factory=dict)
    kept_back: str | None = None

    @property
    def tick(self) -> int:
        """The tick of the claim, or of the next one."""
        return self.asked if self.manual and self.asked is not None else self.next

    @property
    def tick_due(self) -> int:
        """When that tick is due."""
        return self.asked if self.manual and self.asked is not None else self.due

    @property
    def takes(self) -> int:
        """The number of the claim among those of its tick."""
        return self.asked_take if self.manual else self.take


@dataclass(frozen=True, slots=True)
class Row:
    """How a run ended, or why ticks did not run; the key is (name, first, manual, take).

    Attributes:
        first: The tick; of skips, the first one, and ``last`` the last one, ``count`` of them, or ``more``.
        jitter: By how much later that was due.
        outcome: The name of an Outcome; ``reason`` the value of a Reason.
        started: None for skips.
    """

    name: str
    first: int
    take: int
    last: int
    count: int
    outcome: str
    reason: str | None
    finished: int
    started: int | None = None
    more: bool = False
    error: str | None = None
    manual: bool = False
    attempts: int = 0
    fence: int | None = None
    instance: str | None = None
    jitter: int = 0
