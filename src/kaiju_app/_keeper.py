"""Runs what a service does, phase after phase, within limits that hold even if it does not give way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass

from ._words import described, stack_of

log = logging.getLogger("kaiju_app.app")

GRACE_S = 5.0  # For what was cancelled to clean up; as long as the scheduler gives a run.

PROMPT_S = 0.1  # For what was cancelled and gives way at once, when nobody has patience for more.

SLOW_S = 1.0  # After this somebody who waits for the end asks what it waits for.

HURRY_S = 3.0  # For each service that is still to be closed when somebody has no patience any more.

PREFIX = "kaiju_app: "  # Of the names of asyncio tasks made here.

Phase = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a phase ended.

    Args:
        error: What it raised.
        late: It was cancelled, because its time was over.
        cut: It was cancelled, because the caller was.
        left: It was cancelled and goes on all the same.
        stack: Where it was when its time was over.
    """

    error: BaseException | None = None
    late: bool = False
    cut: bool = False
    left: bool = False
    stack: str = ""

    @property
    def fine(self) -> bool:
        """Whether it did what it had to do, in time."""
        return self.error is None and not (self.late or self.cut or self.left)


@dataclass(slots=True)
class _Order:
    """A phase to be run, and the ending that somebody waits for; None: it was never begun."""

    phase: Phase
    done: asyncio.Future[Ending | None]


class Keeper:
    """Runs phases one after the other, in one task of their own.

    One task for all of them, so that the task group, cancel scope or context variable that one phase enters can be left
    by another one. Not the caller's, so that a phase that swallows its cancellation can be left behind.

    Args:
        name: Whose phases these are, for the log and the debugger.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = copy_context()  # One for all phases, even if they come to be in several tasks.
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[_Order | None] | None = None  # What the task waits for when it has nothing to do.

    async def run(self, phase: Phase, limit_s: float | None, *, owed: bool = False) -> Ending:
        """Run *phase* and return how it ended; one that does not give way within the grace is left behind.

        Cancelling the caller cancels the phase. That is not raised here but told, for there may be more to do: the
        caller has to raise it.

        Args:
            phase: Called without arguments, awaited.
            limit_s: Seconds it may take; None: no limit.
            owed: It has to be begun, even if the caller is cancelled before that.
        """
        loop = asyncio.get_running_loop()
        end = None if limit_s is None else loop.time() + limit_s
        cut = False
        while True:
            task, done = self._begin(phase)
            late = False
            stack = ""
            try:
                if owed:
                    await self._announce(done, limit_s)
                await asyncio.wait([done], timeout=None if end is None else max(0.0, end - loop.time()))
                late = not done.done()
            except asyncio.CancelledError:
                cut = True
            if not done.done():
                stack = stack_of(task)
                # Behind its first step: it is to be begun, and then cancelled.
                loop.call_soon(_cancel, task, done)
                cut |= await _give_way(done)
            if not done.done():
                done.cancel()
                return Ending(None, late, cut, True, stack_of(task))
            ending = done.result()
            if ending is not None:
                return Ending(ending.error, late, cut, False, stack)
            # Somebody cancelled all tasks: this one too, before it could begin. That was not meant for the phase.
            if (late or cut) and not owed:
                return Ending(asyncio.CancelledError(), late, cut)
            if cut:
                end = loop.time() + HURRY_S

    async def _announce(self, done: asyncio.Future[Ending | None], limit_s: float | None) -> None:
        """Say what everybody waits for, if it takes longer than a moment."""
        if limit_s is not None and limit_s <= SLOW_S:
            return
        await asyncio.wait([done], timeout=SLOW_S)
        if not done.done():
            limit = "no limit" if limit_s is None else f"{limit_s:g} s"
            log.info("%s: still ending after %g s, has %s", self._name, SLOW_S, limit)

    def dismiss(self) -> None:
        """End the task: there are no more phases."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    def context(self) -> Context:
        """Return a copy of the context of the phases."""
        return self._context.copy()

    def owns(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether *task* is the one in which phases run."""
        return task is not None and task is self._task

    def _begin(self, phase: Phase) -> tuple[asyncio.Task[None], asyncio.Future[Ending | None]]:
        loop = asyncio.get_running_loop()
        order = _Order(phase, loop.create_future())
        # Whoever cancels all tasks, or closes the loop, ends this one too: what is left to do falls to a new one.
        task, idle = self._task, self._next
        if task is None or task.done() or task.get_loop() is not loop or idle is None or idle.done():
            self._task = task = loop.create_task(self._live(order), name=PREFIX + self._name, context=self._context)
        else:
            idle.set_result(order)
        task.add_done_callback(lambda _: _not_begun(order))
        return task, order.done

    async def _live(self, order: _Order | None) -> None:
        me = asyncio.current_task()
        while order is not None:
            self._next = None
            ending = await self._end(order.phase)
            if order.done.cancelled():
                log.warning(
                    "%s: what was given up has ended after all%s",
                    self._name, f": {described(ending.error)}" if ending.error else "",
                )  # fmt: skip
                return
            order.done.set_result(ending)
            del ending, order
            order = await self._another()
            while me is not None and me.cancelling():
                me.uncancel()  # What was cancelled is over; the next phase begins afresh.

    async def _another(self) -> _Order | None:
        """Wait for the next phase."""
        idle: asyncio.Future[_Order | None] = asyncio.get_running_loop().create_future()
        self._next = idle
        try:
            return await idle
        except asyncio.CancelledError:
            # Not ignored: who ends the loop without a stop waits for this task. The next phase gets another one.
            log.warning(
                "%s: its task was cancelled between init() and close(), as by a task group entered in init() of which "
                "a child failed, or by somebody who cancels all tasks; close() will run in another task",
                self._name,
            )
            raise

    @staticmethod
    async def _end(phase: Phase) -> Ending:
        try:
            await phase()
        except BaseException as exc:  # Whatever it is, the caller decides; a cancellation is one of this phase only.
            return Ending(exc)
        return Ending()


def _not_begun(order: _Order) -> None:
    """Tell who waits for it that the task is gone, and the phase was never begun."""
    if not order.done.done():
        order.done.set_result(None)


def _cancel(task: asyncio.Task[None], done: asyncio.Future[Ending | None]) -> None:
    if not done.done():
        task.cancel()


async def _give_way(done: asyncio.Future[Ending | None]) -> bool:
    """Wait for *done* for as long as the grace is; return whether the caller was cancelled, which makes it short."""
    loop = asyncio.get_running_loop()
    end = loop.time() + GRACE_S
    cut = False
    while not done.done() and loop.time() < end:
        try:
            await asyncio.wait([done], timeout=end - loop.time())
        except asyncio.CancelledError:
            cut = True
            end = min(end, loop.time() + PROMPT_S)
    return cut
