"""Cluster tasks: policies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from behaviour.cluster.common import Journal, Made, now, share, started, told
from kaiju_app.scheduler import ExecPolicy, Outcome, current_run
from support.reading import wait_until
from support.virtual import VirtualLoop


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ExecPolicy.CANCEL, [("CANCELLED", "replaced", 0.0, 1, 1), ("CANCELLED", "replaced", 10.0, 1, 1)]),
        (
            ExecPolicy.WAIT,
            [("SUCCEEDED", None, 0.0, 1, 1), ("SKIPPED", "overlap", 10.0, 1, 1), ("SUCCEEDED", None, 20.0, 1, 1)],
        ),
        (
            ExecPolicy.SKIP,
            [("SUCCEEDED", None, 0.0, 1, 1), ("SKIPPED", "overlap", 10.0, 2, 1), ("SUCCEEDED", None, 30.0, 1, 1)],
        ),
        (
            ExecPolicy.SHIELD,
            [("SUCCEEDED", None, 0.0, 1, 1), ("SKIPPED", "overlap", 10.0, 1, 1), ("SUCCEEDED", None, 20.0, 1, 1)],
        ),
    ],
)
async def test_policies_hold_across_instances(made: Made, policy: ExecPolicy, expected: list[Any]) -> None:
    journal = Journal(25)
    a, b = made(), made()
    for each in (a, b):
        share(each, journal.body("x"), policy=policy, overlap_on_loss=policy is ExecPolicy.SHIELD)
    async with started(a, b):
        await asyncio.sleep(70)
        found = told(await a.history("job"))

        assert found[: len(expected)] == expected


async def test_a_run_that_swallows_its_cancellation_blocks_the_task_everywhere(made: Made) -> None:
    began: list[float] = []

    async def stubborn() -> None:
        began.append(now())
        end = now() + 35
        while now() < end:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(end - now())

    a, b = made(), made()
    share(a, stubborn)
    task = share(b, stubborn)
    async with started(a, b):
        await asyncio.sleep(32)
        assert len(began) == 1
        await b.inspect()
        assert task.running
        await asyncio.sleep(10)
        found = told(await a.history("job"))
        await asyncio.sleep(60)

    assert began[:2] == pytest.approx([0, 35], abs=0.3)
    assert found[0] == ("SUCCEEDED", "replaced", 0.0, 1, 1)
    assert found[1] == ("SKIPPED", "hung", 10.0, 2, 1)


async def test_a_failure_and_a_time_limit_are_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[float] = []

    async def body() -> None:
        calls.append(now())
        if len(calls) == 1:
            raise ValueError("first")
        await asyncio.sleep(60)

    a = made()
    share(a, body, max_timeout_s=3)
    async with a:
        await asyncio.sleep(15)
        found = await a.history("job")

    assert told(found) == [("FAILED", None, 0.0, 1, 1), ("TIMED_OUT", "deadline", 10.0, 1, 1)]
    assert found[0].error == "ValueError: first"


async def test_retries_go_on_within_the_lease(made: Made) -> None:
    calls: list[float] = []

    async def body() -> None:
        calls.append(now())
        if len(calls) < 3:
            raise OSError("again")

    a = made()
    share(a, body, 100, retries=3, retry_interval_s=15)
    async with a:
        await asyncio.sleep(50)
        found = await a.history("job")

    assert calls == pytest.approx([0, 15, 30], abs=0.01)
    assert [(run.outcome, run.attempts) for run in found] == [(Outcome.SUCCEEDED, 3)]


async def test_a_plain_function_runs_in_a_thread(loop: VirtualLoop, made: Made) -> None:
    fences: list[int | None] = []

    def plain() -> None:
        fences.append(current_run().fence)

    a = made()
    task = share(a, plain, overlap_on_loss=True)
    async with a:
        await asyncio.sleep(0.1)
        await wait_until(task.history)

    assert fences[0] is not None
