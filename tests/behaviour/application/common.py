"""What the tests of an application share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kaiju_app import Health, Service, ServiceState, service
from support.reading import stubborn

CLOSED, STARTING, READY, CLOSING = ServiceState

Act = Callable[["Actor"], Awaitable[Any]]


class Catastrophe(BaseException):
    """A BaseException that no function should raise."""


@dataclass(eq=False)
class Actor(Service):
    """Writes each call to the journal, and does in each phase what the test asks for."""

    journal: list[str] = field(default_factory=list)
    init_: Act | None = None
    health_: Act | None = None
    post_init_: Act | None = None
    close_: Act | None = None

    async def init(self) -> None:
        await self.play("init", self.init_)

    async def health(self) -> Health:
        answer = await self.play("health", self.health_)
        return answer if self.health_ else Health()  # type: ignore[no-any-return]

    async def post_init(self) -> None:
        await self.play("post_init", self.post_init_)

    async def close(self) -> None:
        await self.play("close", self.close_)

    async def play(self, phase: str, act: Act | None) -> Any:
        self.journal.append(f"{phase} {self.name}")
        return await act(self) if act else None


@dataclass(eq=False)
class OnDb(Actor):
    db: Actor = service("db")


@dataclass(eq=False)
class PerhapsOnDb(Actor):
    db: Actor | None = service("db", required=False)


def takes(seconds: float) -> Act:
    return lambda _: asyncio.sleep(seconds)


def holds_on(seconds: float) -> Act:
    """Keep running for so many *seconds*, ignoring cancellation."""
    return lambda _: stubborn(seconds)


def tells(health: Any) -> Act:
    async def act(_: Actor) -> Any:
        return health

    return act


def fails(error: BaseException) -> Act:
    async def act(_: Actor) -> Any:
        raise error

    return act


def cleans_up(seconds: float, error: BaseException | None = None) -> Act:
    """Wait for ever. When cancelled, clean up for *seconds*, then obey or raise *error*."""

    async def act(_: Actor) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
            if error is not None:
                raise error from None
            raise

    return act


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == level and record.name == "kaiju_app.app"]


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in records(caplog, level)]
