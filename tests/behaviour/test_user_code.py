"""Misbehaving functions and callers: the schedule goes on, and every problem is visible."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument, RunCancelled, SelfWait
from kaiju_app.scheduler import Backoff, Every, ExecPolicy, FirstRun, Run, ScheduledTask, Scheduler, current_run
from support.reading import endings, nothing, now_s, starts_s, stubborn, wait_until
from support.virtual import VirtualLoop


def asyncio_task_of(task: ScheduledTask[Any]) -> asyncio.Task[Any]:
    """Return the asyncio task of the run in progress, found the way any code can find it."""
    [found] = [other for other in asyncio.all_tasks() if other.get_name() == task.name]
    return found


class Calls:
    """Counts calls, and how many overlap."""

    def __init__(self) -> None:
        self.number = self.active = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        with self._lock:
            self.number += 1
            self.active += 1
            self.most = max(self.active, self.most)
            return self.number

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.active -= 1


# --- bodies that fail ---


class Curse(BaseException):
    """An error that is no Exception."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __repr__(self) -> str:
        raise RuntimeError("no words at all")


class Mute(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("exc", "error"),
    [
        (ValueError("bad value"), "ValueError: bad value"),
        (KeyError(), "KeyError"),
        (Curse("of the loop"), "Curse: of the loop"),
        (GeneratorExit(), "GeneratorExit"),
        (StopAsyncIteration("over"), "StopAsyncIteration: over"),
        (
            ExceptionGroup("two", [ValueError(), OSError()]),
            "ExceptionGroup: two (2 sub-exceptions): ValueError; OSError",
        ),
        (Unspeakable(), "Unspeakable: no message, because __str__ raised RuntimeError"),
        (Mute(), "Mute: no message, because __str__ raised TypeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_whatever_a_body_raises_is_recorded_and_the_schedule_goes_on(
    scheduler: Scheduler, reported: list[Run], exc: BaseException, error: str, at_once: bool
) -> None:
    async def body() -> None:
        if not at_once:
            await asyncio.sleep(1)
        raise exc

    task = scheduler.schedule_task(body, 10, retries=3, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(29)

    is_retried = isinstance(exc, Exception)
    why = (
        "gave up after 4 attempts"
        if is_retried
        else f"attempt 1 of 4, not retried: {type(exc).__name__} is no Exception"
    )
    assert [run.attempts for run in task.history()] == [4 if is_retried else 1] * 3
    assert endings(task.history()) == [("FAILED", None, 1)] * 3
    assert [run.error for run in task.history()] == [f"{error} ({why})"] * 3
    assert starts_s(task) == [0, 10, 20]
    assert reported == task.history()
    assert task.result is None
    assert not task.running


async def test_a_stop_iteration_cannot_leave_a_coroutine_and_is_a_failure(scheduler: Scheduler) -> None:
    async def body() -> None:
        raise StopIteration(1)

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(11)

    assert endings(task.history()) == [("FAILED", None, 1)] * 2
    assert [run.error for run in task.history()] == ["RuntimeError: coroutine raised StopIteration"] * 2


async def test_a_failure_keeps_the_result_of_the_last_success(scheduler: Scheduler) -> None:
    calls = Calls()

    async def body() -> int:
        with calls as number:
            if number > 1:
                raise ValueError
            return number

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(25)

    assert endings(task.history()) == [("SUCCEEDED", None, 1), ("FAILED", None, 1), ("FAILED", None, 1)]
    assert task.result == 1


@pytest.fixture
def lenient(loop: VirtualLoop) -> None:
    """Accept what asyncio reports about any task that raised KeyboardInterrupt or SystemExit."""
    complain = loop.get_exception_handler()
    assert complain is not None

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        leaves = isinstance(context.get("exception"), KeyboardInterrupt | SystemExit)
        if not (leaves and context["message"] == "Task exception was never retrieved"):
            complain(loop, context)

    loop.set_exception_handler(handler)


@pytest.mark.smoke
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("how", ["at once", "later", "busy tick", "in a thread", "run_now"])
def test_keyboard_interrupt_and_system_exit_reach_the_loop_and_the_schedule_goes_on(
    loop: VirtualLoop, scheduler: Scheduler, kind: type[BaseException], how: str
) -> None:
    calls = Calls()

    def raise_once() -> None:
        with calls as number:
            if number == 1:
                raise kind("enough")

    async def at_once() -> None:
        raise_once()

    async def later() -> None:
        await asyncio.sleep(1)
        raise_once()

    async def main() -> None:
        await scheduler.start()
        if how == "in a thread":
            await wait_until(lambda: task.last_run)
        elif how == "run_now":
            await asyncio.sleep(1)
            await task.run_now()
        await asyncio.sleep(5)

    body: Callable[[], Any] = {"at once": at_once, "later": later, "in a thread": raise_once}.get(how, at_once)
    first = FirstRun.NEXT if how == "run_now" else FirstRun.NOW
    task = scheduler.schedule_task(body, 10, first_run=first, retries=3, retry_on=Exception, name="task")
    other = scheduler.schedule_task(nothing, 10, name="other", first_run=first)
    if how == "busy tick":
        scheduler.schedule_task(nothing, 10, name="held").disable()

    with pytest.raises(kind, match="enough"):
        loop.run_until_complete(main())
    run = task.last_run
    assert run is not None
    error = f"{kind.__name__}: enough (attempt 1 of 4, not retried: {kind.__name__} is no Exception)"
    assert (run.outcome, run.reason, run.error, run.attempts) == ("FAILED", None, error, 1)

    loop.run_until_complete(asyncio.sleep(22 - loop.time()))
    loop.run_until_complete(wait_until(lambda: calls.number == 2 and not task.running))
    loop.run_until_complete(scheduler.stop())
    assert endings(task.history()) == [("FAILED", None, 1), ("SUCCEEDED", None, 1)]
    assert starts_s(other) == ([10] if how == "run_now" else [0, 10])


@pytest.mark.usefixtures("lenient")
def test_system_exit_in_one_of_many_due_at_once_keeps_no_other_from_running(
    loop: VirtualLoop, scheduler: Scheduler
) -> None:
    calls = Calls()

    async def body() -> None:
        with calls as number:
            if number == 50:
                raise SystemExit

    async def main() -> None:
        await scheduler.start()
        await asyncio.sleep(5)

    tasks = [scheduler.schedule_task(body, 10) for _ in range(100)]
    with pytest.raises(SystemExit):
        loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(15))
    loop.run_until_complete(scheduler.stop())

    assert [starts_s(task) for task in tasks] == [[0, 10]] * 100
    assert calls.number == 200


# --- bodies that do not end, or block the loop ---


@pytest.mark.smoke
async def test_a_body_that_blocks_the_loop_for_several_gaps(scheduler: Scheduler) -> None:
    """Nothing can interrupt it. Afterwards the latest tick runs, and those before it were missed."""

    async def body() -> None:
        asyncio.get_running_loop().virtual_clock.block(25)  # type: ignore[attr-defined]

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(74)

    assert endings(task.history()[:5]) == [
        ("SUCCEEDED", None, 1),
        ("SKIPPED", "missed", 1),
        ("SUCCEEDED", None, 1),
        ("SKIPPED", "missed", 2),
        ("SUCCEEDED", None, 1),
    ]
    assert starts_s(task)[:3] == [0, 20, 50]
    assert [run.duration_s for run in task.history()[:5:2]] == [25, 25, 25]
    assert [run.lateness_s for run in task.history()[:5:2]] == [0, 5, 0]


async def test_a_body_that_blocks_past_its_deadline_and_then_awaits_is_cut_there(scheduler: Scheduler) -> None:
    async def body() -> None:
        asyncio.get_running_loop().virtual_clock.block(4)  # type: ignore[attr-defined]
        await asyncio.sleep(3)

    task = scheduler.schedule_task(body, 10, max_timeout_s=2)
    async with scheduler:
        await asyncio.sleep(9)

    assert endings(task.history()) == [("TIMED_OUT", "deadline", 1)]
    assert task.history()[0].duration_s == 4


async def test_a_run_that_hangs_under_every_policy_harms_no_other_task(scheduler: Scheduler) -> None:
    for policy in ExecPolicy:
        scheduler.schedule_task(stubborn, 10, args=(95,), policy=policy)
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(91)
        assert starts_s(task) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]


@pytest.mark.parametrize("way", ["disable", "pause", "reschedule", "remove"])
async def test_a_run_that_swallows_its_cancellation_is_never_doubled_whatever_is_done_to_its_task(
    scheduler: Scheduler, way: str
) -> None:
    calls = Calls()

    async def body() -> None:
        with calls:
            await stubborn(33)

    task = scheduler.schedule_task(body, 10, name="task")
    async with scheduler:
        await asyncio.sleep(12)
        if way == "disable":
            task.disable()
            task.enable()
        elif way == "pause":
            await task.pause()
            await task.resume()
        elif way == "reschedule":
            task.reschedule(5)
        else:
            task.remove()
            with pytest.raises(InvalidArgument, match="unique"):
                scheduler.schedule_task(body, 10, name="task")
        asked = [asyncio.ensure_future(task.run_now())] if way != "remove" else []
        await asyncio.sleep(50)
        assert (calls.most, calls.number) == (1, 1 if way == "remove" else 2)
    for run in await asyncio.gather(*asked):
        assert run.manual
    assert calls.most == 1


async def test_a_body_may_suspend_its_own_task(scheduler: Scheduler) -> None:
    async def body() -> None:
        async with task.suspend():
            assert task.suspended
            await asyncio.create_task(suspend_again())
            await asyncio.sleep(8)

    async def suspend_again() -> None:
        async with task.suspend():
            await asyncio.sleep(4)

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(19)
        # The tick of 10 was held; at 12 the one of 20 was not near.
        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        assert task.history()[0].duration_s == 12
        assert task.running
        await asyncio.sleep(5)
        assert starts_s(task) == [0, 10]
        assert task.history()[1].lateness_s == 2


async def test_a_body_that_fails_inside_its_own_suspension_leaves_no_hold(scheduler: Scheduler) -> None:
    async def body() -> None:
        async with task.suspend(), scheduler.suspend():
            raise ValueError

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(25)

    assert starts_s(task) == [0, 10, 20]
    assert not task.suspended


async def test_a_body_cut_inside_its_own_suspension_leaves_no_hold(scheduler: Scheduler) -> None:
    async def body() -> None:
        async with task.suspend():
            await asyncio.sleep(1000)

    task = scheduler.schedule_task(body, 10, max_timeout_s=4)
    async with scheduler:
        await asyncio.sleep(25)

    assert starts_s(task) == [0, 10, 20]
    assert endings(task.history()) == [("TIMED_OUT", "deadline", 1)] * 2 + [("TIMED_OUT", "deadline", 1)]


# --- bodies that act on their own task ---


@pytest.mark.smoke
@pytest.mark.parametrize("awaits", [True, False])
async def test_a_body_that_cancels_its_own_run(scheduler: Scheduler, awaits: bool) -> None:
    async def body() -> None:
        assert task.cancel("changed my mind")
        assert not task.cancel("once more")
        if awaits:
            await asyncio.sleep(5)
            raise AssertionError("it was cancelled")

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(11)

    outcome, error = ("CANCELLED", "changed my mind") if awaits else ("SUCCEEDED", None)
    assert endings(task.history()) == [(outcome, "requested", 1)] * 2
    assert [run.error for run in task.history()] == [error] * 2
    assert [run.duration_s for run in task.history()] == [0, 0]


@pytest.mark.smoke
async def test_a_body_that_cancels_its_own_asyncio_task(scheduler: Scheduler) -> None:
    async def body() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await asyncio.sleep(5)

    task = scheduler.schedule_task(body, 10, retries=2)
    async with scheduler:
        await asyncio.sleep(11)

    assert endings(task.history()) == [("CANCELLED", "from within", 1)] * 2
    assert [run.attempts for run in task.history()] == [1, 1]


async def test_a_body_that_raises_cancelled_error_itself_is_cancelled_from_within(scheduler: Scheduler) -> None:
    async def body() -> None:
        raise asyncio.CancelledError

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.SHIELD, retries=2)
    async with scheduler:
        await asyncio.sleep(11)

    assert endings(task.history()) == [("CANCELLED", "from within", 1)] * 2
    assert starts_s(task) == [0, 10]


