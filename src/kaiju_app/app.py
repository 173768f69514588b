"""The application: services that start in the order of their needs, a scheduler among them, and end in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Self

from ._arguments import duration_us
from ._course import Course, Limits, Unasked
from ._keeper import log
from ._part import Part
from ._roster import join
from ._run import current_caller
from ._wiring import wire
from .errors import BadWiring, InvalidArgument, WrongState
from .scheduler import Scheduler
from .service import Service, ServiceState

HEALTH_S = 5.0  # What a service may take to tell how it is; whoever asks is often a probe with a limit of its own.


class Application:
    """Services and a scheduler with one life cycle.

    It is an asynchronous context manager: inside ``async with Application(...) as app:`` it is READY. Signals are left
    to whoever runs the loop; ``run_app()`` is one who does.

    Args:
        name: What it is called in the log.
        services: Its services, in the order in which they start where they do not depend on each other.
        scheduler: A scheduler that is not started; by default a new one.
        service_start_timeout_s: Seconds that a service has for its ``init()`` and first ``health()`` together.
        service_close_timeout_s: Seconds that a service has for its ``close()``.
        post_init_timeout_s: Seconds that the ``post_init()`` of all services have.
        optional_services: Names of services that the application can do without if they cannot start.

    Raises:
        InvalidArgument: One of them is wrong.
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
            raise InvalidArgument("name", name, "must be a text that is not empty")
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
        self._course: Course | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gone: asyncio.Future[None] | None = None
        self.add_services(*services)

    def __repr__(self) -> str:
        return f"<Application {self.name!r}, {self._state}: {', '.join(each.name for each in self._services)}>"

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler: started when the services are, stopped before them."""
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
        """Add *services*, which then know their ``app``, and have a name and a logger.

        Raises:
            InvalidArgument: One is no service, is in an application already, or its name is taken; none was added.
            WrongState: The application is not CLOSED.
        """
        if self._state is not ServiceState.CLOSED:
            raise WrongState(f"add_services(): application {self.name!r} is {self._state}; add them before it starts")
        join(self, self._services, services)
        self._services += services

    # --- start ---

    async def start(self) -> None:
        """Start the services in order, then the scheduler; then the application is READY.

        ``post_init()`` of the services goes on in the background. If this fails or is cancelled, what was started is
        closed again, in reverse, and the application is CLOSED.

        Raises:
            WrongState: The application, or its scheduler, is started already.
            BadWiring: A service that another one needs is missing, or they need each other in a circle.
            StartFailed: A service that is not optional could not start.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        course = await self._begin(Part, Course.begin)
        self._state = ServiceState.READY
        course.go_on()
        log.info(
            "application %r is READY after %.3f s, services: %d, tasks: %d",
            self.name, loop.time() - began, sum(part.open for part in course.parts), len(self._scheduler.tasks),
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _initialised(self) -> AsyncIterator[Course]:
        """Have the services through their ``init()`` and nothing more, for who looks at what they schedule there.

        They are closed behind it; see ``start()`` for what it raises.
        """
        course = await self._begin(Unasked, Course.begin_services)
        try:
            yield course
        finally:
            await self._end(course)

    async def _begin(self, kind: type[Part], begin: Callable[[Course], Awaitable[None]]) -> Course:
        """Begin a new course, which is ended again if that fails."""
        if self._state is not ServiceState.CLOSED:
            raise WrongState(f"start(): application {self.name!r} is {self._state}; await stop() first")
        if self._scheduler.started:
            raise WrongState(
                f"start(): the scheduler of application {self.name!r} is started already, so that tasks would run "
                "before the services are ready; leave it to the application"
            )
        self._course = course = Course(self.name, self._scheduler, self._wired(kind), self._limits)
        self._loop = loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        self._state = ServiceState.STARTING
        try:
            await begin(course)
        except BaseException:
            with contextlib.suppress(asyncio.CancelledError):  # What went wrong first is what has to be told.
                await self._end(course)
            raise
        return course

    def _wired(self, kind: type[Part]) -> list[Part]:
        """Return the services in the order of their start, with what they need in their fields."""
        wiring = wire(self._services)
        names = [each.name for each in self._services]
        unknown = [each for each in self._optional if each not in names]
        problems = [*wiring.problems]
        if unknown:
            problems.append(f"optional_services names {', '.join(unknown)}, and there is {', '.join(names) or 'none'}")
        if problems:
            raise BadWiring(self.name, problems)
        for link in wiring.links:
            setattr(link.service, link.field, link.target)
        return [
            kind(self.name, each, [link for link in wiring.links if link.service is each], each.name in self._optional)
            for each in wiring.order
        ]

    # --- stop ---

    async def stop(self) -> list[str]:
        """Stop the scheduler, then what is left of ``post_init()``, then close the services in reverse.

        Return what did not end in order, a sentence each; the log has told of it. Stopping twice is harmless, and a
        stop under way is awaited. Cancelling it cuts short what is being awaited; the rest is done within three seconds
        each, before CancelledError is raised.

        Raises:
            WrongState: It is still starting (cancel the task that starts it), it was started in another loop, which
                is not closed, or this is ``close()`` of one of its services.
        """
        course = self._course
        if self._state is ServiceState.CLOSED or course is None:
            return []
        if self._state is ServiceState.STARTING:
            raise WrongState(f"stop(): application {self.name!r} is STARTING; cancel the task that starts it")
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self._loop is not None and not self._loop.is_closed():
            raise WrongState(f"stop(): application {self.name!r} was started in another loop; stop it there")
        if self._state is ServiceState.CLOSING:
            if any(part.is_closing_in(asyncio.current_task()) for part in course.parts):
                raise WrongState(f"stop(): application {self.name!r} is stopping, and waits for this very close()")
            if not self._is_run():  # That is what the stop under way may be waiting for.
                await self.wait_closed()
            return []
        await self._end(course)
        return course.problems

    def _is_run(self) -> bool:
        """Return whether the caller is inside a run of the scheduler."""
        run = current_caller()
        return run is not None and self._scheduler._driver.is_own(run)

    async def _end(self, course: Course) -> None:
        self._state = ServiceState.CLOSING
        try:
            await course.end()
        finally:
            self._state = ServiceState.CLOSED
            gone, self._gone = self._gone, None
            if gone is not None and not gone.get_loop().is_closed():
                gone.set_result(None)
            log.info("application %r is CLOSED%s", self.name, "".join(f"; {each}" for each in course.problems))

    async def wait_closed(self) -> None:
        """Return when the application is CLOSED again; at once if it is not started."""
        if self._gone is not None:
            await asyncio.wait([self._gone])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what there is ---

    async def inspect(self, timeout_s: float | timedelta = HEALTH_S) -> dict[str, object]:
        """Return what is known of the application as JSON values: its services and how they are, and its scheduler.

        Args:
            timeout_s: Seconds that the services have to tell how they are; all are asked at once.
        """
        limit_s = _limit_s("timeout_s", timeout_s)
        known = {id(part.service): part for part in (self._course.parts if self._course is not None else ())}
        parts = [
            known.get(id(each)) or Part(self.name, each, (), each.name in self._optional) for each in self._services
        ]
        services = await asyncio.gather(*(part.json_repr(limit_s) for part in parts))
        fine = all(each["healthy"] or each["optional"] for each in services)
        return {
            "name": self.name,
            "state": self._state.value,
            "healthy": fine and self._state is ServiceState.READY,
            "services": services,
            "scheduler": self._scheduler.json_repr(),
        }


def _limit_s(argument: str, value: float | timedelta) -> float:
    seconds = duration_us(argument, value) / 1e6
    if not seconds:
        raise InvalidArgument(argument, value, "must be more than 0 seconds")
    return seconds


def _are_names(value: object) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        return False
    return all(isinstance(each, str) for each in value)
