"""Each parameter of the public API refuses a value of a wrong type, by its name.

The parameters are found, not listed: a new one without a check fails here.
"""

from __future__ import annotations

import asyncio
import enum
import importlib
import inspect
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaiju_app import Application, Service
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import At, Cron, Every, Except, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from kaiju_app.triggers import AnyOf, Calendar, DailyWindow, Window

MODULES = ("", ".application", ".scheduler", ".triggers", ".stores", ".stores.postgres")

MADE_HERE = {
    "Cause",
    "ClusterTask",
    "CurrentRun",
    "Explanation",
    "Finding",
    "LoopLag",
    "Overdue",
    "Problem",
    "RemoteTask",
    "Report",
    "RequestedRun",
    "Run",
    "RunPage",
    "ScheduledTask",
    "SchedulerHealth",
    "Subscription",
}  # Users get them, made.
INTERFACES = {"ApplicationContext", "JsonTrigger", "Store", "Trigger"}
STORES = {"MemoryStore", "PostgresStore", "SqliteStore"}  # Their methods are called by the scheduler only.
INTERNAL = {
    "matches",
    "one_off_in",
    "pause_us",
    "task_in",
    "tell",
    "wants",
    "wants_overdue",
}  # Methods without an underscore that only the scheduler calls.
EXEMPT = {
    "ClusterTask.reschedule": "always refused, with WrongState",
    "CurrentRun.guard": "needs a claim in a database: tests/contract/test_postgres_locks.py",
    "Health.stats": "anything that is no JSON value is shown as text",
    "Service.app": "set by the application",
}


class Wrong:
    """A value that no parameter takes."""

    def __repr__(self) -> str:
        return "<wrong>"


WRONG = Wrong()
NOT_TEXT = (60, b"text", True)
NOT_A_NUMBER = ("60", True, math.nan, None)
WRONG_BY_TYPE: dict[str, tuple[object, ...]] = {
    "bool": (1, 0, "yes", None),
    "str": (*NOT_TEXT, None),
    "str | None": NOT_TEXT,
    "int": ("1", 1.5, True, None),
    "float": NOT_A_NUMBER,
    "float | timedelta": NOT_A_NUMBER,
    "float | timedelta | None": NOT_A_NUMBER[:-1],
    "datetime": ("2027-01-01", 0, datetime(2027, 1, 1), None),  # noqa: DTZ001
    "datetime | None": ("2027-01-01", 0, datetime(2027, 1, 1)),  # noqa: DTZ001
}
"""By annotation: what looks nearly right."""


async def work() -> None: ...


def task() -> Any:
    return Scheduler().schedule_task(work, 60)


def shared_task() -> Any:
    return Scheduler(MemoryStore()).schedule_task(work, 60, name="shared", scope=Scope.CLUSTER)


CRON = Cron("0 6 * * *")
DAY = Window(datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC))
NIGHT = DailyWindow(*(each.replace(tzinfo=CRON.zone) for each in (datetime.min.time(), datetime.max.time())))
OBJECTS: dict[str, Callable[[], Any]] = {
    "AnyOf": lambda: AnyOf(CRON, Every(60)),
    "Application": lambda: Application("shop"),
    "At": lambda: At(datetime(2027, 1, 1, tzinfo=UTC)),
    "Calendar": lambda: Calendar("day"),
    "ClusterTask": shared_task,
    "Cron": lambda: CRON,
    "DailyWindow": lambda: NIGHT,
    "Every": lambda: Every(60),
    "Except": lambda: Except(CRON, DAY),
    "RemoteTask": lambda: Scheduler(MemoryStore()).remote("shared"),
    "ScheduledTask": task,
    "Scheduler": Scheduler,
    "Window": lambda: DAY,
}
"""An object of each class whose methods are called."""

CALLS: dict[str, Callable[..., Any]] = {"Service": lambda **fields: Application("shop", [Service(**fields)])}
"""What checks the arguments, if it is not the call that takes them."""
NAMED_OTHERWISE = {"dsn": "store", "form": "trigger", "url": "store"}
"""By the names by which users of ``Scheduler(store=...)`` and of ``trigger_from_json()`` know them."""

