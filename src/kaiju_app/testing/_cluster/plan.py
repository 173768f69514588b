"""Plans: the faults of a simulation as plain data.

Faults are written in seconds, for people. The methods of a plan work in microseconds of real time, which only the
simulation knows. They are pure functions of the plan, so that the checks can use them as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from .network import RELIABLE, Network

Span = tuple[int, int]
"""Start (included) and end (excluded), in microseconds of real time."""

MILLION = 1_000_000
EPOCH_US = 1_800_000_000_000_000  # When a simulation begins: a Friday in 2027; any date would do.


def us(seconds: float) -> int:
    return round(seconds * MILLION)


@dataclass(frozen=True)
class Pause:
    """SIGSTOP, and SIGCONT after *for_s*: nothing is lost, but everything is late."""

    at_s: float
    place: int
    for_s: float


@dataclass(frozen=True)
class Block:
    """A callback that blocks its loop for *for_s*."""

    at_s: float
    place: int
    for_s: float


@dataclass(frozen=True)
class Crash:
    """The process dies at once. *back_s* later another one, with another identity, takes its place; None if never."""

    at_s: float
    place: int
    back_s: float | None


@dataclass(frozen=True)
class Cut:
    """No message gets from an instance to the store (``there``), from the store to it (``back``), or ``both``."""

    at_s: float
    place: int
    for_s: float
    ways: str = "both"


@dataclass(frozen=True)
class Outage:
    """The store ``refuses`` calls, does not answer (``silent``), or ``stalls``: it executes them all afterwards."""

    at_s: float
    for_s: float
    how: str = "refuses"


@dataclass(frozen=True)
class Jump:
    """The store's clock is set."""

    at_s: float
    by_s: float


@dataclass(frozen=True)
class Loss:
    """The store loses all records."""

    at_s: float


@dataclass(frozen=True)
class Ask:
    """A request to the program itself, if it is alive. The ask hook decides what it means."""

    at_s: float
    place: int
    what: str
    task: str = "task"
    for_s: float = 0.0


Fault = Pause | Block | Crash | Cut | Outage | Jump | Loss | Ask


@dataclass(frozen=True)
class Plan:
    """Everything that happens to the instances, except to messages, whose fate is drawn when they are sent.

    Args:
        rates_ppm: How much faster than real time the steady clock of each place runs, in millionths; 0 if missing.
        store_ppm: The same for the store's clock.
        for_s: Duration of the simulation.
        start_us: What all clocks show when it begins, in microseconds since the Unix epoch.
    """

    faults: tuple[Fault, ...] = ()
    rates_ppm: tuple[int, ...] = ()
    store_ppm: int = 0
    network: Network = RELIABLE
    for_s: float = 300.0
    start_us: int = EPOCH_US

    # --- clocks ---

    def rate_ppm(self, place: int) -> int:
        return self.rates_ppm[place] if place < len(self.rates_ppm) else 0

    @cached_property
    def jumps(self) -> list[tuple[int, int]]:
        """When the store's clock is set, and by how much."""
        return sorted((us(each.at_s), us(each.by_s)) for each in self.faults if isinstance(each, Jump))

    def store_us(self, at: int) -> int:
        """Return what the store's clock shows."""
        shown = self.start_us + at + at * self.store_ppm // MILLION
        for when, by in self.jumps:
            if when > at:
                break
            shown += by
        return shown

    def when_shown(self, moment: int, since: int) -> int | None:
        """Return when the store's clock first shows *moment* or more, from *since* on; None if never."""
        ends = [when for when, _ in self.jumps if when > since]
        for start, end in zip([since, *ends], [*ends, us(self.for_s)], strict=True):
            missing = moment - self.store_us(start)
            at = start + max(0, -(-missing * MILLION // (MILLION + self.store_ppm)))
            at += self.store_us(at) < moment  # Clocks show whole microseconds.
            if at < end:
                return at
        return None

    # --- spans ---

    def lives(self, place: int) -> list[Span]:
        """Return the lifetime of each process of the place."""
        found, start, end = [], 0, us(self.for_s)
        for crash in sorted((each for each in self._of(place, Crash)), key=lambda each: each.at_s):
            assert isinstance(crash, Crash)
            if us(crash.at_s) > start:  # Otherwise there is nothing to crash.
                found.append((start, us(crash.at_s)))
                start = end if crash.back_s is None else us(crash.at_s + crash.back_s)
        return [*found, (start, end + 1)] if start < end else found

    def pauses(self, place: int) -> list[Span]:
        return merged(_span(each) for each in self._of(place, Pause))

    def cuts(self, place: int, way: str) -> list[Span]:
        return merged(_span(each) for each in self._of(place, Cut) if getattr(each, "ways", way) in (way, "both"))

    @cached_property
    def outages(self) -> list[tuple[int, int, str]]:
        found = [each for each in self.faults if isinstance(each, Outage)]
        return sorted((*_span(each), each.how) for each in found)

    def impaired(self, place: int) -> list[Span]:
        """Return when an instance in this place cannot be expected to work."""
        lives = self.lives(place)
        dead = zip([0, *(end for _, end in lives)], [*(start for start, _ in lives), us(self.for_s) + 1], strict=True)
        blocks = (_span(each) for each in self._of(place, Block))
        outages = ((start, end) for start, end, _ in self.outages)
        there, back = self.cuts(place, "there"), self.cuts(place, "back")
        return merged([*dead, *blocks, *outages, *there, *back, *self.pauses(place)])

    def _of(self, place: int, kind: type[Fault]) -> list[Fault]:
        return [each for each in self.faults if isinstance(each, kind) and getattr(each, "place", None) == place]


def _span(fault: Fault) -> Span:
    return us(fault.at_s), us(fault.at_s + getattr(fault, "for_s", 0.0))


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the union of the spans as ordered spans that do not touch, without empty ones."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def inside(spans: Iterable[Span], at: int) -> Span | None:
    """Return the span that contains *at*; None if there is none."""
    for span in spans:
        if span[0] <= at < span[1]:
            return span
    return None
