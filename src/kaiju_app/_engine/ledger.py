"""How ticks ended: one record for a run, one for consecutive skips of one reason, in a ring for each task.

The records of a task are packed into a bytearray. Writing one in place takes a fraction of the time that an object
takes, and there is nothing for the garbage collector to visit. Times are steady-clock microseconds; adding ``offset``
gives wall-clock ones, by the wall clock as it was when the tick ended.
"""

from __future__ import annotations

from itertools import product, takewhile
from struct import Struct
from typing import Any, NamedTuple

from kaiju_app._core.clock import utc
from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._core.run_id import run_id

from .entry import OPEN_SKIP_RECORD, TaskEntry
from .overtaken import Overtaken
from .spec import Kind

UNSET = -1  # ``started`` of skips; ``finished`` of an open record, which may still grow.

_ENDINGS: tuple[tuple[Outcome, Reason | None], ...] = tuple(product(Outcome, (None, *Reason)))
CODES = {ending: code for code, ending in enumerate(_ENDINGS)}
SUCCESS = CODES[Outcome.SUCCEEDED, None]
OVERTAKEN = len(_ENDINGS)  # Ticks that were missed as well, but with runs in between.
ENDINGS = (*_ENDINGS, (Outcome.SKIPPED, Reason.MISSED))
WHY_OVERTAKEN = "overtaken by later ticks, some of which ran: the loop had too much to do"

PACKED = Struct("=7qih??")  # The first fields of a RunRecord, in order; all zeros mean an empty slot.
FIRST_AT, OFFSET_AT = 0, 6  # Where these fields are, in words of eight bytes.
CODE_AT = 30  # Where this one is, in pieces of two bytes.
LAST_AND_NUMBER, LAST_AT = Struct("=2q"), 8  # What is written in place, and where, in bytes.
WORD, STARTED_AT, FINISHED_AT = Struct("=q"), 32, 40
FIELDS = 11
PLAIN = (None, 1, None)  # The other fields of nearly every record; different ones are kept in ``entry.extras``.


class RunRecord(NamedTuple):
    """How a tick ended, or how several ticks were skipped for one reason; see ``Run``."""

    first: int
    last: int
    number: int
    jitter: int
    started: int
    finished: int
    offset: int
    attempts: int
    code: int
    manual: bool
    more: bool
    error: str | None = None
    delivery: int = 1
    fence: int | None = None

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return ENDINGS[self.code][0]

    @property
    def reason(self) -> Reason | None:
        """Why it was cancelled or skipped; None if it was not."""
        return ENDINGS[self.code][1]

    @property
    def is_open(self) -> bool:
        """Whether it is of skips and may still grow."""
        return self.finished == UNSET

    def run(self, task: str, instance: str, result: Any = None, exc: BaseException | None = None) -> Run:
        """Return the record as users see it, with what the function returned or raised, which no record keeps."""
        return Run(
            task=task,
            scheduled_at=utc(self.first + self.offset),
            last_scheduled_at=utc(self.last + self.offset),
            count=self.number,
            more=self.more,
            due=utc(self.first + self.jitter + self.offset),
            started_at=None if self.started == UNSET else utc(self.started + self.offset),
            finished_at=None if self.is_open else utc(self.finished + self.offset),
            outcome=self.outcome,
            reason=self.reason,
            error=WHY_OVERTAKEN if self.code == OVERTAKEN else self.error,
            attempts=self.attempts,
            delivery=self.delivery,
            instance=instance,
            fence=self.fence,
            manual=self.manual,
            run_id=None if self.started == UNSET else run_id(task, instance, self.started, self.fence),
            result=result,
            exception=exc,
        )


def append(entry: TaskEntry, record: RunRecord, now: int, history: int) -> RunRecord | None:
    """Append *record*, and count it; return the record of skips that this closes, if any."""
    closed = read(entry, close_skips(entry, now)) if entry.flags & OPEN_SKIP_RECORD else None
    _append(entry, record, history)
    if record.code != SUCCESS:
        entry.unsuccessful += 1
        _count(entry, record.code, record.number)
    return closed


