"""What the listeners are called with, and what the log says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import ExecPolicy, FirstRun, Outcome, Reason, Run, Scheduler
from support.reading import ZERO

LOGGER = "kaiju_app.scheduler"


def tick(seconds: float) -> str:
    """Return the tick at this many seconds after the start of the test, as the log writes it."""
    return (ZERO + timedelta(seconds=seconds)).isoformat()


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the level and the text of every log line."""
    assert {record.name for record in caplog.records} <= {LOGGER}
    return [(record.levelname, record.getMessage()) for record in caplog.records]


async def job() -> None:
    pass


async def fail() -> None:
    raise ValueError("no luck")


class Failing:
    """A function that fails from one call to another, both counted from 1."""

    def __init__(self, first: int, last: int) -> None:
        self.calls, self.first, self.last = 0, first, last

    async def __call__(self) -> None:
        self.calls += 1
        if self.first <= self.calls <= self.last:
            raise ValueError(f"call {self.calls}")


# --- listeners ---


async def test_a_listener_hears_of_every_run(scheduler: Scheduler, reported: list[Run]) -> None:
    tasks = [scheduler.schedule_task(func, 10) for func in (job, fail)]
    async with scheduler:
        await asyncio.sleep(15)

        assert reported == [run for pair in zip(*(task.history() for task in tasks), strict=True) for run in pair]
        assert [run.outcome.value for run in reported] == ["SUCCEEDED", "FAILED"] * 2


async def test_listeners_are_called_in_the_order_in_which_they_subscribed(scheduler: Scheduler) -> None:
    order: list[str] = []
    for name in ("first", "second", "third"):
        scheduler.subscribe(lambda _, name=name: order.append(name))  # type: ignore[misc]
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1)

    assert order == ["first", "second", "third"]


async def test_a_listener_is_called_after_the_record_is_kept(scheduler: Scheduler) -> None:
    seen: list[tuple[bool, bool]] = []
    scheduler.subscribe(lambda run: seen.append((task.last_run == run, task.running)))
    task = scheduler.schedule_task(fail, 10)
    async with scheduler:
        await asyncio.sleep(15)

    assert seen == [(True, False)] * 2


