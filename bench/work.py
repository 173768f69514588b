"""A work is one table: what every candidate does, the figures that it yields, and their targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.candidates import CANDIDATE, EAGER_FLOORS
from bench.runner import Plan
from bench.targets import Target


@dataclass(frozen=True)
class Figure:
    """One row of a table: a figure with its unit, and the candidate's targets."""

    key: str
    label: str
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Work:
    """One table: a plan that every candidate carries out, and the figures it yields."""

    name: str
    title: str
    plan: Callable[[], Plan]
    figures: tuple[Figure, ...]
    floors: tuple[str, ...]
    candidates: tuple[str, ...] = (CANDIDATE,)
    loop: str = "asyncio"

    def whos(self, *, eager: bool) -> list[str]:
        """List candidates and floors, those with eager tasks only where there are any."""
        return [who for who in (*self.candidates, *self.floors) if eager or who not in EAGER_FLOORS]
