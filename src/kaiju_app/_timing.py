"""How long a claim is trusted, and how it is taken away: the numbers of a lease, and the bounds that follow."""

from __future__ import annotations

from dataclasses import dataclass

from ._arguments import duration_us
from .errors import InvalidArgument

UNNOTICED_S = 1.0  # So far a clock of a store may jump without being distrusted.
ANSWER_S = 0.5  # What an answer may take that is still of use.
RATES = 0.04  # Clocks may go so differently: real ones differ by a hundredth of it.
LATE = 1.2  # A poll that should come every so often comes at most so much later: it is spread, and the loop has work.


@dataclass(frozen=True)
class LeaseTiming:
    """The numbers of a lease, the same for all instances that share a store.

    The defaults move a task to another instance within 19.3 s of a crash. Shorter leases move it sooner, and forgive
    a blocked loop or a slow store less: ``LeaseTiming(6, 1.2, 3, 1)`` comes to 11.4 s.

    Args:
        ttl_s: How long a claim is good for without being renewed.
        renew_s: How often it is renewed: at most a fifth of ``ttl_s``, so that some renewals may fail. The way to the
            store and back has to take less than half of it.
        grace_s: How long the holder of a lease that is over is given to answer, and a run that has lost its lease to
            clean up: at least two renewals and half a second.
        poll_s: How often the store is asked for what nobody has announced.
        ahead_s: How long before a tick it may be claimed, so that it starts in time; at most ``renew_s``; 0: never.

    Raises:
        InvalidArgument: One is no positive number, or they do not fit together.
    """

    ttl_s: float = 10.0
    renew_s: float = 2.0
    grace_s: float = 4.5
    poll_s: float = 2.0
    ahead_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("ttl_s", "renew_s", "grace_s", "poll_s"):
            if not duration_us(name, getattr(self, name)):
                raise InvalidArgument(name, getattr(self, name), "must be more than 0 seconds")
        duration_us("ahead_s", self.ahead_s)
        if self.renew_s > self.ttl_s / 5:
            raise InvalidArgument("renew_s", self.renew_s, f"must be at most a fifth of ttl_s, {self.ttl_s / 5:g}")
        if self.grace_s < 2 * self.renew_s + 0.5:
            raise InvalidArgument(
                "grace_s", self.grace_s, f"must be at least twice renew_s and half a second, {2 * self.renew_s + 0.5:g}"
            )
        if self.ahead_s > self.renew_s:
            raise InvalidArgument("ahead_s", self.ahead_s, f"must be at most renew_s, {self.renew_s:g}")

    @property
    def failover_s(self) -> float:
        """Seconds after a crash within which another instance that is up has taken over."""
        return self.ttl_s + self.grace_s + 2 * LATE * self.poll_s

    @property
    def cleanup_s(self) -> float:
        """Seconds that a run has to clean up which is cut because its lease is over; then another one may begin.

        What is left of the grace by clocks that go up to 4 % differently, a store's clock that may be set by a second
        unnoticed, and answers that take half a second.
        """
        return max(0.0, self.grace_s - UNNOTICED_S - ANSWER_S - RATES * (self.ttl_s + self.grace_s))


USUAL = LeaseTiming()
