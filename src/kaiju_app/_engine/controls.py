"""What users do to a task: switch it on and off, hold it, pause it, reschedule it, remove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

from kaiju_app._core.model import Reason
from kaiju_app._core.text import calling_place, shortened
from kaiju_app._core.upset import UpsetKind
from kaiju_app.triggers._timeline import describe

from . import ledger, policy
from .backlog import Backlog
from .clock_monitor import ClockMonitor
from .entry import CLUSTER, COMPUTED_TICKS, DISABLED, HELD, QUEUED, RELEASED, REMOVED, Hold, TaskEntry
from .events import FAILURE_HOLDER, facts_of, log, row_of_failures, what
from .ledger import RunRecord
from .planner import Planner
from .recorder import Recorder
from .runner import enclosing_run
from .spec import TaskSpec
from .timer_queue import TimerQueue
from .upsets import UpsetLog
from .watchdog import Watchdog


class Controls:
    """The switches and holds of one scheduler's tasks.

    Args:
        entries: The tasks by name.
        holds: The holds of all tasks; they are changed here.
        now: Reads the steady clock.
    """

    def __init__(
        self,
        entries: Mapping[str, TaskEntry],
        holds: list[Hold],
        now: Callable[[], int],
        queue: TimerQueue,
        monitor: ClockMonitor,
        planner: Planner,
        backlog: Backlog,
        watchdog: Watchdog,
        recorder: Recorder,
        upsets: UpsetLog,
    ) -> None:
        self._entries = entries
        self._holds = holds
        self._now = now
        self._queue = queue
        self._monitor = monitor
        self._planner = planner
        self._backlog = backlog
        self._watchdog = watchdog
        self._recorder = recorder
        self._upsets = upsets
        self._lifting = Lock()

    def _wall(self) -> int:
        """Return what the wall clock shows."""
        return self._now() + self._monitor.offset

    # --- switches ---

    def disable(self, entry: TaskEntry) -> None:
        """Let ticks pass without a run from now on; the run in progress continues."""
        if entry.flags & DISABLED:
            return
        self._skip_and_replan(entry)
        entry.flags |= DISABLED
        self._upsets.begin(UpsetKind.DISABLED, self._wall(), entry.name, _caller("disable()"))

    def enable(self, entry: TaskEntry) -> None:
        """Let ticks run again from the next one on; none is caught up."""
        if entry.flags & DISABLED:
            self._skip_and_replan(entry)
            self._upsets.end(UpsetKind.DISABLED, self._wall(), entry.name)
        entry.flags &= ~DISABLED

    def _skip_and_replan(self, entry: TaskEntry) -> None:
        if self._queue.started and not entry.flags & (REMOVED | CLUSTER):
            now = self._now()
            self._monitor.check_wall_clock(now)
            self._backlog.skip_due(entry, Reason.DISABLED, now)
            self._planner.replan(entry)

    def handled_until(self, entry: TaskEntry) -> int | None:
        """Return the steady time of the latest tick that runs, has run or was skipped; None if none is known.

        A moment that has passed may be the first tick, and must not run twice.
        """
        wall = ledger.handled_until(entry)
        return None if wall is None else wall - self._monitor.offset

    def reschedule(self, entry: TaskEntry, spec: TaskSpec) -> None:
        """Give *entry* another rule: its first tick is one new gap from now; the run in progress keeps its deadline."""
        now = self._now()
        if self._queue.started:
            self._monitor.check_wall_clock(now)
            self._backlog.skip_due(entry, Reason.RESCHEDULED, now)
        wall = self._wall()
        self._upsets.note(UpsetKind.RESCHEDULED, wall, wall, entry.name, shortened(describe(entry.spec)))
        entry.spec = spec
        entry.flags = entry.flags & ~COMPUTED_TICKS | (COMPUTED_TICKS if spec.computed_ticks else 0)
        if self._queue.started:
            timeline = entry.host.timeline(entry, spec)
            self._planner.plan(entry, *policy.first_of_rule(timeline, now, self.handled_until(entry)), is_first=True)
            self._watchdog.watch_deadline(entry)

    def remove(self, entry: TaskEntry) -> None:
        """Let no more ticks come; the entry is dropped as soon as no run is in progress."""
        if entry.flags & REMOVED:
            return
        entry.flags |= REMOVED
        if self._queue.started:
            self._backlog.skip_due(entry, Reason.REMOVED, self._now())
            self._backlog.skip_requested(entry, Reason.REMOVED, self._now())
        self._planner.unplan(entry)
        if entry.flags & DISABLED:
            self._upsets.end(UpsetKind.DISABLED, self._wall(), entry.name)
        if self._watchdog.active_run(entry) is None:
            self._recorder.forget(entry)
        else:
            self._watchdog.watch_deadline(entry)

    def remove_if_over(self, entry: TaskEntry) -> None:
        """Remove *entry* if it has no further tick and nothing of it waits or is in progress."""
        if entry.is_over and not entry.flags & QUEUED and self._watchdog.active_run(entry) is None:
            self.remove(entry)

    # --- holds ---

    def hold(self, entry: TaskEntry | None, hold: Hold) -> None:
        """Keep *entry* from starting runs; None means all tasks."""
        if entry is None:
            self._holds.append(hold)
            return
        if entry.holds is None:
            entry.holds = []
        entry.holds.append(hold)
        entry.flags |= HELD

    def unhold(self, entry: TaskEntry | None, hold: Hold) -> None:
        """Remove *hold*, and look again at what it kept back."""
        parked = self._planner.parked
        if not self._queue.started or (parked if entry is None else entry in parked or entry.flags & QUEUED):
            # Programs suspend tasks thousands of times a day; only what delayed a tick has to be explained.
            offset, name = self._monitor.offset, None if entry is None else entry.name
            self._upsets.note(UpsetKind.HELD, hold.since + offset, self._wall(), name, str(hold))
        if entry is None:
            self._holds.remove(hold)
            self._release_all()
            return
        holds = entry.holds or []
        holds.remove(hold)
        if not holds:
            entry.holds = None
            entry.flags &= ~HELD
            self._release(entry)

    def pause(self, entry: TaskEntry, hold: Hold | None) -> None:
        """Set or replace the operator's hold of *entry*; None ends it."""
        old, entry.pause = entry.pause, hold
        if entry.lift:
            entry.lift = 0
            self._queue.mark_dead()
        if hold is not None:
            self.hold(entry, hold)
            self.end_pause_in_time(entry)
        if old is not None:
            self.unhold(entry, old)

    def pause_after_failures(self, entry: TaskEntry, number: int, record: RunRecord) -> None:
        """Pause *entry* after *number* unsuccessful runs in a row, unless somebody has paused it already.

        Args:
            record: The last of them.
        """
        if entry.pause is not None:
            return
        reason = row_of_failures(number, what(record))
        self.pause(entry, Hold(FAILURE_HOLDER, reason, self._now()))
        log.error(
            "task %r: paused, after %s. Mend it, then await task.resume(): one more failure pauses it again",
            entry.name, reason, extra=facts_of(entry, record),
        )  # fmt: skip

    def is_held(self, entry: TaskEntry) -> bool:
        """Return whether something holds *entry*; while the engine is stopped, no timer ends a pause."""
        if entry.flags & HELD and not self._queue.started:
            with self._lifting:  # A scheduler that is stopped may be asked in any thread: one ends it, others wait.
                pause = entry.pause
                if pause is not None and pause.until is not None and pause.until <= self._now():
                    self.pause(entry, None)
        return bool(entry.flags & HELD or self._holds)

    def end_pause_in_time(self, entry: TaskEntry) -> None:
        """Have the pause of *entry* end at its time, if it has one."""
        if self._queue.started and entry.pause is not None and entry.pause.until is not None:
            entry.lift = self._queue.push(entry.pause.until, entry)
            self._queue.arm()

    def _release(self, entry: TaskEntry) -> None:
        """Look again at what a hold of *entry* kept back."""
        if entry.flags & HELD or self._holds or not self._queue.started:
            return
        if entry in self._planner.parked:
            self._planner.replan(entry)
            entry.flags |= RELEASED
        if entry.flags & QUEUED:
            self._backlog.start_soon(entry)

    def _release_all(self) -> None:
        """Look again at what a hold of all tasks kept back."""
        if self._holds or not self._queue.started:
            return
        queued = [entry for entry in self._entries.values() if entry.flags & QUEUED]
        for entry in dict.fromkeys([*self._planner.parked, *queued]):
            self._release(entry)


def _caller(call: str) -> str:
    """Return who has made the *call*, as text for people."""
    run = enclosing_run()
    of_run = "" if run is None else f" in the run of task {run.entry.name!r}"
    return f"{call}{of_run} at {calling_place()}"
