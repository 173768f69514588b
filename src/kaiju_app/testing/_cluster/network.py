"""What can happen to a message between an instance and the store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import NamedTuple

from kaiju_app.errors import InvalidArgument


@dataclass(frozen=True)
class Network:
    """What can happen to a message between an instance and the store. Times are in seconds, shares between 0 and 1.

    Args:
        latency_s: Least and greatest time of one way.
        lost: Share of requests that never arrive.
        lost_answers: Share of answers that never arrive.
        late: Share of messages that take up to *late_s* longer; short delays are more likely.
        duplicated: Share of requests that are executed again, up to *late_s* later. The first answer to arrive counts.
        lost_hints: Share of change notifications that never arrive.
        impatient: Share of calls that raise StoreUnavailable when no answer comes within *patience_s* (least and
            greatest). The others wait until their caller gives up.
        split: Send only ``scan`` and ``swap`` as messages and build every other call from them. Otherwise every call
            is one message.

    Raises:
        InvalidArgument: A share or a time is out of range.
    """

    latency_s: tuple[float, float] = (0.0005, 0.005)
    lost: float = 0.01
    lost_answers: float = 0.005
    late: float = 0.025
    late_s: float = 40.0
    duplicated: float = 0.003
    lost_hints: float = 0.05
    impatient: float = 0.5
    patience_s: tuple[float, float] = (1.0, 8.0)
    split: bool = False

    def __post_init__(self) -> None:
        for name in ("lost", "lost_answers", "late", "duplicated", "lost_hints", "impatient"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgument(name, getattr(self, name), "must be a share between 0 and 1")
        for name in ("latency_s", "patience_s"):
            span = getattr(self, name)
            if not (isinstance(span, tuple) and len(span) == 2 and 0 <= span[0] <= span[1]):
                raise InvalidArgument(
                    name, span, "must be the least and the greatest number of seconds, such as (0.1, 2)"
                )
        if self.late_s < 0:
            raise InvalidArgument("late_s", self.late_s, "must be at least 0 seconds")


def as_code(network: Network) -> str:
    """Return Python code for *network*, with what differs from the defaults."""
    differs = [each for each in fields(network) if getattr(network, each.name) != each.default]
    return f"Network({', '.join(f'{each.name}={getattr(network, each.name)!r}' for each in differs)})"


RELIABLE = Network(lost=0.0, lost_answers=0.0, late=0.0, duplicated=0.0, lost_hints=0.0)


class Delivery(NamedTuple):
    """What happens to the messages of one call.

    Drawn when the call is made, so that removing a fault elsewhere in the plan changes nothing here.
    """

    there: int | None
    """Microseconds that the request takes; None if it is lost."""
    again: int | None
    """Microseconds from the request to its second execution; None if it is executed once."""
    back: int | None
    """Microseconds that the answer takes; None if it is lost."""
    kept: bool
    """A message that meets a cut arrives after its end, as with TCP; otherwise it is lost."""
    patience_s: float | None
    """Seconds after which the call raises StoreUnavailable; None if never."""


def draw_delivery(rng: Random, network: Network) -> Delivery:
    def way(lost: float) -> int | None:
        gone, late, long = rng.random() < lost, rng.random() < network.late, rng.random()
        delay = rng.uniform(*network.latency_s) + (network.late_s * long * long if late else 0)
        return None if gone else round(delay * 1e6)

    there, back = way(network.lost), way(network.lost_answers)
    duplicated, again, kept = rng.random() < network.duplicated, rng.random(), rng.random() < 0.5
    impatient, patience = rng.random() < network.impatient, rng.uniform(*network.patience_s)
    repeated = round(network.late_s * again * again * 1e6) if duplicated else None
    return Delivery(there, repeated, back, kept, patience if impatient else None)
