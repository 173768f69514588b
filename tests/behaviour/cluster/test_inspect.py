"""Cluster tasks: history, state and ``inspect()``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from datetime import timedelta
from typing import Any

import pytest

from behaviour.cluster.common import Journal, Made, nothing, share, started
from kaiju_app.errors import TaskBusy
from kaiju_app.scheduler import Cron, Every, ExecPolicy, LeaseTiming, Outcome, Scope
from kaiju_app.stores import MemoryStore, Store
from support.reading import at
from support.virtual import VirtualLoop


async def test_what_all_do_can_be_seen_from_any(made: Made) -> None:
    journal = Journal(5)
    a, b = made(version=3), made(version=3)
    share(a, journal.body("a"))
    share(b, journal.body("b"), None, "report", trigger=Cron("0 6 * * *", tz="Europe/Berlin"))
    async with started(a, b):
        await asyncio.sleep(3)
        found: Any = await b.inspect()

    assert json.loads(json.dumps(found)) == found
    assert found["store"] == "memory"
    assert len(found["instances"]) == 2
    assert {each["version"][0] for each in found["instances"]} == {3}
    job, report = found["tasks"]
    assert (job["name"], job["rule"], job["delivery"]) == ("job", {"interval_us": 10_000_000}, 1)
    assert job["runs_on"] in {each["id"] for each in found["instances"]}
    assert report["rule"] == {"trigger": {"cron": "0 6 * * *", "tz": "Europe/Berlin"}}
    assert report["runs_on"] is None


async def long() -> None:
    await asyncio.sleep(100)


async def test_instances_are_told_as_host_and_process_beside_their_identity(made: Made) -> None:
    here = f"{socket.gethostname()}:{os.getpid()}"
    a, b = made(), made()
    tasks = [share(each, long, 3600) for each in (a, b)]
    async with started(a, b):
        assert a.json_repr()["process"] == here
        await asyncio.sleep(5)
        found: Any = await b.inspect()
        told = [each.json_repr() for each in tasks]
        owner = told[0]["runs_on"]

        assert [each["process"] for each in found["instances"]] == [here, here]
        assert [(each["runs_on"], each["runs_in"]) for each in found["tasks"]] == [(owner, here)]
        assert [(each["runs_on"], each["runs_in"]) for each in told] == [(owner, here)] * 2
        assert owner in {a.json_repr()["instance"], b.json_repr()["instance"]}
        with pytest.raises(TaskBusy, match=re.escape(f"task 'job' is busy: instance {owner} ({here}) runs it; ")):
            await tasks[0].run_now()


async def test_a_shared_task_tells_when_it_comes_next(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    task = share(b, journal.body("b"))
    async with started(a, b):
        assert task.next_run_at is None  # The store has not answered yet.
        await asyncio.sleep(33)
        assert [at(each) for each in task.upcoming(2)] == [40.0, 50.0]
        assert task.state == "waiting"
        assert (task.scope, task.json_repr()["scope"]) == (Scope.CLUSTER, "CLUSTER")
        json.dumps(task.json_repr())


async def test_a_scheduler_that_is_started_again_has_the_same_name_everywhere(made: Made) -> None:
    journal = Journal(5)
    a = made()
    task = share(a, journal.body("a"), 10)
    async with a:
        await asyncio.sleep(8)
    async with a:
        await asyncio.sleep(14)
        async with task.suspend():
            await asyncio.sleep(22)
        await asyncio.sleep(8)
        seen = await a.inspect()
        named = {
            a.json_repr()["instance"],
            *(each["id"] for each in seen["instances"]),  # type: ignore[union-attr]
            *(each["runs_on"] for each in seen["tasks"]),  # type: ignore[union-attr]
            task.json_repr()["runs_on"],
            *(run.instance for run in task.history()),
            *(run.instance for run in await a.history("job")),
        }
        (skipped,) = [run for run in await a.history("job") if run.outcome is Outcome.SKIPPED]

    assert len(named) == 1
    assert skipped.error is not None
    assert f" on {named.pop()} from " in skipped.error


async def test_the_ledger_tells_when_a_tick_was_due(made: Made) -> None:
    journal = Journal(25)
    a = made()
    task = share(a, journal.body("a"), 10, jitter_s=5, policy=ExecPolicy.SKIP)
    async with a:
        await asyncio.sleep(200)
        found = await a.history("job")
        here = task.history()[: len(found)]

    assert {run.outcome for run in found} == {Outcome.SUCCEEDED, Outcome.SKIPPED}
    assert [(run.scheduled_at, run.due) for run in found] == [(run.scheduled_at, run.due) for run in here]
    assert all(run.due > run.scheduled_at for run in found)
    assert all(run.lateness_s < 0.1 for run in found if run.lateness_s is not None)


async def test_jitter_is_the_same_for_all_instances(made: Made) -> None:
    journal = Journal(0.1)
    a, b = made(), made()
    share(a, journal.body("a"), 10, jitter_s=5)
    share(b, journal.body("b"), 10, jitter_s=5)
    async with started(a, b):
        await asyncio.sleep(100)
        rows = await a.history("job")

    assert [at(run.scheduled_at) for run in rows] == [10.0 * tick for tick in range(len(rows))]
    late = [second - 10 * tick for tick, second in enumerate(journal.seconds)]
    assert all(0 <= each < 5.1 for each in late)
    assert len({round(each, 2) for each in late}) > 5


async def test_even_rules_are_read_by_others(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), None, trigger=Every(20))
    share(b, journal.body("b"), None, trigger=Every(20))
    async with started(a, b):
        await asyncio.sleep(60)

    assert [(second + 5) % 20 for second in journal.seconds] == pytest.approx([0, 0, 0], abs=0.01)


async def test_a_record_that_nobody_knows_is_cleared_away(loop: VirtualLoop, made: Made, store: MemoryStore) -> None:
    a, b = made(), made()
    share(a, nothing, 3600, "gone")
    share(b, nothing, 3600, "kept")
    async with a:
        await asyncio.sleep(10)
    week = timedelta(days=8)
    loop.virtual_clock.step_wall(week.total_seconds())
    async with b:
        await asyncio.sleep(700)
        names = {each["name"] for each in (await b.inspect())["tasks"]}  # type: ignore[attr-defined]
        assert names == {"kept"}
        assert len(await b.history("gone")) == 1


def test_stores_are_public() -> None:
    assert issubclass(MemoryStore, Store)
    assert LeaseTiming().failover_s == pytest.approx(19.3)
