"""Runs what a service does, phase after phase, within limits that hold even if it does not give way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ._words import described, stack_of

log = logging.getLogger("kaiju_app.app")

GRACE_S = 5.0  # For what was cancelled to clean up; as long as the scheduler gives a run.

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


class Keeper:
    """Runs phases one after the other, in one task of their own.

    One task for all of them, so that the task group, cancel scope or context variable that one phase enters can be left
    by another one. Not the caller's, so that a phase that swallows its cancellation can be left behind.

    Args:
        name: Whose phases these are, for the log and the debugger.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[tuple[Phase, asyncio.Future[Ending]] | None] | None = None

    async def run(self, phase: Phase, limit_s: float | None) -> Ending:
        """Run *phase* and return how it ended; one that does not give way within the grace is left behind.

        Cancelling the caller cancels the phase. That is not raised here but told, for there may be more to do: the
        caller has to raise it.

        Args:
            phase: Called without arguments, awaited.
            limit_s: Seconds it may take; None: no limit.
        """
        task, done = self._begin(phase)
        late = cut = False
        stack = ""
        try:
            await asyncio.wait([done], timeout=limit_s)
            late = not done.done()
        except asyncio.CancelledError:
            cut = True
        if not done.done():
            stack = stack_of(task)
            task.cancel()
            try:
                await asyncio.wait([done], timeout=GRACE_S)
            except asyncio.CancelledError:
                cut = True  # Asked twice: no more patience.
        if not done.done():
            done.cancel()
            return Ending(None, late, cut, True, stack_of(task))
        return Ending(done.result().error, late, cut, False, stack)

    def dismiss(self) -> None:
        """End the task: there are no more phases."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    def owns(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether *task* is the one in which phases run."""
        return task is not None and task is self._task

    def _begin(self, phase: Phase) -> tuple[asyncio.Task[None], asyncio.Future[Ending]]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Ending] = loop.create_future()
        # Whoever cancels all tasks, or closes the loop, ends this one too: what is left to do falls to a new one.
        if self._task is None or self._next is None or self._next.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._live(phase, done), name=f"kaiju_app: {self._name}")
        else:
            self._next.set_result((phase, done))
        return self._task, done

    async def _live(self, phase: Phase, done: asyncio.Future[Ending]) -> None:
        mine = asyncio.current_task()
        while True:
            self._next = None
            ending = await self._end(phase)
            if done.cancelled():
                log.warning(
                    "%s: what was given up has ended after all%s",
                    self._name, f": {described(ending.error)}" if ending.error else "",
                )  # fmt: skip
                return
            done.set_result(ending)
            del ending
            while mine is not None and mine.cancelling():
                mine.uncancel()
            self._next = asyncio.get_running_loop().create_future()
            order = await self._next
            if order is None:
                return
            phase, done = order

    @staticmethod
    async def _end(phase: Phase) -> Ending:
        try:
            await phase()
        except BaseException as exc:  # Whatever it is, the caller decides; a cancellation is one of this phase only.
            return Ending(exc)
        return Ending()
