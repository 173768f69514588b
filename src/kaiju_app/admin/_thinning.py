"""Thins what is drawn of tasks until an answer has at most so many bytes. Times are microseconds.

What is near in time is united, and nothing is left out: each record is inside a bar or a mark. What is united begins in
one cell of a grid of time that does not depend on the window, so that a picture that moves on does not flicker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from kaiju_app._core.clock import BEGINNING
from kaiju_app.scheduler import Outcome, Reason

T = TypeVar("T")

BYTES_OF_BAR = 230
BYTES_OF_MARK = 150
BYTES_OF_BAND = 190  # Without its texts.
LEAST = 8  # Bars, marks and bands that each task of a page may have: a page has fewer tasks rather than fewer of these.

BADNESS = {
    outcome: badness
    for badness, outcome in enumerate(
        (Outcome.SUCCEEDED, Outcome.SKIPPED, Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.FAILED, Outcome.LOST)
    )
}


class Bar(NamedTuple):
    """A run, or several.

    Attributes:
        end: None if it is in progress.
        tick: Of the latest of the worst runs, as ``reason`` and ``key``, from which the identity of a run is made.
        outcome: The worst; None if it is in progress.
        worst: How many have that outcome.
    """

    start: int
    end: int | None
    tick: int | None
    outcome: Outcome | None
    reason: Reason | None
    number: int = 1
    worst: int = 1
    key: tuple[str, int, int | None] | None = None


class Mark(NamedTuple):
    """Ticks that did not run."""

    at: int
    until: int
    number: int
    reason: Reason | None


class Band(NamedTuple):
    """A time in which something kept the task from running.

    Attributes:
        since: None if nobody knows.
        until: None if it goes on.
        number: How many holds it stands for; more than one only of those that are over.
    """

    since: int | None
    until: int | None
    kind: str
    holder: str
    reason: str | None
    number: int = 1


@dataclass(slots=True)
class Drawn:
    """What is drawn of one task.

    Attributes:
        size: The bytes of its other fields.
    """

    size: int = 0
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)

    def measured(self) -> Measure:
        """Return how large it is."""
        return Measure(
            self.size,
            len(self.bars),
            len(self.marks),
            len({each.reason for each in self.marks}),
            len(self.bands),
            BYTES_OF_BAND + max(map(_bytes_of_texts, self.bands), default=0),
        )

    def thinned(self, most: int) -> Drawn:
        """Return it with at most *most* bars, marks and bands."""
        return Drawn(self.size, thin_bars(self.bars, most), thin_marks(self.marks, most), thin_bands(self.bands, most))


class Measure(NamedTuple):
    """How large is what is drawn of one task."""

    size: int
    bars: int
    marks: int
    reasons: int
    bands: int
    bytes_of_band: int

    def bytes_with(self, most: int) -> int:
        """Return how many bytes it takes if at most *most* bars, marks and bands are drawn."""
        return (
            self.size
            + BYTES_OF_BAR * min(self.bars, most + 1)
            + BYTES_OF_MARK * min(self.marks, most + self.reasons)
            + self.bytes_of_band * min(self.bands, most + 1)
        )


def _bytes_of_texts(band: Band) -> int:
    return 2 * len(f"{band.kind}{band.holder}{band.reason}".encode("utf-8", "backslashreplace"))  # With escapes.


def fits(drawn: Sequence[Drawn], most_bytes: int) -> bool:
    """Return whether all of them fit into *most_bytes* if they are thinned as far as possible."""
    return sum(each.measured().bytes_with(LEAST) for each in drawn) <= most_bytes


def fit(drawn: Sequence[Drawn], most_bytes: int) -> tuple[int, int | None]:
    """Return how many of the first tasks fit into *most_bytes*, at least one, and how far they have to be thinned.

    The second is the argument of ``Drawn.thinned()``; None if they fit as they are.
    """
    measures = [each.measured() for each in drawn]
    kept, used = 0, 0
    for each in measures:
        used += each.bytes_with(LEAST)
        if kept and used > most_bytes:
            break
        kept += 1
    shown = measures[:kept]
    low, high = LEAST, max((max(each.bars, each.marks, each.bands) for each in shown), default=0)
    if high <= low or sum(each.bytes_with(high) for each in shown) <= most_bytes:
        return kept, None
    while high - low > 1:  # With low it fits, with high it does not.
        middle = (low + high) // 2
        low, high = (middle, high) if sum(each.bytes_with(middle) for each in shown) <= most_bytes else (low, middle)
    return kept, low


def thin_bars(bars: Sequence[Bar], most: int) -> list[Bar]:
    """Return *bars* in order; runs that are over are united until at most *most* bars stand for them."""
    over = [each for each in bars if each.end is not None]
    return [*_thin(over, most, lambda bar: bar.start, _united_bars), *(each for each in bars if each.end is None)]


def _united_bars(bars: Sequence[Bar]) -> Bar:
    ranks = [-1 if bar.outcome is None else BADNESS[bar.outcome] for bar in bars]
    worst = [bar for bar, rank in zip(bars, ranks, strict=True) if rank == max(ranks)]
    return worst[-1]._replace(
        start=bars[0].start,
        end=max(bar.start if bar.end is None else bar.end for bar in bars),
        number=sum(bar.number for bar in bars),
        worst=sum(bar.worst for bar in worst),
    )


def thin_marks(marks: Sequence[Mark], most: int) -> list[Mark]:
    """Return *marks* in order; those of one reason are united until there are at most *most*, or one of each reason."""
    by_reason: dict[Reason | None, list[Mark]] = {}
    for mark in marks:
        by_reason.setdefault(mark.reason, []).append(mark)
    if len(marks) <= most:
        return sorted(marks, key=lambda mark: mark.at)
    thin = [
        mark
        for some in by_reason.values()
        for mark in _thin(some, max(1, most * len(some) // len(marks)), lambda mark: mark.at, _united_marks)
    ]
    return sorted(thin, key=lambda mark: mark.at)


def _united_marks(marks: Sequence[Mark]) -> Mark:
    return marks[0]._replace(until=max(mark.until for mark in marks), number=sum(mark.number for mark in marks))


def thin_bands(bands: Sequence[Band], most: int) -> list[Band]:
    """Return *bands* in order; those that are over are united until there are at most *most*; one that goes on stays.

    If several go on, the first *most* of them are shown, and the last of these has the number of all that are left out.
    """
    over = [each for each in bands if each.until is not None and each.since is not None]
    going_on = [each for each in bands if each.until is None or each.since is None]
    if len(over) + len(going_on) <= most:
        return sorted(bands, key=begin_of)
    room = max(1, most // 2)
    if len(going_on) > room:
        going_on = [*going_on[: room - 1], going_on[room - 1]._replace(number=len(going_on) - room + 1)]
    return sorted([*_thin(over, room, begin_of, _united_bands), *going_on], key=begin_of)


def begin_of(band: Band) -> int:
    """Return when *band* begins; long ago, if nobody knows."""
    return BEGINNING if band.since is None else band.since


def _united_bands(bands: Sequence[Band]) -> Band:
    return bands[-1]._replace(
        since=bands[0].since,
        until=max(band.until or 0 for band in bands),
        number=sum(band.number for band in bands),
    )


def _thin(items: Iterable[T], most: int, start_of: Callable[[T], int], united: Callable[[Sequence[T]], T]) -> list[T]:
    found = sorted(items, key=start_of)
    groups = grouped([start_of(each) for each in found], most)
    return [found[first] if last - first == 1 else united(found[first:last]) for first, last in groups]


def grouped(starts: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Return at most *most* groups, each as the indexes of the first and after the last, of ascending *starts*.

    Those in one cell of a grid of time are a group. The cells are as narrow as possible: a power of two.
    """
    if len(starts) <= most:
        return [(each, each + 1) for each in range(len(starts))]
    if most <= 1:
        return [(0, len(starts))]
    shift = ((starts[-1] - starts[0]) // most).bit_length() + 1
    while _cells(starts, shift) > most:
        shift += 1
    while shift and _cells(starts, shift - 1) <= most:
        shift -= 1
    edges = [0]
    edges += [index for index in range(1, len(starts)) if starts[index] >> shift != starts[index - 1] >> shift]
    return list(zip(edges, [*edges[1:], len(starts)], strict=True))


def _cells(starts: Sequence[int], shift: int) -> int:
    return len({start >> shift for start in starts})
