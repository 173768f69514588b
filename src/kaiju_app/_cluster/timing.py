"""The numbers of a lease: how long a claim is trusted, how it is taken away, and the bounds that follow."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import NamedTuple

from kaiju_app._core.calls import explain_init, renamed_to, units
from kaiju_app._core.validate import duration_us
from kaiju_app.errors import InvalidArgument

MAX_UNDETECTED_JUMP_S = 1.0  # The clock of a store may jump by this much without being distrusted.
MAX_USEFUL_ROUNDTRIP_S = 0.5  # A slower answer says too little about the time at which it was given.
MAX_CLOCK_DRIFT = 0.04  # Clocks may differ in rate by this fraction; real ones differ by a hundredth of it.
TTL, RENEW, GRACE, POLL, AHEAD = 10_000_000, 2_000_000, 4_500_000, 2_000_000, 500_000  # The defaults, in microseconds.
RENEWALS = 5  # In a lease, so that some may fail.
HALF_A_SECOND = 500_000
DEFAULT_MS = 19_300  # The failover with the defaults.
LEAST_MS = 1_440  # With 100 ms between renewals, of which a round trip must take less than half.

MAX_POLL_STRETCH = 1.2  # A poll comes at most this many intervals late: polls are spread, and the loop may be busy.


@explain_init({**units("ttl_s"), "ttl": renamed_to("ttl_s")})
@dataclass(frozen=True, init=False)
class LeaseTiming:
    """The numbers of a lease; all instances that share a store must use the same ones.

    The defaults move a task to another instance within 19.3 s of a crash. A shorter lease moves it sooner, but
    tolerates a blocked loop or a slow store less: see ``LeaseTiming.for_failover(5)``. What is not given has its
    default, or the nearest value that fits to what is given.

    Args:
        ttl_s: Seconds for which a claim is valid without being renewed; 10 by default.
        renew_s: Seconds between renewals, at most a fifth of ``ttl_s`` so that some renewals may fail; 2 by default.
            The round trip to the store must take less than half of it.
        grace_s: Seconds that the owner of an expired lease has to answer, and that a run whose lease was lost has to
            clean up: at least two renewals and half a second; 4.5 by default.
        poll_s: Seconds between polls for work that nobody has announced; 2 by default.
        ahead_s: Seconds before a tick from which it may be claimed, so that it starts on time; at most ``renew_s``;
            0: ticks are never claimed ahead; 0.5 by default.

    Raises:
        InvalidArgument: A value is not a positive number, or the values do not fit together.
    """

    ttl_s: float
    renew_s: float
    grace_s: float
    poll_s: float
    ahead_s: float

    def __init__(
        self,
        ttl_s: float | timedelta | None = None,
        renew_s: float | timedelta | None = None,
        grace_s: float | timedelta | None = None,
        poll_s: float | timedelta | None = None,
        ahead_s: float | timedelta | None = None,
    ) -> None:
        ttl, renew, grace = _positive("ttl_s", ttl_s), _positive("renew_s", renew_s), _positive("grace_s", grace_s)
        poll = _positive("poll_s", poll_s) or POLL
        ahead = None if ahead_s is None else duration_us("ahead_s", ahead_s)
        if renew is None:
            renew = max(RENEW, ahead or 0)
            renew = renew if ttl is None else min(renew, ttl // RENEWALS)
            renew = max(1, renew if grace is None else min(renew, (grace - HALF_A_SECOND) // 2))
        if ttl is None:
            ttl = max(TTL, RENEWALS * renew)
        elif ttl < RENEWALS * renew:
            raise InvalidArgument("renew_s", renew / 1e6, f"must be at most a fifth of ttl_s, {ttl / RENEWALS / 1e6:g}")
        least = 2 * renew + HALF_A_SECOND
        if grace is None:
            grace = max(GRACE, least)
        elif grace < least:
            rule = f"must be at least twice renew_s and half a second, {least / 1e6:g}"
            raise InvalidArgument("grace_s", grace_s, rule)
        if ahead is None:
            ahead = min(AHEAD, renew)
        elif ahead > renew:
            raise InvalidArgument("ahead_s", ahead_s, f"must be at most renew_s, {renew / 1e6:g}")
        for name, number in zip(self.__annotations__, (ttl, renew, grace, poll, ahead), strict=True):
            object.__setattr__(self, name, number / 1e6)

    @classmethod
    def for_failover(cls, failover_s: float | timedelta) -> LeaseTiming:
        """Return the numbers with which another instance takes over within *failover_s* seconds of a crash.

        Below 19.3 s all of them shrink in proportion, and with them ``cleanup_s``, which is 0 below about 6 s. Above
        it, leases last longer and are renewed as often.

        Raises:
            InvalidArgument: It is shorter than any lease could be.
        """
        limit = duration_us("failover_s", failover_s) // 1_000  # In milliseconds, as all below.
        if limit < LEAST_MS:
            rule = (
                f"must be at least {LEAST_MS / 1e3:g} seconds: a shorter lease would expire in an ordinary round trip"
            )
            raise InvalidArgument("failover_s", failover_s, rule)
        if limit < DEFAULT_MS:
            renew = (limit - 500) * 5 // 47  # A lease of 5 of them, a grace of 2 and 500 ms, polls of 2.4.
            return cls(renew * RENEWALS / 1e3, renew / 1e3, (2 * renew + 500) / 1e3, renew / 1e3)
        grace = limit * (GRACE // 1_000) // DEFAULT_MS
        return cls(ttl_s=(limit - grace - 4_800) / 1e3, grace_s=grace / 1e3)

    @property
    def failover_s(self) -> float:
        """Seconds after a crash within which another running instance has taken over."""
        numbers = LeaseDurations.of(self)
        return (numbers.ttl + numbers.grace + round(2 * MAX_POLL_STRETCH * numbers.poll)) / 1e6

    @property
    def cleanup_s(self) -> float:
        """Seconds that a run has to clean up when it is cancelled because its lease expired; then another may begin.

        This is what remains of the grace after clocks that drift apart by up to 4 %, a jump of the store's clock by a
        second that nobody detects, and answers that take half a second.
        """
        drift = MAX_CLOCK_DRIFT * (self.ttl_s + self.grace_s)
        return max(0.0, self.grace_s - MAX_UNDETECTED_JUMP_S - MAX_USEFUL_ROUNDTRIP_S - drift)


class LeaseDurations(NamedTuple):
    """The numbers of a lease in microseconds.

    Attributes:
        ttl: For how long a claim is valid without being renewed.
        renew: From one renewal to the next.
        grace: How long the owner of an expired lease has to answer.
        poll: From one poll for work that nobody has announced to the next.
        ahead: How long before its tick a task may be claimed.
    """

    ttl: int
    renew: int
    grace: int
    poll: int
    ahead: int

    @classmethod
    def of(cls, timing: LeaseTiming) -> LeaseDurations:
        """Return the numbers of *timing*."""
        return cls(*(round(seconds * 1e6) for seconds in astuple(timing)))


def _positive(argument: str, value: float | timedelta | None) -> int | None:
    if value is None:
        return None
    number = duration_us(argument, value)
    if not number:
        raise InvalidArgument(argument, value, "must be more than 0 seconds")
    return number


DEFAULT_TIMING = LeaseTiming()


def two_calls_s(timing: LeaseTiming) -> float:
    """Return the seconds that two calls to the store may take, with a little to spare."""
    return 2 * timing.renew_s + 0.5
