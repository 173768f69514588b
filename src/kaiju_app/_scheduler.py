"""Scheduler: registration, start, stop. What the application holds in its hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from uuid import uuid4

from . import _door
from ._arguments import aware, duration_us, key, whole
from ._clock import REAL, Clock, utc
from ._driver import Driver
from ._entry import Entry
from ._events import Listener
from ._functions import check_args, facts
from ._life import Life
from ._model import ExecPolicy, FirstRun, Missed, OnLost, Run, Scope, Settings
from ._rows import run_of
from ._shared import Shared, check_sharing
from ._shared_suspend import SharedSuspension
from ._shared_task import SharedTask
from ._sharing import Sharing
from ._suspend import Suspension
from ._task import ScheduledTask
from ._timing import USUAL, LeaseTiming
from ._triggers import Trigger
from .errors import InvalidArgument
from .stores import MemoryStore, Store, store_from_url

T = TypeVar("T")

DAY_S = 86_400.0


class Scheduler:
    """Runs functions periodically inside the running event loop.

    It is an asynchronous context manager: inside ``async with Scheduler() as scheduler:`` it is started.

    Args:
        store: Where instances of the application agree on who runs the tasks of ``Scope.CLUSTER``: a URL such as
            ``sqlite:///scheduler.db`` for the processes of one host, or a Store, which no other started scheduler has
            unless it is a MemoryStore; None: there is only this instance.
        app: The set of instances that share the records of a store; of a Store, that is said where it is made.
        lease: How long a claim in the store is trusted, and how soon it moves from an instance that died.
        version: Who may change the rule of a task in the store: instances of the highest version. Raise it with each
            release that changes a rule; releases may run side by side.
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
        store: str | Store | None = None,
        *,
        app: str = "default",
        lease: LeaseTiming = USUAL,
        version: int | tuple[int, ...] = 0,
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
        self._lease = _timing(lease)
        self._version = _version(version)
        app = key("app", app)
        shared = None if store is None else _store(store, app)
        sharing = None if shared is None else Sharing(self._driver, shared, self._lease, self._version)
        self._life = Life(self._driver, sharing)

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
        scope: Scope = Scope.LOCAL,
        on_lost: OnLost = OnLost.RETRY,
        overlap_on_loss: bool = False,
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
        scope: Scope = Scope.LOCAL,
        on_lost: OnLost = OnLost.RETRY,
        overlap_on_loss: bool = False,
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
        scope: Scope = Scope.LOCAL,
        on_lost: OnLost = OnLost.RETRY,
        overlap_on_loss: bool = False,
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
                the first tick; a past one is where the grid is counted from, or with a trigger of no effect. An
                interval looks at the wall clock for it once, at the start, and does not notice if that is set later.
            missed: What becomes of ticks that could not run in time.
            grace_s: Seconds after which a tick is too old to run; by default no limit, for Missed.SKIP 1 s or a tenth
                of the gap, if that is more.
            catchup_s: Seconds after which Missed.ALL makes no more up for a tick.
            jitter_s: Each tick is due up to so many seconds later, less than the gap: another time for each task, tick
                and process, so that many of them do not come at once.
            until: Aware datetime of the last possible tick.
            scope: Which instances run it: each by itself, or one of them for each tick (see SharedTask). What is
                shared needs a name; its first run happens once for all instances, when the store hears of it first.
            on_lost: With Scope.CLUSTER, what becomes of a tick whose run was lost with its process or its lease, or
                stopped.
            overlap_on_loss: With Scope.CLUSTER, that it is understood: a SHIELD run, or a plain function, cannot be
                cut when its lease is lost, and goes on beside the run of another instance.

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
        given = tuple(args), dict(kws) if kws else _door.NO_KWS
        if _door.member("scope", scope, Scope) is Scope.CLUSTER:
            check_sharing(checked, name, overlap_on_loss)
            on_lost = _door.member("on_lost", on_lost, OnLost)
            return self._share(Shared(driver, self._given_name(name), func, *given, checked, on_lost))
        entry = Entry(
            driver, self._free_name(known.label) if name is None else self._given_name(name), func, *given, checked
        )
        driver.add(entry)
        return ScheduledTask(driver, entry)

    def _share(self, entry: Shared) -> ScheduledTask[Any]:
        driver, life = self._driver, self._life
        if life.sharing is None:  # Alone, it agrees with itself.
            life.sharing = Sharing(driver, MemoryStore(driver.wall), self._lease, self._version)
            if driver.planning and driver.loop is not None:
                life.sharing.open(driver.loop)
        driver.add(entry)
        life.sharing.add(entry)
        return SharedTask(driver, life.sharing, entry)

    def _face(self, entry: Entry) -> ScheduledTask[Any]:
        """Return the public face of *entry*."""
        sharing = self._life.sharing
        if isinstance(entry, Shared) and sharing is not None:
            return SharedTask(self._driver, sharing, entry)
        return ScheduledTask(self._driver, entry)

    def _free_name(self, label: str) -> str:
        name = base = f"scheduled:{label}"
        while name in self._driver.entries:
            number = self._numbers[base] = self._numbers.get(base, 1) + 1
            name = f"{base}#{number}"
        return name

    def _given_name(self, name: str | None) -> str:
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
        return [self._face(run.entry) for run in await self._life.stop(limit)]

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
        return Tasks(self._driver.entries, self._face)

    def suspend(self, reason: str | None = None) -> AbstractAsyncContextManager[None]:
        """Return a context inside which all tasks are quiet, those added meanwhile too; see ScheduledTask.suspend().

        Args:
            reason: For the people who ask why nothing runs.
        """
        sharing = self._life.sharing
        if sharing is not None:
            return SharedSuspension(self._driver, sharing, None, reason)
        return Suspension(self._driver, None, reason)

    async def history(self, name: str, limit: int = 100) -> list[Run]:
        """Return the last records of a task, oldest first; of a shared one, what ran on any instance.

        What the store keeps of a shared task outlives the process, and the task: its newest 100 records.

        Raises:
            InvalidArgument: *limit* is negative or not a whole number.
            KeyError: There is no such task, and no store that might know of it.
            StoreUnavailable: The store did not answer.
            WrongState: The task is not one of this instance's own, and the scheduler is not started.
        """
        whole("limit", limit, at_least=0)
        entry, sharing = self._driver.entries.get(name), self._life.sharing
        if sharing is None or (entry is not None and not isinstance(entry, Shared)):
            return ScheduledTask(self._driver, self._driver.entries[name]).history()[-limit:] if limit else []
        return [run_of(row) for row in await sharing.member.coordinator.history(name, limit)]

    async def inspect(self) -> dict[str, object]:
        """Return what all instances do, as JSON values, from any of them.

        ``store`` is its name and ``time`` its clock; ``instances`` are those heard of lately, with host, process and
        version; ``tasks`` are all shared ones with their rule, their next tick, where they run, and who holds them.
        Instants are UTC ISO text. None of it without a store.

        Raises:
            StoreUnavailable: The store did not answer.
            WrongState: The scheduler is not started.
        """
        sharing = self._life.sharing
        if sharing is None:
            return {"store": None, "time": utc(self._driver.wall()).isoformat(), "instances": [], "tasks": []}
        return await sharing.inspect()

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
            "store": None if self._life.sharing is None else self._life.sharing.state(),
            "holds": [str(hold) for hold in self._driver.holds],
            "tasks": [task.json_repr() for task in self.tasks.values()],
        }


