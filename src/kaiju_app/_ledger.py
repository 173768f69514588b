"""How ticks ended: a ring of records for each task, skips merged, endings counted."""

from __future__ import annotations

from ._entry import Entry
from ._model import Outcome, Reason
from ._record import NEVER, Record


def keep(entry: Entry, record: Record, now: int, history: int) -> Record | None:
    """Make *record* the latest of *entry*, and count it; return the record of skips that this closes, if any."""
    last = entry.last
    closed = None
    if last is not None:
        if last[0] is Outcome.SKIPPED:
            closed = last = (*last[:6], now, *last[7:])
        if history > 1:
            _push(entry, last, history)
    entry.last = record
    if record[0] is Outcome.SUCCEEDED:
        entry.successes += 1
    else:
        _count(entry, record[0], record[4])
    return closed


def keep_skip(
    entry: Entry, first: int, last: int, number: int, reason: Reason, now: int, offset: int, history: int, manual: bool
) -> tuple[Record, Record | None, bool]:
    """Record that *number* ticks from *first* to *last* are skipped.

    Returns:
        The record that tells it, the record of other skips that this closed, and whether a record was opened for it.
    """
    latest = entry.last
    if latest is not None and latest[0] is Outcome.SKIPPED and latest[1] is reason and not (manual or latest[10]):
        merged: Record = (*latest[:3], last, latest[4] + number, *latest[5:])
        entry.last = merged
        _count(entry, Outcome.SKIPPED, number)
        return merged, None, False
    if latest is not None and latest[5] != NEVER:
        entry.called = latest[5]  # Skips may push its record out.
    record: Record = (Outcome.SKIPPED, reason, first, last, number, NEVER, NEVER, offset, 0, None, manual)
    return record, keep(entry, record, now, history), True


def counts(entry: Entry) -> dict[Outcome, int]:
    """Return the number of ticks of *entry* by how they ended."""
    return {**dict.fromkeys(Outcome, 0), Outcome.SUCCEEDED: entry.successes, **(entry.endings or {})}


def records(entry: Entry) -> list[Record]:
    """Return the kept records of *entry*, oldest first."""
    return [] if entry.last is None else [*(entry.ring or ()), entry.last]


def _count(entry: Entry, outcome: Outcome, number: int) -> None:
    if entry.endings is None:
        entry.endings = {}
    entry.endings[outcome] = entry.endings.get(outcome, 0) + number


def _push(entry: Entry, record: Record, history: int) -> None:
    ring = entry.ring
    if ring is None:  # A list of a few pointers is smaller than an empty deque.
        entry.ring = [record]
        return
    ring.append(record)
    if len(ring) >= history:
        del ring[0]
