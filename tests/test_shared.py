"""Tasks that several instances share, as users see them: schedulers in one loop, over one store, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from telling import ZERO, at, reached
from virtual import VirtualLoop

from kaiju_app.errors import (
    InvalidArgument,
    LeaseLost,
    OwnRun,
    StoreUnavailable,
    SuspendLost,
    TaskBusy,
    TaskHeld,
    WrongState,
)
from kaiju_app.scheduler import (
    AnyOf,
    Cron,
    Every,
    Except,
    ExecPolicy,
    FirstRun,
    LeaseTiming,
    Missed,
    OnLost,
    Outcome,
    Run,
    ScheduledTask,
    Scheduler,
    Scope,
    current_run,
)
from kaiju_app.stores import MemoryStore, SqliteStore, Store

Made = Callable[..., Scheduler]
Line = tuple[str, float]


class Fragile(MemoryStore):
    """A store that can be away, for some of its users."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop.wall_us)
        self.is_away = False
        self.is_full = False

    def __getattribute__(self, name: str) -> Any:
        if (name in ("scan", "swap", "beat", "history") and self.is_away) or (
            name in ("swap", "beat") and self.is_full
        ):
            return super().__getattribute__("_unavailable")
        return super().__getattribute__(name)

    async def _unavailable(self, *_: object, **__: object) -> Any:
        raise StoreUnavailable(self.name, "it is away")


@pytest.fixture
def store(loop: VirtualLoop) -> MemoryStore:
    return MemoryStore(loop.wall_us)


@pytest.fixture
def made(loop: VirtualLoop, store: MemoryStore) -> Made:
    """Makes schedulers that share the store."""

    def make(**options: Any) -> Scheduler:
        return Scheduler(options.pop("store", store), clock=loop.clock, **options)

    return make


class Journal:
    """What bodies did: (who, second)."""

    def __init__(self, takes_s: float = 1.0) -> None:
        self.lines: list[Line] = []
        self.takes_s = takes_s
        self.going_on = 0

    def body(self, who: str) -> Callable[[], Awaitable[None]]:
        async def body() -> None:
            assert not self.going_on, "two at once"
            self.going_on += 1
            try:
                self.lines.append((who, now()))
                await asyncio.sleep(self.takes_s)
            finally:
                self.going_on -= 1

        return body

    @property
    def seconds(self) -> list[float]:
        return [second for _, second in self.lines]


def now() -> float:
    return round(asyncio.get_running_loop().time() - 5, 3)


def share(scheduler: Scheduler, func: Any, every_s: float | None = 10, name: str = "job", **options: Any) -> Any:
    return scheduler.schedule_task(func, every_s, name=name, scope=Scope.CLUSTER, **options)


@contextlib.asynccontextmanager
async def started(*schedulers: Scheduler) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for each in schedulers:
            await stack.enter_async_context(each)
        yield


async def nothing() -> None:
    pass


def told(runs: list[Run]) -> list[tuple[Any, ...]]:
    return [
        (run.outcome.value, run.reason and run.reason.value, at(run.scheduled_at), run.count, run.take) for run in runs
    ]


# --- one run for each tick ---


async def test_a_rule_whose_search_is_given_up_is_asked_again_before_it_ticks(loop: VirtualLoop, made: Made) -> None:
    """It is not over for good, for any instance: neither where it begins with such a search nor behind a run."""
    rule = AnyOf(Cron("* * 8,9,11,12 * * *"), Cron("0 * * * *"))
    rule = Except(rule, Cron("*/2 * 8,9,11,12 * * *"), Cron("1-59/2 * 8,9,11,12 * * *"))
    a, b = made(), made()
    tasks = [share(each, nothing, None, trigger=rule, jitter_s=5) for each in (a, b)]
    async with started(a, b):
        await asyncio.sleep(60)
        assert [("waiting", None)] * 2 == [(task.state, task.next_run_at) for task in tasks]
        await asyncio.sleep(5 * 3600 + 1800)
        history = await a.history("job")
        assert [task.next_run_at is not None for task in tasks] == [True, True]

    assert [(Outcome.SUCCEEDED, 10), (Outcome.SUCCEEDED, 13)] == [
        (run.outcome, run.scheduled_at.hour) for run in history
    ]


async def test_each_tick_runs_once_on_one_instance(made: Made) -> None:
    journal = Journal()
    a, b, c = made(), made(), made()
    for name, each in (("a", a), ("b", b), ("c", c)):
        share(each, journal.body(name))
    async with started(a, b, c):
        await asyncio.sleep(95)

    assert journal.seconds == pytest.approx([10 * tick for tick in range(10)], abs=0.01)


async def test_the_first_run_comes_once_and_neither_start_nor_restart_repeats_it(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), 60)
    share(b, journal.body("b"), 60)
    async with a:
        await asyncio.sleep(5)
        async with b:
            await asyncio.sleep(20)
    async with b:
        await asyncio.sleep(20)
    async with a:
        await asyncio.sleep(20)

    assert journal.seconds == pytest.approx([0, 60], abs=0.01)


async def test_any_number_of_runs_goes_on_at_once(made: Made) -> None:
    began: list[float] = []

    async def long() -> None:
        began.append(now())
        await asyncio.sleep(1e6)

    a = made()
    for number in range(1_200):
        share(a, long, 3600, f"t{number}", policy=ExecPolicy.WAIT)
    async with a:
        await asyncio.sleep(2)

        assert len(began) == 1_200


async def test_first_run_may_be_later(made: Made) -> None:
    journal = Journal()
    a = made()
    share(a, journal.body("next"), 60, "next", first_run=FirstRun.NEXT)
    share(a, journal.body("then"), 60, "then", first_run=ZERO + timedelta(seconds=7))
    share(a, journal.body("grid"), 60, "grid", first_run=ZERO - timedelta(seconds=50))
    share(a, journal.body("extra"), None, "extra", trigger=Cron("0 * * * *"), first_run=FirstRun.NOW)
    async with a:
        await asyncio.sleep(65)

    assert journal.lines == [
        (name, pytest.approx(second, abs=0.01))
        for name, second in [("extra", 0), ("then", 7), ("grid", 10), ("next", 60)]
    ]


@pytest.mark.parametrize("first_run", [None, FirstRun.NOW, ZERO + timedelta(seconds=7), ZERO - timedelta(seconds=5)])
async def test_nothing_runs_behind_its_until_and_another_rule_begins_anew(
    made: Made, first_run: FirstRun | datetime | None
) -> None:
    journal = Journal()
    a, b = made(), made(version=1)
    task = share(a, journal.body("a"), first_run=first_run, until=ZERO - timedelta(seconds=1))
    share(b, journal.body("b"), None, trigger=Every(20))
    async with a:
        await asyncio.sleep(20)
        assert (task.state, journal.lines) == ("over", [])
    async with b:
        await asyncio.sleep(40)

    assert journal.lines == [("b", pytest.approx(35, abs=0.01)), ("b", pytest.approx(55, abs=0.01))]


