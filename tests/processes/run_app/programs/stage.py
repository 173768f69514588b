"""What the programs of these tests share: services that print a line for everything that happens to them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaiju_app.application._phase_runner
import kaiju_app.application._run_app
from kaiju_app import Application, Service, run_app


def say(*words: object) -> None:
    print(*words, flush=True)


def tell_log() -> None:
    """Print the log among the other lines, so that a test can wait for a log line."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")


def be_brief(grace_s: float = 0.2) -> None:
    """Shorten the grace, in tests where its length does not matter."""
    kaiju_app.application._phase_runner.GRACE_S = kaiju_app.application._run_app.GRACE_S = grace_s


@dataclass
class Told(Service):
    """Writes a file when it is closed."""

    async def init(self) -> None:
        say("init", self.name)

    async def close(self) -> None:
        say("close", self.name)
        await asyncio.sleep(0.001)
        Path(f"{self.name}.kept").touch()  # noqa: ASYNC240  # As a database of one file would.
        say("closed", self.name)


@dataclass
class Hanging(Told):
    """Its close() never returns, but obeys its cancellation."""

    async def close(self) -> None:
        say("close", self.name)
        try:
            await asyncio.Event().wait()
        finally:
            say("cut", self.name)


async def insist(name: str) -> None:
    """Wait for ever, ignoring cancellation."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("no", name)


@dataclass
class Stubborn(Told):
    """Its close() never returns and ignores its cancellation."""

    async def close(self) -> None:
        say("close", self.name)
        await insist(self.name)


async def ready() -> None:
    say("ready")


def shop(*services: Service, **options: Any) -> Application:
    """Return an application that prints a line when it is ready."""
    app = Application("shop", services, **options)
    app.scheduler.schedule_task(ready, interval_s=3600, name="ready")
    return app


def new_loop() -> asyncio.AbstractEventLoop:
    if os.environ.get("LOOP") == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def serve(app: Application) -> None:
    run_app(app, loop_factory=new_loop)
    say("returned")


# If the parent process ignores SIGINT, this one inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
