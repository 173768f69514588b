"""Executes runs: start, attempts, outcome. The one place where user code is called and its exceptions caught."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from typing import Any

from kaiju_app._core.exceptions import is_a, other_than
from kaiju_app._core.model import Outcome, Reason, Run
from kaiju_app._core.unbegun import SUSPECT, check_result
from kaiju_app.errors import WrongState

from . import policy
from .entry import COMPUTED_TICKS, ActiveRun, TaskEntry, is_cut, outcome_of
from .loop_end import LoopEnd
from .recorder import Recorder
from .run_context import STRUCTLOG, bind_fields
from .spawn import TaskFactory
from .spec import LIVE, MANUAL, Kind
from .starts import Starts
from .threads import Threads
from .watchdog import Watchdog

current: ContextVar[ActiveRun | None] = ContextVar("kaiju_app_run", default=None)
"""The run that the running code is part of. That run may be over: see ``enclosing_run()``."""

home: ContextVar[asyncio.AbstractEventLoop] = ContextVar("kaiju_app_loop")
"""The loop of the scheduler whose run the running code is part of."""

modules = sys.modules
EXITS = (KeyboardInterrupt, SystemExit)  # They end the program.


class Runner:
    """Starts and executes the runs of one scheduler."""

    def __init__(
        self, recorder: Recorder, watchdog: Watchdog, threads: Threads, loop_end: LoopEnd, starts: Starts
    ) -> None:
        self._recorder = recorder
        self._starts = starts
        self._watchdog = watchdog
        self._threads = threads
        self._loop_end = loop_end
        self._context = Context()
        self._spawn: TaskFactory = _refuse

    def open(self, loop: asyncio.AbstractEventLoop, spawn: TaskFactory, context: Context) -> None:
        """Start runs in *loop* from now on by *spawn*, each in a copy of *context*."""
        context.run(home.set, loop)
        self._loop_end.reset()
        self._spawn = spawn
        self._context = context

    def close(self) -> None:
        """Release everything that belongs to the loop."""
        self._spawn = _refuse
        self._context = Context()
        self._threads.close()

    def start(
        self,
        entry: TaskEntry,
        tick: int,
        now: int,
        kind: Kind = LIVE,
        base_tick: int | None = None,
        requested: asyncio.Future[Run] | None = None,
        gap: int | None = None,
        due: int | None = None,
    ) -> None:
        """Start a run of *entry*, which is idle.

        Args:
            tick: What it runs.
            kind: Where *tick* comes from.
            base_tick: Any tick of the rule. It may be omitted only if *tick* is one, in time, of a plain interval.
            requested: Receives the Run.
            gap: Microseconds from *tick* to the next tick of the rule; None if that is not known.
            due: When *tick* is due; None if that is to be computed.
        """
        run = ActiveRun(entry, tick, now)
        if kind is not LIVE:
            run.kind = kind
        if base_tick is not None:
            run.base_tick = base_tick
            if entry.flags & COMPUTED_TICKS:
                _adopt_tick_limits(run, gap, due)
        if requested is not None:
            run.asked_in = getattr(requested, "asked_in", None)
            self._recorder.add_waiter(entry, requested)
        self.begin(run)
        if entry.run is run:  # An eager one may have ended already.
            if requested is not None and run.task is not None:
                run.task.add_done_callback(lambda _: self._watchdog.active_run(entry))
            if base_tick is not None:
                self._watchdog.watch_deadline(entry)

    def begin(self, run: ActiveRun) -> None:
        """Begin *run*, whose entry is idle. If its tick is not one, in time, of a plain interval, use ``start()``."""
        entry = run.entry
        entry.run = run
        coro = self._execute(run)
        try:
            task = self._spawn(coro, entry.name, self._context.copy())
        except BaseException as exc:
            _on_no_task(run, coro, exc)
            return
        if entry.run is run:  # An eager one may have ended already.
            run.task = task
            if run.cause is not None and run.attempt:  # Cancelled in its first step, before its task was known.
                task.cancel()
            if run.spec.limit_before_next:
                self._watchdog.watch_deadline(entry)

    async def _execute(self, run: ActiveRun) -> None:
        """Call the function of *run*, with retries, and report to the host how the run ended."""
        current.set(run)
        entry = run.entry
        host = entry.host
        run.started = host.now()
        if self._starts.listeners:
            self._starts.tell(run)
        spec = run.spec
        pause = 0
        failure: BaseException | None = None
        while True:
            try:
                if pause:
                    await _sleep(run, pause)
                if run.cause is not None:
                    break
                run.attempt += 1
                if STRUCTLOG in modules:
                    bind_fields(run)
                if spec.threaded:
                    result = await self._threads.call(run)
                elif entry.args or entry.kws:
                    result = await entry.func(*entry.args, **entry.kws)
                else:  # As before, without a dict for the call.
                    result = await entry.func()
                if result is not None and type(result) in SUSPECT:
                    check_result(result)
            except BaseException as exc:  # A bug in a task must not stop the scheduler.
                if is_a(exc, GeneratorExit) and asyncio._get_running_loop() is None:
                    raise  # The loop is gone and this coroutine is garbage: there is no ending and nobody to tell.
                failure = exc
                if run.cause is None and is_a(exc, asyncio.CancelledError):
                    cause = self._loop_end.why_cancelled()
                    run.cause = cause if cause is Reason.SHUTDOWN else None
                # A coroutine gets its cancellation at any await; a thread has to ask, and may fail before it does.
                run.failed_by_itself = spec.threaded and run.cause is not None and not is_cut(exc)
                pause = _pause_before_retry(run, exc)
                if not pause:
                    break
            else:
                if run.cause is not None:  # It was asked to end, and has returned all the same.
                    entry.result = result  # type: ignore[unreachable]  # Asked during the await, as mypy cannot see.
                    host.ended(run, Outcome.SUCCEEDED, run.cause, None)
                else:
                    host.succeeded(run, result)
                return
        try:
            ending = (Outcome.FAILED, run.cause) if run.failed_by_itself else outcome_of(run.cause, failure)
            host.ended(run, *ending, failure)
            if failure is not None and is_a(failure, EXITS):
                raise failure
        finally:
            failure = None  # Its traceback holds this frame: do not leave a cycle to the garbage collector.


def _adopt_tick_limits(run: ActiveRun, gap: int | None, due: int | None) -> None:
    """Give *run* the due time and the limits of its own tick: they are not the same for all ticks of its task."""
    run.claim = run.entry.host.claim
    if run.spec.rule is not None:
        gap = run.entry.host.timeline(run.entry, run.spec).gap_around(run.tick) if gap is None else gap
        if gap != run.spec.gap:
            run.spec = policy.with_gap(run.spec, gap)
    if run.kind is not MANUAL:
        run.due = run.entry.host.timeline(run.entry, run.spec).due(run.tick) if due is None else due


def _on_no_task(run: ActiveRun, coro: Coroutine[Any, Any, None], exc: BaseException) -> None:
    """Record a run for which no asyncio task could be created; an eager one may have ended the program."""
    coro.close()
    if run.entry.run is run:
        run.entry.host.ended(run, Outcome.FAILED, None, exc)
    if is_a(exc, EXITS):
        raise exc


def _pause_before_retry(run: ActiveRun, exc: BaseException) -> int:
    """Return the microseconds to wait before the next attempt; 0 if there is none."""
    if run.cause is not None or run.final or other_than(run.spec.retry_on, exc) is not None:
        return 0
    host = run.entry.host
    now = host.now()
    end = run.deadline()
    timeline = host.timeline(run.entry, run.spec)
    at = policy.retry_at(timeline, run.tick, run.attempt, now, None if end is None else end[0])
    return 0 if at is None else max(1, at - now)


async def _sleep(run: ActiveRun, pause: int) -> None:
    """Wait for *pause* microseconds, or until the run is cancelled."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(pause / 1e6, end)
    run.wake = end
    try:
        await over
    finally:
        run.wake = None
        timer.cancel()


def _refuse(coro: Coroutine[Any, Any, None], name: str, context: Context) -> asyncio.Task[None]:
    coro.close()
    raise WrongState(f"task {name!r}: the scheduler is not started")


def enclosing_run() -> ActiveRun | None:
    """Return the run in progress, of any task, that the caller is part of; None if it is not part of one."""
    run = current.get()
    return run if run is not None and run is run.entry.run else None


def enclosing_run_of(entry: TaskEntry) -> ActiveRun | None:
    """Return the run in progress of *entry* if the caller is part of it, in child tasks too."""
    run = enclosing_run()
    return run if run is not None and run.entry is entry else None
