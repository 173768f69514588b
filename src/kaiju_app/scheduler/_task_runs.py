"""What can be done with a local task: wait for its run, cancel it, ask for an extra one, pause, reschedule."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from datetime import timedelta

from kaiju_app._core.clock import utc
from kaiju_app._core.model import ExecPolicy, Reason, Run
from kaiju_app._core.text import shortened
from kaiju_app._core.validate import text
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import Hold, RunRequest, TaskEntry
from kaiju_app._engine.options import trigger_of, with_rule
from kaiju_app._engine.runner import enclosing_run_of
from kaiju_app.errors import SelfWait, TaskBusy, TaskSuspended, WrongState
from kaiju_app.triggers._base import Trigger

from ._requested import RequestedRun
from ._task_state import holds_on, pause_holder, pause_reason, pause_us


async def wait_for_run(engine: Engine, entry: TaskEntry) -> Run | None:
    """Wait for the end of the run in progress; return its Run, or None at once if there is none.

    Raises:
        SelfWait: Called inside that run.
    """
    engine.check_loop("task.wait", "task.wait()")
    if engine.watchdog.active_run(entry) is None:
        return None
    if enclosing_run_of(entry) is not None:
        raise SelfWait(entry.name, "wait()")
    return await engine.end_of_run(entry, "task.wait", "task.wait()")


def cancel_run(engine: Engine, entry: TaskEntry, reason: str) -> bool:
    """Cancel the run in progress; return whether there was one that had not been cancelled before.

    Raises:
        InvalidArgument: *reason* is not text.
        WrongState: The policy is SHIELD.
    """
    engine.check_loop("task.cancel")
    reason = shortened(text("reason", reason, " that says why"))
    if entry.spec.policy is ExecPolicy.SHIELD:
        raise WrongState(f"task {entry.name!r}: a SHIELD run cannot be cancelled; let it end, or use another policy")
    run = engine.watchdog.active_run(entry)
    if run is None or run.cause is not None:
        return False
    engine.watchdog.cancel(run, Reason.REQUESTED, reason)
    return True


def check_loop_is_open(engine: Engine, entry: TaskEntry) -> None:
    """Refuse to start what could never run.

    Raises:
        WrongState: The loop was closed without ``stop()``.
    """
    if engine.loop is not None and engine.loop.is_closed():
        raise WrongState(
            f"task {entry.name!r}: the event loop in which the scheduler was started is closed: "
            "await scheduler.stop(), then start() it in this one"
        )


def request_run(engine: Engine, entry: TaskEntry, call: str) -> RequestedRun:
    """Request one extra tick; see ``ScheduledTask.request_run()``.

    Args:
        call: The method that is called, for errors.
    """
    engine.check_loop(f"task.{call}", f"task.{call}()")
    if not engine.has(entry):
        raise WrongState(f"task {entry.name!r} cannot run now: it was removed; schedule it again")
    if not engine.started:
        raise WrongState(f"task {entry.name!r} cannot run now: the scheduler is not started; await scheduler.start()")
    check_loop_is_open(engine, entry)
    if engine.controls.is_held(entry):
        raise TaskSuspended(entry.name, ", ".join(map(str, holds_on(engine, entry))))
    if enclosing_run_of(entry) is not None:
        raise SelfWait(entry.name, f"{call}()")
    if entry.requested is not None:
        raise TaskBusy(entry.name, "a run that was requested before is waiting already")
    if engine.watchdog.active_run(entry) is not None and entry.spec.policy is ExecPolicy.SKIP:
        raise TaskBusy(entry.name, "a run is in progress and the policy is SKIP")
    end = RunRequest(loop=asyncio.get_running_loop())
    end.asked_in = copy_context()
    tick = engine.backlog.request_run(entry, end)
    engine.queue.arm_again()
    return RequestedRun(entry.name, utc(tick + engine.offset), lambda: asyncio.shield(end))


def pause(
    engine: Engine, entry: TaskEntry, reason: str | None, for_s: float | timedelta | None, holder: str | None
) -> None:
    """Start no more runs until the pause ends; see ``ScheduledTask.pause()``."""
    engine.check_loop("task.pause", "task.pause()")
    now, reason, length = engine.now(), pause_reason(reason), pause_us(for_s)
    hold = Hold(pause_holder(holder), reason, now, None if length is None else now + length)
    engine.controls.pause(entry, hold)


def reschedule(
    engine: Engine, entry: TaskEntry, interval_s: float | timedelta | None, trigger: Trigger | str | None
) -> None:
    """Replace the rule; see ``ScheduledTask.reschedule()``."""
    engine.check_loop("task.reschedule")
    if not engine.has(entry):
        raise WrongState(f"task {entry.name!r} was removed; schedule it again")
    trigger = trigger_of(trigger, engine.settings.tz, entry.name)
    engine.controls.reschedule(entry, with_rule(entry.spec, interval_s, trigger))
