"""Lists of tasks read again only what has changed, and every change is seen at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from behaviour.admin.common import Client, client_of
from behaviour.admin.test_tasks import fail
from behaviour.cluster.common import Made, share, started
from kaiju_app.admin._states import State
from kaiju_app.admin._timeline_models import TimelineTask
from kaiju_app.admin._written import written
from kaiju_app.scheduler import Scheduler
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
    task = TimelineTask(task="a", task_id="b", state=State.WAITING, bars=[], marks=[], bands=[], upcoming=[])
    pieces = bytes(written(task, bars=["1", "[2]"]).body)

    assert pieces.replace(b'"bars":[1,[2]]', b'"bars":[]') == task.model_dump_json().encode()
