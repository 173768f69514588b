"""A store that is emptied, or replaced by an older copy, under running schedulers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest

from behaviour.cluster.common import Journal, Made, now, share
from kaiju_app.errors import StoreUnavailable
from kaiju_app.scheduler import LeaseTiming, Scheduler
from kaiju_app.stores import MemoryStore
from kaiju_app.stores._answers import ChangeResult
from kaiju_app.stores._cas import Transition
from support.reading import at
from support.virtual import VirtualLoop

POLL_S = LeaseTiming().poll_s
GRACE_S = LeaseTiming().grace_s


def wipe(store: MemoryStore) -> None:
    store._records.clear()
    store._rows.clear()
    store._instances.clear()


async def pair(made: Made, body: Callable[[str], Any], every_s: float = 10, **options: Any) -> list[Scheduler]:
    found = [made(), made(), made()]
    for each, name in zip(found, "abc", strict=True):
        share(each, body(name), every_s, **options)
        await each.start()
    return found


async def stop(found: list[Scheduler]) -> None:
    for each in found:
        await each.stop()


async def test_what_is_lost_between_runs_goes_on_with_its_next_tick(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(0.5)
    found = await pair(made, journal.body, 10)
    await asyncio.sleep(33 - now())
    wipe(store)
    await asyncio.sleep(POLL_S + 0.1)
    (record,) = (await store.scan()).records
    holders = [held.holder for held in record.holds.values()]
    await asyncio.sleep(45 - now())  # The tick of second 40 has run by then.
    states = [each.tasks["job"].state for each in found]
    await asyncio.sleep(65 - now())
    await stop(found)

    assert [0, 10, 20, 30, 40, 50, 60] == [round(second) for second in journal.seconds]
    assert ("job", ["the store, which had lost the record"]) == (record.name, holders)
    assert ["waiting"] * 3 == states
    lost = [each.getMessage() for each in caplog.records if "has lost the records" in each.getMessage()]
    assert ["store memory: has lost the records of 1 task(s): 'job'."] == [each.partition(" They")[0] for each in lost]


class Locking(MemoryStore):
    """A store in which another client may have locked the record of a task."""

    locked: frozenset[str] = frozenset()
    changes = 0

    async def change_each(self, transitions: Mapping[str, Transition]) -> dict[str, ChangeResult]:
        self.changes += 1
        assert self.changes < 1_000, "a record that is locked is tried again and again"
        return await super().change_each({name: each for name, each in transitions.items() if name not in self.locked})


async def test_a_registration_waits_for_a_locked_record_without_haste(made: Made, loop: VirtualLoop) -> None:
    store, journal = Locking(loop.virtual_clock.wall), Journal(0.5)
    store.locked = frozenset({"job"})
    a = made(store=store)
    share(a, journal.body("a"), 10)
    async with a:
        await asyncio.sleep(10)
        tried = store.changes
        store.locked = frozenset()
        await asyncio.sleep(1)

    assert 20 <= tried <= 30
    assert 1 == len(journal.lines)


async def test_a_tick_that_was_lost_during_an_hourly_registration_is_not_forgotten(
    made: Made, loop: VirtualLoop
) -> None:
    """The record is lost while it waits to be registered again, because another client had locked it."""
    store, journal = Locking(loop.virtual_clock.wall), Journal(0.5)
    a = made(store=store)
    share(a, journal.body("a"), 10)
    async with a:
        await asyncio.sleep(3595)
        store.locked = frozenset({"job"})
        await asyncio.sleep(3609.5 - now())
        wipe(store)
        await asyncio.sleep(3615 - now())
        store.locked = frozenset()
        await asyncio.sleep(3645 - now())
        ticks = [at(run.scheduled_at) for run in await a.history("job")]

    assert [3610, 3620, 3630, 3640] == ticks


async def test_the_holds_of_many_tasks_are_put_back_together(made: Made, loop: VirtualLoop) -> None:
    store = Locking(loop.virtual_clock.wall)
    a = made(store=store)
    starts: list[float] = []

    async def body() -> None:
        starts.append(now())

    for number in range(50):
        share(a, body, 10, f"job {number}")
    async with a:
        await asyncio.sleep(5)
        async with a.suspend(), a.tasks["job 7"].suspend():
            await asyncio.sleep(5)
            starts.clear()
            before = store.changes
            wipe(store)
            await asyncio.sleep(20)
            made_by_loss = store.changes - before
            holds = [len(record.holds) for record in (await store.scan()).records]
            inside = list(starts)
        await asyncio.sleep(10)

    assert [1] * 49 + [2] == sorted(holds)
    assert [] == inside
    assert starts
    assert made_by_loss <= 6


@pytest.mark.parametrize("second", [35.2, 38.0, 39.4, 39.95, 40.1, 41.0, 44.9])
async def test_a_run_that_goes_on_keeps_its_claim_and_none_overlaps(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture, second: float
) -> None:
    journal = Journal(6)
    found = await pair(made, journal.body, 10)
    await asyncio.sleep(second - now())
    fences = [record.fence for record in (await store.scan()).records]
    wipe(store)
    await asyncio.sleep(75 - now())
    records = (await store.scan()).records
    rows = await store.history("job", 9)
    ticks = [round(each, -1) for each in journal.seconds]
    await stop(found)

    assert [0, 10, 20, 30, 40, 50, 60, 70] == ticks
    assert journal.seconds[4] < 40 + POLL_S + GRACE_S + 1
    assert records[0].fence > fences[0]
    assert sorted(row.fence for row in rows if row.fence) == [row.fence for row in rows if row.fence]
    assert "does not count" not in caplog.text


async def test_a_suspension_outlives_the_loss(made: Made, store: MemoryStore) -> None:
    journal = Journal(0.5)
    found = await pair(made, journal.body, 1)
    await asyncio.sleep(3.7)
    async with found[0].tasks["job"].suspend():
        entered = now()
        await asyncio.sleep(2)
        wipe(store)
        await asyncio.sleep(20)
        left = now()
    await asyncio.sleep(5)
    await stop(found)

    assert [] == [each for each in journal.seconds if entered < each < left]
    assert [each for each in journal.seconds if each > left]


@pytest.mark.parametrize("second", [8.0, 8.4, 9.2, 12.0])
async def test_a_suspension_waits_for_a_run_whose_claim_is_lost_twice(
    made: Made, store: MemoryStore, second: float
) -> None:
    journal = Journal(20)
    found = await pair(made, journal.body, 60)
    await asyncio.sleep(1)
    wipe(store)
    await asyncio.sleep(second - now())
    (runner,) = (line[0] for line in journal.lines)
    asyncio.get_running_loop().call_later(0.3, wipe, store)
    async with found["abc".index(runner) - 1].tasks["job"].suspend():
        going_on = journal.going_on
    await stop(found)

    assert not going_on


async def test_a_pause_outlives_the_loss(made: Made, store: MemoryStore) -> None:
    journal = Journal(0.5)
    found = await pair(made, journal.body, 1)
    await asyncio.sleep(3.7)
    await found[0].tasks["job"].pause("repairs")
    await asyncio.sleep(2)
    paused = now()
    wipe(store)
    await asyncio.sleep(20)
    shown = found[0].tasks["job"].state
    await found[1].tasks["job"].resume()
    resumed = now()
    await asyncio.sleep(6)
    await stop(found)

    assert "paused" == shown
    assert [] == [each for each in journal.seconds if paused < each < resumed]
    assert [each for each in journal.seconds if each > resumed]


@pytest.mark.parametrize("call", ["run_now", "suspend", "pause", "wait", "resume"])
async def test_whoever_asks_first_has_the_record_made_again(made: Made, store: MemoryStore, call: str) -> None:
    journal = Journal(0.5)
    found = await pair(made, journal.body, 100)
    task = found[1].tasks["job"]
    await asyncio.sleep(10)
    wipe(store)
    if call == "suspend":
        async with task.suspend():
            await asyncio.sleep(1)
    elif call == "run_now":
        run = await task.run_now()
        assert run.manual
        assert 2 == len(journal.lines)
    else:
        await getattr(task, call)()
    await asyncio.sleep(1)  # The end of a suspension is told by then.
    records = (await store.scan()).records
    await stop(found)

    assert ["job"] == [each.name for each in records]
    assert ("pause" == call) == ("#pause" in records[0].holds)


async def test_a_request_that_is_lost_is_told(made: Made, store: MemoryStore) -> None:
    journal = Journal(0.5)
    found = await pair(made, journal.body, 100)
    await asyncio.sleep(10)
    for each in found:
        each.tasks["job"].disable()
    asked = asyncio.ensure_future(found[0].tasks["job"].run_now())
    await asyncio.sleep(1)
    wipe(store)
    with pytest.raises(StoreUnavailable, match="has no row of the extra run of task 'job'"):
        await asked
    await stop(found)


async def test_an_older_copy_runs_no_tick_again_that_is_known_to_have_ended(made: Made, store: MemoryStore) -> None:
    journal = Journal(0.5)
    a = made()
    share(a, journal.body("a"), 10)
    async with a:
        await asyncio.sleep(5)
        old, rows = dict(store._records), deepcopy(store._rows)
        await asyncio.sleep(30)
        fence = store._records["job"].fence
        store._records, store._rows = old, rows
        await asyncio.sleep(32)
        (record,) = (await store.scan()).records

    assert [0, 10, 20, 30, 40, 50, 60] == [round(second, -1) for second in journal.seconds]
    assert record.fence > fence


async def test_an_older_copy_leaves_a_run_its_claim(made: Made, store: MemoryStore) -> None:
    journal = Journal(6)
    found = await pair(made, journal.body, 10)
    await asyncio.sleep(28)
    old = dict(store._records)
    await asyncio.sleep(4)
    store._records = old
    await asyncio.sleep(40)
    await stop(found)

    assert [0, 10, 20, 30, 40, 50, 60, 70] == [round(each, -1) for each in journal.seconds]


async def test_fences_grow_though_the_clock_of_the_store_was_set_back(made: Made, loop: Any) -> None:
    behind = [0]
    store = MemoryStore(lambda: loop.virtual_clock.wall() - behind[0])
    fences: list[int] = []
    from kaiju_app.scheduler import current_run

    async def body() -> None:
        fence = current_run().fence
        assert fence is not None
        fences.append(fence)

    a = made(store=store)
    share(a, body, 1)
    async with a:
        await asyncio.sleep(10)
        behind[0] = 3_600_000_000
        wipe(store)
        await asyncio.sleep(3_700)

    assert len(fences) > 20
    assert fences == sorted(set(fences))


async def test_what_is_forgotten_is_registered_again_by_who_has_it(made: Made, store: MemoryStore) -> None:
    a, b = made(), made()
    journal = Journal(0.5)
    share(a, journal.body("a"), 10)
    async with a, b:
        await asyncio.sleep(15)
        assert await b.forget("job", history=True)
        await asyncio.sleep(20)

    assert [0, 10, 20, 30] == [round(second, -1) for second in journal.seconds]
