"""How ticks ended: a ring of records for each task, skips merged, endings counted."""

from __future__ import annotations

from typing import cast

from ._entry import Entry
from ._model import Outcome, Reason
from ._record import CODES, ENDINGS, NEVER, SKIPS, SUCCESS, WIDTH, Record


def keep(entry: Entry, record: Record, now: int, history: int) -> Record | None:
    """Make *record* the latest of *entry*, and count it; return the record of skips that this closes, if any."""
    last = entry.last
    closed = None
    if last is not None:
        if last[0] in SKIPS:
            closed = last = (*last[:5], now, *last[6:])
        push(entry, last, history)
    entry.last = record
    if record[0] == SUCCESS:
        entry.successes += 1
    else:
        _count(entry, record[0], record[3])
    return closed


def keep_skip(
    entry: Entry, first: int, last: int, number: int, reason: Reason, now: int, offset: int, history: int, manual: bool
) -> tuple[Record, Record | None, bool]:
    """Record that *number* ticks from *first* to *last* are skipped.

    Returns:
        The record that tells it, the record of other skips that this closed, and whether a record was opened for it.
    """
    latest = entry.last
    code = CODES[Outcome.SKIPPED, reason]
    if latest is not None:
        if latest[0] == code and not (manual or latest[9]):
            merged: Record = (*latest[:2], last, latest[3] + number, *latest[4:])
            entry.last = merged
            _count(entry, code, number)
            return merged, None, False
        if latest[4] != NEVER:
            entry.called = latest[4]  # Skips may push its record out.
    record: Record = (code, first, last, number, NEVER, NEVER, offset, 0, None, manual)
    return record, keep(entry, record, now, history), True


def push(entry: Entry, record: Record, history: int) -> None:
    """Keep *record* behind the latest one, and no more than *history* with it."""
    if history == 1:
        return
    ring = entry.ring
    if ring is None:
        entry.ring = list(record)
        return
    # Flat: a tuple for each kept record would be one more object for the garbage collector to visit.
    ring.extend(record)
    if len(ring) > (history - 1) * WIDTH:
        del ring[:WIDTH]


def counts(entry: Entry) -> dict[Outcome, int]:
    """Return the number of ticks of *entry* by how they ended."""
    totals = {**dict.fromkeys(Outcome, 0), Outcome.SUCCEEDED: entry.successes}
    for code, number in (entry.endings or {}).items():
        totals[ENDINGS[code][0]] += number
    return totals


def records(entry: Entry) -> list[Record]:
    """Return the kept records of *entry*, oldest first."""
    if entry.last is None:
        return []
    ring = entry.ring or []
    before = [cast("Record", tuple(ring[i : i + WIDTH])) for i in range(0, len(ring), WIDTH)]
    return [*before, entry.last]


def _count(entry: Entry, code: int, number: int) -> None:
    if entry.endings is None:
        entry.endings = {}
    entry.endings[code] = entry.endings.get(code, 0) + number