async def test_a_body_that_awaits_something_cancelled_is_cancelled_from_within(scheduler: Scheduler) -> None:
    async def body() -> None:
        child = asyncio.create_task(asyncio.sleep(5))
        child.cancel()
        await child

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(11)

    assert endings(task.history()) == [("CANCELLED", "from within", 1)] * 2


@pytest.mark.smoke
@pytest.mark.parametrize("awaits", [True, False])
async def test_a_body_may_remove_its_own_task(scheduler: Scheduler, reported: list[Run], awaits: bool) -> None:
    async def body() -> str:
        task.remove()
        with pytest.raises(InvalidArgument, match="unique"):
            scheduler.schedule_task(nothing, 10, name="task")
        if awaits:
            await asyncio.sleep(15)
        return "bye"

    task = scheduler.schedule_task(body, 10, name="task", policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(50)

        assert endings(reported) == [("SUCCEEDED", None, 1)]
        assert task.result == "bye"
        assert "task" not in scheduler.tasks
        again = scheduler.schedule_task(nothing, 10, name="task")
        await asyncio.sleep(1)
        assert starts_s(again) == [50]


async def test_stop_awaits_the_run_of_a_removed_task(scheduler: Scheduler, reported: list[Run]) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    task.remove()
    assert [] == await scheduler.stop()

    assert now_s() == 20
    assert endings(reported) == [("SUCCEEDED", None, 1)]


@pytest.mark.parametrize("policy", [ExecPolicy.CANCEL, ExecPolicy.WAIT])
async def test_a_body_may_reschedule_its_own_task_and_keeps_its_deadline(
    scheduler: Scheduler, policy: ExecPolicy
) -> None:
    calls = Calls()

    async def body() -> None:
        with calls as number:
            if number == 1:
                await asyncio.sleep(1)
                task.reschedule(50)
                await asyncio.sleep(1000)

    task = scheduler.schedule_task(body, 10, policy=policy)
    async with scheduler:
        await asyncio.sleep(110)

    cut = next(run for run in task.history() if run.started_at)
    if policy is ExecPolicy.CANCEL:
        assert endings([cut]) == [("CANCELLED", "replaced", 1)]
        assert cut.duration_s == 10
    else:
        assert endings([cut]) == [("TIMED_OUT", "deadline", 1)]
        assert cut.duration_s == 30
    assert starts_s(task) == [0, 51, 101]


async def test_a_body_may_disable_its_own_task_and_goes_on_with_its_retries(scheduler: Scheduler) -> None:
    async def body() -> str:
        task.disable()
        await asyncio.sleep(1)
        if current_run().attempt < 3:
            raise ConnectionError
        return "done"

    task = scheduler.schedule_task(body, 10, retries=2)
    async with scheduler:
        await asyncio.sleep(45)
        assert (task.enabled, task.running, task.result) == (False, False, "done")
        assert [run.attempts for run in task.history()] == [3]
        task.enable()
        await asyncio.sleep(6)
        assert starts_s(task) == [0]
        assert endings(task.history()) == [("SUCCEEDED", None, 1), ("SKIPPED", "disabled", 4)]
        assert task.running
    assert starts_s(task) == [0, 50]


async def test_a_body_that_waits_for_its_own_run_is_told_so(scheduler: Scheduler) -> None:
    async def body() -> None:
        for call in (task.wait, task.run_now):
            with pytest.raises(SelfWait):
                await call()
            with pytest.raises(SelfWait):
                await asyncio.create_task(call())

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(5)

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_child_task_that_outlives_its_run_is_inside_no_run(scheduler: Scheduler) -> None:
    outcomes: list[object] = []

    async def child() -> None:
        await asyncio.sleep(1)
        try:
            current_run()
        except LookupError as exc:
            outcomes.append(type(exc))
        outcomes.append(await task.wait())
        outcomes.append((await task.run_now()).manual)

    async def body() -> None:
        if not children:
            children.append(asyncio.create_task(child()))

    children: list[asyncio.Task[None]] = []
    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(5)

    assert outcomes == [LookupError, None, True]
    await children[0]


# --- listeners ---


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, Curse])
async def test_a_listener_that_raises_harms_nothing(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def bad(run: Run) -> None:
        raise kind("not today")

    reported: list[Run] = []
    scheduler.subscribe(bad)
    scheduler.subscribe(reported.append)
    good = scheduler.schedule_task(nothing, 10, name="good")
    failing = scheduler.schedule_task(divmod, 10, args=(1, 0), name="failing")
    busy = scheduler.schedule_task(asyncio.sleep, 10, args=(25,), policy=ExecPolicy.SKIP, name="busy")
    async with scheduler:
        for _ in range(3):
            failures = len(failing.history())
            await wait_until(lambda failures=failures: len(failing.history()) > failures)  # type: ignore[misc]
            await asyncio.sleep(10)
        assert endings(good.history()) == [("SUCCEEDED", None, 1)] * 4
        assert endings(busy.history()) == [("SKIPPED", "overlap", 2), ("SUCCEEDED", None, 1)]
        assert [run.task for run in reported].count("good") == 4
        assert [run.task for run in reported].count(
            "busy"
        ) == 3  # The opening and the closing of the skips, and the run.
        await wait_until(lambda: len(failing.history()) == 4)
    assert [record.getMessage()[:8] for record in caplog.records].count("listener") == 1


class Grumpy:
    """A listener whose call and ``repr()`` both fail."""

    def __call__(self, run: Run) -> None:
        raise Unspeakable

    def __repr__(self) -> str:
        raise RuntimeError("do not look at me")


async def test_a_listener_that_cannot_even_be_shown_harms_nothing(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.subscribe(Grumpy())
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(25)

    assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 3
    assert "Grumpy" in caplog.text


@pytest.mark.parametrize("act", ["cancel", "disable", "remove", "reschedule", "run_now", "stop", "unsubscribe"])
async def test_a_listener_may_act_on_the_task_it_hears_of(scheduler: Scheduler, act: str) -> None:
    spawned: list[asyncio.Future[Any]] = []

    def listener(run: Run) -> None:
        if act == "cancel":
            assert not task.cancel("there is nothing to cancel")
        elif act == "disable":
            task.disable()
        elif act == "remove":
            task.remove()
        elif act == "reschedule":
            task.reschedule(3)
        elif act == "unsubscribe":
            unsubscribe()
        elif not spawned:
            spawned.append(asyncio.ensure_future(task.run_now() if act == "run_now" else scheduler.stop()))

    unsubscribe = scheduler.subscribe(listener)
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(11)
    await asyncio.gather(*spawned)

    expected = {"disable": [0], "remove": [0], "stop": [0], "reschedule": [0, 3, 6, 9], "run_now": [0, 0, 10]}
    assert starts_s(task) == expected.get(act, [0, 10])


# --- runs whose asyncio task is cancelled by other code ---


def plain_factory(loop: asyncio.AbstractEventLoop, coro: Any, **kws: Any) -> asyncio.Task[Any]:
    """Use a task factory whose tasks begin in a later turn of the loop, on every Python version."""
    return asyncio.Task(coro, loop=loop, **kws)


@pytest.mark.smoke
async def test_a_run_cancelled_from_outside_before_its_first_step(scheduler: Scheduler, reported: list[Run]) -> None:
    """The function is never called. The run is recorded when it is cancelled, not when somebody looks."""
    asyncio.get_running_loop().set_task_factory(plain_factory)
    task = scheduler.schedule_task(nothing, 100, name="task", first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(30)
        asked = asyncio.ensure_future(task.run_now())
        await asyncio.sleep(0)
        asyncio_task_of(task).cancel()
        run = await asked
        assert endings([run]) == [("CANCELLED", "from within", 1)]
        assert run.duration_s == 0
        await asyncio.sleep(71)

        assert endings(task.history()) == endings(reported) == [("CANCELLED", "from within", 1), ("SUCCEEDED", None, 1)]


@pytest.mark.smoke
async def test_a_run_that_is_cancelled_before_its_first_step_ends_when_somebody_looks(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    """None of its code ever runs, so the end is noticed by the next tick, or by an earlier look at the task."""
    calls = Calls()
    armed = False

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kws: Any) -> asyncio.Task[Any]:
        made: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kws)
        if armed:
            made.cancel()
        return made

    async def body() -> None:
        with calls:
            pass

    asyncio.get_running_loop().set_task_factory(factory)
    task = scheduler.schedule_task(body, 10, name="task")
    async with scheduler:
        armed = True
        await asyncio.sleep(11)
        assert endings(reported) == [("CANCELLED", "from within", 1)]
        assert not task.running
        assert endings(reported) == [("CANCELLED", "from within", 1)] * 2
        armed = False
        await asyncio.sleep(10)

        assert endings(reported) == [("CANCELLED", "from within", 1)] * 2 + [("SUCCEEDED", None, 1)]
        assert calls.number == 1


async def test_a_loop_whose_task_factory_begins_to_fail_does_not_end_the_schedule(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    broken = False

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kws: Any) -> asyncio.Task[Any]:
        if broken:
            raise TypeError("no tasks today")
        return asyncio.Task(coro, loop=loop, **kws)

    asyncio.get_running_loop().set_task_factory(factory)
    scheduler.schedule_task(asyncio.sleep, 10, (0,))
    async with scheduler:
        await asyncio.sleep(5)
        broken = True
        await asyncio.sleep(10)
        broken = False
        await asyncio.sleep(10)

    assert endings(reported) == [("SUCCEEDED", None, 1), ("FAILED", None, 1), ("SUCCEEDED", None, 1)]
    assert reported[1].error == "TypeError: no tasks today"


@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_a_run_cancelled_from_outside_during_the_body(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(8,), policy=policy, retries=3, name="task")
    async with scheduler:
        await asyncio.sleep(3)
        asyncio_task_of(task).cancel()
        await asyncio.sleep(16)

        assert endings(task.history()) == [("CANCELLED", "from within", 1), ("SUCCEEDED", None, 1)]
        assert [run.duration_s for run in task.history()] == [3, 8]
        assert [run.attempts for run in task.history()] == [1, 1]


@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_a_run_cancelled_from_outside_during_a_retry_pause(scheduler: Scheduler, policy: ExecPolicy) -> None:
    async def body() -> None:
        if now_s() < 10:
            raise ConnectionError("no route")

    task = scheduler.schedule_task(body, 10, policy=policy, retries=1, name="task")
    async with scheduler:
        await asyncio.sleep(3)
        asyncio_task_of(task).cancel()
        await asyncio.sleep(16)

        assert endings(task.history()) == [("CANCELLED", "from within", 1), ("SUCCEEDED", None, 1)]
        assert [run.duration_s for run in task.history()] == [3, 0]


@pytest.mark.smoke
async def test_a_run_cancelled_from_outside_during_a_thread_goes_on_until_the_thread_is_over(
    scheduler: Scheduler, gate: threading.Event
) -> None:
    calls = Calls()
    told: list[str] = []

    def body() -> None:
        with calls:
            gate.wait(10)
            try:
                current_run().check()
            except RunCancelled as cut:
                told.append(cut.reason)

    task = scheduler.schedule_task(body, 1000, name="task", retries=3)
    async with scheduler:
        await wait_until(lambda: calls.number)
        for _ in range(3):
            asyncio_task_of(task).cancel()
            await asyncio.sleep(0.5)
        assert task.running
        gate.set()
        await wait_until(lambda: task.last_run)

        [run] = task.history()
        assert endings([run]) == [("SUCCEEDED", "from within", 1)]
        assert (calls.number, calls.most, told) == (1, 1, ["from within"])


async def test_a_thread_whose_run_was_cancelled_from_outside_is_hung_after_cancel_grace(
    scheduler: Scheduler, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls()

    def body() -> None:
        with calls:
            gate.wait(10)

    task = scheduler.schedule_task(body, 10, name="task")
    async with scheduler:
        await wait_until(lambda: calls.number)
        await asyncio.sleep(1)
        asyncio_task_of(task).cancel()
        await asyncio.sleep(6)
        assert task.state == "hung"
        assert "hung" in caplog.text
        await asyncio.sleep(24)
        assert endings(task.history()) == [("SKIPPED", "hung", 3)]
        gate.set()
        await wait_until(lambda: task.state != "hung")
        assert calls.most == 1


async def test_a_coroutine_that_swallows_a_cancellation_from_outside_just_goes_on(scheduler: Scheduler) -> None:
    async def body() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        await asyncio.sleep(2)
        return "survived"

    task = scheduler.schedule_task(body, 10, name="task")
    async with scheduler:
        await asyncio.sleep(3)
        asyncio_task_of(task).cancel()
        await asyncio.sleep(5)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        assert task.result == "survived"


# --- threads ---


async def test_a_thread_past_its_deadline_is_marked_and_recorded_when_it_returns(
    scheduler: Scheduler, gate: threading.Event
) -> None:
    calls = Calls()
    told: list[str] = []

    def body() -> str:
        with calls:
            gate.wait(10)
            try:
                current_run().check()
            except RunCancelled as cut:
                told.append(cut.reason)
            return "too late"

    task = scheduler.schedule_task(body, 10, max_timeout_s=2)
    async with scheduler:
        await wait_until(lambda: calls.number)
        await asyncio.sleep(6)
        assert task.state == "running"
        assert [] == task.history()
        await asyncio.sleep(29)
        assert task.state == "hung"
        assert (calls.number, endings(task.history())) == (1, [("SKIPPED", "hung", 3)])
        gate.set()
        await wait_until(lambda: not task.running)

        run = task.history()[-1]
        assert endings([run]) == [("SUCCEEDED", "deadline", 1)]
        assert (run.duration_s, told, task.result) == (35, ["deadline"], "too late")
        await asyncio.sleep(6)
        await wait_until(lambda: calls.number == 2)
        assert calls.most == 1


async def test_check_raises_nothing_before_the_deadline_and_run_cut_after_it(
    scheduler: Scheduler, gate: threading.Event
) -> None:
    began = threading.Event()

    def body() -> None:
        current_run().check()
        began.set()
        gate.wait(10)
        current_run().check()

    task = scheduler.schedule_task(body, 1000, max_timeout_s=2, retries=5, retry_on=Exception)
    async with scheduler:
        await wait_until(began.is_set)
        await asyncio.sleep(3)
        gate.set()
        await wait_until(lambda: task.last_run)

    [run] = task.history()
    assert endings([run]) == [("TIMED_OUT", "deadline", 1)]
    assert run.attempts == 1


async def test_functions_cut_in_the_queue_of_the_pool_are_never_called() -> None:
    scheduler = Scheduler(threads=2, clock=asyncio.get_running_loop().virtual_clock)  # type: ignore[attr-defined]
    gate = threading.Event()
    calls = Calls()

    def body() -> None:
        with calls:
            gate.wait(10)

    try:
        tasks = [scheduler.schedule_task(body, 100, max_timeout_s=5) for _ in range(20)]
        async with scheduler:
            await wait_until(lambda: calls.number == 2)
            await asyncio.sleep(6)

            over = [task for task in tasks if not task.running]
            assert len(over) == 18
            assert calls.number == 2
            for task in over:
                assert endings(task.history()) == [("TIMED_OUT", "deadline", 1)]
                assert task.history()[0].duration_s == 5
            gate.set()
            await wait_until(lambda: not any(task.running for task in tasks))
            told = [endings(task.history()) for task in tasks]
            assert told == [[("SUCCEEDED", "deadline", 1)]] * 2 + [[("TIMED_OUT", "deadline", 1)]] * 18
            await asyncio.sleep(95)
            await wait_until(lambda: calls.number == 22)
            assert calls.most == 2
    finally:
        gate.set()


async def test_what_a_thread_raises_is_recorded_and_retried(scheduler: Scheduler) -> None:
    calls = Calls()

    def body() -> int:
        with calls as number:
            if number < 3:
                raise ConnectionError("no route")
            return number

    task = scheduler.schedule_task(body, 1_000_000, retries=2, retry_interval_s=1)
    broken = scheduler.schedule_task(divmod, 1_000_000, args=(1, 0))
    async with scheduler:
        await wait_until(lambda: task.last_run, step_s=1)

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]
    assert (task.result, task.history()[0].attempts) == (3, 3)
    assert endings(broken.history()) == [("FAILED", None, 1)]
    assert broken.history()[0].error == "ZeroDivisionError: integer division or modulo by zero"


async def test_threads_are_the_scheduler_s_own(scheduler: Scheduler) -> None:
    """A full default executor of the loop does not keep tasks from running."""
    loop = asyncio.get_running_loop()
    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        loop.set_default_executor(pool)
        blocked = loop.run_in_executor(None, gate.wait, 10)
        task = scheduler.schedule_task(int, 1000)
        async with scheduler:
            await wait_until(lambda: task.last_run)
        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        gate.set()
        await wait_until(blocked.done)


# --- plain functions that return something to await ---


class Chore:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(3).__await__()
        return "done"


async def work() -> str:
    await asyncio.sleep(3)
    return "done"


def decorated(func: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
    @functools.wraps(func)
    def wrapper() -> Awaitable[str]:
        return func()

    return wrapper


@pytest.mark.parametrize(
    "func",
    [lambda: work(), functools.partial(lambda func: func(), work), decorated(work), Chore],
    ids=["lambda", "partial", "decorator", "class"],
)
async def test_an_awaitable_that_a_plain_function_returns_is_awaited_in_the_loop(
    scheduler: Scheduler, func: Callable[[], Awaitable[str]]
) -> None:
    task = scheduler.schedule_task(func, 1_000_000)
    async with scheduler:
        await wait_until(lambda: task.last_run, step_s=1)

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]
    assert task.result == "done"


async def test_what_such_an_awaitable_raises_is_a_failure_and_retried(scheduler: Scheduler) -> None:
    calls = Calls()

    async def fails() -> None:
        with calls as number:
            raise ConnectionError(f"attempt {number}")

    task = scheduler.schedule_task(lambda: fails(), 1_000_000, retries=2, retry_interval_s=1)
    async with scheduler:
        await wait_until(lambda: task.last_run, step_s=1)

    [run] = task.history()
    assert endings([run]) == [("FAILED", None, 1)]
    assert (run.attempts, run.error) == (3, "ConnectionError: attempt 3 (gave up after 3 attempts)")


async def test_such_an_awaitable_is_cut_by_the_deadline_as_any_coroutine(scheduler: Scheduler) -> None:
    began: list[float] = []

    async def hangs() -> None:
        began.append(now_s())
        await asyncio.sleep(1_000_000)

    task = scheduler.schedule_task(lambda: hangs(), 1000, max_timeout_s=20)
    async with scheduler:
        await wait_until(lambda: began)
        assert began == [0]
        await asyncio.sleep(21)

        assert endings(task.history()) == [("TIMED_OUT", "deadline", 1)]
        assert task.history()[0].duration_s == 20


async def test_such_a_coroutine_that_comes_too_late_is_closed_and_never_begun(
    scheduler: Scheduler, gate: threading.Event
) -> None:
    began: list[str] = []

    async def late() -> None:
        began.append("coroutine")

    def body() -> Awaitable[None]:
        began.append("thread")
        gate.wait(10)
        return late()

    task = scheduler.schedule_task(body, 1000, max_timeout_s=2)
    async with scheduler:
        await wait_until(lambda: began)
        await asyncio.sleep(3)
        gate.set()
        await wait_until(lambda: task.last_run)

        assert endings(task.history()) == [("TIMED_OUT", "deadline", 1)]
        assert began == ["thread"]


# --- retries ---


def fails_until(number: int, exc: BaseException, seconds: float = 0) -> Callable[[], Awaitable[str]]:
    calls = Calls()

    async def body() -> str:
        with calls as call:
            await asyncio.sleep(seconds)
            if call < number:
                raise exc
            return f"call {call}"

    return body


@pytest.mark.smoke
@pytest.mark.parametrize("exc", [ConnectionError("no route"), TimeoutError("its own"), FileNotFoundError("gone")])
async def test_a_retry_may_succeed(scheduler: Scheduler, exc: Exception) -> None:
    task = scheduler.schedule_task(fails_until(3, exc), 10, retries=3)
    async with scheduler:
        await asyncio.sleep(9)

        [run] = task.history()
        assert endings([run]) == [("SUCCEEDED", None, 1)]
        assert (run.attempts, run.error, run.duration_s, task.result) == (3, None, 5, "call 3")


async def test_only_what_retry_on_names_is_retried(scheduler: Scheduler) -> None:
    plain = scheduler.schedule_task(fails_until(2, ValueError("bad")), 10, retries=3, retry_on=OSError)
    named = scheduler.schedule_task(fails_until(2, ValueError("bad")), 10, retries=3, retry_on=ValueError)
    narrow = scheduler.schedule_task(fails_until(2, OSError()), 10, retries=3, retry_on=(KeyError, ConnectionError))
    never = scheduler.schedule_task(fails_until(2, Curse()), 10, retries=3, retry_on=Exception)
    async with scheduler:
        await asyncio.sleep(9)

        runs = [task.history()[0] for task in (plain, named, narrow, never)]
        assert [run.outcome for run in runs] == ["FAILED", "SUCCEEDED", "FAILED", "FAILED"]
        assert [run.attempts for run in runs] == [1, 2, 1, 1]


async def test_every_exception_is_retried_unless_the_task_says_which_ones(scheduler: Scheduler) -> None:
    class ConnectError(Exception):
        """Not an OSError, as those of HTTP clients are not."""

    task = scheduler.schedule_task(fails_until(3, ConnectError("no route")), 10, retries=3)
    async with scheduler:
        await asyncio.sleep(9)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)]
        assert task.history()[0].attempts == 3


