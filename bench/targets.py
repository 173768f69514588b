"""Targets for the figures, and verdicts: met, or missed by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import median

from bench.runner import Figures, Rounds


@dataclass(frozen=True)
class Target:
    """A target for one figure of the candidate.

    Attributes:
        limit: The limit, in the unit of the figure; a multiple of the floor's figure if there is a *floor*.
        at_least: The figure has to be at least the limit, instead of at most.
        floor: The floor it is compared with, round by round; None if the limit is absolute.
        margin: With a floor, the limit is what may be added to the floor's figure, instead of a multiple of it.
        eager: Meant for Pythons with eager tasks (3.12) only, or for those without only; None: for all.
    """

    limit: float
    at_least: bool = False
    floor: str | None = None
    margin: bool = False
    eager: bool | None = None

    def judge(self, key: str, own: Sequence[Figures], rounds: Rounds) -> Verdict | None:
        """Compare the figure *key* of the candidate's rounds with the limit; None if something was not measured."""
        values = [mine[key] for mine in own] if self.floor is None else self._compared(key, own, rounds)
        if not values or isnan(value := median(values)):
            return None
        return Verdict(self, value, met=value >= self.limit if self.at_least else value <= self.limit)

    def _compared(self, key: str, own: Sequence[Figures], rounds: Rounds) -> list[float]:
        """Compare round by round, because what slows the machine for a minute slows both."""
        pairs = [(mine[key], floor[key]) for mine, floor in zip(own, rounds.get(self.floor or "", ()), strict=False)]
        if self.margin:
            return [mine - floor for mine, floor in pairs]
        return [mine / floor if floor else nan for mine, floor in pairs]

    def __str__(self) -> str:
        against = "" if self.floor is None else f" above {self.floor}" if self.margin else f" x {self.floor}"
        return f"{'>=' if self.at_least else '<='} {short(self.limit)}{against}"


@dataclass(frozen=True)
class Verdict:
    """A measured figure, and how it compares with its target."""

    target: Target
    value: float
    met: bool

    def __str__(self) -> str:
        outcome = "met" if self.met else f"MISSED by {self._missed_by()}"
        return f"{self.target}: {short(self.value)}, {outcome}"

    def _missed_by(self) -> str:
        distance = abs(self.value - self.target.limit)
        relative = self.target.limit and not self.target.margin
        return f"{distance / self.target.limit:.0%}" if relative else short(distance)


def short(value: float) -> str:
    """Write *value* with three significant digits or all before the point; n/a if it could not be measured."""
    if isnan(value):
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
