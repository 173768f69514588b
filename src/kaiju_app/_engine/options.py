"""From the options of a task to its validated TaskSpec.

Every mistake in them is refused here, with an error that names the argument, its value and what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypedDict, TypeVar

from kaiju_app._core.clock import NEVER, epoch_us, utc
from kaiju_app._core.model import ExecPolicy, FirstRun, Missed, OnLost, Scope
from kaiju_app._core.text import describe_exception
from kaiju_app._core.validate import aware, duration_us, gap_us, integer, renamed
from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._adapter import Found, TriggerAdapter
from kaiju_app.triggers._base import SOME_MOMENT, Trigger
from kaiju_app.triggers._every import Every
from kaiju_app.triggers._foreign import as_base_trigger

from .backoff import Backoff
from .policy import with_gap
from .spec import TaskSpec

E = TypeVar("E", ExecPolicy, FirstRun, Missed, OnLost, Scope)

DEFAULT_CATCHUP_S = 86_400.0  # A day: Missed.ALL makes up for a night, not for a month of downtime.
NO_KWS: Mapping[str, Any] = {}  # Shared by all tasks without keyword arguments; never changed.

PROBE_START = epoch_us(SOME_MOMENT)  # Rules are probed from a fixed day: the verdict is the same whenever it is asked.
PROBED_TICKS = 100  # Their gaps are looked at: four days of an hourly rule, eight years of a monthly one.
CACHED_SPECS = 512  # More different sets of options than an application has; a million equal tasks share one TaskSpec.


class CommonOptions(TypedDict, total=False):
    """The options of a task apart from its rule, for type checkers; their defaults are those of ``schedule_task()``."""

    policy: ExecPolicy | None
    max_timeout_s: float | timedelta
    retries: int
    retry_interval_s: float | timedelta | Backoff
    name: str | None
    retry_on: type[Exception] | tuple[type[Exception], ...]
    first_run: FirstRun | datetime | None
    missed: Missed
    grace_s: float | timedelta | None
    catchup_s: float | timedelta
    jitter_s: float | timedelta
    until: datetime | None
    scope: Scope
    on_lost: OnLost
    overlap_on_loss: bool
    keep_result: bool
    remove_when_over: bool
    pause_after_failures: int | None
    expect_success_within_s: float | timedelta | None
    show: bool
    replace: bool


class TaskOptions(CommonOptions, total=False):
    """The keyword options of ``Scheduler.schedule_task()``."""

    trigger: Trigger | str | None


class DecoratorOptions(CommonOptions, total=False):
    """The options of the decorators, whose rule is in other arguments."""

    args: Sequence[Any]
    kws: Mapping[str, Any]


class SpecOptions(NamedTuple):
    """What determines a TaskSpec: options as the user gave them, and two facts about the function and the scheduler."""

    interval_s: float | timedelta | None
    trigger: Trigger | None
    policy: ExecPolicy | None
    max_timeout_s: float | timedelta
    retries: int
    retry_interval_s: float | timedelta | Backoff
    retry_on: type[Exception] | tuple[type[Exception], ...]
    first_run: FirstRun | datetime | None
    missed: Missed
    grace_s: float | timedelta | None
    catchup_s: float | timedelta
    jitter_s: float | timedelta
    until: datetime | None
    threaded: bool
    safe_mod: float


def make_spec(*options: Any) -> TaskSpec:
    """Validate *options*, which are the fields of SpecOptions in their order; equal ones give the same TaskSpec.

    Datetimes among them must be in UTC: in the hour that comes twice, two local ones compare equal.

    Raises:
        InvalidArgument: One of them is wrong.
    """
    try:
        return _cached_spec(*options)
    except TypeError:  # One of them is not hashable.
        return _spec(SpecOptions(*options))


@lru_cache(maxsize=CACHED_SPECS, typed=True)  # By type too: True is not 1 here, and "WAIT" is no ExecPolicy.
def _cached_spec(*options: Any) -> TaskSpec:
    return _spec(SpecOptions(*options))


def _spec(options: SpecOptions) -> TaskSpec:
    gap, rule = _gap(options.interval_s, options.trigger)
    missed = member("missed", options.missed, Missed)
    pause = options.retry_interval_s
    spec = TaskSpec(
        trigger=options.trigger,
        rule=rule,
        policy=_policy(options.policy, threaded=options.threaded),
        max_timeout=duration_us("max_timeout_s", options.max_timeout_s),
        safe_mod=options.safe_mod,
        retries=integer("retries", options.retries, at_least=0),
        retry_interval=0 if isinstance(pause, Backoff) else _retry_interval(pause),
        backoff=pause if isinstance(pause, Backoff) else None,
        retry_on=_exceptions(options.retry_on),
        first_run=_first_run(options.first_run, options.trigger),
        missed=missed,
        given_grace=_grace(options.grace_s, missed),
        catchup=duration_us("catchup_s", options.catchup_s),
        jitter=duration_us("jitter_s", options.jitter_s),
        until=None if options.until is None else epoch_us(aware("until", options.until)),
        threaded=options.threaded,
    )
    _check_jitter(spec, gap, options.jitter_s)
    return with_gap(spec, gap)


def trigger_of(trigger: Trigger | str | None, tz: str, name: str | None) -> Trigger | None:
    """Return the trigger that was given; a text is a cron expression in the zone *tz*, whose H is a hash of *name*.

    Raises:
        InvalidArgument: The text is no cron expression.
    """
    if not isinstance(trigger, str):
        return trigger
    from kaiju_app.triggers._cron import Cron

    with renamed(expression="trigger"):
        return Cron(trigger, tz, name if isinstance(name, str) else None)


def with_rule(old: TaskSpec, interval_s: float | timedelta | None, trigger: Trigger | None) -> TaskSpec:
    """Return *old* with another rule; defaults that follow from the rule or its gap follow from the new one.

    Raises:
        InvalidArgument: Not exactly one of the two is given, or it is wrong, or its gap is too short for the jitter.
    """
    gap, rule = _gap(interval_s, trigger)
    first_run = old.first_run
    if first_run is _default_first_run(old.trigger):
        first_run = _default_first_run(trigger)
    spec = replace(old, trigger=trigger, rule=rule, first_run=first_run)
    _check_jitter(spec, gap, old.jitter / 1e6)
    return with_gap(spec, gap)


def _gap(interval_s: float | timedelta | None, trigger: Trigger | None) -> tuple[int, TriggerAdapter | None]:
    """Return the gap of the rule and None, or NEVER and an adapter if the gaps of the trigger vary."""
    if (interval_s is None) == (trigger is None):
        raise InvalidArgument(
            "interval_s", interval_s, "or trigger must be given, and not both: interval_s=60 or trigger=Every(60)"
        )
    if trigger is None:
        return gap_us("interval_s", interval_s), None
    if isinstance(trigger, Every):
        return trigger.gap_us, None
    rule = TriggerAdapter(as_base_trigger("trigger", trigger))
    last, following = rule.at_or_before(PROBE_START), rule.next_after(PROBE_START)
    _check_answer(trigger, last)
    _check_answer(trigger, following)
    if following.tick >= NEVER and last.tick >= NEVER:
        if following.searched_to is not None:
            raise InvalidArgument(
                "trigger",
                trigger,
                f"must have at least one tick, but none is left between {SOME_MOMENT.date()} and "
                f"{utc(following.searched_to).date()}, where the search stopped: exclude one pair of datetimes instead "
                "of many short windows",
            )
        raise InvalidArgument("trigger", trigger, "must have at least one tick, but never has one")
    return NEVER, rule


def _check_answer(trigger: Trigger | None, found: Found) -> None:
    """Refuse a trigger that failed when it was probed."""
    if found.error is not None:
        raise InvalidArgument(
            "trigger",
            trigger,
            f"must return aware datetimes or None, but failed: {describe_exception(found.error)}",
        )


def _check_jitter(spec: TaskSpec, gap: int, jitter_s: float | timedelta) -> None:
    """Refuse a jitter that could swap two ticks."""
    if not spec.jitter:
        return
    if spec.rule is not None:
        probed = list(islice(spec.rule.ticks(PROBE_START), PROBED_TICKS))
        gap = min((later.tick - earlier.tick for earlier, later in pairwise(probed)), default=NEVER)
        _check_answer(spec.trigger, probed[-1])
    if spec.jitter >= gap:
        rule = f"must be less than the gap between two ticks, which can be {gap / 1e6:g} s"
        raise InvalidArgument("jitter_s", jitter_s, rule)


def _grace(grace_s: float | timedelta | None, missed: Missed) -> int | None:
    if grace_s is not None and missed is Missed.ALL:
        raise InvalidArgument("grace_s", grace_s, "does not apply to Missed.ALL, whose limit is catchup_s")
    return None if grace_s is None else duration_us("grace_s", grace_s)


def _first_run(first_run: FirstRun | datetime | None, trigger: Trigger | None) -> FirstRun | datetime:
    if first_run is None:
        return _default_first_run(trigger)
    return first_run if isinstance(first_run, datetime) else member("first_run", first_run, FirstRun)


def _default_first_run(trigger: Trigger | None) -> FirstRun:
    return FirstRun.NOW if trigger is None else FirstRun.NEXT


def _retry_interval(value: float | timedelta) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        rule = "must be a number of seconds, a timedelta, or a Backoff such as Backoff(initial_s=1, max_s=60)"
        raise InvalidArgument("retry_interval_s", value, rule)
    return duration_us("retry_interval_s", value)


def _policy(policy: ExecPolicy | None, *, threaded: bool) -> ExecPolicy:
    if policy is not None:
        return member("policy", policy, ExecPolicy)
    return ExecPolicy.SKIP if threaded else ExecPolicy.CANCEL  # A thread cannot be cancelled.


def _exceptions(retry_on: type[Exception] | tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        # CancelledError, KeyboardInterrupt and SystemExit end a run, and are not subclasses of Exception.
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidArgument(
                "retry_on", kind, "must be a subclass of Exception or a tuple of them, such as (OSError, TimeoutError)"
            )
    return kinds


def member(argument: str, value: E, kind: type[E]) -> E:
    """Return *value* if it is a member of *kind*.

    Raises:
        InvalidArgument: It is not.
    """
    if not isinstance(value, kind):
        choices = {choice.name: f"{kind.__name__}.{choice.name}" for choice in kind}
        meant = choices.get(value.upper()) if isinstance(value, str) else None
        advice = "" if meant is None else f"; write {meant}"
        raise InvalidArgument(argument, value, f"must be one of {', '.join(choices.values())}{advice}")
    return value
