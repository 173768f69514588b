"""Lists of tasks read again only what has changed, and every change is seen at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from behaviour.admin.common import Client, client_of
from behaviour.admin.test_tasks import fail
from behaviour.cluster.common import Made, share, started
from kaiju_app._cluster.store_client import StoreClient
from kaiju_app._engine.upsets import UpsetLog
from kaiju_app.admin._states import State
from kaiju_app.admin._timeline import AT_ONCE
from kaiju_app.admin._timeline_models import MOST_UPCOMING, TimelineTask
from kaiju_app.admin._written import written
from kaiju_app.scheduler import Cron, Scheduler
from kaiju_app.scheduler._glance import Glances
from kaiju_app.scheduler._registry import TaskRegistry
from kaiju_app.triggers._timeline import EvenTimeline, SearchedTimeline
from support.reading import nothing

SORTS = ["next_run_at", "-next_run_at", "last_run_at", "-last_run_at", "state", "-state"]


async def long() -> None:
    await asyncio.sleep(100)


async def check(client: Client, scheduler: Scheduler) -> None:
    """Compare what lists are ordered and filtered by with what the tasks say of themselves."""
    faces = dict(scheduler.tasks.items())
    for sort in SORTS:
        items = (await client.get(f"/api/tasks?sort={sort}"))["items"]
        assert {each["name"] for each in items} == faces.keys()
        for each in items:
            face, due = faces[each["name"]], each["next_run_at"]
            told = each["state"], each["running"], due and datetime.fromisoformat(due)
            assert told == (face.state, face.running, face.next_run_at)
        what = sort.removeprefix("-")
        keys = {
            "state": lambda face: face.state,
            "next_run_at": lambda face: face.next_run_at,
            "last_run_at": lambda face: face.last_run and face.last_run.scheduled_at,
        }
        found = [keys[what](faces[each["name"]]) for each in items]
        known = [each for each in found if each is not None]
        assert found == sorted(known, reverse=sort.startswith("-")) + [None] * (len(found) - len(known)), sort
    for state in {face.state for face in faces.values()}:
        items = (await client.get(f"/api/tasks?state={state}"))["items"]
        assert {each["name"] for each in items} == {name for name, face in faces.items() if face.state == state}
    for outcome in ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED"):
        items = (await client.get(f"/api/tasks?outcome={outcome}"))["items"]
        assert {each["name"] for each in items} == {
            name for name, face in faces.items() if face.last_run is not None and face.last_run.outcome == outcome
        }


async def test_every_change_of_a_local_task_is_seen_at_once(scheduler: Scheduler) -> None:
    for number in range(4):
        scheduler.schedule_task(fail if number % 2 else nothing, 10 + number, name=f"some {number}")
    busy = scheduler.schedule_task(long, 300, name="busy")
    one, two = scheduler.tasks["some 0"], scheduler.tasks["some 1"]
    hold = one.suspend("a test")
    everything = scheduler.suspend("all")
    changes: list[Callable[[], Any]] = [
        lambda: asyncio.sleep(1),
        lambda: asyncio.sleep(12),
        lambda: one.pause("x"),
        lambda: asyncio.sleep(20),
        lambda: one.pause("y", for_s=5),
        lambda: asyncio.sleep(6),
        two.disable,
        lambda: asyncio.sleep(30),
        two.enable,
        lambda: two.run_now(),
        lambda: one.reschedule(500),
        lambda: hold.__aenter__(),
        lambda: hold.__aexit__(None, None, None),
        lambda: busy.cancel("enough"),
        lambda: asyncio.sleep(0.5),
        lambda: everything.__aenter__(),
        lambda: everything.__aexit__(None, None, None),
        lambda: scheduler.tasks["some 2"].remove(),
        lambda: scheduler.schedule_task(nothing, 7, name="some 3", replace=True),
        lambda: scheduler.schedule_task(nothing, 7, name="new"),
        lambda: asyncio.sleep(8),
        lambda: scheduler.stop(),
        lambda: one.pause("z", for_s=5),
        lambda: asyncio.sleep(6),
        lambda: scheduler.start(),
        lambda: asyncio.sleep(1),
    ]
    async with client_of(scheduler) as client:
        await check(client, scheduler)
        await scheduler.start()
        await check(client, scheduler)
        for change in changes:
            done = change()
            if isinstance(done, Awaitable):
                await done
            await check(client, scheduler)
        await scheduler.stop()


async def test_a_change_of_a_cluster_task_is_seen_when_its_instance_knows_it(made: Made) -> None:
    a, b = made(), made()
    for number in range(3):
        share(a, nothing, 10 + number, name=f"shared {number}")
        share(b, nothing, 10 + number, name=f"shared {number}")
    async with started(a, b), client_of(b) as client:
        for _ in range(5):
            await asyncio.sleep(7)
            for sort in ("next_run_at", "-next_run_at"):
                items = (await client.get(f"/api/tasks?sort={sort}"))["items"]
                found = [b.tasks[each["name"]].next_run_at for each in items]
                assert found == sorted(found, reverse=sort.startswith("-"))  # type: ignore[type-var]
        await a.tasks["shared 1"].pause("x")
        await asyncio.sleep(5)
        items = (await client.get("/api/tasks?state=paused"))["items"]

    assert [each["name"] for each in items] == ["shared 1"]


def test_an_answer_that_is_written_in_pieces_is_the_same() -> None:
    task = TimelineTask(
        task="a", task_id="b", state=State.WAITING, bars=[], marks=[], bands=[], upcoming=[], kept_since=None
    )
    pieces = bytes(written(task, bars=["1", "[2]"]).body)

    assert pieces.replace(b'"bars":[1,[2]]', b'"bars":[]') == task.model_dump_json().encode()


class Counted:
    """Counts the calls of a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type, method: str) -> None:
        self.calls = 0
        real = getattr(kind, method)

        def counting(*args: Any, **options: Any) -> Any:
            self.calls += 1
            return real(*args, **options)

        monkeypatch.setattr(kind, method, counting)


