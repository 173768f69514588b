"""What is asked of a ledger, and the order of its records: the same for the memory of a process and for every store."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from .clock import BEGINNING, END
from .model import Outcome, Reason


class Place(NamedTuple):
    """The place of a record in the order of a ledger. A later place is newer, and no two records have the same.

    A record keeps its place while it grows, so that no page of a query shows it twice or leaves it out.

    Attributes:
        tick: Its first tick, in wall-clock microseconds.
        name: The task.
        number: In the memory of a process, counts the records of one tick: a clock that was set back repeats ticks.
    """

    tick: int
    name: str = ""
    manual: bool = False
    delivery: int = 0
    number: int = 0


class Ending(NamedTuple):
    """How ticks ended: the values of an ``Outcome`` and, if there is one, of a ``Reason``."""

    outcome: str
    reason: str | None

    @property
    def text(self) -> str:
        """The ending as a key of an index."""
        return f"{self.outcome} {self.reason or ''}"


ENDINGS = tuple(Ending(outcome, reason) for outcome, reason in product(Outcome, (None, *Reason)))


NEWEST = Place(END + 1)  # Above the places of all records.


@dataclass(frozen=True, slots=True)
class LedgerQuery:
    """Which records are wanted, newest first.

    Attributes:
        limit: The most records.
        name: Those of one task; None for all.
        endings: Those that ended so; None for all.
        since: Those whose first tick is then or later, in wall-clock microseconds.
        below: Those with lower places.
    """

    limit: int
    name: str | None = None
    endings: frozenset[Ending] | None = None
    since: int = BEGINNING
    below: Place = NEWEST

    @property
    def bounds(self) -> dict[str, object]:
        """The limits as parameters of a statement. The records of a store have the number 0."""
        tick, name, manual, delivery, number = self.below
        lower = {"tick": tick, "below": name, "manual": manual, "delivery": delivery + (number > 0)}
        return {"since": self.since, **lower, "limit": self.limit}

    def wants(self, place: Place, ending: Ending) -> bool:
        """Return whether the record at *place* is wanted."""
        return (
            self.since <= place.tick
            and place < self.below
            and self.name in (None, place.name)
            and (self.endings is None or ending in self.endings)
        )
