"""Claims and holds that this instance owns in the store, and until when each is valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from kaiju_app.stores._base import Store
from kaiju_app.stores._record import TaskRecord

Key = tuple[str, int]
"""Name of the task and fence of the claim: the claims of two tasks may have the same fence."""


class State(Enum):
    """How far a claim has come; it only goes forward."""

    CLAIMED = auto()
    """The tick belongs to this instance, and its run has not begun."""
    STARTED = auto()
    """The run is going on, or may be."""
    RETURNED = auto()
    """It is given back, or about to be: its run never begins."""
    ENDING = auto()
    """The run is over; the store may not know yet."""


@dataclass(eq=False, slots=True)
class Claim:
    """One claim of one tick.

    Attributes:
        record: The record of the task as it was when the claim was made.
        deadline: Steady time until which the run may act, whatever the store has received since.
        store: The store that keeps the claim.
        state: How far it has come.
        held: Another instance, or this one, waits for the run to end.
        lost: The host was told that the lease is lost.
    """

    record: TaskRecord
    deadline: int
    store: Store
    state: State = State.CLAIMED
    held: bool = False
    lost: bool = False

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.record.name

    @property
    def fence(self) -> int:
        """The fencing token, which grows with every claim of the task."""
        return self.record.fence

    @property
    def delivery(self) -> int:
        """How many times the tick has been claimed, this time included."""
        return self.record.delivery

    @property
    def key(self) -> Key:
        """What the claim is known by."""
        return self.record.name, self.record.fence

    async def guard(self, connection: object) -> bool:
        """Return whether the claim still stands, and keep it until the transaction of *connection* is over."""
        return await self.store.guard(connection, self.record)


@dataclass(eq=False, slots=True)
class OwnedHold:
    """A hold of this instance, for as long as somebody is inside the suspension.

    Attributes:
        key: Its key in the store. Each hold has a new one, so a late message about an earlier hold cannot end it.
        holder: Who holds the task, as text for people; ``reason`` says why.
        fence: The fence that the record had when the hold was placed.
        deadline: Steady time until which it surely stands.
        lost: Whoever is inside was told that it has expired.
    """

    name: str
    key: str
    deadline: int
    holder: str = ""
    reason: str | None = None
    fence: int = 0
    lost: bool = False


@dataclass(eq=False, slots=True)
class Owned:
    """What this instance owns in the store.

    Attributes:
        claims: By name of the task.
        unstarted: Those of the claims whose runs have not begun, and when each starts by the steady clock.
        holds: By key of the hold.
        closing: Nothing more is claimed, and no ending waits for company.
    """

    claims: dict[str, Claim] = field(default_factory=dict)
    unstarted: dict[Claim, int] = field(default_factory=dict)
    holds: dict[str, OwnedHold] = field(default_factory=dict)
    closing: bool = False

    def is_in_use(self) -> bool:
        """Return whether a run or a suspension is going on, whose lease has to be renewed."""
        return bool(self.holds) or any(claim.state is State.STARTED for claim in self.claims.values())
