"""Answers queries from the records of the tasks of one process, which have no index: all of them are looked at.

Ten thousand tasks have hundreds of thousands of records, so only those that are wanted are unpacked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from operator import add
from typing import NamedTuple

from kaiju_app._core.ledger_query import Ending, LedgerQuery, Place
from kaiju_app._core.model import Outcome

from .entry import TaskEntry
from .ledger import CODE_AT, ENDINGS, FIRST_AT, OFFSET_AT, PACKED, RunRecord, read, record_of_overtaken, records

_WORDS = PACKED.size // 8  # Of eight bytes each, in a packed record.
_PIECES = PACKED.size // 2

_Found = tuple[Place, TaskEntry, RunRecord]


class Span(NamedTuple):
    """What the records of a task are, as long as it has no new ones: those that grow keep their place and ending.

    Attributes:
        kept: Of ``entry`` when it was looked at.
        low: The first tick of the oldest record, in wall-clock microseconds; high: that of the newest one.
        codes: How they ended.
    """

    entry: TaskEntry
    kept: int
    low: int
    high: int
    codes: frozenset[int]


def _span_of(entry: TaskEntry) -> Span:
    ticks, codes = _ticks_and_codes(entry)
    return Span(entry, entry.kept, min(ticks), max(ticks), frozenset(codes))


def _ticks_and_codes(entry: TaskEntry) -> tuple[list[int], list[int]]:
    """Return the first tick and the ending of each record of *entry*, by slot."""
    ring_bytes = entry.ring or b""
    used = min(entry.kept, len(ring_bytes) // PACKED.size)
    with memoryview(ring_bytes) as ring, ring.cast("q") as words, ring.cast("h") as pieces:
        ticks = list(map(add, words[FIRST_AT : used * _WORDS : _WORDS], words[OFFSET_AT : used * _WORDS : _WORDS]))
        codes = pieces[CODE_AT : used * _PIECES : _PIECES].tolist()
    return ticks, codes


@dataclass(slots=True)
class LocalPage:
    """Those records of the tasks looked at so far that a query asks for.

    Attributes:
        query: What is asked for.
        spans: What is known of the records of tasks by name, from earlier looks: most have not changed since.
        oldest: The first tick, in wall-clock microseconds, of the oldest record, wanted or not; None if there is none.
        newest: That of the newest one.
    """

    query: LedgerQuery
    spans: dict[str, Span] = field(default_factory=dict)
    oldest: int | None = None
    newest: int | None = None
    _found: list[_Found] = field(default_factory=list)
    """A heap: the oldest one first, to be replaced by a newer one."""
    _codes: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.query.endings
        self._codes = frozenset(
            code for code, ending in enumerate(ENDINGS) if wanted is None or Ending(*ending) in wanted
        )

    def look_at(self, entry: TaskEntry) -> None:
        """Look at the records of *entry*."""
        overtaken = entry.overtaken
        if overtaken is not None:  # Its record is open and not in the ring yet.
            record = record_of_overtaken(overtaken)
            tick = record.first + record.offset
            self._span(tick, tick)
            if record.code in self._codes and tick >= self._floor():
                self._keep((Place(tick, entry.name, False, record.delivery, 0), entry, record))
        if entry.ring is None or not entry.kept:
            return
        span = self.spans.get(entry.name)
        if span is None or span.entry is not entry or span.kept != entry.kept:
            span = self.spans[entry.name] = _span_of(entry)
        self._span(span.low, span.high)
        if span.high < max(self._floor(), self.query.since) or self._codes.isdisjoint(span.codes):
            return
        ticks, codes = _ticks_and_codes(entry)
        slots = len(entry.ring) // PACKED.size
        for slot, (tick, code) in enumerate(zip(ticks, codes, strict=True)):
            if code in self._codes and tick >= self._floor():
                record = read(entry, slot)
                number = entry.kept - (entry.kept - 1 - slot) % slots
                self._keep((Place(tick, entry.name, record.manual, record.delivery, number), entry, record))

    def _span(self, low: int, high: int) -> None:
        self.oldest = low if self.oldest is None else min(self.oldest, low)
        self.newest = high if self.newest is None else max(self.newest, high)

    def _floor(self) -> int:
        """Return the tick below which nothing is wanted any more."""
        return self._found[0][0].tick if len(self._found) == self.query.limit else self.query.since

    def _keep(self, found: _Found) -> None:
        """Keep what was *found*, if it is wanted, instead of the oldest of too many."""
        place, _, record = found
        if not self.query.wants(place, Ending(*ENDINGS[record.code])):
            return
        if len(self._found) < self.query.limit:
            heappush(self._found, found)
        elif place > self._found[0][0]:
            heapreplace(self._found, found)

    def newest_first(self) -> list[_Found]:
        """Return what was found."""
        return sorted(self._found, key=lambda each: each[0], reverse=True)


def latest_record(entry: TaskEntry) -> RunRecord | None:
    """Return the last of the records that ``records()`` returns; None if there is none."""
    overtaken, latest = entry.overtaken, None
    if entry.ring is not None and entry.kept:
        latest = read(entry, (entry.kept - 1) % (len(entry.ring) // PACKED.size))
    if overtaken is not None and (latest is None or latest.first <= overtaken.last):
        return record_of_overtaken(overtaken)
    return latest


def latest_outcomes(entry: TaskEntry, most: int) -> list[Outcome]:
    """Return how the last *most* records of ``records()`` ended, oldest first."""
    if entry.overtaken is not None:
        return [record.outcome for record in records(entry)[-most:]]
    if entry.ring is None:
        return []
    slots = len(entry.ring) // PACKED.size
    with memoryview(entry.ring) as ring, ring.cast("h") as pieces:
        codes = pieces[CODE_AT::_PIECES].tolist()
    newest = entry.kept % slots
    ordered = codes[: entry.kept] if entry.kept <= slots else [*codes[newest:], *codes[:newest]]
    return [ENDINGS[code][0] for code in ordered[-most:]]
