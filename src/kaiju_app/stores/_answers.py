"""What a store answers, and the requests that are too large for a few arguments. Times are microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ._record import LedgerRow, NextTick, TaskRecord


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read: the store's clock at the read, and records ordered by name."""

    now: int
    records: list[TaskRecord]


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Rows of the ledger that were asked for.

    Attributes:
        rows: The newest first.
        oldest: The first tick of the oldest row of the task, or of all, wanted or not; None if there is no row.
        newest: That of the newest row.
    """

    rows: list[LedgerRow]
    oldest: int | None
    newest: int | None


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The result of a change.

    Attributes:
        old: The record on which the change was judged.
        new: The record that replaced it; None if the change was refused, or if the record was deleted.
        done: The change was not refused.
    """

    now: int
    old: TaskRecord | None
    new: TaskRecord | None
    done: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a round of claims.

    Attributes:
        now: The store's clock, read as late as possible: runs are late by the time from this to the answer.
        records: The new claims, ordered by their ticks.
        next_claim_at: When to claim the next of the other named tasks that are free and not held; None if there is
            none. Tasks left out because of the limit do not count.
        expired: All records in which the lease of a run or a hold has expired, or a pause has ended.
        missing: The named tasks that have no record: the store has lost them, or they are not registered yet.
    """

    now: int
    records: list[TaskRecord]
    next_claim_at: int | None
    expired: list[TaskRecord]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Renewed:
    """What an instance still owns.

    A record that another client has locked is not waited for: its leases are neither renewed nor lost.

    Attributes:
        runs: The names of the tasks whose run leases were renewed.
        holds: Task and key of each hold that was renewed.
        own_claims: Task and fence of every claim that the instance has in the store.
        held_claims: The names of its running tasks that have holds: a suspension waits for their runs to end.
        own_holds: Task and key of every hold that the instance has in the store.
        unwanted: The names of its running tasks whose runs somebody asks to end.
    """

    now: int
    runs: set[str]
    holds: set[tuple[str, str]]
    own_claims: list[tuple[str, int]]
    held_claims: set[str]
    own_holds: set[tuple[str, str]]
    unwanted: set[str] = field(default_factory=set)


class FinishRequest(NamedTuple):
    """How the tick of a claim ends.

    Attributes:
        tick: The tick.
        schedule: The schedule that ``following`` was computed from.
        following: The tick that is due next; None for an extra run.
        rows: The row of the run, and one for the skipped ticks between the two.
    """

    name: str
    fence: int
    tick: int
    schedule: str
    following: NextTick | None
    rows: tuple[LedgerRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance: when it sent its last heartbeat, and what it said about itself, as JSON text."""

    id: str
    info: str
    seen_at: int


@dataclass(frozen=True, slots=True)
class Life:
    """From when to when an instance was heard of, whether it lives or not.

    Attributes:
        note: What it has told of what happened to it, as JSON text; empty if it has told nothing.
    """

    id: str
    began_at: int
    seen_at: int
    note: str = ""


def lives_around(lives: Sequence[Life], since: int, until: int) -> list[Life]:
    """Return those of *lives*, which are in the order of their ends, that met a span, and those next to it."""
    before = [each for each in lives if each.seen_at < since][-1:]
    inside = [each for each in lives if each.seen_at >= since and each.began_at <= until]
    after = min((each for each in lives if each.began_at > until), key=lambda each: each.began_at, default=None)
    return sorted([*before, *inside, *([] if after is None else [after])], key=lambda each: (each.seen_at, each.id))
