"""A part of an application with a life of its own: what it may do at each moment, and what it needs of others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import InvalidArgument

if TYPE_CHECKING:
    from .app import Application


class ServiceState(StrEnum):
    """Where a service, or the application, is in its life."""

    CLOSED = "CLOSED"
    """Not started, stopped, or failed."""

    STARTING = "STARTING"
    """Inside ``init()`` or its first health check."""

    READY = "READY"

    CLOSING = "CLOSING"


@dataclass(frozen=True, slots=True)
class Health:
    """How a service is. It is healthy as long as it has no errors: whoever is not has to say why.

    Args:
        errors: What is wrong, a sentence each.
        stats: Figures for whoever looks; JSON values.
    """

    errors: Sequence[str] = ()
    stats: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.errors, str):
            raise InvalidArgument("errors", self.errors, "must be a list of sentences: Health(errors=[...])")

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors


class _NotAdded:
    """Stands for the application until there is one."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"app.{name}: this service is in no application yet; Application(name, services=[...])")

    def __repr__(self) -> str:
        return "<no application yet>"


NOT_ADDED: Any = _NotAdded()
UNNAMED_LOGGER = logging.getLogger("kaiju_app.service")


@dataclass
class Service:
    """Base of the services of an application; they are dataclasses, with fields of their own.

    ``init()`` and ``close()`` are called in one asyncio task and one context, so that a cancel scope that the first
    enters can be left by the last; only if somebody cancels that task meanwhile, as a task group does whose child
    fails, ``close()`` is called in another one. ``close()`` is called if, and only if, ``init()`` has returned.

    Args:
        app: The application; set when the service is added to it.
        name: Unique in the application; by default the name of the class.
        logger: By default the one called ``<name of the application>.<name of the service>``.
    """

    app: Application = field(default=NOT_ADDED, kw_only=True, repr=False, compare=False)
    name: str = field(default="", kw_only=True)
    logger: logging.Logger = field(default=UNNAMED_LOGGER, kw_only=True, repr=False, compare=False)

    _state = ServiceState.CLOSED  # No annotation, so no field: the application writes it.

    @property
    def state(self) -> ServiceState:
        """Where the service is in its life."""
        return self._state

    async def init(self) -> None:
        """Get ready: what the service depends on is. Tasks scheduled here start once the application is READY."""

    async def health(self) -> Health:
        """Tell how the service is. Asked after ``init()``, when errors end the start, and by ``app.inspect()``."""
        return Health()

    async def post_init(self) -> None:
        """Do what takes long, in the background, while the application is READY already."""

    async def close(self) -> None:
        """Let go of what ``init()`` took hold of. The services that depend on this one are closed already."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a field declared with ``service()`` asks for."""

    name: str | None
    required: bool
    nowait: bool


NEED = object()  # The key under which a field keeps its Need.


def service(name: str | None = None, *, required: bool = True, nowait: bool = False) -> Any:
    """Declare a field of a service that holds another service of the application, set before anything starts.

    Found by the class that the field is annotated with, or by *name*. ``init()`` runs after that of the other one. Type
    checkers want such fields behind those without a default; Ruff's RUF009 wants to know that calling this is harmless:
    ``extend-immutable-calls = ["kaiju_app.service"]``.

    Args:
        name: Name of the service; None: the only one of the annotated class.
        required: If not, the field is None where there is no such service, or it is optional and could not start.
        nowait: Do not wait for it: it may start later than this one. For services that need each other.
    """
    return field(init=False, repr=False, compare=False, kw_only=True, metadata={NEED: Need(name, required, nowait)})