def grow(entry: TaskEntry, first: int, last: int, number: int, code: int, offset: int) -> bool:
    """Add *number* skips to the open record, in place, if they follow it, and it is plain and of the same ending.

    Returns:
        Whether it is so; otherwise nothing was changed.
    """
    ring = entry.ring
    if ring is None or entry.extras is not None or not entry.flags & OPEN_SKIP_RECORD:
        return False
    at = _index(entry) * PACKED.size
    _, latest, skipped, _, _, _, its_offset, _, its_code, manual, _ = PACKED.unpack_from(ring, at)
    if its_code != code or manual or first + offset <= latest + its_offset:
        return False
    if entry.run is not None and entry.run.tick > latest:
        return False
    LAST_AND_NUMBER.pack_into(ring, at + LAST_AT, last + offset - its_offset, skipped + number)
    _count(entry, code, number)
    return True


def open_skips(entry: TaskEntry, first: int, last: int, number: int, code: int, offset: int, history: int) -> bool:
    """Append a record of *number* skips without jitter, in place, if no other one is open.

    Returns:
        Whether it is so; otherwise nothing was changed.
    """
    if entry.flags & OPEN_SKIP_RECORD or entry.extras is not None:
        return False
    if entry.kept:
        (started,) = WORD.unpack_from(entry.ring or b"", _index(entry) * PACKED.size + STARTED_AT)
        if started != UNSET:
            entry.last_started = started  # Skips may overwrite the record.
    ring = ring_of(entry, history)
    at = entry.kept % (len(ring) // PACKED.size) * PACKED.size
    PACKED.pack_into(ring, at, first, last, number, 0, UNSET, UNSET, offset, 0, code, False, False)
    entry.kept += 1
    entry.unsuccessful += 1
    _count(entry, code, number)
    entry.flags |= OPEN_SKIP_RECORD
    return True


def close_skips(entry: TaskEntry, now: int) -> int:
    """Let the open record of skips of *entry* grow no more; return its slot."""
    entry.flags &= ~OPEN_SKIP_RECORD
    slot = _index(entry)
    WORD.pack_into(entry.ring or bytearray(), slot * PACKED.size + FINISHED_AT, now)
    return slot


def append_skip(
    entry: TaskEntry, skipped: RunRecord, now: int, history: int
) -> tuple[RunRecord, RunRecord | None, bool]:
    """Append *skipped*, or merge it with the latest record if that is of the same reason.

    Returns:
        The record that now has the skips; the record of other skips that this closed, if any; whether the first one is
        a new record.
    """
    if entry.flags & OPEN_SKIP_RECORD:
        latest = _latest(entry)
        follows = skipped.first + skipped.offset > latest.last + latest.offset  # Not so if the wall clock was set back.
        if entry.run is not None and entry.run.tick > latest.last:
            follows = False  # The tick in between runs: its record comes when it ends.
        is_same = (latest.code, latest.error) == (skipped.code, skipped.error)
        if follows and is_same and not (skipped.manual or latest.manual):
            merged = latest._replace(
                last=skipped.last + skipped.offset - latest.offset,  # The wall clock may have been stepped in between.
                number=latest.number + skipped.number,
                more=latest.more or skipped.more,
            )
            _write(entry, _index(entry), merged)
            _count(entry, skipped.code, skipped.number)
            return merged, None, False
    elif entry.kept and (latest := _latest(entry)).started != UNSET:
        entry.last_started = latest.started  # Skips may overwrite the record.
    closed = append(entry, skipped, now, history)
    entry.flags |= OPEN_SKIP_RECORD
    return skipped, closed, True


def overtake(entry: TaskEntry, first: int, last: int, number: int, offset: int, *, more: bool) -> Overtaken | None:
    """Count overtaken ticks of *entry*, *number* of them or *more*; return their record if that opens one."""
    overtaken = entry.overtaken
    if overtaken is None:
        jitter = entry.host.timeline(entry, entry.spec).due(first) - first if entry.spec.jitter else 0
        entry.overtaken = overtaken = Overtaken(first, last, number, jitter, offset, more=more)
        return overtaken
    overtaken.add(last, number, offset)
    if more:
        overtaken.more = True
    return None


def close_overtaken(entry: TaskEntry, now: int, history: int) -> list[RunRecord]:
    """Append the record of the overtaken ticks of *entry*, which grows no more; return the records that this closes."""
    overtaken = entry.overtaken
    if overtaken is None:
        return []
    _count(entry, OVERTAKEN, overtaken.number)
    entry.overtaken = None
    closed = [read(entry, close_skips(entry, now))] if entry.flags & OPEN_SKIP_RECORD else []
    record = record_of_overtaken(overtaken, now)
    _append(entry, record, history)
    entry.unsuccessful += 1
    return [*closed, record]


def record_of_overtaken(overtaken: Overtaken, finished: int = UNSET) -> RunRecord:
    """Return the record of overtaken ticks; it is open unless a steady time is given at which it was closed."""
    return RunRecord(
        overtaken.first, overtaken.last, overtaken.number, overtaken.jitter, UNSET, finished, overtaken.offset, 0,
        OVERTAKEN, False, overtaken.more,
    )  # fmt: skip


def counts(entry: TaskEntry) -> dict[Outcome, int]:
    """Return the number of ticks of *entry* by outcome."""
    totals = {**dict.fromkeys(Outcome, 0), Outcome.SUCCEEDED: entry.kept - entry.unsuccessful}
    # This may be read in any thread. A look just while the record of overtaken ticks is closed counts them twice.
    overtaken, endings = entry.overtaken, dict(entry.ending_counts or {})
    if overtaken is not None:
        totals[Outcome.SKIPPED] += overtaken.number
    for code, number in endings.items():
        totals[ENDINGS[code][0]] += number
    return totals


def records(entry: TaskEntry) -> list[RunRecord]:
    """Return the kept records of *entry*, oldest first, and the one of its overtaken ticks, which is open."""
    ring, overtaken = entry.ring, entry.overtaken
    length = 0 if ring is None else len(ring) // PACKED.size
    found = [record for k in range(length) if (record := read(entry, (entry.kept + k) % length)).number]
    if overtaken is not None:
        later = takewhile(lambda record: record.first > overtaken.last, reversed(found))
        found.insert(len(found) - sum(1 for _ in later), record_of_overtaken(overtaken))
    return found


def handled_until(entry: TaskEntry) -> int | None:
    """Return the latest tick of the rule that runs, has run or was skipped, on the wall clock; None if unknown."""
    ticks = [record.last + record.offset for record in records(entry) if not record.manual]
    if entry.run is not None and entry.run.kind is not Kind.MANUAL:
        ticks.append(entry.run.tick + entry.host.offset)
    return max(ticks, default=None)


def was_running_at(entry: TaskEntry, moment: int) -> bool:
    """Return whether the latest run of *entry* began before the steady *moment* and was in progress then."""
    if entry.run is not None:
        return entry.run.started <= moment
    if not entry.kept:
        return False
    record = _latest(entry)
    return record.started != UNSET and record.started <= moment <= record.finished


def _latest(entry: TaskEntry) -> RunRecord:
    return read(entry, _index(entry))


def _index(entry: TaskEntry) -> int:
    """Return the slot of the latest record."""
    ring = entry.ring or b""
    return (entry.kept - 1) % (len(ring) // PACKED.size)


def ring_of(entry: TaskEntry, history: int) -> bytearray:
    """Return the ring of *entry*, with a slot for one more record. It begins with one slot: many tasks run rarely."""
    ring = entry.ring
    if ring is None:
        ring = entry.ring = bytearray(PACKED.size)
    elif len(ring) == PACKED.size and entry.kept and history > 1:
        ring.extend(bytes((history - 1) * PACKED.size))
    return ring


def _append(entry: TaskEntry, record: RunRecord, history: int) -> None:
    ring = ring_of(entry, history)
    _write(entry, entry.kept % (len(ring) // PACKED.size), record)
    entry.kept += 1


def _write(entry: TaskEntry, slot: int, record: RunRecord) -> None:
    if entry.ring is None:
        return
    PACKED.pack_into(entry.ring, slot * PACKED.size, *record[:FIELDS])
    if entry.extras is not None:
        entry.extras.pop(slot, None)
        if not entry.extras:
            entry.extras = None
    extras = record[FIELDS:]
    if extras != PLAIN:
        if entry.extras is None:
            entry.extras = {}
        entry.extras[slot] = extras


def read(entry: TaskEntry, slot: int) -> RunRecord:
    """Return the record in a slot of the ring of *entry*."""
    extras = PLAIN if entry.extras is None else entry.extras.get(slot, PLAIN)
    fields: tuple[Any, ...] = PACKED.unpack_from(entry.ring or b"", slot * PACKED.size)
    return RunRecord._make((*fields, *extras))


def _count(entry: TaskEntry, code: int, number: int) -> None:
    if entry.ending_counts is None:
        entry.ending_counts = {}
    entry.ending_counts[code] = entry.ending_counts.get(code, 0) + number
