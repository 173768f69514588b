"""The simulation does what it says, and its checks find the violations that they look for."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kaiju_app import Scheduler
from kaiju_app.errors import StoreUnavailable
from kaiju_app.scheduler import Clock
from kaiju_app.stores._record import LedgerRow, NextTick, StoredHold, TaskRecord
from kaiju_app.stores._selection import ClaimQuery
from kaiju_app.stores._transitions import Definition, define, hold
from kaiju_app.testing._cluster.plan import MILLION, merged, us
from simulation import (
    RELIABLE,
    Ask,
    Block,
    Bounds,
    Crash,
    Cut,
    Entry,
    Fault,
    Jump,
    Network,
    Outage,
    Pause,
    Plan,
    Process,
    Simulation,
    broken,
    drawn_plan,
    hunt,
    script,
    shrink,
    violations,
)
from simulation.toy_protocols import CHALLENGE, GUARD, HOLDER, LEASE, toys
from support.engines import change_one
from support.virtual import EPOCH_US

DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))
SEEDS = 20 if DEBUG else 200


def simulated(plan: Plan, boot: Callable[[Process], Awaitable[object]], instances: int = 1, **more: Any) -> list[Entry]:
    """Run a simulation without errors and return its journal."""
    with Simulation(plan, instances, 1, boot, **more) as simulation:
        simulation.run()
        assert [life.complaints for life in simulation.lives if life.complaints] == []
        return simulation.journal


async def ticking(instance: Process) -> None:
    """Act every second by the clock of the instance."""
    for number in range(1_000):
        instance.journal("act", "task", tick=number + 1)
        await asyncio.sleep(1)


def times_s(journal: list[Entry], event: str = "act", who: str | None = None) -> list[float]:
    return [round(entry.at / MILLION, 2) for entry in journal if entry.event == event and who in (None, entry.who)]


async def nothing(_: Process) -> None:
    """Do nothing."""


# --- reproducibility ---


def digest(seed: int) -> str:
    boot, ask = toys()
    with Simulation(drawn_plan(seed), 3, seed, boot, ask) as simulation:
        return sha256(repr(simulation.run()).encode()).hexdigest()


def test_the_same_seed_gives_the_same_journal_in_another_process_too() -> None:
    code = "import test_world as it; print(*(it.digest(seed) for seed in (3, 4)))"
    environment = os.environ | {
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    here = [digest(3), digest(4)]

    assert here == [digest(3), digest(4)]
    assert here == there.stdout.split()
    assert here[0] != here[1]


def test_a_plan_is_python_that_can_be_run_again() -> None:
    plan = drawn_plan(11, kinds=(Pause, Block, Crash, Cut, Outage, Jump))
    boot, ask = toys()
    text = script(plan, 3, 11)
    names: dict[str, Any] = dict(globals(), boot=boot, ask=ask)

    exec(text, names)

    assert names["plan"] == plan
    assert names["simulation"].journal == simulated_by(plan, 11)


def simulated_by(plan: Plan, seed: int) -> list[Entry]:
    boot, ask = toys()
    with Simulation(plan, 3, seed, boot, ask) as simulation:
        return simulation.run()


def test_years_take_no_time() -> None:
    async def rarely(instance: Process) -> None:
        for _ in range(100):
            await asyncio.sleep(10 * 86_400)
            instance.journal("act", "task")

    began = time.perf_counter()

    journal = simulated(Plan(for_s=1_001 * 86_400), rarely, 3)

    assert len(journal) == 3 + 300
    assert time.perf_counter() - began < 10


def test_who_only_spins_gets_somewhere_and_keeps_nobody_waiting() -> None:
    async def spin(instance: Process) -> None:
        if instance.place == 0:
            for _ in range(10_000):
                await asyncio.sleep(0)
            instance.journal("end", "task")
        else:
            await ticking(instance)

    journal = simulated(Plan(for_s=2.9), spin, 2)

    assert times_s(journal, "end") == [0.1]
    assert times_s(journal) == [0, 1, 2]


# --- clocks ---


def test_every_place_has_a_clock_of_its_own_that_its_loop_goes_by() -> None:
    async def sleep(instance: Process) -> None:
        began, loop_began = instance.steady(), asyncio.get_running_loop().time()
        await asyncio.sleep(100)
        assert instance.steady() - began == pytest.approx(100 * MILLION, abs=20)
        assert asyncio.get_running_loop().time() - loop_began == pytest.approx(100, abs=2e-5)
        instance.journal("end", "task")

    journal = simulated(Plan(rates_ppm=(0, 20_000, -20_000), for_s=200), sleep, 3)

    ends = [entry for entry in journal if entry.event == "end"]
    assert [entry.who for entry in ends] == ["b1", "a1", "c1"]
    assert [entry.at / MILLION for entry in ends] == [pytest.approx(100 / rate, abs=2e-5) for rate in (1.02, 1, 0.98)]


def test_the_clock_of_the_store_goes_wrong_and_is_set() -> None:
    plan = Plan((Jump(10, -30), Jump(20, 3600)), store_ppm=10_000)
    seen = []

    async def look(instance: Process) -> None:
        for _ in range(3):
            now = (await instance.store.scan()).now
            seen.append((now - EPOCH_US - instance.now() * 1.01) / MILLION)
            await asyncio.sleep(9.5)

    simulated(plan, look)

    assert seen == [pytest.approx(off, abs=0.1) for off in (0, 0, -30)]
    assert plan.store_us(us(21)) == EPOCH_US + us(21 * 1.01 + 3570)


@pytest.mark.pure
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(-50, 50)), max_size=4),
    st.integers(-20_000, 20_000),
    st.integers(0, 100 * MILLION),
    st.integers(-60 * MILLION, 160 * MILLION),
)
def test_when_the_store_shows_something_is_found(
    jumps: list[tuple[int, int]], ppm: int, since: int, moment: int
) -> None:
    plan = Plan(tuple(Jump(*each) for each in jumps), store_ppm=ppm, for_s=100)

    at = plan.when_shown(EPOCH_US + moment, since)

    steps = {since, *(us(when) for when, _ in jumps if us(when) > since)}
    before = [each for each in steps if each < (100 * MILLION if at is None else at)]
    if at is not None:
        assert plan.store_us(at) >= EPOCH_US + moment
        assert at in steps or plan.store_us(at - 3) < EPOCH_US + moment
    assert all(plan.store_us(each) < EPOCH_US + moment for each in before)


@pytest.mark.pure
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_spans_are_merged(spans: list[tuple[int, int]]) -> None:
    found = merged(spans)

    covered = {second for start, end in spans for second in range(start, end)}
    assert {second for start, end in found for second in range(start, end)} == covered
    assert all(one[1] < other[0] for one, other in pairwise(found))


# --- faults of instances ---


def test_a_pause_stops_an_instance_and_nothing_else() -> None:
    journal = simulated(Plan((Pause(10.5, 0, 5),), for_s=19.9), ticking, 2)

    assert times_s(journal, who="b1") == list(range(20))
    assert times_s(journal, who="a1") == [*range(11), 15.5, 16.5, 17.5, 18.5, 19.5]


def test_the_first_turn_after_a_pause_is_known_as_such() -> None:
    async def plain(instance: Process) -> None:
        def act() -> None:
            instance.journal("act", "task")
            instance.loop.call_later(1, act)

        act()

    journal = simulated(Plan((Pause(10.5, 0, 5),), for_s=20), plain)

    assert [entry.at for entry in journal if entry.thaw] == [us(15.5)]


def test_after_a_pause_a_deadline_set_by_call_at_comes_before_a_body_that_slept() -> None:
    """Leases depend on this order: the timer cancels a body before the body is woken."""

    async def boot(instance: Process) -> None:
        body = asyncio.create_task(ticking(instance))
        instance.loop.call_later(12, body.cancel)
        await asyncio.wait([body])

    journal = simulated(Plan((Pause(10.5, 0, 5),), for_s=20), boot)

    assert times_s(journal) == list(range(11))


def test_a_block_burns_time_in_one_turn_while_others_go_on() -> None:
    async def boot(instance: Process) -> None:
        if instance.place == 0:
            await asyncio.sleep(2.5)
            instance.block(4)
            instance.journal("act", "task")
        await ticking(instance)

    journal = simulated(Plan((Pause(3, 0, 1), Block(8.6, 0, 3)), for_s=12.9), boot, 2)

    assert times_s(journal, who="a1") == [7.5, 7.5, 8.5, 11.6, 12.6]
    assert times_s(journal, who="b1") == list(range(13))
    assert [entry.at for entry in journal] == sorted(entry.at for entry in journal)


def test_who_crashes_in_a_blocking_call_does_nothing_after_it() -> None:
    async def boot(instance: Process) -> None:
        instance.block(4)
        instance.journal("act", "task")
        await instance.store.heartbeat(instance.id, "", MILLION)

    with Simulation(Plan((Crash(3, 0, None),)), 1, 1, boot) as simulation:
        journal = simulation.run()

    assert [entry.event for entry in journal] == ["boot", "crash"]
    assert simulation.store._instances == {}


def test_a_crash_ends_everything_and_another_identity_comes_back() -> None:
    journal = simulated(Plan((Crash(2.5, 0, 3), Crash(4, 0, 9), Crash(7, 0, None)), for_s=20), ticking)

    assert times_s(journal, who="a1") == [0, 1, 2]
    assert times_s(journal, who="a2") == [5.5, 6.5]
    assert [(entry.event, entry.who) for entry in journal if entry.event != "act"] == [
        ("boot", "a1"),
        ("crash", "a1"),
        ("boot", "a2"),
        ("crash", "a2"),
    ]


heard: list[str] = []


async def generated(instance: Process) -> AsyncIterator[int]:
    try:
        while True:
            await asyncio.sleep(1)
            yield 1
    finally:
        heard.append("generator")
        await instance.store.scan()


async def in_the_midst_of_everything(instance: Process) -> None:
    """Do everything that leaves something behind after a crash."""

    async def cleaning_up() -> None:
        try:
            async with asyncio.timeout(1_000):
                await asyncio.Event().wait()
        finally:
            heard.append("finally")
            instance.journal("end", "task")
            asyncio.create_task(instance.store.scan())  # noqa: RUF006
            instance.loop.call_soon(heard.append, "callback")
            await instance.store.scan()
            heard.append("after the store")

    async def stubborn() -> None:
        for _ in range(5):
            try:
                await asyncio.sleep(1_000)
            except BaseException:
                heard.append("stubborn")
        raise ValueError("nobody hears it")

    async def generating() -> None:
        async for _ in generated(instance):
            pass

    async def working() -> None:
        async with asyncio.TaskGroup() as group:
            for each in (cleaning_up, stubborn, generating):
                group.create_task(each())
            await instance.loop.create_future()

    async def abandoned() -> None:
        begun = generated(instance)
        await anext(begun)
        await asyncio.sleep(1_000)

    tasks = [asyncio.create_task(each()) for each in (working, abandoned)]
    await asyncio.sleep(5)
    instance.loop.call_later(1, heard.append, "timer")
    tasks.append(asyncio.create_task(cleaning_up()))
    instance.loop.call_later(0.1, lambda: tasks.append(asyncio.create_task(cleaning_up())))  # Never takes a step.
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("at_s", [5.00001, 5.100005, 5.5])
def test_a_crash_is_silent_and_leaves_nothing_behind(at_s: float, caplog: pytest.LogCaptureFixture) -> None:
    heard.clear()
    with Simulation(Plan((Crash(at_s, 0, None),), for_s=100), 1, 1, in_the_midst_of_everything) as simulation:
        journal = simulation.run()
        gc.collect()
        assert heard == []
        lines = list(journal)
    died = weakref.ref(simulation.lives[0])
    assert simulation.journal == lines
    assert simulation.lives[0].complaints == []
    assert caplog.records == []
    del simulation
    gc.collect()
    assert died() is None
    assert "callback" not in heard


def test_simulations_leave_no_files_and_no_objects() -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    boot, ask = toys()
    gc.collect()
    before = files(), sum(isinstance(each, Process | asyncio.Task) for each in gc.get_objects())

    for seed in range(5):
        assert broken(drawn_plan(seed, for_s=60), 3, seed, boot, ask) == []
    del boot, ask
    gc.collect()

    assert (files(), sum(isinstance(each, Process | asyncio.Task) for each in gc.get_objects())) == before


def test_what_a_program_raises_is_a_violation() -> None:
    async def fail(_: Process) -> None:
        raise ValueError("no such thing")

    found = broken(Plan(for_s=1), 1, 1, fail)

    assert len(found) == 1
    assert "no such thing" in found[0]


def test_there_are_no_threads() -> None:
    async def boot(_: Process) -> None:
        with pytest.raises(RuntimeError, match="a thread would make"):
            await asyncio.to_thread(print)

    simulated(Plan(for_s=1), boot)


def test_a_program_is_asked_in_its_own_loop_if_it_lives() -> None:
    async def ask(instance: Process, asked: Ask) -> None:
        assert asyncio.get_running_loop() is instance.loop
        await asyncio.sleep(1)
        instance.journal("suspend", asked.task, note=asked.what)

    plan = Plan((Crash(5, 0, 10), Ask(1, 0, "this"), Ask(7, 0, "lost"), Ask(20, 0, "that")), for_s=30)
    journal = simulated(plan, nothing, ask=ask)

    assert [(entry.who, entry.note) for entry in journal if entry.event == "suspend"] == [
        ("a1", "this"),
        ("a2", "that"),
    ]


def test_a_scheduler_lives_in_a_simulated_instance() -> None:
    async def boot(instance: Process) -> None:
        scheduler = Scheduler(clock=Clock(steady=instance.steady, wall=instance.wall))

        async def act() -> None:
            instance.journal("act", "task")

        scheduler.schedule_task(act, interval_s=10, name="task")
        async with scheduler:
            await asyncio.Event().wait()

    journal = simulated(Plan((Crash(55, 0, 20), Pause(115, 1, 10)), for_s=148), boot, 2)

    assert times_s(journal, who="a1") == [0, 10, 20, 30, 40, 50]
    assert times_s(journal, who="a2") == [75, 85, 95, 105, 115, 125, 135, 145]
    assert times_s(journal, who="b1") == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 125, 130, 140]


# --- faults of messages ---


def asked_at(
    plan: Plan, *moments: float, patience_s: float = 1.5, ppm: int = 0
) -> tuple[list[tuple[float, str]], list[float]]:
    """Send heartbeats at *moments*; return the answers with their times, and when the store executed each."""
    answers: list[tuple[float, str]] = []
    executed: list[float] = []

    async def one(instance: Process, number: int, moment: float) -> None:
        await asyncio.sleep(moment)
        try:
            async with asyncio.timeout(patience_s):
                await instance.store.heartbeat(f"{number}", "", MILLION)
            answers.append((round(instance.now() / MILLION, 1), "answer"))
        except (TimeoutError, StoreUnavailable) as exc:
            answers.append((round(instance.now() / MILLION, 1), type(exc).__name__))

    async def boot(instance: Process) -> None:
        await asyncio.gather(*(one(instance, number, moment) for number, moment in enumerate(moments)))

    with Simulation(plan, 1, 1, boot) as simulation:
        beat = simulation.store.heartbeat

        async def told(me: str, info: str, ttl: int) -> list[Any]:
            executed.append(round(simulation.now / MILLION, 1))
            return await beat(me, info, ttl)

        simulation.store.heartbeat = told  # type: ignore[method-assign]
        simulation.run()
        assert simulation.violations() == []
    return answers, executed


SILENT = replace(RELIABLE, impatient=0.0)


def test_in_calm_weather_everything_is_answered_soon() -> None:
    assert asked_at(Plan(), 1, 2, 3) == ([(1, "answer"), (2, "answer"), (3, "answer")], [1, 2, 3])


@pytest.mark.parametrize(("ways", "told"), [("both", [1, 21]), ("there", [1, 21]), ("back", [1, 11, 12, 13, 14, 21])])
def test_a_cut_keeps_messages_out_either_way(ways: str, told: list[float]) -> None:
    plan = Plan((Cut(10, 0, 10, ways),), network=SILENT)

    answers, executed = asked_at(plan, 1, 11, 12, 13, 14, 21)

    errors = [(moment + 1.5, "TimeoutError") for moment in (11, 12, 13, 14)]
    assert answers == [(1, "answer"), *errors, (21, "answer")]
    assert [at for at in executed if at != 20] == told
    assert (20 in executed) == (ways != "back")  # A kept request is executed later.


def test_a_store_refuses_or_is_silent_or_stalls() -> None:
    outages = Outage(10, 5, "refuses"), Outage(20, 5, "silent"), Outage(30, 5, "stalls")

    answers, executed = asked_at(Plan(outages, network=SILENT), 1, 11, 21, 31, 34, 41)

    assert answers == [
        (1, "answer"),
        (11, "StoreUnavailable"),
        (22.5, "TimeoutError"),
        (32.5, "TimeoutError"),
        (35, "answer"),
        (41, "answer"),
    ]
    assert executed == [1, 35, 35, 41]


def test_an_impatient_call_says_that_nothing_came() -> None:
    network = replace(RELIABLE, lost=1.0, impatient=1.0, patience_s=(3.0, 3.0))

    assert asked_at(Plan(network=network), 1, 2, patience_s=10) == (
        [(4, "StoreUnavailable"), (5, "StoreUnavailable")],
        [],
    )


def test_messages_are_lost_late_in_another_order_and_executed_twice() -> None:
    moments = [each / 100 for each in range(1, 2001)]
    network = Network(lost=0.1, lost_answers=0.1, late=0.1, duplicated=0.1, impatient=0)
    answers, executed = asked_at(Plan(network=network, for_s=200), *moments, patience_s=100)

    missing = sum(answer == "TimeoutError" for _, answer in answers)
    assert 0.13 < missing / 2000 < 0.25
    assert 0.94 < len(executed) / 2000 < 1.04  # 10 % are lost, and 10 % of the others are executed twice.
    assert 20 < max(executed) < 100
    late = sum(at > 20.1 for at, answer in answers if answer == "answer")
    assert 20 < late < 400


def test_a_request_outlives_its_caller() -> None:
    async def boot(instance: Process) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await instance.store.heartbeat(instance.id, "", MILLION)

    plan = Plan((Outage(0, 20, "stalls"), Crash(10, 0, None)), network=SILENT, for_s=30)
    with Simulation(plan, 1, 1, boot) as simulation:
        simulation.run()
        assert [life.complaints for life in simulation.lives] == [[]]

    assert list(simulation.store._instances) == ["a1"]


def made(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[LedgerRow, ...]] | None:
    new = define(old, now, Definition("task", "{}", (1,), NextTick(now, now), NextTick(now, now)))
    return None if new is None else (new, ())


def held(old: TaskRecord | None, now: int) -> tuple[TaskRecord, tuple[LedgerRow, ...]] | None:
    return None if old is None else (hold(old, now, "a1#1", StoredHold("a1", None, now)), ())


@pytest.mark.parametrize("split", [False, True])
def test_what_is_done_at_the_store_is_in_the_journal(split: bool) -> None:
    async def boot(instance: Process) -> None:
        store, me = instance.store, instance.id
        await store.open()
        await change_one(store, "task", made)
        runs: dict[str, int] = {}
        claimed = await store.claim(ClaimQuery(me, ["task"], ttl=MILLION, limit=1))
        [record] = claimed.records
        runs[record.name] = record.fence
        renewing = asyncio.create_task(store.renew(me, runs, {}, MILLION))
        await asyncio.sleep(0)
        runs.clear()  # A message already sent does not change.
        assert (await renewing).runs == {"task"}
        await change_one(store, "task", held)
        assert await store.history("task", 1) == []
        assert await store.dead() == frozenset()
        await store.close()
        instance.journal("end", "task", take=store.calls)

    journal = simulated(Plan(network=replace(RELIABLE, split=split), for_s=5), boot)

    events = [entry.event for entry in journal]
    assert events == ["boot", "next", "claimed", "held", "end"]
    assert journal[-1].take == (11 if split else 7)


def test_who_waits_is_told_of_a_change_or_waits_to_the_end() -> None:
    async def boot(instance: Process) -> None:
        if instance.place == 1:
            await asyncio.sleep(3)
            await change_one(instance.store, "task", made)
            return
        for _ in range(2):
            await instance.store.wait_for_change(10)
            instance.journal("act", "task")

    journal = simulated(Plan(for_s=60), boot, 2)
    lost_hints = simulated(Plan(network=replace(RELIABLE, lost_hints=1.0), for_s=60), boot, 2)
    cut = simulated(Plan((Cut(1, 0, 5, "back"), Outage(50, 1)), for_s=60), boot, 2)

    assert times_s(journal) == [3.0, 13.0] or times_s(journal) == [3.01, 13.01]
    assert times_s(lost_hints) == [10, 20]
    assert times_s(cut) in ([10, 20], [6, 16])  # The message was lost or kept.


# --- promises ---


def test_a_careful_coordinator_keeps_its_promises() -> None:
    hunt(range(SEEDS // 10), *toys())
    hunt(range(SEEDS), *toys(), draw=lambda seed, number: drawn_plan(seed, number, for_s=100, suspensions=3))


def test_it_keeps_them_through_everything_else_too() -> None:
    everything: tuple[type[Fault], ...] = (Pause, Block, Crash, Cut, Outage)
    hunt(range(SEEDS // 8), *toys(), draw=lambda seed, number: drawn_plan(seed, number, faults=12, kinds=everything))


def paused(seed: int, number: int) -> Plan:
    return drawn_plan(seed, number, faults=8, kinds=(Pause,), jumps=0, suspensions=0, for_s=150)


def cut_off_with_wrong_clocks(seed: int, number: int) -> Plan:
    plan = drawn_plan(seed, number, faults=8, kinds=(Cut,), jumps=0, suspensions=0, for_s=150)
    return replace(plan, rates_ppm=(-100_000,) * number, store_ppm=100_000)


def set_again_and_again(_: int, __: int) -> Plan:
    return Plan(tuple(Jump(50 + 0.7 * number, 60) for number in range(30)), for_s=80)


CARELESS = [
    pytest.param(LEASE, paused, "acts by fence", 2, id="lease"),
    pytest.param(HOLDER, drawn_plan, "inside the suspended body", 2, id="holder"),
    pytest.param(CHALLENGE, cut_off_with_wrong_clocks, "acts by fence", 3, id="challenge"),
    pytest.param(GUARD, set_again_and_again, "acts by fence", 5, id="guard"),
]


@pytest.mark.skipif(DEBUG, reason="the same, only slower")
@pytest.mark.parametrize(("forgets", "draw", "wrong", "faults"), CARELESS)
def test_a_careless_one_is_caught_and_its_seed_is_made_small(
    forgets: str, draw: Callable[[int, int], Plan], wrong: str, faults: int
) -> None:
    boot, ask = toys({forgets})
    with pytest.raises(AssertionError) as caught:
        hunt(range(20), boot, ask, draw=draw)
    text = str(caught.value)
    assert wrong in text
    names: dict[str, Any] = dict(globals(), boot=boot, ask=ask)

    exec(text[text.index("plan = ") : text.index("\n\n")], names)

    assert any(wrong in each for each in names["simulation"].violations())
    assert len(names["plan"].faults) <= faults


@pytest.mark.parametrize("draw", [cut_off_with_wrong_clocks, set_again_and_again, paused])
def test_what_catches_the_careless_does_not_catch_the_careful(draw: Callable[[int, int], Plan]) -> None:
    hunt(range(3), *toys(), draw=draw)


def test_only_faults_that_matter_are_left() -> None:
    plan = drawn_plan(5, faults=20)
    wanted = set(plan.faults[3:12:4])

    small = shrink(plan, lambda each: wanted <= set(each.faults))

    assert set(small.faults) == wanted
    assert small.network == RELIABLE
    assert small.rates_ppm == ()


# --- journals written by hand ---

T = EPOCH_US
CLEAN = [
    (0, "a1", "boot", "", 0, 0, ""),
    (1, "store", "next", "task", 0, 10, ""),
    (10, "store", "claimed", "task", 5, 10, ""),
    (11, "a1", "begin", "task", 5, 10, ""),
    (12, "a1", "act", "task", 5, 10, ""),
    (13, "a1", "end", "task", 5, 10, ""),
    (14, "store", "finished", "task", 5, 10, ""),
    (14, "store", "next", "task", 0, 250, ""),
    (20, "b1", "suspend", "task", 0, 0, "b1#1"),
    (21, "store", "held", "task", 0, 0, "b1#1"),
    (22, "b1", "suspended-begin", "task", 0, 0, "b1#1"),
    (30, "b1", "act-in-suspension", "task", 0, 0, "b1#1"),
    (40, "b1", "suspended-end", "task", 0, 0, "b1#1"),
    (41, "store", "unheld", "task", 0, 0, "b1#1"),
    (250, "store", "claimed", "task", 6, 250, ""),
    (251, "b1", "begin", "task", 6, 250, ""),
    (252, "b1", "act", "task", 6, 250, ""),
    (275, "b1", "act", "task", 6, 250, ""),
    (299, "b1", "act", "task", 6, 250, ""),
]
PLAIN = Plan()
Line = tuple[int, str, Any, str, int, int, str]


def judged(lines: list[Line], plan: Plan = PLAIN, thaw: int = -1, **more: Any) -> list[str]:
    entries = [
        Entry(us(at), who, event, task, fence, tick and T + us(tick), 0, note, plan.store_us(us(at)), at == thaw)
        for at, who, event, task, fence, tick, note in lines
    ]
    return [each.split("\n")[0] for each in violations(entries, plan, 2, **more)]


def without(event: str, at: int) -> list[Line]:
    return [line for line in CLEAN if (line[2], line[0]) != (event, at)]


@pytest.mark.pure
def test_a_clean_journal_is_clean() -> None:
    assert judged(CLEAN) == []
    assert judged(CLEAN, bounds=Bounds(strict=True), rows=[LedgerRow("task", 5, 1, 5, 1, "SUCCEEDED", None, 5)]) == []


@pytest.mark.pure
@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ((260, "a1", "act", "task", 5, 10, ""), "a1 acts by fence 5, after b1 by 6"),
        ((260, "a1", "act", "task", 6, 250, ""), "a1 and b1 act by the same fence 6"),
        ((25, "a1", "act", "task", 5, 10, ""), "a1 acts inside the suspended body of b1"),
        ((45, "store", "claimed", "task", 4, 250, ""), "a claim has fence 4, after one with 5"),
        ((260, "b1", "begin", "task", 6, 250, ""), "the claim with fence 6 begins twice"),
        ((255, "b1", "begin", "task", 7, 250, ""), "a run begins by fence 7, which no claim has"),
        ((300, "store", "finished", "task", 6, 10, ""), "a tick has ended that had ended before, or an earlier one"),
        ((300, "store", "finished", "task", 6, 251, ""), "a tick has ended that never began"),
    ],
)
def test_a_line_too_many_is_found(line: Line, wrong: str) -> None:
    assert f"task: {wrong}" in judged([*CLEAN, line])


@pytest.mark.pure
def test_what_is_done_as_a_loop_thaws_counts_only_if_that_is_wanted() -> None:
    late = (260, "a1", "act", "task", 5, 10, "")

    assert judged([*CLEAN, late], thaw=260) == []
    assert len(judged([*CLEAN, late], thaw=260, bounds=Bounds(strict=True))) == 1


@pytest.mark.pure
def test_a_run_that_begins_early_is_found_but_for_a_backward_jump() -> None:
    hurried = [*without("begin", 251), (248, "b1", "begin", "task", 6, 250, "")]
    claimed = [(247, *line[1:]) if line[:3] == (250, "store", "claimed") else line for line in hurried]

    assert judged(claimed) == ["task: b1 begins 2.000 s too early"]
    assert judged(claimed, Plan((Jump(100, 2),))) == []
    assert judged(CLEAN, Plan((Jump(245, -5),))) == []
    assert judged(CLEAN, Plan((Jump(235, -5),))) == ["task: b1 begins 4.000 s too early"]


@pytest.mark.pure
def test_what_is_due_and_not_run_is_found_if_somebody_is_well() -> None:
    lines = [line for line in CLEAN if line[0] < 250]

    assert judged(lines) == ["task: a due tick is not run for 50.0 s although an instance is healthy"]
    assert judged(lines, Plan((Cut(260, 0, 10), Pause(260, 1, 10)))) == []
    assert judged(lines, Plan((Cut(260, 0, 10, "there"), Pause(110, 1, 10)))) != []
    assert judged(lines, Plan((Jump(260, 5),))) == []
    assert judged([*lines, (249, "store", "held", "task", 0, 0, "b1#2")]) == []


@pytest.mark.pure
def test_a_suspension_that_does_not_begin_is_found() -> None:
    lines = [*CLEAN, (100, "b1", "suspend", "task", 0, 0, "b1#2")]

    assert judged(lines) == ["task: the suspension of b1 does not begin in time"]
    assert judged([*lines, (150, "b1", "suspended-end", "task", 0, 0, "b1#2")]) == []
    assert judged(lines, Plan((Crash(130, 1, 5),))) == []


@pytest.mark.pure
def test_a_hold_that_outlives_its_instance_is_found() -> None:
    lines = [*CLEAN, (100, "store", "held", "task", 0, 0, "a1#1"), (110, "a1", "crash", "", 0, 0, "")]

    assert judged([*lines, (139, "store", "unheld", "task", 0, 0, "a1#1")]) == []
    assert judged([*lines, (141, "store", "unheld", "task", 0, 0, "a1#1")]) != []


@pytest.mark.pure
def test_ticks_in_two_rows_are_found() -> None:
    rows = [
        LedgerRow("task", 1, 1, 1, 1, "LOST", None, 5),
        LedgerRow("task", 1, 2, 1, 1, "SUCCEEDED", None, 5),
        LedgerRow("task", 2, 0, 4, 3, "SKIPPED", None, 5),
        LedgerRow("task", 4, 1, 4, 1, "SUCCEEDED", None, 5),
        LedgerRow("task", 4, 1, 4, 1, "SUCCEEDED", None, 5, manual=True),
    ]

    assert judged(CLEAN, rows=rows[:3]) == []
    assert judged(CLEAN, rows=rows) == ["task: the ticks from 4 are in two rows, (2, 4) and (4, 4)"]


@pytest.mark.pure
def test_a_violation_is_shown_with_its_lines() -> None:
    entries = [Entry(us(at), "a1", "act", "task", 7, T + us(4), 1, store=T + us(at)) for at in range(20)]
    entries += [Entry(us(20), "b1", "begin", "task", 6, T + us(4), 1, store=T + us(20))]

    [found] = [each for each in violations(entries, Plan(), 2) if "acts by" in each]

    assert found.splitlines() == [
        "task: b1 acts by fence 6, after a1 by 7",
        "        0.000000 a1    act task fence 7 tick +4.000 s, take 1",
        "       19.000000 a1    act task fence 7 tick -15.000 s, take 1",
        "       20.000000 b1    begin task fence 6 tick -16.000 s, take 1",
        "       20.000000 <<<<<",
    ]


def test_what_decides_the_fate_of_messages_is_forgotten_when_it_has_been_decided() -> None:
    async def asking(instance: Process) -> None:
        for _ in range(100):
            await instance.store.scan()
            await asyncio.sleep(1)

    with Simulation(Plan(), 1, 1, asking) as simulation:
        simulation.run()

        assert simulation.lives[0].store.calls == 100
        assert len(simulation.lives[0].store._drawn) == 1
