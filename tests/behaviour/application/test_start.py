"""An application that starts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from behaviour.application.common import CLOSED, CLOSING, READY, STARTING, Act, Actor, OnDb, fails, messages, takes
from kaiju_app import Application, Health, Scheduler, ServiceState, service
from support.reading import nothing, now_s, starts_s


async def test_services_start_one_after_the_other_in_the_order_of_their_needs(
    scheduler: Scheduler, journal: list[str]
) -> None:
    @dataclass(eq=False)
    class OnApi(Actor):
        api: Actor = service("api")

    parts = [
        OnApi(journal, takes(1), name="web"),
        OnDb(journal, takes(1), name="api"),
        Actor(journal, takes(1), name="log"),
        Actor(journal, takes(1), name="db"),
    ]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()

    assert now_s() == 4
    assert [each.name for each in app.services] == ["web", "api", "log", "db"]
    assert journal == [f"{phase} {name}" for name in ("log", "db", "api", "web") for phase in ("init", "health")]
    await app.stop()
    assert [each for each in journal if "close" in each] == ["close web", "close api", "close db", "close log"]


async def test_services_that_do_not_need_each_other_start_in_the_order_in_which_they_were_added(
    scheduler: Scheduler, journal: list[str]
) -> None:
    names = ["zebra", "ape", "mule", "cat"]
    app = Application("shop", [Actor(journal, name=name) for name in names[:2]], scheduler=scheduler)
    app.add_services(*[Actor(journal, name=name) for name in names[2:]])
    async with app:
        assert [each for each in journal if "init" in each] == [f"init {name}" for name in names]


async def test_what_a_service_needs_is_in_its_field_and_ready_when_its_init_begins(scheduler: Scheduler) -> None:
    seen: list[object] = []

    async def look(me: Actor) -> None:
        assert isinstance(me, OnDb)
        seen.append((me.db is db, me.db.state, me.state, me.app.state))

    db = Actor(name="db")
    async with Application("shop", [OnDb([], look, name="api"), db], scheduler=scheduler):
        assert seen == [(True, READY, STARTING, STARTING)]


async def test_states_tell_where_services_and_application_are(scheduler: Scheduler) -> None:
    seen: list[tuple[str, ServiceState, ServiceState]] = []

    def note(phase: str) -> Act:
        async def act(me: Actor) -> Health:
            seen.append((phase, me.state, me.app.state))
            return Health()

        return act

    one = Actor([], *(note(phase) for phase in ("init", "health", "post_init", "close")))
    app = Application("shop", [one], scheduler=scheduler)
    assert (one.state, app.state) == (CLOSED, CLOSED)
    async with app:
        assert (one.state, app.state) == (READY, READY)
        await asyncio.sleep(0.01)

    assert (one.state, app.state) == (CLOSED, CLOSED)
    assert seen == [
        ("init", STARTING, STARTING),
        ("health", STARTING, STARTING),
        ("post_init", READY, READY),
        ("close", CLOSING, CLOSING),
    ]


@pytest.mark.smoke
async def test_tasks_scheduled_in_init_do_not_run_before_ready_and_start_at_once_then(scheduler: Scheduler) -> None:
    seen: list[tuple[float, ServiceState]] = []

    async def run() -> None:
        seen.append((now_s(), app.state))

    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(run, 10)

    app = Application("shop", [Actor([], schedule), Actor([], takes(25))], scheduler=scheduler)
    async with app:
        await asyncio.sleep(11)

    assert seen == [(25, READY), (35, READY)]


async def test_a_task_scheduled_while_it_is_ready_starts_at_once(scheduler: Scheduler) -> None:
    async with Application("shop", scheduler=scheduler) as app:
        await asyncio.sleep(3)
        task = app.scheduler.schedule_task(nothing, 10)
        await asyncio.sleep(11)
        assert starts_s(task) == [3, 13]


async def test_an_application_without_services_is_a_scheduler_with_a_name(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(nothing, 10)
    async with Application("shop", scheduler=scheduler) as app:
        await asyncio.sleep(15)
        assert app.scheduler is scheduler
    assert starts_s(task) == [0, 10]
    assert not scheduler.started


async def test_being_ready_is_told_once_with_figures(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(nothing, 10)
    services = [Actor([], takes(2)), Actor(name="bad", init_=fails(OSError()))]
    app = Application("shop", services, scheduler=scheduler, optional_services=["bad"])
    async with app:
        assert messages(caplog, logging.INFO) == ["application 'shop' is READY after 2.000 s, services: 1, tasks: 1"]
    assert messages(caplog, logging.INFO)[1:] == ["application 'shop' is CLOSED"]
