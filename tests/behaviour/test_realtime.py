"""Tests on the real clock, of what virtual time cannot show, on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from conftest import REAL_LOOPS
from kaiju_app.scheduler import ExecPolicy, Run, ScheduledTask, Scheduler

pytestmark = pytest.mark.realtime

# When a test sleeps for a fixed time, the timers that it expects to fire are due earlier. A stalled machine delays
# all of them, and the loop still serves them in order. on_time() handles a stall before the timers are set.


async def on_time(milliseconds: int) -> None:
    """Sleep as many short sleeps in a row. They take little longer than their sum, unless the machine stalls."""
    for _ in range(milliseconds):
        await asyncio.sleep(0.001)


def started(task: ScheduledTask[Any]) -> list[str]:
    """Return the outcomes of the runs of *task* that began."""
    return [run.outcome.value for run in task.history() if run.started_at is not None]


# --- what users of the original rely on ---


async def test_a_body_of_1_ms_has_run_within_20_ms_of_the_start(scheduler: Scheduler) -> None:
    ended = asyncio.Event()

    async def body() -> None:
        await asyncio.sleep(0.001)
        ended.set()

    async with scheduler:
        scheduler.schedule_task(body, 0.01)
        reference = asyncio.ensure_future(on_time(8))
        await asyncio.sleep(0.02)
        assert ended.is_set() or not reference.done()
    await reference


async def test_a_suspension_entered_right_after_registration_holds_the_first_tick(scheduler: Scheduler) -> None:
    began = asyncio.Event()

    async def body() -> None:
        began.set()

    async with scheduler:
        task = scheduler.schedule_task(body, 0.01)
        async with task.suspend():
            await asyncio.sleep(0.03)
            assert not began.is_set()
            assert [] == started(task)
        await asyncio.wait_for(began.wait(), 5)


async def test_a_shielded_body_longer_than_its_interval_finishes_on_exit_too(scheduler: Scheduler) -> None:
    began: list[int] = []
    finished: list[int] = []
    again = asyncio.Event()

    async def body() -> None:
        began.append(1)
        if len(began) == 2:
            again.set()
        await asyncio.sleep(0.025)
        finished.append(1)

    async with scheduler:
        task = scheduler.schedule_task(body, 0.01, policy=ExecPolicy.SHIELD)
        await asyncio.wait_for(again.wait(), 5)
        assert finished == [1]
    assert finished == [1, 1]
    assert started(task) == ["SUCCEEDED"] * 2


async def test_three_connection_errors_are_overcome_within_two_ticks(scheduler: Scheduler) -> None:
    calls = 0
    succeeded = asyncio.Event()

    async def body() -> str:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise ConnectionError
        succeeded.set()
        return "connected"

    async with scheduler:
        task = scheduler.schedule_task(body, 0.1, retries=3)
        await asyncio.wait_for(succeeded.wait(), 5)
        await asyncio.sleep(0)
        assert task.result == "connected"
        assert calls == 4
        assert len(started(task)) <= 2


async def test_a_body_of_two_gaps_under_wait_has_finished_once_after_three(scheduler: Scheduler) -> None:
    finished: list[int] = []

    async def body() -> None:
        await asyncio.sleep(0.02)
        finished.append(1)

    async with scheduler:
        scheduler.schedule_task(body, 0.01, policy=ExecPolicy.WAIT)
        reference = asyncio.ensure_future(on_time(22))
        await asyncio.sleep(0.03)
        assert finished == [1] or not reference.done()
    await reference


async def test_ten_tasks_of_one_function_are_ten_tasks(scheduler: Scheduler) -> None:
    seen: list[int] = []

    async def body(number: int) -> None:
        seen.append(number)

    tasks = [scheduler.schedule_task(body, 10, args=(number,)) for number in range(10)]
    async with scheduler:
        await asyncio.sleep(0.02)

    assert seen == list(range(10))
    assert len({task.name for task in tasks}) == 10
    assert [started(task) for task in tasks] == [["SUCCEEDED"]] * 10


# --- the loop stays free ---


async def test_an_idle_scheduler_does_not_spin(scheduler: Scheduler) -> None:
    """uvloop rounds timers to whole milliseconds. A scheduler that re-arms for a tick not quite due would spin.

    Twenty runs take 3 to 10 ms of processor time; a loop that spins uses the whole second.
    """
    calls: list[int] = []

    async def body() -> None:
        calls.append(1)

    scheduler.schedule_task(body, 0.05)
    async with scheduler:
        await asyncio.sleep(0.025)
        before = time.process_time()
        await asyncio.sleep(1)
        spent = time.process_time() - before

    assert spent < 0.1
    assert len(calls) in range(10, 23)  # Fewer than 21 if the machine was busy.


async def test_a_herd_does_not_block_the_loop(scheduler: Scheduler) -> None:
    """Ten thousand runs due at once take 50 to 100 ms. Other callbacks get a turn every 2 or 3 ms, not at the end.

    Measured in processor time of this thread, so that other programs do not matter, and as a share of the whole, so
    that the speed of the machine does not matter. Without slices one turn of the loop takes two thirds of the whole.
    """
    calls: list[int] = []

    async def body() -> None:
        calls.append(1)

    for _ in range(10_000):
        scheduler.schedule_task(body, 3600)
    turns: list[float] = []
    gc.collect()
    gc.disable()
    try:
        await scheduler.start()
        while len(calls) < 10_000:
            before = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - before)
    finally:
        gc.enable()
    await scheduler.stop()

    assert max(turns) < sum(turns) / 5


async def test_plain_functions_run_in_threads_side_by_side(scheduler: Scheduler) -> None:
    barrier = threading.Barrier(8)
    over = asyncio.Event()

    def body() -> bool:
        barrier.wait(5)  # All threads are here at once, or the barrier breaks.
        return threading.current_thread() is threading.main_thread()

    def count(run: Run) -> None:
        if all(task.last_run for task in tasks):
            over.set()

    tasks = [scheduler.schedule_task(body, 10) for _ in range(8)]
    scheduler.subscribe(count)
    async with scheduler:
        await asyncio.wait_for(over.wait(), 10)

    assert [started(task) for task in tasks] == [["SUCCEEDED"]] * 8
    assert [task.result for task in tasks] == [False] * 8


# --- real processes ---

NEW_LOOP = """
import asyncio, sys
def new_loop():
    if sys.argv[1] == "uvloop":
        import uvloop
        return uvloop.new_event_loop()
    return asyncio.new_event_loop()
