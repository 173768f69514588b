"""Cluster tasks: one run for each tick."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from behaviour.cluster.common import Journal, Made, nothing, now, share, started, told
from kaiju_app.scheduler import AnyOf, Cron, Every, Except, ExecPolicy, FirstRun, Outcome, Scheduler, current_run
from support.reading import ZERO
from support.virtual import VirtualLoop


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_rule_whose_search_is_given_up_is_asked_again_before_it_ticks(loop: VirtualLoop, made: Made) -> None:
    """Its ticks are not over for any instance, neither when the first search is given up nor when a later one is."""
    rule = AnyOf(Cron("* * 8,9,11,12 * * *"), Cron("0 * * * *"))
    rule = Except(rule, Cron("*/2 * 8,9,11,12 * * *"), Cron("1-59/2 * 8,9,11,12 * * *"))
    a, b = made(), made()
    tasks = [share(each, nothing, None, trigger=rule, jitter_s=5) for each in (a, b)]
    async with started(a, b):
        await asyncio.sleep(60)
        assert [("waiting", None)] * 2 == [(task.state, task.next_run_at) for task in tasks]
        await asyncio.sleep(5 * 3600 + 1800)
        history = await a.history("job")
        assert [task.next_run_at is not None for task in tasks] == [True, True]

    assert [(Outcome.SUCCEEDED, 10), (Outcome.SUCCEEDED, 13)] == [
        (run.outcome, run.scheduled_at.hour) for run in history
    ]


async def test_each_tick_runs_once_on_one_instance(made: Made) -> None:
    journal = Journal()
    a, b, c = made(), made(), made()
    for name, each in (("a", a), ("b", b), ("c", c)):
        share(each, journal.body(name))
    async with started(a, b, c):
        await asyncio.sleep(95)

    assert journal.seconds == pytest.approx([10 * tick for tick in range(10)], abs=0.01)


async def test_the_first_run_comes_once_and_neither_start_nor_restart_repeats_it(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), 60)
    share(b, journal.body("b"), 60)
    async with a:
        await asyncio.sleep(5)
        async with b:
            await asyncio.sleep(20)
    async with b:
        await asyncio.sleep(20)
    async with a:
        await asyncio.sleep(20)

    assert journal.seconds == pytest.approx([0, 60], abs=0.01)


async def test_any_number_of_runs_goes_on_at_once(made: Made) -> None:
    began: list[float] = []

    async def long() -> None:
        began.append(now())
        await asyncio.sleep(1e6)

    a = made()
    for number in range(1_200):
        share(a, long, 3600, f"t{number}", policy=ExecPolicy.WAIT)
    async with a:
        await asyncio.sleep(2)

        assert len(began) == 1_200


async def test_first_run_may_be_later(made: Made) -> None:
    journal = Journal()
    a = made()
    share(a, journal.body("next"), 60, "next", first_run=FirstRun.NEXT)
    share(a, journal.body("then"), 60, "then", first_run=ZERO + timedelta(seconds=7))
    share(a, journal.body("grid"), 60, "grid", first_run=ZERO - timedelta(seconds=50))
    share(a, journal.body("extra"), None, "extra", trigger=Cron("0 * * * *"), first_run=FirstRun.NOW)
    async with a:
        await asyncio.sleep(65)

    assert journal.lines == [
        (name, pytest.approx(second, abs=0.01))
        for name, second in [("extra", 0), ("then", 7), ("grid", 10), ("next", 60)]
    ]


@pytest.mark.parametrize("first_run", [None, FirstRun.NOW, ZERO + timedelta(seconds=7), ZERO - timedelta(seconds=5)])
async def test_nothing_runs_behind_its_until_and_another_rule_begins_anew(
    made: Made, first_run: FirstRun | datetime | None
) -> None:
    journal = Journal()
    a, b = made(), made(version=1)
    task = share(a, journal.body("a"), first_run=first_run, until=ZERO - timedelta(seconds=1))
    share(b, journal.body("b"), None, trigger=Every(20))
    async with a:
        await asyncio.sleep(20)
        assert (task.state, journal.lines) == ("over", [])
    async with b:
        await asyncio.sleep(40)

    assert journal.lines == [("b", pytest.approx(35, abs=0.01)), ("b", pytest.approx(55, abs=0.01))]


async def test_alone_with_a_store_in_memory_it_runs_here(loop: VirtualLoop) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    journal = Journal()
    task = share(scheduler, journal.body("alone"))
    async with scheduler:
        await asyncio.sleep(25)
        later = share(scheduler, journal.body("later"), 10, "later")
        await asyncio.sleep(1.5)

        assert later.last_run is not None
        assert later.last_run.fence is not None

    assert [second for who, second in journal.lines if who == "alone"] == pytest.approx([0, 10, 20], abs=0.01)
    assert [run.outcome for run in task.history()] == [Outcome.SUCCEEDED] * 3


async def test_a_run_knows_its_fence_and_its_take(made: Made) -> None:
    seen: list[tuple[int, int]] = []

    async def body() -> None:
        run = current_run()
        assert run.fence is not None
        run.check()
        assert not run.lost.is_set()
        seen.append((run.fence, run.delivery))

    a = made()
    task = share(a, body)
    async with a:
        await asyncio.sleep(15)

    assert [take for _, take in seen] == [1, 1]
    assert seen[0][0] < seen[1][0]
    assert [(run.fence, run.delivery) for run in task.history()] == seen


async def test_the_ledger_is_in_the_store(made: Made) -> None:
    journal = Journal(3)
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(25)

        assert told(await a.history("job")) == told(await b.history("job"))
        assert told(await a.history("job")) == [("SUCCEEDED", None, tick, 1, 1) for tick in (0.0, 10.0, 20.0)]
        assert {run.instance for run in await a.history("job")} <= {
            a.json_repr()["instance"],
            b.json_repr()["instance"],
        }
        assert told(await a.history("job", 1)) == [("SUCCEEDED", None, 20.0, 1, 1)]
