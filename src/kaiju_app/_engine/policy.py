"""Every decision of the scheduler, as a pure function of integers.

Two rules keep it pure: time is a parameter, in microseconds, and nothing here knows a loop, a task or a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from kaiju_app._core.clock import NEVER, epoch_us
from kaiju_app._core.model import ExecPolicy, FirstRun, Missed, Outcome, Reason
from kaiju_app._core.validate import product
from kaiju_app.triggers._adapter import Found
from kaiju_app.triggers._timeline import Timeline

from .decision import HUNG, LATE, OVERLAP, PARK, REPLACE, START, WAIT, Decision
from .spec import Kind, TaskSpec

EARLY = 1_000  # Loops wake up to a millisecond early (uvloop rounds to the nearest one): such a tick counts as due.
MAX_BACKLOG = 1_000  # Missed.ALL catches up at most this many ticks.
MAX_DEFAULT_PAUSE = 30_000_000  # The default retry pause grows with the gap, but a long gap is no reason to wait.
ONE_OFF_GRACE = 1_000_000  # At(datetime.now(UTC)) has passed when it is registered: a second covers slow start-up code.
SKIP_GRACE = 1_000_000  # Missed.SKIP tolerates a second, or a tenth of the gap if that is longer.


def with_gap(spec: TaskSpec, gap: int) -> TaskSpec:
    """Return *spec* with this *gap* to the next tick, and with everything that is computed from the gap."""
    grace = _grace(spec, gap)
    limit = 0 if spec.policy is ExecPolicy.SHIELD else spec.max_timeout
    if not limit and gap < NEVER and spec.policy in (ExecPolicy.WAIT, ExecPolicy.SKIP):
        limit = product(gap, spec.safe_mod)  # Exact, for a century too.
    on_time = max(1, gap - spec.jitter)  # The next tick may have less jitter than this one.
    if grace is not None:
        on_time = min(on_time, grace + 1)
    return replace(
        spec,
        gap=gap,
        computed_ticks=spec.rule is not None or spec.jitter > 0 or spec.until is not None,
        limit=limit,
        retry_pause=spec.retry_interval or default_retry_pause(gap, spec.retries),
        grace=grace,
        on_time_below=on_time,
        early=min(EARLY, gap // 2),  # Less for short intervals, or the next tick would be due at once.
        limit_before_next=0 < limit < gap,
    )


def _grace(spec: TaskSpec, gap: int) -> int | None:
    """Return the lateness up to which a tick runs if the next one follows after *gap*; None if there is no limit."""
    if spec.given_grace is None and spec.missed is Missed.SKIP:
        return max(SKIP_GRACE, gap // 10) if gap < NEVER else SKIP_GRACE
    return spec.given_grace


# Members that each tick looks for, as globals, as those of Decision are.
CANCEL: Final = ExecPolicy.CANCEL
SKIP: Final = ExecPolicy.SKIP
SHIELD: Final = ExecPolicy.SHIELD
ALL: Final = Missed.ALL


def on_tick(spec: TaskSpec, lateness: int, *, parked: bool, busy: bool) -> Decision:
    """Return what to do with a due tick. WAIT means that the task is busy: ask ``overlap()``.

    Args:
        lateness: Microseconds since the tick was due; down to -EARLY.
        parked: The task is disabled, suspended or paused.
        busy: A run is in progress, or a tick waits already.
    """
    if parked:
        return PARK
    if lateness >= spec.on_time_below:
        return LATE
    return WAIT if busy else START


def overlap(policy: ExecPolicy, tick: int, started: int, gap: int, *, cancelled: bool, hung: bool) -> Decision:
    """Return what to do with a tick while a run that began at *started* is in progress.

    CANCEL gives a run that began late some time: only a tick due at least half a gap after its start replaces it.
    """
    if hung:
        return HUNG
    if policy is SKIP:
        return OVERLAP
    if policy is CANCEL and not cancelled:
        return REPLACE if 2 * (tick - started) >= gap else OVERLAP
    return WAIT


@dataclass(frozen=True, slots=True)
class MissedTicks:
    """What to do with several due ticks: the first ones are skipped, the others run."""

    dropped: int
    """How many are skipped, as far as they were counted."""
    more: bool
    """Whether more than ``dropped`` are skipped."""
    last: int
    """The last one that is skipped, if any is."""
    kept: Sequence[int]
    """Those that run."""
    gap: int
    """From the last due tick to the next tick of the rule."""
    overtaken: bool
    """Whether the skipped ones are overtaken: the loop has too much to do."""
    reason: Reason
    next: Found
    """The first tick that is not due yet."""


def is_overload(latest_due: int, stalled_until: int) -> bool:
    """Return whether ticks are late because the loop has too much to do, and not because it stood still.

    After a stall the latest due tick of a task gives way to the next one if that is near: nobody is helped by two runs
    in quick succession. In an overload there is no such choice: a tick that gave way would be late again next time, and
    what giving way costs would make all others later.

    Args:
        latest_due: When the latest due tick of the task came due.
        stalled_until: When the last stall ended: a block of the loop, a sleep of the machine, a stopped process, a step
            of the wall clock.
    """
    return latest_due > stalled_until


def overtaken(spec: TaskSpec, first: int, now: int, stalled_until: int) -> int | None:
    """Return how many ticks from *first* on the latest due one overtakes, and runs; None if ``missed()`` decides.

    It is what ``missed()`` returns for a plain interval in an overload, at a fraction of the price.
    """
    gap = spec.gap
    number = (now - first) // gap
    latest = first + number * gap
    if latest <= stalled_until or spec.missed is ALL:  # The former is is_overload(), written out.
        return None
    return None if spec.grace is not None and now - latest > spec.grace else number


def missed(
    timeline: Timeline[TaskSpec], first: int, now: int, *, held: bool, stalled_until: int = NEVER
) -> MissedTicks:
    """Return what to do with the ticks from *first*, which is due, to *now*, in bounded work.

    Args:
        held: Whether a hold kept them back until now. Then a single one is treated like several: to run it shortly
            before the next one would help nobody.
        stalled_until: When the last stall ended; see ``is_overload()``. NEVER if the cause is something else anyway.
    """
    spec = timeline.spec
    now = max(now, timeline.due(first))  # It may be up to EARLY ahead.
    due = timeline.due_ticks(first, now)
    kept: Sequence[int]
    overtaken = False
    if spec.missed is ALL:
        reason = Reason.BACKLOG
        kept = timeline.latest(first, due, MAX_BACKLOG, now - spec.catchup)
    else:
        reason = Reason.SUSPENDED if held else Reason.MISSED
        grace = _grace(spec, due.gap)
        latest_due = timeline.due(due.last)
        stale = grace is not None and now - latest_due > grace
        overtaken = not held and not stale and is_overload(latest_due, stalled_until)
        several = (held or due.number > 1) and not overtaken
        crowded = spec.missed is Missed.ONCE and several and 2 * (timeline.due(due.next.tick) - now) < due.gap
        kept = () if stale or crowded else (due.last,)
    dropped = due.number - len(kept)
    last, following = due.last, due.next
    if kept and dropped:
        before = timeline.before(kept[0])
        last = before.tick
        if following.error is None:
            following = following._replace(error=before.error)
    return MissedTicks(
        dropped=dropped,
        more=due.more,
        last=last,
        kept=kept,
        gap=due.gap,
        overtaken=overtaken,
        reason=reason,
        next=following,
    )


def replaced_at(timeline: Timeline[TaskSpec], tick: int, immune_until: int, started: int) -> int:
    """Return when a tick will replace a run under CANCEL; NEVER if none will. Arguments as for ``deadline()``."""
    return timeline.first_due(tick, max(started + (timeline.spec.gap + 1) // 2, immune_until + 1))


def deadline(
    timeline: Timeline[TaskSpec], kind: Kind, tick: int, immune_until: int, started: int
) -> tuple[int, Reason] | None:
    """Return when and why a run will be cancelled; None if it will not be.

    Args:
        tick: Any tick of the rule, from which CANCEL's next ticks are counted.
        immune_until: Ticks due up to this time do not replace the run. Its own tick is one of them.
        started: When the run began; this can be up to EARLY before its tick.
    """
    spec = timeline.spec
    if spec.policy is SHIELD:
        return None
    own = started + spec.limit if spec.limit else None
    if kind is Kind.CAUGHT_UP:
        own = started + min(spec.gap, spec.max_timeout or spec.gap)
    elif spec.policy is CANCEL:
        replaced = replaced_at(timeline, tick, immune_until, started)
        if replaced < NEVER and (own is None or replaced <= own):
            return replaced, Reason.REPLACED
    return None if own is None or own >= NEVER else (own, Reason.DEADLINE)


def retry_at(timeline: Timeline[TaskSpec], tick: int, attempt: int, now: int, end: int | None) -> int | None:
    """Return when the next attempt at *tick* begins; None if none is left, or if it could not begin before *end*."""
    spec = timeline.spec
    if attempt > spec.retries:
        return None
    backoff = spec.backoff
    at = now + (spec.retry_pause if backoff is None else backoff.pause_us(attempt, timeline.chance(tick, attempt)))
    return None if end is not None and at >= end else at


def default_retry_pause(gap: int, retries: int) -> int:
    """Return the pause that spreads *retries* evenly over the gap, at most 30 s."""
    return min(gap // (retries + 1), MAX_DEFAULT_PAUSE)


def first_tick(timeline: Timeline[TaskSpec], now: int, handled: int | None = None) -> tuple[Found, bool]:
    """Return the first tick of a task from *now* on, and whether it is an extra one that the rule does not have.

    A given moment that passed less than the grace ago is the first tick all the same.

    Args:
        handled: Time up to which ticks have run or were skipped; None if none has.
    """
    spec = timeline.spec
    first = spec.first_run
    since = _one_offs_since(spec, now, handled)
    if isinstance(first, datetime):
        anchor = epoch_us(first) - timeline.offset
        if anchor >= now or anchor > (since if spec.trigger is not None else max(since, now - spec.gap)):
            return Found(timeline.clipped(anchor)), spec.trigger is not None
        if spec.trigger is None:
            return Found(timeline.clipped(anchor - (anchor - now) // spec.gap * spec.gap)), False
    elif first is FirstRun.NOW:
        return Found(timeline.clipped(now)), spec.trigger is not None
    return first_of_rule(timeline, now, handled), False


def first_tick_again(timeline: Timeline[TaskSpec], now: int) -> tuple[Found, bool]:
    """Return the first tick, as ``first_tick()`` does, after the wall clock was set back to *now*.

    If ``first_run`` is a time, it may be ahead again, and nothing runs before it. An extra tick at the start has no
    wall-clock time, so it is not repeated.
    """
    again = timeline.spec.first_run is not FirstRun.NOW
    return first_tick(timeline, now, now) if again else (timeline.next_after(now), False)


def first_of_rule(timeline: Timeline[TaskSpec], now: int, handled: int | None = None) -> Found:
    """Return the first tick of the rule from *now* on, or a moment of an ``At`` that passed less than the grace ago."""
    passed = timeline.one_off_in(_one_offs_since(timeline.spec, now, handled), now)
    return passed if passed.tick < NEVER else timeline.next_after(now)


def _one_offs_since(spec: TaskSpec, now: int, handled: int | None) -> int:
    since = now - (ONE_OFF_GRACE if spec.given_grace is None else spec.given_grace)
    return since if handled is None else max(since, handled)


def next_tick(timeline: Timeline[TaskSpec], moment: int) -> Found:
    """Return the first tick after *moment*, and after ``first_run`` if that is a time."""
    first = timeline.spec.first_run
    return timeline.next_after(
        max(moment, epoch_us(first) - timeline.offset) if isinstance(first, datetime) else moment
    )


def verdict(outcome: Outcome, reason: Reason | None) -> bool | None:
    """Return whether an ending speaks for or against the function; None if it tells nothing about it.

    A skip, ``stop()``, ``task.cancel()`` and a lost lease tell nothing: the function is not to blame.
    """
    if outcome is Outcome.SUCCEEDED:
        return True
    if reason in (Reason.SHUTDOWN, Reason.REQUESTED, Reason.LEASE):
        return None
    is_failure = outcome in (Outcome.FAILED, Outcome.TIMED_OUT) or reason in (Reason.REPLACED, Reason.WITHIN)
    return False if is_failure else None


def same_rule(spec: TaskSpec, other: TaskSpec) -> bool:
    """Return whether both have the same rule: whether the task was not rescheduled in between."""
    return spec is other or (spec.rule is not None and spec.rule is other.rule)
