"""Dependencies between services: which service each ``service()`` field asks for, and the start order that follows.

Pure: it reads services and changes none. Services are dataclasses, equal by value, and comparing those that are not
initialized can even fail. So they are compared by identity, or by their index in the list.
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

from kaiju_app._core.text import describe_exception
from kaiju_app.errors import safe_repr

from ._service import DEPENDENCY, Dependency, Service


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedDependency:
    """A field of a service and the service that it asks for. The target is None if it is missing and not required."""

    service: Service
    field: str
    dependency: Dependency
    target: Service | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The start order of services and the values of their fields; or the problems, if they do not fit together."""

    order: Sequence[Service] = ()
    dependencies: Sequence[ResolvedDependency] = ()
    problems: Sequence[str] = ()


class _NoMatch(Exception):
    """No service, or more than one, matches a field."""


def resolve(services: Sequence[Service]) -> Resolution:
    """Resolve the dependencies of *services*. Services that do not depend on each other keep their order."""
    resolved: list[ResolvedDependency] = []
    problems: list[str] = []
    for each in services:
        for name, dependency in _declared(each):
            try:
                target = _target(each, name, dependency, services)
                resolved.append(ResolvedDependency(each, name, dependency, target))
            except _NoMatch as exc:
                problems.append(f"{each.name}.{name} {exc}")
    if problems:
        return Resolution(problems=problems)
    index_of = {id(each): index for index, each in enumerate(services)}
    before: dict[int, list[int]] = {index: [] for index in index_of.values()}
    for edge in resolved:
        if edge.target is not None and not edge.dependency.nowait:
            before[index_of[id(edge.service)]].append(index_of[id(edge.target)])
    try:
        return Resolution([services[index] for index in _sorted(before)], resolved)
    except CycleError as exc:
        # In the cycle of graphlib each one is needed by the next, so it is read backwards.
        cycle = " needs ".join(services[index].name for index in reversed(exc.args[1]))
        return Resolution(
            problems=[f"{cycle}, so none of them can start first; declare one of these fields service(nowait=True)"]
        )


def _declared(service: Service) -> Iterator[tuple[str, Dependency]]:
    """Yield the fields of *service* that are declared with ``service()``."""
    for each in dataclasses.fields(service):
        if DEPENDENCY in each.metadata:
            yield each.name, each.metadata[DEPENDENCY]


def _sorted(before: dict[int, list[int]]) -> list[int]:
    """Return indexes in topological order; of several that could be next, the lowest comes first.

    Args:
        before: For each index, those that have to come before it.

    Raises:
        CycleError: There is no such order.
    """
    sorter = TopologicalSorter(before)
    sorter.prepare()
    order: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        for index in sorter.get_ready():
            heapq.heappush(ready, index)
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
    return order


def _target(service: Service, field: str, dependency: Dependency, services: Sequence[Service]) -> Service | None:
    if dependency.name is not None:
        return _by_name(service, field, dependency.name, dependency.required, services)
    kinds = _classes(type(service), field)
    # Not itself: a service that wraps another one of its own class means the other one.
    found = [each for each in services if each is not service and isinstance(each, kinds)]
    wanted = " | ".join(kind.__name__ for kind in kinds)
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise _NoMatch(f"could be any of {names}, all of type {wanted}: name one, service({found[0].name!r})")
    if not found and dependency.required:
        raise _NoMatch(f"needs a service of type {wanted}, but there is none: add one, or service(required=False)")
    return found[0] if found else None


def _by_name(service: Service, field: str, name: str, required: bool, services: Sequence[Service]) -> Service | None:
    for each in services:
        if each.name != name:
            continue
        if each is service:
            raise _NoMatch(f"asks for {name!r}, which is this service itself: name a different one")
        try:
            kinds = _classes(type(service), field)
        except _NoMatch:  # The name is enough.
            return each
        if not isinstance(each, kinds):
            wanted = " | ".join(kind.__name__ for kind in kinds)
            raise _NoMatch(f"asks for {name!r} as {wanted}, but it is of type {type(each).__name__}: fix either")
        return each
    if required:
        known = ", ".join(each.name for each in services if each is not service) or "no other"
        raise _NoMatch(f"needs a service named {name!r}, but there is {known}: add it, or service(required=False)")
    return None


def _classes(owner: type, field: str) -> tuple[type, ...]:
    """Return the classes in the annotation of *field*; ``X | None`` asks for an X."""
    annotation = _annotation(owner, field)
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kinds = tuple(get_origin(part) or part for part in parts if part is not NoneType)
    try:
        isinstance(owner, kinds)
    except TypeError:  # Any, a protocol that is not runtime-checkable, or not a class at all.
        raise _NoMatch(
            f"is annotated with {safe_repr(annotation)}, which is not a class: "
            "annotate the class, or service('its name')"
        ) from None
    return kinds


def _annotation(owner: type, field: str) -> Any:
    for kind in owner.__mro__:
        annotation = inspect.get_annotations(kind).get(field)
        if annotation is None:
            continue
        names = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
        try:
            # Of this field only: other annotations of the class may exist for type checkers alone.
            return get_type_hints(SimpleNamespace(__annotations__={field: annotation}), names, dict(vars(kind)))[field]
        except Exception as exc:
            raise _NoMatch(
                f"is annotated with {annotation}, which is not defined at run time ({describe_exception(exc)}): "
                "import it at run time, or service('its name')"
            ) from None
    raise _NoMatch("has no annotation: annotate the class of the service, or service('its name')")
