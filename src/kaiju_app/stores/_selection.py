"""Which tasks an instance may claim, and from when on. Pure: the engines that have SQL are judged by it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from zlib import crc32

from ._record import TaskRecord
from ._transitions import is_active, is_due

LEAD = 100_000  # Claims come in rounds: each round takes what is due before the next one, and a little more.


@dataclass(frozen=True, slots=True)
class Partition:
    """Which tasks an instance should claim first: a hint that avoids useless races. A wrong hint delays runs.

    Attributes:
        count: The number of live instances.
        index: The number of this one among them, from 0.
        patience: Microseconds after which any instance may claim a due tick.
    """

    count: int
    index: int
    patience: int

    def is_own(self, name: str) -> bool:
        """Return whether this instance should be the first to claim the task."""
        return partition_hash(name) % self.count == self.index


EVERYBODY = Partition(1, 0, 0)


def partition_hash(name: str) -> int:
    """Return the number by which tasks are divided among instances; engines with SQL store it in a column."""
    return crc32(name.encode())


@dataclass(frozen=True, slots=True)
class ClaimQuery:
    """What an instance wants to claim.

    Attributes:
        me: The instance.
        names: The tasks that it knows and can run. The cost of a claim grows with them, not with what others left.
        ttl: Microseconds until the leases expire.
        limit: The largest number of claims.
        ahead: Microseconds before its tick at which a task may be claimed.
        partition: Other instances' tasks are claimed only when they are overdue by its patience. Requested extra runs
            are claimed by any instance.
        not_ahead: Names that are never claimed before their tick, whatever *ahead* says.
    """

    me: str
    names: Collection[str]
    ttl: int
    limit: int
    ahead: int = 0
    partition: Partition = EVERYBODY
    not_ahead: Collection[str] = frozenset()

    @property
    def lead(self) -> int:
        """How long before its tick an own task is claimed at the latest, with all that may be claimed then."""
        return min(self.ahead, LEAD)

    def claim_window(self, name: str) -> int:
        """Return how long before its tick the task may be claimed; if negative, how long it must be overdue."""
        if not self.partition.is_own(name):
            return -self.partition.patience
        return 0 if name in self.not_ahead else self.ahead

    def claim_at(self, name: str, due: int) -> int:
        """Return when this instance should claim a tick."""
        return due - min(self.claim_window(name), LEAD)


def select(records: Iterable[TaskRecord], now: int, query: ClaimQuery) -> list[TaskRecord]:
    """Return the records to claim, ordered by name: those with the oldest ticks, up to the limit."""
    due = []
    names = frozenset(query.names)
    for record in records:
        window = query.claim_window(record.name)
        if record.name in names and is_due(record, now, window):
            is_extra = record.manual_at is not None and record.next_due > now + window
            due.append((record.manual_at if is_extra else record.next_due, record.name, record))
    oldest = sorted(due, key=lambda each: each[:2])[: max(query.limit, 0)]
    return sorted((record for *_, record in oldest), key=lambda record: record.name)


def next_claim_at(
    records: Iterable[TaskRecord], now: int, query: ClaimQuery, claimed: Iterable[TaskRecord] = ()
) -> int | None:
    """Return when to claim the first of the records that may not be claimed yet; None if there is none."""
    names = frozenset(query.names) - {record.name for record in claimed}
    coming = [
        query.claim_at(record.name, record.next_due)
        for record in records
        if not is_active(record) and record.name in names
        if record.next_due > now + query.claim_window(record.name)
    ]
    return min(coming, default=None)


def in_order(claimed: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Return claims in the order of their ticks."""
    return sorted(claimed, key=lambda record: (record.tick, record.name))
