"""One life of an application: its services and its scheduler, from the first ``init()`` to the last ``close()``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kaiju_app._core.logs import for_log
from kaiju_app.errors import ServiceStartFailed
from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._hosting import halt

from ._phase_runner import HURRY_S, PREFIX, PhaseResult, PhaseRunner, log
from ._service_runner import ServiceRunner

HURRY_RUNS_S = 1.0  # What runs may take to end in a hurry: most end at once when they are cancelled.


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a service may take to start, for ``post_init()``, and to close."""

    start_s: float
    post_init_s: float
    close_s: float


class Lifecycle:
    """One life of an application. It is started once and stopped once, however far the start came.

    Args:
        name: Name of the application.
        scheduler: Its scheduler.
        runners: Its services, in the order of their start.
        limits: Their time limits.

    Attributes:
        problems: What did not stop cleanly, one sentence each.
        in_a_hurry: Whether what is still to be closed gets little time, because somebody cancelled the stop.
    """

    def __init__(self, name: str, scheduler: Scheduler, runners: Sequence[ServiceRunner], limits: Limits) -> None:
        self.runners = runners
        self.problems: list[str] = []
        self.in_a_hurry = False
        self._name = name
        self._scheduler = scheduler
        self._limits = limits
        self._tasks_before = frozenset(scheduler.tasks)
        self._background: list[tuple[ServiceRunner, asyncio.Task[None]]] = []
        self._stopping = False

    # --- start ---

    async def start_services(self) -> None:
        """Start the services in order.

        Raises:
            ServiceStartFailed: A service that is not optional failed to start.
            CancelledError: The caller was cancelled, and with it the service that was starting.
        """
        for runner in self.runners:
            await self._start(runner)

    def start_background(self) -> None:
        """Start ``post_init()`` of all services in the background."""
        self._background = [
            (runner, asyncio.create_task(self._post_init(runner), name=f"{PREFIX}{runner}: post_init"))
            for runner in self.runners
            if runner.needs_close
        ]

    async def _post_init(self, runner: ServiceRunner) -> None:
        if not self._stopping:  # A stop can come before the first step of this task.
            await runner.post_init(self._limits.post_init_s)

    async def _start(self, runner: ServiceRunner) -> None:
        """Start one service. If an optional one fails, the fields that ask for it become None."""
        tasks_before = frozenset(self._scheduler.tasks)
        try:
            self._check_dependencies(runner)
            await runner.start(self._limits.start_s)
        except ServiceStartFailed as exc:
            if not runner.optional:
                raise
            runner.error = str(exc)
            log.warning(
                "%s. It is optional: the application starts without it", exc.what, exc_info=for_log(exc.__cause__)
            )
            result = await runner.close(self._limits.close_s)
            self._remove_tasks_except(tasks_before)
            for each in (each for other in self.runners for each in other.dependencies):
                if each.target is runner.service and not each.dependency.required:
                    setattr(each.service, each.field, None)
            _raise_first([result])

    def _remove_tasks_except(self, known: frozenset[str]) -> None:
        for name in [name for name in self._scheduler.tasks if name not in known]:
            self._scheduler.tasks[name].remove()

    def _check_dependencies(self, runner: ServiceRunner) -> None:
        failed = {id(other.service): other.service.name for other in self.runners if other.error is not None}
        for each in runner.dependencies:
            if each.dependency.required and not each.dependency.nowait and id(each.target) in failed:
                raise ServiceStartFailed(
                    self._name,
                    runner.service.name,
                    "init",
                    f"{each.field} needs {failed[id(each.target)]!r}, which is optional and did not start",
                    "Declare the field service(required=False), or fix the cause, which is logged above",
                )

    # --- stop ---

    async def stop(self) -> None:
        """Stop the scheduler and ``post_init()``, then close the services in reverse order.

        Raises:
            CancelledError: The caller was cancelled. What it was waiting for was cut short, the rest was done.
            KeyboardInterrupt, SystemExit: A service raised it.
        """
        self._stopping = True
        halt(self._scheduler)  # At once: no run starts while the application is CLOSING.
        results = [await self._stop_scheduler(), await self._stop_background()]
        for runner in reversed(self.runners):
            self.in_a_hurry |= any(result.cancelled for result in results)
            limit_s = min(self._limits.close_s, HURRY_S) if self.in_a_hurry else self._limits.close_s
            results.append(await runner.close(limit_s))
            if not results[-1].ok:
                self.problems.append(f"service {runner.service.name!r} did not close cleanly")
        self._remove_tasks_except(self._tasks_before)  # The next start registers them again.
        _raise_first(results)

    async def _stop_scheduler(self) -> PhaseResult:
        async def stop() -> None:
            try:
                left = await self._scheduler.stop()
            except asyncio.CancelledError:
                left = await self._scheduler.stop(0)  # It logs where each of them is.
            self.problems.extend(f"task {task.name!r} is still running" for task in left)

        phases = PhaseRunner(f"application {self._name!r}: the scheduler")
        result = await phases.run(stop, HURRY_RUNS_S if self.in_a_hurry else None, must_start=True)
        phases.dismiss()
        if result.error is not None:
            self.problems.append("the scheduler did not stop cleanly")
            log.error("application %r: the scheduler did not stop cleanly", self._name, exc_info=for_log(result.error))
        return result

    async def _stop_background(self) -> PhaseResult:
        """Cancel every ``post_init()`` that is still running, except one that called this itself."""
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        running = {
            task: (runner, runner.error)
            for runner, task in self._background
            if task.get_loop() is loop and not task.done() and not runner.background.owns(me)
        }
        self._background = []
        for task in running:
            task.cancel()
        cancelled = False
        pending = set(running)
        while pending:  # This ends: each task abandons its phase after the grace.
            try:
                _, pending = await asyncio.wait(pending)
            except asyncio.CancelledError:
                cancelled = True
                for task in pending:
                    task.cancel()  # The second cancellation shortens the grace.
        self.problems += [
            f"post_init() of service {runner.service.name!r} did not end cleanly"
            for runner, error_before in running.values()
            if runner.error != error_before
        ]
        return PhaseResult(cancelled=cancelled)


def _raise_first(results: Iterable[PhaseResult]) -> None:
    """Raise the first exit among *results*, or CancelledError if the caller was cancelled during one of them."""
    for result in results:
        if isinstance(result.error, KeyboardInterrupt | SystemExit):
            raise result.error
    if any(result.cancelled for result in results):
        raise asyncio.CancelledError