async def test_a_failed_run_says_why_no_other_attempt_was_made(scheduler: Scheduler) -> None:
    def add(number: int, exc: BaseException, **options: Any) -> ScheduledTask[Any]:
        return scheduler.schedule_task(fails_until(number, exc), 10, **options)

    once = add(99, OSError("gone"))
    spent = add(99, OSError("gone"), retries=3)
    unwanted = add(99, ValueError("bad"), retries=3, retry_on=OSError)
    late = add(99, OSError("gone"), retries=9, retry_interval_s=4)
    never = add(99, Curse("away"), retries=3)
    async with scheduler:
        await asyncio.sleep(9)

        errors = [task.history()[0].error for task in (once, spent, unwanted, late, never)]
    assert errors == [
        "OSError: gone",
        "OSError: gone (gave up after 4 attempts)",
        "ValueError: bad (attempt 1 of 4, not retried: ValueError is not in retry_on)",
        "OSError: gone (attempt 3 of 10, not retried: the deadline comes before the next attempt)",
        "Curse: away (attempt 1 of 4, not retried: Curse is no Exception)",
    ]


async def test_a_shielded_run_that_fails_while_the_scheduler_stops_says_so(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(
        fails_until(9, OSError("gone"), 5), 100, retries=3, policy=ExecPolicy.SHIELD, name="task"
    )
    async with scheduler:
        await asyncio.sleep(1)

    assert task.history()[0].error == "OSError: gone (attempt 1 of 4, not retried: the scheduler is stopping)"


@pytest.mark.parametrize(
    ("kws", "pauses"),
    [
        ({"interval_s": 50, "retries": 1}, [25]),
        ({"interval_s": 100, "retries": 3}, [25, 25, 25]),
        ({"interval_s": 1000, "retries": 3}, [30, 30, 30]),
        ({"interval_s": 1000, "retries": 4, "retry_interval_s": Backoff(2, 3, 40, jitter=0)}, [2, 6, 18, 40]),
        ({"interval_s": 100, "retries": 3, "retry_interval_s": 7}, [7, 7, 7]),
        ({"trigger": Every(40), "retries": 3}, [10, 10, 10]),
        ({"trigger": Every(1000), "retries": 3}, [30, 30, 30]),
        ({"trigger": Every(1000), "retries": 3, "retry_interval_s": 60}, [60, 60, 60]),
    ],
    ids=str,
)
async def test_the_pause_before_a_retry(scheduler: Scheduler, kws: dict[str, Any], pauses: list[float]) -> None:
    attempts: list[float] = []

    async def body() -> None:
        attempts.append(now_s())
        raise ConnectionError

    task = scheduler.schedule_task(body, first_run=FirstRun.NOW, policy=ExecPolicy.SHIELD, **kws)
    async with scheduler:
        await asyncio.sleep(1)
        await task.wait()

    attempts = attempts[: len(pauses) + 1]
    assert [after - before for before, after in itertools.pairwise(attempts)] == pytest.approx(pauses)
    assert task.history()[0].attempts == len(pauses) + 1


async def test_exhausted_retries_are_a_failure_with_the_last_error(scheduler: Scheduler) -> None:
    calls = Calls()

    async def body() -> None:
        with calls as number:
            raise ConnectionError(f"call {number}")

    task = scheduler.schedule_task(body, 10, retries=2, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(15)

    assert endings(task.history()) == [("FAILED", None, 1)] * 2
    assert [run.attempts for run in task.history()] == [3, 3]
    assert [run.error for run in task.history()] == [
        f"ConnectionError: call {number} (gave up after 3 attempts)" for number in (3, 6)
    ]
    assert [run.duration_s for run in task.history()] == [2, 2]
    assert task.result is None


async def test_retries_do_not_move_the_grid(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.sleep(1)
        raise ConnectionError

    task = scheduler.schedule_task(body, 10, retries=2)
    async with scheduler:
        await asyncio.sleep(45)
        assert starts_s(task) == [0, 10, 20, 30]
        assert [run.lateness_s for run in task.history()] == [0] * 4


async def test_a_retry_that_could_not_start_before_the_deadline_is_not_waited_for(scheduler: Scheduler) -> None:
    cancel = scheduler.schedule_task(fails_until(99, OSError("1"), 1), 10, retries=9, retry_interval_s=4)
    exact = scheduler.schedule_task(fails_until(99, OSError("2"), 0), 10, retries=9, retry_interval_s=5)
    limit = scheduler.schedule_task(
        fails_until(99, OSError("3"), 1), 100, retries=9, retry_interval_s=2, max_timeout_s=5, policy=ExecPolicy.WAIT
    )
    async with scheduler:
        await asyncio.sleep(9)

        runs = [task.history()[0] for task in (cancel, exact, limit)]
        assert endings(runs) == [("FAILED", None, 1)] * 3
        assert [run.attempts for run in runs] == [2, 2, 2]
        assert [run.duration_s for run in runs] == [6, 5, 4]
        assert [run.error for run in runs] == [
            f"OSError: {number} (attempt 2 of 10, not retried: the deadline comes before the next attempt)"
            for number in (1, 2, 3)
        ]


async def test_max_timeout_covers_all_attempts_together(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(
        fails_until(3, OSError(), 2), 100, retries=9, retry_interval_s=1, max_timeout_s=7.5, policy=ExecPolicy.WAIT
    )
    async with scheduler:
        await asyncio.sleep(50)

    [run] = task.history()  # Attempts run from 0 to 2, from 3 to 5, and from 6 on.
    assert endings([run]) == [("TIMED_OUT", "deadline", 1)]
    assert (run.attempts, run.duration_s) == (3, 7.5)


@pytest.mark.parametrize("policy", [ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_our_own_deadline_is_never_retried_even_if_the_body_makes_a_timeout_error_of_it(
    scheduler: Scheduler, policy: ExecPolicy
) -> None:
    async def body() -> None:
        try:
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            raise TimeoutError("translated") from None

    task = scheduler.schedule_task(body, 100, retries=5, retry_interval_s=1, max_timeout_s=3, policy=policy)
    async with scheduler:
        await asyncio.sleep(50)

    [run] = task.history()
    assert endings([run]) == [("TIMED_OUT", "deadline", 1)]
    assert (run.attempts, run.duration_s) == (1, 3)


async def test_a_time_limit_of_the_body_itself_is_retried(scheduler: Scheduler) -> None:
    async def body() -> str:
        async with asyncio.timeout(2):
            await asyncio.sleep(10 if current_run().attempt == 1 else 1)
        return "in time"

    task = scheduler.schedule_task(body, 100, retries=1, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(50)

    [run] = task.history()
    assert endings([run]) == [("SUCCEEDED", None, 1)]
    assert (run.attempts, run.duration_s, task.result) == (2, 4, "in time")


async def test_an_attempt_that_ends_well_after_it_was_asked_to_end_is_a_success(scheduler: Scheduler) -> None:
    async def body() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(50)
        return "as if nothing had happened"

    task = scheduler.schedule_task(body, 100, max_timeout_s=3)
    async with scheduler:
        await asyncio.sleep(50)

    assert endings(task.history()) == [("SUCCEEDED", "deadline", 1)]
    assert task.result == "as if nothing had happened"


async def test_shield_has_no_deadline_for_its_retries(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(
        fails_until(5, OSError()), 10, retries=9, retry_interval_s=8, max_timeout_s=1, policy=ExecPolicy.SHIELD
    )
    async with scheduler:
        await asyncio.sleep(33)

    assert endings(task.history())[:2] == [("SKIPPED", "overlap", 2), ("SUCCEEDED", None, 1)]
    assert task.history()[1].attempts == 5


async def test_a_suspension_waits_for_the_retries_of_the_run_in_progress(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(fails_until(3, OSError()), 10, retries=2, retry_interval_s=3)
    async with scheduler:
        await asyncio.sleep(1)
        async with task.suspend():
            assert now_s() == 6
            assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_run_is_cut_in_its_retry_pause_at_once(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(fails_until(9, OSError("no route")), 100, retries=9, retry_interval_s=10)
    async with scheduler:
        await asyncio.sleep(13)
        assert task.cancel("not needed any more")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        [run] = task.history()
        assert endings([run]) == [("CANCELLED", "requested", 1)]
        assert (run.attempts, run.duration_s, run.error) == (2, 13, "not needed any more")


# --- what is left behind ---


class Luggage:
    """An object in the frame of a body; it is freed when nothing refers to the frame any more."""


class Left:
    """The objects of a test's runs that are still alive."""

    def __init__(self) -> None:
        self.all: weakref.WeakSet[Luggage] = weakref.WeakSet()

    def pack(self) -> Luggage:
        luggage = Luggage()
        self.all.add(luggage)
        return luggage


async def _succeeds(left: Left) -> None:
    luggage = left.pack()  # noqa: F841


async def _awaits(left: Left) -> None:
    luggage = left.pack()  # noqa: F841
    await asyncio.sleep(0.0001)


async def _fails(left: Left) -> None:
    luggage = left.pack()  # noqa: F841
    raise ValueError("bad value")


async def _fails_later(left: Left) -> None:
    luggage = left.pack()  # noqa: F841
    await asyncio.sleep(0.0001)
    raise ConnectionError("no route")


async def _hangs(left: Left) -> None:
    luggage = left.pack()  # noqa: F841
    await asyncio.sleep(1000)


async def _cancels_itself(left: Left) -> None:
    luggage = left.pack()  # noqa: F841
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(0)


async def _raises_cancelled(left: Left) -> None:
    luggage = left.pack()  # noqa: F841
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("body", "kws", "outcome"),
    [
        (_succeeds, {}, "SUCCEEDED"),
        (_awaits, {}, "SUCCEEDED"),
        (_fails, {}, "FAILED"),
        (_fails_later, {"retries": 2}, "FAILED"),
        (_fails_later, {"policy": ExecPolicy.SHIELD}, "FAILED"),
        (_hangs, {}, "CANCELLED"),
        (_hangs, {"max_timeout_s": 0.005}, "TIMED_OUT"),
        (_hangs, {"policy": ExecPolicy.WAIT, "max_timeout_s": 0.005}, "TIMED_OUT"),
        (_cancels_itself, {}, "CANCELLED"),
        (_raises_cancelled, {}, "CANCELLED"),
    ],
)
async def test_a_run_that_is_over_leaves_nothing_to_the_garbage_collector(
    scheduler: Scheduler,
    caplog: pytest.LogCaptureFixture,
    body: Callable[[Left], Awaitable[None]],
    kws: dict[str, Any],
    outcome: str,
) -> None:
    caplog.set_level(logging.CRITICAL)  # Captured log records keep tracebacks.
    left = Left()
    task = scheduler.schedule_task(body, 0.01, args=(left,), **kws)
    async with scheduler:
        await asyncio.sleep(0.1)
        gc.collect()
        gc.disable()
        try:
            await asyncio.sleep(20.005)
            task.disable()
            await asyncio.sleep(1)
            assert len(left.all) == 0
            found = gc.collect()
        finally:
            gc.enable()
    counts = task.json_repr()["counts"]
    assert counts[outcome] >= 2_000
    assert found < 200  # Fewer than one in ten runs.


@pytest.mark.parametrize("ending", ["return", "raise", "awaitable"])
async def test_a_thread_that_is_over_leaves_nothing_to_the_garbage_collector(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    caplog.set_level(logging.CRITICAL)
    left = Left()

    def body() -> Awaitable[None] | None:
        luggage = left.pack()  # noqa: F841
        if ending == "raise":
            raise ValueError("bad value")
        return nothing() if ending == "awaitable" else None

    task = scheduler.schedule_task(body, 1_000_000)
    async with scheduler:
        await task.wait()
        await task.run_now()
        gc.collect()
        gc.disable()
        try:
            for _ in range(500):
                await task.run_now()
            await wait_until(
                lambda: not left.all, limit_ms=200
            )  # The thread drops its reference a moment after the loop has the result.
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 50


async def test_manual_and_requested_runs_leave_nothing_to_the_garbage_collector(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    left = Left()
    quick = scheduler.schedule_task(_awaits, 1000, args=(left,))
    slow = scheduler.schedule_task(_hangs, 1000, args=(left,))
    async with scheduler:
        await quick.run_now()
        slow.cancel("enough")
        await slow.wait()
        gc.collect()
        gc.disable()
        try:
            for _ in range(1_000):
                await quick.run_now()
                asked = asyncio.ensure_future(slow.run_now())
                await asyncio.sleep(0.001)
                slow.cancel("enough")
                await asked
            del asked
            await asyncio.sleep(0)  # The handle that woke this task holds the last Run, with its exception, until then.
            assert len(left.all) == 0
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 200


async def test_runs_ended_by_stop_leave_nothing_to_the_garbage_collector(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    left = Left()
    for policy in (ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP):
        scheduler.schedule_task(_hangs, 10, args=(left,), policy=policy)
    scheduler.schedule_task(_fails, 10, args=(left,), retries=3, retry_on=ValueError, policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(1)
    gc.collect()
    gc.disable()
    try:
        for _ in range(500):
            async with scheduler:
                await asyncio.sleep(1)
        assert len(left.all) == 0
        found = gc.collect()
    finally:
        gc.enable()
    assert found < 200
