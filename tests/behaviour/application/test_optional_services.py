"""Services that may fail."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from behaviour.application.common import CLOSED, READY, Actor, OnDb, PerhapsOnDb, fails, messages, records, tells
from kaiju_app import Application, Health, Scheduler, service
from kaiju_app.errors import ServiceStartFailed


async def test_an_application_starts_without_an_optional_service_and_says_so(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    web = PerhapsOnDb(journal, name="web")
    parts = [Actor(journal, fails(OSError("no route")), name="db"), web]
    async with Application("shop", parts, scheduler=scheduler, optional_services=["db"]) as app:
        assert app.state is READY
        assert web.db is None
        assert parts[0].state is CLOSED
        await asyncio.sleep(1)
    assert journal == ["init db", "init web", "health web", "post_init web", "close web"]
    [warning] = records(caplog, logging.WARNING)
    assert warning.getMessage().startswith("application 'shop': service 'db' failed in init: OSError: no route.")
    assert "optional" in warning.getMessage()
    assert warning.exc_info is not None
    assert isinstance(warning.exc_info[1], OSError)


async def test_an_optional_service_that_is_there_is_in_the_field(scheduler: Scheduler) -> None:
    web, db = PerhapsOnDb(name="web"), Actor(name="db")
    async with Application("shop", [web, db], scheduler=scheduler, optional_services=["db"]):
        assert web.db is db


async def test_an_optional_service_that_is_not_healthy_is_closed_at_once(
    scheduler: Scheduler, journal: list[str]
) -> None:
    web = PerhapsOnDb(journal, name="web")
    db = Actor(journal, health_=tells(Health(["corrupt"])), name="db")
    async with Application("shop", [web, db], scheduler=scheduler, optional_services=["db"]):
        assert journal == ["init db", "health db", "close db", "init web", "health web"]
        assert web.db is None
        journal.clear()
    assert "close db" not in journal


async def test_who_requires_an_optional_service_that_did_not_start_ends_the_start(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [Actor(journal, fails(OSError()), name="db"), OnDb(journal, name="web")]
    app = Application("shop", parts, scheduler=scheduler, optional_services=["db"])
    with pytest.raises(
        ServiceStartFailed, match=r"'web'.*db needs 'db', which is optional and did not start"
    ) as caught:
        await app.start()
    assert "required=False" in str(caught.value)
    assert caught.value.service == "web"
    assert journal == ["init db"]


async def test_who_requires_an_optional_service_that_did_not_start_is_left_out_if_it_is_optional_too(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @dataclass(eq=False)
    class Front(Actor):
        web: Actor | None = service("web", required=False)

    front = Front(journal, name="front")
    parts = [front, OnDb(journal, name="web"), Actor(journal, fails(OSError()), name="db")]
    async with Application("shop", parts, scheduler=scheduler, optional_services=["db", "web"]):
        assert journal == ["init db", "init front", "health front"]
        assert front.web is None
        assert len(messages(caplog, logging.WARNING)) == 2


@pytest.mark.parametrize("phase", ["init", "health"])
async def test_tasks_of_an_optional_service_that_could_not_start_do_not_run(scheduler: Scheduler, phase: str) -> None:
    """A task that ``init()`` scheduled before it failed would run on a closed service."""

    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(run, 10, (me,), name=f"task of {me.name}")
        if me.name == "db" and phase == "init":
            raise OSError

    async def run(me: Actor) -> None:
        runs.append(me.name)

    runs: list[str] = []
    scheduler.schedule_task(run, 10, (Actor(name="somebody else"),), name="before")
    db = Actor([], schedule, tells(Health(["no"])), name="db")
    app = Application("shop", [Actor([], schedule, name="a"), db], scheduler=scheduler, optional_services=["db"])
    async with app:
        await asyncio.sleep(1)
        assert sorted(runs) == ["a", "somebody else"]
        assert list(scheduler.tasks) == ["before", "task of a"]


async def test_fields_that_were_emptied_are_filled_by_the_next_start(scheduler: Scheduler) -> None:
    web, db = PerhapsOnDb(name="web"), Actor(init_=fails(OSError()), name="db")
    app = Application("shop", [web, db], scheduler=scheduler, optional_services=["db"])
    async with app:
        assert web.db is None
    db.init_ = None
    async with app:
        assert web.db is db
        assert (await app.inspect())["services"][1]["errors"] == []  # type: ignore[index]


async def test_services_that_need_each_other_start_when_one_does_not_wait(
    scheduler: Scheduler, journal: list[str]
) -> None:
    @dataclass(eq=False)
    class Db(Actor):
        web: Actor = service("web", nowait=True)

    parts = [OnDb(journal, name="web"), Db(journal, name="db")]
    async with Application("shop", parts, scheduler=scheduler):
        assert [each for each in journal if "init" in each] == ["init db", "init web"]
        assert parts[1].web is parts[0]  # type: ignore[attr-defined]
