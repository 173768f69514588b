"""Texts that users give are cut where they come in, so that nothing that is kept or shown grows without bound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from kaiju_app._core.text import MOST_TEXT
from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import ExecPolicy, Outcome, Run, Scheduler, Scope
from support.virtual import VirtualLoop

LONG = "x" * 5_000_000


class LongTrigger:
    """A trigger of a user whose texts are long."""

    def after(self, moment: datetime, /) -> datetime | None:
        return moment + timedelta(seconds=10)

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        return moment

    def __repr__(self) -> str:
        return LONG


async def fail() -> None:
    raise ValueError(f"{LONG} the end")


async def hour_long() -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("retries", [0, 1])
async def test_the_error_of_a_run_is_cut_and_keeps_its_tail(scheduler: Scheduler, retries: int) -> None:
    heard: list[Run] = []
    scheduler.subscribe(heard.append, outcomes=Outcome.FAILED)
    task = scheduler.schedule_task(fail, 10, retries=retries, retry_interval_s=1)
    async with scheduler:
        await asyncio.sleep(300)
        size = len(json.dumps(scheduler.json_repr()))

    failed = [run for run in task.history() if run.outcome is Outcome.FAILED]
    assert len(failed) >= 19
    for run in [*failed, *heard]:
        assert run.error is not None
        assert len(run.error) <= MOST_TEXT
        assert run.error.startswith("ValueError: xxx")
        assert " characters left out] " in run.error
        assert run.error.endswith(" the end (gave up after 2 attempts)" if retries else "xxx the end")
    assert size < 21 * (MOST_TEXT + 1_000)


@pytest.mark.parametrize("scope", Scope)
async def test_reasons_and_holders_are_cut(loop: VirtualLoop, scope: Scope) -> None:
    scheduler = Scheduler("memory://", clock=loop.virtual_clock)
    task = scheduler.schedule_task(hour_long, 10, name="job", scope=scope, policy=ExecPolicy.WAIT)

    async def suspend(target: Any) -> None:
        async with target.suspend(LONG):
            await asyncio.sleep(50)

    async with scheduler:
        await asyncio.sleep(5)
        task.cancel(LONG)
        await asyncio.sleep(0.1)
        inside = [asyncio.create_task(suspend(target), name=LONG) for target in (task, scheduler)]
        await task.pause(LONG)
        await asyncio.sleep(1)
        told = scheduler.json_repr(), await scheduler.inspect()
        await task.resume()
        await asyncio.sleep(100)
        await asyncio.gather(*inside)
        runs = task.history()

    texts = [text for text in texts_in([*told, *(run.json_repr() for run in runs)]) if "xxx" in text]
    assert len(texts) > 5
    assert max(map(len, texts)) <= 2 * MOST_TEXT + 10  # A holder and a reason in one line.


async def test_the_last_error_in_the_reason_of_a_pause_is_cut(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(fail, 10, pause_after_failures=1)
    async with scheduler:
        await asyncio.sleep(1)

        assert task.state == "paused"
        assert max(map(len, texts_in(task.json_repr()))) <= MOST_TEXT


async def test_the_text_of_a_trigger_is_cut(scheduler: Scheduler) -> None:
    task = scheduler.schedule_task(hour_long, trigger=LongTrigger())

    assert len(repr(task)) < MOST_TEXT + 100
    assert max(map(len, texts_in(task.json_repr()))) <= MOST_TEXT


def test_a_long_name_is_refused_and_a_long_default_name_is_cut(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidArgument) as refused:
        scheduler.schedule_task(hour_long, 10, name="n" * 1_001)
    named: Callable[[], Any] = lambda: None  # noqa: E731
    named.__qualname__ = LONG
    first, second = scheduler.schedule_task(named, 10), scheduler.schedule_task(named, 10)

    assert str(refused.value).startswith(
        "name must have at most 1,000 characters, as every log line and record has it, but has 1,001, got 'nnn"
    )
    assert len(first.name) <= 1_000
    assert second.name == first.name + "#2"


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_in(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in texts_in(each)]
    return [value] if isinstance(value, str) else []
