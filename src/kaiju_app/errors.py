"""All errors of the package. Each takes facts, builds its message, and says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, cut to fit into a log line; a repr that fails must not hide the real error."""
    try:
        text = repr(value)
    except BaseException as exc:
        text = f"<{type(value).__name__} whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= 120 else text[:117] + "..."


class KaijuError(Exception):
    """Base of all errors that this package raises."""


class InvalidArgument(KaijuError, ValueError):
    """An argument was refused; nothing was registered or changed.

    Args:
        argument: Name of the argument.
        value: The value that was given.
        rule: What it must be instead.
    """

    def __init__(self, argument: str, value: object, rule: str) -> None:
        super().__init__(f"{argument} {rule}, got {safe_repr(value)}")
        self.argument = argument
        self.value = value
        self.rule = rule


class WrongCall(InvalidArgument, TypeError):
    """A call does not fit the signature: an argument is unknown, missing, given twice or too much.

    It is a TypeError, as Python itself raises.
    """


class UnknownTask(KaijuError, KeyError):
    """There is no task of this name.

    Args:
        name: The name that was asked for.
        advice: Names that are near, or all names.
    """

    def __init__(self, name: object, advice: str) -> None:
        super().__init__(f"there is no task {safe_repr(name)}: {advice}")
        self.name = name

    def __str__(self) -> str:  # KeyError would show the repr of the text.
        return str(self.args[0])


class SearchTooLong(KaijuError, RuntimeError):
    """The search for a tick was stopped: too many consecutive ticks are excluded. One may exist further on.

    Args:
        asked: Aware datetime at which the search began, forward or backward.
        reached: Aware datetime up to which there is no tick.
    """

    def __init__(self, asked: datetime, reached: datetime) -> None:
        super().__init__(
            f"all ticks between {asked.isoformat()} and {reached.isoformat()} are excluded, and the search stopped "
            "there: search again from there, or exclude one pair of datetimes instead of many short stretches"
        )
        self.asked = asked
        self.reached = reached


class WrongState(KaijuError, RuntimeError):
    """The scheduler or task is in a state that does not allow this call."""


class WrongThread(KaijuError, RuntimeError):
    """A started scheduler was used outside its event loop: in another thread, or in another loop.

    Args:
        call: What was called, such as ``task.disable``.
        here: Where it was called.
        home: Where the scheduler was started.
        coroutine: What to pass to ``asyncio.run_coroutine_threadsafe()``; None for a plain call.
    """

    def __init__(self, call: str, here: str, home: str, coroutine: str | None = None) -> None:
        way_out = (
            f"asyncio.run_coroutine_threadsafe({coroutine}, loop), with that loop"
            if coroutine is not None
            else f"loop.call_soon_threadsafe({call}, ...), with that loop; if you need what it returns, call it in a "
            "coroutine, and use asyncio.run_coroutine_threadsafe(coroutine, loop)"
        )
        super().__init__(f"{call}() was called in {here}, but its scheduler was started in {home}: use {way_out}")


class NothingRan(KaijuError, TypeError):
    """A function returned something that would do its work, such as a generator, and nobody has used it.

    Args:
        what: What it returned.
        advice: What to do.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"the function returned {what}, so nothing ran: {advice}")


class SelfWait(KaijuError, RuntimeError):
    """A run tried to wait for its own end."""

    def __init__(self, task: str, call: str) -> None:
        super().__init__(
            f"task {task!r}: {call} in its own run would wait for itself; call it from another asyncio task"
        )


class TaskBusy(KaijuError, RuntimeError):
    """``run_now()`` found a run in progress, and the policy does not let a tick wait for its end.

    Args:
        task: Name of the task.
        why: What it is busy with.
    """

    def __init__(self, task: str, why: str) -> None:
        self.what = f"task {task!r} is busy: {why}"
        super().__init__(f"{self.what}; await task.wait() first")


class TaskSuspended(KaijuError, RuntimeError):
    """``run_now()`` was called while the task is suspended or paused.

    Args:
        task: Name of the task.
        holders: Who holds it, and why.
    """

    def __init__(self, task: str, holders: str) -> None:
        self.what = f"task {task!r} is suspended by {holders}"
        super().__init__(f"{self.what}; leave the suspension or await task.resume() first")


class RunCancelled(KaijuError):
    """Raised by ``current_run().check()``: this run was cancelled.

    Args:
        task: Name of the task.
        reason: Why it was cancelled, such as ``deadline`` or ``shutdown``.
    """

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(f"task {task!r}: this run was cancelled ({reason}); clean up and raise this error again")
        self.reason = reason


class LeaseLost(RunCancelled):
    """Raised by ``current_run().check()``: another instance may already run this tick, so this run must not act."""

    def __init__(self, task: str) -> None:
        super().__init__(task, "lease lost")


class SuspensionLost(KaijuError, RuntimeError):
    """Raised by ``suspend()``: the hold could not be renewed in the store in time, so tasks may run again.

    Args:
        task: Name of the task.
        holder: Who held the task.
    """

    def __init__(self, task: str, holder: str) -> None:
        super().__init__(
            f"task {task!r} is no longer suspended: {holder} could not renew its hold in time; "
            "check what ran in the meantime and suspend the task again"
        )


class StoreUnavailable(KaijuError, OSError):
    """A store did not answer or could not execute a request; the request may have taken effect nevertheless.

    It is an OSError, so that a task that raises it is retried as after any other failure of a device or network.

    Args:
        store: Name of the store, such as ``sqlite:///scheduler.db``.
        what: What happened.
    """

    def __init__(self, store: str, what: str) -> None:
        super().__init__(
            f"store {store!r} is unavailable: {what.rstrip('.')}; "
            "make it reachable; until then no further ticks of tasks with Scope.CLUSTER are claimed, and tasks with "
            "Scope.LOCAL are unaffected"
        )
        self.store = store
        self.what = what


class StoreRefused(StoreUnavailable):
    """A store does not accept a request, such as a value that is too large for it; nothing was changed.

    Args:
        store: Name of the store, such as ``sqlite:///scheduler.db``.
        what: What it said.
    """

    def __init__(self, store: str, what: str) -> None:
        super(StoreUnavailable, self).__init__(
            f"store {store!r} does not accept a request: {what.rstrip('.')}; "
            "nothing was changed. See which constraint, trigger or limit of the store refuses it"
        )
        self.store = store
        self.what = what


class DependencyError(KaijuError, ValueError):
    """The dependencies of an application's services cannot be resolved; nothing was started.

    Args:
        application: Name of the application.
        problems: One sentence for each problem, with what to do.
    """

    def __init__(self, application: str, problems: Sequence[str]) -> None:
        super().__init__(f"application {application!r} cannot start: " + "; ".join(problems))
        self.problems = tuple(problems)


class ServiceStartFailed(KaijuError, RuntimeError):
    """A service could not be started; those that had started before it are closed again.

    Args:
        application: Name of the application.
        service: Name of the service.
        phase: The phase that failed: ``init`` or ``health``.
        what: What happened.
        advice: What to do.
    """

    def __init__(self, application: str, service: str, phase: str, what: str, advice: str) -> None:
        self.what = f"application {application!r}: service {service!r} failed in {phase}: {what.rstrip('.')}"
        super().__init__(f"{self.what}. {advice}")
        self.service = service
        self.phase = phase


class VirtualTimeError(KaijuError, RuntimeError):
    """A test in virtual time cannot go on, or uses its clock wrongly. The message says what to do."""
