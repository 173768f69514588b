"""With ``keep_result=True``, the result of a shared run reaches the process that waits for it, through the store."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from behaviour.cluster.common import Made, share, started
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Outcome, Run

LIMIT = 65_536


async def two(made: Made, result: Any, **options: Any) -> tuple[Run, Run | None, list[Run], Run, list[Run]]:
    """Have one process run what another one asks for.

    Returns:
        What ``run_now()`` and ``wait()`` returned, the history of the store, the history of the process that ran it,
        and what that process told its listeners.
    """

    async def body() -> Any:
        await asyncio.sleep(1)
        return result

    here, there = made(), made()
    told: list[Run] = []
    there.subscribe(told.append)
    asking = share(here, body, 1e6, **options)
    running = share(there, body, 1e6, **options)
    async with started(here, there):
        await asyncio.sleep(5)  # The first run.
        asking.disable()  # So that the other one runs it.
        told.clear()
        waiting = asyncio.ensure_future(asking.run_now())
        await asyncio.sleep(1)
        waited = await asking.wait()
        return await waiting, waited, await here.history("job"), running.history()[-1], told


@pytest.mark.parametrize("result", [42, None, "näme \0 \ud800", {"rows": [1, 2.5, {"x": True}]}, [[]] * 1000])
async def test_a_result_reaches_the_process_that_asked(made: Made, result: Any) -> None:
    ran, waited, history, there, told = await two(made, result, keep_result=True)

    assert waited is not None
    for run in (ran, waited, history[-1], *told):
        assert (run.outcome, run.result, run.error) == (Outcome.SUCCEEDED, result, None)
    assert there.result is None


async def test_without_keep_result_only_the_process_that_ran_it_knows_the_result(made: Made) -> None:
    ran, waited, history, _, told = await two(made, 42)

    assert waited is not None
    assert [None] * 3 == [run.result for run in (ran, waited, history[-1])]
    assert [42] == [run.result for run in told]


@pytest.mark.parametrize("result", ["x" * (LIMIT - 2), "\u00e4" * (LIMIT // 2 - 1)])
async def test_a_result_of_64_kb_is_kept(made: Made, result: str) -> None:
    ran, *_ = await two(made, result, keep_result=True)

    assert ran.result == result


class Endless(dict[str, int]):
    """A dict of the user's that cannot be read."""

    def items(self) -> Any:
        raise LookupError("gone")


TOO_LARGE = "result not kept: it is more than 65,536 bytes of JSON; store it yourself, and return where it is"
WAY_OUT = "; return numbers, text, lists and dicts of them, or None"
REFUSED: list[tuple[Any, str]] = [
    ("x" * (LIMIT - 1), TOO_LARGE),
    ("\u00e4" * (LIMIT // 2), TOO_LARGE),
    ([1] * LIMIT, TOO_LARGE),
    ({1, 2}, "result not kept: it is no JSON value: TypeError: Object of type set is not JSON serializable" + WAY_OUT),
    (
        float("nan"),
        "result not kept: it is no JSON value: ValueError: Out of range float values are not JSON compliant",
    ),
    ([Endless(x=1)], "result not kept: it is no JSON value: LookupError: gone" + WAY_OUT),
]


@pytest.mark.parametrize(("result", "error"), REFUSED)
async def test_a_result_that_cannot_be_kept_is_refused_and_the_run_says_so_and_has_succeeded(
    made: Made, result: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran, waited, history, there, told = await two(made, result, keep_result=True)

    assert waited is not None
    for run in (ran, waited, history[-1], there, *told):
        assert run.outcome is Outcome.SUCCEEDED
        assert run.error is not None
        assert run.error.startswith(error)
    assert [None] * 3 == [run.result for run in (ran, waited, history[-1])]
    assert [result is run.result for run in told] == [True]
    logged = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(logged) == 2  # By each process, for its first run of several.
    assert all("task 'job'" in each and error in each for each in logged)


async def test_the_result_of_a_run_that_did_not_succeed_is_not_that_of_the_one_before(made: Made) -> None:
    results = iter([1, 0])

    async def body() -> float:
        return 1 / next(results)

    scheduler = made()
    task = share(scheduler, body, 1e6, keep_result=True)
    async with started(scheduler):
        await asyncio.sleep(5)
        run = await task.run_now()
        history = await scheduler.history("job")

    assert (run.outcome, run.result) == (Outcome.FAILED, None)
    assert [each.result for each in history] == [1, None]


def test_keep_result_must_be_a_flag(made: Made) -> None:
    with pytest.raises(InvalidArgument, match="keep_result must be True or False, got 'yes'"):
        share(made(), asyncio.sleep, 10, args=(1,), keep_result="yes")
