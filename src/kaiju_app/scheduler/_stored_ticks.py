"""The coming ticks of a task that this process does not have, from what the store says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kaiju_app._cluster.schedule_codec import spec_of
from kaiju_app._core.clock import NEVER, epoch_us, utc
from kaiju_app.triggers._timeline import timeline_of

from ._cluster_evidence import any_spec


def stored_upcoming(record: Mapping[str, Any], n: int, until: datetime) -> list[datetime]:
    """Return when the next *n* ticks up to *until* are due of *record*, a task as ``inspect()`` tells of it.

    Of a rule that this version cannot read only the next tick is known.
    """
    if record["holds"] or record["next_run_at"] is None:
        return []
    first = datetime.fromisoformat(record["next_run_at"])
    spec = spec_of(json.dumps(record["rule"]), any_spec()) if isinstance(record["rule"], dict) else None
    if spec is None:
        return [first][: n if first <= until else 0]
    timeline, last = timeline_of(spec, seed=("", record["name"]), shared=True), epoch_us(until)
    tick, found = epoch_us(datetime.fromisoformat(record["next_tick"])), list[datetime]()
    if record["tick"] == record["next_tick"]:  # It is claimed.
        tick = timeline.next_after(tick).tick
    while len(found) < n and tick < NEVER and (due := timeline.due(tick)) <= last:
        found.append(utc(due))
        tick = timeline.next_after(tick).tick
    return found
