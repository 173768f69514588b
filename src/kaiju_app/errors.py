"""What can go wrong, in words for the person who has to act. One base; leaves take facts and build their message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ._words import shown


class KaijuError(Exception):
    """Base of every error that this package raises on its own account."""


class InvalidArgument(KaijuError, ValueError):
    """An argument was refused at the door; nothing was registered or changed.

    Args:
        argument: Name of the argument.
        value: What was given.
        rule: What it must be, and the way out.
    """

    def __init__(self, argument: str, value: object, rule: str) -> None:
        super().__init__(f"{argument} {rule}, got {shown(value)}")
        self.argument = argument
        self.value = value
        self.rule = rule


class SearchTooLong(KaijuError, RuntimeError):
    """A search for a tick that exceptions do not cover was given up: there may be one further on.

    Args:
        asked: Aware datetime from which on it was searched, or back from which.
        reached: Aware datetime as far as which there is none.
    """

    def __init__(self, asked: datetime, reached: datetime) -> None:
        super().__init__(
            f"no tick is left between {asked.isoformat()} and {reached.isoformat()}, where the search was given up: "
            "ask again from there, or exclude a pair of datetimes in place of what covers little each time"
        )
        self.asked = asked
        self.reached = reached


class WrongState(KaijuError, RuntimeError):
    """The scheduler or task is not in a state in which this call makes sense."""


class WrongThread(KaijuError, RuntimeError):
    """A started scheduler was touched from a thread other than its loop's."""

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call} was called outside the event loop's thread: use loop.call_soon_threadsafe({call}, ...)"
        )


class OwnRun(KaijuError, RuntimeError):
    """A run asked to wait for its own end."""

    def __init__(self, task: str, call: str) -> None:
        super().__init__(f"task {task!r}: {call} inside its own run would wait for itself; call it from another task")


class TaskBusy(KaijuError, RuntimeError):
    """``run_now()`` met a run that is going on and the policy does not let it wait."""

    def __init__(self, task: str, why: str) -> None:
        super().__init__(f"task {task!r} is busy: {why}; await task.wait() first")


class TaskHeld(KaijuError, RuntimeError):
    """``run_now()`` met a hold: the task is suspended or paused."""

    def __init__(self, task: str, holders: str) -> None:
        super().__init__(f"task {task!r} is held by {holders}; leave the suspension or await task.resume() first")


class RunCut(KaijuError):
    """Raised by ``current_run().check()``: this run was asked to end.

    Args:
        task: Name of the task.
        reason: Why it was cut, e.g. ``deadline`` or ``shutdown``.
    """

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(f"task {task!r}: this run was asked to end ({reason}); clean up and return")
        self.reason = reason


class LeaseLost(RunCut):
    """Raised by ``current_run().check()``: another instance may run this tick by now, so this run must not act."""

    def __init__(self, task: str) -> None:
        super().__init__(task, "lease lost")


class SuspendLost(KaijuError, RuntimeError):
    """Raised out of ``suspend()``: the store could not be told in time that it still holds, and tasks may run again.

    Args:
        task: Name of the task.
        holder: Who held it.
    """

    def __init__(self, task: str, holder: str) -> None:
        super().__init__(
            f"task {task!r}: it is not held any more by {holder}, which could not renew its hold in time; "
            "check what was done meanwhile, and suspend again"
        )


class StoreUnavailable(KaijuError, OSError):
    """A store did not answer, or could not do what it was asked; what was asked may have happened all the same.

    It is an OSError, so that a task that meets it is retried as after any other failure of a device or a network.

    Args:
        store: Name of the store, e.g. ``sqlite:///scheduler.db``.
        what: What happened.
    """

    def __init__(self, store: str, what: str) -> None:
        super().__init__(
            f"store {store!r} is unavailable: {what.rstrip('.')}; "
            "see to it that it can be reached: until then no task of scope CLUSTER starts, and no other one is affected"
        )
        self.store = store
        self.what = what


class BadWiring(KaijuError, ValueError):
    """The services of an application do not fit together; nothing was started.

    Args:
        application: Name of the application.
        problems: What does not fit, with the way out, a sentence each.
    """

    def __init__(self, application: str, problems: Sequence[str]) -> None:
        super().__init__(f"application {application!r} cannot start: " + "; ".join(problems))
        self.problems = tuple(problems)


class StartFailed(KaijuError, RuntimeError):
    """A service could not be started; those started before it are closed again.

    Args:
        application: Name of the application.
        service: Name of the service.
        phase: What it was doing: ``init`` or ``health``.
        what: What happened.
        advice: What to do.
    """

    def __init__(self, application: str, service: str, phase: str, what: str, advice: str) -> None:
        self.what = f"application {application!r}: service {service!r} failed in {phase}: {what.rstrip('.')}"
        super().__init__(f"{self.what}. {advice}")
        self.service = service
        self.phase = phase
