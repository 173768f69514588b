"""The door of an application: what is refused as a service, and what each service is given when it is added."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import Field
from typing import TYPE_CHECKING

from .errors import InvalidArgument
from .service import NEED, NOT_ADDED, UNNAMED_LOGGER, Service

if TYPE_CHECKING:
    from .app import Application

PHASES = ("init", "health", "post_init", "close")


def join(app: Application, known: Sequence[Service], services: Sequence[Service]) -> None:
    """Give *services* what they get from *app*: itself, a name, a logger; all of them or none.

    Services are told apart by identity: dataclasses are equal by value, and some cannot be compared before ``init()``.

    Args:
        known: The services that it has already.

    Raises:
        InvalidArgument: One is no service, is in an application already, or its name is taken.
    """
    names = {each.name for each in known}
    for place, each in enumerate(services):
        _check(app, each, [*known, *services[:place]])
        if each.name and each.name in names:
            raise InvalidArgument("name", each.name, "must be unique among the services of an application")
        names.add(each.name)
    for each in services:
        each.app = app
        each.name = each.name or _free_name(type(each).__name__, names)
        names.add(each.name)
        if each.logger is UNNAMED_LOGGER:
            each.logger = logging.getLogger(f"{app.name}.{each.name}")


def _check(app: Application, service: Service, others: Sequence[Service]) -> None:
    if isinstance(service, type) and issubclass(service, Service):
        raise InvalidArgument("services", service, f"must be instances: write {service.__name__}()")
    if not isinstance(service, Service):
        raise InvalidArgument("services", service, "must be instances of subclasses of Service")
    if not isinstance(service.name, str):
        raise InvalidArgument("name", service.name, "must be a text")
    if any(each is service for each in others):
        raise InvalidArgument("services", service, "must be added once each")
    if service.app is not NOT_ADDED and service.app is not app:
        raise InvalidArgument("services", service, f"must be in one application: this one is in {service.app!r}")
    for kind in type(service).__mro__:
        for name, value in vars(kind).items():
            if isinstance(value, Field) and NEED in value.metadata:  # A decorator would have taken it away.
                raise InvalidArgument(
                    "services", kind, f"must be dataclasses to have the field {name} = service(): add @dataclass"
                )
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
