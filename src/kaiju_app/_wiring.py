"""Who needs whom: finds the services that fields declared with ``service()`` ask for, and the order of their starts.

Pure: it looks at services and changes none. Services may be equal by value, and comparing those that were not
initialised can even fail, so they are told apart by identity, or by their place in the list.
"""

from __future__ import annotations

import dataclasses
import heapq
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ._words import described, shown
from .service import NEED, Need, Service


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A field of a service, and the service that it asks for; None: there is none, and it is not required."""

    service: Service
    field: str
    need: Need
    target: Service | None


@dataclass(frozen=True, slots=True)
class Wiring:
    """How services fit together: in the order in which they start, or the problems that keep them from it."""

    order: Sequence[Service] = ()
    links: Sequence[Link] = ()
    problems: Sequence[str] = ()


class _NoMatch(Exception):
    """What a field asks for cannot be told from what there is."""


def wire(services: Sequence[Service]) -> Wiring:
    """Return how *services* fit together; those that do not depend on each other keep the order they are in."""
    links: list[Link] = []
    problems: list[str] = []
    for each in services:
        for name, need in needs(each):
            try:
                links.append(Link(each, name, need, _target(each, name, need, services)))
            except _NoMatch as exc:
                problems.append(f"{each.name}.{name} {exc}")
    if problems:
        return Wiring(problems=problems)
    places = {id(each): place for place, each in enumerate(services)}
    before: dict[int, list[int]] = {place: [] for place in places.values()}
    for link in links:
        if link.target is not None and not link.need.nowait:
            before[places[id(link.service)]].append(places[id(link.target)])
    try:
        return Wiring([services[place] for place in _ordered(before)], links)
    except CycleError as exc:
        # Each place in the cycle comes before the next one, which needs it; read backwards, it says who needs whom.
        circle = " needs ".join(services[place].name for place in reversed(exc.args[1]))
        return Wiring(
            problems=[f"{circle}, so that none can be first; declare one of these fields service(nowait=True)"]
        )


def needs(service: Service) -> Iterator[tuple[str, Need]]:
    """Yield the fields of *service* that are declared with ``service()``."""
    for each in dataclasses.fields(service):
        if NEED in each.metadata:
            yield each.name, each.metadata[NEED]


def _ordered(before: dict[int, list[int]]) -> list[int]:
    """Return the places in an order in which each comes after those before it, the lowest first where it is free.

    Raises:
        CycleError: There is none.
    """
    sorter = TopologicalSorter(before)
    sorter.prepare()
    order: list[int] = []
    free: list[int] = []
    while sorter.is_active():
        for place in sorter.get_ready():
            heapq.heappush(free, place)
        order.append(heapq.heappop(free))
        sorter.done(order[-1])
    return order


def _target(service: Service, field: str, need: Need, services: Sequence[Service]) -> Service | None:
    if need.name is not None:
        return _by_name(service, field, need.name, need, services)
    kinds = _classes(type(service), field)
    # Not itself: a service that wraps another one of its own class means the other one.
    found = [each for each in services if each is not service and isinstance(each, kinds)]
    wanted = " | ".join(kind.__name__ for kind in kinds)
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise _NoMatch(f"could be any of {names}, all of type {wanted}: say which, service({found[0].name!r})")
    if not found and need.required:
        raise _NoMatch(f"needs a service of type {wanted}, and there is none: add one, or service(required=False)")
    return found[0] if found else None


def _by_name(service: Service, field: str, name: str, need: Need, services: Sequence[Service]) -> Service | None:
    for each in services:
        if each.name != name:
            continue
        if each is service:
            raise _NoMatch(f"asks for {name!r}, which is this service itself: name another one")
        try:
            kinds = _classes(type(service), field)
        except _NoMatch:  # Its name is enough to find it by.
            return each
        if not isinstance(each, kinds):
            wanted = " | ".join(kind.__name__ for kind in kinds)
            raise _NoMatch(f"asks for {name!r} as {wanted}, and that is of type {type(each).__name__}: correct one")
        return each
    if need.required:
        known = ", ".join(each.name for each in services if each is not service) or "no other"
        raise _NoMatch(f"needs a service named {name!r}, and there is {known}: add it, or service(required=False)")
    return None


def _classes(owner: type, field: str) -> tuple[type, ...]:
    """Return the classes that *field* is annotated with; ``X | None`` asks for an X."""
    annotation = _annotation(owner, field)
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds = tuple(get_origin(part) or part for part in parts if part is not NoneType)
    try:
        isinstance(owner, kinds)
    except TypeError:  # Any, a protocol that is not checkable at run time, no class at all.
        raise _NoMatch(
            f"is annotated with {shown(annotation)}, which tells no class: annotate the class, or service('its name')"
        ) from None
    return kinds


def _annotation(owner: type, field: str) -> Any:
    for kind in owner.__mro__:
        annotation = inspect.get_annotations(kind).get(field)
        if annotation is None:
            continue
        names = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
        try:
            # For this one only: other annotations of the class may be for type checkers alone.
            return get_type_hints(SimpleNamespace(__annotations__={field: annotation}), names, dict(vars(kind)))[field]
        except Exception as exc:
            raise _NoMatch(
                f"is annotated with {annotation}, which is not known at run time ({described(exc)}): "
                "import it for run time, or service('its name')"
            ) from None
    raise _NoMatch("has no annotation: annotate the class of the service, or service('its name')")
