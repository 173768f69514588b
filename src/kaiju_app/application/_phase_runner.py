"""Runs the phases of a service one after the other, each with a time limit that holds even if the phase ignores it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, replace

from kaiju_app._core.logs import logger
from kaiju_app._core.text import describe_exception, stack_of

log = logger("kaiju_app.app")

GRACE_S = 5.0  # What a cancelled phase may take to clean up. The scheduler gives its runs as long.

PROMPT_S = 0.1  # What is left of the grace once the caller is cancelled: enough for a phase that ends at once.

SLOW_S = 1.0  # After this, a person who waits for the end wants to know what it waits for.

HURRY_S = 3.0  # What each service may take to close in a hurry.

PREFIX = "kaiju_app: "  # Of the names of asyncio tasks made here.

Phase = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """How a phase ended.

    Args:
        error: What it raised. None if it raised nothing.
        timed_out: It was cancelled because its time was over.
        cancelled: It was cancelled because the caller was.
        abandoned: It was cancelled and is still running.
        started: False if its task was cancelled before its first step.
        stack: Where it was when its time was over.
    """

    error: BaseException | None = None
    timed_out: bool = False
    cancelled: bool = False
    abandoned: bool = False
    started: bool = True
    stack: str = ""

    @property
    def ok(self) -> bool:
        """Whether it returned in time."""
        return self.error is None and not (self.timed_out or self.cancelled or self.abandoned)


NOT_STARTED = PhaseResult(asyncio.CancelledError(), started=False)


@dataclass(slots=True)
class _Request:
    """A phase to run, and the future of its result."""

    phase: Phase
    result: asyncio.Future[PhaseResult]


class PhaseRunner:
    """Runs phases one after the other in an asyncio task of their own.

    They share one task, so that one phase can enter a task group, cancel scope or context variable and another one can
    leave it. It is not the task of the caller, so that a phase that ignores its cancellation can be abandoned.

    Args:
        name: Whose phases these are, for the log and for the name of the task.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = copy_context()  # Shared by all phases, even if they have to run in several tasks.
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[_Request | None] | None = None  # Set while the task waits for the next request.

    async def run(self, phase: Phase, limit_s: float | None, *, must_start: bool = False) -> PhaseResult:
        """Run *phase* and return how it ended. If it is still running a grace after it was cancelled, abandon it.

        Cancelling the caller cancels the phase. This is reported in the result instead of raised, because the caller
        may have more to do; it has to raise CancelledError itself in the end.

        Args:
            phase: Called without arguments, and awaited.
            limit_s: Seconds that it may take. None if there is no limit.
            must_start: Start the phase even if the caller is cancelled first.
        """
        loop = asyncio.get_running_loop()
        deadline = None if limit_s is None else loop.time() + limit_s
        cancelled = False
        while True:
            result = await self._run_once(phase, limit_s, deadline, announce=must_start)
            cancelled = cancelled or result.cancelled
            if result.started or (not must_start and (result.timed_out or cancelled)):
                return replace(result, cancelled=cancelled)
            # A third party cancelled all tasks, this one before the phase had started. The phase gets a new task.
            if cancelled:
                deadline = loop.time() + HURRY_S

    async def _run_once(
        self, phase: Phase, limit_s: float | None, deadline: float | None, *, announce: bool
    ) -> PhaseResult:
        """Run *phase*, unless its task is cancelled before it starts; see ``run()``."""
        loop = asyncio.get_running_loop()
        task, result = self._request(phase)
        timed_out = cancelled = False
        try:
            if announce:
                await self._announce_if_slow(result, limit_s)
            await asyncio.wait([result], timeout=None if deadline is None else max(0.0, deadline - loop.time()))
            timed_out = not result.done()
        except asyncio.CancelledError:
            cancelled = True
        stack = ""
        if not result.done():
            stack = stack_of(task)
            loop.call_soon(_cancel, task, result)  # After the first step of a new task; else the phase never starts.
            cancelled_meanwhile = await _wait_for_grace(result)
            cancelled = cancelled or cancelled_meanwhile
        if not result.done():
            result.cancel()
            return PhaseResult(None, timed_out, cancelled, abandoned=True, stack=stack_of(task))
        return replace(result.result(), timed_out=timed_out, cancelled=cancelled, stack=stack)

    async def _announce_if_slow(self, result: asyncio.Future[PhaseResult], limit_s: float | None) -> None:
        if limit_s is not None and limit_s <= SLOW_S:
            return
        await asyncio.wait([result], timeout=SLOW_S)
        if not result.done():
            limit = "no limit" if limit_s is None else f"limit {limit_s:g} s"
            log.info("%s: still stopping after %g s (%s)", self._name, SLOW_S, limit)

    def dismiss(self) -> None:
        """End the task: there are no more phases."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def context(self) -> Context:
        """Return a copy of the context of the phases."""
        return self._context.copy()

    def owns(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether the phases run in *task*."""
        return task is not None and task is self._task

    def _request(self, phase: Phase) -> tuple[asyncio.Task[None], asyncio.Future[PhaseResult]]:
        """Hand *phase* to the task that waits for one, or to a new task if there is none; return task and result."""
        loop = asyncio.get_running_loop()
        request = _Request(phase, loop.create_future())
        task, idle = self._task, self._idle
        # The old task may be gone: whoever cancels all tasks, or closes the loop, ends it too.
        if task is None or task.done() or task.get_loop() is not loop or idle is None or idle.done():
            self._task = task = loop.create_task(self._serve(request), name=PREFIX + self._name, context=self._context)
        else:
            idle.set_result(request)
        task.add_done_callback(lambda _: _set_not_started(request.result))
        return task, request.result

    async def _serve(self, request: _Request | None) -> None:
        """Run the phases of *request* and of all that follow it."""
        me = asyncio.current_task()
        while request is not None:
            self._idle = None
            outcome = await _call(request.phase)
            if request.result.cancelled():
                error = f": {describe_exception(outcome.error)}" if outcome.error else ""
                log.warning("%s: an abandoned phase has ended%s", self._name, error)
                return
            request.result.set_result(outcome)
            del outcome, request  # Not kept alive while the task waits.
            request = await self._next_request()
            while me is not None and me.cancelling():
                me.uncancel()  # It was the last phase that was cancelled; the next one starts afresh.

    async def _next_request(self) -> _Request | None:
        idle: asyncio.Future[_Request | None] = asyncio.get_running_loop().create_future()
        self._idle = idle
        try:
            return await idle
        except asyncio.CancelledError:
            # Obeyed, because a program that ends its loop without a stop waits for this task. To close right here would
            # be too early: the scheduler, and the services that depend on this one, may still be running.
            log.warning(
                "%s: its task was cancelled between init() and close(), for example by a task group that init() "
                "entered, or because all tasks were cancelled; close() will run in a new task",
                self._name,
            )
            raise


async def _call(phase: Phase) -> PhaseResult:
    try:
        await phase()
    except BaseException as exc:  # The caller of run() decides about every kind; a cancellation was of this phase only.
        return PhaseResult(exc)
    return PhaseResult()


def _set_not_started(result: asyncio.Future[PhaseResult]) -> None:
    """Report that the task ended before it started the phase."""
    if not result.done():
        result.set_result(NOT_STARTED)


def _cancel(task: asyncio.Task[None], result: asyncio.Future[PhaseResult]) -> None:
    if not result.done():
        task.cancel()


async def _wait_for_grace(result: asyncio.Future[PhaseResult]) -> bool:
    """Wait for *result* until the grace is over. Return whether the caller was cancelled, which shortens the grace."""
    loop = asyncio.get_running_loop()
    end = loop.time() + GRACE_S
    cancelled = False
    while not result.done() and loop.time() < end:
        try:
            await asyncio.wait([result], timeout=end - loop.time())
        except asyncio.CancelledError:
            cancelled = True
            end = min(end, loop.time() + PROMPT_S)
    return cancelled
