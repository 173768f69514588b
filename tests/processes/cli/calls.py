"""Calls of the command line inside this process, and an endpoint in another thread that they ask."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, NamedTuple
from unittest import mock

import uvicorn

from kaiju_app.admin import admin
from kaiju_app.cli import main
from kaiju_app.scheduler import Cron, ExecPolicy, FirstRun, Scheduler
from kaiju_app.scheduler._hosting import cancel_runs, halt
from processes.admin.served import free_port

OURS = ("KAIJU_URL", "KAIJU_TOKEN", "KAIJU_STORE", "KAIJU_APP", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
EVIL = "evil \x1b]0;owned\x07 \u202e\x9b31m name"
LONG = "reconcile the ledger of every customer with the bank's statement of the day before"


class Called(NamedTuple):
    """What a call of the command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def kaiju(*arguments: str, **environment: str) -> Called:
    """Call the command line, without a terminal."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["kaiju", *arguments]),
        mock.patch.dict(os.environ, clean | environment, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            status: Any = 0
        except SystemExit as end:
            status = end.code
    return Called(status, out.getvalue(), err.getvalue())


async def succeed() -> None:
    """Ask for new prices."""


async def fail() -> None:
    raise RuntimeError("shelf 7 has no label \x1b[31m\nand this is a second line")


async def last() -> None:
    await asyncio.sleep(3600)


def schedule_some(scheduler: Scheduler) -> None:
    for name in ("poll", EVIL, LONG):
        scheduler.schedule_task(succeed, 3600, name=name)
    scheduler.schedule_task(fail, 3600, name="stock")
    scheduler.schedule_task(last, 3600, name="endless")
    scheduler.schedule_task(last, 3600, name="shielded", policy=ExecPolicy.SHIELD)
    scheduler.schedule_task(succeed, 3600, name="later", first_run=FirstRun.NEXT)
    scheduler.schedule_task(succeed, trigger=Cron("0 3 * * *", tz="Europe/Berlin"), name="nightly purge")


@contextmanager
def endpoint(schedule: Callable[[Scheduler], None] = schedule_some, **options: Any) -> Iterator[str]:
    """Serve the endpoint of a scheduler in a thread; return its address."""
    port, ready, stop = free_port(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with Scheduler() as scheduler:
            schedule(scheduler)
            app = admin(scheduler, **options)
            server = uvicorn.Server(
                uvicorn.Config(app, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
            )
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110  Uvicorn has no event for it.
                await asyncio.sleep(0.01)
            ready.set()
            await asyncio.to_thread(stop.wait)
            server.should_exit = True
            await serving
            halt(scheduler)
            cancel_runs(scheduler)  # Also the shielded one.

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
