"""Cluster tasks: missed ticks."""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import pairwise
from typing import Any

import pytest

from behaviour.cluster.common import Journal, Made, now, share, started, told
from kaiju_app.scheduler import Missed, Outcome
from support.reading import at


@pytest.mark.parametrize(
    ("missed", "away_s", "expected"),
    [
        (Missed.ONCE, 42, [("SKIPPED", "missed", 10.0, 3, 1), ("SUCCEEDED", None, 40.0, 1, 1)]),
        (Missed.ONCE, 47, [("SKIPPED", "missed", 10.0, 4, 1), ("SUCCEEDED", None, 50.0, 1, 1)]),
        (Missed.SKIP, 42, [("SKIPPED", "missed", 10.0, 4, 1), ("SUCCEEDED", None, 50.0, 1, 1)]),
        (Missed.ALL, 32, [("SUCCEEDED", None, tick, 1, 1) for tick in (10.0, 20.0, 30.0, 40.0)]),
    ],
)
async def test_ticks_while_nobody_was_there(
    made: Made, caplog: pytest.LogCaptureFixture, missed: Missed, away_s: float, expected: list[Any]
) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), missed=missed)
    share(b, journal.body("b"), missed=missed)
    async with a:
        await asyncio.sleep(2)
    await asyncio.sleep(away_s - 2)
    async with b:
        await asyncio.sleep(12)
        found = told(await b.history("job"))

    assert found[0] == ("SUCCEEDED", None, 0.0, 1, 1)
    assert found[1 : 1 + len(expected)] == expected
    said = any("no instance was running, or the store was unavailable" in each.getMessage() for each in caplog.records)
    assert said is (missed is not Missed.ALL)


async def test_ticks_while_suspended_are_told_as_such_and_who_held_them(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    task = share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(5)
        async with task.suspend("for a while"):
            await asyncio.sleep(32)
        await asyncio.sleep(10)
        runs = await b.history("job")
        await task.pause("a \0 migration", for_s=32)
        await asyncio.sleep(50)
        paused = [run.error for run in await b.history("job") if run.outcome is Outcome.SKIPPED][-1]
        kept = [run.error for each in (a, b) for run in each.tasks["job"].history() if run.outcome is Outcome.SKIPPED]
        here = b.json_repr()["instance"]

    assert told(runs)[1:] == [("SKIPPED", "suspended", 10.0, 3, 1), ("SUCCEEDED", None, 40.0, 1, 1)]
    who = runs[1].error
    assert who is not None
    assert who.startswith("held by suspend() in ")
    assert re.search(rf" on {here} \(for a while\) from 2027-01-15T\S+ to 2027-01-15T\S+$", who)
    assert paused is not None
    assert paused.startswith(f"held by pause() on {here} (a \\x00 migration) from 2027-01-15T")
    assert sorted(kept) == sorted([who, paused])
    assert [each for each in caplog.messages if each.endswith(f"skipped (suspended): {who}")]


async def test_short_intervals_keep_up(made: Made) -> None:
    calls: list[float] = []

    async def body() -> None:
        calls.append(now())

    a, b = made(), made()
    share(a, body, 0.05)
    share(b, body, 0.05)
    async with started(a, b):
        await asyncio.sleep(10)
        rows = await a.history("job", 10_000)

    assert len(calls) > 60
    ticks = [(round(at(run.scheduled_at) * 20), run.count) for run in rows]  # type: ignore[operator]
    assert all(first + count == following for (first, count), (following, _) in pairwise(ticks))
