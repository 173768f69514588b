"""Base class of services, what a service may use of its application, and the checks when one is added."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, NoReturn, Protocol

from kaiju_app._core.calls import explain_init, explained
from kaiju_app._core.validate import flag, text
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Scheduler

PHASES = ("init", "health", "post_init", "close")


class ServiceState(StrEnum):
    """Where a service, or the application, is in its life.

    Attributes:
        CLOSED: Not started, stopped, or failed to start.
        STARTING: Inside ``init()`` or the first health check.
        READY: Started: ``init()`` has returned and the health check had no errors.
        CLOSING: Being stopped, or closed after a failed start.
    """

    CLOSED = "CLOSED"
    STARTING = "STARTING"
    READY = "READY"
    CLOSING = "CLOSING"


@explain_init({"error": "write errors=[...]", "healthy": "leave it out: healthy means no errors"})
@dataclass(frozen=True, slots=True)
class Health:
    """How a service is. It is healthy if it reports no errors.

    Args:
        errors: What is wrong, one sentence each.
        stats: Figures to show; JSON values.
    """

    errors: Sequence[str] = ()
    stats: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.errors, str) or not isinstance(self.errors, Sequence):
            raise InvalidArgument("errors", self.errors, "must be a list of sentences: Health(errors=[...])")

    @property
    def healthy(self) -> bool:
        """Whether there are no errors."""
        return not self.errors


class ApplicationContext(Protocol):
    """What a service may use of the application that it belongs to."""

    name: str

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler of the application."""

    @property
    def services(self) -> tuple[Service, ...]:
        """All services, in the order in which they were added."""

    @property
    def state(self) -> ServiceState:
        """Where the application is in its life."""

    async def stop(self) -> list[str]:
        """Stop the application; see ``Application.stop()``."""

    async def inspect(self, timeout_s: float | timedelta = ...) -> dict[str, object]:
        """Return the state of the application as JSON values; see ``Application.inspect()``."""


class _NotAdded:
    """Stands for the application before the service is added to one."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"app.{name}: this service is not part of an application yet; pass it to Application(name, services=[...])"
        )

    def __repr__(self) -> str:
        return "<no application yet>"


NOT_ADDED: Any = _NotAdded()
UNNAMED_LOGGER = logging.getLogger("kaiju_app.service")


@dataclass
class Service:
    """Base class of the services of an application. Subclasses are dataclasses with fields of their own.

    ``init()`` and ``close()`` run in the same asyncio task and context, so ``close()`` can leave a cancel scope or task
    group that ``init()`` entered. There is one exception: if that task is cancelled in between, for example by a task
    group whose child failed, ``close()`` runs in a new task with the same context. ``close()`` is called if and only if
    ``init()`` returned.

    Args:
        app: The application; set when the service is added to it.
        name: Unique within the application; by default the name of the class.
        logger: By default the logger ``<application name>.<service name>``.
    """

    app: ApplicationContext = field(default=NOT_ADDED, kw_only=True, repr=False, compare=False)
    name: str = field(default="", kw_only=True)
    logger: logging.Logger = field(default=UNNAMED_LOGGER, kw_only=True, repr=False, compare=False)

    _state = ServiceState.CLOSED  # Not annotated, so not a dataclass field. Written by set_state() only.

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):
            # @dataclass would show every field, whatever its size, and fail before init() has set the last of them.
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind}{f' {self.name!r}' if self.name not in ('', kind) else ''}, {self._state}>"

    @property
    def state(self) -> ServiceState:
        """Where the service is in its life."""
        return self._state

    async def init(self) -> None:
        """Get ready. Services that this one depends on are READY. Tasks scheduled here start when the app is READY."""

    async def health(self) -> Health:
        """Report how the service is. Called after ``init()``, when errors fail the start, and by ``app.inspect()``."""
        return Health()

    async def post_init(self) -> None:
        """Do slow work in the background while the application is already READY."""

    async def close(self) -> None:
        """Release what ``init()`` acquired. Services that depend on this one are closed already."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a field declared with ``service()`` asks for."""

    name: str | None
    required: bool
    nowait: bool


