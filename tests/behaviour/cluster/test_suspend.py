"""Cluster tasks: ``suspend()`` and ``pause()`` hold on every instance."""

from __future__ import annotations

import asyncio
import json

import pytest

from behaviour.cluster.common import Fragile, Journal, Made, nothing, now, share, started
from kaiju_app.errors import InvalidArgument, StoreUnavailable, SuspensionLost
from kaiju_app.scheduler import FirstRun, Scheduler
from support.virtual import VirtualLoop


async def test_a_suspension_holds_everywhere_and_waits_there_too(made: Made) -> None:
    journal = Journal(4)
    a, b = made(), made()
    share(a, journal.body("a"))
    task = share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(21)
        running_on = journal.lines[-1][0]
        other = {"a": b, "b": a}[running_on].tasks["job"]
        async with other.suspend("migration"):
            entered = now()
            assert not journal.going_on
            await asyncio.sleep(30)
            assert not journal.going_on
            inside = len(journal.lines)
            await asyncio.gather(a.inspect(), b.inspect())
            assert task.suspended
            assert "migration" in json.dumps(a.tasks["job"].json_repr())
        await asyncio.sleep(10)

    assert entered == pytest.approx(24, abs=0.6)
    assert inside == 3
    assert len(journal.lines) > inside


async def test_suspensions_nest_and_overlap(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        async with a.tasks["job"].suspend(), b.tasks["job"].suspend():
            async with a.tasks["job"].suspend():
                await asyncio.sleep(10)
            await asyncio.sleep(10)
            assert len(journal.lines) == 1
        await asyncio.sleep(10)

    assert journal.seconds == pytest.approx([0, 22, 30], abs=0.6)


async def test_a_suspension_inside_its_own_run_does_not_wait_for_itself(made: Made) -> None:
    inside: list[float] = []

    async def body() -> None:
        async with a.tasks["job"].suspend():
            inside.append(now())
            await asyncio.sleep(3)

    a = made()
    share(a, body)
    async with a:
        await asyncio.sleep(15)

    assert inside == pytest.approx([0, 10], abs=0.1)


async def test_a_short_pause_is_short_from_the_start_on(made: Made) -> None:
    """Its hold has no owner whose clock could be wrong, and the instance that paused claims when it ends."""
    journal = Journal(0.1)
    a = made()
    task = share(a, journal.body("a"), 1)
    async with a:
        for _ in range(3):
            await asyncio.sleep(2.5)
            began = now()
            await task.pause(for_s=1)
            await asyncio.sleep(3)

            assert 1 <= next(second for second in journal.seconds if second > began) - began < 1.6


async def test_a_pause_that_nobody_is_left_to_end_ends_at_a_poll(made: Made) -> None:
    journal = Journal(0.1)
    a, b = made(), made()
    task = share(a, journal.body("a"), 1)
    share(b, journal.body("b"), 1)
    async with b:
        async with a:
            await asyncio.sleep(2.5)
            await task.pause(for_s=1)
            began = now()
        await asyncio.sleep(6)

    assert next(second for second in journal.seconds if second > began) - began < 3.6


async def test_suspending_all_holds_what_is_registered_meanwhile(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    local: list[float] = []

    async def here() -> None:
        local.append(now())

    a.schedule_task(here, 1)
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2.5)
        async with a.suspend("all"):
            share(a, journal.body("a"), 1, "late", first_run=FirstRun.NEXT)
            await asyncio.sleep(20)
            share(b, journal.body("b"), 1, "late")
            await asyncio.sleep(3)
            assert len(journal.lines) == 1
            assert len(local) == 3
        await asyncio.sleep(5)

    assert len(journal.lines) > 2
    assert len(local) > 3


async def test_suspending_all_waits_for_the_runs_elsewhere_of_what_is_registered_while_it_waits(made: Made) -> None:
    elsewhere, late = Journal(4), Journal(40)
    a, b = made(), made()
    share(b, elsewhere.body("b"), 1000)
    share(b, late.body("b"), 1000, "late")
    async with b:
        await asyncio.sleep(1)
        async with a:
            share(a, elsewhere.body("a"), 1000)

            async def inside() -> float:
                async with a.suspend("all"):
                    assert not late.going_on
                    return now()

            entering = asyncio.create_task(inside())
            await asyncio.sleep(1)
            assert elsewhere.going_on
            share(a, late.body("a"), 1000, "late")
            entered = await entering

    assert entered == pytest.approx(40, abs=1)


@pytest.mark.volume
async def test_suspending_all_holds_each_task_once_however_often_it_is_said_that_it_is_known(made: Made) -> None:
    a = made()
    share(a, nothing)
    async with a:
        async with a.suspend("all"):
            share(a, nothing, 10, "late")
            await asyncio.sleep(3 * 3600)
            held = [len(task["holds"]) for task in (await a.inspect())["tasks"]]
        await asyncio.sleep(1)
        left = [len(task["holds"]) for task in (await a.inspect())["tasks"]]

    assert (held, left) == ([1, 1], [0, 0])


async def test_suspending_all_holds_what_is_registered_after_another_start_too(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, nothing)
    share(b, journal.body("b"), 1, "late", first_run=FirstRun.NEXT)
    await a.start()
    async with a.suspend("all"):
        await a.stop()
        await a.start()
        share(a, journal.body("a"), 1, "late")
        await asyncio.sleep(1)
        async with b:
            await asyncio.sleep(60)
        assert journal.lines == []
    await asyncio.sleep(5)
    await a.stop()

    assert journal.lines != []


async def test_a_lost_hold_cancels_whoever_is_inside(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    task = share(a, nothing)
    left: list[str] = []

    async def inside() -> None:
        async with task.suspend("long work"):
            store.is_away = True
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                left.append(f"{now():.0f}")
                raise

    async with a:
        await asyncio.sleep(1)
        with pytest.raises(SuspensionLost, match="job"):
            await inside()
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        store.is_away = False
        await asyncio.sleep(20)

    assert left in (["10"], ["11"])


async def test_a_suspension_that_cannot_be_told_to_the_store_is_refused(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    task = share(a, nothing)
    async with a:
        await asyncio.sleep(1)
        store.is_away = True
        with pytest.raises(StoreUnavailable):
            async with task.suspend():
                raise AssertionError("it pretends")
        store.is_away = False
        await asyncio.sleep(15)
        assert not task.suspended
        assert len(await a.history("job")) >= 2


async def test_who_waits_for_a_suspension_may_give_up(made: Made) -> None:
    journal = Journal(8)
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(1)
        for each in (a, b):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1), each.tasks["job"].suspend():
                    raise AssertionError("a run is going on")
        await asyncio.sleep(14)
        assert journal.seconds == pytest.approx([0, 10], abs=0.1)


async def test_a_long_wait_is_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(50)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(1)
        for each in (a, b):
            async with each.tasks["job"].suspend("cleaning up"):
                pass

    assert any("cleaning up" in record.message and "has waited 30" in record.message for record in caplog.records)


async def test_a_pause_outlives_its_scheduler(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with a:
        await asyncio.sleep(2)
        await a.tasks["job"].pause("by the night shift")
        assert a.tasks["job"].state == "paused"
    async with b:
        await asyncio.sleep(40)
        await b.inspect()
        assert b.tasks["job"].state == "paused"
        assert "night shift" in json.dumps(b.tasks["job"].json_repr())
        assert len(journal.lines) == 1
        await b.tasks["job"].resume()
        await asyncio.sleep(10)
        assert journal.seconds == pytest.approx([0, 42, 50], abs=0.1)


async def test_a_pause_may_end_by_itself(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        await a.tasks["job"].pause(for_s=60)
        await asyncio.sleep(50)
        assert len(journal.lines) == 1
        await asyncio.sleep(20)
        assert len(journal.lines) >= 2
        with pytest.raises(InvalidArgument):
            await a.tasks["job"].pause(for_s=0)


async def test_a_suspension_may_be_left_in_another_task_than_it_was_entered_in(made: Made) -> None:
    journal = Journal()
    a = made()
    task = share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(2)
        suspension = task.suspend()
        await asyncio.create_task(suspension.__aenter__())
        await asyncio.sleep(20)
        await asyncio.create_task(suspension.__aexit__(None, None, None))
        await asyncio.sleep(20)

        assert journal.seconds == pytest.approx([0, 22, 30, 40], abs=0.6)
        assert not task.suspended


async def test_a_lost_suspension_that_another_task_entered_is_told_when_it_is_left(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    task = share(a, nothing)
    async with a:
        await asyncio.sleep(2)
        suspension = task.suspend("a fixture")
        await asyncio.create_task(suspension.__aenter__())
        store.is_away = True
        await asyncio.sleep(60)
        store.is_away = False

        assert "its hold of task 'job' could not be renewed" in caplog.text
        with pytest.raises(SuspensionLost, match="a fixture"):
            await suspension.__aexit__(None, None, None)


@pytest.mark.parametrize("what", ["suspend", "pause"])
async def test_what_waits_for_a_claim_to_be_given_back_does_not_wait_for_ever(loop: VirtualLoop, what: str) -> None:
    store = Fragile(loop)
    journal = Journal()
    a = Scheduler(store, clock=loop.virtual_clock)
    task = share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(9.95)  # The next tick is claimed.
        store.is_away = True

        with pytest.raises(StoreUnavailable, match="claims of task 'job' could not be given back"):
            async with asyncio.timeout(10):
                await (task.suspend().__aenter__() if what == "suspend" else task.pause())

        store.is_away = False
        await asyncio.sleep(30)
        assert not task.suspended
        assert len(journal.lines) >= 3
