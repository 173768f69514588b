"""Wakes when something is due, asks the policy what to do with it, and has it done."""

from __future__ import annotations

from collections.abc import Callable

from kaiju_app._core.clock import NEVER
from kaiju_app._core.model import Reason
from kaiju_app.triggers._timeline import Timeline

from . import decision as decide
from . import policy
from .backlog import Backlog
from .clock_monitor import MIN_NOTICED, ClockMonitor
from .controls import Controls
from .entry import (
    DISABLED,
    EXTRA_FIRST_TICK,
    HELD,
    HUNG,
    ORDINARY,
    QUEUED,
    RELEASED,
    REMOVED,
    ActiveRun,
    Hold,
    TaskEntry,
)
from .events import Notifier
from .overload import Overload
from .planner import Planner
from .policy import EARLY
from .recorder import Recorder
from .runner import Runner
from .spec import LIVE, Kind, TaskSpec
from .timer_queue import TimerQueue
from .watchdog import Watchdog

MAX_SLICE = 1_000  # Many ticks at once are started in slices of a millisecond, so that the application gets its turns.
MOST_ON_ONE_READING = 8  # Runs that are begun, one after another, before the clock is read again.
MAX_ITEMS = 64  # Items in a slice: what their runs allocate is freed before a garbage collection looks at it.


