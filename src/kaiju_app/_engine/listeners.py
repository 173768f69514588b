"""Who hears how ticks end: plain functions at once, async ones from a bounded queue. Neither can harm a run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from kaiju_app._core.callables import is_async, is_generator
from kaiju_app._core.clock import epoch_us
from kaiju_app._core.exceptions import is_a
from kaiju_app._core.logs import facts, for_log, logger
from kaiju_app._core.model import Outcome, Overdue, Run
from kaiju_app.errors import InvalidArgument, safe_repr

from .throttled import ThrottledMessage

log = logger("kaiju_app.scheduler")

MAX_WAITING = 256  # Runs that wait for an async listener: a burst of ten thousand tasks must not fill the memory.

Listener = Callable[[Run], object]
OverdueListener = Callable[[Overdue], object]


class Subscription:
    """A listener of a scheduler. Call it without arguments to unsubscribe.

    Attributes:
        listener: The function that is called.
        outcomes: What it hears of; None for every outcome.
        tasks: Names of the tasks that it hears of; None for all.
        overdue: Whether it hears of tasks that are overdue, and of no Runs.
        dropped: How many of them an async listener was too slow to hear of. The oldest ones are dropped.
    """

    __slots__ = (
        "_context",
        "_end",
        "_failures",
        "_now",
        "_slow",
        "_task",
        "_waiting",
        "dropped",
        "listener",
        "outcomes",
        "overdue",
        "tasks",
    )

    def __init__(
        self,
        listener: Listener | OverdueListener,
        outcomes: frozenset[Outcome] | None,
        tasks: frozenset[str] | None,
        now: Callable[[], int],
        end: Callable[[Subscription], None],
        *,
        overdue: bool = False,
    ) -> None:
        if not callable(listener) or is_generator(listener):
            raise InvalidArgument("listener", listener, "must be a function, plain or async, that takes a Run")
        self.listener: Callable[[Any], object] = listener
        self.outcomes = outcomes
        self.overdue = overdue
        self.tasks = tasks
        self.dropped = 0
        self._now = now
        self._end = end
        self._waiting: deque[Run | Overdue] | None = deque() if is_async(listener) else None
        self._task: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._failures = ThrottledMessage(now())
        self._slow = ThrottledMessage(now())

    def __call__(self) -> None:
        """End the subscription; a second call does no harm."""
        self._end(self)
        if self._waiting is not None:
            self._waiting.clear()

    def __repr__(self) -> str:
        dropped = f", {self.dropped} dropped" if self.dropped else ""
        return f"<Subscription of {safe_repr(self.listener)}: {self.waiting} waiting{dropped}>"

    @property
    def waiting(self) -> int:
        """How many Runs wait for an async listener; 0 for a plain one."""
        return len(self._waiting or ())

    def json_repr(self) -> dict[str, object]:
        """Return the subscription as JSON values."""
        return {
            "listener": safe_repr(self.listener),
            "outcomes": None if self.outcomes is None else sorted(self.outcomes),
            "tasks": None if self.tasks is None else sorted(self.tasks),
            "overdue": self.overdue,
            "waiting": self.waiting,
            "dropped": self.dropped,
        }

    def wants(self, task: str, outcome: Outcome) -> bool:
        """Return whether the listener hears of this ending."""
        if self.overdue or (self.outcomes is not None and outcome not in self.outcomes):
            return False
        return self.tasks is None or task in self.tasks

    def wants_overdue(self, task: str) -> bool:
        """Return whether the listener hears that this task is overdue."""
        return self.overdue and (self.tasks is None or task in self.tasks)

    def tell(self, run: Run | Overdue) -> None:
        """Call a plain listener now, and an async one soon."""
        if self._waiting is not None:
            self._put(run, self._waiting)
            return
        try:
            returned = self.listener(run)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # A bug in a listener must not stop the scheduler, nor look like a cancellation.
            self._log_failure(run, exc)
            return
        if returned is not None and asyncio.iscoroutine(returned):
            returned.close()
            if self._failures.due(self._now()):
                log.error(
                    "listener %s returned a coroutine, which nobody awaits: subscribe the async function itself, not "
                    "a lambda or another plain function that calls it", safe_repr(self.listener), extra=_facts_of(run),
                )  # fmt: skip

    # --- async listeners ---

    def _put(self, run: Run | Overdue, waiting: deque[Run | Overdue]) -> None:
        loop = asyncio._get_running_loop()
        if loop is None:  # An ending that was noticed after its loop had been closed.
            self.dropped += 1
            return
        if len(waiting) >= MAX_WAITING:
            waiting.popleft()
            self.dropped += 1
            if self._slow.due(self._now()):
                log.warning(
                    "listener %s is too slow: %d run(s) dropped so far, the oldest ones, as more than %d waited. Make "
                    "it faster, or let it hear less: subscribe(..., outcomes=..., tasks=...)",
                    safe_repr(self.listener), self.dropped, MAX_WAITING, extra=_facts_of(run),
                )  # fmt: skip
        waiting.append(run)
        if self.task_in(loop) is None:
            # Not loop.create_task(): an eager one would run the listener inside the ending of the run.
            name = f"kaiju_app: listener {getattr(self.listener, '__qualname__', '')}"
            self._task = asyncio.Task(self._drain(self.listener, waiting), loop=loop, name=name, context=self._context)

    async def _drain(
        self, listener: Callable[[Any], Awaitable[object] | object], waiting: deque[Run | Overdue]
    ) -> None:
        me = asyncio.current_task()
        while waiting:
            run = waiting.popleft()
            try:
                await listener(run)  # type: ignore[misc]  # It is async, as was found out when it subscribed.
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as exc:
                if is_a(exc, asyncio.CancelledError) and me is not None and me.cancelling():
                    raise
                self._log_failure(run, exc)

    def task_in(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None] | None:
        """Return the asyncio task in *loop* in which an async listener is being called; None if there is none."""
        task = self._task
        return task if task is not None and not task.done() and task.get_loop() is loop else None

    def give_up(self) -> None:
        """Call an async listener no more: the scheduler stops, and it is too slow."""
        if self._task is None or self._waiting is None:
            return
        self._task.cancel()
        self.dropped += 1 + len(self._waiting)
        self._waiting.clear()
        log.warning(
            "listener %s did not end in time after stop(): it was cancelled; %d run(s) dropped in all",
            safe_repr(self.listener), self.dropped,
        )  # fmt: skip

    def _log_failure(self, run: Run | Overdue, exc: BaseException) -> None:
        if self._failures.due(self._now()):
            log.error(
                "listener %s raised for %s; it stays subscribed",
                safe_repr(self.listener), _subject(run), exc_info=for_log(exc), extra=_facts_of(run),
            )  # fmt: skip


async def settle(subscriptions: list[Subscription], timeout_s: float) -> None:
    """Let async listeners hear what waits for them, for at most *timeout_s*; cancel the others."""
    loop, own = asyncio.get_running_loop(), asyncio.current_task()
    busy = {task: each for each in subscriptions if (task := each.task_in(loop)) is not None and task is not own}
    if busy:
        _, late = await asyncio.wait(busy, timeout=timeout_s)
        for task in late:
            busy[task].give_up()


def _subject(event: Run | Overdue) -> str:
    if isinstance(event, Overdue):
        return f"task {event.task!r}, which {'is' if event.overdue else 'was'} overdue"
    return f"task {event.task!r}, tick {event.scheduled_at.isoformat()}"


def _facts_of(event: Run | Overdue) -> dict[str, object]:
    if isinstance(event, Overdue):
        return facts(event.task)
    tick = epoch_us(event.scheduled_at)
    return facts(
        event.task, tick, event.attempts, event.outcome, event.reason, event.delivery, event.fence, event.run_id
    )
