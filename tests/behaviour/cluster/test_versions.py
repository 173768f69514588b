"""Cluster tasks: releases that change a rule."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from behaviour.cluster.common import Journal, Made, nothing, now, share, started
from kaiju_app.scheduler import LeaseTiming, Missed
from kaiju_app.stores import MemoryStore
from support.reading import ZERO, at
from support.records import replace


async def test_a_new_release_changes_the_rule_and_an_old_one_follows(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    old, new = made(version=1), made(version=2)
    share(old, journal.body("old"), 60)
    share(new, journal.body("new"), 20)
    with caplog.at_level(logging.INFO):
        async with old:
            await asyncio.sleep(5)
            async with new:
                await asyncio.sleep(50)
            journal.lines.clear()
            await asyncio.sleep(100)
        assert len(journal.lines) == 5  # It follows the rule that it reads from the store.
        async with old:
            await asyncio.sleep(30)

    assert any("follows the rule of version 2" in record.message for record in caplog.records)


async def test_two_rules_of_one_version_are_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    a, b = made(), made()
    share(a, nothing, 60)
    share(b, nothing, 20)
    async with started(a, b):
        await asyncio.sleep(5)

    found = [record.message for record in caplog.records if "two rules" in record.message]
    assert len(found) == 1
    assert "every 20 s" in found[0]
    assert "every 60 s" in found[0]


async def test_of_two_rules_of_one_version_the_last_one_to_come_stands(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    """Each registers the task again every hour. If that brought its rule back, no tick would ever come."""
    journal = Journal()
    lease = LeaseTiming(ttl_s=600, renew_s=100, grace_s=250, poll_s=100)
    a, b = made(lease=lease), made(lease=lease)
    share(a, journal.body("a"), 7200)
    share(b, journal.body("b"), 7500)
    async with started(a, b):
        await asyncio.sleep(10 * 3600)

    assert journal.seconds[2:] == pytest.approx([journal.seconds[1] + 7500 * each for each in range(1, 4)], abs=1)
    assert len([record for record in caplog.records if "two rules" in record.message]) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"jitter_s": 1}),
        ({"jitter_s": 2}, {"jitter_s": 1}),
        ({}, {"until": ZERO + timedelta(seconds=86_400)}),
        ({"until": ZERO + timedelta(seconds=10)}, {}),
        ({"until": ZERO + timedelta(seconds=50)}, {"until": ZERO + timedelta(seconds=86_400), "jitter_s": 0.5}),
    ],
)
async def test_only_another_interval_begins_a_grid_of_its_own(
    made: Made, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = made(version=1), made(version=2)
    share(old, nothing, 60, **before)
    share(new, nothing, 60, **after)
    async with old:
        await asyncio.sleep(85)
    async with new:
        await asyncio.sleep(120)
        ticks = [at(run.scheduled_at) for run in await new.history("job")]

    assert ticks[-2:] == pytest.approx([ticks[0] + 120, ticks[0] + 180])


async def test_a_task_whose_end_comes_nearer_ends_then(made: Made) -> None:
    journal = Journal()
    old, new = made(version=1), made(version=2)
    share(old, journal.body("old"), 60)
    share(new, journal.body("new"), 60, until=ZERO + timedelta(seconds=100))
    async with old:
        await asyncio.sleep(30)
    async with new:
        await asyncio.sleep(300)

    assert journal.seconds == pytest.approx([0, 60], abs=0.1)


@pytest.mark.parametrize(("before_s", "after_s"), [(60, 300), (300, 60)])
async def test_a_rolling_release_loses_no_more_than_one_new_interval(
    made: Made, before_s: float, after_s: float
) -> None:
    """In either order, and also if an instance of the old version restarts in between."""
    journal = Journal()
    old, new = [made(version=1) for _ in range(3)], [made(version=2) for _ in range(3)]
    for each in old:
        share(each, journal.body("old"), before_s)
    for each in new:
        share(each, journal.body("new"), after_s)
    async with contextlib.AsyncExitStack() as stack:
        for each in old:
            await stack.enter_async_context(each)
        await asyncio.sleep(1000)
        begun = now()
        for leaving, coming in zip(old, new, strict=True):
            await leaving.stop()
            await asyncio.sleep(20)
            await stack.enter_async_context(coming)
            await asyncio.sleep(20)
            await leaving.start()
            await asyncio.sleep(20)
            await leaving.stop()
        await asyncio.sleep(1000)

    first, *rest = [second for second in journal.seconds if second > begun + 20]
    assert first <= begun + 20 + after_s + 0.1
    assert [later - earlier for earlier, later in pairwise([first, *rest])] == pytest.approx(
        [after_s] * len(rest), abs=0.1
    )


@pytest.mark.parametrize("rule", ['{"interval_us":10000000,"until_us":"x"}', '{"moons":3}', "[" * 20_000])
async def test_a_rule_that_cannot_be_read_is_left_to_other_instances_and_told_once(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    journal = Journal()
    a = made()
    share(a, nothing)
    share(a, journal.body("a"), 10, "other")
    async with a:
        await asyncio.sleep(5)
        (old,) = (await store.scan(["job"])).records
        await store.swap(old, replace(old, rev=old.rev + 1, schedule=rule, version=(9,)))
        await asyncio.sleep(300)
        (after,) = (await store.scan(["job"])).records
        assert {task["name"] for task in (await a.inspect())["tasks"]} == {"job", "other"}

    assert (after.next_tick, after.owner) == (old.next_tick, None)
    assert len(journal.lines) == 31
    assert len([each for each in caplog.messages if "of version 9, cannot be read here" in each]) == 1
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_release_during_a_run_is_not_lost(made: Made) -> None:
    journal = Journal(10)
    old, new = made(version=(1, 0)), made(version=(1, 1))
    share(old, journal.body("old"), 100)
    share(new, journal.body("new"), 15)
    async with old:
        await asyncio.sleep(5)
        async with new:
            await asyncio.sleep(57)
            assert journal.seconds == pytest.approx([0, 15, 30, 45, 60], abs=0.1)


async def test_a_release_while_missed_ticks_are_skipped_is_not_lost(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim ends without a run, and the rule changes before that ending reaches the store."""
    journal = Journal()
    old, new = made(version=1), made(version=2)
    share(old, journal.body("old"), 10, missed=Missed.SKIP)
    share(new, journal.body("new"), 15, missed=Missed.SKIP)
    async with old:
        await asyncio.sleep(5)
    await asyncio.sleep(42)
    async with old:
        await asyncio.sleep(0.01)
        (record,) = (await store.scan()).records
        assert record.owner is not None
        async with new:
            await asyncio.sleep(30)
            history = [(run.outcome.name, run.count) for run in await new.history("job")]

    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert journal.seconds[1:] == pytest.approx([55, 70], abs=0.1)
    assert history[:2] == [("SUCCEEDED", 1), ("SKIPPED", 3)]
