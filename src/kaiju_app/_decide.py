"""WHETHER: every choice of the scheduler, as a pure function of integers.

Two rules keep it pure: time is a parameter, in microseconds, and nothing here knows a loop, a task or a lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from ._clock import epoch_us, utc
from ._model import ExecPolicy, FirstRun, Kind, Missed, Reason, Spec

EARLY = 1_000  # Loops wake up to a millisecond early (uvloop rounds to the nearest one): such a tick counts as due.
BACKLOG = 1_000  # Missed.ALL catches up no more than this many ticks.
LONGEST_RETRY_PAUSE = 30_000_000  # A default pause grows with the gap; with a trigger the gap says little about it.


class Step(Enum):
    """What to do with a tick."""

    START = auto()
    """Start its run now."""
    WAIT = auto()
    """Keep it until the run in progress is over, in place of one that waits already."""
    REPLACE = auto()
    """Cut the run in progress, and keep the tick until that is over."""
    OVERLAP = auto()
    """Skip it: the run in progress has the right of way."""
    HUNG = auto()
    """Skip it: the run in progress was asked to end and does not."""
    PARK = auto()
    """Leave it alone: the task is held or disabled. Looked at again when that ends."""
    LATE = auto()
    """It was missed, or a later one is due as well: ask ``missed()``."""


def on_tick(spec: Spec, lateness: int, *, parked: bool, busy: bool) -> Step:
    """Return what a tick meets at the door; a busy task's tick goes on to ``overlap()``, as Step.WAIT.

    Args:
        lateness: Microseconds since the tick was due; up to EARLY below 0.
        parked: The task is disabled, suspended or paused.
        busy: A run is going on, or a tick waits already.
    """
    if parked:
        return Step.PARK
    if lateness >= spec.punctual:
        return Step.LATE
    return Step.WAIT if busy else Step.START


def overlap(policy: ExecPolicy, tick: int, started: int, gap: int, *, cut: bool, hung: bool) -> Step:
    """Return what a tick does to a run in progress that began at *started*.

    CANCEL spares a run that began late: the first tick due at least half a gap after its start replaces it.
    """
    if hung:
        return Step.HUNG
    if policy is ExecPolicy.SKIP:
        return Step.OVERLAP
    if policy is ExecPolicy.CANCEL and not cut:
        return Step.REPLACE if 2 * (tick - started) >= gap else Step.OVERLAP
    return Step.WAIT


@dataclass(frozen=True, slots=True)
class Late:
    """What becomes of the ticks from *due* to now: the first *dropped* are skipped, the next *kept* are to be run."""

    dropped: int
    kept: int
    reason: Reason
    following: int
    """The first tick that is not due yet."""


def missed(spec: Spec, due: int, now: int, *, held: bool) -> Late:
    """Return what becomes of the ticks from *due* up to *now*; constant work however many they are.

    Args:
        held: A hold kept them back until now. A single one is then judged as several are: running it shortly before
            the next one would serve nobody.
    """
    count = max(0, now - due) // spec.gap + 1
    following = due + count * spec.gap
    if spec.missed is Missed.ALL:
        too_old = -(-(now - spec.catchup - due) // spec.gap)
        dropped = min(count, max(0, count - BACKLOG, too_old))
        return Late(dropped, count - dropped, Reason.BACKLOG, following)
    age = now - (following - spec.gap)
    stale = spec.grace is not None and age > spec.grace
    crowded = spec.missed is Missed.ONCE and (held or count > 1) and 2 * (following - now) < spec.gap
    kept = 0 if stale or crowded else 1
    return Late(count - kept, kept, Reason.SUSPENDED if held else Reason.MISSED, following)


def deadline(spec: Spec, kind: Kind, grid: int, due: int, started: int) -> tuple[int, Reason] | None:
    """Return until when a run may go on, and why it is cut then; None: for ever.

    Args:
        grid: Any tick of the rule: where CANCEL's next ticks are counted from.
        due: When the run was due.
        started: When it began, which may be up to EARLY before that.
    """
    if spec.policy is ExecPolicy.SHIELD:
        return None
    if kind is Kind.CAUGHT_UP:
        return started + min(spec.gap, spec.max_timeout or spec.gap), Reason.DEADLINE
    own = started + spec.limit if spec.limit else None
    if spec.policy is ExecPolicy.CANCEL:
        earliest = max(started + (spec.gap + 1) // 2, due + 1)
        replaced = grid - (grid - earliest) // spec.gap * spec.gap
        if own is None or replaced <= own:
            return replaced, Reason.REPLACED
    return None if own is None else (own, Reason.DEADLINE)


def retry_at(spec: Spec, attempt: int, now: int, end: int | None) -> int | None:
    """Return when the next attempt begins; None if there is none left, or no time for it before *end*."""
    if attempt > spec.retries:
        return None
    at = now + spec.retry_pause
    return None if end is not None and at >= end else at


def default_retry_pause(gap: int, retries: int, *, triggered: bool) -> int:
    """Return the pause that spreads *retries* evenly over the gap, at most 30 s with a trigger."""
    pause = gap // (retries + 1)
    return min(pause, LONGEST_RETRY_PAUSE) if triggered else pause


def first_tick(spec: Spec, now: int, offset: int) -> tuple[int, bool]:
    """Return a task's first tick from *now* on, and whether it stands outside the grid of its rule.

    Args:
        offset: Wall clock minus steady clock.
    """
    first = spec.first_run
    if isinstance(first, datetime):
        anchor = epoch_us(first) - offset
        if anchor >= now:
            return anchor, spec.trigger is not None
        if spec.trigger is None:
            return anchor - (anchor - now) // spec.gap * spec.gap, False
    elif first is FirstRun.NOW:
        return now, spec.trigger is not None
    return tick_after(spec, now, offset), False


def tick_after(spec: Spec, moment: int, offset: int) -> int:
    """Return the first tick of the rule after *moment*: the grid of a trigger, or one interval on."""
    if spec.trigger is None:
        return moment + spec.gap
    return epoch_us(spec.trigger.after(utc(moment + offset))) - offset
