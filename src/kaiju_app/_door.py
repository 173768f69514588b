"""The door: everything wrong with a registration is refused here, naming the argument, the value and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, TypeVar

from . import _decide
from ._arguments import aware, duration_us, gap_us, whole
from ._clock import epoch_us, utc
from ._grid import FOREVER, Rule
from ._model import ExecPolicy, FirstRun, Missed, OnLost, Scope, Spec
from ._triggers import SOME_MOMENT, Every, Trigger, known_trigger
from ._words import described
from .errors import InvalidArgument

E = TypeVar("E", ExecPolicy, FirstRun, Missed, OnLost, Scope)

NO_KWS: Mapping[str, Any] = {}  # Shared by all tasks without any; never changed.

SOME_DAY = epoch_us(SOME_MOMENT)  # Rules are tried out here: the same verdict on every day.
TRIED = 100  # Ticks whose gaps are looked at: four days of an hourly rule, eight years of a monthly one.


@lru_cache(maxsize=512, typed=True)  # A million equal tasks are checked once and share one Spec; True is not 1 here.
def spec(
    interval_s: float | timedelta | None,
    trigger: Trigger | None,
    policy: ExecPolicy,
    max_timeout_s: float,
    retries: int,
    retry_interval_s: float,
    retry_on: type[Exception] | tuple[type[Exception], ...],
    first_run: FirstRun | datetime | None,
    missed: Missed,
    grace_s: float | None,
    catchup_s: float,
    jitter_s: float,
    until: datetime | None,
    threaded: bool,
    safe_mod: float,
) -> Spec:
    """Return the parameters of a task, checked.

    Raises:
        InvalidArgument: One of them is wrong.
    """
    gap, rule = _gap(interval_s, trigger)
    missed = member("missed", missed, Missed)
    checked = Spec(
        trigger=trigger,
        rule=rule,
        policy=member("policy", policy, ExecPolicy),
        max_timeout=duration_us("max_timeout_s", max_timeout_s),
        safe_mod=safe_mod,
        retries=whole("retries", retries, at_least=0),
        retry_interval=duration_us("retry_interval_s", retry_interval_s),
        retry_on=_exceptions(retry_on),
        first_run=_first_run(first_run, trigger),
        missed=missed,
        given_grace=_grace(grace_s, missed),
        catchup=duration_us("catchup_s", catchup_s),
        jitter=duration_us("jitter_s", jitter_s),
        until=None if until is None else epoch_us(aware("until", until)),
        threaded=threaded,
    )
    _check_jitter(checked, gap, jitter_s)
    return _decide.with_gap(checked, gap)


def known_spec(*given: Any) -> Spec:
    """Return ``spec()`` of the same arguments, which may be so wrong that they cannot be looked up."""
    try:
        return spec(*given)
    except TypeError:
        return spec.__wrapped__(*given)


def respec(old: Spec, interval_s: float | timedelta | None, trigger: Trigger | None) -> Spec:
    """Return *old* with another rule; what was not given, but follows from the gap, follows from the new one.

    Raises:
        InvalidArgument: Not exactly one of the two, or out of range, or its gap too short for the jitter.
    """
    gap, rule = _gap(interval_s, trigger)
    first_run = old.first_run
    if first_run is _default_first_run(old.trigger):
        first_run = _default_first_run(trigger)
    changed = replace(old, trigger=trigger, rule=rule, first_run=first_run)
    _check_jitter(changed, gap, old.jitter / 1e6)
    return _decide.with_gap(changed, gap)


def _gap(interval_s: float | timedelta | None, trigger: Trigger | None) -> tuple[int, Rule | None]:
    """Return the gap of the rule; or, of one whose gaps vary, FOREVER and how to ask it."""
    if (interval_s is None) == (trigger is None):
        raise InvalidArgument(
            "interval_s", interval_s, "or trigger must be given, and not both: interval_s=60 or trigger=Every(60)"
        )
    if trigger is None:
        return gap_us("interval_s", interval_s), None
    if isinstance(trigger, Every):
        return trigger.gap_us, None
    rule = Rule(known_trigger("trigger", trigger))
    last, following = rule.at_or_before(SOME_DAY), rule.after(SOME_DAY)
    _check_answers(rule)
    if following >= FOREVER and last is None:
        if rule.reached is not None:
            raise InvalidArgument(
                "trigger",
                trigger,
                f"must have a tick some day, and none is left from {SOME_MOMENT.date()} to {utc(rule.reached).date()}, "
                "where the search was given up: exclude a pair of datetimes in place of what covers little each time",
            )
        raise InvalidArgument("trigger", trigger, "must have a tick some day, and never has one")
    return FOREVER, rule


def _check_answers(rule: Rule) -> None:
    """Refuse a trigger that failed when it was tried out."""
    if rule.failure is not None:
        raise InvalidArgument(
            "trigger", rule.trigger, f"must answer with aware datetimes or None, and failed: {described(rule.failure)}"
        )


def _check_jitter(checked: Spec, gap: int, jitter_s: float) -> None:
    """Refuse a jitter that could exchange two ticks."""
    if not checked.jitter:
        return
    if checked.rule is not None:
        some = islice(checked.rule.ticks(SOME_DAY), TRIED)
        gap = min((later - tick for tick, later in pairwise(some)), default=FOREVER)
        _check_answers(checked.rule)
    if checked.jitter >= gap:
        raise InvalidArgument(
            "jitter_s", jitter_s, f"must be less than the gap from a tick to the next, which may be {gap / 1e6:g} s"
        )


def _grace(grace_s: float | None, missed: Missed) -> int | None:
    if grace_s is not None and missed is Missed.ALL:
        raise InvalidArgument("grace_s", grace_s, "has no meaning with Missed.ALL: its limit is catchup_s")
    return None if grace_s is None else duration_us("grace_s", grace_s)


def _first_run(first_run: FirstRun | datetime | None, trigger: Trigger | None) -> FirstRun | datetime:
    if first_run is None:
        return _default_first_run(trigger)
    if isinstance(first_run, datetime):
        return aware("first_run", first_run)
    return member("first_run", first_run, FirstRun)


def _default_first_run(trigger: Trigger | None) -> FirstRun:
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


def member(argument: str, value: E, kind: type[E]) -> E:
    """Return *value* if it is a member of *kind*.

    Raises:
        InvalidArgument: It is not.
    """
    if not isinstance(value, kind):
        ways = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise InvalidArgument(argument, value, f"must be one of {ways}")
    return value
