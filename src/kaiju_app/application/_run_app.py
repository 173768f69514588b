"""Runs an application as a program: until a signal stops it, with an exit status that says how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from kaiju_app._core.callables import is_async
from kaiju_app._core.calls import explained
from kaiju_app._core.logs import for_log
from kaiju_app._core.text import stack_of
from kaiju_app._core.validate import function
from kaiju_app.errors import InvalidArgument, KaijuError, WrongState
from kaiju_app.scheduler import ScheduledTask
from kaiju_app.scheduler._hosting import cancel_runs, drop_reminder, watch_runs
from kaiju_app.scheduler._importing import check_may_start

from ._application import Application, lifecycle_of
from ._phase_runner import GRACE_S, log
from ._service import ServiceState
from ._signals import Signals

SHORT_S = 1.0  # Idle threads, and tasks that obey their cancellation, end long before.


@explained({})
def run_app(
    app: Application, *, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> None:
    """Run *app* until SIGINT or SIGTERM stops it, during its start, too. A second signal cuts the stop short.

    A task or service may stop the application as well: ``await self.app.stop()``. The same signal within a tenth of a
    second counts once. If the loop is blocked for half a second, a third signal goes to the handlers that were there
    before, so Ctrl-C works on a program that is blocked.

    Return if the application stopped cleanly. Otherwise the exit status is 1 if it failed to start or something did not
    stop cleanly, which is logged; or 128 + n if a second signal, of number n, cut the stop short. If threads are still
    running then, for which Python would wait, that signal kills the process; shells report the same status.

    Args:
        app: An application that is not started.
        loop_factory: Makes the event loop, e.g. ``uvloop.new_event_loop``.

    Raises:
        SystemExit: The application did not stop cleanly, or a service or task raised it.
        InvalidArgument: *app* is not an Application, or *loop_factory* cannot be called.
        WrongState: A loop is running in this thread.
    """
    if not isinstance(app, Application):
        raise InvalidArgument("app", app, "must be an Application")
    check_may_start("run_app()")
    function("loop_factory", loop_factory, "uvloop.new_event_loop")
    if _is_loop_running():
        raise WrongState(
            "run_app() makes an event loop of its own, but one is running here: use `async with app:` inside it"
        )
    program = _Program(app, loop_factory())
    with contextlib.closing(program.loop):
        program.run()
    received = program.signals.received
    if program.threads_left and received:
        _kill_process(received[-1])
    if program.is_cut_short:
        raise SystemExit(128 + received[-1])
    if program.fatal is not None:
        raise program.fatal
    lifecycle = lifecycle_of(app)
    if program.failed or (lifecycle is not None and lifecycle.problems):
        raise SystemExit(1)


class _Program:
    """One run of an application in an event loop of its own.

    It does by hand what asyncio.Runner does, because ``Runner.close()`` waits for ever for a task that ignores its
    cancellation, and ``Runner.run()`` cannot go on with the task that SystemExit from another one has interrupted.

    Attributes:
        fatal: The KeyboardInterrupt or SystemExit that a task raised. None if there was none.
        failed: Whether the start failed, or something that the application left behind did not end.
        threads_left: Whether threads are still running for which Python would wait.
    """

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.loop = loop
        self.signals = Signals(loop, self._on_signal)
        self.fatal: BaseException | None = None
        self.failed = False
        self.threads_left = False
        self._main_task: asyncio.Task[None] | None = None
        self._abandoned: set[asyncio.Task[Any]] = set()

    @property
    def is_cut_short(self) -> bool:
        """Whether a second signal came."""
        return len(self.signals.received) > 1

    def run(self) -> None:
        drop_reminder(self.app.scheduler)  # A signal may come before the start, and has said so.
        with self.signals:
            try:
                self._run_until_complete(self._serve())
            finally:
                self._run_until_complete(self._clean_up())

    def _run_until_complete(self, coro: Coroutine[Any, Any, None]) -> None:
        """Run *coro* until it is complete, whatever is raised in the loop meanwhile."""
        self._main_task = task = self.loop.create_task(coro)
        while not task.done():
            try:
                self.loop.run_until_complete(task)
            except asyncio.CancelledError:
                pass  # By a signal.
            except (KeyboardInterrupt, SystemExit) as exc:  # Raised in any task, they end run_until_complete().
                self.fatal = self.fatal or exc
                task.cancel()

    def _on_signal(self, count: int, number: signal.Signals) -> None:
        if count == 1:
            log.info("application %r: %s, stopping; a second signal cuts it short", self.app.name, number.name)
            if self.app.state is ServiceState.CLOSING:
                return
        else:
            log.warning("application %r: %s again, cancelling what the stop waits for", self.app.name, number.name)
            # A flag, too: asyncio merges two cancellations if the task has not run between them.
            lifecycle = lifecycle_of(self.app)
            if lifecycle is not None:
                lifecycle.in_a_hurry = True
        if self._main_task is not None:
            self._main_task.cancel()

    async def _serve(self) -> None:
        try:
            async with self.app:
                await self.app.wait_closed()  # Until a signal cancels this, or somebody stops the application.
        except KaijuError as exc:
            self.failed = True
            log.critical("%s", exc, exc_info=for_log(exc.__cause__))

    # --- what the application left behind ---

    async def _clean_up(self) -> None:
        """End what the application left behind, as asyncio.run() does, but with time limits."""
        for step in (self._end_runs, self._end_tasks, self._end_generators, self._end_threads):
            with contextlib.suppress(asyncio.CancelledError):  # A signal cuts short one step only.
                await step()

    async def _end_runs(self) -> None:
        """Let a run that has stopped the application finish, and its store record that."""
        ends = watch_runs(self.app.scheduler, self.loop)
        if ends and not self.is_cut_short:
            await asyncio.wait(ends, timeout=SHORT_S)
            await self.app.scheduler.stop(SHORT_S)

    async def _end_tasks(self) -> None:
        cancel_runs(self.app.scheduler)
        in_thread = {task.name for task in self._tasks_in_threads()}  # They cannot end before their threads.
        tasks = {
            task for task in asyncio.all_tasks() if task is not self._main_task and task.get_name() not in in_thread
        }
        fresh = {task for task in tasks if not task.cancelling()}  # The others had their grace, which was logged.
        for task in fresh:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=SHORT_S if self.is_cut_short or not fresh else GRACE_S)
        finally:
            for task in tasks:
                if not task.done():
                    self._abandon(task, f"{task.get_name()} did not stop when it was cancelled", log_it=task in fresh)
                elif not task.cancelled() and task.exception() is not None:
                    self.loop.call_exception_handler(
                        {"message": "unhandled exception at the end", "exception": task.exception(), "task": task}
                    )

    async def _end_generators(self) -> None:
        closing = asyncio.create_task(self.loop.shutdown_asyncgens())
        try:
            await asyncio.wait([closing], timeout=SHORT_S if self.is_cut_short else GRACE_S)
        finally:
            if not closing.done():
                self._abandon(closing, "an asynchronous generator did not close")

    async def _end_threads(self) -> None:
        """Wait for threads, as Python does at its exit; but here a signal can end the wait."""
        in_threads = self._tasks_in_threads()
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.loop.shutdown_default_executor())]
        waits += [asyncio.create_task(task.wait()) for task in in_threads]
        try:
            _, pending = await asyncio.wait(waits, timeout=SHORT_S)
            if pending and not self.is_cut_short:
                names = ", ".join(repr(task.name) for task in in_threads) or "of asyncio.to_thread()"
                log.warning(
                    "application %r: waiting for threads (%s), which cannot be cancelled; a signal kills the process",
                    self.app.name, names,
                )  # fmt: skip
                await asyncio.wait(waits)
        finally:
            self.threads_left = not all(wait.done() for wait in waits)

    def _tasks_in_threads(self) -> list[ScheduledTask[Any]]:
        """Return the tasks whose run is still going on in a thread."""
        return [task for task in self.app.scheduler.tasks.values() if task.running and not is_async(task.method)]

    def _abandon(self, task: asyncio.Task[Any], what: str, *, log_it: bool = True) -> None:
        """Leave *task* behind, still pending when the loop is closed; asyncio must not complain about it once more."""
        if log_it:
            self.failed = True
            log.error("%s and was abandoned. It was at:%s", what, stack_of(task))
        if not self._abandoned:
            handle = self.loop.get_exception_handler() or type(self.loop).default_exception_handler
            self.loop.set_exception_handler(
                lambda loop, context: None if context.get("task") in self._abandoned else handle(loop, context)
            )
        self._abandoned.add(task)


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _kill_process(number: signal.Signals) -> None:
    """End the process with the signal: Python would wait for its threads."""
    log.warning("killed by %s: threads are still running", number.name)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