class Tasks(Mapping[str, ScheduledTask[Any]]):
    """A read-only view of the tasks of a scheduler, by name."""

    __slots__ = ("_entries", "_face")

    def __init__(self, entries: Mapping[str, Entry], face: Callable[[Entry], ScheduledTask[Any]]) -> None:
        self._entries = entries
        self._face = face

    def __getitem__(self, name: str) -> ScheduledTask[Any]:
        return self._face(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{len(self)} tasks>"


def _store(store: str | Store, app: str) -> Store:
    if not isinstance(store, Store):
        return store_from_url(store, app)
    if app not in ("default", store.app):
        rule = f"is not the store's own, {store.app!r}: give it where the store is made, SqliteStore(..., app=...)"
        raise InvalidArgument("app", app, f"{rule}; a MemoryStore is one application's as a whole")
    return store


def _timing(lease: LeaseTiming) -> LeaseTiming:
    if not isinstance(lease, LeaseTiming):
        raise InvalidArgument("lease", lease, "must be a LeaseTiming, such as LeaseTiming(ttl_s=6, renew_s=1.2, ...)")
    return lease


def _version(version: int | tuple[int, ...]) -> tuple[int, ...]:
    parts = version if isinstance(version, tuple) else (version,)
    if not parts or any(isinstance(part, bool) or not isinstance(part, int) or part < 0 for part in parts):
        raise InvalidArgument("version", version, "must be a whole number from 0 on, or several: 7 or (1, 4, 2)")
    return parts