class TickLoop:
    """Handles the due items of one scheduler.

    Args:
        holds: The holds of all tasks.
        now: Reads the steady clock.
    """

    def __init__(
        self,
        holds: list[Hold],
        now: Callable[[], int],
        queue: TimerQueue,
        monitor: ClockMonitor,
        notifier: Notifier,
        watchdog: Watchdog,
        recorder: Recorder,
        runner: Runner,
        backlog: Backlog,
        planner: Planner,
        controls: Controls,
        overload: Overload,
    ) -> None:
        self._holds = holds
        self._now = now
        self._queue = queue
        self._monitor = monitor
        self._notifier = notifier
        self._watchdog = watchdog
        self._recorder = recorder
        self._start = runner.start
        self._begin = runner.begin
        self._backlog = backlog
        self._planner = planner
        self._controls = controls
        self._overload = overload

    def wake(self) -> None:
        """Handle the items that are due, for at most a slice of time."""
        queue = self._queue
        queue.timer = None
        queue.waking = True
        self._recorder.notify_success = self._notifier.has_audience()
        heap, holds = queue.heap, self._holds
        clock, begin, overtake, advance = self._now, self._begin, self._overload.overtake, queue.advance
        now = clock()
        until = now + MAX_SLICE
        self._monitor.on_wake(now - queue.expected, now, queue.set_at)
        self._monitor.check_wall_clock(now)
        self._notifier.suppressed = self._monitor.has_findings
        try:
            for k in range(MAX_ITEMS):
                if not heap:
                    break
                due, number, entry, _ = heap[0]
                if due > now and due - now > EARLY:
                    break
                if entry.seq != number:
                    queue.pop()
                    if entry.alarm == number:
                        self._watchdog.on_alarm(entry, now)
                    elif entry.lift == number:
                        entry.lift = 0
                        self._controls.pause(entry, None)
                    else:
                        queue.dead -= 1
                elif due > now and due - now > entry.spec.early:
                    break
                elif (
                    entry.flags
                    or entry.run is not None
                    or holds
                    or (now - due >= entry.spec.on_time_below and not overtake(entry, now))
                ):
                    if entry.run is None or not self._on_overlap(entry, due, now):
                        queue.pop()
                        entry.seq = 0
                        self._on_tick(entry, due, now)
                else:  # START of policy.on_tick(), written out: nearly every tick goes this way.
                    due = entry.due  # Later than that of the item if ticks were overtaken.
                    entry.due = following = due + entry.spec.gap
                    advance(entry, following)  # Before the start: an eager run may come back here.
                    run = ActiveRun(entry, due, now)
                    begin(run)
                    if k % MOST_ON_ONE_READING and not run.attempt:
                        continue  # Its function has not begun, so this took some microseconds.
                now = clock()
                if now > until:
                    break
            if now - until >= MIN_NOTICED:
                # An eager run begins inside this call. One that blocks the loop delays no timer: it is seen only here.
                self._monitor.on_blocked(now - until, entry.name, now)
            if self._monitor.has_findings and not (heap and heap[0][0] <= self._monitor.stalled_until):
                self._monitor.report()
            self._overload.tell_opened(now)
            self._overload.close_old(now)
        finally:
            queue.waking = self._notifier.suppressed = False
            queue.arm()

    def _on_overlap(self, entry: TaskEntry, due: int, now: int) -> bool:
        """Do what the policy says if the head of the queue is a tick of a plain interval, in time, during a run.

        That is what ``_on_tick()`` does with it, for a fraction of the price: a function that takes longer than its
        interval meets several of them in each run.

        Returns:
            Whether it is; otherwise nothing was changed.
        """
        spec, run = entry.spec, entry.run
        if run is None or run.spec is not spec or entry.flags & ~ORDINARY or self._holds:
            return False
        if now - due >= spec.on_time_below or (run.task is not None and run.task.done()):
            return False
        entry.due = following = due + spec.gap
        self._queue.advance(entry, following)
        if spec.policy is policy.SKIP and entry.backlog is None:
            self._recorder.skip(entry, due, due, 1, Reason.OVERLAP, now)  # What _overlap() comes to.
        else:
            self._overlap(entry, run, due, due, now)
        if spec.limit or run.kind is not LIVE:
            self._watchdog.watch_deadline(entry)
        return True

    def _on_tick(self, entry: TaskEntry, due: int, now: int) -> None:
        """Decide about the tick of *entry* that came *due*, and is no longer in the queue, and do that."""
        spec = entry.spec
        run = None if entry.run is None else self._watchdog.active_run(entry)
        flags = entry.flags
        if entry.due >= NEVER:  # Its trigger failed, or its search was stopped, when it was last asked.
            self._planner.plan(entry, *self._planner.next_tick(entry, now))
            return
        decision = policy.on_tick(
            spec,
            now - due,
            parked=bool(flags & (DISABLED | HELD) or self._holds),
            busy=run is not None or bool(flags & QUEUED),
        )
        if decision is decide.PARK:
            self._planner.parked[entry] = None
        elif flags & EXTRA_FIRST_TICK:
            self._on_extra_tick(entry, entry.host.timeline(entry, spec), now)
        elif decision is decide.LATE or flags & RELEASED:
            self._on_late_ticks(entry, entry.host.timeline(entry, spec), now)
        else:
            tick = entry.due
            if spec.gap < NEVER:
                self._planner.plan(entry, tick + spec.gap)
            else:
                self._planner.plan(entry, *entry.host.timeline(entry, spec).next_after_tick(tick))
            self._offer(entry, tick, now, spec.gap, due)
        self._watchdog.watch_deadline(entry)

    def _on_extra_tick(self, entry: TaskEntry, timeline: Timeline[TaskSpec], now: int) -> None:
        """Run a first tick beside the rule, unless a tick of the rule is due as well. It is never caught up."""
        tick = entry.due
        released = bool(entry.flags & RELEASED)
        grace = entry.spec.grace
        late = now - timeline.due(tick)
        following = timeline.next_after(tick)
        overtaken = timeline.due(following.tick) <= now
        self._planner.plan(entry, *following)
        if overtaken or (grace is not None and late > grace):
            self._recorder.skip(entry, tick, tick, 1, Reason.SUSPENDED if released else Reason.MISSED, now)
            if released:
                entry.flags |= RELEASED
        else:
            self._offer(entry, tick, now)

    def _on_late_ticks(self, entry: TaskEntry, timeline: Timeline[TaskSpec], now: int) -> None:
        """Skip the due ticks that are not caught up, and offer the others."""
        first = entry.due
        stalled_until = self._monitor.stalled_until
        late = policy.missed(timeline, first, now, held=bool(entry.flags & RELEASED), stalled_until=stalled_until)
        self._planner.plan(entry, *late.next)
        if not late.overtaken:
            self._monitor.on_missed(len(late.kept), late.dropped)
        if late.dropped and late.overtaken:
            self._overload.count(entry, first, late.last, late.dropped, now, more=late.more)
        elif late.dropped:
            self._backlog.drop_missed(entry, late.reason, now)  # What is older than the dropped ticks goes with them.
            self._recorder.skip(entry, first, late.last, late.dropped, late.reason, now, more=late.more)
        if late.kept and entry.spec.missed is policy.ALL:
            self._backlog.catch_up(entry, late.kept[:-1], now)
        if late.kept and entry.flags & (REMOVED | DISABLED):  # By a listener that has heard of the skipped ticks.
            self._recorder.skip(entry, late.kept[-1], late.kept[-1], 1, _why_stopped(entry), now)
        elif late.kept:
            self._offer(entry, late.kept[-1], now, late.gap)
        else:
            self._backlog.dequeue(entry)
            self._watchdog.cancel_overdue(entry, now)

    def _offer(self, entry: TaskEntry, tick: int, now: int, gap: int | None = None, due: int | None = None) -> None:
        """Start *tick*, or do with it what the policy says about the run in progress and the waiting ticks.

        Args:
            gap: From *tick* to the next tick of the rule; None if that is not known.
            due: When *tick* is due; None if that is to be computed.
        """
        run = entry.run
        if run is None and not entry.flags & QUEUED:
            self._start(entry, tick, now, LIVE, entry.due, gap=gap, due=due)
            return
        if due is None:
            due = entry.host.timeline(entry, entry.spec).due(tick)
        self._overlap(entry, run, tick, due, now)

    def _overlap(self, entry: TaskEntry, run: ActiveRun | None, tick: int, due: int, now: int) -> None:
        """Do with *tick* what the policy says about the *run* in progress, if there is one, and the waiting ticks."""
        decision = decide.WAIT
        if run is not None:
            cancelled, hung = run.cause is not None, bool(entry.flags & HUNG)
            decision = policy.overlap(entry.spec.policy, due, run.started, run.spec.gap, cancelled=cancelled, hung=hung)
            if decision is decide.REPLACE and not policy.same_rule(run.spec, entry.spec):
                decision = decide.OVERLAP  # It was rescheduled meanwhile: the run keeps its old deadline.
        if entry.backlog is not None:
            self._backlog.catch_up(entry, [tick], now)
        elif decision is decide.OVERLAP or entry.requested is not None:
            # A requested run is not replaced by a tick, which will be followed by others anyway.
            self._recorder.skip(entry, tick, tick, 1, Reason.OVERLAP, now)
        elif decision is decide.HUNG:
            self._recorder.skip(entry, tick, tick, 1, Reason.HUNG, now)
        else:
            self._backlog.wait(entry, tick, now)
        if run is not None and decision is decide.REPLACE and run.kind is not Kind.CAUGHT_UP:
            self._watchdog.cancel(run, Reason.REPLACED)


def _why_stopped(entry: TaskEntry) -> Reason:
    return Reason.REMOVED if entry.flags & REMOVED else Reason.DISABLED
