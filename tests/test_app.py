"""The life of an application by example: every promise about start, stop and what can be seen of it is one test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from telling import Lives, nothing, now_s, starts_s, stubborn
from virtual import VirtualLoop, finish

from kaiju_app import Application, ExecPolicy, Health, Scheduler, Service, ServiceState, service
from kaiju_app._keeper import PROMPT_S
from kaiju_app.errors import InvalidArgument, StartFailed, WrongState

CLOSED, STARTING, READY, CLOSING = ServiceState

Act = Callable[["Actor"], Awaitable[Any]]

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Catastrophe(BaseException):
    """What no function should raise."""


@dataclass(eq=False)
class Actor(Service):
    """Writes down what is done to it, and does in each phase what the test wants."""

    journal: list[str] = field(default_factory=list)
    init_: Act | None = None
    health_: Act | None = None
    post_init_: Act | None = None
    close_: Act | None = None

    async def init(self) -> None:
        await self.play("init", self.init_)

    async def health(self) -> Health:
        answer = await self.play("health", self.health_)
        return answer if self.health_ else Health()  # type: ignore[no-any-return]

    async def post_init(self) -> None:
        await self.play("post_init", self.post_init_)

    async def close(self) -> None:
        await self.play("close", self.close_)

    async def play(self, phase: str, act: Act | None) -> Any:
        self.journal.append(f"{phase} {self.name}")
        return await act(self) if act else None


@dataclass(eq=False)
class OnDb(Actor):
    db: Actor = service("db")


@dataclass(eq=False)
class PerhapsOnDb(Actor):
    db: Actor | None = service("db", required=False)


def takes(seconds: float) -> Act:
    return lambda _: asyncio.sleep(seconds)


def holds_on(seconds: float) -> Act:
    """Go on for so long, whoever asks to end."""
    return lambda _: stubborn(seconds)


def tells(health: Any) -> Act:
    async def act(_: Actor) -> Any:
        return health

    return act


def fails(error: BaseException) -> Act:
    async def act(_: Actor) -> Any:
        raise error

    return act


def cleans_up(seconds: float, error: BaseException | None = None) -> Act:
    """Wait for ever; when asked to end, take *seconds* for it, and then obey or raise *error*."""

    async def act(_: Actor) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
            if error is not None:
                raise error from None
            raise

    return act


def obeys_by_returning(_: Actor) -> Awaitable[Any]:
    async def act() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    return act()


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == level and record.name == "kaiju_app.app"]


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in records(caplog, level)]


@pytest.fixture
def journal() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "kaiju_app.app")


@pytest.fixture
def quiet(loop: asyncio.AbstractEventLoop) -> Iterator[set[asyncio.Task[Any]]]:
    """Tasks that a test knows to be left; every other one fails it."""
    known: set[asyncio.Task[Any]] = set()
    yield known
    loop.run_until_complete(asyncio.sleep(0.001))  # Who was told to go may need a turn for it.
    assert {task for task in asyncio.all_tasks(loop) if not task.done()} == known


# --- start ---


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


# --- a start that fails ---


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
    with pytest.raises(StartFailed) as caught:
        await app.start()

    assert journal == ["init a", "health a", "init b", "health b", "init c", "close b", "close a"]
    assert app.state is CLOSED
    assert not scheduler.started
    assert {each.state for each in parts} == {CLOSED}
    assert (caught.value.service, caught.value.phase) == ("c", "init")
    assert isinstance(caught.value.__cause__, OSError)
    assert str(caught.value) == (
        "application 'shop': service 'c' failed in init: OSError: no route. "
        "Repair the cause; if the application can do without it, optional_services=['c']"
    )
    assert await app.stop() == []


async def test_an_application_that_failed_to_start_can_be_repaired_and_started(
    scheduler: Scheduler, journal: list[str]
) -> None:
    bad = Actor(journal, fails(OSError()), name="bad")
    app = Application("shop", [Actor(journal, name="a"), bad], scheduler=scheduler)
    with pytest.raises(StartFailed):
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
        with pytest.raises(StartFailed, match="OSError"):
            await app.start()
        assert list(scheduler.tasks) == ["before"]


async def test_an_init_that_takes_too_long_is_cancelled_and_named_with_where_it_was(
    scheduler: Scheduler, journal: list[str]
) -> None:
    async def wait_for_the_broker(_: Actor) -> None:
        await asyncio.Event().wait()

    parts = [Actor(journal, name="a"), Actor(journal, wait_for_the_broker, name="slow")]
    app = Application("shop", parts, scheduler=scheduler, service_start_timeout_s=7)
    with pytest.raises(StartFailed) as caught:
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
    with pytest.raises(StartFailed, match="'one' failed in health: not done within 10 s"):
        await app.start()
    assert now_s() == 10
    assert journal == ["init one", "health one", "close one"]


async def test_the_limit_counts_for_each_service_and_the_default_is_30_seconds(scheduler: Scheduler) -> None:
    parts = [Actor([], takes(29)), Actor([], takes(29)), Actor([], takes(31), name="slow")]
    with pytest.raises(StartFailed, match="'slow' failed in init: not done within 30 s"):
        await Application("shop", parts, scheduler=scheduler).start()
    assert now_s() == 29 + 29 + 30


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (tells(Health(["disk is full", "no replica"])), "failed in health: disk is full; no replica. Repair"),
        (fails(OSError("gone")), "failed in health: OSError: gone. Repair"),
        (tells(True), "failed in health: health() returned True, which is no Health"),
        (tells(None), "failed in health: health() returned None, which is no Health"),
        (tells({"ok": True}), "failed in health: health() returned {'ok': True}, which is no Health"),
        (fails(asyncio.CancelledError()), "failed in health: cancelled from within"),
        (fails(Catastrophe("boom")), "failed in health: Catastrophe: boom"),
    ],
)
async def test_a_service_that_is_not_healthy_after_init_is_closed_and_ends_the_start(
    scheduler: Scheduler, journal: list[str], answer: Act, text: str
) -> None:
    app = Application("shop", [Actor(journal, None, answer, name="one")], scheduler=scheduler)
    with pytest.raises(StartFailed) as caught:
        await app.start()
    assert f"application 'shop': service 'one' {text}" in str(caught.value)
    assert caught.value.phase == "health"
    assert journal == ["init one", "health one", "close one"]


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (fails(asyncio.CancelledError()), "failed in init: cancelled from within"),
        (fails(Catastrophe("boom")), "failed in init: Catastrophe: boom"),
        (fails(TimeoutError("its own")), "failed in init: TimeoutError: its own. Repair"),
        (fails(ExceptionGroup("two", [OSError(), ValueError()])), "failed in init: ExceptionGroup: two"),
    ],
)
async def test_whatever_init_raises_ends_the_start_and_is_told(scheduler: Scheduler, act: Act, text: str) -> None:
    app = Application("shop", [Actor([], act, name="one")], scheduler=scheduler)
    with pytest.raises(StartFailed) as caught:
        await app.start()
    assert f"application 'shop': service 'one' {text}" in str(caught.value)
    assert app.state is CLOSED


async def test_an_init_that_returns_when_its_time_is_over_is_late_but_has_returned_and_is_closed(
    scheduler: Scheduler, journal: list[str]
) -> None:
    app = Application("shop", [Actor(journal, obeys_by_returning, name="one")], scheduler=scheduler)
    with pytest.raises(StartFailed, match="'one' failed in init: not done within 30 s"):
        await app.start()
    assert journal == ["init one", "close one"]


async def test_what_an_init_raises_when_its_time_is_over_is_told_too(scheduler: Scheduler) -> None:
    act = cleans_up(1, RuntimeError("roll back failed"))
    app = Application("shop", [Actor([], act, name="one")], scheduler=scheduler)
    with pytest.raises(StartFailed, match="not done within 30 s, then RuntimeError: roll back failed") as caught:
        await app.start()
    assert now_s() == 31
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_an_init_that_does_not_give_way_is_given_up_after_the_grace(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = [Actor(journal, name="a"), Actor(journal, holds_on(100), name="mule")]
    app = Application("shop", parts, scheduler=scheduler)
    with pytest.raises(StartFailed, match="and it does not give way: given up") as caught:
        await app.start()

    assert now_s() == 35
    assert app.state is CLOSED
    assert "in stubborn" in str(caught.value)
    assert journal == ["init a", "health a", "init mule", "close a"]
    assert messages(caplog, logging.WARNING) == []
    await asyncio.sleep(100)
    assert len(messages(caplog, logging.WARNING)) == 1
    assert "application 'shop': service 'mule': what was given up has ended" in messages(caplog, logging.WARNING)[0]


async def test_a_service_that_was_given_up_does_not_go_on_as_if_it_had_started(
    scheduler: Scheduler, journal: list[str]
) -> None:
    """Its ``init()`` returns long after it was given up, while another one starts."""
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


# --- KeyboardInterrupt and SystemExit ---


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

    with pytest.raises(SystemExit):  # As everywhere in asyncio.
        loop.run_until_complete(main())
    assert app.state is READY
    loop.run_until_complete(app.stop())
    assert journal[-1] == "close Actor"


# --- a start that is cancelled ---


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
        assert "application 'shop': service 'mule': init() does not give way" in messages(caplog, logging.ERROR)[-1]
        assert "in stubborn" in messages(caplog, logging.ERROR)[-1]
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
    with pytest.raises(StartFailed, match="'c' failed in init: OSError: no"):
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


# --- optional services ---


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
    with pytest.raises(StartFailed, match=r"'web'.*db needs 'db', which is optional and did not start") as caught:
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
    """What ``init()`` scheduled before it failed would run on a service that is closed."""

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


# --- post_init ---


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
    assert "given up" in error
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


# --- stop ---


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
    assert problems == ["service 'b' did not close in order"]
    [error] = records(caplog, logging.ERROR)
    assert "application 'shop': service 'b' failed in close: OSError: stuck" in error.getMessage()
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], OSError)
    assert messages(caplog, logging.INFO)[-1] == "application 'shop' is CLOSED; service 'b' did not close in order"
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
    assert await app.stop() == ["service 'b' did not close in order"]
    assert journal[-2:] == ["close b", "close a"]


async def test_a_close_that_takes_too_long_is_cancelled_and_named_with_where_it_was(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def wait_for_the_last_customer(_: Actor) -> None:
        await asyncio.Event().wait()

    parts = [Actor(journal, name="a"), Actor(journal, close_=wait_for_the_last_customer, name="b")]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    assert await app.stop() == ["service 'b' did not close in order"]
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
    assert await app.stop() == ["service 'mule' did not close in order"]
    assert now_s() == 8
    [error] = messages(caplog, logging.ERROR)
    assert "not done within 3 s, and it does not give way: given up" in error
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
    with pytest.raises(StartFailed, match=r"WrongState: stop.*STARTING") as caught:
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
    """The stop under way waits for a shielded run; if that run waits for the stop, nobody ever ends."""

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


# --- one task for init, health and close ---


@pytest.mark.smoke
async def test_init_health_and_close_of_a_service_are_in_one_task_that_no_other_service_has(
    scheduler: Scheduler,
) -> None:
    seen: dict[str, list[asyncio.Task[Any] | None]] = {"a": [], "b": []}

    async def note(me: Actor) -> Health:
        seen[me.name].append(asyncio.current_task())
        return Health()

    async with Application(
        "shop", [Actor([], note, note, None, note, name=name) for name in "ab"], scheduler=scheduler
    ):
        await asyncio.sleep(10)
    assert [len(set(tasks)) for tasks in seen.values()] == [1, 1]
    assert [len(tasks) for tasks in seen.values()] == [3, 3]
    assert seen["a"][0] is not seen["b"][0]


@pytest.mark.smoke
async def test_a_task_group_entered_in_init_is_left_in_close(scheduler: Scheduler) -> None:
    group = asyncio.TaskGroup()
    done: list[float] = []

    async def child() -> None:
        await asyncio.sleep(7)
        done.append(now_s())

    async def enter(_: Actor) -> None:
        await group.__aenter__()
        group.create_task(child())

    app = Application(
        "shop", [Actor([], enter, close_=lambda _: group.__aexit__(None, None, None))], scheduler=scheduler
    )
    await app.start()
    await asyncio.sleep(5)
    assert await app.stop() == []
    assert done == [7]


@dataclass(eq=False)
class Grouped(Actor):
    """Its children live in a task group, from ``init()`` to ``close()``, as in anyio's nurseries."""

    async def init(self) -> None:
        self.task = asyncio.current_task()
        tenant.set("acme")
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()

    async def close(self) -> None:
        self.journal.append("same task" if asyncio.current_task() is self.task else "another task")
        self.journal.append(tenant.get())
        await self.group.__aexit__(None, None, None)


