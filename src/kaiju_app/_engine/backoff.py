"""Backoff: pauses between attempts that grow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from kaiju_app._core.calls import explain_init, renamed_to, units
from kaiju_app._core.validate import duration_us
from kaiju_app.errors import InvalidArgument

MAX_FACTOR = 1_000.0  # A larger one reaches any max_s in one step: it is a mistake in the unit.


@explain_init({**units("initial_s"), "initial": renamed_to("initial_s"), "max": renamed_to("max_s")})
@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts that grow: ``retry_interval_s=Backoff(initial_s=1, factor=2, max_s=60, jitter=0.1)``.

    The first pause is *initial_s*, and each one after it is *factor* times as long, up to *max_s*. The jitter makes a
    pause shorter, never longer. It is a hash of task, tick and attempt, and for local tasks of the process, so that a
    run can be explained afterwards.

    Args:
        initial_s: Seconds from the first failed attempt to the second one, or a ``timedelta``; at least 1 ms.
        factor: How many times longer each pause is than the one before: from 1 to 1,000.
        max_s: Longest pause in seconds, or a ``timedelta``; at least *initial_s*.
        jitter: The part of a pause by which it may be shorter: from 0 to 1, where 0.1 means at most a tenth.

    Raises:
        InvalidArgument: One of them is out of range.
    """

    initial_s: float | timedelta = 1.0
    factor: float = 2.0
    max_s: float | timedelta = 60.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        initial, longest = duration_us("initial_s", self.initial_s), duration_us("max_s", self.max_s)
        if initial < 1_000:
            raise InvalidArgument("initial_s", self.initial_s, "must be at least 0.001 seconds: Backoff(initial_s=1)")
        if longest < initial:
            rule = f"must be at least initial_s, which is {initial / 1e6:g}: give both, as in "
            rule += f"Backoff(initial_s={initial / 1e6:g}, max_s={initial / 1e5:g})"
            raise InvalidArgument("max_s", self.max_s, rule)
        factor = _number("factor", self.factor, 1, MAX_FACTOR, "2 doubles the pause each time")
        jitter = _number("jitter", self.jitter, 0, 1, "0.1 makes a pause shorter by up to a tenth")
        object.__setattr__(self, "initial_s", initial / 1e6)
        object.__setattr__(self, "max_s", longest / 1e6)
        object.__setattr__(self, "factor", factor)
        object.__setattr__(self, "jitter", jitter)

    def pause_us(self, attempt: int, chance: float) -> int:
        """Return the microseconds to wait after failed *attempt* number 1, 2, and so on; *chance* is from 0 to 1."""
        initial, longest = duration_us("initial_s", self.initial_s), duration_us("max_s", self.max_s)
        try:
            pause = min(initial * self.factor ** (attempt - 1), longest)
        except OverflowError:
            pause = longest
        return max(1, round(pause * (1 - self.jitter * chance)))

    def json_repr(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"initial_s": self.initial_s, "factor": self.factor, "max_s": self.max_s, "jitter": self.jitter}


def _number(argument: str, value: float, low: float, high: float, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidArgument(argument, value, f"must be a number from {low:g} to {high:g}; {example}")
    return float(value)