"""

EVERYTHING = (
    NEW_LOOP
    + """
import logging, threading
from kaiju_app.scheduler import ExecPolicy, Scheduler, current_run

logging.getLogger("kaiju_app.scheduler").setLevel(logging.CRITICAL)  # It has much to say of this.

class Curse(BaseException):
    pass

async def hangs():
    await asyncio.sleep(100)

async def is_stubborn(seconds):
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            pass

async def succeeds():
    await asyncio.sleep(0)

async def fails():
    raise ConnectionError("no route")

async def curses():
    raise Curse

async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)

def in_thread(seconds):
    gate.wait(seconds)
    current_run().check()

gate = threading.Event()

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # The machine may be busy.
    scheduler = Scheduler(cancel_grace_s=0.05, threads=2)
    heard = set()
    scheduler.subscribe(lambda run: heard.add((run.outcome.value, run.reason and run.reason.value)))
    scheduler.subscribe(lambda run: 1 / 0)
    for policy in ExecPolicy:
        for body, args, gap in (hangs, (), 0.1), (is_stubborn, (0.25,), 0.07), (succeeds, (), 0.03), (fails, (), 0.04):
            if not (policy is ExecPolicy.SHIELD and body is hangs):
                scheduler.schedule_task(body, gap, args=args, policy=policy, retries=1)
        scheduler.schedule_task(in_thread, 0.1, args=(0.01,), policy=policy)
        scheduler.schedule_task(in_thread, 0.1, args=(0.2,), policy=policy, max_timeout_s=0.03)
        scheduler.schedule_task(lambda: succeeds(), 0.1, policy=policy)
        scheduler.schedule_task(curses, 0.1, policy=policy)
        scheduler.schedule_task(cancels_itself, 0.1, policy=policy)
    scheduler.schedule_task(hangs, 0.1, max_timeout_s=0.05)
    busy = scheduler.schedule_task(hangs, 10)
    quick = scheduler.schedule_task(succeeds, 10)
    async with scheduler:
        await asyncio.sleep(0.2)
        await quick.run_now()
        busy.cancel("enough")
        async with quick.suspend("for a moment"):
            await asyncio.sleep(0.01)
        await quick.pause(for_s=0.01)
        quick.reschedule(0.02)
        busy.disable()
        await asyncio.sleep(0.2)
        quick.remove()
    async with scheduler:
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.2, gate.set)
    while any(task.running for task in scheduler.tasks.values()):
        await asyncio.sleep(0.01)
    for outcome, reason in sorted(heard, key=str):
        print(outcome, reason)

