"""What somebody sees in an interactive session, in a debugger and in ``json_repr()``: one short line, and instants."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pydoc import plain, render_doc

import pytest

import kaiju_app
import kaiju_app.scheduler
from kaiju_app import Application, Service
from kaiju_app._core.clock import utc
from kaiju_app.scheduler import ClusterTask, Cron, Every, ExecPolicy, Outcome, Reason, Run, Scheduler, Scope
from support.virtual import VirtualLoop

EIGHT = datetime(2027, 1, 15, 8, tzinfo=UTC)


async def nothing() -> None:
    """Do nothing."""


async def slow() -> None:
    await asyncio.sleep(3)


def run(**facts: object) -> Run:
    """Return a Run of the task ``poll`` that took 0.25 s, with other *facts*."""
    given: dict[str, object] = {
        "task": "poll", "scheduled_at": EIGHT, "last_scheduled_at": EIGHT, "count": 1, "more": False, "due": EIGHT,
        "started_at": EIGHT, "finished_at": EIGHT + timedelta(seconds=0.25), "outcome": Outcome.SUCCEEDED,
        "reason": None, "error": None, "attempts": 1, "delivery": 1, "instance": "x", "fence": None, "manual": False,
    }  # fmt: skip
    return Run(**given | facts)  # type: ignore[arg-type]


SKIPPED = {"outcome": Outcome.SKIPPED, "reason": Reason.MISSED, "finished_at": None}


# --- one line ---


async def test_a_scheduler_shows_its_state_its_tasks_and_its_store(scheduler: Scheduler) -> None:
    assert repr(scheduler) == "<Scheduler not started, no tasks>"
    scheduler.schedule_task(nothing, 60)
    async with scheduler:
        assert repr(scheduler) == "<Scheduler started, 1 task>"
        scheduler.schedule_task(nothing, 60)
        async with scheduler.suspend():
            assert repr(scheduler) == "<Scheduler suspended, 2 tasks>"


def test_a_scheduler_shows_the_address_of_its_store_without_secrets() -> None:
    assert repr(Scheduler("sqlite:///jobs.db")) == "<Scheduler not started, no tasks, sqlite:///jobs.db>"
    assert "hunter2" not in repr(Scheduler("postgresql://me:hunter2@db/shop"))


async def test_a_task_shows_its_rule_its_state_and_its_next_tick(scheduler: Scheduler, loop: VirtualLoop) -> None:
    loop.virtual_clock.step_wall((EIGHT - utc(loop.virtual_clock.wall())).total_seconds())
    poll = scheduler.schedule_task(slow, name="poll", trigger=Every(5))
    daily = scheduler.schedule_task(nothing, name="daily", trigger=Cron("0 6 * * mon-fri", tz="Europe/Berlin"))
    often = scheduler.schedule_task(nothing, 0.25, name="often", policy=ExecPolicy.SKIP)
    assert repr(poll) == "<ScheduledTask 'poll' Every(5) stopped>"
    async with scheduler:
        assert repr(poll) == "<ScheduledTask 'poll' Every(5) waiting, next 08:00:05Z>"
        assert repr(often) == "<ScheduledTask 'often' every 0.25 s waiting, next 08:00:00Z>"
        rule = "Cron('0 6 * * mon-fri', tz='Europe/Berlin')"
        assert repr(daily) == f"<ScheduledTask 'daily' {rule} waiting, next 2027-01-18 05:00:00Z>"
        await asyncio.sleep(6)
        assert repr(poll) == "<ScheduledTask 'poll' Every(5) running, next 08:00:10Z>"
        poll.disable()
        await asyncio.sleep(6)
        assert repr(poll) == "<ScheduledTask 'poll' Every(5) disabled>"


async def test_a_shared_task_shows_that_it_is_one(scheduler: Scheduler) -> None:
    shared = Scheduler("memory://")
    task = shared.schedule_task(nothing, 60, name="report", scope=Scope.CLUSTER)

    assert isinstance(task, ClusterTask)
    assert repr(task) == "<ClusterTask 'report' every 60 s stopped>"


@pytest.mark.realtime
async def test_a_debugger_may_show_a_task_in_a_thread_of_its_own() -> None:
    seen: list[str] = []
    async with Scheduler() as scheduler:
        task = scheduler.schedule_task(nothing, name="poll", trigger=Cron("0 0 1 1 *"))
        here = [repr(each) for each in (task, scheduler, scheduler.tasks)]
        thread = threading.Thread(target=lambda: seen.extend(map(repr, (task, scheduler, scheduler.tasks))))
        thread.start()
        await asyncio.to_thread(thread.join)

    assert seen == here


@pytest.mark.parametrize(
    ("shown", "facts"),
    [
        ("SUCCEEDED in 0.25 s", {}),
        ("SUCCEEDED in 0.25 s, 3 attempts", {"attempts": 3}),
        ("FAILED in 0.25 s: OSError: no route", {"outcome": Outcome.FAILED, "error": "OSError: no route\nmore"}),
        ("FAILED in 0.25 s: " + 80 * "x" + "...", {"outcome": Outcome.FAILED, "error": 99 * "x"}),
        ("CANCELLED (replaced) in 0.25 s", {"outcome": Outcome.CANCELLED, "reason": Reason.REPLACED}),
        ("SKIPPED (missed)", SKIPPED),
        ("SKIPPED (missed), 7 ticks", SKIPPED | {"count": 7}),
        ("SKIPPED (missed), 10000 ticks or more", SKIPPED | {"count": 10_000, "more": True}),
    ],
)  # fmt: skip
def test_a_run_shows_what_happened(shown: str, facts: dict[str, object]) -> None:
    assert repr(run(**facts)) == f"<Run 'poll' 2027-01-15 08:00:00Z {shown}>"


@dataclass
class Cache(Service):
    """A service with much in it, and with a field that ``init()`` has to set."""

    content: dict[int, bytes] = field(default_factory=lambda: {each: bytes(1000) for each in range(1000)})
    late: object = field(init=False)


class Named(Service):
    """A service that shows itself as it likes."""

    def __repr__(self) -> str:
        return "named"


@dataclass
class Derived(Named):
    """One that is derived from it."""


def test_services_and_the_application_show_their_names_and_states() -> None:
    one, two = Cache(), Cache(name="two")
    assert repr(one) == "<Cache, CLOSED>"
    app = Application("shop", [one, two])

    assert [repr(each) for each in app.services] == ["<Cache, CLOSED>", "<Cache 'two', CLOSED>"]
    assert repr(app) == "<Application 'shop', CLOSED: Cache, two>"


def test_a_service_that_shows_itself_in_another_way_keeps_it_and_passes_it_on() -> None:
    assert (repr(Named()), repr(Derived())) == ("named", "named")


# --- help() ---


def enums(module: object, names: list[str]) -> list[type[Enum]]:
    return [each for name in names if isinstance(each := getattr(module, name), type) and issubclass(each, Enum)]


ENUMS = {*enums(kaiju_app, kaiju_app.__all__), *enums(kaiju_app.scheduler, kaiju_app.scheduler.__all__)}


@pytest.mark.parametrize("kind", sorted(ENUMS, key=str))
def test_help_explains_every_member(kind: type[Enum]) -> None:
    help_text = plain(render_doc(kind))

    for member in kind:
        assert f"  {member.name}: " in help_text


# --- instants and instances in json_repr() ---


async def test_instants_are_told_as_text_beside_seconds_of_the_loop(scheduler: Scheduler, loop: VirtualLoop) -> None:
    loop.virtual_clock.step_wall((EIGHT - utc(loop.virtual_clock.wall())).total_seconds())
    task = scheduler.schedule_task(nothing, 60)
    assert (task.json_repr()["called_at"], task.json_repr()["called_at_utc"]) == (None, None)
    async with scheduler:
        await asyncio.sleep(61.5)
        told = json.loads(json.dumps(scheduler.json_repr()))

    assert told["time_utc"] == "2027-01-15T08:01:01.500000+00:00"
    assert told["tasks"][0]["called_at_utc"] == "2027-01-15T08:01:00+00:00"
    assert told["time"] - told["tasks"][0]["called_at"] == pytest.approx(1.5)
