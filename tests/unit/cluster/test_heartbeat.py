"""What a heartbeat does if the report on the instance fails."""

from __future__ import annotations

import pytest

from kaiju_app._cluster.heartbeat import Heartbeat
from kaiju_app._cluster.neighbours import Neighbours
from kaiju_app._cluster.notes import Notes
from kaiju_app._cluster.store_client import StoreClient
from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app._core.upset import UpsetKind
from kaiju_app._engine.upsets import UpsetLog
from kaiju_app.stores.memory import MemoryStore

S = 1_000_000


class Refusing(MemoryStore):
    """Refuses reports, as long as it should, and counts them."""

    refuses = True
    asked = 0

    async def note(self, me: str, text: str) -> bool:
        self.asked += 1
        if self.refuses:
            raise PermissionError("permission denied for table kaiju_note")
        return await super().note(me, text)


async def test_a_report_that_fails_is_repeated_after_a_minute_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now, upsets, store, asked_at = 0, UpsetLog(), Refusing(), []
    client = StoreClient(store, "1" * 32, LeaseTiming(), lambda: now)
    heartbeat = Heartbeat(client, Neighbours("", "", {}, {}), Notes(upsets, {}, lambda: 0))
    upsets.note(UpsetKind.BLOCKED, S, 2 * S)

    for second in range(10, 200, 2):
        now, before = second * S, store.asked
        store.refuses = second < 100
        await heartbeat.run()
        asked_at += [second] * (store.asked - before)

    assert asked_at == [10, 70, 130]
    assert [life.note != "" for life in await store.lives()] == [True]
    (line,) = [each.getMessage() for each in caplog.records if "report on this instance" in each.getMessage()]
    assert "PermissionError: permission denied for table kaiju_note" in line
    assert "every 60 s" in line
    assert "this user may change" in line

    upsets.note(UpsetKind.BLOCKED, 300 * S, 302 * S)
    now, store.refuses = 303 * S, True
    await heartbeat.run()
    assert caplog.text.count("report on this instance") == 2, "it is another failure"


async def test_what_was_told_is_told_again_as_the_table_may_have_been_emptied() -> None:
    now, upsets, store = 0, UpsetLog(), Refusing()
    store.refuses = False
    client = StoreClient(store, "1" * 32, LeaseTiming(), lambda: now)
    heartbeat = Heartbeat(client, Neighbours("", "", {}, {}), Notes(upsets, {}, lambda: 0))
    for second in range(0, 1_000, 2):
        now = second * S
        await heartbeat.run()
    assert store.asked == 0, "nothing has happened"

    upsets.note(UpsetKind.BLOCKED, 999 * S, 1_000 * S)
    await heartbeat.run()
    [life] = await store.lives()
    await store.note(life.id, "")
    for second in range(1_000, 1_600, 2):
        now = second * S
        await heartbeat.run()

    assert [life.note] == [each.note for each in await store.lives()]
    assert store.asked == 3
