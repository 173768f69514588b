"""What the programs of test_run_app.py have in common: parts that tell what happens to them, a line each."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaiju_app._keeper
import kaiju_app._serve
from kaiju_app import Application, Service, run_app


def say(*words: object) -> None:
    print(*words, flush=True)


def tell_log() -> None:
    """Print the log among the other lines, so that it can be waited for."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")


def be_brief(grace_s: float = 0.2) -> None:
    """Give what was cancelled less time, where the figure itself does not matter."""
    kaiju_app._keeper.GRACE_S = kaiju_app._serve.GRACE_S = grace_s


@dataclass
class Told(Service):
    """Keeps a file when it is closed."""

    async def init(self) -> None:
        say("init", self.name)

    async def close(self) -> None:
        say("close", self.name)
        await asyncio.sleep(0.001)
        Path(f"{self.name}.kept").touch()  # noqa: ASYNC240  # As a database of one file would.
        say("closed", self.name)


@dataclass
class Hanging(Told):
    """Closes for ever, but gives way."""

    async def close(self) -> None:
        say("close", self.name)
        try:
            await asyncio.Event().wait()
        finally:
            say("cut", self.name)


async def insist(name: str) -> None:
    """Wait for ever, and do not give way."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("no", name)


@dataclass
class Stubborn(Told):
    """Closes for ever, and does not give way."""

    async def close(self) -> None:
        say("close", self.name)
        await insist(self.name)


async def ready() -> None:
    say("ready")


def shop(*services: Service, **options: Any) -> Application:
    """Return an application that says when it is ready."""
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


# A parent that ignores it hands that down.
signal.signal(signal.SIGINT, signal.default_int_handler)