VALID: dict[str, Any] = {
    "after": datetime(2027, 1, 1, tzinfo=UTC),
    "app": "shop",
    "dsn": "postgresql://db.example/shop",
    "end": NIGHT.end,
    "expression": "0 6 * * *",
    "form": {"every": 60},
    "func": work,
    "interval_s": 60,
    "kind": Every,
    "listener": print,
    "moment": DAY.start,
    "moments": (DAY.start,),
    "n": 1,
    "name": "shop",
    "now": DAY.start,
    "path": Path("scheduler.db"),
    "reason": "a migration",
    "seconds": 60,
    "services": (),
    "start": NIGHT.start,
    "tasks": (),
    "triggers": (CRON,),
    "url": "sqlite:///scheduler.db",
}
"""A right value for the parameters that must be given, by their names."""
VALID_HERE: dict[str, dict[str, Any]] = {
    "Calendar": {"every": "week", "on": "mon"},
    "Calendar.local_ticks": {"start": datetime(2027, 1, 1), "end": datetime(2027, 1, 2)},  # noqa: DTZ001
    "Cron.local_ticks": {"start": datetime(2027, 1, 1), "end": datetime(2027, 1, 2)},  # noqa: DTZ001
    "Except": {"rule": CRON, "excluded": (DAY,)},
    "Scheduler.explain": {"task": "shop", "at": DAY.start},
    "Scheduler.schedule_task": {"interval_s": 60},
    "Window": {"start": DAY.start, "end": DAY.end},
    "run_app": {"app": Application("shop")},
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield all functions, classes and methods of the public API that users call."""
    for module in (importlib.import_module(f"kaiju_app{each}") for each in MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value):
                yield name, value
            elif not issubclass(value, enum.Enum) and name not in INTERFACES:
                if name not in MADE_HERE:
                    yield name, value
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if not method.startswith("_") and method not in INTERNAL and name not in STORES:
                        yield f"{name}.{method}", function


def parameters() -> Iterator[Any]:
    """Yield each parameter with the values that it must refuse."""
    for name, function in dict(public()).items():
        if not callable(function) or name in EXEMPT:
            continue
        for parameter in inspect.signature(function).parameters.values():
            where = f"{name}.{parameter.name}"
            if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD and where not in EXEMPT:
                near = (
                    WRONG_BY_TYPE.get(str(parameter.annotation), ()) if not name.endswith("local_ticks") else ()
                )  # Naive.
                for value in (WRONG, *near):
                    yield pytest.param(name, function, parameter.name, value, id=f"{where}={value!r}")


@pytest.mark.parametrize(("name", "function", "argument", "value"), list(parameters()))
def test_a_value_of_a_wrong_type_is_refused_by_the_name_of_its_argument(
    name: str, function: Callable[..., Any], argument: str, value: object
) -> None:
    owner = name.partition(".")[0]
    call = CALLS.get(name) or (getattr(OBJECTS[owner](), function.__name__) if "." in name else function)
    given = arguments(function, VALID_HERE.get(name, {}), argument, value)
    with pytest.raises(InvalidArgument) as refused:
        call_with(call, given)

    assert refused.value.argument.partition("[")[0] == NAMED_OTHERWISE.get(argument, argument)
    if argument not in ("dsn", "listen", "url"):  # Nothing of an address is shown that may be a password.
        assert refused.value.value is value or refused.value.value == (value,)


def arguments(
    function: Callable[..., Any], valid: dict[str, Any], argument: str, value: object
) -> list[tuple[inspect.Parameter, Any]]:
    """Return *value* for *argument*, and valid values for all others that *function* needs."""
    given: list[tuple[inspect.Parameter, Any]] = []
    for each in inspect.signature(function).parameters.values():
        if each.name == argument:
            given.append((each, (value,) if each.kind is each.VAR_POSITIONAL else value))
        elif each.name in valid and (argument, each.name) != ("trigger", "interval_s"):
            given.append((each, valid[each.name]))
        elif each.default is each.empty and each.kind is not each.VAR_KEYWORD and each.name != "self":
            given.append((each, VALID[each.name]))
    return given


def call_with(call: Callable[..., Any], given: list[tuple[inspect.Parameter, Any]]) -> None:
    """Call with the arguments *given*, by name where that is possible."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for each, value in given:
        if each.kind is each.VAR_POSITIONAL:
            positional += value
        elif each.kind is each.POSITIONAL_ONLY or any(other.kind is each.VAR_POSITIONAL for other, _ in given):
            positional.append(value)
        else:
            named[each.name] = value
    answer = call(*positional, **named)
    if inspect.iscoroutine(answer):
        asyncio.run(answer)