async def test_alone_and_without_a_store_it_runs_here(loop: VirtualLoop) -> None:
    scheduler = Scheduler(clock=loop.clock)
    journal = Journal()
    task = share(scheduler, journal.body("alone"))
    async with scheduler:
        await asyncio.sleep(25)
        later = share(scheduler, journal.body("later"), 10, "later")
        await asyncio.sleep(1.5)

        assert later.last_run is not None
        assert later.last_run.fence is not None

    assert [second for who, second in journal.lines if who == "alone"] == pytest.approx([0, 10, 20], abs=0.01)
    assert [run.outcome for run in task.history()] == [Outcome.SUCCEEDED] * 3


async def test_a_run_knows_its_fence_and_its_take(made: Made) -> None:
    seen: list[tuple[int, int]] = []

    async def body() -> None:
        run = current_run()
        assert run.fence is not None
        run.check()
        assert not run.lost.is_set()
        seen.append((run.fence, run.take))

    a = made()
    task = share(a, body)
    async with a:
        await asyncio.sleep(15)

    assert [take for _, take in seen] == [1, 1]
    assert seen[0][0] < seen[1][0]
    assert [(run.fence, run.take) for run in task.history()] == seen


async def test_the_ledger_is_in_the_store(made: Made) -> None:
    journal = Journal(3)
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(25)

        assert told(await a.history("job")) == told(await b.history("job"))
        assert told(await a.history("job")) == [("SUCCEEDED", None, tick, 1, 1) for tick in (0.0, 10.0, 20.0)]
        assert {run.instance for run in await a.history("job")} <= {
            a.json_repr()["instance"],
            b.json_repr()["instance"],
        }
        assert told(await a.history("job", 1)) == [("SUCCEEDED", None, 20.0, 1, 1)]


# --- policies ---


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ExecPolicy.CANCEL, [("CANCELLED", "replaced", 0.0, 1, 1), ("CANCELLED", "replaced", 10.0, 1, 1)]),
        (
            ExecPolicy.WAIT,
            [("SUCCEEDED", None, 0.0, 1, 1), ("SKIPPED", "overlap", 10.0, 1, 1), ("SUCCEEDED", None, 20.0, 1, 1)],
        ),
        (
            ExecPolicy.SKIP,
            [("SUCCEEDED", None, 0.0, 1, 1), ("SKIPPED", "overlap", 10.0, 2, 1), ("SUCCEEDED", None, 30.0, 1, 1)],
        ),
        (
            ExecPolicy.SHIELD,
            [("SUCCEEDED", None, 0.0, 1, 1), ("SKIPPED", "overlap", 10.0, 1, 1), ("SUCCEEDED", None, 20.0, 1, 1)],
        ),
    ],
)
async def test_policies_hold_across_instances(made: Made, policy: ExecPolicy, expected: list[Any]) -> None:
    journal = Journal(25)
    a, b = made(), made()
    for each in (a, b):
        share(each, journal.body("x"), policy=policy, overlap_on_loss=policy is ExecPolicy.SHIELD)
    async with started(a, b):
        await asyncio.sleep(70)
        found = told(await a.history("job"))

        assert found[: len(expected)] == expected


async def test_a_run_that_swallows_its_cancellation_blocks_the_task_everywhere(made: Made) -> None:
    began: list[float] = []

    async def stubborn() -> None:
        began.append(now())
        end = now() + 35
        while now() < end:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(end - now())

    a, b = made(), made()
    share(a, stubborn)
    task = share(b, stubborn)
    async with started(a, b):
        await asyncio.sleep(32)
        assert len(began) == 1
        await b.inspect()
        assert task.running
        await asyncio.sleep(10)
        found = told(await a.history("job"))
        await asyncio.sleep(60)

    assert began[:2] == pytest.approx([0, 35], abs=0.3)
    assert found[0] == ("CANCELLED", "replaced", 0.0, 1, 1)
    assert found[1] == ("SKIPPED", "hung", 10.0, 2, 1)


async def test_a_failure_and_a_time_limit_are_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[float] = []

    async def body() -> None:
        calls.append(now())
        if len(calls) == 1:
            raise ValueError("first")
        await asyncio.sleep(60)

    a = made()
    share(a, body, max_timeout_s=3)
    async with a:
        await asyncio.sleep(15)
        found = await a.history("job")

    assert told(found) == [("FAILED", None, 0.0, 1, 1), ("TIMED_OUT", "deadline", 10.0, 1, 1)]
    assert found[0].error == "ValueError: first"


async def test_retries_go_on_within_the_lease(made: Made) -> None:
    calls: list[float] = []

    async def body() -> None:
        calls.append(now())
        if len(calls) < 3:
            raise OSError("again")

    a = made()
    share(a, body, 100, retries=3, retry_interval_s=15)
    async with a:
        await asyncio.sleep(50)
        found = await a.history("job")

    assert calls == pytest.approx([0, 15, 30], abs=0.01)
    assert [(run.outcome, run.attempts) for run in found] == [(Outcome.SUCCEEDED, 3)]


async def test_a_plain_function_runs_in_a_thread(loop: VirtualLoop, made: Made) -> None:
    fences: list[int | None] = []

    def plain() -> None:
        fences.append(current_run().fence)

    a = made()
    task = share(a, plain, overlap_on_loss=True)
    async with a:
        await asyncio.sleep(0.1)
        await reached(task.history)

    assert fences[0] is not None


# --- missed ticks ---


@pytest.mark.parametrize(
    ("missed", "away_s", "expected"),
    [
        (Missed.ONCE, 42, [("SKIPPED", "missed", 10.0, 3, 1), ("SUCCEEDED", None, 40.0, 1, 1)]),
        (Missed.ONCE, 47, [("SKIPPED", "missed", 10.0, 4, 1), ("SUCCEEDED", None, 50.0, 1, 1)]),
        (Missed.SKIP, 42, [("SKIPPED", "missed", 10.0, 4, 1), ("SUCCEEDED", None, 50.0, 1, 1)]),
        (Missed.ALL, 32, [("SUCCEEDED", None, tick, 1, 1) for tick in (10.0, 20.0, 30.0, 40.0)]),
    ],
)
async def test_ticks_while_nobody_was_there(
    made: Made, caplog: pytest.LogCaptureFixture, missed: Missed, away_s: float, expected: list[Any]
) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), missed=missed)
    share(b, journal.body("b"), missed=missed)
    async with a:
        await asyncio.sleep(2)
    await asyncio.sleep(away_s - 2)
    async with b:
        await asyncio.sleep(12)
        found = told(await b.history("job"))

    assert found[0] == ("SUCCEEDED", None, 0.0, 1, 1)
    assert found[1 : 1 + len(expected)] == expected
    said = any("no instance was there for them, or the store was not" in each.getMessage() for each in caplog.records)
    assert said is (missed is not Missed.ALL)