async def test_the_closing_of_skips_is_heard_after_it_is_kept_and_before_what_closes_it(scheduler: Scheduler) -> None:
    seen: list[tuple[Outcome, bool]] = []
    scheduler.subscribe(lambda run: seen.append((run.outcome, run in task.history())))
    task = scheduler.schedule_task(asyncio.sleep, 10, (25,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(26)

    assert seen == [(Outcome.SKIPPED, True), (Outcome.SKIPPED, True), (Outcome.SUCCEEDED, True)]


async def test_a_listener_may_subscribe_before_and_while_started(scheduler: Scheduler) -> None:
    early: list[Run] = []
    late: list[Run] = []
    scheduler.subscribe(early.append)
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        scheduler.subscribe(late.append)
        await asyncio.sleep(10)

    assert (len(early), len(late)) == (2, 1)


async def test_unsubscribing_ends_it_and_twice_is_harmless(scheduler: Scheduler) -> None:
    one: list[Run] = []
    other: list[Run] = []
    unsubscribe = scheduler.subscribe(one.append)
    scheduler.subscribe(other.append)
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        unsubscribe()
        unsubscribe()
        await asyncio.sleep(10)

    assert (len(one), len(other)) == (1, 2)


async def test_a_listener_that_subscribed_twice_is_called_twice_and_each_ends_by_itself(scheduler: Scheduler) -> None:
    seen: list[Run] = []
    listener = seen.append
    unsubscribe = scheduler.subscribe(listener)
    scheduler.subscribe(listener)
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(5)
        assert len(seen) == 2
        unsubscribe()
        await asyncio.sleep(10)

    assert len(seen) == 3


async def test_a_listener_may_unsubscribe_itself(scheduler: Scheduler) -> None:
    seen: list[str] = []

    def once(_: Run) -> None:
        seen.append("once")
        unsubscribe()

    unsubscribe = scheduler.subscribe(once)
    scheduler.subscribe(lambda _: seen.append("always"))
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(15)

    assert seen == ["once", "always", "always"]


async def test_a_listener_may_change_the_task_it_hears_of(scheduler: Scheduler) -> None:
    scheduler.subscribe(lambda _: task.disable())
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(95)

    assert [(run.outcome.value, run.reason, run.count) for run in task.history()] == [
        ("SUCCEEDED", None, 1),
        ("SKIPPED", Reason.DISABLED, 9),
    ]


async def test_a_listener_may_remove_the_task_it_hears_of(scheduler: Scheduler) -> None:
    scheduler.subscribe(lambda _: task.remove())
    task = scheduler.schedule_task(job, 10)
    other = scheduler.schedule_task(asyncio.sleep, 1000, (500,))
    async with scheduler:
        await asyncio.sleep(100)

        assert [run.outcome.value for run in task.history()] == ["SUCCEEDED"]
        assert dict(scheduler.tasks) == {other.name: other}


async def test_a_listener_may_schedule_and_remove_tasks_whatever_it_hears(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """Also at a stop, when every task may have a tick to skip."""

    def listener(run: Run) -> None:
        if run.outcome is Outcome.SKIPPED and run.finished_at is None:
            scheduler.tasks[run.task].remove()
            scheduler.schedule_task(job, 10, name=f"instead of {run.task}")

    tasks = [
        scheduler.schedule_task(asyncio.sleep, 10, (15,), policy=ExecPolicy.WAIT, name=name) for name in ("one", "two")
    ]
    async with scheduler:
        await asyncio.sleep(12)
        scheduler.subscribe(listener)

    assert [[run.reason and run.reason.value for run in task.history()] for task in tasks] == [
        ["shutdown", "shutdown"]
    ] * 2
    assert list(scheduler.tasks) == ["instead of one", "instead of two"]
    assert [text for _, text in logged(caplog) if "raised" in text] == []


async def generate_async(_: Run) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("listener", [None, 7, "print", [], generate_async])
def test_what_cannot_be_called_is_no_listener(listener: Any) -> None:
    with pytest.raises(InvalidArgument, match="listener must be a function, plain or async, that") as caught:
        Scheduler().subscribe(listener)

    assert (caught.value.argument, caught.value.value) == ("listener", listener)


@pytest.mark.filterwarnings("error")
async def test_a_listener_that_raises_harms_neither_runs_nor_the_other_listeners(scheduler: Scheduler) -> None:
    reported: list[Run] = []

    def listener(_: Run) -> None:
        raise ZeroDivisionError("in a listener")

    scheduler.subscribe(listener)
    scheduler.subscribe(reported.append)
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1)
        run = await task.run_now()
        await asyncio.sleep(10)

        assert [run.outcome.value for run in task.history()] == ["SUCCEEDED"] * 3
        assert reported == task.history()
        assert reported[1] == run


async def test_a_listener_that_raises_is_logged_once_a_minute(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(_: Run) -> None:
        raise ZeroDivisionError("in a listener")

    scheduler.subscribe(listener)
    scheduler.schedule_task(job, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(125)

        assert logged(caplog) == [
            (
                "ERROR",
                f"listener {listener!r} raised for task 'mine', tick {tick(at)}; it stays subscribed",
            )
            for at in (0, 60, 120)
        ]
        assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 3


async def test_listeners_that_raise_are_logged_each_for_itself(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def first(_: Run) -> None:
        raise ZeroDivisionError

    def second(_: Run) -> None:
        raise LookupError

    scheduler.subscribe(first)
    scheduler.subscribe(second)
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(15)

        assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError, LookupError]


async def test_a_new_listener_that_raises_is_logged_though_one_before_it_did(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    async with scheduler:
        task = scheduler.schedule_task(job, 1000)
        await asyncio.sleep(1)
        for number in range(20):

            def listener(_: Run, number: int = number) -> None:
                raise ValueError(number)

            unsubscribe = scheduler.subscribe(listener)
            await task.run_now()
            unsubscribe()
            del unsubscribe

        assert [str(record.exc_info and record.exc_info[1]) for record in caplog.records] == [
            str(number) for number in range(20)
        ]


# --- the log ---


def test_the_logger_has_the_documented_name_and_propagates() -> None:
    logger = logging.getLogger(LOGGER)

    assert logger.propagate
    assert logger.handlers == []
    assert logger.level == logging.NOTSET


async def test_the_first_failure_is_logged_with_its_traceback(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(fail, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(1)

        assert logged(caplog) == [
            ("ERROR", f"task 'mine', tick {tick(0)}: FAILED after 0 s: ValueError: no luck; the schedule continues")
        ]
        assert "Traceback (most recent call last)" in caplog.text
        assert 'raise ValueError("no luck")' in caplog.text


async def test_failures_after_the_first_are_one_line_a_minute_with_a_count(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(fail, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(1)
        caplog.clear()
        await asyncio.sleep(124)

        what = "FAILED after 0 s: ValueError: no luck"
        assert logged(caplog) == [
            ("ERROR", f"task 'mine', tick {tick(60)}: {what}; 7 unsuccessful runs in a row, in 60 s"),
            ("ERROR", f"task 'mine', tick {tick(120)}: {what}; 13 unsuccessful runs in a row, in 120 s"),
        ]
        assert [record.exc_info for record in caplog.records] == [None, None]


async def test_rare_failures_are_each_logged(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(fail, 3600)
    async with scheduler:
        await asyncio.sleep(4 * 3600 - 1)

        assert [record.levelname for record in caplog.records] == ["ERROR"] * 4


async def test_recovery_is_one_line(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scheduler.schedule_task(Failing(2, 4), 10, name="mine")
    async with scheduler:
        await asyncio.sleep(11)
        caplog.clear()
        await asyncio.sleep(100)

        assert logged(caplog) == [
            ("INFO", f"task 'mine', tick {tick(40)}: succeeded again after 3 unsuccessful run(s) in 30 s")
        ]


async def test_after_a_recovery_the_next_failure_is_a_first_one_again(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    body = Failing(1, 3)
    scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(35)
        body.first, body.last = 5, 6
        await asyncio.sleep(20)

        assert [text.rpartition(": ")[2] for _, text in logged(caplog)] == [
            "call 1; the schedule continues",
            "call 5; the schedule continues",
        ]
        assert [record.exc_info is not None for record in caplog.records] == [True, True]


async def test_a_task_that_fails_does_not_silence_another(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        scheduler.schedule_task(fail, 10, name=name)
    async with scheduler:
        await asyncio.sleep(55)

        assert [text.partition(",")[0] for _, text in logged(caplog)] == ["task 'one'", "task 'two'"]


async def test_a_run_that_is_cut_is_logged_like_a_failure(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(asyncio.sleep, 10, (1000,), name="cut", max_timeout_s=2.5)
    scheduler.schedule_task(asyncio.sleep, 10, (1000,), name="replaced")
    async with scheduler:
        await asyncio.sleep(55)

        assert [(level, text.partition("continues.")[0]) for level, text in logged(caplog)] == [
            ("ERROR", f"task 'cut', tick {tick(0)}: TIMED_OUT (deadline) after 2.5 s; the schedule "),
            ("ERROR", f"task 'replaced', tick {tick(0)}: CANCELLED (replaced) after 10 s; the schedule "),
        ]


async def test_what_somebody_wanted_is_no_error(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), name="mine")
    async with scheduler:
        await asyncio.sleep(1)
        task.cancel("enough")
        await asyncio.sleep(10)

    assert logged(caplog) == [
        ("INFO", f"task 'mine', tick {tick(0)}: CANCELLED (requested) after 1 s: enough"),
        ("INFO", f"task 'mine', tick {tick(10)}: CANCELLED (shutdown) after 1 s"),
    ]


async def test_the_number_of_attempts_is_told(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(fail, 100, name="mine", retries=2, retry_interval_s=5, retry_on=ValueError)
    async with scheduler:
        await asyncio.sleep(50)

        what = "FAILED after 10 s: ValueError: no luck (gave up after 3 attempts)"
        assert logged(caplog) == [("ERROR", f"task 'mine', tick {tick(0)}: {what}; the schedule continues")]


async def test_an_attempt_that_is_followed_by_a_good_one_is_no_failure(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(Failing(1, 2), 100, retries=2, retry_interval_s=5, retry_on=ValueError)
    async with scheduler:
        await asyncio.sleep(50)

    assert logged(caplog) == []


async def test_successes_are_told_at_debug(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    scheduler.schedule_task(asyncio.sleep, 10, (2,), name="mine")
    async with scheduler:
        await asyncio.sleep(13)

        assert [line for line in logged(caplog) if "SUCCEEDED" in line[1]] == [
            ("DEBUG", f"task 'mine', tick {tick(at)}: SUCCEEDED after 2 s") for at in (0, 10)
        ]


async def test_the_success_of_a_manual_run_is_told_at_debug_too(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    task = scheduler.schedule_task(job, 1000, name="mine", first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(1)
        caplog.set_level(logging.DEBUG, LOGGER)
        await task.run_now()

        assert logged(caplog) == [("DEBUG", f"task 'mine', tick {tick(1)}: SUCCEEDED after 0 s")]


async def test_successes_are_not_told_above_debug(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(99)

    assert logged(caplog) == []


async def test_the_level_of_the_log_may_change_any_time(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(15)
        caplog.set_level(logging.DEBUG, LOGGER)
        await asyncio.sleep(10)
        caplog.set_level(logging.WARNING, LOGGER)
        await asyncio.sleep(10)

        assert [text.partition(": ")[0] for _, text in logged(caplog)] == [f"task 'scheduled:job', tick {tick(20)}"]


async def test_a_listener_hears_of_what_the_log_does_not_tell(
    scheduler: Scheduler, reported: list[Run], caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(25)

    assert len(reported) == 3
    assert logged(caplog) == []
