"""WHETHER: every choice of the scheduler, as a pure function of integers.

Two rules keep it pure: time is a parameter, in microseconds, and nothing here knows a loop, a task or a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from fractions import Fraction

from ._clock import epoch_us
from ._grid import FOREVER, Grid
from ._model import ExecPolicy, FirstRun, Kind, Missed, Reason, Spec

EARLY = 1_000  # Loops wake up to a millisecond early (uvloop rounds to the nearest one): such a tick counts as due.
BACKLOG = 1_000  # Missed.ALL catches up no more than this many ticks.
LONGEST_RETRY_PAUSE = 30_000_000  # A default pause grows with the gap; with a trigger the gap says little about it.
SKIP_GRACE = 1_000_000  # Missed.SKIP forgives a second, or a tenth of the gap if that is more.


def with_gap(spec: Spec, gap: int) -> Spec:
    """Return *spec* for ticks that the next one follows after *gap*: with everything that follows from that."""
    grace = _grace(spec, gap)
    limit = 0 if spec.policy is ExecPolicy.SHIELD else spec.max_timeout
    if not limit and gap < FOREVER and spec.policy in (ExecPolicy.WAIT, ExecPolicy.SKIP):
        limit = round(gap * Fraction(spec.safe_mod))  # Exact, for a century too.
    surely = max(1, gap - spec.jitter)  # The next tick may have less jitter than this one.
    return replace(
        spec,
        gap=gap,
        uneven=spec.rule is not None or spec.jitter > 0 or spec.until is not None,
        limit=limit,
        retry_pause=spec.retry_interval or default_retry_pause(gap, spec.retries, triggered=spec.trigger is not None),
        grace=grace,
        punctual=surely if grace is None else min(surely, grace + 1),
        early=min(EARLY, gap // 2),  # Not so much that the next tick of a short interval is due at once.
        hasty=0 < limit < gap,
    )


def _grace(spec: Spec, gap: int) -> int | None:
    """Return the lateness up to which a tick runs that the next one follows after *gap*; None: it is never too old."""
    if spec.given_grace is None and spec.missed is Missed.SKIP:
        return max(SKIP_GRACE, gap // 10) if gap < FOREVER else SKIP_GRACE
    return spec.given_grace


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
    """What becomes of the ticks from one on that are due: the first of them are skipped, the others are to be run."""

    dropped: int
    more: bool
    """Whether more than that are skipped: they were not all counted."""
    last: int
    """The last tick that is skipped, if any is."""
    kept: Sequence[int]
    gap: int
    """From the last tick to the next one of the rule."""
    reason: Reason
    following: int
    """The first tick that is not due yet; FOREVER if there is none."""


def missed(grid: Grid, first: int, now: int, *, held: bool) -> Late:
    """Return what becomes of the ticks from *first*, which is due, up to *now*; bounded work however many they are.

    Args:
        held: A hold kept them back until now. A single one is then judged as several are: running it shortly before
            the next one would serve nobody.
    """
    spec = grid.spec
    now = max(now, grid.due(first))  # It may be due a little early.
    passed = grid.passed(first, now)
    kept: Sequence[int]
    if spec.missed is Missed.ALL:
        reason = Reason.BACKLOG
        kept = grid.tail(first, passed, BACKLOG, now - spec.catchup)
    else:
        reason = Reason.SUSPENDED if held else Reason.MISSED
        grace = _grace(spec, passed.gap)
        stale = grace is not None and now - grid.due(passed.last) > grace
        several = held or passed.number > 1
        crowded = spec.missed is Missed.ONCE and several and 2 * (grid.due(passed.following) - now) < passed.gap
        kept = () if stale or crowded else (passed.last,)
    dropped = passed.number - len(kept)
    return Late(
        dropped=dropped,
        more=passed.more,
        last=passed.last if not kept or not dropped else grid.before(kept[0]),
        kept=kept,
        gap=passed.gap,
        reason=reason,
        following=passed.following,
    )


def replaced_at(grid: Grid, tick: int, past: int, started: int) -> int:
    """Return when CANCEL's next tick comes that cuts a run; FOREVER if none ever does. As for ``deadline()``."""
    return grid.first_due(tick, max(started + (grid.spec.gap + 1) // 2, past + 1))


def deadline(grid: Grid, kind: Kind, tick: int, past: int, started: int) -> tuple[int, Reason] | None:
    """Return until when a run may go on, and why it is cut then; None: for ever.

    Args:
        tick: Any tick of the rule: where CANCEL's next ticks are counted from.
        past: Ticks that are due up to here do not replace it: its own, above all.
        started: When it began, which may be up to EARLY before its tick.
    """
    spec = grid.spec
    if spec.policy is ExecPolicy.SHIELD:
        return None
    own = started + spec.limit if spec.limit else None
    if kind is Kind.CAUGHT_UP:
        own = started + min(spec.gap, spec.max_timeout or spec.gap)
    elif spec.policy is ExecPolicy.CANCEL:
        replaced = replaced_at(grid, tick, past, started)
        if replaced < FOREVER and (own is None or replaced <= own):
            return replaced, Reason.REPLACED
    return None if own is None or own >= FOREVER else (own, Reason.DEADLINE)


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


def first_tick(grid: Grid, now: int) -> tuple[int, bool]:
    """Return a task's first tick from *now* on, FOREVER for none, and whether it stands beside the grid of its rule."""
    spec = grid.spec
    first = spec.first_run
    if isinstance(first, datetime):
        anchor = epoch_us(first) - grid.offset
        if anchor >= now:
            return grid.clipped(anchor), spec.trigger is not None
        if spec.trigger is None:
            return grid.clipped(anchor - (anchor - now) // spec.gap * spec.gap), False
    elif first is FirstRun.NOW:
        return grid.clipped(now), spec.trigger is not None
    return grid.after(now), False


def first_tick_again(grid: Grid, now: int) -> tuple[int, bool]:
    """As ``first_tick()``, where the clock was set back to *now*: nothing runs before an instant that lies ahead again.

    An extra tick at the start is no time of the clock, and does not come again.
    """
    return (grid.after(now), False) if grid.spec.first_run is FirstRun.NOW else first_tick(grid, now)


def next_tick(grid: Grid, moment: int) -> int:
    """Return the first tick after *moment*, and after a first run at an instant."""
    first = grid.spec.first_run
    return grid.after(max(moment, epoch_us(first) - grid.offset) if isinstance(first, datetime) else moment)


def same_rule(spec: Spec, other: Spec) -> bool:
    """Return whether both are of one rule, that is, whether the task was not rescheduled in between."""
    return spec is other or (spec.rule is not None and spec.rule is other.rule)
