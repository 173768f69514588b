"""What became of the ticks of a task, as a table for people, such as those whose test has just failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kaiju_app.scheduler import Outcome, Run

MOST = 30
HEAD = ("scheduled", "late", "took", "outcome", "reason", "")


class Told(Protocol):
    """What is told of a task: a ``ScheduledTask`` tells it of this process, ``Cluster.task()`` of all instances."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def running(self) -> bool:
        """Whether a run is in progress."""

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many ticks have had each outcome."""

    def history(self) -> list[Run]:
        """Return what became of the ticks, oldest first."""


def ledger(task: Told, most: int = MOST) -> str:
    """Return the history of *task* as a table, the latest tick last; times are UTC.

    Args:
        task: A ``ScheduledTask``, for its history in this process, or what ``Cluster.task()`` returns.
        most: Number of rows at most; older records are only counted.
    """
    runs = sorted(task.history(), key=lambda run: run.scheduled_at)  # A skip is recorded before the run ahead ends.
    rows = [HEAD, *(_row(run) for run in runs[-most:])] if runs else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(runs) > most:
        lines.insert(1, f"({len(runs) - most} earlier records)")
    if not runs:
        lines.append("(no tick has ended)")
    if task.running:
        lines.append("(a run is in progress)")
    return "\n".join(lines)


def _row(run: Run) -> tuple[str, ...]:
    late = "" if run.lateness_s is None else f"{run.lateness_s:.6g} s"
    took = "" if run.duration_s is None else f"{run.duration_s:.6g} s"
    return str(run.scheduled_at.replace(tzinfo=None)), late, took, run.outcome.value, _reason(run), _more(run)


def _reason(run: Run) -> str:
    return "" if run.reason is None else run.reason.value


def _more(run: Run) -> str:
    """Return what most records do not have."""
    more = [run.error.partition("\n")[0]] if run.error else []
    if run.outcome is Outcome.SKIPPED and run.count > 1:
        more.append(
            f"{run.count} ticks{' or more' * run.more}, the last one at {run.last_scheduled_at.replace(tzinfo=None)}"
        )
    if run.attempts > 1:
        more.append(f"{run.attempts} attempts")
    if run.manual:
        more.append("asked for")
    return "; ".join(more)
