"""Which endings a listener hears of, and listeners that are async."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import sys
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import ExecPolicy, Outcome, Run, Scheduler, current_run
from support.reading import at, nothing, now_s
from support.virtual import VirtualLoop

MAX_WAITING = 256


async def fail() -> None:
    raise ValueError("no")


class Slow:
    """An async listener that takes a while for each Run."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.heard: list[tuple[float | None, float]] = []
        self.active = 0

    async def __call__(self, run: Run) -> None:
        self.active += 1
        assert self.active == 1
        try:
            await asyncio.sleep(self.seconds)
            self.heard.append((at(run.scheduled_at), now_s()))
        finally:
            self.active -= 1


# --- filters ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["bad FAILED", "good SUCCEEDED", "slow SKIPPED"]),
        ({"outcomes": None, "tasks": None}, ["bad FAILED", "good SUCCEEDED", "slow SKIPPED"]),
        ({"outcomes": Outcome.FAILED}, ["bad FAILED"]),
        ({"outcomes": (Outcome.FAILED, Outcome.SUCCEEDED)}, ["bad FAILED", "good SUCCEEDED"]),
        ({"outcomes": {Outcome.SKIPPED}}, ["slow SKIPPED"]),
        ({"tasks": "good"}, ["good SUCCEEDED"]),
        ({"tasks": ["good", "bad", "unknown"]}, ["bad FAILED", "good SUCCEEDED"]),
        ({"tasks": "good", "outcomes": Outcome.FAILED}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_listener_hears_only_of_what_it_asked_for(
    scheduler: Scheduler, given: dict[str, Any], expected: list[str], is_async: bool
) -> None:
    heard: set[str] = set()

    async def listen(run: Run) -> None:
        heard.add(f"{run.task} {run.outcome}")

    scheduler.subscribe(listen if is_async else lambda run: heard.add(f"{run.task} {run.outcome}"), **given)
    scheduler.schedule_task(nothing, 10, name="good")
    scheduler.schedule_task(fail, 10, name="bad")
    scheduler.schedule_task(partial(asyncio.sleep, 18), 10, name="slow", policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(15)

        assert sorted(heard) == expected


async def test_a_task_itself_names_it(scheduler: Scheduler) -> None:
    heard: list[str] = []
    one, two, _ = (scheduler.schedule_task(nothing, 10, name=name) for name in "abc")
    scheduler.subscribe(lambda run: heard.append(run.task), tasks=[one, "b"])
    scheduler.subscribe(lambda run: heard.append(run.task), tasks=two)
    async with scheduler:
        await asyncio.sleep(1)

    assert sorted(heard) == ["a", "b", "b"]


async def test_successes_that_nobody_hears_of_take_the_short_way(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kaiju_app.scheduler")
    scheduler.subscribe(print, outcomes=Outcome.FAILED)
    task = scheduler.schedule_task(nothing, 10)
    monkeypatch.setattr(scheduler._engine.recorder, "end", None)
    async with scheduler:
        await asyncio.sleep(15)

    assert task.counts[Outcome.SUCCEEDED] == 2


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"outcomes": "FAILED"}, "outcomes must be an Outcome or several, such as .*, got 'FAILED'"),
        ({"outcomes": []}, "outcomes must be"),
        ({"outcomes": 7}, "outcomes must be"),
        ({"outcomes": [Outcome.FAILED, "LOST"]}, "outcomes must be"),
        ({"tasks": 7}, "tasks must be a task, a name, or several: .*, got 7"),
        ({"tasks": ()}, "tasks must be"),
        ({"tasks": ["a", None]}, "tasks must be"),
    ],
)
def test_a_filter_that_lets_nothing_through_is_refused(door: Scheduler, given: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidArgument, match=rule):
        door.subscribe(print, **given)
    assert door.json_repr()["listeners"] == []


# --- async listeners ---


async def listen(_: Run) -> None: ...


class Listening:
    async def method(self, _: Run) -> None: ...
    async def __call__(self, _: Run) -> None: ...


@pytest.mark.parametrize(
    "listener",
    [listen, functools.partial(listen), Listening().method, Listening(), functools.partial(Listening())],
    ids=["function", "partial", "method", "object", "partial of an object"],
)
async def test_every_kind_of_async_function_may_listen(scheduler: Scheduler, listener: Any) -> None:
    subscription = scheduler.subscribe(listener)
    scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(1)

    assert (subscription.waiting, subscription.dropped) == (0, 0)


async def test_a_slow_listener_hears_one_after_the_other_and_delays_no_run(scheduler: Scheduler) -> None:
    slow = Slow(25)
    subscription = scheduler.subscribe(slow)
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(95)

        assert [run.lateness_s for run in task.history()] == [0] * 10
        assert slow.heard == [(0, 25), (10, 50), (20, 75)]
        assert (subscription.waiting, subscription.dropped) == (6, 0)


