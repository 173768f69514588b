"""The ledger: what a Run says, how skips are merged into one record, what is kept; and ``current_run()``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kaiju_app.errors import KaijuError, RunCancelled
from kaiju_app.scheduler import (
    CurrentRun,
    Every,
    ExecPolicy,
    FirstRun,
    Outcome,
    Reason,
    Run,
    ScheduledTask,
    Scheduler,
    current_run,
)
from support.reading import ZERO, at, endings
from support.virtual import VirtualLoop, close_loop


def counts(task: ScheduledTask[Any]) -> dict[str, int]:
    """Return the counts of *task* that are not 0."""
    told: Any = task.json_repr()["counts"]
    return {outcome: number for outcome, number in told.items() if number}


async def job() -> None:
    pass


async def fail() -> None:
    raise ValueError("no luck")


# --- a Run ---


async def test_a_run_tells_all_about_its_tick(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1.5,), name="mine")
    async with scheduler:
        await asyncio.sleep(12)

        assert task.last_run == Run(
            task="mine",
            scheduled_at=ZERO + timedelta(seconds=10),
            last_scheduled_at=ZERO + timedelta(seconds=10),
            count=1,
            more=False,
            due=ZERO + timedelta(seconds=10),
            started_at=ZERO + timedelta(seconds=10),
            finished_at=ZERO + timedelta(seconds=11.5),
            outcome=Outcome.SUCCEEDED,
            reason=None,
            error=None,
            attempts=1,
            delivery=1,
            instance=task.last_run.instance if task.last_run else "",
            fence=None,
            manual=False,
        )
        assert (task.last_run.lateness_s, task.last_run.duration_s) == (0, 1.5)


async def test_instants_are_aware_and_utc(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1)
        (run,) = task.history()

        instants = [run.scheduled_at, run.last_scheduled_at, run.due, run.started_at, run.finished_at]
        assert [instant and instant.tzinfo for instant in instants] == [UTC] * 5


async def test_a_record_cannot_be_changed(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1)
        (run,) = task.history()

        for field in dataclasses.fields(run):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(run, field.name, None)
        assert hash(run) == hash(task.last_run)


async def test_what_was_read_stays_what_it_was(scheduler: Scheduler) -> None:
    """When a record of skips grows, it becomes another Run."""
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(15)
        before = task.history()
        await asyncio.sleep(10)

        assert endings(before) == [("SKIPPED", "overlap", 1)]
        assert endings(task.history()) == [("SKIPPED", "overlap", 2)]


async def test_lateness_is_from_due_to_start_and_a_run_in_time_has_none(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(9)
        loop.virtual_clock.block(4)
        await asyncio.sleep(1)

        assert [run.lateness_s for run in task.history()] == [0, 3]
        assert [at(run.scheduled_at) for run in task.history()] == [0, 10]


async def test_every_instance_has_a_name_of_its_own(loop: VirtualLoop) -> None:
    names = []
    for scheduler in (Scheduler(clock=loop.virtual_clock), Scheduler(clock=loop.virtual_clock)):
        tasks = [scheduler.schedule_task(job, 10) for _ in range(2)]
        async with scheduler:
            await asyncio.sleep(1)
        names.append({run.instance for task in tasks for run in task.history()})
        assert names[-1] == {scheduler.json_repr()["instance"]}

    assert len(names[0] | names[1]) == 2


async def fail_wordlessly() -> None:
    raise KeyError


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not today")


async def fail_brokenly() -> None:
    raise Broken


async def exit_early() -> None:
    raise asyncio.CancelledError("of its own accord")


async def fail_in_a_group() -> None:
    raise ExceptionGroup("several", [ValueError(1), OSError(2)])


@pytest.mark.parametrize(
    ("func", "ending"),
    [
        (job, (Outcome.SUCCEEDED, None, None)),
        (fail, (Outcome.FAILED, None, "ValueError: no luck")),
        (fail_wordlessly, (Outcome.FAILED, None, "KeyError")),
        (fail_brokenly, (Outcome.FAILED, None, "Broken: no message, because __str__ raised RuntimeError")),
        (
            fail_in_a_group,
            (Outcome.FAILED, None, "ExceptionGroup: several (2 sub-exceptions): ValueError: 1; OSError: 2"),
        ),
        (exit_early, (Outcome.CANCELLED, Reason.WITHIN, "CancelledError: of its own accord")),
    ],
)
async def test_the_error_of_a_run_is_a_text(
    scheduler: Scheduler, func: Callable[[], Awaitable[None]], ending: tuple[Outcome, Reason | None, str | None]
) -> None:
    task = scheduler.schedule_task(func, 10)
    async with scheduler:
        await asyncio.sleep(1)
        (run,) = task.history()

        assert (run.outcome, run.reason, run.error) == ending


async def test_a_run_counts_its_attempts_and_tells_the_last_error(scheduler: Scheduler) -> None:
    async def body() -> None:
        raise OSError(f"attempt {current_run().attempt}")

    task = scheduler.schedule_task(body, 100, retries=2, retry_interval_s=5)
    async with scheduler:
        await asyncio.sleep(50)
        (run,) = task.history()

        assert (run.outcome, run.attempts, run.error, run.duration_s) == (
            Outcome.FAILED,
            3,
            "OSError: attempt 3 (gave up after 3 attempts)",
            10,
        )


async def test_a_run_that_succeeds_at_last_tells_no_error(scheduler: Scheduler) -> None:
    async def body() -> None:
        if current_run().attempt < 3:
            raise OSError

    task = scheduler.schedule_task(body, 100, retries=2, retry_interval_s=5)
    async with scheduler:
        await asyncio.sleep(50)
        (run,) = task.history()

        assert (run.outcome, run.attempts, run.error) == (Outcome.SUCCEEDED, 3, None)


async def test_a_skip_has_no_start_and_no_attempt(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (25,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(26)
        skip = task.history()[0]

        assert (skip.outcome, skip.reason, skip.attempts, skip.error) == (Outcome.SKIPPED, Reason.OVERLAP, 0, None)
        assert (skip.started_at, skip.lateness_s, skip.duration_s) == (None, None, None)


# --- skips ---


async def test_consecutive_skips_for_one_cause_are_one_record(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.SKIP, max_timeout_s=95)
    async with scheduler:
        await asyncio.sleep(91)

        (skip,) = task.history()
        assert (skip.outcome, skip.reason, skip.count) == (Outcome.SKIPPED, Reason.OVERLAP, 9)
        assert (at(skip.scheduled_at), at(skip.last_scheduled_at)) == (10, 90)


async def test_a_record_of_skips_is_open_until_something_else_happens(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (25,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(24)
        assert [at(run.finished_at) for run in task.history()] == [None]
        await asyncio.sleep(2)

        assert endings(task.history()) == [("SKIPPED", "overlap", 2), ("SUCCEEDED", None, 1)]
        assert [at(run.finished_at) for run in task.history()] == [25, 25]


async def test_skips_for_another_cause_begin_another_record(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (80,), policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(35)
        task.disable()
        await asyncio.sleep(20)
        task.enable()
        await asyncio.sleep(20)
        task.reschedule(7)

        assert endings(task.history()) == [
            ("SKIPPED", "overlap", 2),
            ("SKIPPED", "disabled", 3),
            ("SKIPPED", "overlap", 1),
            ("SKIPPED", "rescheduled", 1),
        ]
        assert [(at(run.scheduled_at), at(run.last_scheduled_at)) for run in task.history()] == [
            (10, 20),
            (30, 50),
            (60, 60),
            (70, 70),
        ]
        assert [at(run.finished_at) for run in task.history()] == [35, 70, 75, None]
        task.remove()


async def test_a_run_in_between_parts_two_records_of_skips(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (25,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(60)

        assert endings(task.history()) == [
            ("SKIPPED", "overlap", 2),
            ("SUCCEEDED", None, 1),
            ("SKIPPED", "overlap", 2),
            ("SUCCEEDED", None, 1),
        ]


async def test_ten_years_of_downtime_are_one_record(scheduler: Scheduler, loop: VirtualLoop) -> None:
    task = scheduler.schedule_task(job, 60)
    async with scheduler:
        await asyncio.sleep(1)
        loop.virtual_clock.block(10 * 365 * 86_400)
        await asyncio.sleep(1)

        assert endings(task.history()) == [
            ("SUCCEEDED", None, 1),
            ("SKIPPED", "missed", 10 * 365 * 1440 - 1),
            ("SUCCEEDED", None, 1),
        ]
        assert at(task.history()[1].scheduled_at) == 60
        assert at(task.history()[1].last_scheduled_at) == 10 * 365 * 86_400 - 60


async def test_a_manual_skip_is_a_record_of_its_own(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (35,), policy=ExecPolicy.SHIELD)
    async with scheduler:
        await asyncio.sleep(12)
        asking = asyncio.create_task(task.run_now())
        await asyncio.sleep(17)
    run = await asking

    assert (run.manual, run.outcome, run.reason, run.count) == (True, Outcome.SKIPPED, Reason.SHUTDOWN, 1)
    assert [(run.reason and run.reason.value, run.count, run.manual) for run in task.history()] == [
        ("overlap", 2, False),
        ("shutdown", 1, True),
        (None, 1, False),
    ]


async def test_listeners_hear_the_opening_and_the_closing_of_a_record_of_skips(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    scheduler.schedule_task(asyncio.sleep, 10, (45,), policy=ExecPolicy.SKIP, max_timeout_s=60)
    async with scheduler:
        await asyncio.sleep(44)
        assert [(run.reason, run.count, at(run.last_scheduled_at), run.finished_at) for run in reported] == [
            (Reason.OVERLAP, 1, 10, None)
        ]
        await asyncio.sleep(2)

        assert [(run.reason, run.count, at(run.last_scheduled_at), at(run.finished_at)) for run in reported[1:]] == [
            (Reason.OVERLAP, 4, 40, 45),
            (None, 1, 0, 45),
        ]


async def test_a_record_of_skips_is_closed_by_skips_for_another_cause(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 10, (1000,), policy=ExecPolicy.SKIP, max_timeout_s=95)
    async with scheduler:
        await asyncio.sleep(25)
        task.disable()
        await asyncio.sleep(10)
        task.enable()

        assert [(run.reason, run.count, at(run.finished_at)) for run in reported] == [
            (Reason.OVERLAP, 1, None),
            (Reason.OVERLAP, 2, 35),
            (Reason.DISABLED, 1, None),
        ]


# --- what is kept ---


@pytest.mark.parametrize("history", [1, 2, 3, 20])
async def test_a_task_keeps_its_last_records(loop: VirtualLoop, history: int) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=history)
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(241)

        assert [at(run.scheduled_at) for run in task.history()] == [240 - 10 * age for age in range(history)][::-1]
        assert task.last_run == task.history()[-1]


async def test_twenty_records_are_kept_unless_told_otherwise(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(1000)

        assert len(task.history()) == 20


async def test_the_records_of_a_task_are_not_those_of_another(scheduler: Scheduler) -> None:
    task, other = scheduler.schedule_task(job, 10), scheduler.schedule_task(fail, 10)
    async with scheduler:
        await asyncio.sleep(15)

        assert endings(task.history()) == [("SUCCEEDED", None, 1)] * 2
        assert endings(other.history()) == [("FAILED", None, 1)] * 2


async def test_records_outlive_a_stop(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    for _ in range(2):
        async with scheduler:
            await asyncio.sleep(15)

    assert [at(run.scheduled_at) for run in task.history()] == [0, 10, 15, 25]


async def test_the_list_of_records_is_the_callers_own(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(job, 10)
    async with scheduler:
        await asyncio.sleep(15)
        task.history().clear()

        assert len(task.history()) == 2


async def test_endings_are_counted_by_tick_also_those_no_longer_kept(loop: VirtualLoop) -> None:
    scheduler = Scheduler(clock=loop.virtual_clock, history=1)
    plan = iter([job, job, fail, job, asyncio.sleep])

    async def body() -> None:
        func: Any = next(plan, job)
        await (func(1000) if func is asyncio.sleep else func())

    task = scheduler.schedule_task(body, 10, policy=ExecPolicy.SKIP, max_timeout_s=25)
    assert counts(task) == {}
    async with scheduler:
        await asyncio.sleep(101)

        # 0 to 40 run as planned; 50 and 60 find the run of 40 in progress, which is cancelled at 65; 70 to 100 run.
        assert counts(task) == {"SUCCEEDED": 7, "FAILED": 1, "TIMED_OUT": 1, "SKIPPED": 2}


async def test_skips_before_and_after_a_tick_that_runs_are_two_records(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(asyncio.sleep, 5, (7,), policy=ExecPolicy.SKIP)
    async with scheduler:
        await asyncio.sleep(1)
        await task.pause()
        await asyncio.sleep(7)
        await task.resume()
        await asyncio.sleep(3)
        await task.pause()  # The run of 10 is in progress, and its record comes only when it ends.
        await asyncio.sleep(5)

    # In the order in which it was known how they ended.
    ended = [(at(run.scheduled_at), run.count, run.outcome.value) for run in task.history()]
    assert ended == [(0, 1, "SUCCEEDED"), (5, 1, "SKIPPED"), (15, 1, "SKIPPED"), (10, 1, "CANCELLED")]


@example([("run", 1), ("hold", 7), ("free", 2), ("hold", 5)], 2)
@given(
    st.lists(st.tuples(st.sampled_from(["run", "fail", "off", "on", "hold", "free"]), st.integers(1, 40)), max_size=12),
    st.integers(1, 5),
)
def test_what_is_heard_counted_and_kept_agree(steps: list[tuple[str, int]], history: int) -> None:
    """Whatever happens, each tick is in one record, and a listener can compute the counts from its calls."""
    loop = VirtualLoop()
    scheduler = Scheduler(clock=loop.virtual_clock, history=history)
    reported: list[Run] = []
    scheduler.subscribe(reported.append)
    bad = False

    async def body() -> None:
        await asyncio.sleep(7)
        if bad:
            raise ValueError

    task = scheduler.schedule_task(body, 5, policy=ExecPolicy.SKIP)

    async def main() -> None:
        nonlocal bad
        async with scheduler:
            for step, seconds in steps:
                if step in ("run", "fail"):
                    bad = step == "fail"
                elif step == "off":
                    task.disable()
                elif step == "on":
                    task.enable()
                else:
                    await (task.pause() if step == "hold" else task.resume())
                await asyncio.sleep(seconds)

    loop.run_until_complete(main())
    close_loop(loop)

    runs = [run for run in reported if run.outcome is not Outcome.SKIPPED]
    skips = {(run.reason, run.scheduled_at): run for run in reported if run.outcome is Outcome.SKIPPED}
    last = task.last_run
    if last is not None and last.outcome is Outcome.SKIPPED:  # It is not closed yet.
        skips[last.reason, last.scheduled_at] = last
    assert sum(counts(task).values()) == len(runs) + sum(run.count for run in skips.values())
    assert sum(counts(task).values()) == sum(seconds for _, seconds in steps) // 5 + 1
    assert len(task.history()) == min(history, len(runs) + len(skips))
    for run in task.history():
        assert (run.last_scheduled_at - run.scheduled_at).total_seconds() == 5 * (run.count - 1)


# --- only the text of a failure is kept ---


class Data:
    """A large object that a function uses."""


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest keeps the log records, including tracebacks and their frames."""
    monkeypatch.setattr("kaiju_app._engine.events.log.disabled", True)


