"""The arguments of ``Scheduler.subscribe()`` and ``runs()``, validated: which endings somebody wants to hear of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from kaiju_app._core.model import Outcome, Reason
from kaiju_app.errors import InvalidArgument

from ._task import ScheduledTask

M = TypeVar("M", Outcome, Reason)


def outcomes_of(given: Outcome | Iterable[Outcome] | None) -> frozenset[Outcome] | None:
    """Return the outcomes that somebody wants to hear of; None for all.

    Raises:
        InvalidArgument: *given* has something else than outcomes, or nothing.
    """
    rule = "must be an Outcome or several, such as (Outcome.FAILED, Outcome.TIMED_OUT)"
    return _members("outcomes", given, Outcome, rule)


def reasons_of(given: Reason | Iterable[Reason] | None) -> frozenset[Reason] | None:
    """Return the reasons of the records that are asked for; None for all, and those without one.

    Raises:
        InvalidArgument: *given* has something else than reasons, or nothing.
    """
    return _members("reasons", given, Reason, "must be a Reason or several, such as (Reason.OVERLAP, Reason.MISSED)")


def name_of(given: str | ScheduledTask[Any] | None) -> str | None:
    """Return the name of the task whose records are asked for; None for all tasks.

    Raises:
        InvalidArgument: *given* is neither a name nor a task.
    """
    name = given.name if isinstance(given, ScheduledTask) else given
    if name is not None and not isinstance(name, str):
        raise InvalidArgument("task", given, "must be a task, its name, or None for all tasks")
    return name


def names_of(given: str | ScheduledTask[Any] | Iterable[str | ScheduledTask[Any]] | None) -> frozenset[str] | None:
    """Return the names of the tasks that a listener hears of; None for all.

    Raises:
        InvalidArgument: *given* has something else than names and tasks, or nothing.
    """
    if given is None:
        return None
    found = [each.name if isinstance(each, ScheduledTask) else each for each in _several(given, (str, ScheduledTask))]
    if not found or not all(isinstance(each, str) and each for each in found):
        raise InvalidArgument("tasks", given, "must be a task, a name, or several: ('refresh', 'prune'); or None")
    return frozenset(found)


def _members(argument: str, given: M | Iterable[M] | None, kind: type[M], rule: str) -> frozenset[M] | None:
    if given is None:
        return None
    found = _several(given, kind)
    if not found or not all(isinstance(each, kind) for each in found):
        raise InvalidArgument(argument, given, f"{rule}, or None")
    return frozenset(found)


def _several(given: Any, one: type | tuple[type, ...]) -> list[Any]:
    if isinstance(given, one):
        return [given]
    return list(given) if isinstance(given, Iterable) else []