async def test_beyond_a_limit_the_oldest_are_dropped_counted_and_told_once_a_minute(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Slow(1000)
    subscription = scheduler.subscribe(slow)
    scheduler.schedule_task(nothing, 1, name="often")
    async with scheduler:
        await asyncio.sleep(MAX_WAITING + 100.5)

        assert (subscription.waiting, subscription.dropped) == (MAX_WAITING, 100)
        (shown,) = scheduler.json_repr()["listeners"]  # type: ignore[misc]
        assert shown == {"listener": repr(slow)} | {
            "outcomes": None, "tasks": None, "overdue": False, "waiting": MAX_WAITING, "dropped": 100,
        }  # fmt: skip
        assert json.loads(json.dumps(shown)) == shown
        lines = [record.getMessage() for record in caplog.records]
        assert [line.partition(" dropped")[0] for line in lines] == [
            f"listener {slow!r} is too slow: {number} run(s)" for number in (1, 61)
        ]
        assert "outcomes=..., tasks=..." in lines[0]
        await asyncio.sleep(900)
        assert [tick for tick, _ in slow.heard] == [0]


async def test_an_async_listener_that_raises_is_logged_and_stays(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    async def broken(run: Run) -> None:
        calls.append(run)
        raise (LookupError, asyncio.CancelledError)[len(calls) % 2]

    scheduler.subscribe(broken)
    scheduler.schedule_task(nothing, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(65)

        assert len(calls) == 7
        assert [record.getMessage().partition(", tick")[0] for record in caplog.records] == [
            f"listener {broken!r} raised for task 'mine'"
        ] * 2


async def test_it_runs_in_the_context_of_its_subscription(scheduler: Scheduler) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    heard: list[Any] = []

    async def look(_: Run) -> None:
        with pytest.raises(LookupError):
            current_run()
        heard.append(variable.get())

    async def work() -> None:
        variable.set("run")

    variable.set("subscribe")
    scheduler.subscribe(look)
    variable.set("start")
    scheduler.schedule_task(work, 10)
    async with scheduler:
        await asyncio.sleep(1)

    assert heard == ["subscribe"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks")
async def test_nor_does_an_eager_loop_run_it_inside_the_ending(loop: VirtualLoop, scheduler: Scheduler) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    order: list[str] = []

    async def late(_: Run) -> None:
        order.append("async")

    scheduler.subscribe(late)
    scheduler.subscribe(lambda _: order.append("plain"))
    scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(1)

    assert order == ["plain", "async"]


async def test_unsubscribing_drops_what_waits(scheduler: Scheduler) -> None:
    slow = Slow(15)
    subscription = scheduler.subscribe(slow)
    scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(12)
        subscription()
        subscription()
        await asyncio.sleep(100)

        assert slow.heard == [(0, 15)]
        assert scheduler.json_repr()["listeners"] == []


async def test_stop_lets_listeners_hear_the_last_endings(scheduler: Scheduler) -> None:
    slow = Slow(2)
    subscription = scheduler.subscribe(slow)
    scheduler.schedule_task(partial(asyncio.sleep, 100), 1000)
    async with scheduler:
        await asyncio.sleep(1)

    assert (slow.heard, subscription.dropped) == ([(0, 3)], 0)


@pytest.mark.parametrize(("timeout_s", "ends"), [(None, 6), (2, 3), (100, 6), (0, 1)])
async def test_but_not_for_long(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, timeout_s: float | None, ends: float
) -> None:
    slow = Slow(1000)
    subscription = scheduler.subscribe(slow)
    scheduler.schedule_task(nothing, 0.4)
    await scheduler.start()
    await asyncio.sleep(1)
    await scheduler.stop(timeout_s)

    assert now_s() == ends
    assert (subscription.waiting, subscription.dropped) == (0, 3)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == f"listener {slow!r} did not end in time after stop(): it was cancelled; 3 run(s) dropped in all"
    await asyncio.sleep(1)
    assert slow.active == 0


async def test_a_listener_may_stop_the_scheduler(scheduler: Scheduler) -> None:
    stopped: list[float] = []

    async def stop(_: Run) -> None:
        await scheduler.stop()
        stopped.append(now_s())

    scheduler.subscribe(stop)
    scheduler.schedule_task(nothing, 10)
    await scheduler.start()
    await asyncio.sleep(1)

    assert stopped == [0]


async def test_a_listener_may_ask_for_a_run(scheduler: Scheduler) -> None:
    async def again(run: Run) -> None:
        if not run.manual:
            await task.run_now()

    scheduler.subscribe(again)
    task = scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(1)

        assert [run.manual for run in task.history()] == [False, True]


def test_a_loop_that_ends_in_the_middle_leaves_the_subscription_usable() -> None:
    heard: list[float] = []

    async def hear(run: Run) -> None:
        if heard:
            heard.append(0)
        else:
            heard.append(1)
            await asyncio.sleep(1000)

    scheduler = Scheduler()
    scheduler.subscribe(hear)
    scheduler.schedule_task(nothing, 1000)

    async def live() -> None:
        await scheduler.start()
        await asyncio.sleep(0.01)

    for _ in range(2):
        asyncio.run(live())
        scheduler._engine.halt()
    gc.collect()

    assert heard == [1, 0]


async def test_a_lambda_that_calls_an_async_function_is_told_what_to_do(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.subscribe(lambda run: listen(run))
    scheduler.schedule_task(nothing, 10)
    async with scheduler:
        await asyncio.sleep(65)

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "returned a coroutine, which nobody awaits: subscribe the async function itself" in told[0]


def test_a_subscription_says_what_it_is(door: Scheduler) -> None:
    assert repr(door.subscribe(print)) == "<Subscription of <built-in function print>: 0 waiting>"