with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
"""
)


@pytest.mark.parametrize("kind", list(REAL_LOOPS))
def test_no_policy_and_no_ending_makes_python_complain_in_development_mode(kind: str) -> None:
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", EVERYTHING, kind],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip

    assert done.stderr == ""
    assert done.returncode == 0
    assert {
        "CANCELLED from within",
        "CANCELLED replaced",
        "CANCELLED requested",
        "CANCELLED shutdown",
        "FAILED None",
        "SKIPPED hung",
        "SKIPPED overlap",
        "SUCCEEDED None",
        "TIMED_OUT deadline",
    } <= set(done.stdout.splitlines())


INTERRUPTED = (
    NEW_LOOP
    + """
from kaiju_app.scheduler import ExecPolicy, Scheduler

async def work(seconds):
    await asyncio.sleep(seconds)

async def main():
    scheduler = Scheduler()
    tasks = [
        scheduler.schedule_task(work, 60, args=(60,), name="cancelled"),
        scheduler.schedule_task(work, 60, args=(0.3,), name="shielded", policy=ExecPolicy.SHIELD),
    ]
    try:
        async with scheduler:
            await asyncio.sleep(0.05)
            print("ready", flush=True)
            await asyncio.sleep(60)
    finally:
        for task in tasks:
            print(task.name, task.last_run.outcome, task.last_run.reason, flush=True)

try:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")
@pytest.mark.parametrize("kind", list(REAL_LOOPS))
def test_ctrl_c_stops_the_scheduler_as_leaving_its_context_does(kind: str) -> None:
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)

    assert stderr == ""
    assert stdout.splitlines() == ["cancelled CANCELLED shutdown", "shielded SUCCEEDED None", "KeyboardInterrupt"]


FORKED = """
import asyncio, os, time
from kaiju_app.scheduler import Scheduler

runs = []

async def body():
    runs.append(os.getpid())

async def live(seconds):
    async with scheduler:
        await asyncio.sleep(seconds)

async def main():
    async with scheduler:
        await asyncio.sleep(0.05)
        if os.fork() == 0:
            time.sleep(0.3)  # By now the parent's timer would have fired.
            runs.clear()
            asyncio.run(live(0.5))
            os._exit(7 if set(runs) == {os.getpid()} else 8)
        print(os.waitstatus_to_exitcode(os.wait()[1]))

scheduler = Scheduler()
scheduler.schedule_task(body, 0.2)
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_that_starts_the_scheduler_runs_its_tasks() -> None:
    """The timer of the parent is not that of the child: it never fires there."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30, check=False)

    assert done.stderr == ""
    assert done.stdout == "7\n"
