"""Wrong use of the test kit gets an error that says how it is done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from kaiju_app import Scheduler
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Outcome
from kaiju_app.testing import VirtualClock, VirtualTimeError

START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


async def nothing() -> None:
    pass


def test_a_real_sleep_in_the_loop_is_refused_and_in_a_thread_it_is_not(clock: VirtualClock) -> None:
    async def sleeps() -> None:
        time.sleep(5)  # noqa: ASYNC251

    async def main() -> None:
        async with Scheduler() as scheduler:
            run = await scheduler.schedule_task(sleeps, 60).run_now()
            assert run.outcome is Outcome.FAILED
            assert "Write `await asyncio.sleep()`; to test code that blocks" in (run.error or "")
            await asyncio.to_thread(time.sleep, 0.001)

    clock.run(main())


def test_time_sleeps_as_before_after_the_block() -> None:
    before = time.sleep
    with VirtualClock():
        assert time.sleep != before
    assert time.sleep is before


def test_two_clocks_are_refused(clock: VirtualClock) -> None:
    with pytest.raises(VirtualTimeError, match=r"there are two clocks: <VirtualClock at 2027-01-01T00:00:00\+00:00>"):
        VirtualClock().__enter__()


def test_a_second_loop_of_one_clock_is_refused_while_the_first_is_open(clock: VirtualClock) -> None:
    async def main() -> None:
        with pytest.raises(VirtualTimeError, match="has a loop already"):
            clock.new_loop()

    clock.run(main())
    clock.run(nothing())


def test_a_loop_of_a_clock_that_is_not_in_use_is_refused() -> None:
    with pytest.raises(VirtualTimeError, match="write `with clock:`"):
        VirtualClock().new_loop()


def test_a_scheduler_that_starts_in_real_time_is_refused(clock: VirtualClock) -> None:
    with pytest.raises(VirtualTimeError, match=r"starts in a loop in real time.*start it inside the test"):
        asyncio.run(Scheduler().start())


def test_a_scheduler_with_another_clock_is_not_told_the_time_of_this_one(clock: VirtualClock) -> None:
    async def main() -> None:
        with pytest.raises(VirtualTimeError, match="the loop of another clock"):
            await Scheduler(clock=VirtualClock()).start()

    clock.run(main())


def test_a_clock_is_refused_while_a_scheduler_runs_in_real_time() -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            scheduler.schedule_task(nothing, 60, name="outside")
            with pytest.raises(VirtualTimeError, match=r"running already, in real time, with the task.* 'outside'"):
                VirtualClock().__enter__()

    asyncio.run(main())
    with VirtualClock():
        pass


def test_advance_in_a_real_loop_is_refused(clock: VirtualClock) -> None:
    with pytest.raises(
        VirtualTimeError, match=r"clock\.advance\(\) is called in a loop in real time(?s:.*)anyio_backend"
    ):
        asyncio.run(clock.advance(1))


@pytest.mark.parametrize("seconds", [-1, float("nan"), "60", True])
def test_time_does_not_pass_backward(clock: VirtualClock, seconds: float) -> None:
    async def main() -> None:
        for call in (clock.block, clock.sleep_machine):
            with pytest.raises(InvalidArgument, match=r"^seconds "):
                call(seconds)
        with pytest.raises(InvalidArgument, match=r"^seconds "):
            await clock.advance(seconds)

    clock.run(main())


def test_moments_are_aware_and_until_goes_forward(clock: VirtualClock) -> None:
    naive = datetime(2027, 1, 1)  # noqa: DTZ001

    async def main() -> None:
        await clock.advance(1)
        with pytest.raises(InvalidArgument, match=r"must not be before now, 2027-01-01 00:00:01\+00:00"):
            await clock.until(START)
        with pytest.raises(InvalidArgument, match=r"^moment "):
            await clock.until(naive)

    clock.run(main())
    with pytest.raises(InvalidArgument, match=r"^moment "):
        clock.set_wall(naive)
    with pytest.raises(InvalidArgument, match=r"^start "):
        VirtualClock(naive)


def test_threads_start_as_another_library_has_them_start(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread)
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with VirtualClock():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    assert thread in started
    assert threading.Thread.start is start
