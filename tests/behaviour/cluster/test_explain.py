"""``scheduler.explain()`` of cluster tasks: what any instance can tell of what all of them did."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from behaviour.cluster.common import Fragile, Journal, Made, nothing, share, started
from kaiju_app._core.clock import utc
from kaiju_app.errors import StoreUnavailable, UnknownTask
from kaiju_app.scheduler import CauseKind, Cron, ExecPolicy, Fate, Missed, Scheduler, current_run
from support.virtual import EPOCH_US, VirtualLoop, close_loop


def moment(second: float) -> datetime:
    """Return the wall-clock time so many seconds after the test began, at 08:00:05Z."""
    return utc(EPOCH_US + 5_000_000) + timedelta(seconds=second)


async def told(scheduler: Scheduler, second: float) -> str:
    return str(await scheduler.explain("job", moment(second)))


async def test_any_instance_tells_where_it_ran(made: Made) -> None:
    a, b = made(), made()
    journal = Journal(2)
    for each, name in ((a, "a"), (b, "b")):
        share(each, journal.body(name))
    async with started(a, b):
        await asyncio.sleep(15)
        where = {"a": a, "b": b}[journal.lines[1][0]]
        found = await b.explain("job", moment(10))

        assert found.fate is Fate.RAN
        assert str(found) == (
            f"task 'job', tick 2027-01-15 08:00:15Z: ran at 08:00:15Z on instance {where.json_repr()['instance']}: "
            "SUCCEEDED after 2 s."
        )
        assert (found.before, found.after) == (moment(0), moment(20))
        assert "was not due at 2027-01-15 08:00:08Z: the ticks before and after are 08:00:05Z and 08:00:15Z, by " in (
            await told(b, 3)
        )
        assert "tick 2027-01-15 08:00:25Z: is due in 5 s." in await told(b, 20)
        assert (await b.explain("job", moment(-60))).fate is Fate.FORGOTTEN
        with pytest.raises(UnknownTask):
            await b.explain("jab", moment(0))


async def test_any_instance_tells_where_it_is_running(made: Made) -> None:
    a, b = made(), made()
    share(a, Journal(25).body("a"), policy=ExecPolicy.SKIP)
    async with started(a, b):
        await asyncio.sleep(15)
        running, overlapping = await told(b, 0), await told(b, 10)
        await asyncio.sleep(15)

        assert f"is running, since 08:00:05Z on instance {a.json_repr()['instance']}" in running
        assert "there is no record of it" not in overlapping
        assert "was skipped (overlap): the run of tick 08:00:05Z was in progress, and took 25 s" in await told(b, 10)


async def test_a_hold_is_told_with_who_and_when(made: Made) -> None:
    a, b = made(), made()
    task = share(a, nothing, missed=Missed.SKIP)
    async with started(a, b):
        await asyncio.sleep(8)
        await task.pause("deploy")
        await asyncio.sleep(4)
        held = await told(b, 10)
        await asyncio.sleep(11)
        await task.resume()
        await asyncio.sleep(5)
        over = await told(b, 10)

        here = a.json_repr()["instance"]
        assert "is due, and waits because the task was held by pause() on" in held
        assert held.endswith(f"{here} (deploy) since 08:00:13Z.")
        assert f"was skipped (suspended): held by pause() on {here} (deploy) from 2027-01-15T08:00:13+00:00 to " in over


@pytest.mark.parametrize("how", ["pause", "suspend"])
async def test_a_run_was_late_because_of_a_hold_that_is_over(made: Made, how: str) -> None:
    """Any instance tells it, during the run and after it, also when those who held and ran the task are gone."""
    a, b, c = made(), made(), made()
    task = share(a, Journal(4).body("a"), 60)
    async with started(a, b):
        await asyncio.sleep(58)
        if how == "pause":
            await task.pause("deploy", for_s=9)
        else:
            async with task.suspend("deploy"):
                await asyncio.sleep(9)
        await asyncio.sleep(10.5 if how == "pause" else 1.5)
        during = await told(b, 60)
        await asyncio.sleep(6)
    async with c:
        found = await c.explain("job", moment(60))

    here = a.json_repr()["instance"]
    assert "is running, since 08:01:12" in during
    assert (found.fate, [cause.kind for cause in found.causes]) == (Fate.RAN, [CauseKind.HELD])
    for each in (during, str(found)):
        assert re.search(
            rf" s late, because the task was held by {how}\(\).* on {here} \(deploy\) from 08:01:03Z to 08:01:12", each
        ), each


async def test_no_instance_was_there(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, missed=Missed.SKIP)
    share(b, nothing, missed=Missed.SKIP)
    async with a:
        await asyncio.sleep(12)
    await asyncio.sleep(30)
    async with b:
        await asyncio.sleep(15)
        found = await b.explain("job", moment(30))

    assert found.fate is Fate.SKIPPED
    assert [CauseKind.ABSENT] == [cause.kind for cause in found.causes]
    assert "was skipped (missed): no instance was heard of from 08:00:" in str(found)
    assert " to 08:00:47Z; with it" in str(found)


async def test_it_ran_late_because_no_instance_was_there(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, 60)
    share(b, nothing, 60)
    async with a:
        await asyncio.sleep(12)
    await asyncio.sleep(60)
    async with b:
        await asyncio.sleep(1)
        found = await told(b, 60)

    assert "12 s late, because no instance was heard of from" in found


async def test_the_store_was_away(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    scheduler = Scheduler(store, clock=loop.virtual_clock)
    share(scheduler, nothing, missed=Missed.SKIP)
    async with scheduler:
        await asyncio.sleep(12)
        store.is_away = True
        await asyncio.sleep(30)
        with pytest.raises(StoreUnavailable):
            await scheduler.explain("job", moment(20))
        store.is_away = False
        await asyncio.sleep(15)
        found = await scheduler.explain("job", moment(20))

    assert [CauseKind.STORE] == [cause.kind for cause in found.causes]
    assert "was skipped (missed): the store did not answer this process from" in str(found)


async def test_a_run_was_lost_and_its_tick_ran_elsewhere(made: Made) -> None:
    a, b = made(), made()
    share(a, Journal(8).body("a"), 100)
    async with a:
        await asyncio.sleep(3)
        share(b, Journal(8).body("b"), 100)
        await b.start()
        await asyncio.sleep(1)
    await asyncio.sleep(5)
    running = await b.explain("job", moment(0))
    await asyncio.sleep(15)
    found = await b.explain("job", moment(0))
    await b.stop()

    assert (running.fate, found.fate) == (Fate.RUNNING, Fate.RAN)
    for each in (running, found):
        assert [CauseKind.LOST] == [cause.kind for cause in each.causes]
    here, there = (each.json_repr()["instance"] for each in (b, a))
    assert f"on instance {here}, " in str(found)
    for each in (running, found):
        assert f"because the run before it, on instance {there}, was lost at 08:00:09" in str(each)


async def test_any_instance_tells_that_the_loop_of_another_one_was_blocked(made: Made, loop: VirtualLoop) -> None:
    a, b = made(), made()
    share(a, nothing, missed=Missed.SKIP)
    async with started(a, b):
        await asyncio.sleep(8)
        loop.virtual_clock.block(17)
        await asyncio.sleep(5)
    c = made()
    async with c:
        found = await c.explain("job", moment(10))

    here = a.json_repr()["instance"]
    assert (found.fate, [cause.kind for cause in found.causes]) == (Fate.SKIPPED, [CauseKind.BLOCKED])
    assert [cause.instance for cause in found.causes] == [here]
    assert f"was skipped (missed): the loop of instance {here} was blocked from 08:00:13Z to 08:00:30Z" in str(found)


async def test_any_instance_tells_that_the_store_did_not_answer_another_one(loop: VirtualLoop) -> None:
    store = Fragile(loop)
    a, c = (Scheduler(store, clock=loop.virtual_clock) for _ in range(2))
    share(a, nothing, missed=Missed.SKIP)
    async with a:
        await asyncio.sleep(12)
        store.is_away = True
        await asyncio.sleep(30)
        store.is_away = False
        await asyncio.sleep(15)
    async with c:
        found = await c.explain("job", moment(20))

    assert f"was skipped (missed): the store did not answer instance {a.json_repr()['instance']} from " in str(found)


async def test_any_instance_tells_who_has_disabled_it(made: Made) -> None:
    a, b, c = made(), made(), made()
    tasks = [share(each, nothing, missed=Missed.SKIP) for each in (a, b)]
    async with started(a, b):
        await asyncio.sleep(8)
        for each in tasks:
            each.disable()
        await asyncio.sleep(9)
        now = await b.explain("job", moment(10))
        await asyncio.sleep(10)
        for each in tasks:
            each.enable()
        await asyncio.sleep(10)
        async with c:
            found = await c.explain("job", moment(10))

    assert now.fate is Fate.DISABLED
    there = a.json_repr()["instance"]
    assert f"the task was disabled on instance {there} by disable() at {__file__}:" in str(now)
    assert (found.fate, {cause.kind for cause in found.causes}) == (Fate.SKIPPED, {CauseKind.DISABLED})
    assert {cause.instance for cause in found.causes} <= {each.json_repr()["instance"] for each in (a, b)}
    assert " from 08:00:13Z to 08:00:32Z" in str(found)


async def test_all_that_have_disabled_it_are_told_of_a_tick_that_is_far_ahead(made: Made) -> None:
    schedulers = [made() for _ in range(4)]
    tasks = [share(each, nothing, 3600) for each in schedulers]
    async with started(*schedulers):
        await asyncio.sleep(8)
        for task in tasks[1:]:
            task.disable()
        await asyncio.sleep(300)
        found = await schedulers[0].explain("job", moment(3600))

    disabled = {cause.instance for cause in found.causes if cause.kind is CauseKind.DISABLED}
    assert disabled == {each.json_repr()["instance"] for each in schedulers[1:]}, str(found)


async def test_of_a_tick_that_waits_all_instances_of_now_are_asked(made: Made) -> None:
    def without() -> Scheduler:
        scheduler = made()
        share(scheduler, nothing).disable()
        return scheduler

    stays, *go = [without() for _ in range(4)]
    async with stays:
        async with started(*go):
            await asyncio.sleep(14)
        async with started(*[without() for _ in range(3)]):
            await asyncio.sleep(6)
            found = await stays.explain("job", moment(0))

    assert found.fate is Fate.DISABLED, str(found)


async def test_a_task_that_one_instance_has_disabled_runs_on_another(made: Made) -> None:
    a, b = made(), made()
    task, _ = share(a, nothing), share(b, nothing)
    async with started(a, b):
        await asyncio.sleep(8)
        task.disable()
        await asyncio.sleep(20)
        found = await a.explain("job", moment(20))

    assert (found.fate, found.run and found.run.instance) == (Fate.RAN, b.json_repr()["instance"])


async def test_a_tick_was_late_because_an_instance_had_left(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, missed=Missed.SKIP)
    async with b:
        async with a:
            await asyncio.sleep(8)
        await asyncio.sleep(6)
        share(b, nothing, missed=Missed.SKIP)
        await asyncio.sleep(10)
        found = await b.explain("job", moment(10))

    left = f"instance {a.json_repr()['instance']} left at 08:00:13Z, and the others divided the tasks anew"
    assert (found.fate, str(found).count(left)) == (Fate.SKIPPED, 1), str(found)


async def test_a_rule_of_the_calendar_is_read_from_the_store(made: Made) -> None:
    a, b = made(), made()
    share(a, nothing, None, trigger=Cron("30 2 * * *", tz="Europe/Berlin"))
    async with started(a, b):
        await asyncio.sleep(5)
        found = await b.explain("job", datetime.fromisoformat("2027-03-28T02:30:00+01:00"))

    assert (found.fate, found.before) == (Fate.NOT_DUE, datetime.fromisoformat("2027-03-28T01:00:00+00:00"))
    assert "the clocks in Europe/Berlin were set from 02:00 to 03:00" in str(found)


# --- every tick of a random period ---

WHAT = [
    "sleep", "stop one", "stop all", "pause", "suspend", "store away", "disable one", "disable all", "block",
    "sleep of the machine",
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(1, 45)), max_size=4)


@settings(max_examples=30)
@given(STEPS, st.sampled_from([ExecPolicy.SKIP, ExecPolicy.WAIT]), st.sampled_from(Missed), st.sampled_from([0, 3, 14]))
@example([("sleep", 27), ("block", 35), ("block", 9)], ExecPolicy.WAIT, Missed.SKIP, 14)
def test_every_tick_is_explained_as_the_journal_has_it(
    steps: list[tuple[str, int]], policy: ExecPolicy, missed: Missed, takes: int
) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(explained(loop, steps, policy, missed, takes))
    finally:
        close_loop(loop)


async def explained(
    loop: VirtualLoop, steps: list[tuple[str, int]], policy: ExecPolicy, missed: Missed, takes: int
) -> None:
    journal: set[datetime] = set()

    async def body() -> None:
        journal.add(current_run().scheduled_at)
        await asyncio.sleep(takes)

    store = Fragile(loop)
    a, b = (Scheduler(store, clock=loop.virtual_clock) for _ in range(2))
    tasks = [share(each, body, policy=policy, missed=missed) for each in (a, b)]
    await a.start()
    await b.start()
    await asyncio.sleep(1)
    for what, seconds in steps:
        if what == "stop one":
            await a.stop()
        elif what == "stop all":
            await asyncio.gather(a.stop(), b.stop())
        elif what == "pause":
            await tasks[0].pause("why", for_s=seconds)
        elif what == "store away":
            store.is_away = True
        elif what in ("disable one", "disable all"):
            for each in tasks[: 1 if what == "disable one" else 2]:
                each.disable()
        elif what in ("block", "sleep of the machine"):
            await asyncio.sleep(0.3)  # Not between a tick and the first step of its run, where no timer is late.
            (loop.virtual_clock.block if what == "block" else loop.virtual_clock.sleep_machine)(seconds + 1)
        if what == "suspend":
            async with tasks[1].suspend("why"):
                await asyncio.sleep(seconds)
        else:
            await asyncio.sleep(seconds)
        store.is_away = False
        for each, task in zip((a, b), tasks, strict=True):
            task.enable()
            if not each.started:
                await each.start()
        await asyncio.sleep(25)  # Until all is as it was: leases are taken over, and the store is asked again.
    await asyncio.sleep(0.5)
    newcomer = Scheduler(store, clock=loop.virtual_clock)
    await newcomer.start()
    # Of a block only what was late by at least a second tells.
    is_told = {what for what, _ in steps}.isdisjoint(("block", "sleep of the machine"))
    last = (loop.virtual_clock.wall() - EPOCH_US) // 1_000_000 - 5
    for second in range(0, last + 20, 10):
        found = await b.explain("job", moment(second))
        assert found.tick == moment(second), found
        if found.fate is Fate.RUNNING and found.tick not in journal:
            await asyncio.sleep(1)  # It was claimed a moment ago, and its instance may find that it is too late to run.
            found = await b.explain("job", moment(second))
        if found.fate in (Fate.RAN, Fate.RUNNING):
            assert found.tick in journal, found
        else:
            assert found.tick not in journal, found
            assert found.fate in (Fate.SKIPPED, Fate.WAITING) or second >= last, found
        if found.fate is Fate.SKIPPED or is_told:
            assert "is not known" not in str(found), (found, steps)
            assert "is not known" not in str(await newcomer.explain("job", moment(second))), (found, steps)
        assert (await b.explain("job", moment(second + 5))).fate in (Fate.NOT_DUE, Fate.FORGOTTEN)
    await asyncio.gather(a.stop(), b.stop(), newcomer.stop())
