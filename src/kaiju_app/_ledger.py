"""How ticks ended: a ring of records for each task, skips merged, endings counted."""

from __future__ import annotations

from typing import Any

from ._entry import SKIPPING, Entry
from ._model import Outcome
from ._record import ENDINGS, FIELDS, NEVER, PACKED, PLAIN, SUCCESS, Record


def keep(entry: Entry, record: Record, now: int, history: int) -> Record | None:
    """Make *record* the latest of *entry*, and count it; return the record of skips that this closes, if any."""
    closed = None
    if entry.flags & SKIPPING:
        entry.flags &= ~SKIPPING
        closed = _latest(entry)._replace(finished=now)
        _write(entry, _index(entry), closed)
    _append(entry, record, history)
    if record.code != SUCCESS:
        entry.others += 1
        _count(entry, record.code, record.number)
    return closed


def keep_skip(entry: Entry, skipped: Record, now: int, history: int) -> tuple[Record, Record | None, bool]:
    """Record that ticks are *skipped*.

    Returns:
        The record that tells it, the record of other skips that this closed, and whether a record was opened for it.
    """
    if entry.ring is not None:
        latest = _latest(entry)
        goes_on = skipped.first + skipped.offset > latest.last + latest.offset  # Not if the clock was set back.
        is_same = (latest.code, latest.error) == (skipped.code, skipped.error)
        if goes_on and latest.is_open and is_same and not (skipped.manual or latest.manual):
            merged = latest._replace(
                last=skipped.last + skipped.offset - latest.offset,  # The wall clock may have been stepped since.
                number=latest.number + skipped.number,
                more=latest.more or skipped.more,
            )
            _write(entry, _index(entry), merged)
            _count(entry, skipped.code, skipped.number)
            return merged, None, False
        if latest.started != NEVER:
            entry.called = latest.started  # Skips may push its record out.
    closed = keep(entry, skipped, now, history)
    entry.flags |= SKIPPING
    return skipped, closed, True


def counts(entry: Entry) -> dict[Outcome, int]:
    """Return the number of ticks of *entry* by how they ended."""
    totals = {**dict.fromkeys(Outcome, 0), Outcome.SUCCEEDED: entry.kept - entry.others}
    for code, number in (entry.endings or {}).items():
        totals[ENDINGS[code][0]] += number
    return totals


def records(entry: Entry) -> list[Record]:
    """Return the kept records of *entry*, oldest first."""
    ring = entry.ring
    if ring is None:
        return []
    length = len(ring) // PACKED.size
    found = [_read(entry, (entry.kept + k) % length) for k in range(length)]
    return [record for record in found if record.number]


def _latest(entry: Entry) -> Record:
    return _read(entry, _index(entry))


def _index(entry: Entry) -> int:
    """Return where the latest record is."""
    ring = entry.ring or b""
    return (entry.kept - 1) % (len(ring) // PACKED.size)


def room(entry: Entry, history: int) -> bytearray:
    """Return the ring of *entry* with room for one more record: for one at first, as many tasks run rarely."""
    ring = entry.ring
    if ring is None:
        ring = entry.ring = bytearray(PACKED.size)
    elif len(ring) == PACKED.size and entry.kept and history > 1:
        ring.extend(bytes((history - 1) * PACKED.size))
    return ring


def _append(entry: Entry, record: Record, history: int) -> None:
    ring = room(entry, history)
    _write(entry, entry.kept % (len(ring) // PACKED.size), record)
    entry.kept += 1


def _write(entry: Entry, slot: int, record: Record) -> None:
    if entry.ring is None:
        return
    PACKED.pack_into(entry.ring, slot * PACKED.size, *record[:FIELDS])
    if entry.beside is not None:
        entry.beside.pop(slot, None)
        if not entry.beside:
            entry.beside = None
    beside = record[FIELDS:]
    if beside != PLAIN:
        if entry.beside is None:
            entry.beside = {}
        entry.beside[slot] = beside


def _read(entry: Entry, slot: int) -> Record:
    beside = PLAIN if entry.beside is None else entry.beside.get(slot, PLAIN)
    fields: tuple[Any, ...] = PACKED.unpack_from(entry.ring or b"", slot * PACKED.size)
    return Record._make((*fields, *beside))


def _count(entry: Entry, code: int, number: int) -> None:
    if entry.endings is None:
        entry.endings = {}
    entry.endings[code] = entry.endings.get(code, 0) + number