DEPENDENCY = object()  # Key of the Dependency in the metadata of a field.


@explained({"optional": "write required=False"})
def service(name: str | None = None, *, required: bool = True, nowait: bool = False) -> Any:
    """Declare a field that holds another service of the application. It is set before any service starts.

    The service is found by the class in the annotation of the field, or by *name*. This service starts after it.

    Type checkers expect these fields after those without a default. Ruff's RUF009 has to be told that the call is
    harmless: ``extend-immutable-calls = ["kaiju_app.service"]``.

    Args:
        name: Name of the service. None if it is the only one of the annotated class.
        required: False: the field is None if there is no such service, or if it is optional and failed to start.
        nowait: True: this service may start before the other one. For services that need each other.

    Raises:
        InvalidArgument: *name* is not text, or *required* or *nowait* is not a bool.
    """
    if name is not None:
        text("name", name, ", the name of a service: the annotation of the field tells its class")
    flag("required", required)
    flag("nowait", nowait)
    return field(
        init=False, repr=False, compare=False, kw_only=True, metadata={DEPENDENCY: Dependency(name, required, nowait)}
    )


def state_of(service: Service) -> ServiceState:
    """Return the state of *service*, even if it has a field named ``state``."""
    return service._state


def set_state(service: Service, state: ServiceState) -> None:
    """Set the state of *service*."""
    service._state = state


def attach(app: ApplicationContext, known: Sequence[Service], services: Sequence[Service]) -> None:
    """Set ``app``, ``name`` and ``logger`` of *services*; of all of them, or of none if one is refused.

    Services are compared by identity: dataclasses are equal by value, and some cannot be compared before ``init()``.

    Args:
        app: The application that they are added to.
        known: The services that it has already.
        services: The services to add.

    Raises:
        InvalidArgument: One is not a service, is in an application already, or its name is taken.
    """
    names = {each.name for each in known}
    for index, each in enumerate(services):
        _check(app, each, [*known, *services[:index]])
        if each.name and each.name in names:
            raise InvalidArgument("name", each.name, "must be unique among the services of an application")
        names.add(each.name)
    for each in services:
        each.app = app
        each.name = each.name or _free_name(type(each).__name__, names)
        names.add(each.name)
        if each.logger is UNNAMED_LOGGER:
            each.logger = logging.getLogger(f"{app.name}.{each.name}")


def _check(app: ApplicationContext, service: Service, others: Sequence[Service]) -> None:
    if isinstance(service, type) and issubclass(service, Service):
        raise InvalidArgument("services", service, f"must be instances: write {service.__name__}()")
    if not isinstance(service, Service):
        raise InvalidArgument("services", service, "must be instances of subclasses of Service")
    if not isinstance(service.name, str):
        raise InvalidArgument("name", service.name, "must be a string")
    if not isinstance(service.logger, logging.Logger | logging.LoggerAdapter):
        raise InvalidArgument("logger", service.logger, "must be a logger, such as logging.getLogger('shop')")
    if any(each is service for each in others):
        raise InvalidArgument("services", service, "must not contain the same service twice")
    if service.app is not NOT_ADDED and service.app is not app:
        raise InvalidArgument("services", service, f"must be in one application only: this one is in {service.app!r}")
    for kind in type(service).__mro__:
        for name, value in vars(kind).items():
            if isinstance(value, Field) and DEPENDENCY in value.metadata:  # @dataclass would have removed it.
                advice = f"add @dataclass to {kind.__name__}"
                raise InvalidArgument("services", kind, f"must be dataclasses to have {name} = service(): {advice}")
    for phase in PHASES:
        method = getattr(type(service), phase)
        if inspect.isfunction(method) and not inspect.iscoroutinefunction(inspect.unwrap(method)):
            raise InvalidArgument("services", method, f"must have an async {phase}(): async def {phase}(self)")


def _free_name(base: str, taken: set[str]) -> str:
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}#{number}"
    return name