async def test_lists_and_timelines_compute_no_tick_that_they_do_not_show(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        scheduler.schedule_task(nothing, 10, name=f"even {number}")
        scheduler.schedule_task(nothing, 10, name=f"spread {number}", jitter_s=5)
        scheduler.schedule_task(nothing, trigger=Cron("*/5 * * * *"), name=f"cron {number}")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(100)
        for path, computed in {
            "/api/tasks?limit=500": 0,
            "/api/tasks?limit=500&sort=last_run_at": 0,
            "/api/tasks?limit=500&outcome=SUCCEEDED": 0,
            "/api/timeline?limit=500": 30 * (MOST_UPCOMING - 1) + 30 * 3,  # Three five minutes are in the window.
        }.items():
            await client.get(path)
            with monkeypatch.context() as patch:
                ticks = [Counted(patch, kind, "next_after_tick") for kind in (EvenTimeline, SearchedTimeline)]
                looks = [Counted(patch, UpsetLog, each) for each in ("of", "latest")]
                await client.get(path)
            assert sum(each.calls for each in ticks) <= computed, path
            assert sum(each.calls for each in looks) <= 2, path


async def test_lists_in_the_order_of_runs_make_only_what_they_show(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """To find the last runs of thousands of shared tasks takes no object for each."""
    scheduler = made()
    for number in range(200):
        share(scheduler, nothing, 10, f"shared {number:03}")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(15)
        for path, most in {"/api/tasks?limit=5&sort=-last_run_at": 20, "/api/scheduler": 0}.items():
            await client.get(path)
            with monkeypatch.context() as patch:
                made_for = Counted(patch, TaskRegistry, "face_of")
                found = await client.get(path)
            assert made_for.calls <= most, path
            assert len(found.get("items", [])) in (0, 5)
            assert found.get("outcomes", {"SUCCEEDED": 200})["SUCCEEDED"] == 200


async def test_a_timeline_reads_no_histories_for_which_it_has_no_room(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = made()
    for number in range(480):
        share(scheduler, nothing, 10, f"shared {number:03}")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(305)
        with monkeypatch.context() as patch:
            read = Counted(patch, StoreClient, "runs")
            page = await client.get("/api/timeline?limit=500")
        shown = [each["task"] for each in page["tasks"]]
        first = len(shown)
        while page["next"] is not None:
            page = await client.get("/api/timeline", params={"limit": 500, "cursor": page["next"]})
            shown += [each["task"] for each in page["tasks"]]

    assert first < 300, "not all have room, however little is shown of each"
    assert read.calls <= 2 * (first + AT_ONCE)
    assert shown == [f"shared {number:03}" for number in range(480)]


async def test_lists_describe_no_task_again_that_has_not_changed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        scheduler.schedule_task(nothing, 1000 + number, name=f"some {number}")
    async with scheduler, client_of(scheduler) as client:
        await asyncio.sleep(100)
        await client.get("/api/tasks?sort=state")
        scheduler.tasks["some 7"].disable()
        described = Counted(monkeypatch, Glances, "_looked_at")
        for sort in SORTS:
            await client.get(f"/api/tasks?sort={sort}")
        await client.get("/api/tasks?outcome=FAILED")

    assert described.calls == 1
