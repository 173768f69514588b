"""The end: whom ``stop()`` cuts, whom it awaits, and what it says of those that do not end."""

from __future__ import annotations

import asyncio

from ._clock import utc
from ._driver import Driver
from ._events import log
from ._model import ExecPolicy, Reason
from ._run import Running
from ._runs import where


def cut_all(driver: Driver, mine: Running | None) -> list[Running]:
    """Ask every run but *mine* to end, those under SHIELD in their own time; return them."""
    runs = [run for entry in list(driver.entries.values()) if (run := driver.alive(entry)) is not None]
    others = [run for run in runs if run is not mine]
    for run in others:
        if run.spec.policy is ExecPolicy.SHIELD:
            run.finish_up(Reason.SHUTDOWN)
        else:
            driver.cut(run, Reason.SHUTDOWN)
    return others


async def wait_for_ends(driver: Driver, runs: list[Running], timeout_s: float | None) -> list[Running]:
    """Wait until *runs* are over; return those that are not.

    Args:
        timeout_s: Bounds the whole wait, in seconds; None: no bound for SHIELD, the cancel grace for the others.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    endings = {run: loop.create_future() for run in runs if run.entry.run is run}
    for run, ending in endings.items():
        driver.watch(run.entry, ending)
    asked = [ending for run, ending in endings.items() if run.cause is not None]
    awaited = [ending for run, ending in endings.items() if run.cause is None]
    if asked:
        await asyncio.wait(asked, timeout=driver.settings.cancel_grace / 1e6 if timeout_s is None else timeout_s)
    if awaited:
        rest = None if timeout_s is None else max(0.0, timeout_s - (loop.time() - began))
        await asyncio.wait(awaited, timeout=rest)
    left = [run for run, ending in endings.items() if not ending.done()]
    for run in left:
        _report(driver, run)
    return left


def _report(driver: Driver, run: Running) -> None:
    log.error(
        "task %r, tick %s: still going on after stop(), %.3g s after its start; %s. Its task does not run again "
        "before it ends. It is at:%s",
        run.entry.name, utc(run.due + driver.offset).isoformat(), (driver.now() - run.started) / 1e6,
        "it is shielded, and the time limit of stop() is over" if run.cause is None else "it does not give way",
        where(run),
    )  # fmt: skip
