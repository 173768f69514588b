"""What is known of a local task around an instant, for ``explain()``."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from kaiju_app._core.clock import NEVER, epoch_us
from kaiju_app._core.upset import Upset, UpsetKind
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import REMOVED, TaskEntry
from kaiju_app._engine.ledger import records
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.triggers._adapter import TriggerAdapter
from kaiju_app.triggers._foreign import as_base_trigger
from kaiju_app.triggers._remarks import remark_on
from kaiju_app.triggers._timeline import Timeline, timeline_of

from ._evidence import Evidence, InProgress, Ticks
from ._explain_causes import NEAR
from ._task_state import holds_on, runs_of


def local_evidence(engine: Engine, entry: TaskEntry, at: int) -> Evidence:
    """Return what is known of the task *entry* around *at*, in wall-clock microseconds."""
    now, offset = engine.now(), engine.offset
    upsets = [*engine.upsets.of(entry.name), *_holds(engine, entry, offset)]
    kept = records(entry)
    run = engine.watchdog.active_run(entry)
    is_due = engine.started and not entry.flags & REMOVED and _due_at(entry) <= now
    waiting = [*(() if entry.waiting is None else (entry.waiting,)), *(entry.backlog or ())]
    return Evidence(
        task=entry.name,
        at=at,
        now=now + offset,
        ticks=_local_ticks(entry, upsets, at),
        runs=runs_of(engine, entry),
        oldest=min((each.first + each.offset for each in kept if not each.manual), default=None),
        complete=entry.kept <= len(kept),
        running=None if run is None else InProgress(run.tick + offset, run.due + offset, run.started + offset, None),
        waiting=[tick + offset for tick in waiting],
        undecided=entry.due + offset if is_due else None,
        upsets=upsets,
        jitter=entry.spec.jitter,
    )


def _due_at(entry: TaskEntry) -> int:
    return entry.host.timeline(entry, entry.spec).due(entry.due)


def _holds(engine: Engine, entry: TaskEntry, offset: int) -> list[Upset]:
    return [Upset(UpsetKind.HELD, hold.since + offset, None, entry.name, str(hold)) for hold in holds_on(engine, entry)]


def _local_ticks(entry: TaskEntry, upsets: list[Upset], at: int) -> Ticks:
    """Return the ticks of the rule around *at*."""
    spec, offset = entry.spec, entry.host.offset
    changed = [each.until for each in upsets if each.kind is UpsetKind.RESCHEDULED and each.until is not None]
    if spec.trigger is not None:
        timeline = timeline_of(spec, 0, entry.host.timeline(entry, spec).seed)  # On the wall clock.
        return ticks_of_rule(spec, timeline, at, max(changed, default=None))
    started = [each.until for each in upsets if each.kind is UpsetKind.STOPPED and each.until is not None]
    since = max([*changed, *started], default=None)
    anchor = entry.due if entry.due < NEVER else max((each.last for each in records(entry)), default=None)
    if anchor is None:
        return Ticks(None, None, None, spec.gap, since)
    steps = [(each.since, each.until) for each in upsets if each.kind is UpsetKind.CLOCK]
    # The grid is on the steady clock: before the wall clock was set, its ticks had other times.
    moved = sum(after - before for before, after in steps if before and after and at < min(before, after))
    shift = offset - moved
    timeline = entry.host.timeline(entry, spec)
    last = anchor + (at - shift - anchor) // spec.gap * spec.gap
    end = NEVER if spec.until is None else spec.until
    ticks = [tick + shift for tick in range(last - spec.gap, last + 3 * spec.gap, spec.gap) if tick + shift <= end]
    dues = [timeline.due(tick - shift) + shift for tick in ticks]
    return around(at, ticks, dues, spec.gap, since)


def ticks_of_rule(spec: TaskSpec, timeline: Timeline[TaskSpec], at: int, since: int | None) -> Ticks:
    """Return the ticks of a rule that follows the wall clock, around *at*.

    Args:
        timeline: On the wall clock.
        since: When the rule came into force; None if it has always been.
    """
    assert spec.trigger is not None
    rule = spec.rule or TriggerAdapter(as_base_trigger("trigger", spec.trigger))
    first = epoch_us(spec.first_run) if isinstance(spec.first_run, datetime) else None
    since = first if since is None else max(since, first or since)
    end = NEVER - 1 if spec.until is None else spec.until
    ticks: list[int] = []
    found = rule.at_or_before(at)
    if found.tick < NEVER:
        before = rule.at_or_before(found.tick - 1)
        ticks += [each.tick for each in (before, found) if each.tick <= end]
    for _ in range(2):
        found = rule.next_after(max([at, *ticks[-1:]]))
        if found.tick <= end:
            ticks.append(found.tick)
    ticks = [tick for tick in ticks if first is None or tick >= first]
    chosen = around(at, ticks, [timeline.due(tick) for tick in ticks], spec.gap if spec.rule is None else None, since)
    return chosen if chosen.at is not None else replace(chosen, remark=remark_on(spec.trigger, at))


def around(at: int, ticks: list[int], dues: list[int], gap: int | None, since: int | None) -> Ticks:
    """Return which of some *ticks* in a row, due at *dues*, is meant by *at*, and those before and after."""
    far = [min(abs(tick - at), abs(due - at)) for tick, due in zip(ticks, dues, strict=True)]
    nearest = min(range(len(ticks)), key=far.__getitem__, default=None)
    if nearest is not None and far[nearest] < NEAR:
        before, after = ticks[:nearest], ticks[nearest + 1 :]
        return Ticks(
            ticks[nearest], before[-1] if before else None, after[0] if after else None, gap, since, dues[nearest]
        )
    before, after = [tick for tick in ticks if tick <= at], [tick for tick in ticks if tick > at]
    return Ticks(None, before[-1] if before else None, after[0] if after else None, gap, since)
