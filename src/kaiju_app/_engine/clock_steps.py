"""What a stepped wall clock does to the tasks that follow it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from kaiju_app._core.clock import NEVER
from kaiju_app._core.model import FirstRun, Reason

from . import policy
from .backlog import Backlog
from .clock_monitor import ClockMonitor
from .entry import CLUSTER, EXTRA_FIRST_TICK, RELEASED, REMOVED, TaskEntry
from .planner import Planner
from .spec import Kind

# Debian's cron takes a step of up to three hours for a change of daylight saving time, a larger one for a correction.
REPLAN_BEYOND = 10_800_000_000


class ClockSteps:
    """Applies steps of the wall clock to the tasks of one scheduler.

    Args:
        entries: The tasks by name.
    """

    def __init__(
        self, entries: Mapping[str, TaskEntry], monitor: ClockMonitor, planner: Planner, backlog: Backlog
    ) -> None:
        self._entries = entries
        self._monitor = monitor
        self._planner = planner
        self._backlog = backlog

    def apply(self, step: int, now: int) -> None:
        """Move the ticks that follow the wall clock; if it was set back by hours, plan them anew from what it shows.

        Args:
            step: By how much the wall clock was set forward; negative if it was set back.
        """
        monitor = self._monitor
        monitor.latest_wall = max(monitor.latest_wall, now + monitor.offset)
        replan = monitor.latest_wall - (now + monitor.offset + step) > REPLAN_BEYOND
        if replan:
            monitor.latest_wall = now + monitor.offset + step
            self._skip_all_due(now)
        moved = [
            entry for entry in self._entries.values() if entry.spec.trigger is not None and not entry.flags & CLUSTER
        ]
        monitor.offset += step
        self.shift_runs(step, immune_until=now if replan else None)
        for entry in moved:
            _shift_waiting(entry, step)
            if not entry.flags & REMOVED:
                self._move(entry, step, now, replan=replan)
        monitor.on_stepped(step, len(moved), now + monitor.offset, replanned=replan)

    def shift_runs(self, step: int, *, immune_until: int | None = None) -> None:
        """Keep the wall-clock times of the runs in progress what they were before *step*.

        Args:
            immune_until: Until when no tick replaces a run; None if no time comes again.
        """
        for entry in self._entries.values():
            _shift_run_of(entry, step, immune_until)

    def _skip_all_due(self, now: int) -> None:
        """Skip what is due or waits by the old time of the wall clock, before the times come again."""
        self._monitor.is_applying = True  # A listener may register tasks, which must not apply the same step again.
        try:
            for entry in list(self._entries.values()):
                follows = entry.spec.trigger is not None and not entry.flags & (REMOVED | CLUSTER)
                if follows and not _is_extra_at_start(entry):
                    self._backlog.skip_due(entry, Reason.CLOCK, now)
        finally:
            self._monitor.is_applying = False

    def _move(self, entry: TaskEntry, step: int, now: int, *, replan: bool) -> None:
        """Plan *entry* again: its next tick is another one, or comes at another steady time."""
        kept = entry.flags & (EXTRA_FIRST_TICK | RELEASED)
        if _is_extra_at_start(entry):
            self._planner.plan(entry, entry.due)  # It does not move, but its jitter ends before the rule's next tick.
            entry.flags |= kept
        elif replan:
            found, beside_rule = policy.first_tick_again(entry.host.timeline(entry, entry.spec), now)
            self._planner.plan(entry, *found, beside_rule=beside_rule)
        elif entry.due < NEVER:
            self._planner.plan(entry, entry.due - step)
            entry.flags |= kept


def _is_extra_at_start(entry: TaskEntry) -> bool:
    """Return whether the next tick of *entry* is an extra one at the start: such a tick has no wall-clock time."""
    return bool(entry.flags & EXTRA_FIRST_TICK) and entry.spec.first_run is FirstRun.NOW


def _shift_waiting(entry: TaskEntry, step: int) -> None:
    """Keep the wall-clock times of the ticks that wait."""
    if entry.waiting is not None and entry.requested is None:
        entry.waiting -= step
    if entry.backlog is not None:
        entry.backlog = deque(tick - step for tick in entry.backlog)


def _shift_run_of(entry: TaskEntry, step: int, immune_until: int | None) -> None:
    run = entry.run
    # By the spec of the run, which may be from before a reschedule(). A cluster task follows the clock of the store.
    if run is None or run.spec.trigger is None or run.claim is not None:
        return
    if immune_until is not None:
        run.immune_until = immune_until
    elif run.immune_until is not None:
        run.immune_until -= step
    if run.base_tick is not None:
        run.base_tick -= step
    if run.kind is not Kind.MANUAL:
        run.tick -= step
        run.due -= step
