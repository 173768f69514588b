"""Suspension: no run starts and none is in progress while somebody is inside.

What it holds, and where, is up to its targets: the tasks of this process (here), those of all instances (in
``_cluster_suspension``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Protocol

from kaiju_app._core.clock import utc
from kaiju_app._core.text import shortened
from kaiju_app._core.validate import reason as checked_reason
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import Hold, TaskEntry
from kaiju_app._engine.events import facts_of_run, log
from kaiju_app._engine.runner import enclosing_run
from kaiju_app._engine.watchdog import where

LONG_WAIT_S = 30.0  # A suspension that waits longer than this logs which run it waits for, and again as often.


class Stay(Protocol):
    """What one entry into a suspension holds at one target."""

    async def hold(self) -> None:
        """Start no more runs."""

    async def wait_until_idle(self) -> None:
        """Wait for the runs in progress, except the one that the caller is inside."""

    def release(self, exc: BaseException | None) -> None:
        """Release what is held, also after ``hold()`` failed halfway.

        Args:
            exc: The exception that the caller leaves with; None if it leaves without one.
        """


class Suspension(AbstractAsyncContextManager[None]):
    """Keeps tasks from running while somebody is inside.

    It may be entered any number of times, nested or side by side: each entry has holds of its own.

    Args:
        call: The call that made it, for errors.
        targets: Each makes a stay for a new hold. They hold and wait in this order, and release in reverse.
        reason: Shown to people who ask why nothing runs.
    """

    def __init__(
        self, engine: Engine, call: str, targets: Sequence[Callable[[Hold], Stay]], reason: str | None
    ) -> None:
        self._engine = engine
        self._call = call
        self._targets = targets
        self._reason = checked_reason(reason)
        self._entered: list[tuple[asyncio.Task[object] | None, list[Stay]]] = []

    async def __aenter__(self) -> None:
        self._engine.check_loop(self._call, "coroutine")
        hold = Hold(_holder(), self._reason, self._engine.now())
        stays: list[Stay] = []
        try:
            for target in self._targets:
                stays.append(target(hold))
                await stays[-1].hold()
            for stay in stays:
                await stay.wait_until_idle()
        except BaseException as exc:  # An error or a cancellation before it was entered.
            _release(stays, exc)
            raise
        self._entered.append((asyncio.current_task(), stays))

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.check_loop(self._call, "coroutine")
        task = asyncio.current_task()
        # Test fixtures may enter in one asyncio task and leave in another.
        own = [entry for entry in self._entered if entry[0] is task] or self._entered
        entry = own[-1]
        self._entered.remove(entry)
        _release(entry[1], exc)


def _release(stays: Sequence[Stay], exc: BaseException | None) -> None:
    """Release *stays* in reverse, all of them even if one raises."""
    with ExitStack() as stack:
        for stay in stays:
            stack.callback(stay.release, exc)


def _holder() -> str:
    """Return a description of the caller, for people who ask who holds a task."""
    run = enclosing_run()
    if run is not None:
        return f"suspend() in the run of task {run.entry.name!r}"
    task = asyncio.current_task()
    return "suspend()" if task is None else shortened(f"suspend() in {task.get_name()}")


class LocalStay:
    """Holds one task of this process, or all of them.

    Args:
        entry: The task; None for all tasks of the scheduler, including those added later.
    """

    def __init__(self, engine: Engine, entry: TaskEntry | None, hold: Hold) -> None:
        self._engine = engine
        self._entry = entry
        self._hold = hold

    async def hold(self) -> None:
        """Start no more runs in this process."""
        self._engine.controls.hold(self._entry, self._hold)

    def release(self, exc: BaseException | None) -> None:
        """Let the task run again, unless something else holds it."""
        self._engine.controls.unhold(self._entry, self._hold)

    async def wait_until_idle(self) -> None:
        """Wait for the runs in progress in this process, except the one that the caller is inside."""
        engine, own_run = self._engine, enclosing_run()
        waiting = {}
        for entry in self._entries():
            run = engine.watchdog.active_run(entry)
            if run is not None and run is not own_run:
                waiting[engine.end_of_run(entry, "suspend", "coroutine")] = entry
        while waiting:
            done, _ = await asyncio.wait(waiting, timeout=LONG_WAIT_S)
            for end in done:
                del waiting[end]
            for entry in waiting.values() if not done else ():
                self._log_wait_for(entry)

    def _entries(self) -> list[TaskEntry]:
        if self._entry is None:
            return list(self._engine.entries.values())
        replaced = self._engine.replacements.predecessor(self._entry)
        return [self._entry] if replaced is None else [self._entry, replaced]

    def _log_wait_for(self, entry: TaskEntry) -> None:
        run = entry.run
        if run is None:
            return
        now = self._engine.now()
        log.warning(
            "%s has waited %.3g s for the run of task %r, tick %s, which began %.3g s ago and is at:%s",
            self._hold, (now - self._hold.since) / 1e6, entry.name, utc(run.tick + entry.host.offset).isoformat(),
            (now - run.started) / 1e6, where(run), extra=facts_of_run(run),
        )  # fmt: skip
