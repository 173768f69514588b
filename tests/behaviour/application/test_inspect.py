"""``inspect()``."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from behaviour.application.common import Act, Actor, Catastrophe, OnDb, cleans_up, fails, holds_on, takes, tells
from kaiju_app import Application, Health, Scheduler, ServiceState
from kaiju_app.errors import InvalidArgument, ServiceStartFailed
from support.reading import nothing, now_s


def services_of(shown: dict[str, Any]) -> list[dict[str, Any]]:
    json.dumps(shown, allow_nan=False)
    services: list[dict[str, Any]] = shown["services"]
    return services


async def test_inspect_tells_of_everything_before_during_and_after(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 10, name="refresh")
    parts = [OnDb(health_=tells(Health(stats={"requests": 7})), name="web"), Actor(name="db")]
    app = Application("shop", parts, scheduler=scheduler, optional_services=["db"])
    before = await app.inspect()
    json.dumps(before, allow_nan=False)
    assert (before["name"], before["state"], before["healthy"]) == ("shop", "CLOSED", False)
    assert [each["state"] for each in services_of(before)] == ["CLOSED", "CLOSED"]

    async with app:
        during = await app.inspect()
        assert services_of(during) == [
            {
                "name": "web", "type": "OnDb", "state": "READY", "optional": False, "needs": ["db"], "healthy": True,
                "errors": [], "stats": {"requests": 7},
            },
            {
                "name": "db", "type": "Actor", "state": "READY", "optional": True, "needs": [], "healthy": True,
                "errors": [], "stats": {},
            },
        ]  # fmt: skip
        assert during["healthy"] is True
        assert during["scheduler"] == scheduler.json_repr()
        assert during["scheduler"]["tasks"][0]["name"] == "refresh"  # type: ignore[index]

    after = await app.inspect()
    assert (after["state"], after["healthy"]) == ("CLOSED", False)
    assert [each["healthy"] for each in services_of(after)] == [False, False]


async def test_inspect_answers_while_it_starts_and_while_it_stops_without_asking_who_is_not_ready(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, takes(5), close_=takes(5), name="a")], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    shown = await app.inspect()
    assert (shown["state"], services_of(shown)[0]["state"]) == ("STARTING", "STARTING")
    await starting
    stopping = asyncio.create_task(app.stop())
    await asyncio.sleep(1)
    shown = await app.inspect()
    assert (shown["state"], services_of(shown)[0]["state"]) == ("CLOSING", "CLOSING")
    await stopping
    assert journal.count("health a") == 1


class Odd:
    def __str__(self) -> str:
        return "odd key"

    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    "stats",
    [
        {"at": datetime(2027, 1, 1, tzinfo=UTC), "for": timedelta(1)},
        {"nan": float("nan"), "inf": [float("inf"), -float("inf")]},
        {"money": Decimal("1.5"), "set": {1}, "frozen": frozenset({2}), "bytes": b"x", "tuple": (1, [2, {3}])},
        {1: "one", None: "none", (1, 2): "pair", Odd(): "odd"},
        {"deep": {"deeper": {"deepest": [{"x": object()}]}}},
        {"odd": Odd(), "state": ServiceState.READY, "error": OSError("x"), "complex": 1j},
        {"text": "\ud800", "none": None, "true": True, "big": 10**400},
        None,
        [1, 2],
    ],
    ids=["time", "nan", "odd values", "odd keys", "deep", "odd objects", "odd scalars", "none", "list"],
)
async def test_stats_of_every_kind_become_json(scheduler: Scheduler, stats: Any) -> None:
    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = tells(Health(stats=stats))
        [shown] = services_of(await app.inspect())
        assert shown["healthy"] is True
        assert shown["errors"] == []


async def test_stats_show_text_for_what_json_does_not_know(scheduler: Scheduler) -> None:
    stats = {"nan": float("nan"), "set": {1}, 2: "two", "money": Decimal("1.5")}
    async with Application("shop", [Actor(health_=tells(Health(stats=stats)))], scheduler=scheduler) as app:
        [shown] = services_of(await app.inspect())
    assert shown["stats"] == {"nan": None, "set": [1], "2": "two", "money": "Decimal('1.5')"}


async def test_stats_that_contain_themselves_are_an_error_of_that_service_only(scheduler: Scheduler) -> None:
    circle: dict[str, object] = {}
    circle["me"] = circle
    one, two = Actor(name="a"), Actor(name="b")
    async with Application("shop", [one, two], scheduler=scheduler) as app:
        one.health_ = tells(Health(stats=circle))
        shown = services_of(await app.inspect())
        assert [each["healthy"] for each in shown] == [False, True]


async def test_errors_that_are_exceptions_are_shown_as_text(scheduler: Scheduler) -> None:
    """``Health([exc])`` is easily written in an ``except`` clause."""
    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = tells(Health([OSError("gone")]))  # type: ignore[list-item]
        [shown] = services_of(await app.inspect())
        assert shown["healthy"] is False
        assert "gone" in shown["errors"][0]


async def test_errors_that_are_exceptions_are_told_by_a_failed_start(scheduler: Scheduler) -> None:
    one = Actor(health_=tells(Health([OSError("disk is gone")])), name="a")  # type: ignore[list-item]
    with pytest.raises(ServiceStartFailed, match=r"'a' failed in health: .*disk is gone"):
        await Application("shop", [one], scheduler=scheduler).start()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (fails(OSError("gone")), "health() raised OSError: gone"),
        (fails(asyncio.CancelledError()), "health() was cancelled"),
        (fails(Catastrophe("boom")), "health() raised Catastrophe: boom"),
        (tells(None), "health() returned None, which is not a Health: return Health(errors=[...])"),
        (tells(True), "health() returned True, which is not a Health: return Health(errors=[...])"),
        (tells(Health(["no disk"])), "no disk"),
        (takes(1000), "health() did not answer within 5 s"),
        (holds_on(1000), "health() did not answer within 5 s"),
    ],
)
async def test_a_service_that_does_not_answer_properly_is_shown_as_not_healthy(
    scheduler: Scheduler, answer: Act, text: str
) -> None:
    one, two = Actor(name="a"), Actor(name="b")
    async with Application("shop", [one, two], scheduler=scheduler) as app:
        one.health_ = answer
        shown = await app.inspect()
        assert now_s() <= 5
        first, second = services_of(shown)
        assert first["errors"] == [text]
        assert (first["healthy"], second["healthy"], shown["healthy"]) == (False, True, False)


async def test_an_optional_service_does_not_make_the_application_unhealthy(scheduler: Scheduler) -> None:
    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler, optional_services=["a"]) as app:
        one.health_ = tells(Health(["no"]))
        shown = await app.inspect()
        assert shown["healthy"] is True
        assert services_of(shown)[0]["healthy"] is False


async def test_an_optional_service_that_could_not_start_is_shown_with_why(scheduler: Scheduler) -> None:
    one = Actor(init_=fails(OSError("no route")), name="a")
    async with Application("shop", [one], scheduler=scheduler, optional_services=["a"]) as app:
        shown = await app.inspect()
        [a] = services_of(shown)
        assert (a["state"], a["healthy"], shown["healthy"]) == ("CLOSED", False, True)
        assert "OSError: no route" in a["errors"][0]


async def test_all_services_are_asked_at_once_within_the_limit(scheduler: Scheduler) -> None:
    parts = [Actor(name=name) for name in "abc"]
    async with Application("shop", parts, scheduler=scheduler) as app:
        for each in parts:
            each.health_ = takes(3)
        with pytest.raises(AssertionError):
            assert services_of(await app.inspect(timeout_s=5))[0]["healthy"] is True  # Not a Health.
        assert now_s() == 3
        shown = services_of(await app.inspect(timeout_s=timedelta(seconds=1)))
        assert now_s() == 4
        assert [each["errors"] for each in shown] == [["health() did not answer within 1 s"]] * 3


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "5", True, None])
async def test_inspect_refuses_a_limit_that_is_none(scheduler: Scheduler, timeout_s: Any) -> None:
    with pytest.raises(InvalidArgument, match="timeout_s"):
        await Application("shop", scheduler=scheduler).inspect(timeout_s)


@pytest.mark.parametrize("answer", [takes(1000), holds_on(60), cleans_up(30)], ids=["hangs", "mule", "cleans up"])
async def test_however_often_it_is_asked_a_service_is_never_asked_twice_at_once(
    scheduler: Scheduler, answer: Act
) -> None:
    active = most = asked = 0

    async def count(me: Actor) -> Health:
        nonlocal active, most, asked
        asked += 1
        active += 1
        most = max(most, active)
        try:
            await answer(me)
        finally:
            active -= 1
        return Health()

    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = count
        for _ in range(4):
            began = now_s()
            shown = await asyncio.gather(*(app.inspect(timeout_s=2) for _ in range(3)))
            assert now_s() - began <= 2
            assert [each["healthy"] for each in shown] == [False] * 3
        await asyncio.sleep(100)
        one.health_ = None
        assert (await app.inspect())["healthy"] is True
    assert most == 1
    assert asked <= 4


async def test_those_who_ask_meanwhile_get_the_same_answer(scheduler: Scheduler) -> None:
    async def slow(_: Actor) -> Health:
        await asyncio.sleep(3)
        return Health(stats={"at": now_s()})

    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = slow
        first = asyncio.create_task(app.inspect())
        await asyncio.sleep(1)
        second = asyncio.create_task(app.inspect())
        await asyncio.wait([first, second])
        assert [services_of(each.result())[0]["stats"] for each in (first, second)] == [{"at": 3}] * 2


async def test_cancelling_one_who_asks_does_not_take_the_answer_from_another(scheduler: Scheduler) -> None:
    async def slow(_: Actor) -> Health:
        await asyncio.sleep(3)
        return Health()

    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = slow
        first, second = asyncio.create_task(app.inspect()), asyncio.create_task(app.inspect())
        await asyncio.sleep(1)
        first.cancel()
        assert (await second)["healthy"] is True
        assert first.cancelled()


async def test_who_has_no_patience_does_not_take_the_answer_from_those_who_have(scheduler: Scheduler) -> None:
    """A probe with a limit of half a second must not make a dashboard show the service as unhealthy."""

    async def slow(_: Actor) -> Health:
        await asyncio.sleep(3)
        return Health()

    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = slow
        patient = asyncio.create_task(app.inspect(10))
        assert (await app.inspect(0.5))["healthy"] is False
        assert (await patient)["healthy"] is True


@pytest.mark.usefixtures("quiet")
async def test_no_health_check_goes_on_when_services_close(scheduler: Scheduler, journal: list[str]) -> None:
    async def slow(me: Actor) -> Health:
        try:
            await asyncio.sleep(4)
        finally:
            me.journal.append("asked")
        return Health()

    one = Actor(journal, name="a")
    app = Application("shop", [one], scheduler=scheduler)
    await app.start()
    one.health_ = slow
    asking = asyncio.create_task(app.inspect())
    await asyncio.sleep(1)
    journal.clear()
    await app.stop()
    assert journal == ["asked", "close a"]
    await asking


async def test_the_repr_of_an_application_names_it_and_its_services(scheduler: Scheduler) -> None:
    app = Application("shop", [Actor(name="a"), Actor(name="b")], scheduler=scheduler)
    assert repr(app) == "<Application 'shop', CLOSED: a, b>"
    async with app:
        assert "READY" in repr(app)
