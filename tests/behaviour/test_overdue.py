"""Tasks that are overdue: no success within the time in which one was expected."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kaiju_app import Application
from kaiju_app.errors import InvalidArgument, StoreUnavailable
from kaiju_app.scheduler import Cron, Overdue, ProblemKind, Run, ScheduledTask, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from support.reading import ZERO, at, nothing, now_s
from support.virtual import VirtualLoop

LOG = "kaiju_app.scheduler"


class Flaky:
    """A function that fails while it is told to."""

    def __init__(self) -> None:
        self.fails = False

    async def __call__(self) -> None:
        if self.fails:
            raise OSError("down")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = (each.getMessage() for each in caplog.records if each.name == LOG)
    return [line for line in lines if "overdue" in line]


@pytest.fixture
def events(scheduler: Scheduler) -> list[tuple[float, Overdue]]:
    heard: list[tuple[float, Overdue]] = []
    scheduler.subscribe_overdue(lambda event: heard.append((now_s(), event)))
    return heard


async def test_a_task_without_a_success_in_time_is_told_once_and_its_recovery_too(
    scheduler: Scheduler, events: list[tuple[float, Overdue]], caplog: pytest.LogCaptureFixture, reported: list[Run]
) -> None:
    flaky = Flaky()
    task = scheduler.schedule_task(flaky, 10, name="purge", expect_success_within_s=35)
    other = scheduler.schedule_task(nothing, 10, name="other")
    async with scheduler:
        await asyncio.sleep(25)
        flaky.fails = True  # The success at 20 s was the last one.
        await asyncio.sleep(29.9)
        assert (task.overdue, scheduler.health().healthy) == (False, True)

        await asyncio.sleep(0.2)
        assert (task.overdue, other.overdue) == (True, False)
        assert task.json_repr()["overdue"] is True
        (problem,) = scheduler.health().problems
        assert (problem.kind, problem.task) == (ProblemKind.OVERDUE, "purge")
        assert problem.text == (
            "task 'purge' is overdue: a success was expected within 35 s after its last success, "
            "at 2027-01-15 08:00:25Z"
        )
        await asyncio.sleep(200)
        assert len(events) == len(told(caplog)) == 1

        flaky.fails = False
        await asyncio.sleep(10)
        assert (task.overdue, scheduler.health().healthy) == (False, True)
        await asyncio.sleep(100)

    since = ZERO + timedelta(seconds=20)
    assert events == [
        (55, Overdue("purge", True, since, True, 35)),
        (260, Overdue("purge", False, ZERO + timedelta(seconds=260), True, 35)),
    ]
    assert [line.partition(":")[0] for line in told(caplog)] == ["task 'purge' is overdue", "task 'purge'"]
    assert "not overdue any more" in told(caplog)[1]
    assert {type(run) for run in reported} == {Run}


async def test_without_any_success_it_counts_from_the_start(
    scheduler: Scheduler, events: list[tuple[float, Overdue]]
) -> None:
    flaky = Flaky()
    flaky.fails = True
    scheduler.schedule_task(flaky, 10, name="purge", expect_success_within_s=timedelta(seconds=25))
    await asyncio.sleep(100)
    async with scheduler:
        await asyncio.sleep(20)
        late = scheduler.schedule_task(flaky, 10, name="late", expect_success_within_s=25)
        await asyncio.sleep(10)
        assert "the start, without any success, at" in scheduler.health().problems[0].text
        assert (late.overdue, late.expect_success_within_s) == (False, 25)
        await asyncio.sleep(16)
    assert not late.overdue  # Of a scheduler that is stopped nothing is expected.
    async with scheduler:
        await asyncio.sleep(26)

    assert [(moment, event.task, at(event.since), event.succeeded) for moment, event in events] == [
        (125, "purge", 100, False),
        (145, "late", 120, False),
        (171, "purge", 146, False),
        (171, "late", 146, False),
    ]


async def test_a_task_that_is_kept_from_running_is_overdue_too_and_health_says_what_keeps_it(
    scheduler: Scheduler,
) -> None:
    paused = scheduler.schedule_task(nothing, 10, name="paused", expect_success_within_s=15)
    disabled = scheduler.schedule_task(nothing, 10, name="disabled", expect_success_within_s=15)
    async with scheduler:
        await paused.pause("migration")
        disabled.disable()
        await asyncio.sleep(30)

        texts = [each.text for each in scheduler.health().problems]
        assert [text.partition("Z; ")[2] for text in texts] == ["it is held by pause() (migration)", "it is disabled"]


async def test_a_removed_task_is_not_overdue(scheduler: Scheduler, events: list[tuple[float, Overdue]]) -> None:
    flaky = Flaky()
    flaky.fails = True
    one, two = (scheduler.schedule_task(flaky, 10, name=each, expect_success_within_s=15) for each in "ab")
    async with scheduler:
        await asyncio.sleep(5)
        one.remove()
        await asyncio.sleep(15)
        assert [event.task for _, event in events] == ["b"]
        two.remove()
        assert scheduler.health().healthy
        await asyncio.sleep(100)

    assert len(events) == 1


async def test_listeners_may_be_async_choose_tasks_and_fail(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    async def slowly(event: Overdue) -> None:
        await asyncio.sleep(1)
        heard.append(f"async {event.task}")

    def fail(event: Overdue) -> None:
        raise ValueError(event.task)

    flaky = Flaky()
    flaky.fails = True
    tasks = [scheduler.schedule_task(flaky, 10, name=each, expect_success_within_s=15) for each in "ab"]
    subscriptions = [
        scheduler.subscribe_overdue(slowly),
        scheduler.subscribe_overdue(fail),
        scheduler.subscribe_overdue(lambda event: heard.append(f"plain {event.task}"), tasks=tasks[1]),
    ]
    assert subscriptions[2].json_repr()["overdue"] is True
    async with scheduler:
        await asyncio.sleep(20)

    assert heard == ["plain b", "async a", "async b"]
    assert "raised for task 'a', which is overdue; it stays subscribed" in caplog.text


@pytest.mark.parametrize("wrong", [0, -1, 10, "x", True, float("nan")])
def test_a_time_that_no_success_can_keep_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="expect_success_within_s must be"):
        Scheduler().schedule_task(nothing, 10, expect_success_within_s=wrong)


async def test_a_rule_of_the_calendar_may_have_one(scheduler: Scheduler, events: list[tuple[float, Overdue]]) -> None:
    scheduler.schedule_task(nothing, trigger=Cron("0 3 * * mon-fri"), name="n", expect_success_within_s=26 * 3600)
    async with scheduler:
        await asyncio.sleep(8 * 86_400)  # It begins on a Friday at eight.

    # After the start, and from Friday to Monday, there is no run.
    assert [(event.overdue, event.succeeded) for _, event in events] == [(True, False), (False, True), (True, True)]


async def test_the_application_is_not_healthy_then(scheduler: Scheduler) -> None:
    flaky = Flaky()
    flaky.fails = True
    scheduler.schedule_task(flaky, 10, name="purge", expect_success_within_s=15)
    async with Application("shop", scheduler=scheduler) as app:
        assert ((await app.inspect())["healthy"], (await app.inspect())["problems"]) == (True, [])
        await asyncio.sleep(20)

        told = await app.inspect()
        assert told["healthy"] is False
        assert "task 'purge' is overdue" in told["problems"][0]  # type: ignore[index]


# --- shared tasks ---


async def test_the_success_of_another_instance_counts(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(loop.virtual_clock.wall)
    flaky = Flaky()
    instances = [Scheduler(store, clock=loop.virtual_clock) for _ in range(2)]
    tasks: list[ScheduledTask[Any]] = [
        each.schedule_task(flaky, 10, name="purge", scope=Scope.CLUSTER, expect_success_within_s=60)
        for each in instances
    ]
    async with instances[0], instances[1]:
        await asyncio.sleep(300)
        assert [each.overdue for each in tasks] == [False, False]
        assert told(caplog) == []

        flaky.fails = True
        await asyncio.sleep(90)
        assert [each.overdue for each in tasks] == [True, True]
        assert len(told(caplog)) == 2

        flaky.fails = False
        tasks[0].disable()  # Only the second one runs it.
        await asyncio.sleep(30)
        assert [each.overdue for each in tasks] == [False, False]
        assert len(told(caplog)) == 4


async def test_the_last_success_before_the_start_counts(loop: VirtualLoop) -> None:
    store = MemoryStore(loop.virtual_clock.wall)
    flaky = Flaky()
    for _ in range(2):
        scheduler = Scheduler(store, clock=loop.virtual_clock)
        task = scheduler.schedule_task(flaky, 3600, name="purge", scope=Scope.CLUSTER, expect_success_within_s=2 * 3600)
        async with scheduler:
            await asyncio.sleep(10)
            overdue = task.overdue
            if not flaky.fails:
                assert len(await scheduler.history("purge")) == 1
        flaky.fails = True
        await asyncio.sleep(5 * 3600)

    assert overdue


async def test_a_store_that_is_away_is_a_problem_and_nothing_is_overdue_by_guess(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(loop.virtual_clock.wall)
    scheduler = Scheduler(store, clock=loop.virtual_clock)
    task = scheduler.schedule_task(nothing, 10, name="purge", scope=Scope.CLUSTER, expect_success_within_s=30)

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("memory", "pulled")

    async with scheduler:
        await asyncio.sleep(15)
        assert (scheduler.health().healthy, scheduler.health().store_up) == (True, True)
        with monkeypatch.context() as patch:
            for name in ("claim", "renew", "finish", "heartbeat", "scan", "change_each", "history"):
                patch.setattr(store, name, away)
            await asyncio.sleep(60)
            (problem,) = scheduler.health().problems
            assert (problem.kind, problem.task) == (ProblemKind.STORE, None)
            assert problem.text.endswith(
                "s: no further ticks of cluster tasks are claimed, and runs in progress go on while their lease lasts"
            )
            assert (task.overdue, scheduler.health().store_up) == (False, False)
        await asyncio.sleep(20)

        assert scheduler.health().healthy


# --- planning ---


async def test_a_scheduler_that_is_not_started_or_makes_no_progress_is_not_healthy(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    scheduler.schedule_task(nothing, 5)
    (problem,) = scheduler.health().problems
    assert (problem.kind, problem.text) == (ProblemKind.STOPPED, "the scheduler is not started")
    assert scheduler.health().json_repr() == {
        "healthy": False,
        "store_up": None,
        "problems": [{"kind": "stopped", "text": "the scheduler is not started", "task": None}],
    }
    async with scheduler:
        await asyncio.sleep(20)
        assert scheduler.health().healthy
        loop.virtual_clock.block(14)  # Of which 10 are after the next tick and less than a second.
        assert scheduler.health().healthy
        loop.virtual_clock.block(2)
        (problem,) = scheduler.health().problems
        assert problem.kind is ProblemKind.STUCK
        assert problem.text.startswith("the scheduler makes no progress: what was due 11 s ago was not looked at. ")
        assert scheduler.loop_lag is not None
        assert scheduler.loop_lag.max_s == 11
        await asyncio.sleep(0.1)

        assert scheduler.health().healthy
