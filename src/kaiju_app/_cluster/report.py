"""What a store knows about instances and tasks, as JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kaiju_app._core.clock import NEVER, utc
from kaiju_app.stores._answers import Instance, Snapshot
from kaiju_app.stores._record import TaskRecord, scheduler_of, true_holds

from .neighbours import process_of


def report(store: str, snapshot: Snapshot, instances: list[Instance]) -> dict[str, object]:
    """Return the content of a store: the instances, and the tasks with their owners and holds."""
    processes = {scheduler_of(each.id): process_of(each) for each in instances}
    return {
        "store": store,
        "time": utc(snapshot.now).isoformat(),
        "instances": [
            {
                "id": scheduler_of(each.id),
                "process": process_of(each),
                "heard_at": utc(each.seen_at).isoformat(),
                **{key: value for key, value in json.loads(each.info).items() if key != "tasks"},
            }
            for each in instances
        ],
        "tasks": [_task(record, processes) for record in snapshot.records],
    }


def _task(record: TaskRecord, processes: Mapping[str, str | None]) -> dict[str, object]:
    claimed = record.owner is not None
    return {
        "name": record.name,
        "rev": record.rev,
        "rule": _rule(record.schedule),
        "version": list(record.version),
        "next_run_at": None if record.next_due >= NEVER else utc(record.next_due).isoformat(),
        "next_tick": None if record.next_tick >= NEVER else utc(record.next_tick).isoformat(),
        "asked_for_at": record.manual_at and utc(record.manual_at).isoformat(),
        "runs_on": record.owner and scheduler_of(record.owner),
        "runs_in": record.owner and processes.get(scheduler_of(record.owner)),
        "tick": utc(record.tick).isoformat() if claimed else None,
        "since": utc(record.claimed_at).isoformat() if claimed and record.claimed_at is not None else None,
        "fence": record.fence if claimed else None,
        "delivery": record.delivery if claimed else None,
        "holds": [
            {
                "holder": held.holder,
                "reason": held.reason,
                "since": held.since and utc(held.since).isoformat(),
                "until": held.until and utc(held.until).isoformat(),
                "leased": held.leased,
            }
            for held in true_holds(record.holds).values()
        ],
    }


def _rule(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # Written by something else than this package.
        return text
