"""Cluster tasks: ``run_now()`` and ``wait()``."""

from __future__ import annotations

import asyncio

import pytest

from behaviour.cluster.common import Journal, Made, nothing, now, share, started, told
from kaiju_app.errors import SelfWait, TaskBusy, TaskSuspended, WrongState
from kaiju_app.scheduler import FirstRun, Outcome


async def test_run_now_has_one_instance_run_it(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(20)
        run = await a.tasks["job"].run_now()
        assert (run.outcome, run.manual, run.task) == (Outcome.SUCCEEDED, True, "job")
        assert now() == pytest.approx(21, abs=1.5)
        b.tasks["job"].disable()
        journal.lines.clear()
        assert (await b.tasks["job"].run_now()).manual
        assert [who for who, _ in journal.lines] == ["a"]
        await asyncio.sleep(80)

    assert 100 <= journal.seconds[-1] <= 102.4  # The grid stays. The tick is in the share of b, which is disabled.


@pytest.mark.parametrize("idle_s", [5, 150])
async def test_run_now_runs_a_task_here_that_is_disabled_everywhere(made: Made, idle_s: float) -> None:
    """It runs here if no other instance has begun it after two polls, even if a tick is due that nobody runs."""
    journal = Journal()
    a, b = made(), made()
    tasks = [share(each, journal.body(name), 100) for name, each in (("a", a), ("b", b))]
    async with started(a, b):
        await asyncio.sleep(2)
        for task in tasks:
            task.disable()
        await asyncio.sleep(idle_s)
        journal.lines.clear()
        run = await tasks[1].run_now()
        assert (run.manual, run.outcome) == (True, Outcome.SUCCEEDED)
        await asyncio.sleep(50)
        assert journal.lines == [("b", pytest.approx(2 + idle_s + 4, abs=0.6))]
        tasks[0].enable()
        assert (await tasks[1].run_now()).manual


async def test_an_extra_run_that_a_stop_cuts_is_over_as_whoever_asked_hears(made: Made) -> None:
    journal = Journal(5)
    a, b = made(), made()
    here, there = share(a, journal.body("a"), 1000), share(b, journal.body("b"), 1000)
    await a.start()
    await asyncio.sleep(10)
    own = asyncio.ensure_future(here.run_now())
    await asyncio.sleep(1)
    await a.stop()
    with pytest.raises(WrongState):
        await own
    await a.start()
    async with b:
        there.disable()
        await asyncio.sleep(20)
        asked = asyncio.ensure_future(there.run_now())
        await asyncio.sleep(1)
        await a.stop()
        heard = await asked
        await asyncio.sleep(20)
        found = [run for run in await b.history("job") if run.manual]

    assert len(journal.lines) == 3
    assert [(run.outcome.value, run.reason and run.reason.value) for run in found] == [("CANCELLED", "shutdown")] * 2
    assert heard == found[-1]


async def test_run_now_is_refused_while_it_runs_or_is_held(made: Made) -> None:
    journal = Journal(5)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(1)
        with pytest.raises(TaskBusy, match="job"):
            await b.tasks["job"].run_now()
        await asyncio.sleep(10)
        async with a.tasks["job"].suspend("for now"):
            with pytest.raises(TaskSuspended, match="for now"):
                await b.tasks["job"].run_now()
        waiting = asyncio.ensure_future(a.tasks["job"].run_now())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(TaskBusy):
            await b.tasks["job"].run_now()
        assert (await waiting).outcome is Outcome.SUCCEEDED


async def test_wait_waits_wherever_it_runs(made: Made) -> None:
    journal = Journal(5)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(1)
        runs = await asyncio.gather(a.tasks["job"].wait(), b.tasks["job"].wait())
        assert now() == pytest.approx(5.5, abs=0.6)
        assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * 2
        assert runs[0] == runs[1]
        assert await a.tasks["job"].wait() is None


async def test_what_is_asked_right_after_the_start_waits_until_the_store_knows_the_task(made: Made) -> None:
    a, b = made(), made()
    task = share(a, nothing, first_run=FirstRun.NEXT)
    share(b, nothing, 3600, "other", first_run=FirstRun.NEXT)
    async with started(a, b):
        assert await task.wait() is None
        assert (await b.tasks["other"].run_now()).outcome is Outcome.SUCCEEDED
        late = share(a, nothing, 3600, "late", first_run=FirstRun.NEXT)
        await late.pause("at once")
        assert late.state == "paused"
        await late.resume()
        async with late.suspend():
            pass


async def test_own_run_may_not_wait_for_itself(made: Made) -> None:
    raised: list[type[Exception]] = []

    async def body() -> None:
        task = a.tasks["job"]
        for call in (task.wait, task.run_now):
            try:
                await call()
            except SelfWait as exc:
                raised.append(type(exc))

    a = made()
    share(a, body)
    async with a:
        await asyncio.sleep(1)

    assert raised == [SelfWait, SelfWait]


async def test_cancel_ends_the_run_that_goes_on_here(made: Made) -> None:
    journal = Journal(50)
    a = made()
    task = share(a, journal.body("a"), 100)
    async with a:
        await asyncio.sleep(1)
        assert task.cancel("enough")
        await asyncio.sleep(1)
        assert told(await a.history("job")) == [("CANCELLED", "requested", 0.0, 1, 1)]
        await asyncio.sleep(100)
        assert len(journal.lines) == 2
