"""One run: the attempts, the cause that cut it, the outcome. The one place where user code is called and caught."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from . import _decide
from ._claims import Claim
from ._entry import Entry
from ._grid import Grid
from ._model import Kind, Outcome, Reason, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

running: ContextVar[Running | None] = ContextVar("kaiju_app_run", default=None)


class Host(Protocol):
    """What a run needs of whoever started it."""

    offset: int

    def now(self) -> int: ...
    def grid(self, entry: Entry, spec: Spec) -> Grid: ...
    def pool(self) -> Executor: ...
    def cut(self, run: Running, cause: Reason) -> None: ...
    def succeeded(self, run: Running, result: Any) -> None: ...
    def ended(self, run: Running, outcome: Outcome, reason: Reason | None, exc: BaseException | None) -> None: ...


class Running:
    """A run in progress.

    Attributes:
        spec: The parameters when it started: rescheduling does not touch it.
        started: When it began; until it does, when it was meant to.
        tick: The tick that it is for; of a manual run, when it was asked for.
        due: When that was due: later by its jitter.
        grid: A tick of the rule, if ``tick`` is none; CANCEL's next ticks are counted from here.
        past: Until when ticks do not replace it, if that is not ``due``: the clock was set back.
        cause: Why it was asked to end: whoever cuts a run says so first. None: nobody did.
        told: What ``task.cancel()`` was given.
        final: No attempt may follow the one that is going on.
        wake: Ends the retry pause, while there is one.
        job: The thread's part, while there is one.
        context: What its threads run in.
        claim: By whose leave it runs, if several instances share its task.
        lost: Set when that is over.
    """

    # What few runs need is a class attribute until it is set: a run is made for every tick.
    grid: int | None = None
    past: int | None = None
    told: str | None = None
    final = False
    wake: Callable[[], None] | None = None
    job: Future[Any] | None = None
    context: Context | None = None
    claim: Claim | None = None
    lost: asyncio.Event | None = None

    def __init__(self, entry: Entry, due: int, started: int) -> None:
        self.entry = entry
        self.spec = entry.spec
        self.tick = self.due = due
        self.started = started
        self.kind = Kind.LIVE
        self.attempt = 0
        self.cause: Reason | None = None
        self.task: asyncio.Task[None] | None = None

    def deadline(self) -> tuple[int, Reason] | None:
        """Return when this run is cut, and why; None: never."""
        tick = self.tick if self.grid is None else self.grid
        grid = self.entry.host.grid(self.entry, self.spec)
        past = self.due if self.past is None else self.past
        return _decide.deadline(grid, self.kind, tick, past, self.started)

    def is_lost(self) -> bool:
        """Return whether another instance may run the tick by now; safe in any thread."""
        claim = self.claim
        return claim is not None and (claim.lost or self.entry.host.now() >= claim.deadline)

    def cut(self, cause: Reason, told: str | None = None) -> None:
        """Ask the run to end. The first cause stands."""
        if self.cause is not None:
            return
        self.cause = cause
        self.told = told
        if self.wake is not None:
            self.wake()
        elif self.job is not None:
            self.job.cancel()  # Has an effect only if no thread has taken it yet: a thread cannot be stopped.
        elif self.attempt and self.task is not None:
            self.task.cancel()
        # Otherwise it has not begun: execute() looks at the cause before it calls the function.

    def finish_up(self, cause: Reason) -> None:
        """Let the attempt in progress end by itself, and let none follow; a retry pause is cut."""
        self.final = True
        if self.wake is not None:
            self.cut(cause)


async def execute(run: Running) -> None:
    """Call the function of *run*, again if need be, and tell the host how it ended."""
    running.set(run)
    entry = run.entry
    host = entry.host
    run.started = host.now()
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
            result = await (_in_thread(run) if spec.threaded else entry.func(*entry.args, **entry.kws))
        except BaseException as exc:  # A task's bug must not stop the scheduler.
            if isinstance(exc, GeneratorExit) and asyncio._get_running_loop() is None:
                raise  # Its loop is gone, and the garbage collector after it: no ending, and nobody to be told.
            failure = exc
            pause = _pause_before_retry(run, exc)
            if not pause:
                break
        else:
            if run.cause is not None:
                break  # type: ignore[unreachable]  # Somebody cut it meanwhile: mypy does not see past the await.
            host.succeeded(run, result)
            return
    try:
        host.ended(run, *ending(run.cause, failure), failure)
        if isinstance(failure, KeyboardInterrupt | SystemExit):
            raise failure
    finally:
        failure = None  # Its traceback holds this frame: do not leave a cycle to the garbage collector.


def ending(cause: Reason | None, failure: BaseException | None) -> tuple[Outcome, Reason | None]:
    """Return how a run ended that did not succeed. The cause decides; the type of the exception only without one."""
    if cause is Reason.DEADLINE:
        return Outcome.TIMED_OUT, cause
    if cause is Reason.LEASE:
        return Outcome.LOST, cause
    if cause is not None:
        return Outcome.CANCELLED, cause
    if isinstance(failure, asyncio.CancelledError):
        return Outcome.CANCELLED, Reason.WITHIN
    return Outcome.FAILED, None


def _pause_before_retry(run: Running, exc: BaseException) -> int:
    """Return the microseconds to wait before the next attempt; 0: there is none."""
    if run.cause is not None or run.final or not isinstance(exc, run.spec.retry_on):
        return 0
    now = run.entry.host.now()
    end = run.deadline()
    at = _decide.retry_at(run.spec, run.attempt, now, None if end is None else end[0])
    return 0 if at is None else max(1, at - now)


async def _sleep(run: Running, pause: int) -> None:
    """Wait for *pause* microseconds or until the run is cut."""
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


async def _in_thread(run: Running) -> Any:
    """Call a plain function in the pool; await in the loop what it returns, if that can be awaited."""
    entry = run.entry
    if run.context is None:
        # A copy: the loop could not step this asyncio task while a thread is inside its own context.
        run.context = copy_context()
    job = run.entry.host.pool().submit(run.context.run, partial(entry.func, *entry.args, **entry.kws))
    over = asyncio.wrap_future(job)
    run.job = job
    try:
        while not over.done():
            try:
                await asyncio.wait([over])
            except asyncio.CancelledError:
                # Somebody cancelled the asyncio task. The thread goes on, so the run does: no second copy may start.
                run.entry.host.cut(run, Reason.WITHIN)
        result = over.result()
    finally:
        run.job = None
        del job, over  # They hold the exception, whose traceback holds this frame.
    if not inspect.isawaitable(result):
        return result
    if run.cause is None:
        return await result
    if inspect.iscoroutine(result):
        result.close()  # It is too late to begin it.
    return None


def current_running(entry: Entry) -> Running | None:
    """Return the run in progress of *entry* if the caller is inside it, child tasks included."""
    run = current_caller()
    return run if run is not None and run.entry is entry else None


def current_caller() -> Running | None:
    """Return the run, still in progress, that the caller is inside of, whichever task it is of; None: of none."""
    run = running.get()
    return run if run is not None and run is run.entry.run else None
