"""WHETHER, for what instances share: what a claimed tick asks for, and what follows when its run is over.

A local task meets its ticks one by one as they come due. A shared one has one record, and whoever claims its tick finds
there what has become due since anybody looked; whoever ends it says what is due next. Both are decided here, on the
clock of the store.
"""

from __future__ import annotations

from typing import NamedTuple

from . import _decide
from ._clock import utc
from ._grid import FOREVER, Grid
from ._model import ExecPolicy, Kind, Missed, Reason, Spec
from ._triggers import Every
from .stores._record import Coming


class Passed(NamedTuple):
    """Ticks that do not run, and why."""

    first: int
    last: int
    number: int
    more: bool
    reason: Reason


class Opening(NamedTuple):
    """What a claim is for.

    Attributes:
        tick: The tick to run; None: none of those that are due.
        kind: What it is to the rule.
        passed: Those before it that do not run.
        following: If none runs, the first tick that is not due, or that somebody else has to look at.
    """

    tick: int | None
    kind: Kind
    passed: Passed | None
    following: int


class Closing(NamedTuple):
    """What comes after a run: the tick that is due next, and those between that do not run."""

    following: int
    passed: Passed | None


def opening(grid: Grid, tick: int, now: int, *, resumed: bool) -> Opening:
    """Return what to do with *tick*, which is claimed and due, and with those that came due after it.

    Args:
        grid: The ticks of the task, with the gap of this one.
        resumed: A hold that has ended kept it back.
    """
    spec = grid.spec
    if _is_extra(spec, tick):
        following = grid.after(tick)
        if grid.due(following) <= now:  # The others could not be counted from it.
            return Opening(None, Kind.LIVE, Passed(tick, tick, 1, False, Reason.MISSED), following)
    if now - grid.due(tick) < spec.punctual and not resumed:
        return Opening(tick, Kind.LIVE, None, tick)
    late = _decide.missed(grid, tick, now, held=resumed)
    passed = None
    if late.dropped:
        passed = Passed(tick, late.last, late.dropped, late.more, late.reason)
    if not late.kept:
        return Opening(None, Kind.LIVE, passed, late.following)
    kind = Kind.CAUGHT_UP if spec.missed is Missed.ALL and len(late.kept) > 1 else Kind.LIVE
    return Opening(late.kept[0], kind, passed, late.kept[0])


def closing(
    grid: Grid, kind: Kind, tick: int, started: int, now: int, *, cut: bool = False, hung: bool = False
) -> Closing:
    """Return what follows the run of *tick*, which is over *now*.

    Args:
        grid: The ticks of the task, with the gap of this one.
        cut: It was asked to end.
        hung: That was long before it did.
    """
    following = grid.after(tick)
    if kind is Kind.CAUGHT_UP or following >= FOREVER or grid.due(following) > now:
        return Closing(following, None)
    due = grid.passed(following, now)
    policy = grid.spec.policy
    one_waits = policy in (ExecPolicy.WAIT, ExecPolicy.SHIELD)
    if policy is ExecPolicy.CANCEL:
        one_waits = cut or _decide.replaced_at(grid, tick, grid.due(tick), started) <= now
    number = due.number - 1 if one_waits else due.number
    reason = Reason.HUNG if hung else Reason.OVERLAP
    if not one_waits:
        return Closing(due.following, Passed(following, due.last, number, due.more, reason))
    if not number:
        return Closing(due.last, None)
    return Closing(due.last, Passed(following, grid.before(due.last), number, due.more, reason))


def coming(grid: Grid, tick: int, last: int, now: int) -> Coming:
    """Return *tick*, which comes after *last*, and when it is due.

    If there is none because the search for it was given up, it is not known: that is told by a time so long after
    *last* as no jitter is, when it is to be looked for again.
    """
    again = grid.look_again(now) if tick >= FOREVER else None
    if again is None:
        return Coming(tick, grid.due(tick))
    return Coming(last + 1, max(again, last + 2 + grid.spec.jitter))


def is_unknown(grid: Grid, tick: int, due: int) -> bool:
    """Return whether *tick* is none: the next one was not found, and is to be looked for from *due* on."""
    rule, offset = grid.spec.rule, grid.offset
    return rule is not None and due - tick > grid.spec.jitter and rule.at_or_before(tick + offset) != tick + offset


def _is_extra(spec: Spec, tick: int) -> bool:
    """Return whether *tick* is a first one outside the even grid of a trigger."""
    trigger = spec.trigger
    return isinstance(trigger, Every) and trigger.at_or_before(utc(tick)) != utc(tick)
