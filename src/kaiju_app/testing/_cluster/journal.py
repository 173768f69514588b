"""The journal of simulated instances: what the store changed, and what programs do, each line with the real time."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .plan import MILLION

Event = Literal[
    # A body begins, acts now and then, and ends. The note "manual" means that run_now() asked for it.
    "begin",
    "act",
    "end",
    # A suspension is requested, its body begins, acts now and then, and ends. An end without a beginning: it gave up.
    "suspend",
    "suspended-begin",
    "act-in-suspension",
    "suspended-end",
    # The store. "next" gives the next tick from now on. The note is "manual" or the key of a hold.
    "claimed",
    "challenged",
    "finished",
    "freed",
    "forgotten",
    "next",
    "held",
    "unheld",
    # The simulation, and what a listener of a scheduler hears.
    "boot",
    "crash",
    "stop",
    "ended",
    "fault",
]


class Entry(NamedTuple):
    """One line of the journal.

    Attributes:
        at: Real time, in microseconds.
        store: What the store's clock showed then.
        thaw: Written in the first turn of a loop after a pause or after blocking code. Only then may a body act before
            its deadline is checked.
    """

    at: int
    who: str
    event: Event
    task: str = ""
    fence: int = 0
    tick: int = 0
    take: int = 0
    note: str = ""
    store: int = 0
    thaw: bool = False

    def __str__(self) -> str:
        facts = [self.event, self.task, self.note, "(thaw)" if self.thaw else ""]
        facts += [f"fence {self.fence}"] if self.fence else []
        facts += [f"tick {(self.tick - self.store) / MILLION:+.3f} s, take {self.take}"] if self.tick else []
        return f"{self.at / MILLION:12.6f} {self.who:<5} " + " ".join(fact for fact in facts if fact)
