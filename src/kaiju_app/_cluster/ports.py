"""What the coordinator needs of its host: the part of the program that knows the tasks and runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kaiju_app.stores._answers import ChangeResult, FinishRequest
from kaiju_app.stores._record import TaskRecord
from kaiju_app.stores._transitions import Definition

from .claim import Claim, OwnedHold

DefinitionMaker = Callable[[TaskRecord | None, int], Definition]
"""From the record of a task, if there is one, and the store's time to the definition that this instance registers.

It may be called in any thread."""


Restorer = Callable[[TaskRecord | None, int], TaskRecord | None]
"""From the record of a task, if there is one, and the store's time to the record that has what the store has lost; None
if nothing is missing. It may be called in any thread."""


class Registry(Protocol):
    """Knows the tasks that this instance registers."""

    def definition_maker(self, name: str) -> DefinitionMaker | None:
        """Return what makes the definition of a task; None if the task is gone."""

    def restorer(self, name: str, seen_at: int, grace: int) -> Restorer | None:
        """Return what puts the lost record of a task back; None if the task is gone or was never registered."""

    def on_registered(self, name: str, changed: ChangeResult) -> None:
        """Learn that the store has a task that this instance has registered, and what it had before."""

    def maybe_outdated(self) -> list[str]:
        """Return the tasks that somebody ran or held when the store was last read: that may be over."""

    def on_record(self, record: TaskRecord) -> None:
        """Learn what the store has of a task."""


class Host(Protocol):
    """Runs the tasks that the coordinator claims."""

    def claimable(self) -> set[str]:
        """Return the names of the tasks that this instance knows and that are not disabled here."""

    def can_run(self, record: TaskRecord) -> bool:
        """Return whether this instance can run the task at all, by the rule in its record."""

    def is_stale(self, record: TaskRecord) -> bool:
        """Return whether a claim shows that the store went back: its fence or its tick was given before."""

    def may_start(self, record: TaskRecord) -> bool:
        """Return whether nothing keeps the task from running here at this moment."""

    def claims_on_time_only(self, name: str) -> bool:
        """Return whether the task must not be claimed before its tick."""

    def start(self, claim: Claim) -> None:
        """Start the run now. ``ended()`` or ``released()`` must be called once its body is really over."""

    def on_late(self, late: int, set_at: int) -> None:
        """Learn that a timer, set at steady time *set_at*, fired *late* microseconds late.

        The loop was blocked, or the machine slept.
        """

    def on_lease_lost(self, claim: Claim) -> None:
        """Cancel the run: its lease has expired, and another instance may run the task from now on."""

    def on_lease_regained(self, claim: Claim) -> None:
        """Learn that the lease was renewed after all, and that nobody else has run the task."""

    def on_unwanted(self, claim: Claim, why: str) -> bool:
        """Cancel the run, as somebody asks; return False if nobody may cancel it."""

    def on_hold_lost(self, held: OwnedHold) -> None:
        """Learn that a hold has expired: the task may run from now on."""

    def recompute_ending(self, claim: Claim, record: TaskRecord) -> FinishRequest | None:
        """Return the ending of a finished run again, by the rule that *record* has; None if the run never began."""

    def on_acknowledged(self, claim: Claim, ending: FinishRequest | None) -> None:
        """Learn that the store has accepted the *ending* of a run; None: it has refused it."""
