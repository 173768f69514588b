"""``Every``: ticks on an even grid."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaiju_app._core.calls import explain_init, renamed_to, units
from kaiju_app._core.clock import EPOCH, epoch_us, utc
from kaiju_app._core.text import code_of
from kaiju_app._core.validate import aware, gap_us

from ._base import BaseTrigger, freeze


@explain_init({**units("seconds"), **dict.fromkeys(("interval_s", "interval"), renamed_to("seconds"))})
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Every(BaseTrigger):
    """Ticks at a fixed distance from each other.

    Args:
        seconds: Distance between two ticks in seconds or as a ``timedelta``, from 1 ms to 100 years, rounded to
            microseconds.
        anchor: Aware datetime of any one tick. None means the Unix epoch, so that equal rules tick together.

    Raises:
        InvalidArgument: *seconds* is not a number or out of range, or *anchor* is naive.
    """

    gap_us: int
    anchor: datetime

    def __init__(self, seconds: float | timedelta, anchor: datetime | None = None) -> None:
        freeze(self, gap_us=gap_us("seconds", seconds), anchor=EPOCH if anchor is None else aware("anchor", anchor))

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None at the end of the calendar."""
        us = epoch_us(aware("moment", moment))
        with suppress(OverflowError):
            return utc(us + self.gap_us - (us - epoch_us(self.anchor)) % self.gap_us)
        return None

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None at the beginning of the calendar."""
        us = epoch_us(aware("moment", moment))
        with suppress(OverflowError):
            return utc(us - (us - epoch_us(self.anchor)) % self.gap_us)
        return None

    def json_repr(self) -> dict[str, object]:
        """Return the rule as JSON values; the anchor as UTC ISO text."""
        form: dict[str, object] = {"every": self._seconds}
        return form if self.anchor == EPOCH else form | {"anchor": self.anchor.isoformat()}

    def __repr__(self) -> str:
        anchor = "" if self.anchor == EPOCH else f", anchor={code_of(self.anchor)}"
        return f"Every({self._seconds}{anchor})"

    def __str__(self) -> str:
        since = "" if self.anchor == EPOCH else f" counted from {self.anchor.isoformat()}"
        return f"every {self._seconds} s{since}"

    @property
    def _seconds(self) -> int | float:
        whole, rest = divmod(self.gap_us, 1_000_000)
        return self.gap_us / 1e6 if rest else whole
