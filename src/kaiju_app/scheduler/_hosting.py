"""What an application, or an endpoint, does with the scheduler that it hosts, beyond the public face of a scheduler."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

from kaiju_app._core.clock import utc
from kaiju_app._core.model import Missed, OnLost
from kaiju_app._engine.entry import CLUSTER
from kaiju_app._engine.runner import enclosing_run

from ._lifecycle import cancel_left
from ._scheduler import Scheduler
from ._shown import scheduler_json
from ._task import ScheduledTask
from ._task_state import holds_json, holds_on

MOST_PUBLISHED = 100  # Names of local tasks in each heartbeat, which every instance reads.
MOST_CHARACTERS = 200  # Of such a name.
MOST_SEARCHED = 2_000  # Tasks that are searched for local ones.


def is_inside_run(scheduler: Scheduler) -> bool:
    """Return whether the caller is inside a run of *scheduler*."""
    run = enclosing_run()
    return run is not None and scheduler._engine.is_own(run)


def drop_reminder(scheduler: Scheduler) -> None:
    """Let nobody say that *scheduler* was never started."""
    scheduler._lifecycle.reminder.drop()


def is_onlooker(scheduler: Scheduler) -> bool:
    """Return whether *scheduler* only looks at a store: it is none of the instances that share it."""
    cluster = scheduler._lifecycle.cluster
    return cluster is not None and cluster.store.is_onlooker


def halt(scheduler: Scheduler) -> None:
    """Start no more runs; ``scheduler.stop()`` ends those in progress."""
    scheduler._lifecycle.halt()


def cancel_runs(scheduler: Scheduler) -> None:
    """Cancel the runs that are left after ``scheduler.stop()``, also under SHIELD: their loop is about to close."""
    cancel_left(scheduler._engine)


def watch_runs(scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> list[asyncio.Future[object]]:
    """Return a future for the end of each run in progress that was not cancelled."""
    engine = scheduler._engine
    ends = []
    for entry in list(engine.entries.values()):
        run = engine.watchdog.active_run(entry)
        if run is not None and run.cause is None:
            ends.append(loop.create_future())
            engine.recorder.add_waiter(entry, ends[-1])
    return ends


def state_of(scheduler: Scheduler) -> dict[str, object]:
    """Return what is known of a scheduler besides its tasks, as JSON values."""
    scheduler._engine.check_loop("scheduler.json_repr")
    return scheduler_json(scheduler._engine, scheduler._lifecycle.cluster)


def holds_of(task: ScheduledTask[Any]) -> list[dict[str, object]]:
    """Return what keeps *task* from running in this process, as JSON values."""
    engine, entry = task._engine, task._entry
    ends = [hold.until and utc(hold.until + engine.offset).isoformat() for hold in holds_on(engine, entry)]
    return [told | {"until": end} for told, end in zip(holds_json(engine, entry), ends, strict=True)]


def missed_of(task: ScheduledTask[Any]) -> Missed:
    """Return which of the missed ticks of *task* run later."""
    return task._entry.spec.missed


def on_lost_of(task: ScheduledTask[Any]) -> OnLost | None:
    """Return what becomes of a tick of *task* whose run was lost; None for a local task."""
    return getattr(task._entry.host, "on_lost", None)


def publish_local_tasks(scheduler: Scheduler) -> None:
    """Have *scheduler* name its local tasks in its heartbeats, for the instances that share its store."""
    engine, cluster = scheduler._engine, scheduler._lifecycle.cluster
    if cluster is None:
        return
    shared = cluster.entries

    def names() -> dict[str, object]:
        local = [
            name
            for name, entry in islice(engine.entries.items(), MOST_SEARCHED)
            if not entry.flags & CLUSTER and len(name) <= MOST_CHARACTERS
        ]
        return {"local_tasks": local[:MOST_PUBLISHED], "local_count": len(engine.entries) - len(shared)}

    cluster.more = names
