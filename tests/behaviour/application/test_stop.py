"""An application that stops."""

from __future__ import annotations

import asyncio
import logging

import pytest

from behaviour.application.common import (
    CLOSED,
    READY,
    Actor,
    Catastrophe,
    cleans_up,
    fails,
    holds_on,
    messages,
    records,
    takes,
)
from kaiju_app import Application, ExecPolicy, Scheduler
from kaiju_app.errors import ServiceStartFailed, WrongState
from support.reading import now_s, stubborn


@pytest.mark.usefixtures("quiet")
async def test_stop_ends_runs_first_and_then_closes_in_reverse(scheduler: Scheduler, journal: list[str]) -> None:
    async def run(me: Actor) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            me.journal.append("run over")

    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(run, 200, (me,))

    async def look(me: Actor) -> None:
        assert not me.app.scheduler.started

    parts = [Actor(journal, schedule, close_=look, name="a"), Actor(journal, close_=look, name="b")]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    journal.clear()
    assert await app.stop() == []
    assert journal == ["run over", "close b", "close a"]
    assert list(scheduler.tasks) == []


async def test_a_close_that_fails_is_logged_with_its_traceback_and_the_others_are_closed(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = [Actor(journal, name="a"), Actor(journal, close_=fails(OSError("stuck")), name="b")]
    app = Application("shop", [*parts, Actor(journal, name="c")], scheduler=scheduler)
    await app.start()
    problems = await app.stop()
    assert journal[-3:] == ["close c", "close b", "close a"]
    assert problems == ["service 'b' did not close cleanly"]
    [error] = records(caplog, logging.ERROR)
    assert "application 'shop': service 'b' failed in close: OSError: stuck" in error.getMessage()
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], OSError)
    assert messages(caplog, logging.INFO)[-1] == "application 'shop' is CLOSED; service 'b' did not close cleanly"
    assert {each.state for each in app.services} == {CLOSED}
    assert await app.stop() == []


@pytest.mark.parametrize("error", [Catastrophe("boom"), asyncio.CancelledError()])
async def test_whatever_close_raises_the_others_are_closed(
    scheduler: Scheduler, journal: list[str], error: BaseException
) -> None:
    app = Application(
        "shop", [Actor(journal, name="a"), Actor(journal, close_=fails(error), name="b")], scheduler=scheduler
    )
    await app.start()
    assert await app.stop() == ["service 'b' did not close cleanly"]
    assert journal[-2:] == ["close b", "close a"]


