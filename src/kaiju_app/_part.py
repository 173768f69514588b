"""One service in one application: started, asked how it is, and closed, within limits, and told about in words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import cast

from ._keeper import Ending, Keeper, log
from ._wiring import Link
from ._words import described, shown
from .errors import StartFailed
from .service import Health, Service, ServiceState


class _Unhealthy(Exception):
    """What ``health()`` told after ``init()``."""


class Part:
    """One service of a started application.

    Args:
        application: Name of the application.
        service: The service; its state is written here and nowhere else.
        links: What it needs.
        optional: Whether the application can do without it.
    """

    def __init__(self, application: str, service: Service, links: Sequence[Link], optional: bool) -> None:
        self.service = service
        self.links = links
        self.optional = optional
        self.open = False  # init() has returned, so that close() is due.
        self.error: str | None = None
        self._application = application
        self._keeper = Keeper(str(self))
        self._background = Keeper(str(self))
        self._checking: asyncio.Task[Health] | None = None
        self._asking = 0
        self._given_up = False

    def __str__(self) -> str:
        return f"application {self._application!r}: service {self.service.name!r}"

    def is_closing_in(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether *task* is the one that runs ``close()``."""
        return self._keeper.owns(task)

    def is_post_init_in(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether *task* is the one that runs ``post_init()``."""
        return self._background.owns(task)

    # --- start and end ---

    async def start(self, limit_s: float) -> None:
        """Run ``init()`` and the first health check.

        Args:
            limit_s: Seconds for both together.

        Raises:
            StartFailed: One of them failed, was late, or told of errors.
            CancelledError: The caller was cancelled, and with it what was going on.
        """
        loop = asyncio.get_running_loop()
        self.service._state = ServiceState.STARTING
        end = loop.time() + limit_s
        ending = await self._keeper.run(self._init, limit_s)
        self._given_up = ending.left
        _raise(ending, self, "init", limit_s)
        _raise(await self._keeper.run(self._check, max(0.0, end - loop.time())), self, "health", limit_s)
        self.service._state = ServiceState.READY

    async def _init(self) -> None:
        await self.service.init()
        if self._given_up:  # Long ago; nobody else will close it.
            await self.service.close()
        else:
            self.open = True

    async def _check(self) -> None:
        health = _as_health(await self.service.health())
        if not health.healthy:
            raise _Unhealthy("; ".join(health.errors))

    async def close(self, limit_s: float) -> Ending:
        """Run ``close()`` if it is due, and say what went wrong with it.

        Args:
            limit_s: Seconds it may take; then it is cancelled, and given up if it does not give way.
        """
        ending = Ending()
        if self._checking is not None:
            self._checking.cancel()
        if self.open:
            self.open = False
            self.service._state = ServiceState.CLOSING
            ending = await self._keeper.run(self.service.close, limit_s, owed=True)
            if not ending.fine:
                log.error(
                    "%s failed in close: %s; what it held may be lost, the other services are closed all the same%s",
                    self, what_happened(ending, limit_s), whereabouts(ending),
                    exc_info=ending.error if _is_news(ending.error) else None,
                )  # fmt: skip
        self._keeper.dismiss()
        self.service._state = ServiceState.CLOSED
        return ending

    # --- while it is READY ---

    async def post_init(self, limit_s: float) -> None:
        """Run ``post_init()``; what goes wrong is logged and shown, and harms nothing else.

        Args:
            limit_s: Seconds it may take.

        Raises:
            CancelledError: The caller was cancelled, and with it what was going on.
        """
        ending = await self._background.run(self.service.post_init, limit_s)
        self._background.dismiss()
        if not ending.fine and (not ending.cut or ending.left or _is_news(ending.error)):
            self.error = f"post_init: {what_happened(ending, limit_s)}"
            log.error(
                "%s failed in %s; the application goes on without what it was to do%s",
                self, self.error, whereabouts(ending), exc_info=ending.error if _is_news(ending.error) else None,
            )  # fmt: skip
        if ending.cut:
            raise asyncio.CancelledError
        if isinstance(ending.error, KeyboardInterrupt | SystemExit):
            raise ending.error

    async def health(self, limit_s: float) -> Health:
        """Return how the service says it is; no answer and no proper answer are errors too.

        Args:
            limit_s: Seconds that it has for the answer.
        """
        checking = self._checking
        if checking is None or checking.done():  # Never two at once: whoever comes meanwhile waits for the same answer.
            checking = self._checking = asyncio.create_task(self._ask(), context=self._keeper.context())
        self._asking += 1
        try:
            await asyncio.wait([checking], timeout=limit_s)
        finally:
            self._asking -= 1
            if not self._asking:
                checking.cancel()
        if not checking.done():
            return Health([f"health() did not answer within {limit_s:g} s"])
        return Health([*checking.result().errors, *filter(None, [self.error])], checking.result().stats)

    async def _ask(self) -> Health:
        try:
            health = _as_health(await self.service.health())
            return Health(health.errors, cast(Mapping[str, object], plain(health.stats)))
        except asyncio.CancelledError:
            return Health(["health() was cancelled"])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            return Health([f"health() raised {described(exc)}"])

    async def json_repr(self, limit_s: float) -> dict[str, object]:
        """Return what is known of the service as JSON values.

        Args:
            limit_s: Seconds that ``health()`` has for its answer.
        """
        service = self.service
        asked = service._state is ServiceState.READY
        health = await self.health(limit_s) if asked else Health([self.error] if self.error else [])
        return {
            "name": service.name,
            "type": type(service).__qualname__,
            "state": service._state.value,
            "optional": self.optional,
            "needs": [link.target.name for link in self.links if link.target is not None],
            "healthy": asked and health.healthy,
            "errors": list(health.errors),
            "stats": health.stats,
        }


def _raise(ending: Ending, part: Part, phase: str, limit_s: float) -> None:
    """Raise what keeps *part* from starting, if anything does."""
    if ending.fine:
        return
    if isinstance(ending.error, KeyboardInterrupt | SystemExit):
        raise ending.error
    if ending.cut:
        if ending.left:
            log.error("%s: %s() does not give way: given up%s", part, phase, whereabouts(ending))
        elif _is_news(ending.error):
            log.error("%s failed in %s: %s", part, phase, what_happened(ending, limit_s), exc_info=ending.error)
        raise asyncio.CancelledError
    name = part.service.name
    failure = StartFailed(
        part._application,
        name,
        phase,
        what_happened(ending, limit_s),
        f"Raise service_start_timeout_s, or see what it waits for; optional_services=[{name!r}] starts without it"
        + whereabouts(ending)
        if ending.late
        else f"Repair the cause; if the application can do without it, optional_services=[{name!r}]",
    )
    raise failure from (ending.error if _is_news(ending.error) else None)


def what_happened(ending: Ending, limit_s: float | None) -> str:
    """Return how a phase ended, in words.

    Args:
        ending: Not a fine one.
        limit_s: Seconds that it had.
    """
    if ending.late:
        text = f"not done within {limit_s:g} s"
    elif ending.cut:
        text = "cut short"
    elif isinstance(ending.error, asyncio.CancelledError):
        return "cancelled from within"
    else:
        return str(ending.error) if isinstance(ending.error, _Unhealthy) else str(described(ending.error))
    if ending.left:
        text += ", and it does not give way: given up"
    elif _is_news(ending.error):
        text += f", then {described(ending.error)}"
    return text


def whereabouts(ending: Ending) -> str:
    """Return where a phase was when it was cancelled, to be put behind everything else."""
    return f". It was at:{ending.stack}" if ending.stack else ""


def _is_news(error: BaseException | None) -> bool:
    """Return whether *error* says more than that something was cancelled or unhealthy, which is said in words."""
    return error is not None and not isinstance(error, asyncio.CancelledError | _Unhealthy)


def _as_health(value: object) -> Health:
    if isinstance(value, Health):
        return Health([as_text(error) for error in value.errors], value.stats)
    return Health([f"health() returned {shown(value)}, which is no Health: return Health(errors=[...])"])


def as_text(error: object) -> str:
    """Return *error* in words: what is a text already, as it is."""
    if isinstance(error, BaseException):
        return str(described(error))
    return error if isinstance(error, str) else shown(error)


def plain(value: object) -> object:
    """Return *value* as JSON values; what JSON does not know is shown as text, a figure that is no number as null."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case _:
            return shown(value)
