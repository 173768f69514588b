"""Which tick of each task is next, and when it is looked at."""

from __future__ import annotations

from collections.abc import Callable

from kaiju_app._core.clock import NEVER, utc
from kaiju_app._core.logs import facts
from kaiju_app.triggers._adapter import Found, gap_to
from kaiju_app.triggers._timeline import describe

from . import policy
from .clock_monitor import ClockMonitor
from .entry import COMPUTED_TICKS, EXTRA_FIRST_TICK, RELEASED, REMOVE_WHEN_OVER, TaskEntry
from .events import Notifier, log, never_runs
from .timer_queue import TimerQueue

RETRY_TRIGGER = 60_000_000  # A trigger that failed is asked again after a minute.


class Planner:
    """Plans the next ticks of one scheduler's tasks.

    Args:
        now: Reads the steady clock.

    Attributes:
        on_over: Called with a task that is to be removed when it is over, soon after that. The engine assigns it.
        parked: The tasks whose due tick is kept back while they are held or disabled, in that order.
    """

    on_over: Callable[[TaskEntry], None]

    def __init__(self, now: Callable[[], int], queue: TimerQueue, monitor: ClockMonitor, notifier: Notifier) -> None:
        self._now = now
        self._queue = queue
        self._monitor = monitor
        self._notifier = notifier
        self.parked: dict[TaskEntry, None] = {}

    def plan(
        self,
        entry: TaskEntry,
        due: int,
        error: BaseException | None = None,
        searched_to: int | None = None,
        *,
        beside_rule: bool = False,
        is_first: bool = False,
    ) -> None:
        """Plan the next tick of *entry*, instead of the one that was planned.

        Args:
            due: The tick. With ``error`` and ``searched_to`` it is a ``Found``: pass one as ``*found``.
            beside_rule: It is an extra first tick, not one of the rule.
            is_first: The rule begins here: if it has no tick at all, that is worth a warning.
        """
        self.unplan(entry)
        if beside_rule:
            entry.flags |= EXTRA_FIRST_TICK
        self._schedule(entry, due, error, searched_to, is_first=is_first)
        self._queue.arm()

    def plan_first(self, entry: TaskEntry, found: Found, *, beside_rule: bool) -> None:
        """Plan the first tick of *entry*, which has none yet; the caller arms the timer, once for many tasks."""
        if beside_rule:
            entry.flags |= EXTRA_FIRST_TICK
        self._schedule(entry, *found, is_first=True)

    def replan(self, entry: TaskEntry) -> None:
        """Plan the next tick of *entry* again, from what it is now."""
        found = Found(entry.due) if entry.due < NEVER else self.next_tick(entry, self._now())
        self.plan(entry, *found, beside_rule=bool(entry.flags & EXTRA_FIRST_TICK))

    def unplan(self, entry: TaskEntry) -> None:
        """Let no tick of *entry* come due."""
        entry.flags &= ~(EXTRA_FIRST_TICK | RELEASED)
        self.parked.pop(entry, None)
        if entry.seq:
            entry.seq = 0
            self._queue.mark_dead()

    def next_tick(self, entry: TaskEntry, now: int) -> Found:
        """Return the next tick of *entry*, whose trigger had none or failed: never one that has already come."""
        timeline = entry.host.timeline(entry, entry.spec)
        return policy.next_tick(timeline, max(now, self._monitor.latest_wall - self._monitor.offset))

    def _schedule(
        self, entry: TaskEntry, due: int, error: BaseException | None, searched_to: int | None, *, is_first: bool
    ) -> None:
        """Put the next tick of *entry* into the queue; if there is none, report why."""
        if not entry.flags & COMPUTED_TICKS:
            entry.due = due
            entry.seq = self._queue.push_tick(due, entry)
            return
        timeline = entry.host.timeline(entry, entry.spec)
        was_over = entry.due >= NEVER
        entry.due = due = timeline.clipped(due)
        if due < NEVER:
            if entry.spec.rule is not None:
                following = timeline.next_of_rule(due)
                error = following.error if error is None else error
                if (gap := gap_to(following, due)) != entry.spec.gap:
                    entry.spec = policy.with_gap(entry.spec, gap)
            entry.seq = self._queue.push(timeline.due(due), entry)
        if error is not None:
            self._on_failed_trigger(entry, error)
        elif due >= NEVER:
            self._on_no_tick(entry, Found(due, None, searched_to), is_first=is_first, was_over=was_over)

    def _on_failed_trigger(self, entry: TaskEntry, error: BaseException) -> None:
        """Report that the trigger of *entry* failed; if the next tick is not known, ask it again later."""
        now = self._now()
        self._notifier.trigger_failed(entry, error, now)
        if not entry.seq:
            entry.seq = self._queue.push(now + RETRY_TRIGGER, entry)

    def _on_no_tick(self, entry: TaskEntry, found: Found, *, is_first: bool, was_over: bool) -> None:
        """Repeat the search later if it was stopped; otherwise report that no tick is left, once."""
        now = self._now()
        again = found.search_again_at(now)
        if again is not None:
            entry.seq = self._queue.push(again, entry)
            return
        if is_first:
            never_runs(entry, describe(entry.spec), utc(now + self._monitor.offset))
        elif not was_over:
            log.info(
                "task %r: its rule has no further tick: %s", entry.name, describe(entry.spec), extra=facts(entry.name)
            )
        if entry.flags & REMOVE_WHEN_OVER:
            self._queue.call_soon(self.on_over, entry)  # Later: the last tick may be about to start.
