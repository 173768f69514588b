"""Scheduler: registration, start, stop. What the application holds in its hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from uuid import uuid4

from . import _door
from ._arguments import aware, duration_us, whole
from ._clock import REAL, Clock
from ._driver import Driver
from ._entry import Entry
from ._events import Listener
from ._functions import check_args, facts
from ._life import Life
from ._model import ExecPolicy, FirstRun, Missed, Settings
from ._suspend import Suspension
from ._task import ScheduledTask
from ._triggers import Trigger
from .errors import InvalidArgument

T = TypeVar("T")

DAY_S = 86_400.0


class Scheduler:
    """Runs functions periodically inside the running event loop.

    It is an asynchronous context manager: inside ``async with Scheduler() as scheduler:`` it is started.

    Args:
        history: Records kept for each task, at least 1.
        cancel_grace_s: Seconds after which a run that was asked to end and has not counts as hung.
        threads: Most plain functions that run at a time, each in a thread of the scheduler's own.
        wait_task_timeout_safe_mod: Gaps after which a run under WAIT or SKIP is cut, unless it has a max_timeout_s.
        clock: Where the time comes from; for tests.

    Raises:
        InvalidArgument: One of them is out of range.
    """

    def __init__(
        self,
        *,
        history: int = 20,
        cancel_grace_s: float | timedelta = 5.0,
        threads: int = 8,
        wait_task_timeout_safe_mod: float = 3.0,
        clock: Clock | None = None,
    ) -> None:
        safe_mod = wait_task_timeout_safe_mod
        if isinstance(safe_mod, bool) or not isinstance(safe_mod, int | float) or not 1 <= safe_mod <= 1e6:
            raise InvalidArgument("wait_task_timeout_safe_mod", safe_mod, "must be a number of at least 1")
        self._driver = Driver(
            clock or REAL,
            Settings(
                cancel_grace=duration_us("cancel_grace_s", cancel_grace_s),
                history=whole("history", history, at_least=1),
                threads=whole("threads", threads, at_least=1),
                safe_mod=float(safe_mod),
                instance=uuid4().hex,
            ),
        )
        self._numbers: dict[str, int] = {}
        self._life = Life(self._driver)

    # --- registration ---

    @overload
    def schedule_task(
        self,
        func: Callable[..., Awaitable[T]],
        interval_s: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kws: Mapping[str, Any] = ...,
        *,
        trigger: Trigger | None = None,
        policy: ExecPolicy = ExecPolicy.CANCEL,
        max_timeout_s: float | timedelta = 0,
        retries: int = 0,
        retry_interval_s: float | timedelta = 0,
        name: str | None = None,
        retry_on: type[Exception] | tuple[type[Exception], ...] = ...,
        first_run: FirstRun | datetime | None = None,
        missed: Missed = Missed.ONCE,
        grace_s: float | timedelta | None = None,
        catchup_s: float | timedelta = DAY_S,
        jitter_s: float | timedelta = 0,
        until: datetime | None = None,
    ) -> ScheduledTask[T]: ...

    @overload
    def schedule_task(
        self,
        func: Callable[..., T],
        interval_s: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kws: Mapping[str, Any] = ...,
        *,
        trigger: Trigger | None = None,
        policy: ExecPolicy = ExecPolicy.CANCEL,
        max_timeout_s: float | timedelta = 0,
        retries: int = 0,
        retry_interval_s: float | timedelta = 0,
        name: str | None = None,
        retry_on: type[Exception] | tuple[type[Exception], ...] = ...,
        first_run: FirstRun | datetime | None = None,
        missed: Missed = Missed.ONCE,
        grace_s: float | timedelta | None = None,
        catchup_s: float | timedelta = DAY_S,
        jitter_s: float | timedelta = 0,
        until: datetime | None = None,
    ) -> ScheduledTask[T]: ...

    def schedule_task(
        self,
        func: Callable[..., Any],
        interval_s: float | timedelta | None = None,
        args: Sequence[Any] = (),
        kws: Mapping[str, Any] = _door.NO_KWS,
        *,
        trigger: Trigger | None = None,
        policy: ExecPolicy = ExecPolicy.CANCEL,
        max_timeout_s: float | timedelta = 0,
        retries: int = 0,
        retry_interval_s: float | timedelta = 0,
        name: str | None = None,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (OSError, TimeoutError),
        first_run: FirstRun | datetime | None = None,
        missed: Missed = Missed.ONCE,
        grace_s: float | timedelta | None = None,
        catchup_s: float | timedelta = DAY_S,
        jitter_s: float | timedelta = 0,
        until: datetime | None = None,
    ) -> ScheduledTask[Any]:
        """Run *func* periodically; return its task. Legal before there is a loop; never calls *func* itself.

        Args:
            func: ``async def``, run in the loop; or a plain function, run in a thread.
            interval_s: Seconds from a tick to the next, or a ``timedelta``: from 1 ms to 100 years.
            args: Arguments by position.
            kws: Arguments by name.
            trigger: A rule instead of an interval: ``Cron``, ``Every``, ``At``, ``AnyOf``, ``Except``, or anything with
                their two methods. It lives on the wall clock; an interval does not notice how that is set.
            policy: What a tick does to a run that is still going on.
            max_timeout_s: Seconds for all attempts of a run together; 0: the policy's own limit.
            retries: Attempts that may follow the first one.
            retry_interval_s: Seconds from a failed attempt to the next; 0: the gap spread evenly over the attempts.
            name: Unique name; by default ``scheduled:`` and the qualified name of the function.
            retry_on: Exceptions that are worth another attempt.
            first_run: When it runs first; by default NOW for an interval, NEXT for a trigger. An aware datetime is
                the first tick; a past one is where the grid is counted from, or with a trigger of no effect.
            missed: What becomes of ticks that could not run in time.
            grace_s: Seconds after which a tick is too old to run; by default no limit, for Missed.SKIP 1 s or a tenth
                of the gap, if that is more.
            catchup_s: Seconds after which Missed.ALL makes no more up for a tick.
            jitter_s: Each tick is due up to so many seconds later, less than the gap: another time for each task, tick
                and process, so that many of them do not come at once.
            until: Aware datetime of the last possible tick.

        Raises:
            InvalidArgument: An argument is wrong; nothing was registered.
            WrongThread: The scheduler is started and this is not the thread of its loop.
        """
        driver = self._driver
        driver.check_thread("schedule_task")
        known = facts(func)
        check_args(func, known, args, kws)
        if isinstance(first_run, datetime):
            first_run = aware("first_run", first_run)  # Here: in the hour that comes twice, two instants are equal.
        if isinstance(until, datetime):
            until = aware("until", until)
        checked = _door.known_spec(
            interval_s,
            trigger,
            policy,
            max_timeout_s,
            retries,
            retry_interval_s,
            retry_on,
            first_run,
            missed,
            grace_s,
            catchup_s,
            jitter_s,
            until,
            known.threaded,
            driver.settings.safe_mod,
        )
        entry = Entry(
            driver,
            self._free_name(known.label) if name is None else self._given_name(name),
            func,
            tuple(args),
            dict(kws) if kws else _door.NO_KWS,
            checked,
        )
        driver.add(entry)
        return ScheduledTask(driver, entry)

    def _free_name(self, label: str) -> str:
        name = base = f"scheduled:{label}"
        while name in self._driver.entries:
            number = self._numbers[base] = self._numbers.get(base, 1) + 1
            name = f"{base}#{number}"
        return name

    def _given_name(self, name: str) -> str:
        if not isinstance(name, str) or not name:
            raise InvalidArgument("name", name, "must be a text that is not empty, or None")
        if name in self._driver.entries:
            raise InvalidArgument("name", name, "must be unique: a task of that name exists, remove() it first")
        return str(name)  # Not a StrEnum or the like.

    # --- life ---

    @property
    def started(self) -> bool:
        """Whether ticks come due."""
        return self._driver.planning

    async def start(self) -> None:
        """Begin to run the tasks; each begins anew, with its first run. A ``stop()`` under way is awaited.

        The context of the caller is captured here: every run gets a copy of it.

        Raises:
            WrongState: It is started already, in this loop or in another one.
            OwnRun: Called from inside a run that a ``stop()`` under way waits for.
        """
        await self._life.start()

    async def stop(self, timeout_s: float | timedelta | None = None) -> list[ScheduledTask[Any]]:
        """Plan nothing more, end what is going on, and return the tasks whose runs did not end in time.

        Runs under CANCEL, WAIT and SKIP are cancelled at once, those under SHIELD are awaited, retry pauses are cut.
        Called from inside a run, it neither cancels nor awaits that one. Stopping twice is harmless. A thread cannot be
        stopped: Python itself waits for one that is left when the interpreter exits.

        Args:
            timeout_s: Bounds the whole wait, in seconds; None: no limit for SHIELD, ``cancel_grace_s`` for the others.

        Raises:
            WrongState: It was started in another loop, which is not closed.
            InvalidArgument: *timeout_s* is negative or no number.
        """
        limit = None if timeout_s is None else duration_us("timeout_s", timeout_s) / 1e6
        return [ScheduledTask(self._driver, run.entry) for run in await self._life.stop(limit)]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what there is ---

    @property
    def tasks(self) -> Mapping[str, ScheduledTask[Any]]:
        """The tasks by name: a read-only view that follows what happens."""
        return Tasks(self._driver)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context inside which all tasks are quiet, those added meanwhile too; see ScheduledTask.suspend().

        Args:
            reason: For the people who ask why nothing runs.
        """
        return Suspension(self._driver, None, reason)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with the Run of every tick that ends; return a function that ends this.

        It is called in the loop, after the record is kept; of consecutive skips it hears the opening and the closing.
        What it raises is logged and harms nothing.

        Raises:
            InvalidArgument: It is not a plain function.
        """
        return self._driver.subscribe(listener)

    def json_repr(self) -> dict[str, object]:
        """Return what is known of the scheduler and its tasks as JSON values.

        ``time`` is in seconds of the loop's clock, null while it is stopped.
        """
        loop = self._driver.loop
        return {
            "started": self.started,
            "time": None if loop is None else loop.time(),
            "instance": self._driver.instance,
            "holds": [str(hold) for hold in self._driver.holds],
            "tasks": [task.json_repr() for task in self.tasks.values()],
        }


class Tasks(Mapping[str, ScheduledTask[Any]]):
    """A read-only view of the tasks of a scheduler, by name."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getitem__(self, name: str) -> ScheduledTask[Any]:
        return ScheduledTask(self._driver, self._driver.entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._driver.entries)

    def __len__(self) -> int:
        return len(self._driver.entries)

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"
