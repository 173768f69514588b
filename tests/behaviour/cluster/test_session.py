"""Cluster tasks: the session with the store, whatever happens to its asyncio task."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

from behaviour.cluster.common import Fragile, Journal, Made, nothing, now, share, started
from kaiju_app.scheduler import ExecPolicy, Scheduler
from kaiju_app.stores import MemoryStore
from support.virtual import VirtualLoop


def cancel_everything() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def ended_in(store: MemoryStore) -> list[Any]:
    """Return the endings in *store*, after checking that no claim is left."""
    assert [None] == [record.owner for record in (await store.scan()).records]
    return [row.outcome for row in await store.history("job", 9)]


@pytest.mark.parametrize("again", [True, False])
async def test_a_run_that_stops_its_scheduler_ends_its_tick(made: Made, store: MemoryStore, again: bool) -> None:
    a = made()

    async def body() -> None:
        await a.stop()

    share(a, body)
    await a.start()
    await asyncio.sleep(1)
    if again:
        await a.stop()  # Called from another task, too.

    assert not a.started
    assert ["SUCCEEDED"] == await ended_in(store)


async def test_a_stop_waits_until_the_store_has_heard_of_a_run_that_stopped_before(
    made: Made, store: MemoryStore
) -> None:
    a = made()
    stopped = asyncio.Event()

    async def body() -> None:
        await a.stop()
        stopped.set()

    share(a, body)
    await a.start()
    await stopped.wait()

    await a.stop()

    assert ["SUCCEEDED"] == await ended_in(store)


def test_a_loop_that_ends_with_what_is_shared_leaves_nothing_claimed() -> None:
    """As after ``stop()``, the tick of the run that it cut runs again elsewhere."""
    store = MemoryStore()

    async def program() -> None:
        scheduler = Scheduler(store)
        begun = asyncio.Event()

        async def body() -> None:
            begun.set()
            await asyncio.sleep(60)

        share(scheduler, body)
        await scheduler.start()
        await begun.wait()

    asyncio.run(program())

    assert ["LOST"] == asyncio.run(ended_in(store))


class Opened(Fragile):
    """A store that records whether it is open."""

    is_open = False

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("timeout_s", [None, 0])
@pytest.mark.parametrize("seconds", [0, 0.5])
async def test_a_scheduler_that_is_stopped_at_once_leaves_nothing_behind(
    loop: VirtualLoop, seconds: float, timeout_s: float | None
) -> None:
    store = Opened(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    share(a, nothing)
    for _ in range(2):
        await a.start()
        assert store.is_open
        await asyncio.sleep(seconds)
        await a.stop(timeout_s)
        await asyncio.sleep(0.1)

        assert not store.is_open
        assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_what_a_store_cannot_be_told_in_time_is_given_up(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    store = Opened(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    share(a, Journal().body("a"))
    await a.start()
    await asyncio.sleep(10.5)
    store.is_away = True
    await a.stop()
    assert now() < 16
    await asyncio.sleep(2)

    assert "the last 1 ending(s) could not be stored" in caplog.text
    assert not store.is_open
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_shared_tasks_go_on_when_somebody_cancels_all_there_is(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    a = made()
    task = share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(25)
        cancel_everything()
        await asyncio.sleep(0.1)
        asked = asyncio.ensure_future(task.run_now())
        await asyncio.sleep(30)

    assert journal.seconds == pytest.approx([0, 10, 20, asked.result() and journal.seconds[3], 30, 40, 50], abs=0.01)
    assert "was cancelled from outside and restarts" in caplog.text


async def test_a_scheduler_may_be_stopped_right_after_somebody_cancelled_all_there_is(
    made: Made, store: MemoryStore
) -> None:
    a = made()
    share(a, Stubborn().body)
    await a.start()
    await asyncio.sleep(1)
    cancel_everything()
    await asyncio.sleep(0)

    await a.stop()
    await asyncio.sleep(30)

    assert ["LOST"] == await ended_in(store)  # It will be run again, like any run that is stopped.


class Stubborn:
    """A body that goes on for a while after its cancellation."""

    async def body(self) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(7)
            raise


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_scheduler_whose_loop_is_closed_can_be_stopped_and_started_again(seconds: float) -> None:
    begun = asyncio.Event()

    async def body() -> None:
        begun.set()
        await asyncio.sleep(seconds)

    scheduler = Scheduler(MemoryStore())
    share(scheduler, body, 100)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(scheduler.start())
    loop.run_until_complete(begun.wait())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About coroutines that were never awaited: nothing was stopped in order here.
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    async def again() -> None:
        await scheduler.stop()
        assert not scheduler.started
        async with scheduler:
            pass

    asyncio.run(again())


async def test_who_stops_is_not_waited_for_any_more(made: Made, store: MemoryStore) -> None:
    a, b = made(), made()
    share(a, nothing)
    async with a, b:
        await asyncio.sleep(3)
    await b.start()
    await b.stop()

    assert ["other"] == [each.id for each in await store.heartbeat("other", "{}", 1_000_000_000)]


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SHIELD])
async def test_a_run_that_is_cancelled_before_it_begins_ends_its_tick(made: Made, policy: ExecPolicy) -> None:
    journal = Journal()
    a = made()
    share(a, journal.body("a"), policy=policy, overlap_on_loss=True)

    async with a:
        await asyncio.sleep(5)
        assert a._lifecycle.cluster is not None
        host = a._lifecycle.cluster.runs
        begin = host.start

        def start(claim: Any) -> None:
            host.start = begin  # type: ignore[method-assign]
            begin(claim)
            next(task for task in asyncio.all_tasks() if task.get_name() == "job").cancel()

        host.start = start  # type: ignore[method-assign]
        await asyncio.sleep(30)

        assert journal.seconds == pytest.approx([0, 20, 30], abs=0.01)
        assert "CANCELLED" in [run.outcome.value for run in await a.history("job")]


class Broken:
    """A store of which one call raises an error that no store should raise."""

    def __init__(self, store: MemoryStore, question: str) -> None:
        self._store = store
        self._question = question

    def __getattr__(self, name: str) -> Any:
        if name != self._question:
            return getattr(self._store, name)

        async def broken(*_: object, **__: object) -> None:
            raise ValueError("a bug of the engine")

        broken.__name__ = name
        return broken


@pytest.mark.parametrize("question", ["renew", "claim", "heartbeat", "finish", "wait_for_change"])
async def test_an_engine_with_a_bug_breaks_no_promise(
    made: Made, store: MemoryStore, question: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(takes_s=4)
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(21)
        holder = journal.lines[-1][0]
        cluster = {"a": a, "b": b}[holder]._lifecycle.cluster
        assert cluster is not None
        cluster.runs.coordinator.client.store = Broken(store, question)  # type: ignore[assignment]
        await asyncio.sleep(200)
        degraded = cluster.state()["state"]

    assert ("ok" if question == "wait_for_change" else "degraded") == degraded
    assert f"a bug in its {question}()" in caplog.text
    run_by = {who for who, second in journal.lines if second > 60}
    assert holder not in run_by or question in ("wait_for_change", "heartbeat")
    assert bool(run_by) == (question != "finish")  # Then it keeps the claim, because the tick has not ended.


async def test_a_coordinator_with_a_bug_goes_on_and_its_leases_are_looked_at_meanwhile(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(takes_s=500)
    a, b = made(), made()
    share(a, journal.body("a"), 1000)
    share(b, journal.body("b"), 1000)
    async with a:
        await asyncio.sleep(3)
        async with b:
            cluster = a._lifecycle.cluster
            assert cluster is not None

            async def broken() -> None:
                raise RuntimeError("a bug")

            monkeypatch.setattr(cluster.runs.coordinator, "_round", broken)
            await asyncio.sleep(60)  # The body asserts that it never runs twice at once.
            assert ["a", "b"] == [who for who, _ in journal.lines]
            assert "degraded" == cluster.state()["state"]
            monkeypatch.undo()
            await asyncio.sleep(5)
            assert "ok" == cluster.state()["state"]

    assert "the coordinator failed, which is a bug" in caplog.text


async def test_a_lease_that_ended_while_the_machine_slept_is_over_when_it_wakes(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.virtual_clock)
    acts: list[float] = []

    async def body() -> None:
        while True:
            await asyncio.sleep(0.1)
            acts.append(loop.virtual_clock.steady() / 1e6)

    share(a, body, 10_000)
    async with a:
        await asyncio.sleep(30)
        store.is_away = True

        loop.virtual_clock.sleep_machine(3_600)
        woke = loop.virtual_clock.steady() / 1e6
        await asyncio.sleep(30)

    assert acts[-1] < woke + 0.6
