"""The timeline: what happened to each task in a window, and what is to come."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from behaviour.admin.common import Client, client_of
from behaviour.admin.test_tasks import at_of, fail
from behaviour.cluster.common import Fragile, Made, share, started
from kaiju_app.scheduler import Cron, ExecPolicy, Scheduler
from support.reading import ZERO, nothing
from support.virtual import VirtualLoop


async def slow() -> None:
    await asyncio.sleep(25)


def moment(second: float) -> str:
    return (ZERO + timedelta(seconds=second)).isoformat()


async def timeline(client: Client, **query: Any) -> Any:
    return await client.get(
        "/api/timeline", params={{"since": "from"}.get(name, name): each for name, each in query.items()}
    )


async def task_of(client: Client, name: str, **query: Any) -> Any:
    [found] = [each for each in (await timeline(client, **query))["tasks"] if each["task"] == name]
    return found


def bars(task: Any) -> list[Any]:
    return [(at_of(each["start"]), each["end"] and at_of(each["end"]), each["outcome"]) for each in task["bars"]]


async def test_runs_are_bars_skips_are_marks_and_what_comes_is_listed(scheduler: Scheduler) -> None:
    scheduler.schedule_task(fail, 30, name="failing")
    scheduler.schedule_task(slow, 10, name="slow", policy=ExecPolicy.SKIP)
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(65)
        found = await timeline(client)
        ids = [await client.id_of(name) for name in ("failing", "slow")]

    failing, slow_one = found["tasks"]
    assert [failing["task_id"], slow_one["task_id"]] == ids
    assert (at_of(found["from"]), at_of(found["now"]), at_of(found["to"])) == (65 - 3600, 65, 65 + 900)
    assert bars(failing) == [(0, 0, "FAILED"), (30, 30, "FAILED"), (60, 60, "FAILED")]
    assert all(each["run_id"] and (each["count"], each["worst"]) == (1, 1) for each in failing["bars"])
    assert bars(slow_one) == [(0, 25, "SUCCEEDED"), (30, 55, "SUCCEEDED"), (60, None, None)]
    marks = [(at_of(each["at"]), at_of(each["until"]), each["count"], each["reason"]) for each in slow_one["marks"]]
    assert marks == [(10, 20, 2, "overlap"), (40, 50, 2, "overlap")]
    assert [at_of(each) for each in failing["upcoming"]] == [90 + 30 * each for each in range(20)]
    assert (found["partial"], found["thinned"], found["next"]) == (None, False, None)
    assert [(at_of(each["at"]), each["kind"]) for each in found["lines"]] == [(0, "started")]


async def test_a_window_that_begins_later_lists_only_ticks_in_it(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 30, name="often")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(10)
        found = await task_of(client, "often", since=moment(100), to=moment(200))

    assert [at_of(each) for each in found["upcoming"]] == [120, 150, 180]


async def test_a_window_has_what_was_in_it_at_any_time(scheduler: Scheduler) -> None:
    scheduler.schedule_task(slow, 60, name="slow")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(70)
        found = [
            bars(await task_of(client, "slow", since=moment(first), to=moment(last)))
            for first, last in [(20, 22), (24, 61), (26, 59), (61, 62)]
        ]
        [early] = (await timeline(client, since=moment(-50), to=moment(-40)))["tasks"]
        nothing_at_all = await timeline(client, since=moment(20), to=moment(10))

    assert found == [[(0, 25, "SUCCEEDED")], [(0, 25, "SUCCEEDED"), (60, None, None)], [], [(60, None, None)]]
    assert (early["bars"], early["upcoming"]) == ([], [])
    assert nothing_at_all["tasks"] == nothing_at_all["lines"] == []


async def test_where_older_runs_are_not_kept_is_said(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 60, name="job")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(19 * 60 + 30)
        [whole] = (await client.get("/api/timeline"))["tasks"]
        await asyncio.sleep(5 * 60)
        [rest] = (await client.get("/api/timeline"))["tasks"]

    assert (len(whole["bars"]), whole["kept_since"]) == (20, None)
    assert (len(rest["bars"]), rest["kept_since"]) == (20, whole["bars"][5]["start"])
    assert rest["bars"][0]["start"] == rest["kept_since"]


async def test_holds_are_bands_with_holder_and_reason(scheduler: Scheduler) -> None:
    held = scheduler.schedule_task(nothing, 10, name="held")
    off = scheduler.schedule_task(nothing, 10, name="off")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(15)
        off.disable()
        async with held.suspend("a backup"):
            await asyncio.sleep(20)
        off.enable()
        await held.pause("audit", holder="alice", for_s=100)
        off.disable()
        bands = [(await task_of(client, name))["bands"] for name in ("held", "off")]

    found = [(at_of(each["from"]), each["to"] and at_of(each["to"]), each["kind"]) for each in bands[0]]
    assert found == [(15, 35, "held"), (35, 135, "held")]
    assert "a backup" in bands[0][0]["holder"]
    assert (bands[0][1]["holder"], bands[0][1]["reason"]) == ("alice", "audit")
    found = [(at_of(each["from"]), each["to"] and at_of(each["to"]), each["kind"]) for each in bands[1]]
    assert found == [(15, 35, "disabled"), (35, None, "disabled")]
    assert "disable() at " in bands[1][0]["holder"]


async def test_daylight_saving_of_the_zones_of_the_tasks_is_a_line(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="nightly")
    year = {"since": "2027-02-01T00:00:00Z", "to": "2027-12-31T00:00:00Z"}
    async with scheduler, client_of(scheduler) as client:
        found = (await timeline(client, **year))["lines"]
        other = (await timeline(client, q="no such task", **year))["lines"]

    assert [(each["at"], each["kind"]) for each in found] == [
        ("2027-03-28T01:00:00Z", "daylight saving"),
        ("2027-10-31T01:00:00Z", "daylight saving"),
    ]
    assert found[0]["text"] == "the clocks in Europe/Berlin go from 02:00 to 03:00"
    assert other == []


async def test_equal_blocks_in_a_row_are_one_line_with_their_number_and_span(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    scheduler.schedule_task(nothing, 0.5, name="frequent")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(10)
        for _ in range(5):
            loop.virtual_clock.block(2)
            await asyncio.sleep(1)
        await asyncio.sleep(600)
        loop.virtual_clock.block(3)
        await asyncio.sleep(1)
        found = (await timeline(client, since=(ZERO + timedelta(seconds=5)).isoformat()))["lines"]

    first, last = [each for each in found if each["kind"] == "loop blocked"]
    assert (at_of(first["at"]), at_of(first["until"]), first["count"]) == (10.5, 24, 5)
    assert first["text"] == "the event loop was blocked 5 times for 7.5 s in all"
    assert (last["count"], last["text"]) == (1, "the event loop was blocked for 2.5 s")


async def test_what_has_happened_to_other_instances_is_told_with_their_names(made: Made, loop: VirtualLoop) -> None:
    a, b = made(), made()
    share(a, nothing, 10, "job")
    async with a:
        await asyncio.sleep(8)
        loop.virtual_clock.block(17)
        await asyncio.sleep(5)
    async with b, client_of(b) as client:
        found = (await timeline(client))["lines"]

    [block] = [each for each in found if each["kind"] == "loop blocked"]
    assert block["text"] == f"instance {a.json_repr()['instance']}: the event loop was blocked for 17 s"
    assert (at_of(block["at"]), at_of(block["until"]), block["count"]) == (8, 25, 1)


async def test_pages_are_ordered_by_name_and_make_up_the_whole(scheduler: Scheduler) -> None:
    for number in range(7):
        scheduler.schedule_task(nothing, 60, name=f"task {number}")
    async with scheduler, client_of(scheduler) as client:
        names, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = await timeline(client, limit=3, **({"cursor": cursor} if cursor else {}))
            names += [each["task"] for each in page["tasks"]]
            cursor, pages = page["next"], pages + 1
        await client.get("/api/timeline?cursor=unknown", 404)

    assert names == [f"task {number}" for number in range(7)]
    assert pages == 3


async def test_cluster_tasks_show_the_runs_of_all_instances(made: Made) -> None:
    a, b = made(), made()
    share(a, slow, 60, name="shared", policy=ExecPolicy.SKIP)
    async with started(a, b), client_of(b) as client:
        await asyncio.sleep(130)
        found = await timeline(client)
        later = await task_of(client, "shared", since=moment(20), to=moment(22))

    [shared] = found["tasks"]
    assert shared["state"] == "running"
    assert [each["outcome"] for each in shared["bars"]] == ["SUCCEEDED", "SUCCEEDED", None]
    assert all(each["run_id"] for each in shared["bars"][:2])
    assert shared["bars"][2]["tick"] is not None
    assert [each["outcome"] for each in later["bars"]] == ["SUCCEEDED"]
    assert sorted(each["kind"] for each in found["lines"]) == ["instance joined", "instance joined", "started"]


async def test_what_a_store_that_is_away_would_know_is_said_to_be_missing(loop: VirtualLoop, made: Made) -> None:
    store = Fragile(loop)
    a = made(store=store)
    share(a, nothing, 60, name="shared")
    a.schedule_task(nothing, 60, name="local")
    async with started(a), client_of(a) as client:
        await asyncio.sleep(65)
        store.is_away = True
        await asyncio.sleep(30)
        found = await timeline(client)

    assert "only what this instance knows" in found["partial"]
    assert {each["task"]: len(each["bars"]) for each in found["tasks"]} == {"local": 2, "shared": 2}


async def test_a_long_history_is_thinned_and_an_answer_stays_small(made: Made) -> None:
    scheduler = made(store=None, history=1500)
    for number in range(30):
        scheduler.schedule_task(fail if number % 2 else nothing, 1, name=f"often {number:02}")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(1200)
        answer = await client.http.get("/api/timeline?limit=500")
        alone = await timeline(client, q="often 01", since=moment(10.5), to=moment(20.5))

    found = answer.json()
    assert len(answer.content) <= 300_000
    assert found["thinned"]
    assert len(found["tasks"]) == 30
    for task in found["tasks"]:
        assert sum(each["count"] for each in task["bars"]) == 1201
        assert {each["outcome"] for each in task["bars"]} == {"FAILED" if int(task["task"][-2:]) % 2 else "SUCCEEDED"}
    assert not alone["thinned"]
    assert len(alone["tasks"][0]["bars"]) == 10


@pytest.mark.parametrize(
    ("since", "to"),
    [("0001-01-01T00:00:00Z", None), (None, "9999-12-31T23:59:59Z"), ("9999-12-31T23:59:59Z", None),
     (None, "0001-01-01T00:00:00Z"), ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")],
)  # fmt: skip
async def test_the_ends_of_the_calendar_are_windows_too(
    scheduler: Scheduler, since: str | None, to: str | None
) -> None:
    scheduler.schedule_task(nothing, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="nightly")
    query = {name: each for name, each in (("since", since), ("to", to)) if each}
    async with scheduler, client_of(scheduler) as client:
        found = await timeline(client, **query)

    assert datetime.fromisoformat(found["now"]) == ZERO
