"""The decorators of a scheduler: they register a function as ``schedule_task()`` does, and leave it as it is."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, Unpack

from kaiju_app._core.calls import ExplainsAttributes, explain_calls, refuse_unknown
from kaiju_app._core.validate import gap_us
from kaiju_app._engine.options import DecoratorOptions, trigger_of
from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._base import Trigger
from kaiju_app.triggers._foreign import as_base_trigger

from ._habits import SCHEDULE_TASK, SCHEDULER_CALLS, SCHEDULER_METHODS

F = TypeVar("F", bound=Callable[..., Any])


@explain_calls(SCHEDULER_CALLS, SCHEDULER_METHODS)
class TaskDecorators(ExplainsAttributes, ABC):
    """Decorators over the one method ``schedule_task()``."""

    @abstractmethod
    def schedule_task(self, func: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run *func* periodically."""

    def every(self, interval_s: float | timedelta, **options: Unpack[DecoratorOptions]) -> Callable[[F], F]:
        """Decorate a function: run it every *interval_s* seconds. It stays the function that it is.

        ``@scheduler.every(60)`` above a function does the same as ``scheduler.schedule_task(function, 60)`` below it.
        ``scheduler.tasks[name]`` has the task; give it a *name*. Methods of a Service are decorated with
        ``kaiju_app.every``.

        Args:
            interval_s: Seconds from one tick to the next, or a ``timedelta``.
            options: Those of ``schedule_task()``.

        Raises:
            InvalidArgument: An argument is wrong; nothing was registered.
        """
        check_interval("every", interval_s)
        return self._decorator("every", interval_s=interval_s, **options)

    def cron(self, expression: str, tz: str | None = None, **options: Unpack[DecoratorOptions]) -> Callable[[F], F]:
        """Decorate a function: run it whenever local time matches a cron expression. It stays the function that it is.

        See ``every()``, and ``Cron`` for expressions.

        Args:
            expression: Such as ``0 6 * * mon-fri`` or ``@daily``.
            tz: Key of an IANA time zone; by default the ``tz`` of the scheduler.
            options: Those of ``schedule_task()``.

        Raises:
            InvalidArgument: An argument is wrong; nothing was registered.
        """
        return self._decorator("cron", trigger=cron_of(expression, tz, options.get("name")), **options)

    def task(
        self,
        interval_s: float | timedelta | None = None,
        *,
        trigger: Trigger | str | None = None,
        **options: Unpack[DecoratorOptions],
    ) -> Callable[[F], F]:
        """Decorate a function: run it by *interval_s* or *trigger*. It stays the function that it is.

        See ``every()``.

        Args:
            interval_s: Seconds from one tick to the next, or a ``timedelta``.
            trigger: A rule instead of an interval.
            options: Those of ``schedule_task()``.

        Raises:
            InvalidArgument: An argument is wrong; nothing was registered.
        """
        check_trigger("task", interval_s, trigger)
        return self._decorator("task", interval_s=interval_s, trigger=trigger, **options)

    def _decorator(self, decorator: str, /, **options: Any) -> Callable[[F], F]:
        refuse_unknown(f"{decorator}()", type(self).schedule_task, options, SCHEDULE_TASK)

        def register(func: F) -> F:
            if needs_self(func):
                rule = f"must not be a method, which needs an object: in a Service, write @{decorator} of kaiju_app"
                raise InvalidArgument("func", func, f"{rule}; otherwise schedule the method of the object")
            self.schedule_task(func, **options)
            return func

        return register


def check_interval(name: str, interval_s: object) -> None:
    """Refuse what is no interval, such as the function of a decorator without parentheses.

    Raises:
        InvalidArgument: It is none.
    """
    if callable(interval_s):
        raise InvalidArgument("interval_s", interval_s, f"must be a number of seconds: write @{name}(60), not @{name}")
    gap_us("interval_s", interval_s)


def check_trigger(name: str, interval_s: object, trigger: Trigger | str | None) -> None:
    """Refuse what is neither an interval nor a trigger.

    Raises:
        InvalidArgument: Not exactly one of the two is given, or it is wrong.
    """
    if (interval_s is None) == (trigger is None):
        rule = f"or trigger must be given to {name}(), and not both: interval_s=60 or trigger='0 6 * * mon-fri'"
        raise InvalidArgument("interval_s", interval_s, rule)
    if trigger is None:
        check_interval(name, interval_s)
    else:
        as_base_trigger("trigger", trigger_of(trigger, "UTC", name))


def cron_of(expression: str, tz: str | None, name: str | None) -> Trigger | str:
    """Return a cron rule; its text if it is up to the scheduler in which zone it is.

    Raises:
        InvalidArgument: The expression is invalid, or there is no such zone.
    """
    from kaiju_app.triggers._cron import Cron

    if callable(expression):
        raise InvalidArgument("expression", expression, "must be text: write @cron('0 6 * * mon-fri'), not @cron")
    spread = name if isinstance(name, str) else None
    if tz is None:
        return Cron(expression, spread=spread).expression
    return Cron(expression, tz, spread)


def is_in_class(func: Any) -> bool:
    """Return whether *func* was defined in the body of a class."""
    owner = getattr(func, "__qualname__", "").rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")


def needs_self(func: Any) -> bool:
    """Return whether *func* is a method that belongs to no object yet."""
    return (
        inspect.isfunction(func) and is_in_class(func) and next(iter(inspect.signature(func).parameters), "") == "self"
    )
