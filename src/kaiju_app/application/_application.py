"""The application: starts services in the order of their dependencies, runs a scheduler, and stops in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Self

from kaiju_app._core.calls import ExplainsAttributes, explain_calls
from kaiju_app._core.validate import duration_us
from kaiju_app.errors import DependencyError, InvalidArgument, WrongState
from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._hosting import drop_reminder, is_inside_run
from kaiju_app.scheduler._importing import check_may_start

from ._dependencies import resolve
from ._habits import APPLICATION_CALLS, APPLICATION_METHODS
from ._lifecycle import Lifecycle, Limits
from ._phase_runner import log
from ._service import Service, ServiceState, attach
from ._service_runner import ServiceRunner

HEALTH_S = 5.0  # What health() may take in inspect(): the caller is often a probe with a time limit of its own.


@explain_calls(APPLICATION_CALLS, APPLICATION_METHODS)
class Application(ExplainsAttributes):
    """Services and a scheduler that start and stop together.

    It is an asynchronous context manager: inside ``async with Application(...) as app:`` the application is READY. It
    handles no signals; ``run_app()`` does.

    Args:
        name: Name of the application, for the log.
        services: Its services. Those that do not depend on each other start in this order.
        scheduler: A scheduler that is not started. None: a new one.
        service_start_timeout_s: Seconds that ``init()`` and the first ``health()`` of a service may take together.
        service_close_timeout_s: Seconds that ``close()`` of a service may take.
        post_init_timeout_s: Seconds that ``post_init()`` of a service may take.
        optional_services: Names of services that the application can run without if they fail to start.

    Raises:
        InvalidArgument: An argument is wrong.
    """

    def __init__(
        self,
        name: str,
        services: Iterable[Service] = (),
        *,
        scheduler: Scheduler | None = None,
        service_start_timeout_s: float | timedelta = 30,
        service_close_timeout_s: float | timedelta = 10,
        post_init_timeout_s: float | timedelta = 300,
        optional_services: Collection[str] = (),
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidArgument("name", name, "must be a non-empty string")
        if scheduler is not None and not isinstance(scheduler, Scheduler):
            raise InvalidArgument("scheduler", scheduler, "must be a Scheduler, or None for a new one")
        if not isinstance(services, Iterable):
            raise InvalidArgument("services", services, "must be a list of services")
        if not _are_names(optional_services):
            raise InvalidArgument("optional_services", optional_services, "must be a list of names of services")
        self.name = name
        self._scheduler = Scheduler() if scheduler is None else scheduler
        self._limits = Limits(
            _limit_s("service_start_timeout_s", service_start_timeout_s),
            _limit_s("post_init_timeout_s", post_init_timeout_s),
            _limit_s("service_close_timeout_s", service_close_timeout_s),
        )
        self._optional = tuple(optional_services)
        self._services: list[Service] = []
        self._state = ServiceState.CLOSED
        self._lifecycle: Lifecycle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: asyncio.Future[None] | None = None  # None while the application is CLOSED.
        self.add_services(*services)

    def __repr__(self) -> str:
        return f"<Application {self.name!r}, {self._state}: {', '.join(each.name for each in self._services)}>"

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler. It starts after the services and stops before them."""
        return self._scheduler

    @property
    def services(self) -> tuple[Service, ...]:
        """The services, in the order in which they were added."""
        return tuple(self._services)

    @property
    def state(self) -> ServiceState:
        """Where the application is in its life."""
        return self._state

    def add_services(self, *services: Service) -> None:
        """Add *services* and set their ``app``, ``name`` and ``logger``.

        Raises:
            InvalidArgument: One is not a service, is in an application already, or its name is taken. None is added.
            WrongState: The application is not CLOSED.
        """
        if self._state is not ServiceState.CLOSED:
            raise WrongState(f"add_services(): application {self.name!r} is {self._state}; add them before it starts")
        attach(self, self._services, services)
        self._services += services

    # --- start ---

    async def start(self) -> None:
        """Start the services in order, then the scheduler. The application is READY then.

        ``post_init()`` of the services runs in the background. If the start fails or is cancelled, what was started is
        stopped in reverse order, and the application is CLOSED.

        Raises:
            WrongState: The application, or its scheduler, is started already.
            DependencyError: A service that another one needs is missing, or services need each other in a cycle.
            ServiceStartFailed: A service that is not optional failed to start.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        lifecycle = await self._start(services_only=False)
        self._state = ServiceState.READY
        lifecycle.start_background()
        open_services = sum(runner.needs_close for runner in lifecycle.runners)
        log.info(
            "application %r is READY after %.3f s, services: %d, tasks: %d",
            self.name, loop.time() - began, open_services, len(self._scheduler.tasks),
        )  # fmt: skip

    async def _start(self, *, services_only: bool) -> Lifecycle:
        """Start a new lifecycle. Stop it if that fails.

        Args:
            services_only: Run ``init()`` of the services; no health checks, no scheduler.
        """
        check_may_start("app.start()")
        drop_reminder(self._scheduler)  # What keeps it from starting is told.
        if self._state is not ServiceState.CLOSED:
            raise WrongState(f"start(): application {self.name!r} is {self._state}; await stop() first")
        if self._scheduler.started:
            raise WrongState(
                f"start(): the scheduler of application {self.name!r} is started already, so its tasks would run "
                "before the services are ready; let the application start it"
            )
        runners = self._make_runners(check_health=not services_only)
        self._lifecycle = lifecycle = Lifecycle(self.name, self._scheduler, runners, self._limits)
        self._loop = loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        self._state = ServiceState.STARTING
        try:
            await lifecycle.start_services()
            if not services_only:
                await self._scheduler.start()
        except BaseException:
            with contextlib.suppress(asyncio.CancelledError):  # The first error is the one to report.
                await self._stop(lifecycle)
            raise
        return lifecycle

    def _make_runners(self, *, check_health: bool) -> list[ServiceRunner]:
        """Set the fields that hold other services. Return a runner for each service, in the order of the start."""
        resolution = resolve(self._services)
        names = [each.name for each in self._services]
        unknown = [each for each in self._optional if each not in names]
        problems = [*resolution.problems]
        if unknown:
            problems.append(f"optional_services names {', '.join(unknown)}, but there is {', '.join(names) or 'none'}")
        if problems:
            raise DependencyError(self.name, problems)
        for each in resolution.dependencies:
            setattr(each.service, each.field, each.target)
        return [
            ServiceRunner(self.name, service, resolution.dependencies, service.name in self._optional, check_health)
            for service in resolution.order
        ]

    # --- stop ---

    async def stop(self) -> list[str]:
        """Stop the scheduler, cancel what is left of ``post_init()``, then close the services in reverse order.

        Return what did not stop cleanly, one sentence each; this is logged, too. Stopping twice is harmless. If the
        application is stopping already, wait for that.

        Cancelling this cuts short what it waits for. The rest still happens, within three seconds for each service,
        before CancelledError is raised.

        Raises:
            WrongState: The application is still starting (cancel the task that starts it), it was started in another
                loop that is not closed, or this was called from ``close()`` of one of its services.
        """
        lifecycle = self._lifecycle
        if self._state is ServiceState.CLOSED or lifecycle is None:
            return []
        if self._state is ServiceState.STARTING:
            raise WrongState(f"stop(): application {self.name!r} is STARTING; cancel the task that starts it")
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self._loop is not None and not self._loop.is_closed():
            raise WrongState(f"stop(): application {self.name!r} was started in another loop; stop it there")
        if self._state is ServiceState.CLOSING:
            if any(runner.phases.owns(asyncio.current_task()) for runner in lifecycle.runners):
                raise WrongState(f"stop(): application {self.name!r} is stopping and waits for this close() to return")
            if not is_inside_run(self._scheduler):  # The stop in progress may be waiting for that run.
                await self.wait_closed()
            return []
        await self._stop(lifecycle)
        return lifecycle.problems

    async def _stop(self, lifecycle: Lifecycle) -> None:
        self._state = ServiceState.CLOSING
        try:
            await lifecycle.stop()
        finally:
            self._state = ServiceState.CLOSED
            closed, self._closed = self._closed, None
            if closed is not None and not closed.get_loop().is_closed():
                closed.set_result(None)
            log.info("application %r is CLOSED%s", self.name, "".join(f"; {each}" for each in lifecycle.problems))

    async def wait_closed(self) -> None:
        """Wait until the application is CLOSED again. Return at once if it is not started."""
        if self._closed is not None:
            await asyncio.wait([self._closed])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- inspection ---

    async def inspect(self, timeout_s: float | timedelta = HEALTH_S) -> dict[str, object]:
        """Return the state of the application, its services and its scheduler as JSON values.

        Args:
            timeout_s: Seconds that ``health()`` of the services may take. All are called at once.
        """
        limit_s = _limit_s("timeout_s", timeout_s)
        started = self._lifecycle.runners if self._lifecycle is not None else ()
        runner_of = {id(runner.service): runner for runner in started}
        runners = [
            runner_of.get(id(each)) or ServiceRunner(self.name, each, (), each.name in self._optional)
            for each in self._services
        ]
        services = await asyncio.gather(*(runner.json_repr(limit_s) for runner in runners))
        healthy = all(each["healthy"] or each["optional"] for each in services)
        health = self._scheduler.health()
        return {
            "name": self.name,
            "state": self._state.value,
            "healthy": healthy and health.healthy and self._state is ServiceState.READY,
            "problems": [each.text for each in health.problems],
            "services": services,
            "scheduler": self._scheduler.json_repr(),
        }


# --- for run_app() and the command line ---


def lifecycle_of(app: Application) -> Lifecycle | None:
    """Return the current or last lifecycle of *app*. None if it was never started."""
    return app._lifecycle


@contextlib.asynccontextmanager
async def initialized(app: Application) -> AsyncIterator[Lifecycle]:
    """Run ``init()`` of the services of *app* and nothing else, to look at the tasks that they schedule.

    The services are closed afterwards. See ``Application.start()`` for what this raises.
    """
    lifecycle = await app._start(services_only=True)
    try:
        yield lifecycle
    finally:
        await app._stop(lifecycle)


def _limit_s(argument: str, value: float | timedelta) -> float:
    seconds = duration_us(argument, value) / 1e6
    if not seconds:
        raise InvalidArgument(argument, value, "must be more than 0 seconds")
    return seconds


def _are_names(value: object) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        return False
    return all(isinstance(each, str) for each in value)