async def test_a_close_that_takes_too_long_is_cancelled_and_named_with_where_it_was(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def wait_for_the_last_customer(_: Actor) -> None:
        await asyncio.Event().wait()

    parts = [Actor(journal, name="a"), Actor(journal, close_=wait_for_the_last_customer, name="b")]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    assert await app.stop() == ["service 'b' did not close cleanly"]
    assert now_s() == 10
    [error] = messages(caplog, logging.ERROR)
    assert "service 'b' failed in close: not done within 10 s" in error
    assert "in wait_for_the_last_customer" in error
    assert journal[-2:] == ["close b", "close a"]


async def test_a_close_that_does_not_give_way_is_given_up(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = [Actor(journal, name="a"), Actor(journal, close_=holds_on(60), name="mule")]
    app = Application("shop", parts, scheduler=scheduler, service_close_timeout_s=3)
    await app.start()
    assert await app.stop() == ["service 'mule' did not close cleanly"]
    assert now_s() == 8
    [error] = messages(caplog, logging.ERROR)
    assert "not done within 3 s, did not stop and was abandoned" in error
    assert "in stubborn" in error
    assert journal[-2:] == ["close mule", "close a"]
    assert app.state is CLOSED


async def test_a_shielded_run_is_awaited_before_services_close(scheduler: Scheduler, journal: list[str]) -> None:
    async def pay(me: Actor) -> None:
        await asyncio.sleep(100)
        me.journal.append("paid")

    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(pay, 500, (me,), policy=ExecPolicy.SHIELD)

    async with Application("shop", [Actor(journal, schedule, name="a")], scheduler=scheduler):
        await asyncio.sleep(1)
        journal.clear()
    assert now_s() == 100
    assert journal == ["paid", "close a"]


@pytest.mark.usefixtures("quiet")
async def test_cancelling_the_stop_cuts_a_shielded_run_off_and_tells_what_is_left(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(asyncio.sleep, 500, (100,), policy=ExecPolicy.SHIELD, name="pay")

    app = Application("shop", [Actor(journal, schedule, name="a")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    stopping = asyncio.create_task(app.stop())
    await asyncio.sleep(1)
    assert "close a" not in journal
    stopping.cancel()
    await asyncio.wait([stopping])

    assert stopping.cancelled()
    assert now_s() == 2
    assert journal[-1] == "close a"
    assert app.state is CLOSED
    assert "task 'pay' is still running" in messages(caplog, logging.INFO)[-1]
    assert "task 'pay'" in "".join(r.getMessage() for r in caplog.records if r.name == "kaiju_app.scheduler")
    await asyncio.sleep(100)


async def test_a_run_that_does_not_give_way_is_told_and_does_not_keep_services_from_closing(
    scheduler: Scheduler, journal: list[str]
) -> None:
    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(stubborn, 500, (100,), name="mule")

    app = Application("shop", [Actor(journal, schedule, name="a")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    assert await app.stop() == ["task 'mule' is still running"]
    assert now_s() == 6
    assert journal[-1] == "close a"


async def test_cancelling_the_stop_cuts_short_what_is_awaited_and_the_rest_is_done(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [
        Actor(journal, close_=takes(2), name="a"),
        Actor(journal, close_=takes(8), name="b"),
        Actor(journal, close_=takes(2), name="c"),
    ]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    stopping = asyncio.create_task(app.stop())
    await asyncio.sleep(5)
    stopping.cancel()
    await asyncio.wait([stopping])
    assert stopping.cancelled()
    assert now_s() == 7
    assert journal[-3:] == ["close c", "close b", "close a"]
    assert app.state is CLOSED


async def test_a_time_limit_around_the_whole_application_works_as_around_anything(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, close_=takes(3))], scheduler=scheduler)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5), app:
            await asyncio.sleep(1000)
    assert now_s() == 8
    assert journal[-1] == "close Actor"
    assert app.state is CLOSED


async def test_an_error_in_the_body_goes_on_after_everything_was_closed(
    scheduler: Scheduler, journal: list[str]
) -> None:
    with pytest.raises(LookupError):
        async with Application("shop", [Actor(journal, close_=fails(OSError()))], scheduler=scheduler):
            raise LookupError
    assert journal[-1] == "close Actor"


async def test_two_stops_at_once_close_once_and_both_wait(scheduler: Scheduler, journal: list[str]) -> None:
    app = Application("shop", [Actor(journal, close_=takes(5))], scheduler=scheduler)
    await app.start()
    first = asyncio.create_task(app.stop())
    await asyncio.sleep(1)
    assert await app.stop() == []
    assert now_s() == 5
    assert await first == []
    assert journal.count("close Actor") == 1


async def test_cancelling_a_stop_that_waits_for_another_one_disturbs_nothing(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, close_=takes(5))], scheduler=scheduler)
    await app.start()
    first, second = asyncio.create_task(app.stop()), asyncio.create_task(app.stop())
    await asyncio.sleep(1)
    second.cancel()
    await asyncio.wait([first, second])
    assert second.cancelled()
    assert await first == []
    assert now_s() == 5


async def test_stop_before_start_is_harmless(scheduler: Scheduler) -> None:
    assert await Application("shop", [Actor()], scheduler=scheduler).stop() == []


async def test_stop_while_it_is_starting_is_refused_with_the_way_out(scheduler: Scheduler, journal: list[str]) -> None:
    app = Application("shop", [Actor(journal, takes(5))], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    with pytest.raises(WrongState, match="STARTING; cancel the task"):
        await app.stop()
    await starting
    assert app.state is READY
    await app.stop()


@pytest.mark.parametrize("phase", ["init_", "health_"])
async def test_stop_from_inside_the_start_is_refused_and_not_waited_for(scheduler: Scheduler, phase: str) -> None:
    one = Actor(name="one", **{phase: lambda me: me.app.stop()})
    with pytest.raises(ServiceStartFailed, match=r"WrongState: stop.*STARTING") as caught:
        await Application("shop", [one], scheduler=scheduler).start()
    assert isinstance(caught.value.__cause__, WrongState)
    assert now_s() == 0


async def test_stop_from_close_is_refused_and_not_waited_for(scheduler: Scheduler, journal: list[str]) -> None:
    refused: list[WrongState] = []

    async def stop(me: Actor) -> None:
        try:
            await me.app.stop()
        except WrongState as exc:
            refused.append(exc)

    app = Application("shop", [Actor(journal, close_=stop, name="a")], scheduler=scheduler)
    await app.start()
    assert await app.stop() == []
    assert now_s() == 0
    assert "close()" in str(refused[0])


@pytest.mark.smoke
@pytest.mark.parametrize("policy", ExecPolicy)
async def test_a_run_may_stop_the_application_it_belongs_to(
    scheduler: Scheduler, journal: list[str], policy: ExecPolicy
) -> None:
    async def run(me: Actor) -> None:
        await asyncio.sleep(1)
        problems.append(await me.app.stop())
        me.journal.append("run over")

    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(run, 100, (me,), policy=policy)

    problems: list[list[str]] = []
    app = Application("shop", [Actor(journal, schedule, close_=takes(2), name="a")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(10)
    assert app.state is CLOSED
    assert problems == [[]]
    assert journal[-2:] == ["close a", "run over"]
    assert list(scheduler.tasks) == []


@pytest.mark.parametrize("policy", ExecPolicy)
async def test_a_run_that_calls_stop_while_another_one_stops_does_not_wait_for_itself(
    scheduler: Scheduler, journal: list[str], policy: ExecPolicy
) -> None:
    """The stop in progress waits for a shielded run. If that run waited for the stop, neither would ever end."""

    async def run() -> None:
        await asyncio.sleep(5)
        await app.stop()

    scheduler.schedule_task(run, 100, policy=policy)
    app = Application("shop", [Actor(journal, name="a")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    async with asyncio.timeout(1000):
        await app.stop()
    assert app.state is CLOSED
    assert journal[-1] == "close a"
    assert now_s() < 20


async def test_two_runs_that_stop_the_application_do_not_wait_for_each_other(
    scheduler: Scheduler, journal: list[str]
) -> None:
    async def run() -> None:
        await asyncio.sleep(1)
        await app.stop()

    for name in "xy":
        scheduler.schedule_task(run, 100, policy=ExecPolicy.SHIELD, name=name)
    app = Application("shop", [Actor(journal, name="a")], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(100)
    state = app.state
    if state is not CLOSED:  # Leave nothing behind.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(20)
    assert state is CLOSED
    assert journal.count("close a") == 1


async def test_post_init_may_stop_the_application(scheduler: Scheduler, journal: list[str]) -> None:
    async def stop(me: Actor) -> None:
        await asyncio.sleep(1)
        await me.app.stop()
        me.journal.append("stopped")

    parts = [Actor(journal, post_init_=stop, name="a"), Actor(journal, post_init_=cleans_up(1), name="b")]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    await asyncio.sleep(10)
    assert app.state is CLOSED
    assert journal[-3:] == ["close b", "close a", "stopped"]


async def test_post_inits_that_all_stop_the_application_end_it_once(scheduler: Scheduler, journal: list[str]) -> None:
    app = Application(
        "shop", [Actor(journal, post_init_=lambda me: me.app.stop(), name=n) for n in "abc"], scheduler=scheduler
    )
    await app.start()
    await asyncio.sleep(20)
    assert app.state is CLOSED
    assert [each for each in journal if "close" in each] == ["close c", "close b", "close a"]
