"""Decisions about cluster tasks, all pure: what a claimed tick is for, what follows its run, whose lease is removed.

A local task meets its ticks one by one as they become due. A cluster task has one record: whoever claims its tick finds
all that has become due since, and whoever finishes it says what is due next. Both are decided here, on the store's
clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from kaiju_app._core.clock import NEVER, utc
from kaiju_app._core.model import ExecPolicy, Missed, OnLost, Outcome, Reason
from kaiju_app._engine.policy import missed, replaced_at
from kaiju_app._engine.spec import Kind, TaskSpec
from kaiju_app.stores._cas import Transition
from kaiju_app.stores._record import LedgerRow, NextTick, TaskRecord
from kaiju_app.stores._transitions import challenge, challenge_hold, expire, expire_hold, lost, remove_dead
from kaiju_app.triggers._adapter import Found
from kaiju_app.triggers._every import Every
from kaiju_app.triggers._timeline import Timeline

WHY_AFTER_LOST = "the run that was lost may have been for this tick, and on_lost is SKIP"


class SkippedTicks(NamedTuple):
    """Ticks that do not run, and why; ``why`` says in words who held the task, if somebody did."""

    first: int
    last: int
    number: int
    more: bool
    reason: Reason
    why: str | None = None


class ClaimDecision(NamedTuple):
    """What a claim is for.

    Attributes:
        tick: The tick to run; None if none of the due ticks runs.
        kind: Where that tick comes from.
        skipped: The ticks before it that do not run.
        following: If none runs, the first tick that is not decided here.
    """

    tick: int | None
    kind: Kind
    skipped: SkippedTicks | None
    following: Found


class FinishDecision(NamedTuple):
    """What follows a run: the tick that is due next, and the ticks between that do not run."""

    following: Found
    skipped: SkippedTicks | None


# --- claims ---


def decide_claim(timeline: Timeline[TaskSpec], record: TaskRecord, now: int, on_lost: OnLost) -> ClaimDecision:
    """Return what the claim in *record*, whose tick is due, is for.

    Args:
        timeline: The ticks of the task, with the gap after the claimed one.
        now: The store's clock.
    """
    if record.manual:
        return ClaimDecision(record.tick, Kind.MANUAL, None, Found(record.tick))
    if record.next_unknown:
        return ClaimDecision(None, Kind.LIVE, None, timeline.next_after(record.next_due - 1))
    if record.claims > 1 and on_lost is OnLost.SKIP:  # The run that was lost is in the ledger already.
        return _after_lost(timeline, record.next_tick, now)
    found = on_claim(timeline, record.next_tick, now, resumed=record.held_back_by is not None)
    if found.skipped is None or found.skipped.reason is not Reason.SUSPENDED:
        return found
    return found._replace(skipped=found.skipped._replace(why=f"held by {record.held_back_by}"))


def on_claim(timeline: Timeline[TaskSpec], tick: int, now: int, *, resumed: bool) -> ClaimDecision:
    """Return what to do with *tick*, which is claimed and due, and with the ticks that became due after it.

    Args:
        timeline: The ticks of the task, with the gap after *tick*.
        resumed: A hold that has ended kept it from running.
    """
    spec = timeline.spec
    if _is_extra(spec, tick):
        following = timeline.next_after(tick)
        if timeline.due(following.tick) <= now:  # The ticks of the rule cannot be counted from this one.
            return ClaimDecision(None, Kind.LIVE, SkippedTicks(tick, tick, 1, False, Reason.MISSED), following)
    if now - timeline.due(tick) < spec.on_time_below and not resumed:
        return ClaimDecision(tick, Kind.LIVE, None, Found(tick))
    late = missed(timeline, tick, now, held=resumed)
    skipped = None
    if late.dropped:
        skipped = SkippedTicks(tick, late.last, late.dropped, late.more, late.reason)
    if not late.kept:
        return ClaimDecision(None, Kind.LIVE, skipped, late.next)
    kind = Kind.CAUGHT_UP if spec.missed is Missed.ALL and len(late.kept) > 1 else Kind.LIVE
    return ClaimDecision(late.kept[0], kind, skipped, Found(late.kept[0]))


def _after_lost(timeline: Timeline[TaskSpec], tick: int, now: int) -> ClaimDecision:
    """Return what to do after a run was lost that was claimed for *tick*, and must not run again.

    If it started late, it was for the latest tick that was due by then. Nobody knows which one that was, so none of the
    ticks that are due runs.
    """
    following = timeline.next_after(tick)
    if not _is_extra(timeline.spec, tick) and timeline.due(following.tick) <= now:
        late = missed(timeline, tick, now, held=False)
        if not late.kept or late.kept[0] > tick:
            due = timeline.due_ticks(following.tick, now)
            skipped = SkippedTicks(following.tick, due.last, due.number, due.more, Reason.MISSED, WHY_AFTER_LOST)
            return ClaimDecision(None, Kind.LIVE, skipped, due.next)
    return ClaimDecision(None, Kind.LIVE, None, following)


def _is_extra(spec: TaskSpec, tick: int) -> bool:
    """Return whether *tick* is a first one that is not a tick of the interval."""
    trigger = spec.trigger
    return isinstance(trigger, Every) and trigger.at_or_before(utc(tick)) != utc(tick)


# --- endings ---


def on_finish(
    timeline: Timeline[TaskSpec],
    kind: Kind,
    tick: int,
    started: int,
    now: int,
    *,
    cancelled: bool = False,
    hung: bool = False,
) -> FinishDecision:
    """Return what follows the run of *tick*, which ends *now*.

    Args:
        timeline: The ticks of the task, with the gap after *tick*.
        cancelled: The run was asked to end.
        hung: It did not end within the cancel grace.
    """
    found = timeline.next_after(tick)
    following = found.tick
    if kind is Kind.CAUGHT_UP or following >= NEVER or timeline.due(following) > now:
        return FinishDecision(found, None)
    due = timeline.due_ticks(following, now)
    policy = timeline.spec.policy
    latest_runs = policy in (ExecPolicy.WAIT, ExecPolicy.SHIELD)
    if policy is ExecPolicy.CANCEL:
        latest_runs = cancelled or replaced_at(timeline, tick, timeline.due(tick), started) <= now
    reason = Reason.HUNG if hung else Reason.OVERLAP
    if not latest_runs:
        return FinishDecision(due.next, SkippedTicks(following, due.last, due.number, due.more, reason))
    if due.number == 1:
        return FinishDecision(Found(due.last), None)
    last_skipped = timeline.before(due.last).tick
    return FinishDecision(Found(due.last), SkippedTicks(following, last_skipped, due.number - 1, due.more, reason))


def runs_again(outcome: Outcome, reason: Reason | None, on_lost: OnLost, *, manual: bool) -> bool:
    """Return whether the claim of a run that is over is given back, so that an instance runs its tick again.

    An extra run that ``stop()`` has cut is not repeated: whoever waits for it is told that it was cancelled.
    """
    if outcome is Outcome.LOST:
        return manual or on_lost is OnLost.RETRY
    is_cut = outcome is Outcome.CANCELLED and reason is Reason.SHUTDOWN
    return is_cut and on_lost is OnLost.RETRY and not manual


def next_tick(timeline: Timeline[TaskSpec], found: Found, last: int, now: int) -> NextTick:
    """Return the tick that was *found*, which comes after *last*, and when it is due.

    If the search for it was stopped, it is unknown, and due when the search goes on.
    """
    again = found.search_again_at(now)
    if again is not None:
        return NextTick(last + 1, max(again, last + 1), unknown=True)
    return NextTick(found.tick, timeline.due(found.tick))


# --- take-over ---


def take_over(
    seen: TaskRecord, at: int, me: str, grace: int, dead: Collection[str] = frozenset(), *, calm: bool = True
) -> Transition:
    """Return the transition that challenges or removes the expired leases in *seen*, unless the record has changed.

    Args:
        at: The store time at which the record was read. What had not expired by then is left alone, whatever the clock
            shows when the transition is applied: somebody may have set it meanwhile.
        me: The instance that observes; it does not challenge itself.
        grace: Microseconds that the owners have to answer.
        dead: Instances that lose what they own without a challenge.
        calm: The store's clock is trusted. Otherwise only pauses end, which have no owner to protect.
    """

    def transition(old: TaskRecord | None, now: int) -> tuple[TaskRecord, Sequence[LedgerRow]] | None:
        if old is None or old.rev != seen.rev:
            return None
        new, rows = old, []
        over = min(at, now)
        buried = remove_dead(old, now, dead)
        if buried is not None:
            new = buried
        elif calm and old.owner != me:
            new = expire(old, over) or challenge(old, now, grace) or old
        if old.owner is not None and new.owner is None:
            rows.append(lost(old, now))
        for key, held in new.holds.items():
            if not held.leased or (calm and not key.startswith(f"{me}#")):
                new = expire_hold(new, over, key) or challenge_hold(new, now, key, grace) or new
        return None if new is old else (new._replace(rev=max(old.rev + 1, now)), rows)

    return transition