async def test_ticks_while_suspended_are_told_as_such_and_who_held_them(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    task = share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(5)
        async with task.suspend("for a while"):
            await asyncio.sleep(32)
        await asyncio.sleep(10)
        runs = await b.history("job")
        await task.pause("a \0 migration", for_s=32)
        await asyncio.sleep(50)
        paused = [run.error for run in await b.history("job") if run.outcome is Outcome.SKIPPED][-1]
        kept = [run.error for each in (a, b) for run in each.tasks["job"].history() if run.outcome is Outcome.SKIPPED]
        here = b.json_repr()["instance"]

    assert told(runs)[1:] == [("SKIPPED", "suspended", 10.0, 3, 1), ("SUCCEEDED", None, 40.0, 1, 1)]
    who = runs[1].error
    assert who is not None
    assert who.startswith("held by suspend() in ")
    assert who.endswith(f" on {here} (for a while)")
    assert paused == f"held by pause() on {here} (a \0 migration)"
    assert sorted(kept) == sorted([who, paused])
    assert [each for each in caplog.messages if each.endswith(f"skipped (suspended): {who}")]


async def test_short_intervals_keep_up(made: Made) -> None:
    calls: list[float] = []

    async def body() -> None:
        calls.append(now())

    a, b = made(), made()
    share(a, body, 0.05)
    share(b, body, 0.05)
    async with started(a, b):
        await asyncio.sleep(10)
        rows = await a.history("job", 10_000)

    assert len(calls) > 60
    ticks = [(round(at(run.scheduled_at) * 20), run.count) for run in rows]  # type: ignore[operator]
    assert all(first + count == following for (first, count), (following, _) in pairwise(ticks))


# --- suspension, pause ---


async def test_a_suspension_holds_everywhere_and_waits_there_too(made: Made) -> None:
    journal = Journal(4)
    a, b = made(), made()
    share(a, journal.body("a"))
    task = share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(21)
        running_on = journal.lines[-1][0]
        other = {"a": b, "b": a}[running_on].tasks["job"]
        async with other.suspend("migration"):
            entered = now()
            assert not journal.going_on
            await asyncio.sleep(30)
            assert not journal.going_on
            inside = len(journal.lines)
            await asyncio.gather(a.inspect(), b.inspect())
            assert task.suspended
            assert "migration" in json.dumps(a.tasks["job"].json_repr())
        await asyncio.sleep(10)

    assert entered == pytest.approx(24, abs=0.6)
    assert inside == 3
    assert len(journal.lines) > inside


async def test_suspensions_nest_and_overlap(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        async with a.tasks["job"].suspend(), b.tasks["job"].suspend():
            async with a.tasks["job"].suspend():
                await asyncio.sleep(10)
            await asyncio.sleep(10)
            assert len(journal.lines) == 1
        await asyncio.sleep(10)

    assert journal.seconds == pytest.approx([0, 22, 30], abs=0.6)


async def test_a_suspension_inside_its_own_run_does_not_wait_for_itself(made: Made) -> None:
    inside: list[float] = []

    async def body() -> None:
        async with a.tasks["job"].suspend():
            inside.append(now())
            await asyncio.sleep(3)

    a = made()
    share(a, body)
    async with a:
        await asyncio.sleep(15)

    assert inside == pytest.approx([0, 10], abs=0.1)


async def test_a_short_pause_is_short_from_the_start_on(made: Made) -> None:
    """It has no holder whose clock could be wrong; and whoever made it claims when it is over."""
    journal = Journal(0.1)
    a = made()
    task = share(a, journal.body("a"), 1)
    async with a:
        for _ in range(3):
            await asyncio.sleep(2.5)
            began = now()
            await task.pause(for_s=1)
            await asyncio.sleep(3)

            assert 1 <= next(second for second in journal.seconds if second > began) - began < 1.6


async def test_a_pause_that_nobody_is_left_to_end_ends_at_a_poll(made: Made) -> None:
    journal = Journal(0.1)
    a, b = made(), made()
    task = share(a, journal.body("a"), 1)
    share(b, journal.body("b"), 1)
    async with b:
        async with a:
            await asyncio.sleep(2.5)
            await task.pause(for_s=1)
            began = now()
        await asyncio.sleep(6)

    assert next(second for second in journal.seconds if second > began) - began < 3.6


async def test_suspending_all_holds_what_is_registered_meanwhile(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    local: list[float] = []

    async def here() -> None:
        local.append(now())

    a.schedule_task(here, 1)
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2.5)
        async with a.suspend("all"):
            share(a, journal.body("a"), 1, "late", first_run=FirstRun.NEXT)
            await asyncio.sleep(20)
            share(b, journal.body("b"), 1, "late")
            await asyncio.sleep(3)
            assert len(journal.lines) == 1
            assert len(local) == 3
        await asyncio.sleep(5)

    assert len(journal.lines) > 2
    assert len(local) > 3


async def test_suspending_all_waits_for_the_runs_elsewhere_of_what_is_registered_while_it_waits(made: Made) -> None:
    elsewhere, late = Journal(4), Journal(40)
    a, b = made(), made()
    share(b, elsewhere.body("b"), 1000)
    share(b, late.body("b"), 1000, "late")
    async with b:
        await asyncio.sleep(1)
        async with a:
            share(a, elsewhere.body("a"), 1000)

            async def inside() -> float:
                async with a.suspend("all"):
                    assert not late.going_on
                    return now()

            entering = asyncio.create_task(inside())
            await asyncio.sleep(1)
            assert elsewhere.going_on
            share(a, late.body("a"), 1000, "late")
            entered = await entering

    assert entered == pytest.approx(40, abs=1)


async def test_suspending_all_holds_each_task_once_however_often_it_is_said_that_it_is_known(made: Made) -> None:
    a = made()
    share(a, nothing)
    async with a:
        async with a.suspend("all"):
            share(a, nothing, 10, "late")
            await asyncio.sleep(3 * 3600)
            held = [len(task["holds"]) for task in (await a.inspect())["tasks"]]
        await asyncio.sleep(1)
        left = [len(task["holds"]) for task in (await a.inspect())["tasks"]]

    assert (held, left) == ([1, 1], [0, 0])


async def test_suspending_all_holds_what_is_registered_after_another_start_too(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, nothing)
    share(b, journal.body("b"), 1, "late", first_run=FirstRun.NEXT)
    await a.start()
    async with a.suspend("all"):
        await a.stop()
        await a.start()
        share(a, journal.body("a"), 1, "late")
        await asyncio.sleep(1)
        async with b:
            await asyncio.sleep(60)
        assert journal.lines == []
    await asyncio.sleep(5)
    await a.stop()

    assert journal.lines != []


async def test_a_lost_hold_cancels_whoever_is_inside(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    task = share(a, nothing)
    left: list[str] = []

    async def inside() -> None:
        async with task.suspend("long work"):
            store.is_away = True
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                left.append(f"{now():.0f}")
                raise

    async with a:
        await asyncio.sleep(1)
        with pytest.raises(SuspendLost, match="job"):
            await inside()
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        store.is_away = False
        await asyncio.sleep(20)

    assert left in (["10"], ["11"])


async def test_a_suspension_that_cannot_be_told_to_the_store_is_refused(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    task = share(a, nothing)
    async with a:
        await asyncio.sleep(1)
        store.is_away = True
        with pytest.raises(StoreUnavailable):
            async with task.suspend():
                raise AssertionError("it pretends")
        store.is_away = False
        await asyncio.sleep(15)
        assert not task.suspended
        assert len(await a.history("job")) >= 2


async def test_who_waits_for_a_suspension_may_give_up(made: Made) -> None:
    journal = Journal(8)
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(1)
        for each in (a, b):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1), each.tasks["job"].suspend():
                    raise AssertionError("a run is going on")
        await asyncio.sleep(14)
        assert journal.seconds == pytest.approx([0, 10], abs=0.1)


async def test_a_long_wait_is_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(50)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(1)
        for each in (a, b):
            async with each.tasks["job"].suspend("cleaning up"):
                pass

    assert any("cleaning up" in record.message and "has waited 30" in record.message for record in caplog.records)


async def test_a_pause_outlives_its_scheduler(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with a:
        await asyncio.sleep(2)
        await a.tasks["job"].pause("by the night shift")
        assert a.tasks["job"].state == "paused"
    async with b:
        await asyncio.sleep(40)
        await b.inspect()
        assert b.tasks["job"].state == "paused"
        assert "night shift" in json.dumps(b.tasks["job"].json_repr())
        assert len(journal.lines) == 1
        await b.tasks["job"].resume()
        await asyncio.sleep(10)
        assert journal.seconds == pytest.approx([0, 42, 50], abs=0.1)


async def test_a_pause_may_end_by_itself(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        await a.tasks["job"].pause(for_s=60)
        await asyncio.sleep(50)
        assert len(journal.lines) == 1
        await asyncio.sleep(20)
        assert len(journal.lines) >= 2
        with pytest.raises(InvalidArgument):
            await a.tasks["job"].pause(for_s=0)


# --- on and off ---


async def test_disable_is_of_one_instance(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        a.tasks["job"].disable()
        assert a.tasks["job"].state == "disabled"
        journal.lines.clear()
        await asyncio.sleep(50)
        assert {who for who, _ in journal.lines} == {"b"}
        b.tasks["job"].disable()
        await asyncio.sleep(30)
        assert len(journal.lines) == 5
        a.tasks["job"].enable()
        await asyncio.sleep(20)
        assert {who for who, _ in journal.lines[5:]} == {"a"}


async def test_remove_leaves_the_task_to_others(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        a.tasks["job"].remove()
        assert "job" not in a.tasks
        journal.lines.clear()
        await asyncio.sleep(30)
        assert [who for who, _ in journal.lines] == ["b"] * 3
        share(a, journal.body("a again"))
        b.tasks["job"].remove()
        await asyncio.sleep(20)
        assert [who for who, _ in journal.lines[3:]] == ["a again"] * 2


async def test_a_task_that_is_not_known_here_is_left_to_others(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    other = Journal()
    share(b, other.body("b"), name="other")
    async with started(a, b):
        await asyncio.sleep(55)

    assert len(journal.lines) == len(other.lines) == 6
    assert all(second % 10 <= 2.4 for second in journal.seconds + other.seconds)  # Left to the other one at first.


# --- run now, wait ---


async def test_run_now_has_one_instance_run_it(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(20)
        run = await a.tasks["job"].run_now()
        assert (run.outcome, run.manual, run.task) == (Outcome.SUCCEEDED, True, "job")
        assert now() == pytest.approx(21, abs=1.5)
        b.tasks["job"].disable()
        journal.lines.clear()
        assert (await b.tasks["job"].run_now()).manual
        assert [who for who, _ in journal.lines] == ["a"]
        await asyncio.sleep(80)

    assert 100 <= journal.seconds[-1] <= 102.4  # The grid stays; it is b's turn at first, which is disabled.


@pytest.mark.parametrize("idle_s", [5, 150])
async def test_run_now_runs_a_task_here_that_is_disabled_everywhere(made: Made, idle_s: float) -> None:
    """When nobody else has begun after two polls; also when a tick is due that nobody runs."""
    journal = Journal()
    a, b = made(), made()
    tasks = [share(each, journal.body(name), 100) for name, each in (("a", a), ("b", b))]
    async with started(a, b):
        await asyncio.sleep(2)
        for task in tasks:
            task.disable()
        await asyncio.sleep(idle_s)
        journal.lines.clear()
        run = await tasks[1].run_now()
        assert (run.manual, run.outcome) == (True, Outcome.SUCCEEDED)
        await asyncio.sleep(50)
        assert journal.lines == [("b", pytest.approx(2 + idle_s + 4, abs=0.6))]
        tasks[0].enable()
        assert (await tasks[1].run_now()).manual


async def test_an_extra_run_that_a_stop_cuts_is_over_as_whoever_asked_hears(made: Made) -> None:
    journal = Journal(5)
    a, b = made(), made()
    here, there = share(a, journal.body("a"), 1000), share(b, journal.body("b"), 1000)
    await a.start()
    await asyncio.sleep(10)
    own = asyncio.ensure_future(here.run_now())
    await asyncio.sleep(1)
    await a.stop()
    with pytest.raises(WrongState):
        await own
    await a.start()
    async with b:
        there.disable()
        await asyncio.sleep(20)
        asked = asyncio.ensure_future(there.run_now())
        await asyncio.sleep(1)
        await a.stop()
        heard = await asked
        await asyncio.sleep(20)
        found = [run for run in await b.history("job") if run.manual]

    assert len(journal.lines) == 3
    assert [(run.outcome.value, run.reason and run.reason.value) for run in found] == [("CANCELLED", "shutdown")] * 2
    assert heard == found[-1]


async def test_run_now_is_refused_while_it_runs_or_is_held(made: Made) -> None:
    journal = Journal(5)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(1)
        with pytest.raises(TaskBusy, match="job"):
            await b.tasks["job"].run_now()
        await asyncio.sleep(10)
        async with a.tasks["job"].suspend("for now"):
            with pytest.raises(TaskHeld, match="for now"):
                await b.tasks["job"].run_now()
        waiting = asyncio.ensure_future(a.tasks["job"].run_now())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(TaskBusy):
            await b.tasks["job"].run_now()
        assert (await waiting).outcome is Outcome.SUCCEEDED


async def test_wait_waits_wherever_it_runs(made: Made) -> None:
    journal = Journal(5)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    share(b, journal.body("b"), 100)
    async with started(a, b):
        await asyncio.sleep(1)
        runs = await asyncio.gather(a.tasks["job"].wait(), b.tasks["job"].wait())
        assert now() == pytest.approx(5.5, abs=0.6)
        assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * 2
        assert runs[0] == runs[1]
        assert await a.tasks["job"].wait() is None


async def test_what_is_asked_right_after_the_start_waits_until_the_store_knows_the_task(made: Made) -> None:
    a, b = made(), made()
    task = share(a, nothing, first_run=FirstRun.NEXT)
    share(b, nothing, 3600, "other", first_run=FirstRun.NEXT)
    async with started(a, b):
        assert await task.wait() is None
        assert (await b.tasks["other"].run_now()).outcome is Outcome.SUCCEEDED
        late = share(a, nothing, 3600, "late", first_run=FirstRun.NEXT)
        await late.pause("at once")
        assert late.state == "paused"
        await late.resume()
        async with late.suspend():
            pass


async def test_own_run_may_not_wait_for_itself(made: Made) -> None:
    raised: list[type[Exception]] = []

    async def body() -> None:
        task = a.tasks["job"]
        for call in (task.wait, task.run_now):
            try:
                await call()
            except OwnRun as exc:
                raised.append(type(exc))

    a = made()
    share(a, body)
    async with a:
        await asyncio.sleep(1)

    assert raised == [OwnRun, OwnRun]


async def test_cancel_ends_the_run_that_goes_on_here(made: Made) -> None:
    journal = Journal(50)
    a = made()
    task = share(a, journal.body("a"), 100)
    async with a:
        await asyncio.sleep(1)
        assert task.cancel("enough")
        await asyncio.sleep(1)
        assert told(await a.history("job")) == [("CANCELLED", "requested", 0.0, 1, 1)]
        await asyncio.sleep(100)
        assert len(journal.lines) == 2


# --- stop and loss ---


async def test_what_is_stopped_runs_again_elsewhere(made: Made) -> None:
    journal = Journal(8)
    a, b = made(), made()
    share(a, journal.body("a"), 100)
    async with a:
        await asyncio.sleep(3)
        share(b, journal.body("b"), 100)
        await b.start()
        await asyncio.sleep(1)
    stopped = now()
    await asyncio.sleep(20)
    found = told(await b.history("job"))
    await b.stop()

    assert journal.lines[0] == ("a", 0)
    assert journal.lines[1][0] == "b"
    assert journal.lines[1][1] - stopped < 1
    assert found == [("LOST", "shutdown", 0.0, 1, 1), ("SUCCEEDED", None, 0.0, 1, 2)]


async def test_what_is_stopped_is_not_repeated_if_nobody_wants_that(made: Made) -> None:
    journal = Journal(8)
    a, b = made(), made()
    for each, name in ((a, "a"), (b, "b")):
        share(each, journal.body(name), 100, on_lost=OnLost.SKIP)
    async with a:
        await asyncio.sleep(3)
    async with b:
        await asyncio.sleep(20)
        found = told(await b.history("job"))

    assert [who for who, _ in journal.lines] == ["a"]
    assert found == [("CANCELLED", "shutdown", 0.0, 1, 1)]


async def test_a_tick_that_a_crash_would_skip_is_not_claimed_before_it_is_due(made: Made, store: MemoryStore) -> None:
    """Otherwise one that nobody has begun would be skipped, too."""
    a = made()
    share(a, nothing, name="again", on_lost=OnLost.RETRY)
    share(a, nothing, name="once", on_lost=OnLost.SKIP)
    holders: dict[str, list[bool]] = {"again": [], "once": []}
    async with a:
        for second in (19.95, 29.95, 39.95):
            await asyncio.sleep(second - now())
            for record in (await store.scan()).records:
                holders[record.name].append(record.holder is not None)
        await asyncio.sleep(1)
        found = await a.history("once")

    assert holders == {"again": [True] * 3, "once": [False] * 3}
    assert [(run.outcome, at(run.scheduled_at)) for run in found] == [(Outcome.SUCCEEDED, 10.0 * n) for n in range(5)]
    assert all(run.lateness_s < 0.1 for run in found)


async def test_stop_gives_back_what_was_claimed_ahead(made: Made, store: MemoryStore) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(9.95)
        share(b, journal.body("b"))
        await b.start()
        assert a._life.sharing is not None
        assert a._life.sharing.member.coordinator.claims
        began = now()
    assert now() == pytest.approx(began, abs=0.01)  # Without waiting for the tick.
    await asyncio.sleep(4)
    found = told(await b.history("job"))
    await b.stop()

    assert journal.lines[1] == ("b", pytest.approx(11, abs=1.5))  # It was left to the other one at first.
    assert found[1][-1] == 1  # The claim that never began is not counted.


async def test_a_lease_that_cannot_be_renewed_cuts_the_run(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    lost: list[tuple[float, bool, str]] = []

    async def body() -> None:
        run = current_run()
        event = run.lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            with pytest.raises(LeaseLost) as caught:
                run.check()
            lost.append((now(), event.is_set(), caught.value.reason))
            raise

    share(a, body, 100)
    async with a:
        await asyncio.sleep(1)
        store.is_away = True
        await asyncio.sleep(30)
        assert a.json_repr()["store"]["state"] == "degraded"  # type: ignore[index]
        store.is_away = False
        await asyncio.sleep(10)
        found = told(await a.history("job"))
        assert a.json_repr()["store"]["state"] == "ok"  # type: ignore[index]

    assert lost == [(pytest.approx(10, abs=1), True, "lease lost")]
    assert found[0] == ("LOST", "lease lost", 0.0, 1, 1)
    assert journal_of(found[1:]) == []


def journal_of(found: list[Any]) -> list[Any]:
    return [each for each in found if each[0] != "LOST"]


async def test_a_shielded_run_goes_on_without_its_lease(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    seen: list[tuple[float, bool]] = []

    async def body() -> None:
        run = current_run()
        for _ in range(6):
            await asyncio.sleep(5)
            seen.append((now(), run.lost.is_set()))

    share(a, body, 100, policy=ExecPolicy.SHIELD, overlap_on_loss=True)
    async with a:
        await asyncio.sleep(3)
        store.is_away = True
        await asyncio.sleep(13)
        store.is_away = False
        await asyncio.sleep(20)
        found = told(await a.history("job"))

    assert [is_lost for second, is_lost in seen if second != 20] == [False, False, True, False, False]
    assert found == [("SUCCEEDED", None, 0.0, 1, 1)]
    assert any("another instance may run it" in record.message for record in caplog.records)
    assert any("renewed after all" in record.message for record in caplog.records)


async def test_a_stop_after_an_outage_does_not_wait_for_the_next_try(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    share(a, Journal(100).body("a"), 1000)
    await a.start()
    await asyncio.sleep(1)
    store.is_away = True
    await asyncio.sleep(8)
    store.is_away = False
    began = now()
    await a.stop()

    assert now() - began < 0.1
    (record,) = (await store.scan()).records
    assert record.holder is None


async def test_a_store_that_can_be_read_and_not_written_is_told_once(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    share(a, nothing, 1)
    async with a:
        await asyncio.sleep(1.5)
        store.is_full = True
        await asyncio.sleep(60)
        assert len([each for each in caplog.records if "does not answer" in each.message]) == 1
        store.is_full = False
        await asyncio.sleep(6)
        assert len([each for each in caplog.records if "answers again" in each.message]) == 1
        assert a.json_repr()["store"]["state"] == "ok"  # type: ignore[index]


async def test_local_tasks_do_not_notice_that_the_store_is_away(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    store.is_away = True
    a = Scheduler(store, clock=loop.clock)
    local: list[float] = []

    async def here() -> None:
        local.append(now())

    a.schedule_task(here, 1)
    journal = Journal()
    share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(30.5)
        assert len(local) == 31
        assert journal.lines == []
        store.is_away = False
        await asyncio.sleep(10)
        assert journal.lines


async def test_a_run_that_outlives_stop_keeps_its_task_from_running_elsewhere(made: Made) -> None:
    began: list[tuple[str, float]] = []

    def stubborn(who: str) -> Callable[[], Awaitable[None]]:
        async def body() -> None:
            began.append((who, now()))
            end = now() + 60
            while now() < end:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(end - now())

        return body

    a, b = made(), made()
    share(a, stubborn("a"), 1000)
    share(b, stubborn("b"), 1000)
    await a.start()
    await asyncio.sleep(1)
    await b.start()
    assert [task.name for task in await a.stop(1)] == ["job"]
    await asyncio.sleep(50)
    assert [who for who, _ in began] == ["a"]
    await asyncio.sleep(20)
    assert [who for who, _ in began] == ["a", "b"]
    await asyncio.sleep(60)
    await b.stop(1)


# --- releases ---


async def test_a_new_release_changes_the_rule_and_an_old_one_follows(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    old, new = made(version=1), made(version=2)
    share(old, journal.body("old"), 60)
    share(new, journal.body("new"), 20)
    with caplog.at_level(logging.INFO):
        async with old:
            await asyncio.sleep(5)
            async with new:
                await asyncio.sleep(50)
            journal.lines.clear()
            await asyncio.sleep(100)
        assert len(journal.lines) == 5  # By the rule that it reads in the store.
        async with old:
            await asyncio.sleep(30)

    assert any("follows the rule of version 2" in record.message for record in caplog.records)


async def test_two_rules_of_one_version_are_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    a, b = made(), made()
    share(a, nothing, 60)
    share(b, nothing, 20)
    async with started(a, b):
        await asyncio.sleep(5)

    found = [record.message for record in caplog.records if "two rules" in record.message]
    assert len(found) == 1
    assert "every 20 s" in found[0]
    assert "every 60 s" in found[0]


async def test_of_two_rules_of_one_version_the_last_one_to_come_stands(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    """Each says every hour that it knows the task; if that brought its rule back, no tick would ever come."""
    journal = Journal()
    lease = LeaseTiming(ttl_s=600, renew_s=100, grace_s=250, poll_s=100)
    a, b = made(lease=lease), made(lease=lease)
    share(a, journal.body("a"), 7200)
    share(b, journal.body("b"), 7500)
    async with started(a, b):
        await asyncio.sleep(10 * 3600)

    assert journal.seconds[2:] == pytest.approx([journal.seconds[1] + 7500 * each for each in range(1, 4)], abs=1)
    assert len([record for record in caplog.records if "two rules" in record.message]) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"jitter_s": 1}),
        ({"jitter_s": 2}, {"jitter_s": 1}),
        ({}, {"until": ZERO + timedelta(seconds=86_400)}),
        ({"until": ZERO + timedelta(seconds=10)}, {}),
        ({"until": ZERO + timedelta(seconds=50)}, {"until": ZERO + timedelta(seconds=86_400), "jitter_s": 0.5}),
    ],
)
async def test_only_another_interval_begins_a_grid_of_its_own(
    made: Made, before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = made(version=1), made(version=2)
    share(old, nothing, 60, **before)
    share(new, nothing, 60, **after)
    async with old:
        await asyncio.sleep(85)
    async with new:
        await asyncio.sleep(120)
        ticks = [at(run.scheduled_at) for run in await new.history("job")]

    assert ticks[-2:] == pytest.approx([ticks[0] + 120, ticks[0] + 180])


async def test_a_task_whose_end_comes_nearer_ends_then(made: Made) -> None:
    journal = Journal()
    old, new = made(version=1), made(version=2)
    share(old, journal.body("old"), 60)
    share(new, journal.body("new"), 60, until=ZERO + timedelta(seconds=100))
    async with old:
        await asyncio.sleep(30)
    async with new:
        await asyncio.sleep(300)

    assert journal.seconds == pytest.approx([0, 60], abs=0.1)


@pytest.mark.parametrize(("before_s", "after_s"), [(60, 300), (300, 60)])
async def test_a_rolling_release_loses_no_more_than_one_new_interval(
    made: Made, before_s: float, after_s: float
) -> None:
    """In either order: also when an instance of the old version starts again in between."""
    journal = Journal()
    old, new = [made(version=1) for _ in range(3)], [made(version=2) for _ in range(3)]
    for each in old:
        share(each, journal.body("old"), before_s)
    for each in new:
        share(each, journal.body("new"), after_s)
    async with contextlib.AsyncExitStack() as stack:
        for each in old:
            await stack.enter_async_context(each)
        await asyncio.sleep(1000)
        begun = now()
        for leaving, coming in zip(old, new, strict=True):
            await leaving.stop()
            await asyncio.sleep(20)
            await stack.enter_async_context(coming)
            await asyncio.sleep(20)
            await leaving.start()
            await asyncio.sleep(20)
            await leaving.stop()
        await asyncio.sleep(1000)

    first, *rest = [second for second in journal.seconds if second > begun + 20]
    assert first <= begun + 20 + after_s + 0.1
    assert [later - earlier for earlier, later in pairwise([first, *rest])] == pytest.approx(
        [after_s] * len(rest), abs=0.1
    )


@pytest.mark.parametrize("rule", ['{"interval_us":10000000,"until_us":"x"}', '{"moons":3}', "[" * 20_000])
async def test_a_rule_that_cannot_be_read_is_left_to_other_instances_and_told_once(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    journal = Journal()
    a = made()
    share(a, nothing)
    share(a, journal.body("a"), 10, "other")
    async with a:
        await asyncio.sleep(5)
        (old,) = (await store.scan(["job"])).records
        await store.swap(old, replace(old, rev=old.rev + 1, spec=rule, version=(9,)))
        await asyncio.sleep(300)
        (after,) = (await store.scan(["job"])).records
        assert {task["name"] for task in (await a.inspect())["tasks"]} == {"job", "other"}

    assert (after.next, after.holder) == (old.next, None)
    assert len(journal.lines) == 31
    assert len([each for each in caplog.messages if "of version 9, cannot be read here" in each]) == 1
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_release_during_a_run_is_not_lost(made: Made) -> None:
    journal = Journal(10)
    old, new = made(version=(1, 0)), made(version=(1, 1))
    share(old, journal.body("old"), 100)
    share(new, journal.body("new"), 15)
    async with old:
        await asyncio.sleep(5)
        async with new:
            await asyncio.sleep(57)
            assert journal.seconds == pytest.approx([0, 15, 30, 45, 60], abs=0.1)


async def test_a_release_while_missed_ticks_are_skipped_is_not_lost(
    made: Made, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim that ends without a run, and the rule is another one before the store has heard of that."""
    journal = Journal()
    old, new = made(version=1), made(version=2)
    share(old, journal.body("old"), 10, missed=Missed.SKIP)
    share(new, journal.body("new"), 15, missed=Missed.SKIP)
    async with old:
        await asyncio.sleep(5)
    await asyncio.sleep(42)
    async with old:
        await asyncio.sleep(0.01)
        (record,) = (await store.scan()).records
        assert record.holder is not None
        async with new:
            await asyncio.sleep(30)
            history = [(run.outcome.name, run.count) for run in await new.history("job")]

    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert journal.seconds[1:] == pytest.approx([55, 70], abs=0.1)
    assert history[:2] == [("SUCCEEDED", 1), ("SKIPPED", 3)]


# --- at the door ---


def test_what_cannot_be_shared_is_refused_at_the_door() -> None:
    scheduler = Scheduler()

    class Mine:
        def after(self, moment: Any) -> Any:
            return moment + timedelta(hours=1)

        def at_or_before(self, moment: Any) -> Any:
            return moment

    for wrong, argument in [
        ({"name": None}, "name"),
        ({"name": "job\0"}, "name"),
        ({"name": "job\ud83d"}, "name"),
        ({"name": "ö" * 501}, "name"),
        ({"policy": ExecPolicy.SHIELD}, "overlap_on_loss"),
        ({"interval_s": None, "trigger": Mine()}, "trigger"),
        ({"scope": "everywhere"}, "scope"),
        ({"on_lost": "again"}, "on_lost"),
        ({"overlap_on_loss": 7}, "overlap_on_loss"),
    ]:
        given: dict[str, Any] = {"interval_s": 60, "name": "job", "scope": Scope.CLUSTER} | wrong
        with pytest.raises(InvalidArgument) as caught:
            scheduler.schedule_task(nothing, **given)
        assert caught.value.argument == argument
    with pytest.raises(InvalidArgument, match="thread"):
        scheduler.schedule_task(lambda: None, 60, name="plain", scope=Scope.CLUSTER)
    assert len(scheduler.tasks) == 0


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("store", "mysql://somewhere"),
        ("store", "scheduler.db"),
        ("store", 7),
        ("app", ""),
        ("app", "a\0b"),
        ("app", "ö" * 501),
        ("version", -1),
        ("version", ()),
        ("version", "1"),
        ("lease", 10),
    ],
)
def test_wrong_parameters_of_a_scheduler_are_refused(argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Scheduler(**{argument: value})

    assert caught.value.argument == argument


@pytest.mark.parametrize(
    "store", [MemoryStore(), SqliteStore("x.db"), SqliteStore("x.db", app="other")], ids=["memory", "sqlite", "other"]
)
def test_an_application_that_is_not_the_one_of_the_store_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="give it where the store is made") as caught:
        Scheduler(store, app="shop")

    assert caught.value.argument == "app"


def test_an_application_that_is_the_one_of_the_store_is_fine() -> None:
    Scheduler(SqliteStore("x.db", app="shop"), app="shop")
    Scheduler(SqliteStore("x.db", app="shop"))
    Scheduler("sqlite:///x.db", app="shop")


async def test_what_needs_the_store_needs_a_started_scheduler(made: Made) -> None:
    a = made()
    task: ScheduledTask[Any] = share(a, nothing)

    for call in (task.pause, task.resume, task.wait, task.run_now, a.inspect):
        with pytest.raises(WrongState, match="start"):
            await call()
    with pytest.raises(WrongState, match="start"):
        async with task.suspend():
            raise AssertionError
    with pytest.raises(WrongState, match="version"):
        task.reschedule(5)


# --- what is seen ---


async def test_what_all_do_can_be_seen_from_any(made: Made) -> None:
    journal = Journal(5)
    a, b = made(version=3), made(version=3)
    share(a, journal.body("a"))
    share(b, journal.body("b"), None, "report", trigger=Cron("0 6 * * *", tz="Europe/Berlin"))
    async with started(a, b):
        await asyncio.sleep(3)
        found: Any = await b.inspect()

    assert json.loads(json.dumps(found)) == found
    assert found["store"] == "memory"
    assert len(found["instances"]) == 2
    assert {each["version"][0] for each in found["instances"]} == {3}
    job, report = found["tasks"]
    assert (job["name"], job["rule"], job["take"]) == ("job", {"interval_us": 10_000_000}, 1)
    assert job["runs_on"] in {each["id"] for each in found["instances"]}
    assert report["rule"] == {"trigger": {"cron": "0 6 * * *", "tz": "Europe/Berlin"}}
    assert report["runs_on"] is None


async def test_a_shared_task_tells_when_it_comes_next(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    task = share(b, journal.body("b"))
    async with started(a, b):
        assert task.next_run_at is None  # Nothing was heard of it yet.
        await asyncio.sleep(33)
        assert [at(each) for each in task.upcoming(2)] == [40.0, 50.0]
        assert task.state == "waiting"
        assert task.json_repr()["scope"] == "CLUSTER"
        json.dumps(task.json_repr())


async def test_a_scheduler_that_is_started_again_has_the_same_name_everywhere(made: Made) -> None:
    journal = Journal(5)
    a = made()
    task = share(a, journal.body("a"), 10)
    async with a:
        await asyncio.sleep(8)
    async with a:
        await asyncio.sleep(14)
        async with task.suspend():
            await asyncio.sleep(22)
        await asyncio.sleep(8)
        seen = await a.inspect()
        named = {
            a.json_repr()["instance"],
            *(each["id"] for each in seen["instances"]),  # type: ignore[union-attr]
            *(each["runs_on"] for each in seen["tasks"]),  # type: ignore[union-attr]
            task.json_repr()["runs_on"],
            *(run.instance for run in task.history()),
            *(run.instance for run in await a.history("job")),
        }
        (skipped,) = [run for run in await a.history("job") if run.outcome is Outcome.SKIPPED]

    assert len(named) == 1
    assert skipped.error is not None
    assert skipped.error.endswith(f" on {named.pop()}")


async def test_the_ledger_tells_when_a_tick_was_due(made: Made) -> None:
    journal = Journal(25)
    a = made()
    task = share(a, journal.body("a"), 10, jitter_s=5, policy=ExecPolicy.SKIP)
    async with a:
        await asyncio.sleep(200)
        found = await a.history("job")
        here = task.history()[: len(found)]

    assert {run.outcome for run in found} == {Outcome.SUCCEEDED, Outcome.SKIPPED}
    assert [(run.scheduled_at, run.due) for run in found] == [(run.scheduled_at, run.due) for run in here]
    assert all(run.due > run.scheduled_at for run in found)
    assert all(run.lateness_s < 0.1 for run in found if run.lateness_s is not None)


async def test_jitter_is_the_same_for_all_instances(made: Made) -> None:
    journal = Journal(0.1)
    a, b = made(), made()
    share(a, journal.body("a"), 10, jitter_s=5)
    share(b, journal.body("b"), 10, jitter_s=5)
    async with started(a, b):
        await asyncio.sleep(100)
        rows = await a.history("job")

    assert [at(run.scheduled_at) for run in rows] == [10.0 * tick for tick in range(len(rows))]
    late = [second - 10 * tick for tick, second in enumerate(journal.seconds)]
    assert all(0 <= each < 5.1 for each in late)
    assert len({round(each, 2) for each in late}) > 5


async def test_even_rules_are_read_by_others(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"), None, trigger=Every(20))
    share(b, journal.body("b"), None, trigger=Every(20))
    async with started(a, b):
        await asyncio.sleep(60)

    assert [(second + 5) % 20 for second in journal.seconds] == pytest.approx([0, 0, 0], abs=0.01)


async def test_a_record_that_nobody_knows_is_cleared_away(loop: VirtualLoop, made: Made, store: MemoryStore) -> None:
    a, b = made(), made()
    share(a, nothing, 3600, "gone")
    share(b, nothing, 3600, "kept")
    async with a:
        await asyncio.sleep(10)
    week = timedelta(days=8)
    loop.set_the_clock(week.total_seconds())
    async with b:
        await asyncio.sleep(700)
        names = {each["name"] for each in (await b.inspect())["tasks"]}  # type: ignore[attr-defined]
        assert names == {"kept"}
        assert len(await b.history("gone")) == 1


def test_stores_are_public() -> None:
    assert issubclass(MemoryStore, Store)
    assert LeaseTiming().failover_s == pytest.approx(19.3)


# --- whatever happens to what keeps it going ---


def cancel_everything() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def ended_in(store: MemoryStore) -> list[Any]:
    """Return the endings in *store*; nobody has a claim."""
    assert [None] == [record.holder for record in (await store.scan()).records]
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
        await a.stop()  # From outside, too.

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

    assert ["CANCELLED"] == asyncio.run(ended_in(store))


class Opened(Fragile):
    """A store that knows whether it is open."""

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
    a = Scheduler(store, clock=loop.clock)
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
    a = Scheduler(store, clock=loop.clock)
    share(a, Journal().body("a"))
    await a.start()
    await asyncio.sleep(10.5)
    store.is_away = True
    await a.stop()
    assert now() < 16
    await asyncio.sleep(2)

    assert "could not be told of the last 1 ending(s)" in caplog.text
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
    assert "was cancelled from outside, and goes on" in caplog.text


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

    assert ["LOST"] == await ended_in(store)  # To be run again, as whatever is stopped.


class Stubborn:
    """Goes on for a while when it is cancelled."""

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
        warnings.simplefilter("ignore")  # Of coroutines that are not awaited: nothing was ended in order here.
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

    assert ["other"] == [each.id for each in await store.beat("other", "{}", 1_000_000_000)]


@pytest.mark.parametrize("policy", [ExecPolicy.WAIT, ExecPolicy.SHIELD])
async def test_a_run_that_is_cancelled_before_it_begins_ends_its_tick(made: Made, policy: ExecPolicy) -> None:
    journal = Journal()
    a = made()
    share(a, journal.body("a"), policy=policy, overlap_on_loss=True)

    async with a:
        await asyncio.sleep(5)
        assert a._life.sharing is not None
        host = a._life.sharing.member
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
    """A store of which one question raises what no store should."""

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


@pytest.mark.parametrize("question", ["renew", "claim", "beat", "finish", "wait"])
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
        sharing = {"a": a, "b": b}[holder]._life.sharing
        assert sharing is not None
        sharing.member.coordinator._store = Broken(store, question)  # type: ignore[assignment]
        await asyncio.sleep(200)
        degraded = sharing.state()["state"]

    assert ("ok" if question == "wait" else "degraded") == degraded
    assert f"a bug in its {question}()" in caplog.text
    run_by = {who for who, second in journal.lines if second > 60}
    assert holder not in run_by or question in ("wait", "beat")
    assert bool(run_by) == (question != "finish")  # Then it keeps the task, as its tick has not ended.


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
            sharing = a._life.sharing
            assert sharing is not None

            async def broken() -> None:
                raise RuntimeError("a bug")

            monkeypatch.setattr(sharing.member.coordinator, "_round", broken)
            await asyncio.sleep(60)  # The body asserts that it never runs twice at once.
            assert ["a", "b"] == [who for who, _ in journal.lines]
            assert "degraded" == sharing.state()["state"]
            monkeypatch.undo()
            await asyncio.sleep(5)
            assert "ok" == sharing.state()["state"]

    assert "the coordinator failed, which is a bug" in caplog.text


async def test_a_lease_that_ended_while_the_machine_slept_is_over_when_it_wakes(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    acts: list[float] = []

    async def body() -> None:
        while True:
            await asyncio.sleep(0.1)
            acts.append(loop.now_us / 1e6)

    share(a, body, 10_000)
    async with a:
        await asyncio.sleep(30)
        store.is_away = True

        loop.close_the_lid(3_600)
        woke = loop.now_us / 1e6
        await asyncio.sleep(30)

    assert acts[-1] < woke + 0.6


# --- suspensions, in whatever task ---


async def test_a_suspension_may_be_left_in_another_task_than_it_was_entered_in(made: Made) -> None:
    journal = Journal()
    a = made()
    task = share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(2)
        suspension = task.suspend()
        await asyncio.create_task(suspension.__aenter__())
        await asyncio.sleep(20)
        await asyncio.create_task(suspension.__aexit__(None, None, None))
        await asyncio.sleep(20)

        assert journal.seconds == pytest.approx([0, 22, 30, 40], abs=0.6)
        assert not task.suspended


async def test_a_lost_suspension_that_another_task_entered_is_told_when_it_is_left(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    store = Fragile(loop)
    a = Scheduler(store, clock=loop.clock)
    task = share(a, nothing)
    async with a:
        await asyncio.sleep(2)
        suspension = task.suspend("a fixture")
        await asyncio.create_task(suspension.__aenter__())
        store.is_away = True
        await asyncio.sleep(60)
        store.is_away = False

        assert "its hold of task 'job' could not be renewed" in caplog.text
        with pytest.raises(SuspendLost, match="a fixture"):
            await suspension.__aexit__(None, None, None)


@pytest.mark.parametrize("what", ["suspend", "pause"])
async def test_what_waits_for_a_claim_to_be_given_back_does_not_wait_for_ever(loop: VirtualLoop, what: str) -> None:
    store = Fragile(loop)
    journal = Journal()
    a = Scheduler(store, clock=loop.clock)
    task = share(a, journal.body("a"))
    async with a:
        await asyncio.sleep(9.95)  # The next tick is claimed.
        store.is_away = True

        with pytest.raises(StoreUnavailable, match="'job' were to be given back"):
            async with asyncio.timeout(10):
                await (task.suspend().__aenter__() if what == "suspend" else task.pause())

        store.is_away = False
        await asyncio.sleep(30)
        assert not task.suspended
        assert len(journal.lines) >= 3
