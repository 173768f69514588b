"""An application that is started again."""

from __future__ import annotations

import asyncio
import sys

import pytest

from behaviour.application.common import CLOSED, READY, Act, Actor, OnDb, cleans_up, takes
from kaiju_app import Application, Scheduler
from kaiju_app.errors import WrongState
from support.reading import SuccessiveLoops, now_s
from support.virtual import VirtualLoop, close_loop


async def test_an_application_can_be_started_again_with_nothing_doubled(
    scheduler: Scheduler, journal: list[str]
) -> None:
    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(run, 10, name="refresh")

    async def run() -> None:
        runs.append(now_s())

    runs: list[float] = []
    app = Application("shop", [Actor(journal, schedule, name="a"), Actor(journal, name="b")], scheduler=scheduler)
    for began in (0, 15, 30):
        journal.clear()
        async with app:
            assert list(scheduler.tasks) == ["refresh"]
            await asyncio.sleep(15)
            assert runs == [began, began + 10]
        runs.clear()
        assert list(scheduler.tasks) == []
        assert [each for each in journal if "post" not in each] == [
            "init a", "health a", "init b", "health b", "close b", "close a",
        ]  # fmt: skip


def test_an_application_can_live_in_one_loop_after_the_other(journal: list[str]) -> None:
    lives = SuccessiveLoops()
    app = Application("shop", [Actor(journal, name="a")], scheduler=lives.scheduler)

    async def main() -> None:
        async with app:
            await asyncio.sleep(5)

    for _ in range(3):
        with lives.life() as loop:
            loop.run_until_complete(main())
    assert journal == ["init a", "health a", "post_init a", "close a"] * 3


@pytest.mark.smoke
def test_an_application_whose_loop_was_ended_without_a_stop_is_stopped_in_the_next_and_started_again(
    journal: list[str],
) -> None:
    """``finish()`` closes a loop as ``asyncio.run()`` does: it cancels all tasks."""
    lives = SuccessiveLoops()
    parts = [Actor(journal, post_init_=cleans_up(0), name=name) for name in "ab"]
    app = Application("shop", parts, scheduler=lives.scheduler)
    with lives.life() as loop:
        loop.run_until_complete(app.start())
        loop.run_until_complete(asyncio.sleep(5))
    with lives.life() as loop:
        with pytest.raises(WrongState, match="READY; await stop"):
            loop.run_until_complete(app.start())
        journal.clear()
        assert loop.run_until_complete(app.stop()) == []
        assert journal == ["close b", "close a"]
        loop.run_until_complete(app.start())
        assert app.state is READY
        loop.run_until_complete(app.stop())
        assert app.state is CLOSED


@pytest.mark.parametrize("post_init", [None, cleans_up(0)], ids=["idle", "in post_init"])
def test_an_application_whose_loop_was_closed_under_it_is_stopped_in_the_next_and_started_again(
    journal: list[str], post_init: Act | None
) -> None:
    """The loop is closed while its tasks are pending: nobody has cancelled them."""
    lives = SuccessiveLoops()
    parts = [Actor(journal, post_init_=post_init, name=name) for name in "ab"]
    app = Application("shop", parts, scheduler=lives.scheduler)
    with lives.life() as loop:
        loop.run_until_complete(app.start())
        loop.run_until_complete(asyncio.sleep(5))
        left = asyncio.all_tasks(loop)
        loop.close()
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    with lives.life() as loop:
        journal.clear()
        loop.run_until_complete(app.stop())
        assert journal == ["close b", "close a"]
        assert app.state is CLOSED
        loop.run_until_complete(app.start())
        assert app.state is READY
        assert loop.run_until_complete(app.stop()) == []


def test_start_and_stop_in_a_second_loop_are_refused_and_disturb_nothing(journal: list[str]) -> None:
    first, second = VirtualLoop(), VirtualLoop()
    app = Application("shop", [Actor(journal, name="a")], scheduler=Scheduler(clock=first.virtual_clock))
    first.run_until_complete(app.start())
    with pytest.raises(WrongState, match="READY"):
        second.run_until_complete(app.start())
    with pytest.raises(WrongState, match="another loop"):
        second.run_until_complete(app.stop())
    assert app.state is READY
    assert first.run_until_complete(app.stop()) == []
    assert journal[-1] == "close a"
    close_loop(first)
    close_loop(second)
    assert [] == first.complaints + second.complaints


@pytest.mark.realtime
async def test_the_life_of_an_application_on_every_loop(scheduler: Scheduler, journal: list[str]) -> None:
    async def schedule(me: Actor) -> None:
        me.app.scheduler.schedule_task(run, 10)

    async def run() -> None:
        journal.append("run")
        over.set()

    over = asyncio.Event()
    parts = [OnDb(journal, post_init_=takes(100), name="web"), Actor(journal, schedule, close_=takes(0), name="db")]
    async with Application("shop", parts, scheduler=scheduler) as app:
        await over.wait()
        assert (await app.inspect())["healthy"] is True
    assert [each for each in journal if "health" not in each and "post" not in each] == [
        "init db", "init web", "run", "close web", "close db",
    ]  # fmt: skip


@pytest.mark.skipif(sys.version_info < (3, 12), reason="younger than that")
@pytest.mark.smoke
async def test_a_loop_that_starts_tasks_eagerly_changes_nothing(
    loop: asyncio.AbstractEventLoop, scheduler: Scheduler, journal: list[str]
) -> None:
    async def stop(me: Actor) -> None:
        await me.app.stop()

    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    parts = [
        OnDb(journal, takes(1), name="web"),
        Actor(journal, post_init_=cleans_up(0), name="db"),
        Actor(journal, name="c"),
    ]
    app = Application("shop", parts, scheduler=scheduler)
    async with app:
        assert (await app.inspect())["healthy"] is True
    assert [each for each in journal if "init" in each or "close" in each] == [
        "init db", "init web", "init c", "post_init db", "post_init web", "post_init c",
        "close c", "close web", "close db",
    ]  # fmt: skip

    parts[0].post_init_ = stop
    await app.start()
    await asyncio.sleep(10)
    assert app.state is CLOSED
    assert journal[-3:] == ["close c", "close web", "close db"]