@pytest.mark.smoke
async def test_a_task_group_whose_child_fails_while_ready_ends_the_task_of_its_service_and_close_gets_another_one(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A task group cancels the task that entered it when a child fails, as whoever ends a loop cancels all tasks."""

    async def child() -> None:
        raise OSError("child failed")

    one = Grouped(journal, name="one")
    app = Application("shop", [one], scheduler=scheduler)
    await app.start()
    one.group.create_task(child())
    await asyncio.sleep(5)
    journal.clear()
    assert await app.stop() == ["service 'one' did not close in order"]
    assert journal == ["another task", "acme"]
    assert "its task was cancelled between init() and close()" in messages(caplog, logging.WARNING)[0]
    [error] = records(caplog, logging.ERROR)
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], ExceptionGroup)


async def test_a_time_limit_entered_in_init_that_is_over_while_ready_is_left_in_the_task_that_entered_it(
    scheduler: Scheduler, journal: list[str]
) -> None:
    limit = asyncio.timeout(20)

    async def enter(_: Actor) -> None:
        tenant.set("acme")
        await limit.__aenter__()

    async def leave(me: Actor) -> None:
        me.journal.append(tenant.get())
        with contextlib.suppress(TimeoutError):
            await limit.__aexit__(None, None, None)
        me.journal.append(f"left, expired: {limit.expired()}")

    app = Application("shop", [Actor(journal, enter, close_=leave)], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(30)
    assert await app.stop() == []
    assert journal[-2:] == ["acme", "left, expired: True"]


async def test_what_init_sets_in_context_variables_is_there_in_health_and_close_and_nowhere_else(
    scheduler: Scheduler,
) -> None:
    seen: list[str] = []

    async def enter(_: Actor) -> None:
        seen.append(tenant.get())
        tenant.set("acme")

    async def look(_: Actor) -> Health:
        seen.append(tenant.get())
        return Health()

    tenant.set("caller")
    app = Application("shop", [Actor([], enter, look, None, look), Actor([], look)], scheduler=scheduler)
    await app.start()
    assert seen == ["caller", "acme", "caller"]
    assert tenant.get() == "caller"
    await app.stop()
    assert seen[3:] == ["acme"]


async def test_a_generator_as_context_manager_may_span_a_life(scheduler: Scheduler, journal: list[str]) -> None:
    @contextlib.asynccontextmanager
    async def pool() -> AsyncIterator[None]:
        async with asyncio.timeout(None), asyncio.TaskGroup() as group:
            ticking = group.create_task(asyncio.sleep(1e6))
            yield
            ticking.cancel()
        journal.append("pool closed")

    stack = contextlib.AsyncExitStack()

    async def enter(_: Actor) -> None:
        await stack.enter_async_context(pool())

    async def leave(_: Actor) -> None:
        await stack.aclose()

    async with Application("shop", [Actor(init_=enter, close_=leave)], scheduler=scheduler):
        await asyncio.sleep(100)
    assert journal == ["pool closed"]


@pytest.mark.parametrize("phase", ["init_", "health_"])
@pytest.mark.parametrize("first", ["the end", "the cancellation"])
@pytest.mark.parametrize("turns", range(4))
async def test_a_start_cancelled_about_the_turn_in_which_a_phase_ends_closes_in_the_same_task(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, phase: str, turns: int, first: str
) -> None:
    async def note(_: Actor) -> None:
        seen.append(asyncio.current_task())

    async def wait(me: Actor) -> Health:
        await note(me)
        with contextlib.suppress(asyncio.CancelledError):
            await gate.wait()
        return Health()

    seen: list[asyncio.Task[Any] | None] = []
    gate = asyncio.Event()
    app = Application("shop", [Actor(**{phase: wait, "close_": note})], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(1)
    steps = [gate.set, starting.cancel] if first == "the end" else [starting.cancel, gate.set]
    steps[0]()
    for _ in range(turns):
        await asyncio.sleep(0)
    steps[1]()
    await asyncio.wait([starting])
    await app.stop()
    assert app.state is CLOSED
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert messages(caplog, logging.WARNING) == messages(caplog, logging.ERROR) == []


async def test_context_variables_of_init_are_there_when_it_is_asked_how_it_is(scheduler: Scheduler) -> None:
    """``health()`` reads a connection or a tenant where ``init()`` has put it, whoever asks."""
    seen: list[str] = []

    async def enter(_: Actor) -> None:
        tenant.set("acme")

    async def look(_: Actor) -> Health:
        seen.append(tenant.get())
        return Health()

    async with Application("shop", [Actor([], enter, look)], scheduler=scheduler) as app:
        await app.inspect()
    assert seen == ["acme", "acme"]


# --- somebody cancels all tasks ---


@pytest.mark.smoke
@pytest.mark.parametrize("turns", range(6))
async def test_no_tick_that_is_due_while_the_stop_begins_starts_a_run(scheduler: Scheduler, turns: int) -> None:
    starts: list[str] = []

    async def run() -> None:
        starts.append(app.state)

    app = Application("shop", scheduler=scheduler)
    async with app:
        scheduler.schedule_task(run, 8)
        await asyncio.sleep(7.999)
        stopping = asyncio.create_task(app.stop())
        for _ in range(turns):
            await asyncio.sleep(0)
        asyncio.get_running_loop().block(0.001)  # type: ignore[attr-defined]  # Whatever there is to do takes time.
        await stopping
    assert starts[1:] in ([], [READY]), "it may still come before the stop has begun"
    assert CLOSING not in starts


async def test_what_the_end_waits_for_is_said_after_a_second(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kaiju_app.app")
    parts = [Actor(journal, close_=takes(0.9), name="quick"), Actor(journal, close_=takes(3), name="slow")]
    async with Application("shop", parts, scheduler=scheduler):
        scheduler.schedule_task(asyncio.sleep, 10, (4,), policy=ExecPolicy.SHIELD)
        await asyncio.sleep(1)
    assert [each for each in messages(caplog, logging.INFO) if "still" in each] == [
        "application 'shop': the scheduler: still ending after 1 s, has no limit",
        "application 'shop': service 'slow': still ending after 1 s, has 10 s",
    ]


async def test_a_task_may_end_the_application_that_run_app_runs(journal: list[str]) -> None:
    """See test_run_app for the program; here it is the part that it waits for."""
    app = Application("shop", [Actor(journal)])
    await app.start()
    waiting = asyncio.create_task(app.wait_closed())
    await asyncio.sleep(1)
    assert not waiting.done()
    await app.stop()
    await waiting
    await app.wait_closed()
    assert app.state is CLOSED


@pytest.mark.smoke
async def test_services_are_closed_once_and_in_order_after_somebody_cancelled_all_tasks(
    scheduler: Scheduler, journal: list[str]
) -> None:
    parts = [Actor(journal, post_init_=cleans_up(0), close_=takes(1), name=name) for name in "abc"]
    app = Application("shop", parts, scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(1)
    assert app.state is READY
    assert await app.stop() == []
    assert [each for each in journal if "close" in each] == ["close c", "close b", "close a"]


async def test_who_cancels_all_tasks_and_waits_for_them_does_not_wait_for_ever(
    scheduler: Scheduler, journal: list[str]
) -> None:
    """The last lines of many a program: cancel all others, gather them, then close what there is."""
    app = Application("shop", [Actor(journal, name=name) for name in "ab"], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    _, pending = await asyncio.wait(others, timeout=100)
    assert not pending
    assert await app.stop() == []
    assert journal[-2:] == ["close b", "close a"]


@pytest.mark.smoke
@pytest.mark.parametrize("turns", range(14))
@pytest.mark.parametrize("spared", ["the one that stops", "nobody"])
async def test_services_are_closed_though_all_tasks_are_cancelled_at_any_turn_of_the_stop(
    scheduler: Scheduler, journal: list[str], turns: int, spared: str
) -> None:
    """As programs do that end in a hurry. Every ``close()`` is called once, after the scheduler has stopped."""

    async def look(me: Actor) -> None:
        assert not me.app.scheduler.started
        me.journal.append(f"closed {me.name}")

    app = Application("shop", [Actor(journal, close_=look, name=name) for name in "ab"], scheduler=scheduler)
    await app.start()
    await asyncio.sleep(1)
    stopping = asyncio.create_task(app.stop())
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if spared == "nobody" or task is not stopping:
            task.cancel()
    await asyncio.wait([stopping], timeout=100)
    ended = stopping.done()
    if not ended:
        stopping.cancel()
        await asyncio.wait([stopping])
    assert ended
    if app.state is not CLOSED:  # It was cancelled before its first step, which nobody can help.
        assert turns == 0
        await app.stop()
    assert app.state is CLOSED
    assert not scheduler.started
    assert [each for each in journal if "close " in each] == ["close b", "close a"]
    assert [each for each in journal if "closed" in each] == ["closed b", "closed a"]


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_ends_though_all_tasks_are_cancelled_at_any_turn_of_it(
    scheduler: Scheduler, journal: list[str], caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    app = Application("shop", [Actor(journal, name=name) for name in "ab"], scheduler=scheduler)
    starting = asyncio.create_task(app.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.wait([starting])
    await app.stop()
    assert app.state is CLOSED
    assert "does not give way" not in "".join(messages(caplog, logging.ERROR))
    assert now_s() == 0
    inits = [each.removeprefix("init ") for each in journal if each.startswith("init")]
    closes = [each.removeprefix("close ") for each in journal if each.startswith("close")]
    assert closes == list(reversed(inits))


# --- again ---


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
    lives = Lives()
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
    """``finish()`` ends a loop as ``asyncio.run()`` does: it cancels all tasks."""
    lives = Lives()
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
    """The loop is closed and its tasks are left where they were: nobody has cancelled them."""
    lives = Lives()
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
    app = Application("shop", [Actor(journal, name="a")], scheduler=Scheduler(clock=first.clock))
    first.run_until_complete(app.start())
    with pytest.raises(WrongState, match="READY"):
        second.run_until_complete(app.start())
    with pytest.raises(WrongState, match="another loop"):
        second.run_until_complete(app.stop())
    assert app.state is READY
    assert first.run_until_complete(app.stop()) == []
    assert journal[-1] == "close a"
    finish(first)
    finish(second)
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


# --- inspect ---


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
    """``Health([exc])`` is what a hurried ``except`` clause writes."""
    one = Actor(name="a")
    async with Application("shop", [one], scheduler=scheduler) as app:
        one.health_ = tells(Health([OSError("gone")]))  # type: ignore[list-item]
        [shown] = services_of(await app.inspect())
        assert shown["healthy"] is False
        assert "gone" in shown["errors"][0]


async def test_errors_that_are_exceptions_are_told_by_a_failed_start(scheduler: Scheduler) -> None:
    one = Actor(health_=tells(Health([OSError("disk is gone")])), name="a")  # type: ignore[list-item]
    with pytest.raises(StartFailed, match=r"'a' failed in health: .*disk is gone"):
        await Application("shop", [one], scheduler=scheduler).start()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (fails(OSError("gone")), "health() raised OSError: gone"),
        (fails(asyncio.CancelledError()), "health() was cancelled"),
        (fails(Catastrophe("boom")), "health() raised Catastrophe: boom"),
        (tells(None), "health() returned None, which is no Health: return Health(errors=[...])"),
        (tells(True), "health() returned True, which is no Health: return Health(errors=[...])"),
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
    """A probe with a limit of half a second must not make a dashboard show a service as unhealthy."""

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
