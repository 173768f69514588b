"""The states of tasks, and the state of a task of which only its record in the store is known."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What a task does, in one word."""

    HUNG = "hung"
    RUNNING = "running"
    DISABLED = "disabled"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    OVER = "over"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    """It is a local task of another instance."""


def state_of_record(record: Mapping[str, Any]) -> State:
    """Return the state of a cluster task from what ``inspect()`` says of it."""
    if record["runs_on"] is not None:
        return State.RUNNING
    if has_pause(record):
        return State.PAUSED
    if record["holds"]:
        return State.SUSPENDED
    return State.OVER if record["next_run_at"] is None else State.WAITING


def has_pause(record: Mapping[str, Any]) -> bool:
    """Return whether a cluster task is paused, from what ``inspect()`` says of it."""
    return any(not each["leased"] for each in record["holds"])
