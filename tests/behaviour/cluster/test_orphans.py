"""Tasks that no instance knows any more: nobody claims them, and nobody has to look at them."""

from __future__ import annotations

import asyncio

import pytest

from behaviour.cluster.common import Journal, Made, nothing, share
from kaiju_app.errors import InvalidArgument, UnknownTask, WrongState
from kaiju_app.scheduler import Scheduler
from kaiju_app.stores import MemoryStore
from support.records import replace

WEEK_S = 7 * 86_400


async def test_what_nobody_knows_is_never_claimed_and_delays_nothing(made: Made, store: MemoryStore) -> None:
    a = made()
    journal = Journal(0.1)
    share(a, journal.body("a"), 1)
    async with a:
        await asyncio.sleep(0.5)
        (known,) = (await store.scan()).records
        orphans = [replace(known, name=f"orphan {number}", owner=None) for number in range(1_000)]
        assert all([await store.swap(None, each) for each in orphans])
        await asyncio.sleep(69)
        found = (await store.scan()).records

    assert 70 == len(journal.lines)
    assert sorted(orphans, key=lambda each: each.name) == [each for each in found if each.name != "job"]


@pytest.mark.slow
async def test_what_nobody_has_known_for_a_week_goes_without_stopping_the_rest(made: Made, store: MemoryStore) -> None:
    a = made()
    journal = Journal(0.1)
    share(a, journal.body("a"), 1)
    async with a:
        await asyncio.sleep(0.5)
        (known,) = (await store.scan()).records
        for number in range(2_000):
            last = known.known_at - WEEK_S * 1_000_000 - number
            assert await store.swap(None, replace(known, name=f"orphan {number}", owner=None, known_at=last))
        await asyncio.sleep(2 * 3_600)
        left = [each.name for each in (await store.scan()).records]
        found = await a.history("job", 100)

    assert ["job"] == left
    assert all(run.lateness_s < 0.1 for run in found)


@pytest.mark.parametrize("history", [False, True])
async def test_a_task_is_forgotten_with_its_history_or_without(made: Made, store: MemoryStore, history: bool) -> None:
    a, b = made(), made()
    share(a, nothing)
    async with b:
        async with a:
            await asyncio.sleep(5)
        kept = await b.history("job")

        assert await b.forget("job", history=history)
        try:
            found = await b.history("job")
        except UnknownTask:
            found = []
        again = await b.forget("job", history=True)

    assert 1 == len(kept)
    assert [] == (await store.scan()).records
    assert found == ([] if history else kept)
    assert again is not history  # The history was left.


async def test_a_task_that_somebody_has_is_not_forgotten(made: Made) -> None:
    a, b = made(), made()
    journal = Journal(5)
    task = share(a, journal.body("a"), 100)
    async with a, b:
        await asyncio.sleep(1)
        with pytest.raises(WrongState, match=r"'job' cannot be forgotten: this scheduler has it; call task.remove"):
            await a.forget("job")
        with pytest.raises(WrongState, match=r"'job' cannot be forgotten: instance .* runs it; stop that instance"):
            await b.forget("job")
        await asyncio.sleep(5)
        await task.pause("repairs")
        with pytest.raises(WrongState, match=r"it is held by pause.* on .*repairs.*; leave the suspension, or await"):
            await b.forget("job")
        with pytest.raises(InvalidArgument, match="history"):
            await b.forget("job", history="all")  # type: ignore[arg-type]
        assert not await b.forget("another")
    with pytest.raises(WrongState, match="not started"):
        await b.forget("job")
    with pytest.raises(WrongState, match=r"no store to delete a task from: use task.remove\(\)"):
        await Scheduler().forget("job")
