"""``post_init()``, in the background."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from behaviour.application.common import (
    READY,
    Actor,
    Catastrophe,
    cleans_up,
    fails,
    holds_on,
    messages,
    records,
    takes,
    tells,
)
from kaiju_app import Application, Health, Scheduler, ServiceState
from support.reading import now_s


async def test_post_init_of_all_services_goes_on_together_while_the_application_is_ready(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[float] = []

    async def warm_up(me: Actor) -> None:
        await asyncio.sleep(50)
        done.append(now_s())
        assert me.app.state is READY

    async with Application("shop", [Actor([], post_init_=warm_up) for _ in range(3)], scheduler=scheduler):
        assert now_s() == 0
        await asyncio.sleep(60)
    assert done == [50, 50, 50]
    assert records(caplog, logging.ERROR) == []


async def test_a_post_init_that_fails_is_logged_once_and_shown_and_harms_nothing_else(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = [
        Actor(journal, post_init_=fails(OSError("no index")), name="a"),
        Actor(journal, post_init_=takes(5), name="b"),
    ]
    async with Application("shop", parts, scheduler=scheduler) as app:
        await asyncio.sleep(10)
        shown = await app.inspect()
    assert shown["healthy"] is False
    a, b = shown["services"]  # type: ignore[misc]
    assert a["errors"] == ["post_init: OSError: no index"]
    assert a["state"] == "READY"
    assert a["healthy"] is False
    assert b["healthy"] is True
    [error] = records(caplog, logging.ERROR)
    assert "application 'shop': service 'a' failed in post_init: OSError: no index" in error.getMessage()
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], OSError)


@pytest.mark.parametrize("error", [Catastrophe("boom"), asyncio.CancelledError()])
async def test_whatever_post_init_raises_is_told(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async with Application("shop", [Actor(post_init_=fails(error), name="a")], scheduler=scheduler) as app:
        await asyncio.sleep(1)
        assert (await app.inspect())["healthy"] is False
    assert len(messages(caplog, logging.ERROR)) == 1


async def test_a_post_init_that_takes_too_long_is_cancelled_and_named_with_where_it_was(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    async def build_the_index(_: Actor) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(now_s())

    ends: list[float] = []
    parts = [Actor(post_init_=build_the_index, name="a")]
    async with Application("shop", parts, scheduler=scheduler, post_init_timeout_s=timedelta(minutes=2)) as app:
        await asyncio.sleep(200)
        assert ends == [120]
        assert (await app.inspect())["services"][0]["errors"] == ["post_init: not done within 120 s"]  # type: ignore[index]
    [error] = messages(caplog, logging.ERROR)
    assert "service 'a' failed in post_init: not done within 120 s" in error
    assert "in build_the_index" in error


async def test_stop_cancels_post_init_before_services_close(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def warm_up(me: Actor) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            me.journal.append(f"warm {me.name}")

    app = Application("shop", [Actor(journal, post_init_=warm_up, name=name) for name in "ab"], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    journal.clear()
    assert await app.stop() == []
    assert now_s() == 3
    assert sorted(journal[:2]) == ["warm a", "warm b"]
    assert journal[2:] == ["close b", "close a"]
    assert records(caplog, logging.ERROR) == []


async def test_a_post_init_does_not_begin_when_a_stop_has_begun(scheduler: Scheduler) -> None:
    seen: list[ServiceState] = []

    async def look(me: Actor) -> None:
        seen.append(me.app.state)

    async with Application("shop", [Actor(post_init_=look)], scheduler=scheduler):
        pass
    assert set(seen) <= {READY}


async def test_a_post_init_that_does_not_give_way_is_given_up_and_told(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = Application("shop", [Actor(journal, post_init_=holds_on(60), name="mule")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    problems = await app.stop()
    assert now_s() == 6
    assert journal[-1] == "close mule"
    [error] = messages(caplog, logging.ERROR)
    assert "service 'mule' failed in post_init" in error
    assert "abandoned" in error
    assert "in stubborn" in error
    assert [problem for problem in problems if "mule" in problem], "stop() returns what did not end in order"


async def test_what_a_post_init_raises_while_it_is_cancelled_is_not_lost(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application("shop", [Actor(post_init_=cleans_up(1, OSError("no flush")), name="a")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    await app.stop()
    assert "OSError: no flush" in "".join(messages(caplog, logging.ERROR))


async def test_post_init_of_a_service_that_did_not_start_is_not_called(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [Actor(journal, fails(OSError()), name="a"), Actor(journal, health_=tells(Health(["no"])), name="b")]
    async with Application("shop", parts, scheduler=scheduler, optional_services=["a", "b"]):
        await asyncio.sleep(1)
    assert journal == ["init a", "init b", "health b", "close b"]
