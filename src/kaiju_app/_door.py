"""The door: everything wrong with a registration is refused here, naming the argument, the value and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar

from . import _decide
from ._model import ExecPolicy, FirstRun, Missed, Spec
from ._triggers import MAX_GAP_S, Every, aware, gap_us
from .errors import InvalidArgument

E = TypeVar("E", ExecPolicy, FirstRun, Missed)

NO_KWS: Mapping[str, Any] = {}  # Shared by all tasks without any; never changed.

SKIP_GRACE = 1_000_000  # Missed.SKIP forgives a second, or a tenth of the gap if that is more.


@lru_cache(maxsize=512, typed=True)  # A million equal tasks are checked once and share one Spec; True is not 1 here.
def spec(
    interval_s: float | timedelta | None,
    trigger: Every | None,
    policy: ExecPolicy,
    max_timeout_s: float,
    retries: int,
    retry_interval_s: float,
    retry_on: type[Exception] | tuple[type[Exception], ...],
    first_run: FirstRun | datetime | None,
    missed: Missed,
    grace_s: float | None,
    catchup_s: float,
    threaded: bool,
    safe_mod: float,
) -> Spec:
    """Return the parameters of a task, checked.

    Raises:
        InvalidArgument: One of them is wrong.
    """
    gap = _gap(interval_s, trigger)
    policy = _member("policy", policy, ExecPolicy)
    missed = _member("missed", missed, Missed)
    max_timeout = duration_us("max_timeout_s", max_timeout_s)
    retries = whole("retries", retries, at_least=0)
    retry_interval = duration_us("retry_interval_s", retry_interval_s)
    pause = retry_interval or _decide.default_retry_pause(gap, retries, triggered=trigger is not None)
    grace = _grace(grace_s, missed, gap)
    limit = _limit(policy, max_timeout, gap, safe_mod)
    return Spec(
        gap=gap,
        trigger=trigger,
        policy=policy,
        max_timeout=max_timeout,
        limit=limit,
        retries=retries,
        retry_interval=retry_interval,
        retry_pause=pause,
        retry_on=_exceptions(retry_on),
        first_run=_first_run(first_run, trigger),
        missed=missed,
        grace=grace,
        catchup=duration_us("catchup_s", catchup_s),
        threaded=threaded,
        punctual=_punctual(gap, grace),
        early=_early(gap),
        hasty=0 < limit < gap,
    )


def known_spec(*given: Any) -> Spec:
    """Return ``spec()`` of the same arguments, which may be so wrong that they cannot be looked up."""
    try:
        return spec(*given)
    except TypeError:
        return spec.__wrapped__(*given)


def respec(old: Spec, interval_s: float | timedelta | None, trigger: Every | None, safe_mod: float) -> Spec:
    """Return *old* with another rule; what was not given, but follows from the gap, follows from the new one.

    Raises:
        InvalidArgument: Not exactly one of the two, or out of range.
    """
    gap = _gap(interval_s, trigger)
    first_run = old.first_run
    if first_run is _default_first_run(old.trigger):
        first_run = _default_first_run(trigger)
    was_default = old.grace == _grace(None, old.missed, old.gap)
    grace = _grace(None, old.missed, gap) if was_default else old.grace
    limit = _limit(old.policy, old.max_timeout, gap, safe_mod)
    return replace(
        old,
        gap=gap,
        trigger=trigger,
        limit=limit,
        retry_pause=old.retry_interval or _decide.default_retry_pause(gap, old.retries, triggered=trigger is not None),
        first_run=first_run,
        grace=grace,
        punctual=_punctual(gap, grace),
        early=_early(gap),
        hasty=0 < limit < gap,
    )


def _early(gap: int) -> int:
    """Return how early a tick counts as due: not so much that the next one of a short interval is due at once."""
    return min(_decide.EARLY, gap // 2)


def _punctual(gap: int, grace: int | None) -> int:
    return gap if grace is None else min(gap, grace + 1)


def _gap(interval_s: float | timedelta | None, trigger: Every | None) -> int:
    if (interval_s is None) == (trigger is None):
        raise InvalidArgument(
            "interval_s", interval_s, "or trigger must be given, and not both: interval_s=60 or trigger=Every(60)"
        )
    if trigger is None:
        return gap_us("interval_s", interval_s)
    if not isinstance(trigger, Every):
        raise InvalidArgument("trigger", trigger, "must be Every(...); calendar rules are not available yet")
    return trigger.gap_us


def _limit(policy: ExecPolicy, max_timeout: int, gap: int, safe_mod: float) -> int:
    """Return the run's own deadline in microseconds from its start; 0: none. CANCEL's default is its next tick."""
    if policy is ExecPolicy.SHIELD:
        return 0
    if max_timeout or policy is ExecPolicy.CANCEL:
        return max_timeout
    return round(gap * Fraction(safe_mod))  # Exact, for a century too.


def _grace(grace_s: float | None, missed: Missed, gap: int) -> int | None:
    if grace_s is None:
        return max(SKIP_GRACE, gap // 10) if missed is Missed.SKIP else None
    if missed is Missed.ALL:
        raise InvalidArgument("grace_s", grace_s, "has no meaning with Missed.ALL: its limit is catchup_s")
    return duration_us("grace_s", grace_s)


def _first_run(first_run: FirstRun | datetime | None, trigger: Every | None) -> FirstRun | datetime:
    if first_run is None:
        return _default_first_run(trigger)
    if isinstance(first_run, datetime):
        return aware("first_run", first_run)
    return _member("first_run", first_run, FirstRun)


def _default_first_run(trigger: Every | None) -> FirstRun:
    return FirstRun.NOW if trigger is None else FirstRun.NEXT


def _exceptions(retry_on: type[Exception] | tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        # CancelledError, KeyboardInterrupt and SystemExit end a run and are no Exception.
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidArgument(
                "retry_on", kind, "must name subclasses of Exception, such as (OSError, TimeoutError)"
            )
    return kinds


def _member(argument: str, value: E, kind: type[E]) -> E:
    if not isinstance(value, kind):
        ways = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise InvalidArgument(argument, value, f"must be one of {ways}")
    return value


def duration_us(argument: str, value: float | timedelta) -> int:
    """Return a duration given in seconds, or as a ``timedelta``, in microseconds.

    Raises:
        InvalidArgument: Not a number, a bool, negative, or not finite.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgument(argument, value, "must be a number of seconds or a timedelta")
    if not 0 <= seconds <= MAX_GAP_S:  # Refuses NaN and infinity too.
        raise InvalidArgument(argument, value, "must be 0 or more seconds, and at most 100 years")
    return max(1, round(seconds * 1_000_000)) if seconds else 0


def whole(argument: str, value: int, *, at_least: int) -> int:
    """Return *value* if it is a whole number of at least *at_least*.

    Raises:
        InvalidArgument: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidArgument(argument, value, f"must be a whole number of at least {at_least}")
    return value
