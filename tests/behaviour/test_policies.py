"""What a tick does to a run in progress: CANCEL, WAIT, SKIP, SHIELD."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from kaiju_app.scheduler import ExecPolicy, Outcome, Reason, Scheduler, current_run
from support.reading import endings


async def test_cancel_replaces_a_run_at_the_next_tick(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(25,))
    async with scheduler:
        await asyncio.sleep(30.5)

        runs = task.history()
        assert endings(runs) == [("CANCELLED", "replaced", 1)] * 3
        assert [run.duration_s for run in runs] == [10, 10, 10]
        assert [run.lateness_s for run in runs] == [0, 0, 0]


async def test_wait_lets_one_tick_wait_and_a_later_one_replaces_it(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(25,), policy=ExecPolicy.WAIT)
    async with scheduler:
        await asyncio.sleep(51)

        assert endings(task.history()) == [
            ("SKIPPED", "overlap", 1),
            ("SUCCEEDED", None, 1),
            ("SKIPPED", "overlap", 2),
            ("SUCCEEDED", None, 1),
        ]
        first, second = [run for run in task.history() if run.outcome is Outcome.SUCCEEDED]
        assert (second.scheduled_at - first.scheduled_at).total_seconds() == 20
        assert second.lateness_s == 5


async def test_skip_skips_every_tick_during_a_run(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(25,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(59)

        assert endings(task.history()) == [
            ("SKIPPED", "overlap", 2),
            ("SUCCEEDED", None, 1),
            ("SKIPPED", "overlap", 2),
            ("SUCCEEDED", None, 1),
        ]


async def test_shield_is_as_wait_and_has_no_deadline(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(95,), policy=ExecPolicy.SHIELD, max_timeout_s=20)
    async with scheduler:
        await asyncio.sleep(96)

        assert endings(task.history()) == [("SKIPPED", "overlap", 8), ("SUCCEEDED", None, 1)]
        assert task.running


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_wait_and_skip_are_cut_after_three_gaps(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(1000,), policy=policy)
    async with scheduler:
        await asyncio.sleep(30.5)

        runs = [run for run in task.history() if run.outcome is not Outcome.SKIPPED]
        assert endings(runs) == [("TIMED_OUT", "deadline", 1)]
        assert runs[0].duration_s == 30


@pytest.mark.parametrize("policy", [ExecPolicy.CANCEL, ExecPolicy.WAIT, ExecPolicy.SKIP])
async def test_max_timeout_cuts_a_run_before_the_next_tick(scheduler: Scheduler, policy: ExecPolicy) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(8,), policy=policy, max_timeout_s=2.5)
    async with scheduler:
        await asyncio.sleep(19)

        assert endings(task.history()) == [("TIMED_OUT", "deadline", 1)] * 2
        assert [run.duration_s for run in task.history()] == [2.5, 2.5]


async def test_max_timeout_does_not_lengthen_a_run_under_cancel(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(1000,), max_timeout_s=60)
    async with scheduler:
        await asyncio.sleep(11)

        assert endings(task.history()) == [("CANCELLED", "replaced", 1)]


async def test_max_timeout_replaces_the_default_of_wait(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(50,), policy=ExecPolicy.WAIT, max_timeout_s=60)
    async with scheduler:
        await asyncio.sleep(51)

        assert task.history()[-1].outcome is Outcome.SUCCEEDED


async def test_cancel_spares_a_run_that_began_late(scheduler: Scheduler) -> None:
    """The first tick due at least half a gap after its start replaces it; an earlier one is skipped."""
    loop = asyncio.get_running_loop()
    late = iter([True])

    async def body() -> None:
        await asyncio.sleep(1000)

    async def blocks() -> None:
        if next(late, False):
            loop.virtual_clock.block(7)  # type: ignore[attr-defined]

    scheduler.schedule_task(blocks, 1000, name="blocks")
    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(21)

        assert endings(task.history()) == [("SKIPPED", "overlap", 1), ("CANCELLED", "replaced", 1)]
        assert task.history()[1].lateness_s == 7
        assert task.history()[1].duration_s == 13


async def test_a_run_that_swallows_its_cancellation_is_hung_and_never_doubled(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    active = most = 0

    async def stubborn() -> None:
        nonlocal active, most
        active += 1
        most = max(active, most)
        for _ in range(14):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(7)
        active -= 1

    task = scheduler.schedule_task(stubborn, 10)
    async with scheduler:
        await asyncio.sleep(14)
        assert task.state == "running"
        await asyncio.sleep(2)
        assert task.state == "hung"
        assert task.json_repr()["state"] == "hung"
        await asyncio.sleep(90)

        assert most == 1
        records = task.history()
        assert endings(records[:2]) == [("SKIPPED", "hung", 8), ("SUCCEEDED", "replaced", 1)]
        assert "hung: cancelled (replaced) 5 s ago" in caplog.text
        assert "stubborn" in caplog.text
        assert "the hung run has ended" in caplog.text


async def test_the_tick_that_waited_for_a_hung_run_starts_when_it_ends(scheduler: Scheduler) -> None:
    first = True

    async def body() -> None:
        nonlocal first
        if first:
            first = False
            until = asyncio.get_running_loop().time() + 38
            while asyncio.get_running_loop().time() < until:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(until - asyncio.get_running_loop().time())

    task = scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(39)

        assert endings(task.history()) == [
            ("SKIPPED", "hung", 2),
            ("SUCCEEDED", "replaced", 1),
            ("SUCCEEDED", None, 1),
        ]
        assert task.history()[2].lateness_s == 28


@pytest.mark.parametrize(
    ("policy", "deadline_s"),
    [(ExecPolicy.CANCEL, 10), (ExecPolicy.WAIT, 30), (ExecPolicy.SKIP, 30), (ExecPolicy.SHIELD, None)],
)
async def test_a_run_knows_its_deadline(scheduler: Scheduler, policy: ExecPolicy, deadline_s: float | None) -> None:
    seen: list[float | None] = []

    async def body() -> None:
        run = current_run()
        seen.append(None if run.deadline is None else (run.deadline - run.scheduled_at).total_seconds())

    scheduler.schedule_task(body, 10, policy=policy)
    async with scheduler:
        await asyncio.sleep(1)

    assert seen == [deadline_s]


@pytest.mark.parametrize("hold", ["suspend", "disable"])
@pytest.mark.parametrize(
    ("policy", "ending"),
    [
        (ExecPolicy.CANCEL, ("CANCELLED", Reason.REPLACED, 10.0)),
        (ExecPolicy.WAIT, ("TIMED_OUT", Reason.DEADLINE, 30.0)),
    ],
)
async def test_deadlines_hold_while_suspended_or_disabled(
    scheduler: Scheduler, hold: str, policy: ExecPolicy, ending: tuple[str, Reason, float]
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, args=(1000,), policy=policy)
    async with scheduler:
        await asyncio.sleep(5)
        if hold == "disable":
            task.disable()
            await asyncio.sleep(50)
        else:
            async with task.suspend():
                await asyncio.sleep(20)

        run = next(run for run in task.history() if run.started_at is not None)
        assert (run.outcome.value, run.reason, run.duration_s) == ending
