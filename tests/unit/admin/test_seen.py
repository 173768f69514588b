"""What the endpoint has read of the store, and for how long that is used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaiju_app.admin._seen import RECENT, Store
from kaiju_app.scheduler import Scheduler


async def test_what_was_read_before_a_change_is_not_shown_after_it(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[asyncio.Future[Any]] = []

    async def inspect(self: Scheduler) -> Any:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    monkeypatch.setattr(Scheduler, "inspect", inspect)
    store = Store(scheduler)
    before = asyncio.create_task(store.seen())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.forget()
    after = asyncio.create_task(store.seen())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    new, old = ({"tasks": [{"name": name}], "instances": []} for name in ("new", "old"))
    answers[1].set_result(new)
    answers[0].set_result(old)

    assert (list((await before).records), list((await after).records)) == (["old"], ["new"])
    assert list((await store.seen()).records) == ["new"]


async def test_where_the_last_record_is_enough_no_other_is_read(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    async def history(self: Scheduler, name: str, limit: int) -> list[str]:
        asked.append((name, limit))
        return [f"{name} {number}" for number in range(limit)]

    monkeypatch.setattr(Scheduler, "history", history)
    store, records = Store(scheduler), [{"name": "a", "rev": 1}, {"name": "b", "rev": 1}]

    assert await store.histories(records, last=True) == {"a": ("a 0",), "b": ("b 0",)}
    assert len((await store.histories(records[:1]))["a"]) == RECENT
    assert asked == [("a", 1), ("b", 1), ("a", RECENT)]
    await store.histories([{"name": "a", "rev": 1}, {"name": "b", "rev": 2}], last=True)
    assert asked[3:] == [("b", 1)], "only what has changed is read again"
