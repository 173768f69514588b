"""Start and stop of a scheduler: which runs are cancelled, awaited or left over, and their context."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from kaiju_app.errors import SelfWait, WrongState, WrongThread
from kaiju_app.scheduler import ExecPolicy, Missed, Run, ScheduledTask, Scheduler, current_run
from support.reading import ENDING, SuccessiveLoops, endings, nothing, now_s, starts_s, stubborn, wait_until
from support.virtual import VirtualLoop, close_loop

user: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.fixture
def lives() -> SuccessiveLoops:
    return SuccessiveLoops()


# --- start ---


async def test_start_on_a_started_scheduler_raises_and_disturbs_nothing(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(5)
        with pytest.raises(WrongState, match="started already, in this loop"):
            await scheduler.start()
        await asyncio.sleep(20)

        assert starts_s(task) == [0, 10, 20]


def test_start_and_stop_in_a_second_loop_raise_and_disturb_nothing() -> None:
    first, second = VirtualLoop(), VirtualLoop()
    scheduler = Scheduler(clock=first.virtual_clock)
    task = scheduler.schedule_task(nothing, 10)
    first.run_until_complete(scheduler.start())

    with pytest.raises(WrongThread, match="another event loop"):
        second.run_until_complete(scheduler.start())
    with pytest.raises(WrongThread, match="another event loop"):
        second.run_until_complete(scheduler.stop())
    first.run_until_complete(asyncio.sleep(25))

    assert starts_s(task) == [0, 10, 20]
    first.run_until_complete(scheduler.stop())
    close_loop(first)
    close_loop(second)
    assert [] == first.complaints + second.complaints


def test_a_scheduler_that_was_not_stopped_can_be_stopped_when_its_loop_is_closed(lives: SuccessiveLoops) -> None:
    task = lives.scheduler.schedule_task(nothing, 10)
    with lives.life() as loop:
        loop.run_until_complete(lives.scheduler.start())
        loop.run_until_complete(asyncio.sleep(15))
    with lives.life() as loop:
        with pytest.raises(WrongState, match="another loop"):
            loop.run_until_complete(lives.scheduler.start())
        assert [] == loop.run_until_complete(lives.scheduler.stop())
        loop.run_until_complete(lives.scheduler.start())
        loop.run_until_complete(asyncio.sleep(15))
        loop.run_until_complete(lives.scheduler.stop())

    assert starts_s(task) == [0, 10, 15, 25]


async def test_each_start_begins_anew_and_nothing_was_due_between(scheduler: Scheduler) -> None:
    tasks = [scheduler.schedule_task(nothing, 10, missed=missed, name=missed.value) for missed in Missed]
    async with scheduler:
        await asyncio.sleep(25)
    assert not scheduler.started
    await asyncio.sleep(1000)
    async with scheduler:
        await asyncio.sleep(15)

    for task in tasks:
        assert starts_s(task) == [0, 10, 20, 1025, 1035]
        assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 5


async def test_a_disabled_or_paused_task_is_still_so_after_a_new_start(scheduler: Scheduler) -> None:
    disabled = scheduler.schedule_task(nothing, 10, name="disabled")
    paused = scheduler.schedule_task(nothing, 10, name="paused")
    async with scheduler:
        await asyncio.sleep(5)
        disabled.disable()
        await paused.pause("maintenance")
    async with scheduler:
        await asyncio.sleep(25)

        assert starts_s(disabled) == starts_s(paused) == [0]
        disabled.enable()
        await paused.resume()
        await asyncio.sleep(6)
        assert starts_s(disabled) == [0, 35]
        assert starts_s(paused) == [0, 25, 35]


@pytest.mark.smoke
def test_asyncio_run_twice_with_one_scheduler() -> None:
    runs: list[asyncio.AbstractEventLoop] = []
    scheduler = Scheduler()

    async def body() -> None:
        runs.append(asyncio.get_running_loop())
        over.set()

    async def main() -> None:
        nonlocal over
        over = asyncio.Event()
        async with scheduler:
            await over.wait()
            await task.wait()

    over = asyncio.Event()
    task = scheduler.schedule_task(body, 3600)
    asyncio.run(main())
    asyncio.run(main())

    assert len(set(runs)) == len(runs) == 2
    assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 2


@pytest.mark.smoke
def test_nothing_of_the_loop_survives_stop(lives: SuccessiveLoops, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # Captured log records keep tracebacks, and their frames keep the loop.
    scheduler = lives.scheduler
    scheduler.subscribe(lambda run: None)

    async def touch() -> None:
        assert not current_run().lost.is_set()

    async def broken() -> None:
        raise ConnectionError

    tasks: list[ScheduledTask[Any]] = [
        scheduler.schedule_task(asyncio.sleep, 10, args=(15,), policy=policy, name=policy.value)
        for policy in ExecPolicy
    ]
    tasks.append(scheduler.schedule_task(touch, 10))
    tasks.append(scheduler.schedule_task(broken, 10, retries=3))
    tasks.append(scheduler.schedule_task(int, 1000, name="in a thread"))

    async def main() -> None:
        async with scheduler:
            await wait_until(lambda: tasks[-1].last_run)
            await asyncio.gather(tasks[1].wait(), tasks[4].run_now(), return_exceptions=True)
            async with scheduler.suspend(), tasks[0].suspend():
                await asyncio.sleep(12)
            await tasks[0].pause(for_s=100)
            await asyncio.sleep(17)

    threads_before = set(threading.enumerate())
    with lives.life() as loop:
        loop.run_until_complete(main())
        ref = weakref.ref(loop)
    del loop
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(10)
        assert not thread.is_alive()
    gc.collect()

    assert ref() is None


# --- stop: which runs are cancelled or awaited ---


@pytest.mark.smoke
@pytest.mark.parametrize("policy", [ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_stop_cancels_at_once(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(50,), policy=policy)
    await scheduler.start()
    await asyncio.sleep(5)

    assert [] == await scheduler.stop()

    assert now_s() == 5
    assert endings(task.history()) == [("CANCELLED", "shutdown", 1)]
    assert task.history()[0].duration_s == 5
    assert task.history()[0].error is None
    assert not task.running


async def test_stop_awaits_shield(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(50,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)

    assert [] == await scheduler.stop()

    assert now_s() == 50
    assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_body_may_take_its_time_to_clean_up(scheduler: Scheduler) -> None:
    async def body() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(3)

    task = scheduler.schedule_task(body, 100)
    await scheduler.start()
    await asyncio.sleep(5)

    assert [] == await scheduler.stop()

    assert now_s() == 8
    assert endings(task.history()) == [("CANCELLED", "shutdown", 1)]


async def broken() -> None:
    await asyncio.sleep(1)
    raise ConnectionError("no route")


@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_stop_cuts_retry_pauses_of_shield_too(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(broken, 100, policy=policy, retries=3, retry_interval_s=20)
    await scheduler.start()
    await asyncio.sleep(30)  # The second attempt was from 21 to 22.

    assert [] == await scheduler.stop()

    assert now_s() == 30
    [run] = task.history()
    assert endings([run]) == [("CANCELLED", "shutdown", 1)]
    assert (run.attempts, run.error, run.duration_s) == (2, "ConnectionError: no route", 30)


async def test_a_shielded_attempt_that_fails_during_stop_is_the_last_one(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(broken, 100, policy=ExecPolicy.SHIELD, retries=3, retry_interval_s=20)
    await scheduler.start()
    await asyncio.sleep(0.5)

    assert [] == await scheduler.stop()

    assert now_s() == 1
    [run] = task.history()
    error = "ConnectionError: no route (attempt 1 of 4, not retried: the scheduler is stopping)"
    assert (run.outcome, run.attempts, run.error) == ("FAILED", 1, error)


async def test_cancel_grace_bounds_the_wait_for_the_cancelled_and_nothing_that_for_shield(scheduler: Scheduler) -> None:
    forever = scheduler.schedule_task(stubborn, 100, args=(1000,))
    a_while = scheduler.schedule_task(stubborn, 100, args=(8,))
    shield = scheduler.schedule_task(asyncio.sleep, 100, args=(60,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(1)

    assert [forever] == await scheduler.stop()  # The other run ended while the shielded one was awaited.

    assert now_s() == 60
    assert endings(a_while.history()) == [("SUCCEEDED", "shutdown", 1)]
    assert endings(shield.history()) == [("SUCCEEDED", None, 1)]
    assert forever.running


async def test_stop_gives_up_on_a_stubborn_run_after_cancel_grace(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(stubborn, 100, args=(1000,), policy=ExecPolicy.WAIT)
    await scheduler.start()
    await asyncio.sleep(1)

    assert [task] == await scheduler.stop()

    assert now_s() == 6
    assert [] == task.history()  # It has not ended.


@pytest.mark.parametrize("timeout_s", [0, 2, 12])
async def test_timeout_bounds_the_whole_wait(scheduler: Scheduler, timeout_s: float) -> None:
    left = [
        scheduler.schedule_task(stubborn, 100, args=(1000,)),
        scheduler.schedule_task(asyncio.sleep, 100, args=(1000,), policy=ExecPolicy.SHIELD),
    ]
    for policy in ExecPolicy:
        if policy is not ExecPolicy.SHIELD:
            scheduler.schedule_task(asyncio.sleep, 100, args=(1000,), policy=policy)
    await scheduler.start()
    await asyncio.sleep(1)

    assert left == await scheduler.stop(timeout_s)

    assert now_s() == 1 + timeout_s


async def test_a_thread_is_left_after_cancel_grace_and_awaited_under_shield(
    scheduler: Scheduler, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    task = scheduler.schedule_task(gate.wait, 100, args=(10,), name="in a thread")
    await scheduler.start()
    await asyncio.sleep(1)
    assert [task] == await scheduler.stop()
    assert now_s() == 6
    assert "in a thread" in caplog.text

    gate.set()
    await wait_until(lambda: not task.running)
    assert endings(task.history()) == [("SUCCEEDED", "shutdown", 1)]

    gate.clear()
    task.remove()
    shielded = scheduler.schedule_task(gate.wait, 100, args=(10,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(1)
    threading.Timer(0.05, gate.set).start()
    assert [] == await scheduler.stop()
    assert now_s() == 7
    assert endings(shielded.history()) == [("SUCCEEDED", None, 1)]
    assert shielded.result is True


async def test_a_thread_function_that_checks_ends_on_stop(scheduler: Scheduler) -> None:
    began = threading.Event()

    def body() -> None:
        began.set()
        while True:
            current_run().check()
            time.sleep(0.001)

    task = scheduler.schedule_task(body, 100)
    await scheduler.start()
    await wait_until(began.is_set)
    stopping = asyncio.ensure_future(scheduler.stop())
    await wait_until(lambda: not task.running)
    assert [] == await stopping

    [run] = task.history()
    assert endings([run]) == [("CANCELLED", "shutdown", 1)]


# --- stop: what is left ---


async def test_what_is_left_is_logged_with_its_stack(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(stubborn, 100, args=(1000,), name="left")
    scheduler.schedule_task(asyncio.sleep, 100, args=(1000,), name="not left")
    await scheduler.start()
    await asyncio.sleep(1)
    await scheduler.stop()

    [message] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "task 'left', tick 2027-01-15T08:00:05+00:00: the run is in progress after stop(), 6 s after" in message
    assert " in stubborn" in message
    assert " in sleep" in message


@pytest.mark.smoke
def test_a_run_that_is_destroyed_with_its_loop_is_no_ending(
    lives: SuccessiveLoops, caplog: pytest.LogCaptureFixture
) -> None:
    """The garbage collector throws GeneratorExit into it, possibly while the interpreter is shutting down."""
    caplog.set_level(logging.CRITICAL)  # Captured log records keep tracebacks, and their frames keep the run.
    reported: list[Run] = []
    lives.scheduler.subscribe(reported.append)
    task = lives.scheduler.schedule_task(stubborn, 10, args=(1e9,))

    async def main() -> None:
        await lives.scheduler.start()
        await asyncio.sleep(1)
        await lives.scheduler.stop(0)

    loop = VirtualLoop()
    lives.loop = loop
    loop.run_until_complete(main())
    [left] = asyncio.all_tasks(loop)
    loop.close()
    coro: Any = left.get_coro()
    coro.close()  # What the garbage collector does.

    assert reported == []
    assert task.history() == []
    left._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_a_function_that_raises_generator_exit_has_failed(scheduler: Scheduler) -> None:
    async def body() -> None:
        raise GeneratorExit

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(15)

        assert [run.outcome for run in task.history()] == ["FAILED", "FAILED"]


async def test_what_is_left_keeps_its_task_busy_across_a_new_start(scheduler: Scheduler) -> None:
    active = most = calls = 0

    async def body() -> None:
        nonlocal active, most, calls
        calls += 1
        active += 1
        most = max(active, most)
        if calls == 1:
            await stubborn(47)
        active -= 1

    task = scheduler.schedule_task(body, 10)
    other = scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(1)
    assert [task] == await scheduler.stop()
    assert now_s() == 6

    async with scheduler:
        await asyncio.sleep(10)
        assert task.state == "hung"
        assert calls == 1
        await asyncio.sleep(45)

    assert most == 1
    assert starts_s(other)[-6:] == [6, 16, 26, 36, 46, 56]
    # The first tick after the new start waits. Once the run is hung, later ticks are skipped.
    assert endings(task.history()) == [
        ("SKIPPED", "hung", 4),
        ("SUCCEEDED", "shutdown", 1),
        ("SUCCEEDED", None, 1),
        ("SUCCEEDED", None, 1),
    ]
    assert starts_s(task) == [0, 6, 56]
    assert task.history()[2].started_at is not None
    assert task.history()[2].lateness_s == 41


async def test_a_shielded_run_that_is_left_goes_on_and_ends_well(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(33,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    assert [task] == await scheduler.stop(timeout_s=3)

    async with scheduler:
        await asyncio.sleep(26)
        assert endings(task.history()[-1:]) == [("SUCCEEDED", None, 1)]
        assert starts_s(task) == [0]
        assert task.running  # The tick of 28 waited for it.
        assert await task.wait()
        assert starts_s(task) == [0, 28]


async def test_a_second_stop_awaits_what_the_first_has_left(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(33,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    assert [task] == await scheduler.stop(timeout_s=3)
    assert [task] == await scheduler.stop(timeout_s=3)
    assert now_s() == 11

    assert [] == await scheduler.stop()
    assert now_s() == 33


def test_a_run_whose_loop_was_closed_is_over(lives: SuccessiveLoops) -> None:
    task = lives.scheduler.schedule_task(stubborn, 10, args=(1000,))
    with lives.life() as loop:
        loop.run_until_complete(lives.scheduler.start())
        loop.run_until_complete(asyncio.sleep(1))
        assert [task] == loop.run_until_complete(lives.scheduler.stop())

    assert not task.running
    task.remove()
    again = lives.scheduler.schedule_task(nothing, 10, name=task.name)
    with lives.life() as loop:
        loop.run_until_complete(lives.scheduler.start())
        loop.run_until_complete(asyncio.sleep(1))
        loop.run_until_complete(lives.scheduler.stop())
    assert endings(again.history()) == [("SUCCEEDED", None, 1)]


def test_a_thread_outlives_its_loop_and_keeps_its_task_busy(lives: SuccessiveLoops, gate: threading.Event) -> None:
    """A loop may be closed while a thread runs on. The task stays busy, so that no second copy runs beside it."""
    active: list[int] = []
    most = 0

    def body() -> None:
        nonlocal most
        active.append(1)
        most = max(most, len(active))
        gate.wait(10)
        active.pop()

    task = lives.scheduler.schedule_task(body, 10)
    lives.loop = loop = VirtualLoop()
    loop.run_until_complete(lives.scheduler.start())
    loop.run_until_complete(wait_until(lambda: active))
    assert [task] == loop.run_until_complete(lives.scheduler.stop(0))
    loop.close()

    with lives.life() as loop:
        loop.run_until_complete(lives.scheduler.start())
        loop.run_until_complete(asyncio.sleep(1))
        running, seen = task.running, len(active)
        gate.set()
        loop.run_until_complete(wait_until(lambda: not active))
        loop.run_until_complete(asyncio.sleep(20))
        loop.run_until_complete(lives.scheduler.stop())
    assert (running, seen, most) == (True, 1, 1)


# --- stop: when it is called ---


async def test_stop_before_start_and_twice_is_harmless(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    assert [] == await scheduler.stop()
    assert [] == task.history()

    async with scheduler:
        await asyncio.sleep(5)
        assert [] == await scheduler.stop()
        assert [] == await scheduler.stop()
    assert starts_s(task) == [0]
    assert now_s() == 5


async def test_concurrent_stops_wait_for_the_same_end(scheduler: Scheduler) -> None:
    async def stop(timeout_s: float | None) -> tuple[float, list[ScheduledTask[Any]]]:
        left = await scheduler.stop(timeout_s)
        return now_s(), left

    task = scheduler.schedule_task(asyncio.sleep, 100, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)

    assert await asyncio.gather(stop(None), stop(None), stop(3)) == [(20, []), (20, []), (8, [task])]


async def test_a_stop_keeps_its_own_time_whatever_limit_an_earlier_one_has(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)

    assert await asyncio.gather(scheduler.stop(3), scheduler.stop()) == [[task], []]
    assert now_s() == 20


async def test_a_cancelled_stop_does_not_shorten_another_one(scheduler: Scheduler) -> None:
    scheduler.schedule_task(asyncio.sleep, 100, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    first = asyncio.ensure_future(scheduler.stop())
    second = asyncio.ensure_future(scheduler.stop())
    await asyncio.sleep(1)
    first.cancel()

    assert [] == await second
    assert now_s() == 20


@pytest.mark.smoke
@pytest.mark.parametrize("policy", list(ExecPolicy))
async def test_stop_from_inside_a_run_neither_cancels_nor_awaits_that_run(
    scheduler: Scheduler, policy: ExecPolicy
) -> None:
    stopped_at: list[float] = []

    async def body() -> str:
        await asyncio.sleep(1)
        assert [] == await scheduler.stop()
        stopped_at.append(now_s())
        await asyncio.sleep(7)
        return "done"

    task = scheduler.schedule_task(body, 10, policy=policy)
    other = scheduler.schedule_task(asyncio.sleep, 10, args=(8,))
    shield = scheduler.schedule_task(asyncio.sleep, 10, args=(4,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(50)

    assert stopped_at == [4]
    assert endings(task.history()) == [("SUCCEEDED", None, 1)]
    assert (task.result, task.history()[0].duration_s) == ("done", 11)
    assert endings(other.history()) == [("CANCELLED", "shutdown", 1)]
    assert endings(shield.history()) == [("SUCCEEDED", None, 1)]
    assert not scheduler.started


async def test_stop_from_a_child_task_of_a_run_is_from_inside_that_run(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.create_task(scheduler.stop())
        await asyncio.sleep(2)

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(50)

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]
    assert task.history()[0].duration_s == 2


async def test_stop_from_the_thread_of_a_run_is_from_inside_that_run(scheduler: Scheduler) -> None:
    loop = asyncio.get_running_loop()

    def body() -> int:
        return len(asyncio.run_coroutine_threadsafe(scheduler.stop(), loop).result(10))

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await wait_until(lambda: task.last_run)

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]
    assert task.result == 0


async def test_stop_from_inside_a_run_while_another_stop_waits_for_it(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.sleep(10)
        assert [] == await scheduler.stop()
        await asyncio.sleep(3)

    task = scheduler.schedule_task(body, 100, policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)

    assert [] == await scheduler.stop()
    assert now_s() == 13
    assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_two_shielded_runs_that_both_stop_the_scheduler_do_not_wait_for_each_other(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.sleep(1)
        await scheduler.stop()

    tasks = [scheduler.schedule_task(body, 100, policy=ExecPolicy.SHIELD) for _ in range(2)]
    await scheduler.start()
    await asyncio.sleep(50)

    assert [endings(task.history()) for task in tasks] == [[("SUCCEEDED", None, 1)]] * 2


async def test_stop_in_the_clean_up_of_a_run_that_is_being_stopped(scheduler: Scheduler) -> None:
    async def body() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await scheduler.stop()

    task = scheduler.schedule_task(body, 100)
    await scheduler.start()
    await asyncio.sleep(5)

    assert [] == await scheduler.stop()
    assert now_s() == 5
    assert endings(task.history()) == [("CANCELLED", "shutdown", 1)]


async def test_a_run_may_restart_the_scheduler_it_is_of(scheduler: Scheduler) -> None:
    active = most = 0

    async def body() -> None:
        nonlocal active, most
        active += 1
        most = max(active, most)
        await asyncio.sleep(4)
        if scheduler.tasks["body"].last_run is None:
            await scheduler.stop()
            await scheduler.start()
            await asyncio.sleep(4)
        active -= 1

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.WAIT, name="body")
    await scheduler.start()
    await asyncio.sleep(27)

    assert most == 1
    assert starts_s(task) == [0, 4, 14]
    assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 3
    await scheduler.stop()


@pytest.mark.smoke
async def test_stop_while_starting(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    await asyncio.gather(scheduler.start(), scheduler.stop())
    await asyncio.sleep(100)

    assert not scheduler.started
    assert endings(task.history()) == [("SKIPPED", "shutdown", 1)]  # The first run was due, and no tick vanishes.


async def test_start_during_stop_comes_after_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    stopping = asyncio.ensure_future(scheduler.stop())
    await asyncio.sleep(5)
    assert not scheduler.started
    await scheduler.start()

    assert now_s() == 20
    assert stopping.done()
    assert scheduler.started
    await asyncio.sleep(25)
    assert starts_s(task) == [0, 20]
    await scheduler.stop()


async def test_of_two_starts_during_stop_one_raises(scheduler: Scheduler) -> None:
    scheduler.schedule_task(asyncio.sleep, 100, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    results = await asyncio.gather(scheduler.stop(), scheduler.start(), scheduler.start(), return_exceptions=True)

    assert [type(result) for result in results] == [list, type(None), WrongState]
    assert scheduler.started
    await scheduler.stop()


async def test_start_and_stop_take_effect_in_the_order_of_their_calls(scheduler: Scheduler) -> None:
    """The scheduler is being restarted when the application ends: its stop(), called last, decides."""
    scheduler.schedule_task(asyncio.sleep, 100, args=(20,), policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)

    await asyncio.gather(scheduler.stop(), scheduler.start(), scheduler.stop())
    assert not scheduler.started


async def test_start_inside_a_run_that_stop_awaits_raises_instead_of_waiting_for_itself(scheduler: Scheduler) -> None:
    async def body() -> None:
        await asyncio.sleep(10)
        with pytest.raises(SelfWait):
            await scheduler.start()

    task = scheduler.schedule_task(body, 100, policy=ExecPolicy.SHIELD)
    await scheduler.start()
    await asyncio.sleep(5)
    await scheduler.stop()

    assert endings(task.history()) == [("SUCCEEDED", None, 1)]


async def test_a_stop_that_is_cancelled_while_it_waits_has_stopped_all_the_same(scheduler: Scheduler) -> None:
    shield = scheduler.schedule_task(asyncio.sleep, 10, args=(20,), policy=ExecPolicy.SHIELD)
    task = scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scheduler.stop(), 3)

    assert now_s() == 8
    assert not scheduler.started
    await asyncio.sleep(30)
    assert starts_s(task) == [0]
    assert endings(shield.history()) == [("SUCCEEDED", None, 1)]
    async with scheduler:
        await asyncio.sleep(5)
    assert starts_s(task) == [0, 38]


# --- every due tick ends ---


async def _waiting(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(100,), policy=ExecPolicy.WAIT, max_timeout_s=1000)
    await scheduler.start()
    await asyncio.sleep(25)
    return task


async def _backlog(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(7,), missed=Missed.ALL, policy=ExecPolicy.WAIT)
    async with task.suspend():
        await scheduler.start()
        await asyncio.sleep(35)
    await asyncio.sleep(10)
    return task


async def _suspended(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(5)
    await task.pause()
    await asyncio.sleep(30)
    return task


async def _all_suspended(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(5)
    async with scheduler.suspend():
        await asyncio.sleep(30)
        await scheduler.stop()
    return task


async def _disabled(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(5)
    task.disable()
    await asyncio.sleep(30)
    return task


async def _blocked(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(5)
    asyncio.get_running_loop().virtual_clock.block(30)  # type: ignore[attr-defined]
    return task


async def _hung(scheduler: Scheduler) -> ScheduledTask[Any]:
    task = scheduler.schedule_task(stubborn, 10, args=(37,))
    await scheduler.start()
    await asyncio.sleep(36)
    return task


@pytest.mark.parametrize(
    ("situation", "told"),
    [
        (_waiting, [("SKIPPED", "overlap", 1), ("SKIPPED", "shutdown", 1), ("CANCELLED", "shutdown", 1)]),
        # From 35 on the ticks of 0 and 10 are run; those of 20, 30 and 40 wait behind them.
        (_backlog, [("SUCCEEDED", None, 1), ("SKIPPED", "shutdown", 3), ("CANCELLED", "shutdown", 1)]),
        (_suspended, [("SUCCEEDED", None, 1), ("SKIPPED", "suspended", 3)]),
        (_all_suspended, [("SUCCEEDED", None, 1), ("SKIPPED", "suspended", 3)]),
        (_disabled, [("SUCCEEDED", None, 1), ("SKIPPED", "disabled", 3)]),
        (_blocked, [("SUCCEEDED", None, 1), ("SKIPPED", "shutdown", 3)]),
        (_hung, [("SKIPPED", "hung", 2), ("SKIPPED", "shutdown", 1), ("SUCCEEDED", "replaced", 1)]),
    ],
)
async def test_every_due_tick_ends_once_at_shutdown(
    scheduler: Scheduler, situation: Callable[[Scheduler], Any], told: list[ENDING]
) -> None:
    task = await situation(scheduler)
    due = int(now_s() // 10) + 1
    await scheduler.stop()
    await asyncio.sleep(100)

    assert endings(task.history()) == told
    counts = task.json_repr()["counts"]
    assert sum(counts.values()) == due
    assert sum(run.count for run in task.history()) == due


async def test_the_skips_of_a_shutdown_are_heard(scheduler: Scheduler, reported: list[Run]) -> None:
    scheduler.schedule_task(asyncio.sleep, 10, args=(100,), policy=ExecPolicy.WAIT)
    await scheduler.start()
    await asyncio.sleep(15)
    await scheduler.stop()

    assert endings(reported) == [("SKIPPED", "shutdown", 1), ("SKIPPED", "shutdown", 1), ("CANCELLED", "shutdown", 1)]
    assert [run.finished_at is None for run in reported] == [
        True,
        False,
        False,
    ]  # The opening and the closing of the skips, and the run.


async def test_a_run_now_that_still_waits_at_shutdown_returns_the_skip(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(50,), policy=ExecPolicy.WAIT)
    await scheduler.start()
    await asyncio.sleep(5)
    asked = asyncio.ensure_future(task.run_now())
    await asyncio.sleep(5)
    await scheduler.stop()

    run = await asked
    assert endings([run]) == [("SKIPPED", "shutdown", 1)]
    assert run.manual
    assert endings(task.history()) == [("SKIPPED", "shutdown", 1), ("CANCELLED", "shutdown", 1)]


async def test_wait_ends_at_shutdown(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 100, args=(50,))
    await scheduler.start()
    await asyncio.sleep(5)
    waiting = asyncio.ensure_future(task.wait())
    await asyncio.sleep(5)
    await scheduler.stop()

    run = await waiting
    assert run is not None
    assert endings([run]) == [("CANCELLED", "shutdown", 1)]


# --- context ---


@pytest.mark.smoke
async def test_runs_see_the_context_of_start_and_no_requests(scheduler: Scheduler) -> None:
    seen: list[str] = []

    async def body() -> None:
        seen.append(user.get())
        user.set("the run before")

    user.set("registration")
    first = scheduler.schedule_task(body, 10, name="before")
    user.set("start")
    async with scheduler:
        user.set("request")
        second = scheduler.schedule_task(body, 10, name="meanwhile")
        await asyncio.sleep(11)
        await first.run_now()
        await second.run_now()

        assert seen == ["start"] * 6
        assert user.get() == "request"


@pytest.mark.parametrize("call", ["enable", "resume", "suspend", "reschedule", "waiting run_now"])
async def test_no_call_leaks_its_context_into_a_run(scheduler: Scheduler, call: str) -> None:
    seen: list[str] = []

    async def body() -> None:
        seen.append(user.get())
        await asyncio.sleep(1)

    user.set("start")
    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.WAIT)
    async with scheduler:
        user.set("request")
        await asyncio.sleep(0.5)
        if call == "enable":
            task.disable()
            task.enable()
        elif call == "resume":
            await task.pause()
            await asyncio.sleep(10)
            await task.resume()
        elif call == "suspend":
            async with task.suspend(), scheduler.suspend():
                await asyncio.sleep(10)
        elif call == "reschedule":
            task.reschedule(5)
        else:
            await task.run_now()
        await asyncio.sleep(15)

    assert len(seen) >= 2
    assert set(seen) == {"start"}


async def test_a_task_scheduled_in_a_run_sees_nothing_of_that_run(scheduler: Scheduler) -> None:
    seen: list[tuple[str, str]] = []

    async def child() -> None:
        seen.append((user.get(), current_run().task))

    async def parent() -> None:
        user.set("parent")
        scheduler.schedule_task(child, 100, name="child")

    user.set("start")
    scheduler.schedule_task(parent, 100, name="parent")
    async with scheduler:
        await asyncio.sleep(1)

    assert seen == [("start", "child")]


async def test_attempts_of_a_run_share_its_context_and_runs_share_none(scheduler: Scheduler) -> None:
    seen: list[tuple[int, str]] = []

    async def body() -> None:
        attempt = current_run().attempt
        seen.append((attempt, user.get()))
        user.set(f"attempt {attempt}")
        if attempt < 3:
            raise ConnectionError

    scheduler.schedule_task(body, 10, retries=2)
    async with scheduler:
        await asyncio.sleep(19)

    assert seen == [(1, "nobody"), (2, "attempt 1"), (3, "attempt 2")] * 2


async def test_threads_run_in_the_context_that_the_attempts_of_a_run_share(scheduler: Scheduler) -> None:
    seen: list[tuple[str, int, str]] = []

    def body() -> None:
        run = current_run()
        seen.append((run.task, run.attempt, user.get()))
        user.set(f"attempt {run.attempt}")
        if run.attempt < 3:
            raise ConnectionError

    user.set("start")
    task = scheduler.schedule_task(body, 1_000_000, retries=2, retry_interval_s=1, name="body")
    async with scheduler:
        user.set("request")
        await wait_until(lambda: task.last_run, step_s=1)

    assert seen == [("body", 1, "start"), ("body", 2, "attempt 1"), ("body", 3, "attempt 2")]


# --- several schedulers, suspension of all, references ---


async def test_two_schedulers_in_one_loop_do_not_know_each_other() -> None:
    loop = asyncio.get_running_loop()
    one, two = (Scheduler(clock=loop.virtual_clock) for _ in range(2))  # type: ignore[attr-defined]
    ones = one.schedule_task(asyncio.sleep, 10, args=(4,), name="same")
    twos = two.schedule_task(asyncio.sleep, 10, args=(9.5,), name="same")
    async with one:
        await asyncio.sleep(5)
        async with two:
            await asyncio.sleep(7)
            async with one.suspend():
                assert now_s() == 14
                assert two.tasks["same"].running
        await asyncio.sleep(9)

    assert starts_s(ones) == [0, 10, 20]
    assert starts_s(twos) == [5]
    assert endings(ones.history()) == [("SUCCEEDED", None, 1)] * 2 + [("CANCELLED", "shutdown", 1)]
    assert endings(twos.history()) == [("CANCELLED", "shutdown", 1)]
    assert {run.instance for run in ones.history()}.isdisjoint({run.instance for run in twos.history()})


async def test_a_run_may_stop_and_start_another_scheduler(scheduler: Scheduler) -> None:
    """It is called inside a run, but not inside a run of the other scheduler."""
    other = Scheduler(clock=asyncio.get_running_loop().virtual_clock)  # type: ignore[attr-defined]
    victim = other.schedule_task(asyncio.sleep, 100, args=(50,), policy=ExecPolicy.SHIELD)
    stopped_at = []

    async def body() -> None:
        await asyncio.sleep(5)
        await other.stop()
        stopped_at.append(now_s())
        await other.start()

    scheduler.schedule_task(body, 1000)
    async with other, scheduler:
        await asyncio.sleep(60)

    assert stopped_at == [50]
    assert starts_s(victim) == [0, 50]


@contextlib.asynccontextmanager
async def suspended_from(start: Callable[[], Any], context: Any) -> AsyncIterator[None]:
    async with context:
        await start()
        yield


async def test_suspending_the_scheduler_waits_for_all_runs_and_holds_all_tasks(scheduler: Scheduler) -> None:
    short = scheduler.schedule_task(asyncio.sleep, 10, args=(1,))
    long = scheduler.schedule_task(asyncio.sleep, 10, args=(7,))
    async with scheduler:
        await asyncio.sleep(0.5)
        async with scheduler.suspend("backup"):
            assert now_s() == 7
            assert short.suspended
            assert long.suspended
            assert scheduler.json_repr()["holds"] != []
            await asyncio.sleep(15)
        await asyncio.sleep(0.5)
        assert not short.suspended

        # At 22 the tick of 20 is the latest, and the next one is not near.
        assert endings(short.history()) == [("SUCCEEDED", None, 1), ("SKIPPED", "suspended", 1)]
        assert short.running
        assert long.running
    assert starts_s(short) == starts_s(long) == [0, 20]


async def test_tasks_added_while_the_scheduler_is_suspended_are_held_too(scheduler: Scheduler) -> None:
    async with scheduler:
        async with scheduler.suspend():
            await asyncio.sleep(5)
            near = scheduler.schedule_task(nothing, 10)
            await asyncio.sleep(7)
            far = scheduler.schedule_task(nothing, 10)
            await asyncio.sleep(1)
            assert near.suspended
            assert [] == near.history() + far.history()
        await asyncio.sleep(4)

    assert starts_s(near) == [15]  # At 13 the next tick was less than half a gap away, so the one of 5 is not run late.
    assert starts_s(far) == [12]
    assert [run.lateness_s for run in far.history()] == [1]


async def test_a_suspension_entered_before_start_holds_the_first_ticks(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    async with suspended_from(scheduler.start, scheduler.suspend()):
        await asyncio.sleep(3)
        assert [] == task.history()
    await asyncio.sleep(1)
    await scheduler.stop()

    assert [(run.outcome, run.lateness_s) for run in task.history()] == [("SUCCEEDED", 3)]


async def test_suspensions_of_the_scheduler_are_counted_and_restore_what_was(scheduler: Scheduler) -> None:
    disabled = scheduler.schedule_task(nothing, 10, name="disabled")
    disabled.disable()
    held = scheduler.schedule_task(nothing, 10, name="held")
    task = scheduler.schedule_task(nothing, 10, name="task")
    async with scheduler, held.suspend():
        first, second = scheduler.suspend(), scheduler.suspend()
        await first.__aenter__()
        await second.__aenter__()
        await asyncio.sleep(3)
        await first.__aexit__(None, None, None)
        assert task.suspended
        await asyncio.sleep(3)
        await second.__aexit__(None, None, None)
        assert not task.suspended
        assert held.suspended
        assert not disabled.enabled
        await asyncio.sleep(10)

        assert starts_s(disabled) == starts_s(held) == []
        assert starts_s(task) == [10]  # At 6 the next tick was less than half a gap away.


async def test_a_suspension_that_is_cancelled_while_it_waits_holds_nothing(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(8,), policy=ExecPolicy.SHIELD)

    async def suspend() -> None:
        async with scheduler.suspend():
            raise AssertionError("it was never entered")

    async with scheduler:
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(suspend(), 3)

        assert not task.suspended
        await asyncio.sleep(10)
        assert starts_s(task) == [0]
        assert task.running


async def test_a_run_may_suspend_the_whole_scheduler_without_waiting_for_itself(scheduler: Scheduler) -> None:
    inside: list[float] = []

    async def body() -> None:
        await asyncio.sleep(1)
        async with scheduler.suspend():
            inside.append(now_s())
            await asyncio.sleep(3)

    task = scheduler.schedule_task(body, 10)
    other = scheduler.schedule_task(asyncio.sleep, 10, args=(2,))
    async with scheduler:
        await asyncio.sleep(9)

    assert inside == [2]
    assert endings(task.history()) == endings(other.history()) == [("SUCCEEDED", None, 1)]


async def test_a_suspension_outlives_a_stop_and_a_start(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler.suspend():
        async with scheduler:
            await asyncio.sleep(15)
        async with scheduler:
            await asyncio.sleep(15)
    assert endings(task.history()) == [("SKIPPED", "suspended", 4)]
    async with scheduler:
        await asyncio.sleep(5)
    assert starts_s(task) == [30]


async def test_dropping_the_scheduled_task_changes_nothing(scheduler: Scheduler) -> None:
    calls: list[float] = []

    class Service:
        async def work(self) -> None:
            calls.append(now_s())

    service = Service()
    ref = weakref.ref(service)
    scheduler.schedule_task(service.work, 10, name="work")
    del service
    gc.collect()
    async with scheduler:
        await asyncio.sleep(25)
        gc.collect()
        assert calls == [0, 10, 20]
        assert ref() is not None

        scheduler.tasks["work"].remove()
        await asyncio.sleep(20)
        gc.collect()
        assert ref() is None
        assert calls == [0, 10, 20]


async def test_a_removed_task_whose_run_outlives_stop_is_not_planned_by_the_next_start(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(stubborn, 10, (25,), name="task")
    await scheduler.start()
    await asyncio.sleep(5)
    task.remove()
    assert [task] == await scheduler.stop(1)
    async with scheduler:
        await asyncio.sleep(50)

        assert starts_s(task) == [0]
        assert "task" not in scheduler.tasks
