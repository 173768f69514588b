"""The engine of one scheduler: its parts, put together."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from itertools import islice

from kaiju_app._core.clock import NEVER, Clock, steady_us
from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._core.text import random_identity
from kaiju_app._core.upset import UpsetKind
from kaiju_app.errors import WrongThread
from kaiju_app.triggers._adapter import Found

from . import ledger, policy
from .backlog import Backlog
from .clock_monitor import ClockMonitor
from .clock_steps import ClockSteps
from .controls import Controls
from .entry import (
    CLUSTER,
    COMPUTED_TICKS,
    EXTRA_FIRST_TICK,
    HAS_WAITERS,
    HELD,
    HUNG,
    QUEUED,
    RELEASED,
    REMOVED,
    ActiveRun,
    Hold,
    TaskEntry,
)
from .events import Notifier
from .lag import LoopLag
from .listeners import Listener, OverdueListener, Subscription
from .loop import TickLoop
from .loop_end import LoopEnd
from .loop_watch import LoopWatch
from .overload import Overload
from .planner import Planner
from .recorder import Recorder
from .replacements import Replacements
from .runner import Runner
from .spawn import TaskFactory
from .spec import Settings
from .starts import Starts
from .threads import Threads
from .timer_queue import TimerQueue
from .upsets import UpsetLog
from .watchdog import Watchdog

MOST_SEARCHED = 10_000  # Tasks that are looked at to name the one that blocks the loop: the search must not block it.


class Engine:
    """The parts of one scheduler's engine, and what is done to all of them at once.

    Attributes:
        now: Reads the steady clock.
        wall: Reads the wall clock.
        entries: The tasks by name. A removed one stays until its run has ended.
        holds: The holds of all tasks.
        upsets: What has happened besides runs.
    """

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self.now = now = clock.steady
        self.wall = clock.wall
        self.settings = settings
        self.entries: dict[str, TaskEntry] = {}
        self.holds: list[Hold] = []
        self._thread = threading.current_thread()
        self.queue = TimerQueue(now, self.entries)
        self.upsets = UpsetLog()
        self.upsets.begin(UpsetKind.STOPPED, None)
        self.monitor = ClockMonitor(clock, self.upsets)
        self.notifier = Notifier(settings.instance)
        self.watchdog = Watchdog(self.queue, now, settings.cancel_grace)
        self.recorder = Recorder(self.entries, now, self.monitor, self.notifier, self.watchdog, settings)
        self.loop_end = LoopEnd(self.entries)
        self.threads = Threads(settings.threads, self.watchdog.cancel, self.loop_end.why_cancelled)
        self.starts = Starts(now)
        self.runner = Runner(self.recorder, self.watchdog, self.threads, self.loop_end, self.starts)
        self.backlog = Backlog(self.holds, now, self.queue, self.watchdog, self.recorder, self.runner)
        self.overload = Overload(self.monitor, self.notifier, settings.history)
        self.planner = Planner(now, self.queue, self.monitor, self.notifier)
        self.controls = Controls(
            self.entries, self.holds, now, self.queue, self.monitor, self.planner, self.backlog, self.watchdog,
            self.recorder, self.upsets,
        )  # fmt: skip
        self.replacements = Replacements(self.entries, now, self.controls)
        self.steps = ClockSteps(self.entries, self.monitor, self.planner, self.backlog)
        self.tick_loop = TickLoop(
            self.holds, now, self.queue, self.monitor, self.notifier, self.watchdog, self.recorder, self.runner,
            self.backlog, self.planner, self.controls, self.overload,
        )  # fmt: skip
        # A clock of tests may stand still, or jump: no thread can sleep by it.
        watching = settings.watch_loop and clock.steady is steady_us
        self.watch = LoopWatch(self.queue, self.entries, now, enabled=watching)
        # The calls from a lower part to a higher one, all of them.
        self.queue.wake = self.tick_loop.wake
        self.recorder.on_idle = self.backlog.start_soon
        self.recorder.on_forgotten = self.replacements.on_forgotten
        self.recorder.failures.on_limit = self.controls.pause_after_failures
        self.planner.on_over = self.controls.remove_if_over
        self.monitor.on_step = self.steps.apply
        self.monitor.running_at = self.running_at
        self.monitor.place = self.watch.take

    @property
    def instance(self) -> str:
        """Identity of the scheduler, for the records."""
        return self.notifier.instance

    @property
    def offset(self) -> int:
        """Wall clock minus steady clock, in microseconds."""
        return self.monitor.offset

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop in which runs start; None while the engine is closed."""
        return self.queue.loop

    @property
    def started(self) -> bool:
        """Whether ticks come due: from ``open()`` to ``halt()``."""
        return self.queue.started

    # --- start and stop ---

    def open(self, loop: asyncio.AbstractEventLoop, spawn: TaskFactory) -> None:
        """Let ticks come due from now on. Every task is planned anew; runs get copies of the caller's context."""
        context = copy_context()
        self.queue.open(loop, context)
        self.runner.open(loop, spawn, context)
        self.watch.open(loop)
        self.recorder.expectations.open(loop)
        self._thread = threading.current_thread()
        now = self.now()
        self.steps.shift_runs(self.monitor.open(now))
        self.upsets.end(UpsetKind.STOPPED, now + self.offset)
        first_ticks: dict[int, tuple[Found, bool]] = {}  # By spec: equal tasks share one, and have the same first tick.
        for entry in list(self.entries.values()):  # A removed one goes if its run ended with its loop.
            first = first_ticks.get(id(entry.spec))
            if first is None and not entry.flags & CLUSTER:
                timeline = entry.host.timeline(entry, entry.spec)
                first = first_ticks[id(entry.spec)] = policy.first_tick(timeline, now)
            if first is not None and first[0].tick < now:  # It has passed, and may have run before the last stop().
                timeline = entry.host.timeline(entry, entry.spec)
                first = policy.first_tick(timeline, now, self.controls.handled_until(entry))
            self._begin(entry, first, now)
        self.queue.arm()

    def add(self, entry: TaskEntry) -> None:
        """Add a task."""
        if entry.spec.computed_ticks:
            entry.flags |= COMPUTED_TICKS
        if not self.started:
            self.entries[entry.name] = entry
            return
        now = self.now()
        self.monitor.check_wall_clock(now)
        self.entries[entry.name] = entry
        is_local = not entry.flags & CLUSTER
        first = policy.first_tick(entry.host.timeline(entry, entry.spec), now) if is_local else None
        self._begin(entry, first, now)
        self.queue.arm()

    def _begin(self, entry: TaskEntry, first: tuple[Found, bool] | None, now: int) -> None:
        """Plan the *first* tick of *entry*, and continue what was there before a stop: a run, a pause."""
        # A removed entry is here only because its run outlived stop(). It has no ticks.
        if first is not None and not entry.flags & (REMOVED | CLUSTER):
            found, beside_rule = first
            self.planner.plan_first(entry, found, beside_rule=beside_rule)
        if entry.pause is not None:
            self.controls.end_pause_in_time(entry)
        if entry.run is not None:
            self.watchdog.resume(entry, now)

    def halt(self) -> None:
        """Let no more ticks come due. Those that are due are skipped, with the reason for it."""
        self.queue.halt()
        self.watch.halt()
        self.recorder.expectations.halt()
        now = self.now()
        self.upsets.begin(UpsetKind.STOPPED, now + self.offset)
        for entry in list(self.entries.values()):  # A listener may register or remove tasks.
            is_due = (
                entry.due <= now
                and not entry.flags & REMOVED
                and entry.host.timeline(entry, entry.spec).due(entry.due) <= now
            )
            if entry.flags & QUEUED or is_due:
                self.backlog.skip_due(entry, Reason.SHUTDOWN, now)
                self.backlog.skip_requested(entry, Reason.SHUTDOWN, now)
            entry.flags &= ~(EXTRA_FIRST_TICK | RELEASED)
            if entry.seq and entry.due >= NEVER:
                entry.due = now  # Not over: its trigger was to be asked again.
            entry.seq = entry.alarm = entry.lift = 0
        self.queue.clear()
        self.planner.parked.clear()
        self.overload.close_all(now)

    def close(self) -> None:
        """Release everything that belongs to the loop."""
        self.queue.close()
        self.runner.close()
        self.watch.close()

    def reset_after_fork(self) -> None:
        """Become another instance, in a forked process: the runs in progress are those of the parent."""
        if self.queue.started:
            self.upsets.begin(UpsetKind.STOPPED, self.now() + self.offset)
        self.queue.started = False
        self.notifier.instance = random_identity()
        self.threads.forget()
        self.watch.forget()
        self.recorder.expectations.halt()
        self.close()
        self.queue.clear()
        self.planner.parked.clear()
        self.overload.forget()
        self.holds.clear()
        for entry in [each for each in self.entries.values() if each.flags & REMOVED]:
            self.recorder.forget(entry)  # It was there for its run only.
        for entry in self.entries.values():
            entry.flags &= ~(HELD | QUEUED | HAS_WAITERS | EXTRA_FIRST_TICK | RELEASED | HUNG)
            entry.seq = entry.alarm = entry.lift = 0
            entry.run = entry.waiting = entry.backlog = entry.requested = entry.waiters = entry.holds = None
            if entry.pause is not None:  # The operator paused the task, not the run of one process.
                self.controls.hold(entry, entry.pause)

    # --- questions ---

    def has(self, entry: TaskEntry) -> bool:
        """Return whether *entry* is one of the tasks, and not removed."""
        return self.entries.get(entry.name) is entry and not entry.flags & REMOVED

    def is_own(self, run: ActiveRun) -> bool:
        """Return whether *run* is one of this scheduler's."""
        return self.entries.get(run.entry.name) is run.entry

    def is_running(self, entry: TaskEntry) -> bool:
        """Return whether *entry* has a run in progress; this may be asked in any thread."""
        loop = self.loop
        if threading.get_ident() == self._thread.ident if loop is None else self._is_inside(loop):
            return self.watchdog.active_run(entry) is not None
        return self.watchdog.is_active(entry)

    def loop_lag(self) -> LoopLag | None:
        """Return how late the loop was in the last minute, and is; None if nothing was due. Safe in any thread."""
        return self.monitor.lag.report(self.now(), *self.watch.owed())

    def running_at(self, moment: int) -> list[str]:
        """Return the tasks of which a run in the loop began before the steady *moment* and was in progress then."""
        entries = islice(self.entries.values(), MOST_SEARCHED)
        return [entry.name for entry in entries if not entry.spec.threaded and ledger.was_running_at(entry, moment)]

    def check_loop(
        self, call: str, coroutine: str | None = None, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Refuse a *call* outside the loop of this scheduler: nothing in it is made for that, and futures would hang.

        Args:
            coroutine: If the call is awaited, the coroutine that should run in the loop instead.
            loop: The loop, if the engine may be closed.

        Raises:
            WrongThread: This is another thread, or another loop.
        """
        loop = loop or self.loop
        if loop is not None and not self._is_inside(loop):
            is_own_thread = threading.get_ident() == self._thread.ident
            here = "another event loop of this thread" if is_own_thread else f"thread {_thread_name()!r}"
            raise WrongThread(call, here, f"the event loop of thread {self._thread.name!r}", coroutine)

    def _is_inside(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether the caller cannot get in the way of *loop*: it is in its thread, and in no other loop."""
        is_own_thread = threading.get_ident() == self._thread.ident
        return loop.is_closed() or (is_own_thread and asyncio._get_running_loop() in (loop, None))

    def subscribe(
        self, listener: Listener, outcomes: frozenset[Outcome] | None, tasks: frozenset[str] | None
    ) -> Subscription:
        """Call *listener* with Runs from now on: those with one of the *outcomes*, of *tasks*."""
        self.check_loop("scheduler.subscribe")
        subscription = Subscription(listener, outcomes, tasks, self.now, self._unsubscribe)
        self.recorder.subscribe(subscription)
        return subscription

    def subscribe_overdue(self, listener: OverdueListener, tasks: frozenset[str] | None) -> Subscription:
        """Call *listener* from now on when one of *tasks* is overdue, and when it is not so any more."""
        self.check_loop("scheduler.subscribe_overdue")
        subscription = Subscription(listener, None, tasks, self.now, self._unsubscribe, overdue=True)
        self.recorder.subscribe(subscription)
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        self.check_loop("unsubscribe")
        self.notifier.unsubscribe(subscription)

    def end_of_run(self, entry: TaskEntry, call: str, coroutine: str) -> asyncio.Future[Run]:
        """Return a future for the Run in progress.

        Raises:
            WrongThread: It is in progress in another loop, where it may have outlived ``stop()``.
        """
        if entry.run is not None and entry.run.task is not None:
            self.check_loop(call, coroutine, entry.run.task.get_loop())
        end: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self.recorder.add_waiter(entry, end)
        return end


def _thread_name() -> str:
    return threading.current_thread().name
