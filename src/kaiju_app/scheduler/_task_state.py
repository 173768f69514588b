"""What is known of a task besides its options: its state, its next ticks, its holds, the start of its last run."""

from __future__ import annotations

from datetime import datetime, timedelta

from kaiju_app._core.clock import END, NEVER, utc
from kaiju_app._core.model import Run
from kaiju_app._core.text import shortened
from kaiju_app._core.validate import duration_us, text
from kaiju_app._core.validate import reason as checked_reason
from kaiju_app._engine.backoff import Backoff
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import DISABLED, EXTRA_FIRST_TICK, HUNG, Hold, TaskEntry
from kaiju_app._engine.ledger import UNSET, records
from kaiju_app.errors import InvalidArgument

MOST_HOLDER = 200  # Characters: a name and where it came from.


def state_of(engine: Engine, entry: TaskEntry, *, running: bool, suspended: bool, paused: bool, over: bool) -> str:
    """Return the state of a task in one word: the first that applies, in the order of the ladder below."""
    states = {
        "hung": running and bool(entry.flags & HUNG),
        "running": running,
        "disabled": bool(entry.flags & DISABLED),
        "paused": paused,
        "suspended": suspended,
        "stopped": not engine.started or not engine.has(entry),
        "over": over,
    }
    return next((state for state, applies in states.items() if applies), "waiting")


def next_ticks(engine: Engine, entry: TaskEntry, n: int, until: int = END) -> list[datetime]:
    """Return when the next *n* ticks of a local task are due up to *until*, aware UTC; none if none is planned."""
    is_off = not engine.started or entry.flags & DISABLED or engine.controls.is_held(entry) or not engine.has(entry)
    if is_off or not n:
        return []
    spec, tick = entry.spec, entry.due
    if spec.trigger is None and not spec.computed_ticks and not entry.flags & EXTRA_FIRST_TICK:
        return _even_ticks(tick + engine.offset, spec.gap, n, until) if tick < NEVER else []
    timeline = entry.host.timeline(entry, spec)
    found: list[datetime] = []
    while tick < NEVER:
        due = timeline.due(tick) + engine.offset
        if due > until and until < END:
            break
        found.append(utc(min(END, due)))  # The wall clock may have been set meanwhile.
        if len(found) == n:  # The next tick of a calendar takes a while to find.
            break
        is_extra = entry.flags & EXTRA_FIRST_TICK and len(found) == 1
        tick = (timeline.next_after(tick) if is_extra else timeline.next_after_tick(tick)).tick
    return found


def _even_ticks(first: int, gap: int, n: int, until: int) -> list[datetime]:
    """Return the first *n* ticks of a grid up to *until*: a page shows ten thousand of them."""
    if first > until:
        return []
    begin, step = utc(first), timedelta(microseconds=gap)
    return [begin + number * step for number in range(min(n, (until - first) // gap + 1))]


def runs_of(engine: Engine, entry: TaskEntry) -> list[Run]:
    """Return the kept records of a task, oldest first."""
    return [record.run(entry.name, engine.instance) for record in records(entry)]


def last_run_of(engine: Engine, entry: TaskEntry) -> Run | None:
    """Return the latest record of a task; None before the first."""
    kept = records(entry)
    return kept[-1].run(entry.name, engine.instance) if kept else None


def iso(moment: datetime | None) -> str | None:
    """Return an instant as ISO text; None for None."""
    return None if moment is None else moment.isoformat()


def seconds_json(value: float | Backoff) -> object:
    """Return the pause before a retry as a JSON value."""
    return value.json_repr() if isinstance(value, Backoff) else value


def holds_on(engine: Engine, entry: TaskEntry) -> list[Hold]:
    """Return the holds of this process on a task: its own and those on all tasks."""
    return [*(entry.holds or ()), *engine.holds]


def holds_json(engine: Engine, entry: TaskEntry) -> list[dict[str, object]]:
    """Return the holds of this process on a task as JSON values."""
    return [
        {"holder": hold.holder, "reason": hold.reason, "since": utc(hold.since + engine.offset).isoformat()}
        for hold in holds_on(engine, entry)
    ]


def called_at(engine: Engine, entry: TaskEntry) -> dict[str, object]:
    """Return the start of the latest run as JSON values: seconds of the loop's clock, and UTC; null before the first.

    The loop's clock is unknown while the scheduler is stopped.
    """
    started = _last_start(entry)
    if started is None:
        return {"called_at": None, "called_at_utc": None}
    ago_s = (engine.now() - started) / 1e6
    return {
        "called_at": None if engine.loop is None else engine.loop.time() - ago_s,
        "called_at_utc": utc(started + engine.offset).isoformat(),
    }


def _last_start(entry: TaskEntry) -> int | None:
    if entry.run is not None:
        return entry.run.started
    starts = [record.started for record in records(entry) if record.started != UNSET]
    return starts[-1] if starts else entry.last_started or None


def pause_reason(reason: str | None) -> str | None:
    """Return the reason of a pause, at most as long as one that is kept.

    Raises:
        InvalidArgument: *reason* is not text.
    """
    return checked_reason(reason, ": for_s takes the seconds, as in pause(for_s=60)")


def pause_holder(holder: str | None, instance: str | None = None) -> str:
    """Return who holds a paused task, as text for people.

    Args:
        holder: Who it is; None if only the call is known.
        instance: The instance that pauses a cluster task.

    Raises:
        InvalidArgument: *holder* is not text.
    """
    who = "pause()" if holder is None else shortened(text("holder", holder, " that says who pauses"), MOST_HOLDER)
    return who if instance is None else f"{who} on {instance}"


def pause_us(for_s: float | timedelta | None) -> int | None:
    """Return the length of a pause in microseconds; None if it lasts until ``resume()``.

    Raises:
        InvalidArgument: *for_s* is not a positive number of seconds.
    """
    if for_s is None:
        return None
    length = duration_us("for_s", for_s)
    if not length:
        raise InvalidArgument("for_s", for_s, "must be more than 0 seconds, or None to pause until resume()")
    return length
