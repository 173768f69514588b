"""Runs an application as a program: until a signal comes, with an exit status that tells how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from ._functions import is_async
from ._keeper import GRACE_S, log
from ._life import cut_left
from ._signals import Signals
from ._words import stack_of
from .app import Application
from .errors import InvalidArgument, KaijuError, WrongState
from .scheduler import ScheduledTask
from .service import ServiceState

SHORT_S = 1.0  # Threads that have nothing to do, and tasks that want to end, are gone long before.


def run_app(
    app: Application, *, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> None:
    """Run *app* until SIGINT or SIGTERM, which end it in order, during its start too; a second one cuts that short.

    A task or service may end it as well: ``await self.app.stop()``. The same signal within a tenth of a second is taken
    for an echo. Where the loop does not turn for half a second, a third signal goes to the handlers that were there
    before, so that Ctrl-C is not without effect on a program that is blocked.

    Return if it ended in order; otherwise the exit status tells: 1, it could not start, or something did not end as
    it should, of which the log told; 128 + n, cut short by a second signal, of number n. Where threads hang, for
    which Python would wait, the second signal kills the process, which shells report as the same status.

    Args:
        app: An application that is not started.
        loop_factory: Makes the event loop, e.g. ``uvloop.new_event_loop``.

    Raises:
        SystemExit: It did not end in order; or a service or task raised it.
        InvalidArgument: *app* is no Application.
        WrongState: A loop is running in this thread.
    """
    if not isinstance(app, Application):
        raise InvalidArgument("app", app, "must be an Application")
    if asyncio._get_running_loop() is not None:
        raise WrongState("run_app() makes a loop of its own, and one is running here: use `async with app:` inside it")
    program = _Program(app, loop_factory())
    with contextlib.closing(program.loop):
        program.run()
    if program.threads_left and program.signals.received:
        _die(program.signals.received[-1])
    if program.is_cut:
        raise SystemExit(128 + program.signals.received[-1])
    if program.fatal is not None:
        raise program.fatal
    if program.failed or (app._course is not None and app._course.problems):
        raise SystemExit(1)


class _Program:
    """One run of an application in a loop of its own."""

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.loop = loop
        self.signals = Signals(loop, self._on_signal)
        self.fatal: BaseException | None = None
        self.failed = False
        self.threads_left = False
        self._current: asyncio.Task[None] | None = None

    def run(self) -> None:
        with self.signals:
            try:
                self._complete(self._serve())
            finally:
                self._complete(self._clear_up())

    def _complete(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run *coro* to its end, whatever is thrown at the loop meanwhile."""
        self._current = task = self.loop.create_task(coro)
        while not task.done():
            try:
                self.loop.run_until_complete(task)
            except asyncio.CancelledError:
                pass  # Signals do that.
            except (KeyboardInterrupt, SystemExit) as exc:  # From a task: as everywhere in asyncio, it ends the loop.
                self.fatal = self.fatal or exc
                task.cancel()

    def _on_signal(self, count: int, number: signal.Signals) -> None:
        if count == 1:
            log.info("application %r: %s, so it ends in order; once more cuts that short", self.app.name, number.name)
            if self.app.state is ServiceState.CLOSING:
                return
        else:
            log.warning("application %r: %s again: cancelling what it waits for", self.app.name, number.name)
            # Not by cancelling alone: two cancellations before the task has seen the first are one for asyncio.
            if self.app._course is not None:
                self.app._course.hurried = True
        if self._current is not None:
            self._current.cancel()

    async def _serve(self) -> None:
        try:
            async with self.app:
                await self.app.wait_closed()  # Until a signal cancels this, or somebody stops it.
        except KaijuError as exc:
            self.failed = True
            log.critical("%s", exc, exc_info=exc.__cause__)

    async def _clear_up(self) -> None:
        """End what the application left behind, as asyncio.run() does; but do not wait for ever."""
        for step in (self._end_runs, self._end_tasks, self._end_generators, self._end_threads):
            with contextlib.suppress(asyncio.CancelledError):  # A signal, which cuts short this step only.
                await step()

    async def _end_runs(self) -> None:
        """Let a run that has stopped the application come to its end, and its store hear of that."""
        driver = self.app.scheduler._driver
        ends = []
        for entry in list(driver.entries.values()):
            run = driver.alive(entry)
            if run is not None and run.cause is None:
                ends.append(self.loop.create_future())
                driver.watch(entry, ends[-1])
        if ends and not self.is_cut:
            await asyncio.wait(ends, timeout=SHORT_S)
            await self.app.scheduler.stop(SHORT_S)

    async def _end_tasks(self) -> None:
        cut_left(self.app.scheduler._driver)
        threads = {task.name for task in self._threads()}  # A run that waits for its thread cannot end before it.
        left = {task for task in asyncio.all_tasks() if task is not self._current and task.get_name() not in threads}
        fresh = {task for task in left if not task.cancelling()}  # The others had their grace, and were told about.
        for task in fresh:
            task.cancel()
        try:
            if left:
                ended, left = await asyncio.wait(left, timeout=SHORT_S if self.is_cut or not fresh else GRACE_S)
                for task in ended:
                    if not task.cancelled() and task.exception() is not None:
                        self.loop.call_exception_handler(
                            {"message": "unhandled exception at the end", "exception": task.exception(), "task": task}
                        )
        finally:
            for task in left:
                if task in fresh and not task.done():
                    self.failed = True
                    log.error("%s does not give way and is left behind; it is at:%s", task.get_name(), stack_of(task))
                _say_no_more(task)

    async def _end_generators(self) -> None:
        closing = asyncio.create_task(self.loop.shutdown_asyncgens())
        try:
            await asyncio.wait([closing], timeout=SHORT_S if self.is_cut else GRACE_S)
        finally:
            if not closing.done():
                self.failed = True
                log.error("an asynchronous generator does not close, and is left behind")
                _say_no_more(closing)

    async def _end_threads(self) -> None:
        """Wait for threads, as Python itself would, but here a signal can end that."""
        running = self._threads()
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.loop.shutdown_default_executor())]
        waits += [asyncio.create_task(task.wait()) for task in running]
        pending: Collection[asyncio.Task[Any]] = waits
        try:
            _, pending = await asyncio.wait(waits, timeout=SHORT_S)
            if pending and not self.is_cut:
                names = ", ".join(repr(task.name) for task in running) or "of asyncio.to_thread()"
                log.warning(
                    "application %r: waiting for threads (%s), which nobody can stop; a signal kills the process",
                    self.app.name, names,
                )  # fmt: skip
                _, pending = await asyncio.wait(waits)
        finally:
            self.threads_left = bool(pending)

    def _threads(self) -> list[ScheduledTask[Any]]:
        """Return the tasks of which a run is left in a thread."""
        return [task for task in self.app.scheduler.tasks.values() if task.running and not is_async(task.method)]

    @property
    def is_cut(self) -> bool:
        """Whether a second signal came."""
        return len(self.signals.received) > 1


def _say_no_more(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining about *task* when the loop is closed: that has been done."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _die(number: signal.Signals) -> None:
    """End the process by the signal: Python would wait for its threads."""
    log.warning("killed by %s: there are threads that do not end", number.name)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
