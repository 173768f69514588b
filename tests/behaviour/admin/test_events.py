"""Followers of the endpoint: one that does not read is dropped, and neither it nor many events harm anybody else."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from kaiju_app.admin import admin
from kaiju_app.admin._hub import KEPT_S, MOST_WAITING
from kaiju_app.scheduler import Scheduler
from support.reading import nothing


class Reader:
    """Follows, and reads for *reads_s* seconds."""

    def __init__(self, app: Any, reads_s: float = 1e9) -> None:
        self.text = b""
        self.ends = asyncio.Event()
        self._deaf_at = asyncio.get_running_loop().time() + reads_s
        self.serving = asyncio.create_task(app(self.scope(), self._receive, self._send))

    def scope(self) -> dict[str, Any]:
        headers = [(b"host", b"127.0.0.1")]
        return {
            "type": "http", "method": "GET", "path": "/api/events", "raw_path": b"/api/events", "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80), "scheme": "http",
            "http_version": "1.1", "root_path": "",
        }  # fmt: skip

    async def _receive(self) -> Any:
        await self.ends.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.text += message.get("body", b"")
        if asyncio.get_running_loop().time() > self._deaf_at:
            await asyncio.get_running_loop().create_future()

    @property
    def endings(self) -> int:
        return self.text.count(b"event: ended")


async def test_who_does_not_read_is_dropped_and_others_hear_everything(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 0.1, name="often")
    app = admin(scheduler)
    async with scheduler:
        good, deaf = Reader(app), Reader(app, reads_s=5)
        await asyncio.sleep(5)
        before = deaf.endings
        await asyncio.sleep(0.1 * MOST_WAITING - 1)
        assert not deaf.serving.done()
        await asyncio.sleep(5)
        assert deaf.serving.done()
        assert deaf.serving.exception() is None
        heard = good.endings
        good.ends.set()
        await asyncio.wait([good.serving], timeout=5)

    assert good.serving.done()
    assert before <= deaf.endings <= before + 3
    assert heard > 300
    assert b"event: gap" not in good.text


async def test_more_than_anybody_can_read_is_told_as_a_gap(scheduler: Scheduler) -> None:
    for number in range(2 * MOST_WAITING):
        scheduler.schedule_task(nothing, 10, name=str(number))
    async with scheduler:
        reader = Reader(admin(scheduler))
        await asyncio.sleep(11)
        reader.ends.set()
        await reader.serving

    missed = [int(each) for each in re.findall(rb'event: gap\ndata: {"missed": (\d+)}', reader.text)]
    assert missed
    numbers = [int(each) for each in re.findall(rb"id: \w+-(\d+)", reader.text)]
    assert numbers == sorted({*numbers})
    assert len(numbers) + sum(missed) == numbers[-1] >= 4 * MOST_WAITING, "none vanishes silently"


async def test_nothing_is_collected_when_nobody_has_followed_for_a_while(scheduler: Scheduler) -> None:
    scheduler.schedule_task(nothing, 1, name="often")
    async with scheduler:
        reader = Reader(admin(scheduler))
        await asyncio.sleep(3)
        listeners = len(scheduler.json_repr()["listeners"])  # type: ignore[arg-type]
        reader.ends.set()
        await reader.serving
        await asyncio.sleep(KEPT_S + 1)
        after = scheduler.json_repr()["listeners"]

    assert (listeners, after) == (1, [])
    assert b"event: ended" in reader.text
