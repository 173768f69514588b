"""A scheduler and its tasks as one line, for an interactive session, and a scheduler as JSON values."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kaiju_app._core.clock import utc
from kaiju_app._core.text import clock_time, shortened, this_process
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import TaskEntry

if TYPE_CHECKING:
    from kaiju_app._cluster.cluster import Cluster


def scheduler_line(engine: Engine, cluster: Cluster | None) -> str:
    """Return the state of a scheduler, the number of its tasks, and its store if it has one."""
    state = "not started" if not engine.started else "suspended" if engine.holds else "started"
    count = len(engine.entries)
    store = "" if cluster is None else f", {cluster.store.name}"
    return f"<Scheduler {state}, {count or 'no'} task{'' if count == 1 else 's'}{store}>"


def task_line(engine: Engine, entry: TaskEntry, kind: str, state: str, next_run_at: datetime | None) -> str:
    """Return the name, the rule and the state of a task, and its next tick if one is planned."""
    spec = entry.spec
    rule = f"every {spec.gap / 1e6:.15g} s" if spec.trigger is None else shortened(repr(spec.trigger))
    coming = "" if next_run_at is None else f", next {clock_time(next_run_at, utc(engine.wall()))}"
    return f"<{kind} {entry.name!r} {rule} {state}{coming}>"


def scheduler_json(engine: Engine, cluster: Cluster | None) -> dict[str, object]:
    """Return what is known of a scheduler besides its tasks, as JSON values."""
    lag = engine.loop_lag()
    return {
        "started": engine.started,
        "time": None if engine.loop is None else engine.loop.time(),
        "time_utc": utc(engine.wall()).isoformat(),
        "instance": engine.instance,
        "process": this_process(),
        "store": None if cluster is None else cluster.state(),
        "holds": [str(hold) for hold in engine.holds],
        "loop_lag": lag and lag.json_repr(),
        "blocks": [each.json_repr() for each in list(engine.monitor.blocks)],
        "listeners": [each.json_repr() for each in engine.notifier.subscriptions],
    }


def inspect_alone(engine: Engine) -> dict[str, object]:
    """Return what ``inspect()`` returns without a store, as JSON values."""
    return {"store": None, "time": utc(engine.wall()).isoformat(), "instances": [], "tasks": []}
