"""The run of a cluster task is cancelled from any instance, through the store."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from behaviour.cluster.common import Journal, Made, nothing, now, share, started
from kaiju_app.errors import InvalidArgument, UnknownTask
from kaiju_app.scheduler import Outcome, Reason


async def test_the_owner_ends_the_run_within_a_renewal_and_the_next_tick_runs(made: Made) -> None:
    journal = Journal(40)
    a, b = made(), made()
    share(a, journal.body("a"), 50)
    async with started(a, b):
        await asyncio.sleep(10)
        asked = now()
        assert await b.remote("job").cancel("by mistake", holder="alice")
        assert now() - asked < 2.5
        assert not a.tasks["job"].running
        assert not await b.remote("job").cancel("again")
        await asyncio.sleep(90)
        runs = await b.history("job")

    assert [(Outcome.CANCELLED, Reason.REQUESTED), (Outcome.SUCCEEDED, None)] == [
        (run.outcome, run.reason) for run in runs
    ]
    assert runs[0].error == "cancelled by alice: by mistake"


async def test_a_run_that_does_not_end_is_asked_and_holds_nobody_up(made: Made) -> None:
    async def stubborn() -> None:
        until = now() + 40
        while now() < until:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(until - now())

    a, b = made(), made()
    share(a, stubborn, 100)
    async with started(a, b):
        await asyncio.sleep(10)
        assert await b.remote("job").cancel("by mistake")
        assert now() < 20
        assert await b.remote("job").cancel("again")
        await asyncio.sleep(60)
        [run] = await b.history("job")

    assert (run.outcome, run.reason) == (Outcome.SUCCEEDED, Reason.REQUESTED)
    assert run.error is None


async def test_the_instance_that_runs_it_may_be_asked_the_same_way(made: Made) -> None:
    a = made()
    share(a, Journal(40).body("a"), 100)
    async with started(a):
        await asyncio.sleep(10)
        assert await a.remote("job").cancel("by mistake")
        [run] = await a.history("job")

    assert str(run.error).startswith("cancelled by cancel() on ")


async def test_it_says_what_is_wrong_and_that_there_is_no_such_task(made: Made) -> None:
    a = made()
    share(a, nothing, 100)
    async with started(a):
        await asyncio.sleep(10)
        with pytest.raises(InvalidArgument, match="reason"):
            await a.remote("job").cancel(5)  # type: ignore[arg-type]
        with pytest.raises(UnknownTask):
            await a.remote("jab").cancel("by mistake")
        assert not await a.remote("job").cancel("by mistake")
