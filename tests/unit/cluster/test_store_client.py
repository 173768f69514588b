"""The client of a store: since when the store has not answered."""

from __future__ import annotations

from kaiju_app._cluster.store_client import StoreClient
from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app.errors import StoreUnavailable
from kaiju_app.stores import MemoryStore

S = 1_000_000


async def answer() -> object:
    return object()


async def failure() -> object:
    raise StoreUnavailable("it", "it is away")


async def test_an_outage_counts_from_the_last_answer_and_not_from_the_first_call_that_failed() -> None:
    now = 10 * S
    client = StoreClient(MemoryStore(), "1" * 32, LeaseTiming(), lambda: now)
    outages: list[int] = []
    client.on_outage = outages.append

    await client.call("heartbeat", answer())
    for second in (12, 13):
        now = second * S
        await client.call("heartbeat", failure())
        assert (client.answered_at, client.degraded_since) == (10 * S, 12 * S)
    now = 15 * S
    await client.call("heartbeat", answer())

    assert outages == [5 * S]
    assert (client.answered_at, client.degraded_since) == (15 * S, None)
