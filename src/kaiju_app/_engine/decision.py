"""What can be done with a tick."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Decision(Enum):
    """What to do with a tick."""

    START = auto()
    """Start its run now."""
    WAIT = auto()
    """Let it wait for the end of the run in progress, in place of the tick that waits already."""
    REPLACE = auto()
    """Cancel the run in progress, and let the tick wait for its end."""
    OVERLAP = auto()
    """Skip it: the run in progress takes precedence."""
    HUNG = auto()
    """Skip it: the run in progress was cancelled and does not end."""
    PARK = auto()
    """Keep it back until the task is no longer held or disabled."""
    LATE = auto()
    """It is late, or a later one may be due as well: ask ``missed()``."""


# Members that each tick looks for, as globals: to find one in its class takes CPython 3.11 a tenth of a microsecond.
START: Final = Decision.START
WAIT: Final = Decision.WAIT
REPLACE: Final = Decision.REPLACE
OVERLAP: Final = Decision.OVERLAP
HUNG: Final = Decision.HUNG
PARK: Final = Decision.PARK
LATE: Final = Decision.LATE
