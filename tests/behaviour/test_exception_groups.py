"""A group of exceptions is what its members are: it is retried if all of them are, and the record names them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kaiju_app._core.text import describe_exception
from kaiju_app.errors import RunCancelled
from kaiju_app.scheduler import Outcome, Reason, Scheduler, current_run
from support.reading import wait_until


def group(*members: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("some", members)


class Narrowed(ExceptionGroup[Exception]):
    """A group whose class refuses to be divided."""

    def split(self, *_: object) -> Any:
        raise RuntimeError

    subgroup = derive = split


RETRIED: dict[str, tuple[Callable[[], BaseException], str | None]] = {
    # What is raised, and why it is not retried; None if it is.
    "of such": (lambda: group(ConnectionError("a"), TimeoutError("b")), None),
    "of subclasses": (lambda: group(ConnectionResetError(), BrokenPipeError()), None),
    "nested": (lambda: group(ConnectionError("a"), group(group(TimeoutError()), ConnectionError())), None),
    "of another class": (lambda: Narrowed("some", [ConnectionError()]), None),
    "a mixed one": (lambda: group(ConnectionError(), ValueError()), "ValueError is not in retry_on"),
    "mixed inside": (lambda: group(ConnectionError(), group(KeyError())), "KeyError is not in retry_on"),
    "with a cancellation": (
        lambda: BaseExceptionGroup("some", [ConnectionError(), asyncio.CancelledError()]),
        "CancelledError is no Exception",
    ),
    "with an exit": (
        lambda: BaseExceptionGroup("some", [ConnectionError(), group(TimeoutError()), GeneratorExit()]),
        "GeneratorExit is no Exception",
    ),
}


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("case", RETRIED)
async def test_a_group_is_retried_if_all_its_members_are(scheduler: Scheduler, case: str, threaded: bool) -> None:
    make, why = RETRIED[case]

    def plain() -> None:
        raise make()

    async def work() -> None:
        plain()

    task = scheduler.schedule_task(
        plain if threaded else work, 1000, retries=2, retry_interval_s=1, retry_on=(ConnectionError, TimeoutError)
    )
    async with scheduler:
        await wait_until(lambda: task.last_run, 0.1)

    [run] = task.history()
    assert (run.outcome, run.attempts) == (Outcome.FAILED, 3 if why is None else 1)
    assert run.error is not None
    end = "(gave up after 3 attempts)" if why is None else f"(attempt 1 of 3, not retried: {why})"
    assert run.error.endswith(end)


async def test_a_task_group_that_loses_its_connections_is_retried_until_it_succeeds(scheduler: Scheduler) -> None:
    attempts: list[int] = []

    async def lose(number: int) -> None:
        raise ConnectionError(f"host {number}")

    async def work() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lose(1))
                tasks.create_task(lose(2))

    task = scheduler.schedule_task(work, 1000, retries=3, retry_interval_s=1, retry_on=ConnectionError)
    async with scheduler:
        await asyncio.sleep(10)

    assert [(run.outcome, run.attempts) for run in task.history()] == [(Outcome.SUCCEEDED, 3)]


async def test_retry_on_a_group_itself_means_every_group(scheduler: Scheduler) -> None:
    async def work() -> None:
        raise group(ValueError())

    task = scheduler.schedule_task(work, 1000, retries=1, retry_interval_s=1, retry_on=ExceptionGroup)
    async with scheduler:
        await asyncio.sleep(10)

    assert task.history()[0].attempts == 2


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (group(ValueError("a"), KeyError()), "ExceptionGroup: some (2 sub-exceptions): ValueError: a; KeyError"),
        (
            group(group(ConnectionError("a")), group(group(OSError("b"), OSError("c")))),
            "ExceptionGroup: some (2 sub-exceptions): ConnectionError: a; OSError: b; OSError: c",
        ),
        (
            BaseExceptionGroup("some", [SystemExit(2)]),
            "BaseExceptionGroup: some (1 sub-exception): SystemExit: 2",
        ),
        (
            group(*[OSError(number) for number in "abcdefgh"]),
            f"ExceptionGroup: some (8 sub-exceptions): {'; '.join(f'OSError: {each}' for each in 'abcde')}; and 3 more",
        ),
    ],
)  # fmt: skip
def test_the_text_of_a_group_names_its_members(exc: BaseException, text: str) -> None:
    assert describe_exception(exc) == text


def test_a_deeply_nested_group_has_a_text() -> None:
    nested: Exception = OSError("x")
    for _ in range(5_000):
        nested = group(nested)
    assert describe_exception(nested) == "ExceptionGroup: some (1 sub-exception): OSError: x"


async def test_a_group_of_what_check_raised_is_a_cut(scheduler: Scheduler) -> None:
    """Several parts of a plain function may notice that it was asked to end."""

    def work() -> None:
        try:
            while True:
                current_run().check()
        except RunCancelled as exc:
            raise ExceptionGroup("all of them", [exc, group(exc)]) from None

    task = scheduler.schedule_task(work, 10, max_timeout_s=5)
    async with scheduler:
        await wait_until(lambda: task.last_run, 0.1)

    run = task.history()[0]
    assert (run.outcome, run.reason) == (Outcome.TIMED_OUT, Reason.DEADLINE)
