"""Backoff: pauses between attempts that grow, are bounded, and are the same each time they are asked for."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Backoff, ExecPolicy, Scheduler
from support.virtual import VirtualLoop

seconds = st.floats(0.001, 86_400)

TOO_SHORT = "max_s must be at least initial_s, which is 90: give both, as in Backoff(initial_s=90, max_s=900), got 60.0"


@given(seconds, st.floats(1, 1_000), seconds, st.floats(0, 1), st.integers(1, 10_000), st.floats(0, 1))
def test_a_pause_is_bounded_and_grows(
    initial: float, factor: float, longest: float, jitter: float, attempt: int, chance: float
) -> None:
    longest = max(initial, longest)
    backoff = Backoff(initial, factor, longest, jitter)
    plain = Backoff(initial, factor, longest, 0)
    pause, base, later = backoff.pause_us(attempt, chance), plain.pause_us(attempt, 0), plain.pause_us(attempt + 1, 0)

    assert 1 <= pause <= base <= later <= round(longest * 1e6)
    assert pause >= base * (1 - jitter) - 1
    assert plain.pause_us(1, chance) == pytest.approx(initial * 1e6, abs=1)


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert Backoff() == Backoff(initial_s=1, factor=2, max_s=60, jitter=0.1)
    assert Backoff(timedelta(seconds=1), max_s=timedelta(minutes=1)) == Backoff()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_s": 0}, "initial_s must be at least 0.001 seconds: Backoff(initial_s=1), got 0"),
        ({"initial_s": "1"}, "initial_s must be a number of seconds or a timedelta, got '1'"),
        ({"initial_s": True}, "initial_s must be a number of seconds or a timedelta, got True"),
        ({"max_s": math.inf}, "max_s must be at least 0 seconds and at most 100 years, got inf"),
        ({"initial_s": 90}, TOO_SHORT),
        ({"factor": 0.5}, "factor must be a number from 1 to 1000; 2 doubles the pause each time, got 0.5"),
        ({"factor": math.nan}, "factor must be a number from 1 to 1000; 2 doubles the pause each time, got nan"),
        ({"jitter": 2}, "jitter must be a number from 0 to 1; 0.1 makes a pause shorter by up to a tenth, got 2"),
        ({"jitter": True}, "jitter must be a number from 0 to 1; 0.1 makes a pause shorter by up to a tenth, got True"),
    ],
)
def test_a_backoff_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Backoff(**arguments)

    assert str(caught.value) == message


@pytest.mark.parametrize("value", ["5", True, None, (1, 2), Backoff])
def test_a_pause_that_is_neither_seconds_nor_a_backoff_is_refused(scheduler: Scheduler, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        scheduler.schedule_task(asyncio.sleep, 10, (1,), retry_interval_s=value)

    assert str(caught.value) == (
        "retry_interval_s must be a number of seconds, a timedelta, or a Backoff such as Backoff(initial_s=1, max_s=60)"
        f", got {value!r}"
    )


async def pauses_of(scheduler: Scheduler, loop: VirtualLoop, name: str) -> list[float]:
    attempts: list[float] = []

    async def body() -> None:
        attempts.append(loop.time())
        raise OSError("no luck")

    task = scheduler.schedule_task(
        body, 10_000, name=name, policy=ExecPolicy.WAIT, retries=4, retry_interval_s=Backoff(1, 2, 6, jitter=0.5)
    )
    await asyncio.sleep(100)
    task.remove()
    return [later - earlier for earlier, later in pairwise(attempts)]


async def test_the_jitter_differs_between_tasks_and_ticks_and_keeps_within_its_part(
    scheduler: Scheduler, loop: VirtualLoop
) -> None:
    async with scheduler:
        first, second = await pauses_of(scheduler, loop, "first"), await pauses_of(scheduler, loop, "second")

    assert first != second
    for pauses in (first, second):
        assert all(base / 2 <= pause <= base for pause, base in zip(pauses, [1, 2, 4, 6], strict=True))
        shares = [pause / base for pause, base in zip(pauses, [1, 2, 4, 6], strict=True)]
        assert len(set(shares)) == 4  # By attempt, too.


def test_a_task_shows_its_backoff_as_json(scheduler: Scheduler) -> None:
    backoff = Backoff(initial_s=2)
    task = scheduler.schedule_task(asyncio.sleep, 10, (1,), retries=3, retry_interval_s=backoff)

    assert task.retry_interval_s == backoff
    shown = json.loads(json.dumps(task.json_repr(), allow_nan=False))
    assert shown["retry_interval_s"] == {"initial_s": 2.0, "factor": 2.0, "max_s": 60.0, "jitter": 0.1}
