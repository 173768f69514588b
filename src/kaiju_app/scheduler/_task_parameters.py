"""What a task was registered with, as properties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from kaiju_app._core.calls import ExplainsAttributes
from kaiju_app._core.clock import utc
from kaiju_app._core.model import ExecPolicy, Scope
from kaiju_app._engine.backoff import Backoff
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import CLUSTER, TaskEntry
from kaiju_app.triggers._base import Trigger


class TaskParameters(ExplainsAttributes):
    """The function of a task, its rule and its options. ``reschedule()`` replaces the rule."""

    __slots__ = ("_engine", "_entry")

    def __init__(self, engine: Engine, entry: TaskEntry) -> None:
        self._engine = engine
        self._entry = entry

    @property
    def name(self) -> str:
        """Unique name within the scheduler."""
        return self._entry.name

    @property
    def method(self) -> Callable[..., Any]:
        """The function that is called."""
        return self._entry.func

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments of the function."""
        return self._entry.args

    @property
    def kws(self) -> Mapping[str, Any]:
        """Keyword arguments of the function, read-only."""
        return MappingProxyType(dict(self._entry.kws))

    @property
    def interval_s(self) -> float | None:
        """Seconds from one tick to the next; None for a trigger whose ticks are not evenly spaced."""
        return None if self._entry.spec.rule is not None else self._entry.spec.gap / 1e6

    @property
    def trigger(self) -> Trigger | None:
        """The rule that was given instead of an interval; None for an interval."""
        return self._entry.spec.trigger

    @property
    def jitter_s(self) -> float:
        """Upper limit in seconds of the delay of a tick."""
        return self._entry.spec.jitter / 1e6

    @property
    def until(self) -> datetime | None:
        """When the last possible tick is, aware UTC; None if there is no limit."""
        until = self._entry.spec.until
        return None if until is None else utc(until)

    @property
    def policy(self) -> ExecPolicy:
        """What a tick does if the run before is still in progress."""
        return self._entry.spec.policy

    @property
    def max_timeout_s(self) -> float:
        """Seconds for all attempts of a run together; 0 for the default deadline of the policy."""
        return self._entry.spec.max_timeout / 1e6

    @property
    def retries(self) -> int:
        """Attempts that may follow the first one."""
        return self._entry.spec.retries

    @property
    def retry_interval_s(self) -> float | Backoff:
        """Seconds from a failed attempt to the next, or a Backoff; 0 divides the gap evenly between the attempts."""
        spec = self._entry.spec
        return spec.backoff or spec.retry_interval / 1e6

    @property
    def scope(self) -> Scope:
        """Which instances run it: LOCAL, each one for itself; CLUSTER, one of them for each tick."""
        return Scope.CLUSTER if self._entry.flags & CLUSTER else Scope.LOCAL

    @property
    def expect_success_within_s(self) -> float | None:
        """Seconds after a success within which the next one is expected; None if none is."""
        expectation = self._engine.recorder.expectations.by_entry.get(self._entry)
        return None if expectation is None else expectation.within / 1e6

    @property
    def show(self) -> bool:
        """Whether the endpoint shows its arguments and its result."""
        return self._entry in self._engine.recorder.shown
