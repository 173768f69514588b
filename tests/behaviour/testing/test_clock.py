"""The clock of the test kit: what passes, what stands still, and that it is the same every time."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from kaiju_app import Scheduler
from kaiju_app.scheduler import Backoff, Cron, ExecPolicy, FirstRun, Outcome, Run, Scope, current_run
from kaiju_app.testing import VirtualClock, VirtualTimeError

HOUR = 3600
START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


@pytest.fixture
def impatient() -> Iterator[VirtualClock]:
    with VirtualClock(patience_s=0.4) as clock:
        yield clock


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


# --- time passes ---


def test_all_that_is_due_by_then_has_been_done_when_advance_returns(clock: VirtualClock) -> None:
    seen: list[str] = []

    async def body() -> None:
        await asyncio.sleep(HOUR)  # It ends at the instant that advance() goes to.
        for _ in range(100):
            await asyncio.sleep(0)
        seen.append(f"{clock.now():%H:%M}")

    async def main() -> None:
        async with Scheduler() as scheduler:
            scheduler.schedule_task(body, interval_s=2 * HOUR)
            await clock.advance(HOUR)
            assert seen == ["01:00"]
            await clock.advance(timedelta(hours=3.5))
            assert seen == ["01:00", "03:00"]
            assert clock.now() == hour(4.5)

    clock.run(main())


def test_sleeps_timeouts_and_queues_of_the_application_live_by_it(clock: VirtualClock) -> None:
    async def main() -> None:
        queue: asyncio.Queue[datetime] = asyncio.Queue()

        async def produce() -> None:
            await asyncio.sleep(40 * HOUR)
            await queue.put(clock.now())

        producer = asyncio.create_task(produce())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), timeout=HOUR)
        assert clock.now() == hour(1)
        async with asyncio.timeout(100 * HOUR):
            assert await queue.get() == hour(40)
        await producer

    clock.run(main())


def test_until_goes_to_a_moment_of_the_wall_clock_also_if_somebody_sets_it_back_meanwhile(clock: VirtualClock) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(HOUR, clock.set_wall, hour(-5))
        before = clock.steady_now()
        await clock.until(hour(2))
        assert clock.now() == hour(2)
        assert clock.steady_now() - before == 8 * HOUR * 1_000_000

    clock.run(main())


def test_a_day_of_daylight_saving_has_as_many_hours_as_on_the_wall(clock: VirtualClock) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    ran: list[str] = []

    async def body() -> None:
        ran.append(f"{current_run().scheduled_at.astimezone(berlin):%d %H:%M %z}")

    async def main() -> None:
        clock.set_wall(datetime(2026, 10, 24, 20, tzinfo=berlin))
        async with Scheduler() as scheduler:
            scheduler.schedule_task(body, trigger=Cron("30 2 * * *", tz="Europe/Berlin"))
            await clock.until(datetime(2026, 10, 26, 12, tzinfo=berlin))

    clock.run(main())
    assert ran == ["25 02:30 +0200", "26 02:30 +0100"]


def test_a_step_of_the_wall_clock_lets_no_time_pass_and_fires_no_timer(clock: VirtualClock) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            every = scheduler.schedule_task(nothing, interval_s=HOUR, first_run=FirstRun.NEXT)
            cron = scheduler.schedule_task(nothing, trigger="0 * * * *")
            before = asyncio.get_running_loop().time()
            clock.set_wall(hour(10.5))
            await clock.advance(0)
            assert asyncio.get_running_loop().time() == before
            assert every.counts[Outcome.SUCCEEDED] == 0
            await clock.advance(HOUR)
            assert (every.counts[Outcome.SUCCEEDED], clock.now()) == (1, hour(11.5))
            assert cron.history()[-1].scheduled_at == hour(11)

    clock.run(main())


def test_a_machine_that_slept_stops_the_loop_but_not_the_scheduler(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            task = scheduler.schedule_task(nothing, interval_s=HOUR)
            await clock.advance(0)
            before = asyncio.get_running_loop().time()
            clock.sleep_machine(10.25 * HOUR)
            assert asyncio.get_running_loop().time() == before
            await clock.advance(60)  # A machine that slept is noticed within a minute.
            assert [run.scheduled_at for run in task.history() if run.outcome is not Outcome.SKIPPED] == [
                hour(0),
                hour(10),
            ]

    clock.run(main())
    assert "the machine slept for 10:15:00" in caplog.text


def test_a_blocked_loop_is_noticed(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            task = scheduler.schedule_task(nothing, interval_s=HOUR)
            await clock.advance(60)
            clock.block(10 * HOUR)
            await clock.advance(0)
            assert task.counts[Outcome.SUCCEEDED] == 2

    clock.run(main())
    assert "the loop was blocked for" in caplog.text


def test_a_cluster_task_over_a_store_in_memory_or_in_a_file_lives_by_it(clock: VirtualClock, tmp_path: Path) -> None:
    for store in ("memory://", f"sqlite:///{tmp_path}/store.db"):

        async def main(store: str = store) -> None:
            async with Scheduler(store) as scheduler:
                task = scheduler.schedule_task(nothing, 20, name="shared", scope=Scope.CLUSTER)
                await clock.advance(120)
                assert task.counts[Outcome.SUCCEEDED] in (6, 7)  # A store keeps a grid of its own.

        clock.run(main())


# --- threads ---


def test_time_stands_still_while_a_thread_is_at_work(clock: VirtualClock) -> None:
    to_thread = pytest.importorskip("anyio.to_thread")

    async def main() -> None:
        ticker = asyncio.create_task(asyncio.sleep(HOUR))  # Time could pass at once.
        await asyncio.to_thread(time.sleep, 0.05)
        await to_thread.run_sync(time.sleep, 0.05)
        async with Scheduler() as scheduler:
            run = await scheduler.schedule_task(time.sleep, 2 * HOUR, (0.05,)).run_now()
            assert (run.outcome, run.duration_s) == (Outcome.SUCCEEDED, 0)
        assert clock.now() == START
        await ticker

    clock.run(main())


def test_time_stands_still_for_a_thread_that_nobody_waits_for_any_more(clock: VirtualClock) -> None:
    ended: list[datetime] = []

    def slow() -> None:
        time.sleep(0.1)
        ended.append(clock.now())

    async def main() -> None:
        job = asyncio.create_task(asyncio.to_thread(slow))
        await asyncio.sleep(0)
        job.cancel()
        await asyncio.sleep(HOUR)
        assert ended == [START]

    clock.run(main())


def test_threads_take_time_if_that_is_asked_for() -> None:
    clock, late = VirtualClock(waits_for_threads=False), threading.Event()

    async def main() -> None:
        async with Scheduler() as scheduler:
            task = scheduler.schedule_task(late.wait, HOUR, (5,), max_timeout_s=60)
            await clock.advance(120)
            late.set()
            run = await task.wait()
            assert run is not None
            assert (run.outcome, run.reason) == (Outcome.SUCCEEDED, "deadline")

    clock.run(main())


# --- bodies that behave badly ---


async def nothing() -> None:
    pass


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def waits_for_itself_in_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.01)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (nothing, Outcome.SUCCEEDED),
        (cancels_itself, Outcome.CANCELLED),
        (waits_for_itself_in_a_thread, Outcome.SUCCEEDED),
        (lambda: None, Outcome.SUCCEEDED),
    ],
)
def test_advance_ends_whatever_a_body_does(clock: VirtualClock, body: object, outcome: Outcome) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            task = scheduler.schedule_task(body, interval_s=HOUR, first_run=FirstRun.NEXT)  # type: ignore[arg-type]
            await clock.advance(5 * HOUR)
            assert task.counts[outcome] == 5

    clock.run(main())


def test_a_body_that_blocks_delays_the_others_and_advance_ends_in_time(clock: VirtualClock) -> None:
    async def blocks() -> None:
        clock.block(600)

    async def main() -> None:
        async with Scheduler() as scheduler:
            scheduler.schedule_task(blocks, interval_s=HOUR)
            await clock.advance(2.5 * HOUR)
            assert clock.now() == hour(2.5)

    clock.run(main())


def test_advance_says_who_lets_no_time_pass(clock: VirtualClock) -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def main() -> None:
        async with Scheduler() as scheduler:
            scheduler.schedule_task(spin, interval_s=HOUR, name="spinner")
            with pytest.raises(
                VirtualTimeError, match=r"100,000 turns at one instant(?s:.*)\n spinner:\n(?s:.*) in spin"
            ):
                await clock.advance(60)

    clock.run(main())


def test_advance_ends_a_body_that_never_awaits_and_says_where_it_was(impatient: VirtualClock) -> None:
    clock = impatient

    async def never_awaits() -> None:
        while True:
            pass

    async def main() -> None:
        async with Scheduler() as scheduler:
            task = scheduler.schedule_task(never_awaits, HOUR)
            await clock.advance(60)
            assert task.last_run is not None
            assert (task.last_run.outcome, clock.now()) == (Outcome.FAILED, START + timedelta(seconds=60))
            assert re.search(r"the code at .*test_clock\.py:\d+ never awaits", task.last_run.error or "")

    clock.run(main())


def test_advance_says_which_thread_it_waits_for(impatient: VirtualClock) -> None:
    release = threading.Event()

    def waits_for_ever() -> None:
        while not release.is_set():
            time.sleep(0.001)

    async def main() -> None:
        async with Scheduler(cancel_grace_s=0) as scheduler:
            scheduler.schedule_task(waits_for_ever, interval_s=HOUR)
            with pytest.raises(VirtualTimeError, match=r"time stands still(?s:.*)thread 'kaiju_app.*' at .*test_clock"):
                await impatient.advance(60)
            release.set()

    impatient.run(main())


def test_a_test_that_waits_for_what_can_never_happen_is_told(impatient: VirtualClock) -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(VirtualTimeError, match=r"no timer is set(?s:.*) in wait"):
        impatient.run(main())


# --- a loop that is driven from outside, and real input ---


def test_time_passes_only_on_request_if_it_does_not_move_alone() -> None:
    with VirtualClock(moves_alone=False) as clock:
        ready, over = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def main() -> None:
            async with Scheduler() as scheduler:
                scheduler.schedule_task(nothing, interval_s=1)
                loops.append(asyncio.get_running_loop())
                ready.set()
                await over.wait()

        def run() -> None:
            with asyncio.Runner(loop_factory=clock.new_loop) as runner:
                runner.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(10)
        time.sleep(0.02)
        assert clock.now() == START
        asyncio.run_coroutine_threadsafe(clock.advance(HOUR), loops[0]).result(10)
        assert clock.now() == hour(1)
        loops[0].call_soon_threadsafe(over.set)
        thread.join(10)
        assert not thread.is_alive()


def test_a_thread_may_take_as_long_as_it_likes_while_nobody_asks_for_time_to_pass() -> None:
    with (
        VirtualClock(moves_alone=False, patience_s=0.2) as clock,
        asyncio.Runner(loop_factory=clock.new_loop) as runner,
    ):
        runner.run(asyncio.to_thread(time.sleep, 0.5))


def test_a_paused_clock_waits_for_real_sockets(clock: VirtualClock) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asking = await reader.readline()
        threading.Timer(0.05, lambda: loop.call_soon_threadsafe(asked.set)).start()
        await asked.wait()
        writer.write(asking)
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        nonlocal loop, asked
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        with clock.paused():
            server = await asyncio.start_server(answer, "127.0.0.1")
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"time?\n")
            assert await asyncio.wait_for(reader.readline(), 1) == b"time?\n"
            assert clock.now() == START
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    loop: asyncio.AbstractEventLoop
    asked: asyncio.Event
    clock.run(main())


def test_a_test_that_sleeps_while_the_clock_is_paused_is_told(impatient: VirtualClock) -> None:
    async def main() -> None:
        with impatient.paused():
            await asyncio.sleep(1)

    with pytest.raises(VirtualTimeError, match=r"the clock is paused: move it with `await clock\.advance\(seconds\)`"):
        impatient.run(main())


# --- the same every time ---

JOURNAL = "9273025691a90651bed094d8fcf1ae57a2819a45733577a9645b094d7f11e081"  # Of every Python.


def journal(seed: int, *, debug: bool) -> str:
    """Return what a day of some hostile tasks looks like."""
    lines: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(30)
        if current_run().attempt < 3:
            raise OSError("no connection")

    async def slow() -> None:
        await asyncio.sleep(5000)

    async def in_a_thread() -> None:
        await asyncio.to_thread(nothing_at_all)

    def note(run: Run) -> None:
        lines.append(f"{run.instance} {run.run_id} {run!r} {run.started_at} {run.finished_at}")

    async def main() -> None:
        async with Scheduler() as scheduler:
            scheduler.subscribe(note)
            scheduler.schedule_task(fails, HOUR, retries=3, retry_interval_s=Backoff(5, jitter=0.5), jitter_s=600)
            for policy in ExecPolicy:
                scheduler.schedule_task(slow, HOUR, policy=policy, jitter_s=900)
            scheduler.schedule_task(in_a_thread, 1800, jitter_s=60)
            scheduler.schedule_task(nothing_at_all, trigger="*/7 * * * *", jitter_s=60)
            await clock.advance(24 * HOUR)

    with VirtualClock(seed=seed) as clock:
        clock.run(main(), debug=debug)
    return "\n".join(lines)


def nothing_at_all() -> None:
    pass


@pytest.mark.smoke
def test_the_same_seed_gives_the_same_journal_in_debug_mode_and_not_and_on_every_python() -> None:
    first = journal(7, debug=False)

    assert first.count("\n") > 300
    assert journal(7, debug=False) == first == journal(7, debug=True)
    assert journal(8, debug=False) != first
    assert hashlib.sha256(first.encode()).hexdigest() == JOURNAL
