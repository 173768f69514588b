"""What became of a tick: a pure function of what is known. What that does not tell is said to be unknown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from kaiju_app._core.clock import NEVER, epoch_us, utc
from kaiju_app._core.explanation import Cause, Explanation, Fate
from kaiju_app._core.model import Outcome, Run
from kaiju_app._core.upset import UpsetKind

from ._evidence import Evidence, InProgress
from ._explain_causes import (
    LATE,
    NEAR,
    because,
    cause_of,
    due_at,
    in_progress,
    upsets_at,
    why_late,
    why_skipped,
    why_unknown,
)
from ._explain_words import cause_text, length, run_text, when


def explain(known: Evidence) -> Explanation:
    """Return what became of the tick at the instant."""
    found = _nearest(known)
    if found is not None:
        return found
    ticks, at = known.ticks, known.at
    stopped = [each for each in known.upsets if each.kind is UpsetKind.STOPPED and each.covers(at)]
    if ticks.at is not None and ticks.at > known.now:
        return _planned(known, ticks.at)
    never_shown = [
        each for each in known.upsets if each.kind is UpsetKind.CLOCK and (each.since or 0) < at < (each.until or 0)
    ]
    if never_shown:
        cause = cause_of(never_shown[-1])
        text = f"was not due at {_at(known)}, which the clock never showed: {cause_text(cause, at)}"
        return _told(known, None, Fate.NOT_DUE, text, [cause])
    if stopped and at <= known.now:
        return _told(known, None, Fate.NOT_DUE, f"was not due at {_at(known)}: {cause_text(cause_of(stopped[-1]), at)}",
                     [cause_of(stopped[-1])])  # fmt: skip
    if ticks.at is not None and known.undecided is not None and known.undecided <= ticks.at:
        return _kept_back(known, ticks.at)
    rescheduled = [each for each in known.upsets if each.kind is UpsetKind.RESCHEDULED and (each.since or 0) > at]
    if rescheduled:
        text = f"another rule was in force at {_at(known)} ({rescheduled[0].who}), and nothing is kept of a tick then"
        return _told(known, None, Fate.UNKNOWN, text, [cause_of(rescheduled[0])])
    oldest = known.oldest
    is_old = oldest is None or at < oldest
    if not known.complete and is_old and at <= known.now:
        first = "nothing is kept of it" if oldest is None else f"the oldest record is of tick {when(oldest, at)}"
        return _told(known, ticks.at, Fate.FORGOTTEN, f"what was at {_at(known)} is not known any more: {first}")
    if ticks.since is not None and at < ticks.since:
        return _before_grid(known, oldest)
    if ticks.at is not None:
        return _without_record(known, ticks.at, oldest)
    return _not_due(known)


# --- a tick of which something is known ---


def _nearest(known: Evidence) -> Explanation | None:
    """Return what is known of the tick nearest to the instant, unless the rule has a nearer one."""
    candidates: list[tuple[int, int, int, Run | None]] = []
    for run in known.runs:
        tick = _tick_of(known, run)
        if tick is not None:
            due = due_at(known, run, tick)
            far = min(abs(tick - known.at), abs(due - known.at))
            candidates.append((far, run.outcome is Outcome.SKIPPED, tick, run))
    if known.running is not None:
        far = min(abs(known.running.tick - known.at), abs(known.running.due - known.at))
        candidates.append((far, -1, known.running.tick, None))
    candidates += [(abs(tick - known.at), 1, tick, None) for tick in known.waiting]
    near = [each for each in candidates if each[0] < NEAR]
    if not near:
        return None
    distance, _, tick, record = min(near, key=lambda each: (each[0], each[1], -_delivery(each[3])))
    of_rule = known.ticks.at
    if of_rule is not None and abs(of_rule - known.at) < distance and not _same(known, of_rule, tick):
        return None
    if record is None:
        is_running = known.running is not None and known.running.tick == tick
        return _running(known, known.running) if is_running and known.running else _waiting(known, tick)
    return _skipped(known, tick, record) if record.outcome is Outcome.SKIPPED else _ran(known, tick, record)


def _delivery(run: Run | None) -> int:
    return 0 if run is None else run.delivery


def _same(known: Evidence, tick: int, other: int) -> bool:
    """Return whether both mean one tick of the rule: a clock that was corrected moves the times of an interval."""
    gap = known.ticks.gap
    return tick == other if gap is None else 2 * abs(tick - other) < gap


def _tick_of(known: Evidence, run: Run) -> int | None:
    """Return the tick, of those that *run* covers, that is nearest to the instant; None if that is not known."""
    first, last, at = epoch_us(run.scheduled_at), epoch_us(run.last_scheduled_at), known.at
    if run.count == 1 and not run.more:
        return first
    if not first - NEAR < at < last + NEAR:
        return None
    gap = known.ticks.gap
    if gap is None:
        of_rule = known.ticks.at
        return of_rule if of_rule is not None and first <= of_rule <= last else None
    if (last - first) // gap + 1 != run.count:  # Of overtaken ticks: others in between have run.
        return _overtaken(known, first, last)
    return min(last, first + (max(0, at - first) + gap // 2) // gap * gap)


def _overtaken(known: Evidence, first: int, last: int) -> int | None:
    """Return the tick of the rule at the instant, from *first* to *last*, if no run of it can have been dropped."""
    tick = known.ticks.at
    if tick is None or not first <= tick <= last:
        return None
    kept = [epoch_us(run.scheduled_at) for run in known.runs if run.started_at is not None and not run.manual]
    return tick if known.complete or min(kept, default=tick + 1) <= tick else None


def _ran(known: Evidence, tick: int, run: Run) -> Explanation:
    started = None if run.started_at is None else epoch_us(run.started_at)
    causes: list[Cause] = []
    late = ""
    if started is not None:
        due = epoch_us(run.due)
        causes = why_late(known, run, epoch_us(run.scheduled_at), due, started, run.instance)
        if started - due >= LATE:
            late = f"{length(started - due)} late, {because(known, causes, tick)}"
        elif causes:
            late = because(known, causes, tick)
    return _told(known, tick, Fate.RAN, run_text(run, late, shared=known.shared), causes, run)


def _running(known: Evidence, run: InProgress) -> Explanation:
    causes = why_late(known, run, run.tick, run.due, run.started, run.instance)
    late = run.started - run.due
    text = f"is running, since {when(run.started, run.tick)}{run.where or ''}"
    if late >= LATE:
        text += f", {length(late)} late, {because(known, causes, run.tick)}"
    elif causes:
        text += f", {because(known, causes, run.tick)}"
    return _told(known, run.tick, Fate.RUNNING, text, causes)


def _waiting(known: Evidence, tick: int) -> Explanation:
    causes = list(in_progress(known.running)) + [
        cause_of(each) for each in known.upsets if each.kind is UpsetKind.HELD and each.until is None
    ]
    why = because(known, causes, tick) if causes else "until its turn comes"
    return _told(known, tick, Fate.WAITING, f"is due, and waits {why}", causes)


def _skipped(known: Evidence, tick: int, run: Run) -> Explanation:
    decided = epoch_us(run.finished_at) if run.finished_at is not None else known.now
    causes = why_skipped(known, tick, run, decided)
    reason = "" if run.reason is None else f" ({run.reason.value})"
    why = because(known, causes, tick) if causes else run.error or why_unknown(known, run.reason)
    text = f"was skipped{reason}: {why.removeprefix('because ')}"
    if run.manual:
        text = f"was asked for by run_now(), and skipped{reason}: {why.removeprefix('because ')}"
    if run.count > 1:
        first, last = when(epoch_us(run.scheduled_at), tick), when(epoch_us(run.last_scheduled_at), tick)
        text += f"; with it {'more than ' * run.more}{run.count} ticks in all, from {first} to {last}"
    return _told(known, tick, Fate.SKIPPED, text, causes, run)


# --- a tick of which nothing is recorded, or none ---


def _planned(known: Evidence, tick: int) -> Explanation:
    kinds = (UpsetKind.HELD, UpsetKind.DISABLED, UpsetKind.STOPPED)
    causes = [cause_of(each) for each in known.upsets if each.kind in kinds and each.until is None]
    text = f"is due in {length(tick - known.now)}"
    if causes:
        text += f", but does not start while this lasts: {' and '.join(cause_text(each, tick) for each in causes)}"
    return _told(known, tick, Fate.PLANNED, text, causes)


def _kept_back(known: Evidence, tick: int) -> Explanation:
    """Tell of a tick that is due and not decided yet."""
    disabled = upsets_at(known, (UpsetKind.DISABLED,), known.now, known.now)
    if disabled and len({each.instance for each in disabled}) >= known.instances:
        causes = " and ".join(cause_text(each, tick) for each in disabled)
        return _told(known, tick, Fate.DISABLED, f"does not run: {causes}", disabled)
    held = [*in_progress(known.running), *upsets_at(known, (UpsetKind.HELD,), known.now, known.now)] or disabled
    why = because(known, held, tick) if held else "to be decided: the loop, or the store, is busy"
    return _told(known, tick, Fate.WAITING, f"is due, and waits {why}", held)


def _before_grid(known: Evidence, oldest: int | None) -> Explanation:
    """Tell of an instant of which the rule, or the grid of the interval, tells nothing: only the records do."""
    if known.ticks.since == NEVER:
        text = f"nothing is recorded of {_at(known)}, and the store has no rule of it that this version can read"
        return _told(known, None, Fate.UNKNOWN, text)
    ticks = sorted(chain.from_iterable(
        (epoch_us(run.scheduled_at), epoch_us(run.last_scheduled_at)) for run in known.runs if not run.manual
    ))  # fmt: skip
    before = max((each for each in ticks if each < known.at), default=None)
    after = min((each for each in ticks if each > known.at), default=None)
    if oldest is None or known.at < oldest:
        first = "it has no record yet" if oldest is None else f"its first record is of tick {when(oldest, known.at)}"
        return _told(known, None, Fate.UNKNOWN, f"nothing is known of {_at(known)}: {first}", (), None, before, after)
    return _told(
        known, None, Fate.NOT_DUE, f"was not due at {_at(known)}: {_neighbours(before, after, known.at)}", (), None,
        before, after,
    )  # fmt: skip


def _without_record(known: Evidence, tick: int, oldest: int | None) -> Explanation:
    first = "no tick of it is recorded" if oldest is None else f"its first record is of tick {when(oldest, tick)}"
    if oldest is None or tick < oldest:
        text = f"is a tick of its rule, but nothing is known of it: {first}, so it may not have been registered then"
    else:
        text = "is a tick of its rule, but there is no record of it, and nothing that is kept tells why"
    return _told(known, tick, Fate.UNKNOWN, text)


def _not_due(known: Evidence) -> Explanation:
    ticks, at = known.ticks, known.at
    going_on = [
        each for each in known.runs
        if each.started_at is not None and each.started_at <= utc(at)
        and each.finished_at is not None and each.finished_at >= utc(at)
    ]  # fmt: skip
    text = f"{'is' if at > known.now else 'was'} not due at {_at(known)}: {_neighbours(ticks.before, ticks.after, at)}"
    if known.shared and at <= known.now:
        text += ", by the rule that it has now"
    if ticks.remark is not None:
        text += f"; {ticks.remark}"
    if going_on:
        run = going_on[-1]
        text += f"; the run of tick {when(epoch_us(run.scheduled_at), at)} was in progress"
    return _told(known, None, Fate.NOT_DUE, text)


def _neighbours(before: int | None, after: int | None, at: int) -> str:
    if before is None and after is None:
        return "its rule has no tick before or after"
    if before is None or after is None:
        one = f"the first tick is {when(after, at)}" if after is not None else f"the last tick is {when(before, at)}"
        return one
    return f"the ticks before and after are {when(before, at)} and {when(after, at)}"


def _at(known: Evidence) -> str:
    return when(known.at)


def _told(
    known: Evidence,
    tick: int | None,
    fate: Fate,
    text: str,
    causes: Sequence[Cause] = (),
    run: Run | None = None,
    before: int | None = None,
    after: int | None = None,
) -> Explanation:
    subject = f"task {known.task!r}" if tick is None else f"task {known.task!r}, tick {when(tick)}"
    before, after = before or known.ticks.before, after or known.ticks.after
    return Explanation(
        task=known.task,
        asked=utc(known.at),
        tick=None if tick is None else utc(tick),
        fate=fate,
        run=run,
        causes=tuple(causes),
        before=None if before is None else utc(before),
        after=None if after is None else utc(after),
        sentence=f"{subject}: {text}.",
    )
