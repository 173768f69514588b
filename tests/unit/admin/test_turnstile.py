"""Requests that come at once begin one after the other, a few in each turn of the loop."""

from __future__ import annotations

import asyncio

from kaiju_app.admin._turnstile import AT_ONCE, Turnstile


async def test_a_burst_is_let_in_a_few_at_a_time_and_in_order() -> None:
    turnstile, turn = Turnstile(), 0
    entered: list[tuple[int, int]] = []

    async def request(number: int) -> None:
        await turnstile.enter()
        entered.append((number, turn))

    requests = [asyncio.create_task(request(number)) for number in range(20)]
    requests[7].cancel()
    while not all(each.done() for each in requests):
        turn += 1
        await asyncio.sleep(0)

    assert [number for number, _ in entered] == [number for number in range(20) if number != 7]
    turns = [turn for _, turn in entered]
    assert max(turns.count(each) for each in turns) == AT_ONCE
    assert turns[-1] >= 19 / AT_ONCE, "it took some turns"


async def test_a_request_cancelled_while_it_waits_takes_no_place() -> None:
    turnstile = Turnstile()
    waiting = [asyncio.create_task(turnstile.enter()) for _ in range(3 * AT_ONCE)]
    await asyncio.sleep(0)
    for each in waiting[AT_ONCE:-1]:
        each.cancel()
    async with asyncio.timeout(5):
        await waiting[-1]
        await turnstile.enter()


def test_a_new_loop_does_not_wait_for_an_old_one() -> None:
    turnstile = Turnstile()

    async def leave_waiting() -> None:
        for _ in range(3 * AT_ONCE):
            asyncio.ensure_future(turnstile.enter())  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(leave_waiting())
    asyncio.run(asyncio.wait_for(turnstile.enter(), 5))
