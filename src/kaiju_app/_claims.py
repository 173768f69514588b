"""What an instance has of others' leave: claims of ticks, and holds; what may be done with each, and until when."""

from __future__ import annotations

from asyncio import Handle
from dataclasses import dataclass
from enum import Enum, auto

from .stores._record import Record
from .stores._store import Store


class State(Enum):
    """How far a claim has come; it only goes forward."""

    CLAIMED = auto()
    """The tick is this instance's, and its run has not begun."""
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
        record: What the store had when it was made.
        deadline: Steady time until which the run may act, whatever the store has heard since.
        store: Where it is kept.
        state: How far it has come.
        held: Somebody waits for it to be over.
        lost: Its host was told that the lease is lost.
        timer: Starts it.
    """

    record: Record
    deadline: int
    store: Store
    state: State = State.CLAIMED
    held: bool = False
    lost: bool = False
    timer: Handle | None = None

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.record.name

    @property
    def fence(self) -> int:
        """What every write of the run can be checked by."""
        return self.record.fence

    @property
    def key(self) -> tuple[str, int]:
        """What it is known by."""
        return self.record.name, self.record.fence

    def stop_timer(self) -> None:
        """Let it not start by itself."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(eq=False, slots=True)
class OwnHold:
    """A hold of this instance, as long as somebody is inside.

    Attributes:
        key: What it is called in the store; another one each time: a late message about the last one cannot end it.
        deadline: Steady time until which it surely stands.
    """

    name: str
    key: str
    deadline: int
    lost: bool = False