@contextlib.contextmanager
def no_garbage_collector() -> Any:
    """Inside, only reference counting frees anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("ending", ["succeeds", "fails", "chained", "retried", "cut", "cancelled", "from within"])
async def test_the_locals_of_a_body_are_free_as_soon_as_its_run_is_over(scheduler: Scheduler, ending: str) -> None:
    seen: list[weakref.ref[Data]] = []

    async def body() -> None:
        data = Data()
        seen.append(weakref.ref(data))
        if ending == "fails" or ending == "retried":
            raise OSError(data)
        if ending == "chained":
            try:
                raise ValueError(data)
            except ValueError as exc:
                raise OSError from exc
        if ending == "from within":
            raise asyncio.CancelledError(data)
        await asyncio.sleep(3 if ending == "succeeds" else 1000)
        del data

    retries = 2 if ending == "retried" else 0
    task = scheduler.schedule_task(body, 100, max_timeout_s=5, retries=retries, retry_interval_s=1)
    async with scheduler:
        with no_garbage_collector():
            await asyncio.sleep(2)
            if ending == "cancelled":
                task.cancel("enough")
            await asyncio.sleep(10)

            assert [run.outcome.value for run in task.history()] == [
                {"succeeds": "SUCCEEDED", "cut": "TIMED_OUT", "cancelled": "CANCELLED", "from within": "CANCELLED"}.get(
                    ending, "FAILED"
                )
            ]
            assert len(seen) == retries + 1
            assert [data() for data in seen] == [None] * len(seen)


@pytest.mark.usefixtures("quiet")
async def test_the_locals_of_a_plain_function_that_fails_live_as_long_as_its_run(scheduler: Scheduler) -> None:
    seen: list[weakref.ref[Data]] = []

    def body() -> None:
        data = Data()
        seen.append(weakref.ref(data))
        raise ValueError("no luck", data)

    task = scheduler.schedule_task(body, 1e6, policy=ExecPolicy.SHIELD, first_run=FirstRun.NEXT)
    async with scheduler:
        run = await task.run_now()
        assert run.outcome is Outcome.FAILED
        del run
        await asyncio.sleep(0)  # The handle that woke this task holds the future until then.
        gc.collect()

        assert [data() for data in seen] == [None]


@pytest.mark.usefixtures("quiet")
async def test_the_frames_of_a_failure_are_free_when_no_listener_keeps_its_run(
    scheduler: Scheduler, reported: list[Run]
) -> None:
    seen: list[weakref.ref[Data]] = []

    async def body() -> None:
        data = Data()
        seen.append(weakref.ref(data))
        raise ValueError("no luck")

    scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(1)

        assert [run.error for run in reported] == ["ValueError: no luck"]
        with no_garbage_collector():
            reported.clear()
        assert [data() for data in seen] == [None]


@pytest.mark.usefixtures("quiet")
async def test_a_result_is_kept_until_the_next_one(scheduler: Scheduler) -> None:
    seen: list[weakref.ref[Data]] = []

    async def body() -> Data:
        data = Data()
        seen.append(weakref.ref(data))
        return data

    scheduler.schedule_task(body, 10)
    async with scheduler:
        with no_garbage_collector():
            await asyncio.sleep(11)

            assert [data() is None for data in seen] == [True, False]


# --- current_run() ---


async def test_a_run_knows_its_task_tick_and_attempt(scheduler: Scheduler) -> None:
    seen: list[tuple[Any, ...]] = []

    async def body() -> None:
        await asyncio.sleep(1)
        run = current_run()
        seen.append((run.task, at(run.scheduled_at), run.attempt, run.delivery, run.fence, run.lost.is_set()))
        if run.attempt < 2:
            raise OSError

    scheduler.schedule_task(body, 10, name="mine", retries=2, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(15)

    assert seen == [
        ("mine", 0, 1, 1, None, False),
        ("mine", 0, 2, 1, None, False),
        ("mine", 10, 1, 1, None, False),
        ("mine", 10, 2, 1, None, False),
    ]


@pytest.mark.parametrize(
    ("policy", "max_timeout_s", "deadline"),
    [
        (ExecPolicy.CANCEL, 0, 10),
        (ExecPolicy.CANCEL, 4, 4),
        (ExecPolicy.CANCEL, 40, 10),
        (ExecPolicy.WAIT, 0, 30),
        (ExecPolicy.WAIT, 4, 4),
        (ExecPolicy.SKIP, 40, 40),
        (ExecPolicy.SHIELD, 40, None),
    ],
)
async def test_a_run_knows_when_it_will_be_cut(
    scheduler: Scheduler, policy: ExecPolicy, max_timeout_s: float, deadline: float | None
) -> None:
    seen: list[float | None] = []

    async def body() -> None:
        seen.append(at(current_run().deadline))
        await asyncio.sleep(1)
        seen.append(at(current_run().deadline))

    scheduler.schedule_task(body, 10, policy=policy, max_timeout_s=max_timeout_s)
    async with scheduler:
        await asyncio.sleep(2)

    assert seen == [deadline, deadline]


async def test_a_deadline_is_the_same_for_all_attempts(scheduler: Scheduler) -> None:
    seen: list[float | None] = []

    async def body() -> None:
        seen.append(at(current_run().deadline))
        raise OSError

    scheduler.schedule_task(body, 10, max_timeout_s=8, retries=2, retry_interval_s=3)
    async with scheduler:
        await asyncio.sleep(9)

    assert seen == [8, 8, 8]


async def test_a_manual_run_is_of_the_moment_it_was_asked_for(scheduler: Scheduler) -> None:
    seen: list[tuple[float | None, float | None]] = []

    async def body() -> None:
        seen.append((at(current_run().scheduled_at), at(current_run().deadline)))

    task = scheduler.schedule_task(body, 10, first_run=FirstRun.NEXT)
    async with scheduler:
        await asyncio.sleep(3)
        await task.run_now()
        await asyncio.sleep(3)
        await task.run_now()

    # A tick less than half a gap after its start does not replace it.
    assert seen == [(3, 10), (6, 20)]


async def test_child_tasks_are_inside_the_run(scheduler: Scheduler) -> None:
    seen: list[tuple[str, int]] = []

    async def child() -> None:
        await asyncio.sleep(0.5)
        seen.append((current_run().task, current_run().attempt))

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())

    scheduler.schedule_task(body, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(1)

    assert seen == [("mine", 1)] * 2


async def test_runs_side_by_side_know_themselves(scheduler: Scheduler) -> None:
    seen: list[tuple[str, str]] = []

    async def body(name: str) -> None:
        for _ in range(3):
            seen.append((name, current_run().task))
            await asyncio.sleep(1)

    for name in ("one", "two"):
        scheduler.schedule_task(body, 10, (name,), name=name)
    async with scheduler:
        await asyncio.sleep(4)

    assert seen == [("one", "one"), ("two", "two")] * 3


async def test_a_thread_is_inside_the_run(scheduler: Scheduler) -> None:
    def body() -> tuple[str, int, datetime | None, bool]:
        run = current_run()
        run.check()
        return run.task, run.attempt, run.deadline, threading.current_thread() is threading.main_thread()

    task = scheduler.schedule_task(body, 1e6, policy=ExecPolicy.SHIELD, first_run=FirstRun.NEXT, name="mine")
    async with scheduler:
        await task.run_now()

    assert task.result == ("mine", 1, None, False)


async def test_a_thread_that_a_run_starts_is_inside_the_run(scheduler: Scheduler) -> None:
    async def body() -> str:
        return await asyncio.to_thread(lambda: current_run().task)

    task = scheduler.schedule_task(body, 1e6, policy=ExecPolicy.SHIELD, first_run=FirstRun.NEXT, name="mine")
    async with scheduler:
        await task.run_now()

    assert task.result == "mine"


async def test_the_attempts_of_a_thread_are_counted(scheduler: Scheduler) -> None:
    seen: list[int] = []

    def body() -> None:
        seen.append(current_run().attempt)
        if len(seen) < 3:
            raise OSError

    task = scheduler.schedule_task(
        body, 1e6, policy=ExecPolicy.SHIELD, first_run=FirstRun.NEXT, retries=2, retry_interval_s=1
    )
    async with scheduler:
        run = await task.run_now()

    assert (seen, run.attempts) == ([1, 2, 3], 3)


def test_outside_a_run_there_is_none() -> None:
    with pytest.raises(LookupError, match=r"current_run\(\) was called outside a run"):
        current_run()


async def test_outside_a_run_there_is_none_however_many_go_on(scheduler: Scheduler) -> None:
    scheduler.schedule_task(asyncio.sleep, 10, (5,))
    async with scheduler:
        await asyncio.sleep(1)
        with pytest.raises(LookupError):
            current_run()


async def test_what_outlives_its_run_is_not_inside_it_any_more(scheduler: Scheduler) -> None:
    seen: list[str] = []
    children = []

    async def child() -> None:
        seen.append(current_run().task)
        await asyncio.sleep(5)
        with pytest.raises(LookupError, match="the run of task 'mine' that this code belongs to is over"):
            current_run()
        seen.append("over")
        await asyncio.sleep(7)  # Another run of the task is in progress now.
        with pytest.raises(LookupError):
            current_run()
        seen.append("still over")

    async def body() -> None:
        if not children:
            children.append(asyncio.create_task(child()))
        await asyncio.sleep(3)

    scheduler.schedule_task(body, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(14)

    assert seen == ["mine", "over", "still over"]


async def test_a_thread_that_outlives_its_run_is_not_inside_it_any_more(scheduler: Scheduler) -> None:
    contexts = []

    async def body() -> None:
        contexts.append(copy_context())

    scheduler.schedule_task(body, 10)
    async with scheduler:
        await asyncio.sleep(1)

        with pytest.raises(LookupError):
            contexts[0].run(current_run)


async def test_a_listener_is_not_inside_the_run_it_hears_of(scheduler: Scheduler) -> None:
    seen: list[str] = []

    def listener(run: Run) -> None:
        with pytest.raises(LookupError):
            current_run()
        seen.append(run.task)

    scheduler.subscribe(listener)
    scheduler.schedule_task(job, 10, name="mine")
    async with scheduler:
        await asyncio.sleep(1)

    assert seen == ["mine"]


@pytest.mark.parametrize(
    ("cut", "reason"),
    [("replaced", "replaced"), ("timed out", "deadline"), ("cancelled", "requested"), ("stopped", "shutdown")],
)
async def test_check_raises_once_the_run_was_asked_to_end(scheduler: Scheduler, cut: str, reason: str) -> None:
    seen: list[str] = []

    async def body() -> None:
        run: CurrentRun = current_run()
        run.check()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            with pytest.raises(RunCancelled) as caught:
                run.check()
            assert isinstance(caught.value, KaijuError)
            assert (
                str(caught.value)
                == f"task 'mine': this run was cancelled ({reason}); clean up and raise this error again"
            )
            seen.append(caught.value.reason)
            raise

    task = scheduler.schedule_task(body, 10, name="mine", max_timeout_s=4 if cut == "timed out" else 0)
    async with scheduler:
        await asyncio.sleep(2)
        if cut == "cancelled":
            task.cancel("enough")
        if cut in ("replaced", "timed out"):
            await asyncio.sleep(9)
        seen_before_stop = len(seen)

    assert seen[0] == reason
    assert seen_before_stop == (cut in ("replaced", "timed out"))


async def test_the_run_of_a_trigger_knows_its_deadline_too(scheduler: Scheduler) -> None:
    seen: list[tuple[float | None, float | None]] = []

    async def body() -> None:
        seen.append((at(current_run().scheduled_at), at(current_run().deadline)))

    scheduler.schedule_task(body, trigger=Every(60), first_run=FirstRun.NOW)
    async with scheduler:
        await asyncio.sleep(56)

    assert seen == [(0, 55), (55, 115)]
