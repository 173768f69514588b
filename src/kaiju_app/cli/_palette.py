"""One look for each outcome and state: a colour that all people can tell apart, and a mark for those who see none.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), as on the dashboard, whose marks have
the same shapes.
"""

from __future__ import annotations

from typing import NamedTuple

GREEN, VERMILLION, ORANGE, PURPLE = "#009E73", "#D55E00", "#E69F00", "#CC79A7"
SKY, YELLOW, GREY = "#56B4E9", "#F0E442", "#98A2AD"


class Look(NamedTuple):
    """How something is shown.

    Attributes:
        color: As hexadecimal digits; empty for that of the terminal.
        mark: One character.
        plain: The mark where the terminal knows only ASCII.
    """

    color: str
    mark: str
    plain: str


NOTHING = Look("", "-", "-")

OUTCOMES = {
    "SUCCEEDED": Look(GREEN, "✓", "+"),
    "FAILED": Look(VERMILLION, "✗", "x"),
    "TIMED_OUT": Look(ORANGE, "◷", "t"),
    "CANCELLED": Look(PURPLE, "⊘", "c"),
    "SKIPPED": Look(GREY, "◇", "o"),
    "LOST": Look(YELLOW, "?", "?"),
}

STATES = {
    "hung": VERMILLION,
    "running": SKY,
    "paused": ORANGE,
    "suspended": ORANGE,
    "disabled": PURPLE,
    "stopped": PURPLE,
}

OVERDUE = VERMILLION
RUNNING = SKY


def look_of(outcome: str | None) -> Look:
    """Return the look of an outcome; a newer endpoint may know more of them."""
    return OUTCOMES.get(outcome or "", NOTHING)
