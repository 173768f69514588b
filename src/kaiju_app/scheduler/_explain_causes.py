"""Why a tick started late or not at all, as far as that is known: pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kaiju_app._core.clock import epoch_us, utc
from kaiju_app._core.explanation import Cause, CauseKind
from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._core.upset import Upset, UpsetKind

from ._evidence import Evidence, InProgress
from ._explain_words import cause_text

NEAR = 1_000_000  # A tick within a second of the instant is the one that is meant: people write no fractions.
EARLY = 2_000  # A run may begin a millisecond before its tick, and just before another one that is due then.
LATE = 100_000  # Less is not worth a reason.
UNSEEN = "blocks of the loop that are short, or have delayed no timer, are not kept"
STALLS = (UpsetKind.BLOCKED, UpsetKind.SLEPT, UpsetKind.CLOCK, UpsetKind.STORE, UpsetKind.STOPPED, UpsetKind.ABSENT)
UNSETTLED = (UpsetKind.LEFT, UpsetKind.CAME, UpsetKind.STORE, UpsetKind.BLOCKED, UpsetKind.SLEPT)


def due_at(known: Evidence, run: Run, tick: int) -> int:
    """Return the earliest time at which *tick*, one of those that *run* covers, can have been due."""
    return _due_span(known, run, tick)[0]


def _due_span(known: Evidence, run: Run, tick: int) -> tuple[int, int]:
    """Return the earliest and the latest time at which *tick* can have been due.

    Each tick has its own jitter. It is not known any more if the grid of the interval was begun anew after the tick.
    """
    if tick == known.ticks.at and known.ticks.due is not None:
        return known.ticks.due, known.ticks.due
    if tick == epoch_us(run.scheduled_at):
        return epoch_us(run.due), epoch_us(run.due)
    return tick, tick + known.jitter


def why_late(
    known: Evidence, run: Run | InProgress, tick: int, due: int, started: int, instance: str | None
) -> list[Cause]:
    """Return what delayed *run* of *tick* on *instance* if it started late, and the lost runs before it in any case."""
    lost = losses(known, run)
    if started - due < LATE:
        return lost
    runs = [
        each for each in known.runs
        if each.started_at is not None and each.finished_at is not None
        and not (each.outcome is Outcome.LOST and epoch_us(each.scheduled_at) == tick)
        and epoch_us(each.started_at) < started and due < epoch_us(each.finished_at) <= started + LATE
    ]  # fmt: skip
    if not known.shared:
        return [*lost, *map(_overlapping, runs), *upsets_at(known, (UpsetKind.HELD, *STALLS), due, started)]
    held, stalls = upsets_at(known, (UpsetKind.HELD,), due, started), _stalls(known, instance, due, started)
    found = [*lost, *map(_overlapping, runs), *held, *stalls]
    return found or _unsettled(known, due, started)


def _stalls(known: Evidence, instance: str | None, first: int, last: int) -> list[Cause]:
    """Return what kept ticks from starting: of a cluster task on *instance*, or if there was nothing, on others."""
    if not known.shared:
        return upsets_at(known, STALLS, first, last)
    kinds = (*STALLS, UpsetKind.DISABLED)
    # A tick that was due just before the loop was blocked may have been about to start.
    found = [each for each in known.upsets if each.kind in kinds and each.meets(first, last + EARLY)]
    there = [each for each in found if each.kind is UpsetKind.ABSENT or instance == (each.instance or known.instance)]
    return [*map(cause_of, there or found)]


def _unsettled(known: Evidence, due: int, until: int) -> list[Cause]:
    """Return what made the instances divide the tasks of a cluster anew: until that is done, ticks may be late."""
    return upsets_at(known, UNSETTLED, due - known.settling, until) if known.shared else []


def losses(known: Evidence, run: Run | InProgress) -> list[Cause]:
    """Return the runs of the same tick that were lost before *run*."""
    tick = run.tick if isinstance(run, InProgress) else epoch_us(run.scheduled_at)
    lost = [
        each for each in known.runs
        if epoch_us(each.scheduled_at) == tick and each.manual == run.manual and each.delivery < run.delivery
    ]  # fmt: skip
    return [
        Cause(
            kind=CauseKind.LOST, since=each.started_at, until=each.finished_at, who=f"instance {each.instance}",
            tick=each.scheduled_at,
        )
        for each in lost
    ]  # fmt: skip


def why_skipped(known: Evidence, tick: int, run: Run, decided: int) -> list[Cause]:
    """Return why *tick*, one of those that *run* covers and that was *decided* then, was skipped."""
    due, last = _due_span(known, run, tick)
    stalls = _stalls(known, run.instance, due, last)
    match run.reason:
        case Reason.OVERLAP | Reason.HUNG:
            # A hold may have kept it waiting after the run, until the next tick took its place.
            return _busy(known, due) or upsets_at(known, (UpsetKind.HELD,), due, last)
        case Reason.SUSPENDED:  # Or what kept the loop from noticing the end of the hold.
            found = upsets_at(known, (UpsetKind.HELD,), due, last) or stalls
            return found or upsets_at(known, (UpsetKind.HELD,), due, last + NEAR)  # It was just being looked at.
        case Reason.DISABLED:
            return upsets_at(known, (UpsetKind.DISABLED,), due, max(last, decided))[:1]
        case Reason.RESCHEDULED:
            return upsets_at(known, (UpsetKind.RESCHEDULED,), due, max(last, decided))[:1]
        case Reason.CLOCK:
            return upsets_at(known, (UpsetKind.CLOCK,), due, max(last, decided))[-1:]
        case Reason.SHUTDOWN:
            return upsets_at(known, (UpsetKind.STOPPED,), due, max(last, decided))[:1]
        case _:
            found = stalls or upsets_at(known, (UpsetKind.HELD,), due, last)
            # A tick of a cluster task that waits for a run may wait too long.
            return found or (_busy(known, due) if known.shared else []) or _unsettled(known, due, decided)


def _busy(known: Evidence, due: int) -> list[Cause]:
    """Return the run that was in progress when a tick was due."""
    busy = [
        each for each in known.runs
        if each.started_at is not None and each.started_at <= utc(due + EARLY)
        and each.finished_at is not None and each.finished_at >= utc(due)
    ]  # fmt: skip
    return [*map(_overlapping, busy[-1:])] or list(in_progress(known.running, due))


def why_unknown(known: Evidence, reason: Reason | None) -> str:
    if reason is Reason.BACKLOG:
        return "there were more missed ticks than are caught up, or it was older than catchup_s"
    if reason is Reason.MISSED:
        if known.shared:
            return "no instance ran it in time, and what kept them from it is not known"
        return f"what kept it from starting in time is not known: {UNSEEN}"
    return "by whom or by what is not known any more"


def upsets_at(known: Evidence, kinds: Sequence[UpsetKind], first: int, last: int) -> list[Cause]:
    return [cause_of(each) for each in known.upsets if each.kind in kinds and each.meets(first, last)]


def cause_of(upset: Upset) -> Cause:
    return Cause(
        kind=CauseKind[upset.kind.name],
        since=None if upset.since is None else utc(upset.since),
        until=None if upset.until is None else utc(upset.until),
        who=upset.who,
        tick=None,
        instance=upset.instance,
    )


def _overlapping(run: Run) -> Cause:
    return Cause(
        kind=CauseKind.OVERLAP, since=run.started_at, until=run.finished_at, who=None, tick=run.scheduled_at
    )  # fmt: skip


def in_progress(run: InProgress | None, due: int | None = None) -> Iterator[Cause]:
    if run is not None and (due is None or run.started <= due + EARLY):
        yield Cause(kind=CauseKind.OVERLAP, since=utc(run.started), until=None, who=None, tick=utc(run.tick))


def because(known: Evidence, causes: Sequence[Cause], near: int) -> str:
    if not causes:
        why = "" if known.shared else f": {UNSEEN}"
        return f"and it is not known why{why}"
    return f"because {' and '.join(cause_text(each, near) for each in causes)}"
