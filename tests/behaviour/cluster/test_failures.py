"""Cluster tasks: ``pause_after_failures`` counts the runs of all instances, and pauses the task on all of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from behaviour.cluster.common import Fragile, Made, now, share, started
from kaiju_app.scheduler import Outcome, Scheduler
from kaiju_app.stores import MemoryStore
from kaiju_app.stores._record import LedgerRow
from support.virtual import VirtualLoop


class Attempts:
    """A function that fails, on whichever instance, except in the calls whose numbers are given."""

    def __init__(self, *good: int, takes_s: float = 0) -> None:
        self.good, self.takes_s = good, takes_s
        self.lines: list[tuple[str, float]] = []

    def on(self, who: str) -> Any:
        async def work() -> None:
            self.lines.append((who, now()))
            number = len(self.lines)
            await asyncio.sleep(self.takes_s)
            if number not in self.good:
                raise ValueError("no")

        return work


def share_all(attempts: Attempts, *schedulers: Scheduler, **options: Any) -> None:
    for who, each in zip("abc", schedulers, strict=False):
        share(each, attempts.on(who), **options)


async def test_the_runs_of_all_instances_count(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts(2)
    a, b = made(), made()
    share_all(attempts, a, b, pause_after_failures=4)
    async with started(a, b):
        for number in range(60):  # Now one of them takes the ticks, then the other.
            for each, mine in ((a, number % 2), (b, number % 2 == 0)):
                (each.tasks["job"].enable if mine else each.tasks["job"].disable)()
            await asyncio.sleep(10)
        for each in (a, b):
            each.tasks["job"].enable()
        await asyncio.sleep(30)

        assert {who for who, _ in attempts.lines} == {"a", "b"}
        assert len(attempts.lines) == 6
        runs = [run for run in await a.history("job") if run.outcome is not Outcome.SKIPPED]
        assert "".join(run.outcome.value[0] for run in runs) == "FSFFFF"
        await asyncio.gather(a.inspect(), b.inspect())
        for each in (a, b):
            assert each.tasks["job"].state == "paused"
            assert "4 unsuccessful runs in a row, the last one FAILED after 0 s: ValueError: no" in json.dumps(
                each.tasks["job"].json_repr()
            )
        (told,) = [line for record in caplog.records if "paused on all" in (line := record.getMessage())]
        assert told.endswith("Mend it, then await task.resume(): one more failure pauses it again")


@pytest.mark.parametrize("interval_s", [0.2, 10])
async def test_no_tick_runs_between_the_last_failure_and_the_pause(made: Made, interval_s: float) -> None:
    attempts = Attempts(takes_s=0.1)
    instances = [made() for _ in range(3)]
    share_all(attempts, *instances, every_s=interval_s, pause_after_failures=3)
    async with started(*instances):
        await asyncio.sleep(100)

    assert len(attempts.lines) == 3


async def test_the_pause_outlives_the_processes_until_resume(made: Made) -> None:
    attempts = Attempts()
    a = made()
    share_all(attempts, a, pause_after_failures=1)
    async with started(a):
        await asyncio.sleep(5)
    b = made()
    share_all(attempts, b, pause_after_failures=1)
    async with started(b):
        await asyncio.sleep(50)
        assert len(attempts.lines) == 1
        await b.tasks["job"].resume()
        await asyncio.sleep(50)
        assert len(attempts.lines) == 2


async def test_the_pause_of_an_operator_stays(made: Made) -> None:
    attempts = Attempts(takes_s=5)
    a = made()
    share_all(attempts, a, pause_after_failures=1)
    async with started(a):
        await asyncio.sleep(2)
        await a.tasks["job"].pause("maintenance")
        await asyncio.sleep(20)

        shown = json.dumps(a.tasks["job"].json_repr()["holds"])
        assert "maintenance" in shown
        assert "unsuccessful" not in shown


async def test_a_store_that_is_away_for_a_while_delays_the_pause(loop: VirtualLoop, made: Made) -> None:
    store = Fragile(loop)
    attempts = Attempts(takes_s=1)
    a, b = made(store=store), made(store=store)
    share_all(attempts, a, b, pause_after_failures=1)
    async with started(a, b):
        await asyncio.sleep(0.5)
        store.is_away = True
        await asyncio.sleep(3)
        store.is_away = False
        await asyncio.sleep(60)

        assert len(attempts.lines) == 1
        assert a.tasks["job"].state == "paused"


class SlowHistory(MemoryStore):
    """A store that takes a second to find the history of a task."""

    async def history(self, name: str, limit: int) -> list[LedgerRow]:
        await asyncio.sleep(1)
        return await super().history(name, limit)


async def test_the_claim_is_kept_until_the_pause_stands(loop: VirtualLoop, made: Made) -> None:
    store = SlowHistory(loop.virtual_clock.wall)
    attempts = Attempts()
    a, b = made(store=store), made(store=store)
    share_all(attempts, a, b, every_s=0.2, pause_after_failures=1)
    async with started(a, b):
        await asyncio.sleep(30)

    assert len(attempts.lines) == 1
