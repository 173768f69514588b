"""Cluster tasks: instances that stop, and leases that are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from behaviour.cluster.common import Fragile, Journal, Made, nothing, now, share, told
from kaiju_app.errors import LeaseLost
from kaiju_app.scheduler import ExecPolicy, OnLost, Outcome, Scheduler, current_run
from kaiju_app.stores import MemoryStore
from support.reading import at
from support.virtual import VirtualLoop


async def test_what_is_stopped_runs_again_elsewhere(made: Made) -> None:
    journal = Journal(8)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    async with a:
        await asyncio.sleep(3)
        share(b, journal.body("b"), 100)
        await b.start()
        await asyncio.sleep(1)
    stopped = now()
    await asyncio.sleep(20)
    found = told(await b.history("job"))
    await b.stop()

    assert journal.lines[0] == ("a", 0)
    assert journal.lines[1][0] == "b"
    assert journal.lines[1][1] - stopped < 1
    assert found == [("LOST", "shutdown", 0.0, 1, 1), ("SUCCEEDED", None, 0.0, 1, 2)]


async def test_a_lost_run_is_repeated_although_a_pause_began_and_ended_during_it(made: Made) -> None:
    """After a hold, a tick that is older than half a gap is skipped. This hold kept nothing back."""
    journal = Journal(50)
    a, b = made(), made()
    task = share(a, journal.body("a"), 60)
    share(b, journal.body("b"), 60)
    async with a:
        await asyncio.sleep(1)
        await b.start()
        await asyncio.sleep(1)
        await task.pause("a look")
        await asyncio.sleep(3)
        await task.resume()
        await asyncio.sleep(35)
    await asyncio.sleep(55)
    found = told(await b.history("job"))
    await b.stop()

    assert found[:2] == [("LOST", "shutdown", 0.0, 1, 1), ("SUCCEEDED", None, 0.0, 1, 2)]


async def test_what_is_stopped_is_not_repeated_if_nobody_wants_that(made: Made) -> None:
    journal = Journal(8)
    a, b = made(), made()
    for each, name in ((a, "a"), (b, "b")):
        share(each, journal.body(name), 100, on_lost=OnLost.SKIP)
    async with a:
        await asyncio.sleep(3)
    async with b:
        await asyncio.sleep(20)
        found = told(await b.history("job"))

    assert [who for who, _ in journal.lines] == ["a"]
    assert found == [("CANCELLED", "shutdown", 0.0, 1, 1)]


async def test_a_tick_that_a_crash_would_skip_is_not_claimed_before_it_is_due(made: Made, store: MemoryStore) -> None:
    """Otherwise a crash would also skip a tick that had not begun."""
    a = made()
    share(a, nothing, name="again", on_lost=OnLost.RETRY)
    share(a, nothing, name="once", on_lost=OnLost.SKIP)
    holders: dict[str, list[bool]] = {"again": [], "once": []}
    async with a:
        for second in (19.95, 29.95, 39.95):
            await asyncio.sleep(second - now())
            for record in (await store.scan()).records:
                holders[record.name].append(record.owner is not None)
        await asyncio.sleep(1)
        found = await a.history("once")

    assert holders == {"again": [True] * 3, "once": [False] * 3}
    assert [(run.outcome, at(run.scheduled_at)) for run in found] == [(Outcome.SUCCEEDED, 10.0 * n) for n in range(5)]
    assert all(run.lateness_s < 0.1 for run in found)


async def test_stop_gives_back_what_was_claimed_ahead(made: Made, store: MemoryStore) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(9.95)
        share(b, journal.body("b"))
        await b.start()
        assert a._lifecycle.cluster is not None
        assert a._lifecycle.cluster.runs.coordinator.own.claims
        began = now()
    assert now() == pytest.approx(began, abs=0.01)  # Without waiting for the tick.
    await asyncio.sleep(4)
    found = told(await b.history("job"))
    await b.stop()

    assert journal.lines[1] == ("b", pytest.approx(11, abs=1.5))  # Left to the other instance at first.
    assert found[1][-1] == 1  # The claim that never began is not counted.


async def test_a_lease_that_cannot_be_renewed_cuts_the_run(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    lost: list[tuple[float, bool, str]] = []

    async def body() -> None:
        run = current_run()
        event = run.lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            with pytest.raises(LeaseLost) as caught:
                run.check()
            lost.append((now(), event.is_set(), caught.value.reason))
            raise

    share(a, body, 100)
    async with a:
        await asyncio.sleep(1)
        store.is_away = True
        await asyncio.sleep(30)
        assert a.json_repr()["store"]["state"] == "degraded"  # type: ignore[index]
        store.is_away = False
        await asyncio.sleep(10)
        found = told(await a.history("job"))
        assert a.json_repr()["store"]["state"] == "ok"  # type: ignore[index]

    assert lost == [(pytest.approx(10, abs=1), True, "lease lost")]
    assert found[0] == ("LOST", "lease lost", 0.0, 1, 1)
    assert journal_of(found[1:]) == []


def journal_of(found: list[Any]) -> list[Any]:
    return [each for each in found if each[0] != "LOST"]


async def test_a_shielded_run_goes_on_without_its_lease(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    seen: list[tuple[float, bool]] = []

    async def body() -> None:
        run = current_run()
        for _ in range(6):
            await asyncio.sleep(5)
            seen.append((now(), run.lost.is_set()))

    share(a, body, 100, policy=ExecPolicy.SHIELD, overlap_on_loss=True)
    async with a:
        await asyncio.sleep(3)
        store.is_away = True
        await asyncio.sleep(13)
        store.is_away = False
        await asyncio.sleep(20)
        found = told(await a.history("job"))

    assert [is_lost for second, is_lost in seen if second != 20] == [False, False, True, False, False]
    assert found == [("SUCCEEDED", None, 0.0, 1, 1)]
    assert any("another instance may run the task at the same time" in record.message for record in caplog.records)
    assert any("renewed after all" in record.message for record in caplog.records)


async def test_a_stop_after_an_outage_does_not_wait_for_the_next_try(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    share(a, Journal(100).body("a"), 1000)
    await a.start()
    await asyncio.sleep(1)
    store.is_away = True
    await asyncio.sleep(8)
    store.is_away = False
    began = now()
    await a.stop()

    assert now() - began < 0.1
    (record,) = (await store.scan()).records
    assert record.owner is None


async def test_a_store_that_can_be_read_and_not_written_is_told_once(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    share(a, nothing, 1)
    async with a:
        await asyncio.sleep(1.5)
        store.is_full = True
        await asyncio.sleep(60)
        assert (
            len([each for each in caplog.records if "no further ticks of cluster tasks are claimed" in each.message])
            == 1
        )
        store.is_full = False
        await asyncio.sleep(6)
        assert len([each for each in caplog.records if "available again" in each.message]) == 1
        assert a.json_repr()["store"]["state"] == "ok"  # type: ignore[index]


async def test_local_tasks_do_not_notice_that_the_store_is_away(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    store.is_away = True
    a = Scheduler(store, clock=loop.virtual_clock)
    local: list[float] = []

    async def here() -> None:
        local.append(now())

    a.schedule_task(here, 1)
    journal = Journal()
    share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(30.5)
        assert len(local) == 31
        assert journal.lines == []
        store.is_away = False
        await asyncio.sleep(10)
        assert journal.lines


async def test_a_run_that_outlives_stop_keeps_its_task_from_running_elsewhere(made: Made) -> None:
    began: list[tuple[str, float]] = []

    def stubborn(who: str) -> Callable[[], Awaitable[None]]:
        async def body() -> None:
            began.append((who, now()))
            end = now() + 60
            while now() < end:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(end - now())

        return body

    a, b = made(), made()
    share(a, stubborn("a"), 65)
    share(b, stubborn("b"), 65)
    await a.start()
    await asyncio.sleep(1)
    await b.start()
    assert [task.name for task in await a.stop(1)] == ["job"]
    await asyncio.sleep(50)
    assert [who for who, _ in began] == ["a"]
    await asyncio.sleep(20)
    assert [who for who, _ in began] == ["a", "b"]
    await asyncio.sleep(60)
    await b.stop(1)
