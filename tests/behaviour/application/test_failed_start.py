"""A start that fails, or is cancelled or interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Any

import pytest

from behaviour.application.common import (
    CLOSED,
    CLOSING,
    READY,
    Act,
    Actor,
    Catastrophe,
    PerhapsOnDb,
    cleans_up,
    fails,
    holds_on,
    messages,
    takes,
    tells,
)
from kaiju_app import Application, Health, Scheduler
from kaiju_app.application._phase_runner import PROMPT_S
from kaiju_app.errors import ServiceStartFailed, WrongState
from support.reading import nothing, now_s
from support.virtual import VirtualLoop


def obeys_by_returning(_: Actor) -> Awaitable[Any]:
    async def act() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    return act()


async def test_a_failed_start_closes_what_was_started_in_reverse_and_leaves_closed_behind(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [
        Actor(journal, name="a"),
        Actor(journal, name="b"),
        Actor(journal, fails(OSError("no route")), name="c"),
        Actor(journal, name="d"),
    ]
    app = Application("shop", parts, scheduler=scheduler)
    with pytest.raises(ServiceStartFailed) as caught:
        await app.start()

    assert journal == ["init a", "health a", "init b", "health b", "init c", "close b", "close a"]
    assert app.state is CLOSED
    assert not scheduler.started
    assert {each.state for each in parts} == {CLOSED}
    assert (caught.value.service, caught.value.phase) == ("c", "init")
    assert isinstance(caught.value.__cause__, OSError)
    assert str(caught.value) == (
        "application 'shop': service 'c' failed in init: OSError: no route. "
        "Fix the cause; if the application can run without it, pass optional_services=['c']"
    )
    assert await app.stop() == []


async def test_an_application_that_failed_to_start_can_be_repaired_and_started(
    scheduler: Scheduler, journal: list[str]
) -> None:
    bad = Actor(journal, fails(OSError()), name="bad")
    app = Application("shop", [Actor(journal, name="a"), bad], scheduler=scheduler)
    with pytest.raises(ServiceStartFailed):
        await app.start()
    journal.clear()
    bad.init_ = None
    async with app:
        assert journal == ["init a", "health a", "init bad", "health bad"]


async def test_a_failed_start_leaves_no_task_of_its_own_and_every_other_one(scheduler: Scheduler) -> None:
    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(nothing, 10, name="mine")

    scheduler.schedule_task(nothing, 10, name="before")
    app = Application("shop", [Actor([], schedule), Actor(init_=fails(OSError()))], scheduler=scheduler)
    for _ in range(2):
        with pytest.raises(ServiceStartFailed, match="OSError"):
            await app.start()
        assert list(scheduler.tasks) == ["before"]


async def test_an_init_that_takes_too_long_is_cancelled_and_named_with_where_it_was(
    scheduler: Scheduler, journal: list[str]
) -> None:
    async def wait_for_the_broker(_: Actor) -> None:
        await asyncio.Event().wait()

    parts = [Actor(journal, name="a"), Actor(journal, wait_for_the_broker, name="slow")]
    app = Application("shop", parts, scheduler=scheduler, service_start_timeout_s=7)
    with pytest.raises(ServiceStartFailed) as caught:
        await app.start()

    assert now_s() == 7
    assert journal == ["init a", "health a", "init slow", "close a"]
    assert "service 'slow' failed in init: not done within 7 s" in str(caught.value)
    assert "service_start_timeout_s" in str(caught.value)
    assert "optional_services=['slow']" in str(caught.value)
    assert "in wait_for_the_broker" in str(caught.value)


async def test_init_and_the_first_health_check_share_one_limit(scheduler: Scheduler, journal: list[str]) -> None:
    one = Actor(journal, takes(6), takes(6), name="one")
    app = Application("shop", [one], scheduler=scheduler, service_start_timeout_s=10)
    with pytest.raises(ServiceStartFailed, match="'one' failed in health: not done within 10 s"):
        await app.start()
    assert now_s() == 10
    assert journal == ["init one", "health one", "close one"]


async def test_the_limit_counts_for_each_service_and_the_default_is_30_seconds(scheduler: Scheduler) -> None:
    parts = [Actor([], takes(29)), Actor([], takes(29)), Actor([], takes(31), name="slow")]
    with pytest.raises(ServiceStartFailed, match="'slow' failed in init: not done within 30 s"):
        await Application("shop", parts, scheduler=scheduler).start()
    assert now_s() == 29 + 29 + 30


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (tells(Health(["disk is full", "no replica"])), "failed in health: disk is full; no replica. Fix"),
        (fails(OSError("gone")), "failed in health: OSError: gone. Fix"),
        (tells(True), "failed in health: health() returned True, which is not a Health"),
        (tells(None), "failed in health: health() returned None, which is not a Health"),
        (tells({"ok": True}), "failed in health: health() returned {'ok': True}, which is not a Health"),
        (fails(asyncio.CancelledError()), "failed in health: it raised CancelledError by itself"),
        (fails(Catastrophe("boom")), "failed in health: Catastrophe: boom"),
    ],
)
async def test_a_service_that_is_not_healthy_after_init_is_closed_and_ends_the_start(
    scheduler: Scheduler, journal: list[str], answer: Act, text: str
) -> None:
    app = Application("shop", [Actor(journal, None, answer, name="one")], scheduler=scheduler)
    with pytest.raises(ServiceStartFailed) as caught:
        await app.start()
    assert f"application 'shop': service 'one' {text}" in str(caught.value)
    assert caught.value.phase == "health"
    assert journal == ["init one", "health one", "close one"]


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (fails(asyncio.CancelledError()), "failed in init: it raised CancelledError by itself"),
        (fails(Catastrophe("boom")), "failed in init: Catastrophe: boom"),
        (fails(TimeoutError("its own")), "failed in init: TimeoutError: its own. Fix"),
        (fails(ExceptionGroup("two", [OSError(), ValueError()])), "failed in init: ExceptionGroup: two"),
    ],
)
async def test_whatever_init_raises_ends_the_start_and_is_told(scheduler: Scheduler, act: Act, text: str) -> None:
    app = Application("shop", [Actor([], act, name="one")], scheduler=scheduler)
    with pytest.raises(ServiceStartFailed) as caught:
        await app.start()
    assert f"application 'shop': service 'one' {text}" in str(caught.value)
    assert app.state is CLOSED


async def test_an_init_that_returns_when_its_time_is_over_is_late_but_has_returned_and_is_closed(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, obeys_by_returning, name="one")], scheduler=scheduler)
    with pytest.raises(ServiceStartFailed, match="'one' failed in init: not done within 30 s"):
        await app.start()
    assert journal == ["init one", "close one"]


async def test_what_an_init_raises_when_its_time_is_over_is_told_too(scheduler: Scheduler) -> None:
    act = cleans_up(1, RuntimeError("roll back failed"))
    app = Application("shop", [Actor([], act, name="one")], scheduler=scheduler)
    with pytest.raises(ServiceStartFailed, match="not done within 30 s, then RuntimeError: roll back failed") as caught:
        await app.start()
    assert now_s() == 31
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_an_init_that_does_not_give_way_is_given_up_after_the_grace(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = [Actor(journal, name="a"), Actor(journal, holds_on(100), name="mule")]
    app = Application("shop", parts, scheduler=scheduler)
    with pytest.raises(ServiceStartFailed, match="did not stop and was abandoned") as caught:
        await app.start()

    assert now_s() == 35
    assert app.state is CLOSED
    assert "in stubborn" in str(caught.value)
    assert journal == ["init a", "health a", "init mule", "close a"]
    assert messages(caplog, logging.WARNING) == []
    await asyncio.sleep(100)
    assert len(messages(caplog, logging.WARNING)) == 1
    assert "application 'shop': service 'mule': an abandoned phase has ended" in messages(caplog, logging.WARNING)[0]


async def test_a_service_that_was_given_up_does_not_go_on_as_if_it_had_started(
    scheduler: Scheduler, journal: list[str]
) -> None:
    """Its ``init()`` returns long after it was abandoned, while another service starts."""
    mule = Actor(journal, holds_on(40), name="db")
    web = PerhapsOnDb(journal, takes(20), name="web")
    app = Application("shop", [mule, web], scheduler=scheduler, optional_services=["db"])
    async with app:
        assert web.db is None
        await asyncio.sleep(1)
        assert mule.state is CLOSED
        assert "post_init db" not in journal
        assert "post_init web" in journal


async def test_a_second_start_is_refused_and_disturbs_nothing(scheduler: Scheduler, journal: list[str]) -> None:
    app = Application("shop", [Actor(journal, takes(5), close_=takes(5))], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    with pytest.raises(WrongState, match="'shop' is STARTING"):
        await app.start()
    await starting
    with pytest.raises(WrongState, match="'shop' is READY"):
        await app.start()
    stopping = asyncio.create_task(app.stop())
    await asyncio.sleep(1)
    with pytest.raises(WrongState, match="'shop' is CLOSING"):
        await app.start()
    await stopping
    assert journal == ["init Actor", "health Actor", "post_init Actor", "close Actor"]


async def test_a_scheduler_that_is_started_already_is_refused_before_any_service_starts(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal)], scheduler=scheduler)
    async with scheduler:
        with pytest.raises(WrongState, match="the scheduler of application 'shop' is started already"):
            await app.start()
    assert journal == []
    assert app.state is CLOSED
    async with app:
        assert app.state is READY


async def test_a_scheduler_that_a_service_starts_behind_its_back_ends_the_start(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, lambda me: me.app.scheduler.start())], scheduler=scheduler)
    with pytest.raises(WrongState):
        await app.start()
    assert app.state is CLOSED
    assert not scheduler.started
    assert journal == ["init Actor", "health Actor", "close Actor"]


@pytest.mark.smoke
@pytest.mark.parametrize("phase", ["init_", "health_"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_during_the_start_closes_everything_and_goes_on(
    loop: VirtualLoop, scheduler: Scheduler, journal: list[str], phase: str, error: type[BaseException]
) -> None:
    parts = [Actor(journal, name="a"), Actor(journal, **{phase: fails(error())}, name="b"), Actor(journal, name="c")]
    app = Application("shop", parts, scheduler=scheduler, optional_services=["b"])
    with pytest.raises(error):
        loop.run_until_complete(app.start())
    assert app.state is CLOSED
    expected = {"init_": ["init b"], "health_": ["init b", "health b", "close b"]}[phase]
    assert journal == ["init a", "health a", *expected, "close a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_from_close_goes_on_after_everything_was_closed(
    loop: VirtualLoop, scheduler: Scheduler, journal: list[str], error: type[BaseException]
) -> None:
    parts = [
        Actor(journal, name="a"),
        Actor(journal, close_=fails(error()), name="b"),
        Actor(journal, close_=fails(OSError()), name="c"),
    ]
    app = Application("shop", parts, scheduler=scheduler)
    loop.run_until_complete(app.start())
    journal.clear()
    with pytest.raises(error):
        loop.run_until_complete(app.stop())
    assert app.state is CLOSED
    assert [each for each in journal if "close" in each] == ["close c", "close b", "close a"]


def test_an_exit_from_close_of_an_optional_service_that_could_not_start_is_not_lost(
    loop: VirtualLoop, scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [
        Actor(journal, name="a"),
        Actor(journal, health_=tells(Health(["no"])), close_=fails(SystemExit(3)), name="b"),
    ]
    app = Application("shop", parts, scheduler=scheduler, optional_services=["b"])
    with pytest.raises(SystemExit):
        loop.run_until_complete(app.start())
    assert app.state is CLOSED
    assert journal == ["init a", "health a", "init b", "health b", "close b", "close a"]


def test_an_exit_from_post_init_ends_the_loop_and_the_application_can_still_be_stopped(
    loop: VirtualLoop, scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, post_init_=fails(SystemExit(3)))], scheduler=scheduler)

    async def main() -> None:
        await app.start()
        await asyncio.sleep(1)

    with pytest.raises(SystemExit):  # asyncio does this for every task.
        loop.run_until_complete(main())
    assert app.state is READY
    loop.run_until_complete(app.stop())
    assert journal[-1] == "close Actor"


@pytest.mark.usefixtures("quiet")
async def test_cancelling_the_start_ends_it_in_order(scheduler: Scheduler, journal: list[str]) -> None:
    parts = [Actor(journal, name="a"), Actor(journal, cleans_up(2), name="b"), Actor(journal, name="c")]
    app = Application("shop", parts, scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    starting.cancel()
    await asyncio.wait([starting])

    assert starting.cancelled()
    assert now_s() == 3
    assert app.state is CLOSED
    assert journal == ["init a", "health a", "init b", "close a"]


async def test_cancelling_the_start_of_a_service_that_is_optional_ends_the_start(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [Actor(journal, cleans_up(0), name="a"), Actor(journal, name="b")]
    app = Application("shop", parts, scheduler=scheduler, optional_services=["a"])
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert journal == ["init a"]


async def test_a_cancelled_start_waits_no_longer_than_the_grace_and_a_second_cancel_ends_that(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    for cancels, end in [([1], 6), ([1, 2], 3 + PROMPT_S)]:
        began = now_s()
        app = Application("shop", [Actor([], holds_on(20), name="mule")], scheduler=scheduler)
        starting = asyncio.create_task(app.start())
        for _ in cancels:
            await asyncio.sleep(1 if len(cancels) == 1 else 1.5)
            starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        assert now_s() - began == pytest.approx(end)
        assert app.state is CLOSED
        error = messages(caplog, logging.ERROR)[-1]
        assert "application 'shop': service 'mule': init() was cancelled, did not stop and was abandoned" in error
        assert "in stubborn" in error
        await asyncio.sleep(30)


async def test_a_time_limit_around_the_start_works_as_around_anything(scheduler: Scheduler, journal: list[str]) -> None:
    app = Application("shop", [Actor(journal, name="a"), Actor(journal, takes(20), name="b")], scheduler=scheduler)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await app.start()
    assert now_s() == 5
    assert journal == ["init a", "health a", "init b", "close a"]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_a_cancellation_while_a_failed_start_is_closing_cuts_that_short_and_the_failure_is_told(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [
        Actor(journal, name="a"),
        Actor(journal, close_=cleans_up(0), name="b"),
        Actor(journal, fails(OSError("no")), name="c"),
    ]
    app = Application("shop", parts, scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    assert app.state is CLOSING
    starting.cancel()
    with pytest.raises(ServiceStartFailed, match="'c' failed in init: OSError: no"):
        await starting
    assert now_s() == 1
    assert journal[-2:] == ["close b", "close a"]


@pytest.mark.smoke
@pytest.mark.parametrize("turns", range(14))
async def test_a_start_cancelled_at_any_turn_of_the_loop_closes_what_was_started(
    scheduler: Scheduler, journal: list[str], turns: int
) -> None:
    app = Application("shop", [Actor(journal, name=name) for name in "abc"], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    if not starting.cancelled():
        assert starting.exception() is None
        await app.stop()
    assert app.state is CLOSED
    assert now_s() == 0
    inits = [each.removeprefix("init ") for each in journal if "init " in each and "post" not in each]
    closes = [each.removeprefix("close ") for each in journal if "close" in each]
    assert closes == list(reversed(inits))
