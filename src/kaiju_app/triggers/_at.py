"""``At``: ticks at given moments."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime

from kaiju_app._core.calls import explain_init
from kaiju_app._core.text import code_of, listed
from kaiju_app._core.validate import aware
from kaiju_app.errors import InvalidArgument

from ._base import BaseTrigger, freeze

SHOWN = 3  # How many moments str() lists; more do not fit on a line.


@explain_init(dict.fromkeys(("run_date", "moment", "moments", "when"), lambda value: f"write At({value!r})"))
@dataclass(frozen=True, slots=True, init=False, repr=False)
class At(BaseTrigger):
    """A tick at each of the given moments.

    Args:
        moments: Aware datetimes, at least one, in any order; duplicates count once.

    Raises:
        InvalidArgument: No moment is given, or one is naive.
    """

    moments: tuple[datetime, ...]

    def __init__(self, *moments: datetime) -> None:
        if not moments:
            raise InvalidArgument("moments", moments, "must be at least one aware datetime")
        freeze(self, moments=tuple(sorted({aware("moments", each) for each in moments})))

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first given moment strictly later than the aware *moment*; None if there is none."""
        place = bisect_right(self.moments, aware("moment", moment))
        return self.moments[place] if place < len(self.moments) else None

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last given moment not later than the aware *moment*; None if there is none."""
        place = bisect_right(self.moments, aware("moment", moment))
        return self.moments[place - 1] if place else None

    def one_off_in(self, after: datetime, until: datetime, /) -> datetime | None:
        """Return the first given moment later than the aware *after*, up to *until*; None if there is none."""
        tick = self.after(after)
        return None if tick is None or tick > until else tick

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values; the moments as UTC ISO text."""
        return {"at": [each.isoformat() for each in self.moments]}

    def __repr__(self) -> str:
        return f"At({', '.join(map(code_of, self.moments))})"

    def __str__(self) -> str:
        return f"at {listed([each.isoformat() for each in self.moments], SHOWN)}"
