"""``scheduler.runs()``: pages of what became of ticks."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviour.tasks import job
from kaiju_app._core.clock import utc
from kaiju_app._core.ledger_query import Place
from kaiju_app.errors import InvalidArgument, UnknownTask
from kaiju_app.scheduler import Clock, ExecPolicy, Outcome, Reason, RunPage, Scheduler
from kaiju_app.scheduler._run_pages import cursor_of, place_of
from support.reading import at
from support.virtual import EPOCH_US, VirtualLoop


async def fail() -> None:
    raise ValueError("no")


async def linger() -> None:
    await asyncio.sleep(25)


def told(page: RunPage) -> list[tuple[Any, ...]]:
    return [(run.task, at(run.scheduled_at), run.outcome.value) for run in page.runs]


def moment(second: float) -> datetime:
    return utc(EPOCH_US + 5_000_000) + timedelta(seconds=second)


async def test_runs_and_skips_of_all_tasks_come_newest_first(scheduler: Scheduler) -> None:
    scheduler.schedule_task(linger, 10, name="slow", policy=ExecPolicy.SKIP)
    scheduler.schedule_task(fail, 20, name="bad")
    async with scheduler:
        await asyncio.sleep(30.5)
        page = await scheduler.runs()

    assert told(page) == [
        ("bad", 20, "FAILED"), ("slow", 10, "SKIPPED"), ("slow", 0, "SUCCEEDED"), ("bad", 0, "FAILED"),
    ]  # fmt: skip
    assert (page.next, page.oldest, page.newest) == (None, moment(0), moment(20))
    assert json.loads(json.dumps(page.json_repr()))["newest"] == moment(20).isoformat()


async def test_they_are_chosen_by_task_outcome_reason_and_time(scheduler: Scheduler) -> None:
    slow = scheduler.schedule_task(linger, 10, name="slow", policy=ExecPolicy.SKIP)
    scheduler.schedule_task(fail, 20, name="bad")
    async with scheduler:
        await asyncio.sleep(61)

        assert [("slow", 40, "SKIPPED"), ("slow", 30, "SUCCEEDED"), ("slow", 10, "SKIPPED"), ("slow", 0, "SUCCEEDED")
                ] == told(await scheduler.runs(slow))  # fmt: skip
        assert 4 == len((await scheduler.runs("bad", outcomes=Outcome.FAILED)).runs)
        assert [("slow", 40, "SKIPPED"), ("slow", 10, "SKIPPED")] == told(await scheduler.runs(reasons=Reason.OVERLAP))
        assert () == (await scheduler.runs(outcomes=[Outcome.FAILED], reasons=[Reason.OVERLAP])).runs
        page = await scheduler.runs(since=moment(10), until=moment(30))
        assert [("slow", 30, "SUCCEEDED"), ("bad", 20, "FAILED"), ("slow", 10, "SKIPPED")] == told(page)
        assert (page.oldest, page.newest) == (moment(0), moment(60))


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_have_each_record_once_while_new_ones_come_in(scheduler: Scheduler, limit: int) -> None:
    for name in "abc":
        scheduler.schedule_task(job, 10, name=name)
    async with scheduler:
        await asyncio.sleep(41)
        pages = [await scheduler.runs(limit=limit)]
        while pages[-1].next is not None:
            await asyncio.sleep(3)
            pages.append(await scheduler.runs(limit=limit, cursor=pages[-1].next))

    assert [(name, 10 * tick, "SUCCEEDED") for tick in (4, 3, 2, 1, 0) for name in "cba"] == [
        each for page in pages for each in told(page)
    ]
    assert all(len(page.runs) == limit for page in pages[:-1])


async def test_a_record_that_grows_while_pages_are_read_comes_once(scheduler: Scheduler) -> None:
    """A record of several skips keeps the place of its first tick."""
    scheduler.schedule_task(linger, 1, name="slow", policy=ExecPolicy.SKIP, max_timeout_s=60)
    scheduler.schedule_task(job, 4, name="other")
    async with scheduler:
        await asyncio.sleep(9)
        first = await scheduler.runs(limit=2)
        await asyncio.sleep(3)
        second = await scheduler.runs(limit=9, cursor=first.next)

    assert [("other", 8), ("other", 4), ("slow", 1), ("other", 0)] == [
        each[:2] for page in (first, second) for each in told(page)
    ]


async def test_ticks_that_a_clock_that_was_set_back_repeats_are_all_there(scheduler: Scheduler, loop: Any) -> None:
    scheduler.schedule_task(job, 600, name="a")
    async with scheduler:
        await asyncio.sleep(1)
        loop.virtual_clock.step_wall(-600)
        await asyncio.sleep(600)
        found, cursor = [], None
        for _ in range(2):
            page = await scheduler.runs(limit=1, cursor=cursor)
            found += told(page)
            cursor = page.next

    assert [("a", 0, "SUCCEEDED")] * 2 == found
    assert cursor is None


async def test_there_may_be_nothing_yet(scheduler: Scheduler) -> None:
    scheduler.schedule_task(job, 10, name="a")

    assert RunPage(runs=(), next=None, oldest=None, newest=None) == await scheduler.runs() == await scheduler.runs("a")
    with pytest.raises(UnknownTask, match="there is no task 'b'"):
        await scheduler.runs("b")


async def test_the_loop_gets_its_turns_while_many_tasks_are_looked_at(loop: VirtualLoop) -> None:
    def slow() -> int:
        loop.virtual_clock.block(200e-6)  # Each look at the clock takes some time.
        return loop.virtual_clock.steady()

    scheduler = Scheduler(clock=Clock(steady=slow, wall=loop.virtual_clock.wall))
    for number in range(50):
        scheduler.schedule_task(job, 100, name=f"task {number:02}")
    turns: list[int] = []

    async def turn() -> None:
        while True:
            turns.append(loop.virtual_clock.steady())
            await asyncio.sleep(0)

    async with scheduler:
        await asyncio.sleep(50)
        turning = asyncio.ensure_future(turn())
        page = await scheduler.runs(limit=3)
        turning.cancel()

    assert ["task 49", "task 48", "task 47"] == [run.task for run in page.runs]
    assert 5 < len(turns)
    assert 2_500 > max(after - before for before, after in pairwise(turns))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": 7}, "task must be a task, its name, or None for all tasks, got 7"),
        ({"outcomes": "FAILED"}, "outcomes must be an Outcome or several"),
        ({"outcomes": []}, "outcomes must be an Outcome or several"),
        ({"reasons": "overlap"}, "reasons must be a Reason or several"),
        ({"reasons": [Outcome.FAILED]}, "reasons must be a Reason or several"),
        ({"since": datetime(2027, 1, 1)}, "since must be an aware datetime"),  # noqa: DTZ001
        ({"until": 7}, "until must be an aware datetime"),
        ({"since": moment(1), "until": moment(0)}, "until must not be earlier than since"),
        ({"limit": 0}, "limit must be an integer of at least 1"),
        ({"limit": 1001}, "limit must be at most 1,000: ask for the next page with cursor=page.next"),
        ({"cursor": "no"}, "cursor must be the next of a page"),
        ({"cursor": 7}, "cursor must be the next of a page"),
    ],
)
async def test_wrong_arguments_are_refused(scheduler: Scheduler, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await scheduler.runs(**wrong)


@given(st.builds(Place, st.integers(-(10**15), 10**17), st.text(), st.booleans(), st.integers(0, 9), st.integers(0, 9)))
def test_a_cursor_stands_for_a_place(place: Place) -> None:
    assert place == place_of(cursor_of(place))


@given(st.text() | st.binary().map(lambda each: each.decode("latin-1")))
def test_no_text_is_a_cursor_that_breaks_a_query(text: str) -> None:
    try:
        place = place_of(text)
    except InvalidArgument:
        return
    assert place_of(cursor_of(place)) == place


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"store_history": 100}, "store_history must be left out without a store, got 100"),
        ({"store": "memory://", "store_history": 99}, "store_history must be an integer of at least 100"),
        ({"store": "memory://", "store_history_age_s": 0}, "store_history_age_s must be more than 0 seconds"),
        ({"store": "memory://", "store_history_age_s": -1}, "store_history_age_s must be at least 0 seconds"),
    ],
)
def test_what_is_kept_is_checked_at_the_door(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Scheduler(**wrong)
