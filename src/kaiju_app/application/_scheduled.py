"""Decorators for methods of services: each object of the class gets its tasks when it starts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, Unpack

from kaiju_app._core.calls import explained, refuse_unknown
from kaiju_app._engine.options import DecoratorOptions
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Scheduler, Trigger
from kaiju_app.scheduler._decorators import check_interval, check_trigger, cron_of, is_in_class
from kaiju_app.scheduler._habits import SCHEDULE_TASK

from ._service import Service

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = "_kaiju_tasks"  # Attribute of a decorated function: the options of each task, innermost decorator first.


@explained(SCHEDULE_TASK)
def every(interval_s: float | timedelta, **options: Unpack[DecoratorOptions]) -> Callable[[F], F]:
    """Decorate a method of a Service: run it every *interval_s* seconds. It stays the function that it is.

    Each object of the class gets a task when ``init()`` has returned. It runs while the application is READY, and is
    removed when the application stops. Its name is ``<service name>.<method>`` unless *name* is given, so it may have
    ``Scope.CLUSTER``. Functions are decorated with ``@scheduler.every``.

    Args:
        interval_s: Seconds from one tick to the next, or a ``timedelta``.
        options: Those of ``Scheduler.schedule_task()``.

    Raises:
        InvalidArgument: An argument is wrong, or what is decorated is not a method.
    """
    check_interval("every", interval_s)
    return _decorator("every", interval_s=interval_s, **options)


@explained(SCHEDULE_TASK)
def cron(expression: str, tz: str | None = None, **options: Unpack[DecoratorOptions]) -> Callable[[F], F]:
    """Decorate a method of a Service: run it whenever local time matches a cron expression. See ``every()``.

    Args:
        expression: Such as ``0 6 * * mon-fri`` or ``@daily``; see ``Cron``.
        tz: Key of an IANA time zone; by default the ``tz`` of the scheduler.
        options: Those of ``Scheduler.schedule_task()``.

    Raises:
        InvalidArgument: An argument is wrong, or what is decorated is not a method.
    """
    return _decorator("cron", trigger=cron_of(expression, tz, options.get("name")), **options)


@explained(SCHEDULE_TASK)
def task(
    interval_s: float | timedelta | None = None,
    *,
    trigger: Trigger | str | None = None,
    **options: Unpack[DecoratorOptions],
) -> Callable[[F], F]:
    """Decorate a method of a Service: run it by *interval_s* or *trigger*. See ``every()``.

    Args:
        interval_s: Seconds from one tick to the next, or a ``timedelta``.
        trigger: A rule instead of an interval.
        options: Those of ``Scheduler.schedule_task()``.

    Raises:
        InvalidArgument: An argument is wrong, or what is decorated is not a method.
    """
    check_trigger("task", interval_s, trigger)
    return _decorator("task", interval_s=interval_s, trigger=trigger, **options)


def _decorator(decorator: str, /, **options: Any) -> Callable[[F], F]:
    refuse_unknown(f"{decorator}()", Scheduler.schedule_task, options, SCHEDULE_TASK)

    def mark(func: F) -> F:
        inner = getattr(func, "__func__", func)  # Of a static or class method.
        if not callable(inner) or not is_in_class(inner):
            rule = f"must be a method of a Service: above a function write @scheduler.{decorator}, where scheduler is a"
            raise InvalidArgument("func", func, f"{rule} Scheduler or app.scheduler")
        setattr(inner, OPTIONS, [*getattr(inner, OPTIONS, ()), options])
        return func

    return mark


def schedule_methods(service: Service) -> None:
    """Schedule the decorated methods of *service*, in the order in which its class and the bases define them.

    Raises:
        InvalidArgument: An option is wrong; the error names the method.
    """
    names = dict.fromkeys(name for kind in reversed(type(service).__mro__) for name in vars(kind))
    for method in names:
        found = getattr(type(service), method, None)
        for number, options in enumerate(getattr(found, OPTIONS, ()), start=1):
            name = f"{service.name}.{method}" + (f"#{number}" if number > 1 else "")
            try:
                service.app.scheduler.schedule_task(getattr(service, method), **{"name": name, **options})
            except InvalidArgument as exc:
                place = f"{type(service).__name__}.{method}(): {exc.argument}"
                raise InvalidArgument(place, exc.value, exc.rule) from None
