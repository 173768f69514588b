"""Runs one service of an application: starts it, asks for its health and closes it, each within a time limit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from kaiju_app._core.logs import for_log
from kaiju_app._core.text import describe_exception
from kaiju_app.errors import ServiceStartFailed, safe_repr

from ._dependencies import ResolvedDependency
from ._phase_runner import PhaseResult, PhaseRunner, log
from ._scheduled import schedule_methods
from ._service import Health, Service, ServiceState, set_state, state_of


class _Unhealthy(Exception):
    """``health()`` reported errors after ``init()``."""


@dataclass(eq=False, repr=False)
class ServiceRunner:
    """One service of an application during one life of it.

    Args:
        _application: Name of the application.
        service: The service; only this class changes its state.
        dependencies: What services depend on; only its own dependencies are kept.
        optional: Whether the application can run without it.
        check_health: Whether the first health check is part of its start.

    Attributes:
        needs_close: Whether ``init()`` has returned and ``close()`` was not called yet.
        error: Why an optional service did not start, or what went wrong in ``post_init()``. None if nothing did.
        phases: Runs ``init()``, the first health check and ``close()``.
        background: Runs ``post_init()``.
    """

    _application: str
    service: Service
    dependencies: Sequence[ResolvedDependency]
    optional: bool
    check_health: bool = True
    needs_close: bool = False
    error: str | None = None
    _health_task: asyncio.Task[Health] | None = None
    _health_waiters: int = 0
    _init_abandoned: bool = False

    def __post_init__(self) -> None:
        self.dependencies = [each for each in self.dependencies if each.service is self.service]
        self.phases, self.background = PhaseRunner(str(self)), PhaseRunner(str(self))

    def __str__(self) -> str:
        return f"application {self._application!r}: service {self.service.name!r}"

    # --- start and close ---

    async def start(self, limit_s: float) -> None:
        """Run ``init()`` and the first health check.

        Args:
            limit_s: Seconds for both together.

        Raises:
            ServiceStartFailed: One of them failed or timed out, or the service is not healthy.
            CancelledError: The caller was cancelled, and with it the phase that was running.
        """
        loop = asyncio.get_running_loop()
        set_state(self.service, ServiceState.STARTING)
        deadline = loop.time() + limit_s
        result = await self.phases.run(self._init, limit_s)
        self._init_abandoned = result.abandoned
        self._raise_if_failed(result, "init", limit_s)
        if self.check_health:
            result = await self.phases.run(self._first_health_check, max(0.0, deadline - loop.time()))
            self._raise_if_failed(result, "health", limit_s)
        set_state(self.service, ServiceState.READY)

    async def _init(self) -> None:
        await self.service.init()
        if self._init_abandoned:  # The start is over, so nobody else will close it.
            await self.service.close()
        else:
            self.needs_close = True
            schedule_methods(self.service)

    async def _first_health_check(self) -> None:
        health = _as_health(await self.service.health())
        if not health.healthy:
            raise _Unhealthy("; ".join(health.errors))

    def _raise_if_failed(self, result: PhaseResult, phase: str, limit_s: float) -> None:
        """Raise what *result* means for the start: nothing if *phase* ended well."""
        if result.ok:
            return
        if isinstance(result.error, KeyboardInterrupt | SystemExit):
            raise result.error
        if result.cancelled:
            if result.abandoned:
                log.error("%s: %s() was cancelled, did not stop and was abandoned%s", self, phase, _where(result))
            elif _is_informative(result.error):
                log.error(
                    "%s failed in %s: %s", self, phase, _describe(result, limit_s), exc_info=for_log(result.error)
                )
            raise asyncio.CancelledError
        name = self.service.name
        advice = f"Fix the cause; if the application can run without it, pass optional_services=[{name!r}]"
        if result.timed_out:
            advice = (
                "Raise service_start_timeout_s, or find out what it waits for; "
                f"optional_services=[{name!r}] starts without it{_where(result)}"
            )
        failure = ServiceStartFailed(self._application, name, phase, _describe(result, limit_s), advice)
        raise failure from (result.error if _is_informative(result.error) else None)

    async def close(self, limit_s: float) -> PhaseResult:
        """Run ``close()`` if ``init()`` has returned; log and return what went wrong.

        Args:
            limit_s: Seconds that it may take. After that it is cancelled, and abandoned if it does not stop.
        """
        result = PhaseResult()
        if self._health_task is not None:
            self._health_task.cancel()
        if self.needs_close:
            self.needs_close = False
            set_state(self.service, ServiceState.CLOSING)
            result = await self.phases.run(self.service.close, limit_s, must_start=True)
            if not result.ok:
                log.error(
                    "%s failed in close: %s; what it held may be lost; the other services are closed anyway%s",
                    self, _describe(result, limit_s), _where(result),
                    exc_info=for_log(result.error) if _is_informative(result.error) else None,
                )  # fmt: skip
        self.phases.dismiss()
        set_state(self.service, ServiceState.CLOSED)
        return result

    # --- while it is READY ---

    async def post_init(self, limit_s: float) -> None:
        """Run ``post_init()``. If it fails, this is logged and shown, and affects nothing else.

        Args:
            limit_s: Seconds that it may take.

        Raises:
            CancelledError: The caller was cancelled, and with it ``post_init()``.
        """
        result = await self.background.run(self.service.post_init, limit_s)
        self.background.dismiss()
        if not result.ok and (not result.cancelled or result.abandoned or _is_informative(result.error)):
            self.error = f"post_init: {_describe(result, limit_s)}"
            log.error(
                "%s failed in %s; the application keeps running%s",
                self, self.error, _where(result),
                exc_info=for_log(result.error) if _is_informative(result.error) else None,
            )  # fmt: skip
        if result.cancelled:
            raise asyncio.CancelledError
        if isinstance(result.error, KeyboardInterrupt | SystemExit):
            raise result.error

    async def health(self, limit_s: float) -> Health:
        """Return the health of the service. A missing or malformed answer counts as an error.

        Args:
            limit_s: Seconds to wait for the answer.
        """
        task = self._health_task
        if task is None or task.done():  # health() never runs twice at once: callers wait for the same answer.
            task = self._health_task = asyncio.create_task(self._ask_health(), context=self.phases.context())
        self._health_waiters += 1
        try:
            await asyncio.wait([task], timeout=limit_s)
        finally:
            self._health_waiters -= 1
            if not self._health_waiters:
                task.cancel()
        if not task.done():
            return Health([f"health() did not answer within {limit_s:g} s"])
        return Health([*task.result().errors, *filter(None, [self.error])], task.result().stats)

    async def _ask_health(self) -> Health:
        try:
            health = _as_health(await self.service.health())
            return Health(health.errors, cast(Mapping[str, object], _to_json(health.stats)))
        except asyncio.CancelledError:
            return Health(["health() was cancelled"])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            return Health([f"health() raised {describe_exception(exc)}"])

    async def json_repr(self, limit_s: float) -> dict[str, object]:
        """Return the service as JSON values.

        Args:
            limit_s: Seconds to wait for ``health()``.
        """
        service = self.service
        state = state_of(service)
        is_ready = state is ServiceState.READY
        health = await self.health(limit_s) if is_ready else Health([self.error] if self.error else [])
        return {
            "name": service.name,
            "type": type(service).__qualname__,
            "state": state.value,
            "optional": self.optional,
            "needs": [each.target.name for each in self.dependencies if each.target is not None],
            "healthy": is_ready and health.healthy,
            "errors": list(health.errors),
            "stats": health.stats,
        }


def _describe(result: PhaseResult, limit_s: float) -> str:
    """Return what went wrong in a phase, in words.

    Args:
        result: How the phase ended; not well.
        limit_s: Seconds that it had.
    """
    if result.timed_out:
        text = f"not done within {limit_s:g} s"
    elif result.cancelled:
        text = "cancelled"
    elif isinstance(result.error, asyncio.CancelledError):
        return "it raised CancelledError by itself"
    else:
        return str(result.error) if isinstance(result.error, _Unhealthy) else str(describe_exception(result.error))
    if result.abandoned:
        text += ", did not stop and was abandoned"
    elif _is_informative(result.error):
        text += f", then {describe_exception(result.error)}"
    return text


def _where(result: PhaseResult) -> str:
    """Return where a phase was when it was cancelled, as the end of a log line."""
    return f". It was at:{result.stack}" if result.stack else ""


def _is_informative(error: BaseException | None) -> bool:
    """Return whether *error* says more than the words of ``_describe()``, so that its traceback is worth logging."""
    return error is not None and not isinstance(error, asyncio.CancelledError | _Unhealthy)


def _as_health(value: object) -> Health:
    if isinstance(value, Health):
        return Health([_to_text(error) for error in value.errors], value.stats)
    return Health([f"health() returned {safe_repr(value)}, which is not a Health: return Health(errors=[...])"])


def _to_text(error: object) -> str:
    if isinstance(error, BaseException):
        return str(describe_exception(error))
    return error if isinstance(error, str) else safe_repr(error)


def _to_json(value: object) -> object:
    """Return *value* as JSON values: NaN and infinity become null, and types that JSON does not have become text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _to_json(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_to_json(each) for each in value]
        case _:
            return safe_repr(value)
